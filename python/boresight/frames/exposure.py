"""Finds the middle of an exposure from the cards of a header.

Time cards are written in many ways. A card is used if it can be read in exactly one way. If no card
can be used, or if cards contradict each other, the time is unknown and a note gives the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from boresight._utils.quiet import quiet
from boresight.frames.cards import card_number

if TYPE_CHECKING:
    from astropy.time import Time

#: Cards of the middle, the start and the end of an exposure, in order of preference.
MIDDLE = ("DATE-AVG", "MJD-AVG", "DATE-MID", "MJD-MID")
START = ("DATE-BEG", "DATE-OBS", "DATE_OBS", "DATEOBS", "MJD-BEG", "MJD-OBS", "MJD_OBS")
END = ("DATE-END", "MJD-END")

#: Cards of the time of day, for dates without one. Names that begin with UT mean UTC.
START_CLOCK = ("TIME-BEG", "TIME-OBS", "TIME_OBS", "UTC-BEG", "UTC-OBS", "UT-OBS", "UTSTART",
               "UT-START", "UTCSTART", "UTC", "UT")  # fmt: skip
END_CLOCK = ("TIME-END", "UTC-END", "UT-END", "UTEND", "UTCEND")
MIDDLE_CLOCK = ("TIME-AVG", "TIME-MID", "UTC-AVG", "UTC-MID", "UTMIDDLE")

#: Cards of the exposure time, with the unit of a number without a unit.
EXPOSURE = {"EXPTIME": "s", "EXPOSURE": "s", "EXP_TIME": "s", "EXP-TIME": "s", "EXPOSTIM": "s",
            "XPOSURE": "s", "ITIME": "s", "EXPT": "s", "EXPOINUS": "us"}  # fmt: skip
#: Cards of the time from start to end, with interruptions.
ELAPSED = {"TELAPSE": "s", "ELAPTIME": "s"}

#: Units of time, in seconds.
SECONDS = {
    unit: seconds
    for seconds, units in {
        1e-6: "us usec microsecond microseconds",
        1e-3: "ms msec msecs millisecond milliseconds",
        1.0: "s sec secs second seconds",
        60.0: "min mins minute minutes",
        3600.0: "h hr hrs hour hours",
        86400.0: "d day days",
    }.items()
    for unit in units.split()
}

#: Values of TIMESYS, as scales of astropy. UT and GMT are UTC within a second.
SCALES = {"": "utc", "UTC": "utc", "UT": "utc", "GMT": "utc", "Z": "utc", "UT1": "utc",
          "TAI": "tai", "IAT": "tai", "GPS": "gps", "TT": "tt", "TDT": "tt", "ET": "tt",
          "TDB": "tdb", "TCB": "tcb", "TCG": "tcg"}  # fmt: skip
#: TAI minus GPS time, in seconds.
TAI_LESS_GPS = 19.0

#: Julian dates of 1 January 1970 (midnight) and 2000 (noon), and the days of a Julian year.
JULIAN_1970, JULIAN_2000, JULIAN_YEAR = 2440587.5, 2451545.0, 365.25
#: Years in which frames were taken; other values stand for an unset clock or a mutilated card.
YEARS = (1850, 2150)
#: Julian dates of clocks that were never set, and the tolerance of this test (half a millisecond),
#: in days.
UNSET, HALF_MS = (JULIAN_1970, 2400000.5), 0.5e-3 / 86400.0

#: Longest exposure in seconds; a larger number is not an exposure time.
MAX_EXPOSURE = 30 * 86400.0
#: Tolerances of times on different cards, which may be rounded, in seconds: of the middle or end
#: against the start, and (plus the exposure time) of several cards of the start.
ROUNDING = 2.0
COARSE_ROUNDING = 120.0
#: Largest excess of a middle or an end over start and exposure time, in seconds, as in stacks.
LONGEST_STACK = 86400.0

_DATE = re.compile(
    r"(?P<y>\d{4})([-/])(?P<m>\d{1,2})\2(?P<d>\d{1,2})|(?P<yc>\d{4})(?P<mc>\d\d)(?P<dc>\d\d)"
    r"|(?P<do>\d\d)/(?P<mo>\d\d)/(?P<yo>[5-9]\d)"  # as before 1997: day, month, year of 1900
)
_CLOCK = re.compile(
    r"(?P<h>\d{1,2})[: hH](?P<m>\d{1,2})(?:[: mM](?P<s>\d{1,2}(?:[.,]\d*)?)s?)?|"
    r"(?P<hc>\d\d)(?P<mc>\d\d)(?P<sc>\d\d(?:[.,]\d*)?)"
)
_ZONE = re.compile(r"(.*?)\s*(Z|UTC?|GMT|[+-]\d\d:?\d\d)", re.IGNORECASE)


def mid_exposure(
    header: Mapping[str, Any], primary: Mapping[str, Any]
) -> tuple[Time | None, list[str]]:
    """Return the middle of an exposure, from cards of the image's and primary HDU, and notes."""
    reader = _Reader(header, primary)
    with quiet:
        time = reader.middle()
    return time, list(dict.fromkeys(reader.notes))


