"""Times: of any form that users know, and of the exposure that a header tells."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from boresight.errors import InputError

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.time import Time

REPAIR = (
    "give a datetime (UTC unless it knows its time zone), an ISO 8601 string, a numpy datetime64, "
    "an astropy Time, or a sequence of one of these"
)


def as_time(time: Any) -> Time:
    """Any accepted form as an astropy Time."""
    from astropy.time import Time
    from erfa import ErfaWarning

    if isinstance(time, Time):
        return time
    values: Any = np.asarray(time)
    if values.size == 0 or values.dtype.kind not in "OUM":
        raise InputError(f"time: {time!r} is not a time; {REPAIR}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ErfaWarning)
            if values.dtype.kind == "U":
                # The trailing Z of ISO 8601 says UTC, which is what is assumed anyway.
                when = Time(np.char.rstrip(values, "Z"), scale="utc")
            else:
                when = Time(values if values.ndim else values[()], scale="utc")
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise InputError(f"time: {time!r} is not a time; {REPAIR}") from error
    if np.any(when.mask) or not np.all(np.isfinite(when.jd)):
        raise InputError(f"time: {time!r} holds a missing time; {REPAIR}")
    return when


def mid_exposure(header: Header, primary: Header) -> Time | None:
    """Middle of the exposure from the usual cards, those of the image's HDU first."""
    from astropy.time import Time, TimeDelta
    from erfa import ErfaWarning

    def card(*names: str) -> Any:
        for name in names:
            for source in (header, primary):
                value = source.get(name)
                if value not in (None, ""):
                    return value
        return None

    scale = str(card("TIMESYS") or "UTC").strip().lower()

    def instant(value: Any) -> Time:
        if isinstance(value, str):
            text = value.strip()
            return Time(text.removesuffix("Z"), scale="utc" if text.endswith("Z") else scale)
        return Time(float(value), format="mjd", scale=scale)

    average = card("DATE-AVG", "MJD-AVG")
    start = card("DATE-OBS", "MJD-OBS", "DATE-BEG", "MJD-BEG")
    end, exposure = card("DATE-END", "MJD-END"), card("EXPTIME")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ErfaWarning)
        try:
            if average is not None:
                return instant(average)
            if start is None:
                return None
            begin = instant(start)
            if end is not None:
                return begin + (instant(end) - begin) / 2
            if exposure is not None:
                return begin + TimeDelta(float(exposure) / 2, format="sec")
        except (ValueError, TypeError):
            return None  # an unreadable date is no reason to refuse the pixels
        return begin