class _Reader:
    """Reads the time cards of a frame's headers, and keeps notes on unreadable cards."""

    def __init__(self, header: Mapping[str, Any], primary: Mapping[str, Any]) -> None:
        self._headers = (header,) if header is primary else (header, primary)
        self.notes: list[str] = []
        self._scale = self._time_scale()

    def middle(self) -> Time | None:
        """Return the middle of the exposure, if the cards give it and agree."""
        start = self._agreed(self._instants(START, START_CLOCK))
        ends = self._instants(END, END_CLOCK)
        middles = self._instants(MIDDLE, MIDDLE_CLOCK)
        length, unreadable = self._exposure()
        if isinstance(start, str):
            self.notes.append(start)
            return None
        if middles:
            name, middle = middles[0]
            if start is not None and not (
                -ROUNDING <= _seconds(start, middle) <= (length or 0.0) + LONGEST_STACK
            ):
                self._contradiction(name, "the start of the exposure")
                return None
            return middle
        if start is None:
            if ends and length is not None:
                return _later(ends[0][1], -length / 2)
            return None
        if ends and (span := self._span(start, ends[0], length)) is not None:
            return None if span < 0 else _later(start, span / 2)
        if length is not None:
            return _later(start, length / 2)
        if unreadable or any(self._card(name) is not None for name in END):
            return None  # a note says so already
        self.notes.append("no card gives the exposure time; the time is that of its start")
        return start

    def _span(self, start: Time, end: tuple[str, Time], length: float | None) -> float | None:
        """Return the seconds from start to end; None if the two are equal, negative if wrong."""
        name, instant = end
        span = _seconds(start, instant)
        if span == 0 and length:
            self.notes.append(f"{name} repeats the start of the exposure and was ignored")
            return None
        least = (length or 0.0) - ROUNDING
        if span < min(least, 0.99 * (length or 0.0)) or span < -ROUNDING:
            self._contradiction(name, "the start and the exposure time")
            return -1.0
        if length is not None and span > 10 * length + LONGEST_STACK:
            self._contradiction(name, "the start and the exposure time")
            return -1.0
        return max(span, 0.0)

    def _contradiction(self, name: str, other: str) -> None:
        self.notes.append(f"{name} contradicts {other}; the time is unknown")

    def _agreed(self, starts: Sequence[tuple[str, Time]]) -> Time | str | None:
        """Return the start on which all cards agree, or a sentence on two that differ."""
        if not starts:
            return None
        name, first = starts[0]
        exposure, _ = self._exposure()
        for other, instant in starts[1:]:
            whole = other.startswith("MJD") and float(instant.mjd) % 1 == 0  # a date only
            tolerance = (exposure or 0.0) + COARSE_ROUNDING
            if not whole and abs(_seconds(first, instant)) > tolerance:
                return f"{name} and {other} contradict each other; the time is unknown"
        return first

    def _card(self, name: str) -> Any:
        """Return a card's value, from the image's HDU first; None if it is empty or missing."""
        source = self._source(name)
        return None if source is None else source[name]

    def _source(self, name: str) -> Any:
        for header in self._headers:
            value = header.get(name)
            if value is not None and str(value).strip() and not _is_undefined(value):
                return header
        return None

    def _unread(self, name: str, why: str = "cannot be read") -> None:
        self.notes.append(f"{name} = {self._card(name)!r} {why}")

    def _time_scale(self) -> str | None:
        """Return the scale of times that name none; None if TIMESYS is unknown."""
        value = self._card("TIMESYS")
        name = "" if value is None else str(value).strip().upper()
        scale = SCALES.get(re.sub(r"\(.*\)$", "", name))
        if name == "UT1":
            self.notes.append("TIMESYS = 'UT1' was taken as UTC, which is within 0.9 s")
        return scale

    def _exposure(self) -> tuple[float | None, bool]:
        """Return the exposure time in seconds, and whether all its cards are unreadable."""
        lengths: list[float] = []
        unreadable = False
        for names in (EXPOSURE, ELAPSED):
            for name, unit in names.items():
                source = self._source(name)
                if source is None:
                    continue
                seconds = card_number(source, name, SECONDS, unit)
                if seconds is None or not 0 <= seconds <= MAX_EXPOSURE:
                    self._unread(name, "is not an exposure time")
                    unreadable = True
                    continue
                lengths.append(seconds)
                break
        # The elapsed time includes interruptions, unless it is that of one of several exposures.
        return (max(lengths) if lengths else None), unreadable and not lengths

    def _instants(self, names: Sequence[str], clocks: Sequence[str]) -> list[tuple[str, Time]]:
        """Return all instants on these cards, each with its card's name."""
        found = []
        for name in names:
            if self._card(name) is None:
                continue
            instant = self._mjd(name) if name.startswith("MJD") else self._date(name, clocks)
            if instant is None:
                continue
            if not _is_of_an_exposure(instant):
                self._unread(name, "is not a possible time of an exposure")
                continue
            found.append((name, instant))
        return found

    def _mjd(self, name: str) -> Time | None:
        day = card_number(self._source(name), name)
        if day is None or not 0 < day < 1e6:
            self._unread(name, "is not a modified Julian date")
            return None
        return self._instant(name, day, format="mjd")

    def _date(self, name: str, clocks: Sequence[str]) -> Time | None:
        """Return the instant of a date card, with the time of day from another card if needed."""
        text, scale, offset = _zone(str(self._card(name)).strip())
        match = re.match(r"([\d/-]+)(?:\s*[T_ ]\s*(.+))?$", text, re.IGNORECASE)
        day = None if match is None else _day(match[1])
        if match is None or day is None:
            self._unread(name)
            return None
        clock = None if match[2] is None else _clock(match[2])
        if match[2] is not None and clock is None:
            self._unread(name)
            return None
        if clock is None or not clock.strip("0:."):  # midnight stands for an unknown time
            other = next((c for c in clocks if self._card(c) is not None), None)
            if other is not None:
                return self._date_and_clock(name, day, other, clocks)
        if clock is None:
            self._unread(name, "is a date alone, and no card gives the time of day")
            return None
        return self._instant(name, f"{day}T{clock}", scale, offset)

    def _date_and_clock(
        self, name: str, day: str, other: str, clocks: Sequence[str]
    ) -> Time | None:
        """Return the instant of a date and a card of the time of day, which may hold both."""
        text, scale, offset = _zone(str(self._card(other)).strip())
        if "T" in text.upper():
            return self._date(other, ()) if other not in START else None
        clock = _clock(text)
        if clock is not None:
            return self._instant(name, f"{day}T{clock}", _clock_scale(other) or scale, offset)
        seconds = self._seconds_of_day(other)
        midnight = self._instant(name, f"{day}T00:00:00", _clock_scale(other) or scale)
        if seconds is None or midnight is None:
            self._unread(other, "is not a time of day")
            return None
        return _later(midnight, seconds)

    def _seconds_of_day(self, name: str) -> float | None:
        """Read a number as time of day, in seconds or in the unit that the card names."""
        source = self._source(name)
        named = card_number(source, name, SECONDS, "?")
        seconds = named if named is not None else card_number(source, name)
        if seconds is None or not 0 <= seconds < 86401:
            return None
        # A number up to 24 without a unit may be hours or seconds: it is refused.
        return seconds if named is not None or seconds > 24 else None

    def _instant(
        self, name: str, value: Any, scale: str | None = None, offset: float = 0.0, **form: str
    ) -> Time | None:
        """Convert a value in a scale (default: TIMESYS) to a Time, minus an offset in seconds."""
        from astropy.time import Time

        scale = scale or self._scale
        if scale is None:
            self._unread("TIMESYS", f"is not a known time scale; {name} is not used")
            return None
        try:
            # With the format given, astropy need not try all its formats.
            form = {"format": "isot", **form}
            time = Time(value, scale="tai" if scale == "gps" else scale, **form)
        except (ValueError, TypeError, LookupError, ArithmeticError):
            self._unread(name)
            return None
        return _later(time, (TAI_LESS_GPS if scale == "gps" else 0.0) - offset)


def _is_of_an_exposure(instant: Time) -> bool:
    """Whether the instant is in the years of exposures and not that of an unset clock."""
    # The Julian date is used, because conversion to another format takes astropy as long as a new
    # instant.
    year = 2000.0 + (instant.jd1 - JULIAN_2000 + instant.jd2) / JULIAN_YEAR
    unset = any(abs(instant.jd1 - day + instant.jd2) < HALF_MS for day in UNSET)
    return bool(YEARS[0] <= year <= YEARS[1]) and not unset


def _is_undefined(value: Any) -> bool:
    """Whether a card has no value at all."""
    return type(value).__name__ == "Undefined"


def _later(time: Time, seconds: float) -> Time:
    from astropy.time import TimeDelta

    return time + TimeDelta(seconds, format="sec") if seconds else time


def _seconds(start: Time, end: Time) -> float:
    return float(np.float64((end - start).sec))


def _zone(text: str) -> tuple[str, str | None, float]:
    """Return the text without its time zone, its scale (or None), and its offset in seconds."""
    match = _ZONE.fullmatch(text)
    if match is None or not re.search(r"\d:?\d", match[1]) or ":" not in match[1]:
        return text, None, 0.0
    zone = match[2]
    if zone[0] not in "+-":
        return match[1], "utc", 0.0
    digits = zone[1:].replace(":", "")
    sign = -1.0 if zone[0] == "-" else 1.0
    return match[1], "utc", sign * (3600.0 * int(digits[:2]) + 60.0 * int(digits[2:]))


def _day(text: str) -> str | None:
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    year = match["y"] or match["yc"] or f"19{match['yo']}"
    month, day = match["m"] or match["mc"] or match["mo"], match["d"] or match["dc"] or match["do"]
    return f"{year}-{int(month):02}-{int(day):02}"


def _clock(text: str) -> str | None:
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        return None
    seconds = (match["s"] or match["sc"] or "00").replace(",", ".")
    whole, _, fraction = seconds.partition(".")
    hour, minute = int(match["h"] or match["hc"]), int(match["m"] or match["mc"])
    return f"{hour:02}:{minute:02}:{int(whole):02}.{fraction or '0'}"


def _clock_scale(name: str) -> str | None:
    """Return the time scale implied by the name of a card of the time of day."""
    return "utc" if name.startswith("UT") else None
