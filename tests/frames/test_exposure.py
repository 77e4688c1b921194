"""The middle of an exposure: every way in which programs write it, and what cannot be known."""

import pytest
from astropy.io.fits import Header
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from boresight.frames.exposure import mid_exposure

DAY = "2021-03-04"
START = f"{DAY}T05:06:07"
START_CARDS = ("DATE-OBS", "DATE-BEG", "MJD-OBS", "TIME-OBS", "UT")
LENGTHS = ("EXPTIME", "EXPOSURE", "TELAPSE")


def time_of(cards):
    header = Header()
    for name, value in cards.items():
        header[name] = value
    return mid_exposure(header, Header())


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"DATE-OBS": DAY, "TIME-OBS": "15:06:07"}, "15:06:07"),
        ({"DATE-OBS": DAY, "UT": "15:06:07.5", "EXPTIME": 1}, "15:06:08"),
        ({"DATE-OBS": DAY, "UTC-OBS": "15 06 07"}, "15:06:07"),
        ({"DATE-OBS": DAY, "UTC": (54367.0, "[s] 15:06:07")}, "15:06:07"),
        ({"DATE-OBS": DAY, "UT": (15.5, "[h]")}, "15:30:00"),
        ({"DATE-OBS": f"{DAY}T00:00:00", "TIME-OBS": "15:06:07"}, "15:06:07"),
        ({"DATE-OBS": DAY, "TIME-OBS": f"{DAY}T15:06:07"}, "15:06:07"),
        ({"DATE-OBS": "2021/03/04 05:06:07,5", "EXPTIME": "1,0"}, "05:06:08"),
        ({"DATE-OBS": "20210304T050607"}, "05:06:07"),
        ({"DATE-OBS": f"{START}+02:00"}, "03:06:07"),
        ({"DATE-OBS": f"{START}Z", "TIMESYS": "LOCAL"}, "05:06:07"),
        ({"DATE-OBS": START, "EXPOSURE": 600.0}, "05:11:07"),
        ({"DATE-OBS": START, "EXPTIME": "30 s"}, "05:06:22"),
        ({"DATE-OBS": START, "EXPTIME": "2 min"}, "05:07:07"),
        ({"DATE-OBS": START, "EXPTIME": (4000.0, "[ms] exposure")}, "05:06:09"),
        ({"DATE-OBS": START, "EXPTIME": (4000.0, "exposure in milliseconds")}, "05:06:09"),
        ({"DATE-OBS": START, "EXPOINUS": 4_000_000}, "05:06:09"),
        ({"DATE-OBS": START, "EXPOSURE": (0.5 / 24, "[d] time on source")}, "05:21:07"),
        ({"DATE-OBS": START, "EXPTIME": 60.0, "TELAPSE": 120.0}, "05:07:07"),
        ({"DATE-BEG": START, "DATE-END": f"{DAY}T05:06:27"}, "05:06:17"),
        ({"DATE-OBS": START, "DATE-END": DAY, "EXPTIME": 30.0}, "05:06:22"),
        ({"DATE-OBS": START, "DATE-END": START, "EXPTIME": 30.0}, "05:06:22"),
        ({"DATE-END": START, "EXPTIME": 60.0}, "05:05:37"),
        ({"MJD-AVG": "59277,5"}, "12:00:00"),
        ({"MJD-BEG": 59277.5, "MJD-END": 59277.75}, "15:00:00"),
        ({"DATE-OBS": START, "MJD-OBS": 59277.2125810}, "05:06:07"),
        ({"DATE-OBS": START, "MJD-OBS": 59277.0}, "05:06:07"),
        ({"DATE-OBS": START, "EXPTIME": "", "EXPOSURE": 2.0}, "05:06:08"),
        ({"DATE-OBS": START, "TIMESYS": "GPS"}, "05:05:49"),
        ({"DATE-OBS": START, "TIMESYS": "TAI"}, "05:05:30"),
        ({"DATE-OBS": START, "TIMESYS": "TT(TAI)"}, "05:04:57.816"),
        ({"DATE-OBS": START, "TIMESYS": "UT1"}, "05:06:07"),
    ],
)
def test_the_middle_is_told(cards, expected):
    time, _ = time_of(cards)
    assert time is not None
    assert abs((time - Time(f"{DAY}T{expected}", scale="utc")).sec) < 2e-3


def test_a_date_of_the_last_century():
    assert time_of({"DATE-OBS": "11/03/76", "UT": "17:38:35"})[0].isot == "1976-03-11T17:38:35.000"


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"DATE-OBS": DAY}, "DATE-OBS = '2021-03-04' is a date alone"),
        ({"DATE-OBS": DAY, "UT": 15.5}, "UT = 15.5 is not a time of day"),
        ({"DATE-OBS": "last night"}, "DATE-OBS = 'last night' cannot be read"),
        ({"DATE-OBS": "04/03/2021T05:06:07"}, "cannot be read"),
        ({"DATE-OBS": "2021-02-30T05:06:07"}, "cannot be read"),
        ({"DATE-OBS": f"{DAY}T25:06:07"}, "cannot be read"),
        ({"DATE-OBS": "1970-01-01T00:00:00"}, "is not a possible time of an exposure"),
        ({"DATE-OBS": START, "TIMESYS": "LOCAL"}, "TIMESYS = 'LOCAL' is not a known time scale"),
        ({"DATE-OBS": START, "TIMESYS": "EST"}, "TIMESYS = 'EST' is not a known time scale"),
        ({"MJD-OBS": 1e300}, "MJD-OBS = 1e+300 is not a modified Julian date"),
        ({"MJD-OBS": 2459277.7}, "not a modified Julian date"),
        ({"MJD-OBS": 0.0}, "not a modified Julian date"),
        ({"DATE-OBS": START, "EXPTIME": "long"}, "EXPTIME = 'long' is not an exposure time"),
        ({"DATE-OBS": START, "EXPTIME": "1,000"}, "EXPTIME = '1,000' is not an exposure time"),
        ({"DATE-OBS": START, "EXPTIME": -1.0}, "EXPTIME = -1.0 is not an exposure time"),
        ({"DATE-OBS": START, "DATE-END": "2021-03-03T00:00:00"}, "DATE-END contradicts"),
        ({"DATE-OBS": START, "DATE-END": "2031-03-03T00:00:00", "EXPTIME": 1.0}, "contradicts"),
        ({"DATE-OBS": START, "DATE-END": f"{DAY}T05:06:17", "EXPTIME": 60.0}, "contradicts"),
        ({"DATE-OBS": START, "MJD-OBS": 59277.5}, "DATE-OBS and MJD-OBS contradict each other"),
        ({"DATE-OBS": START, "DATE-AVG": "2022-03-04T05:06:08"}, "DATE-AVG contradicts"),
    ],
)
def test_what_cannot_be_known_is_said(cards, said):
    time, notes = time_of(cards)
    assert time is None
    assert any(said in note for note in notes), notes


def test_nothing_is_said_of_a_header_without_time_and_of_a_sound_one():
    assert time_of({}) == (None, [])
    assert time_of({"DATE-OBS": START, "EXPTIME": 2.0, "TIMESYS": "UTC"})[1] == []


def test_the_start_is_called_so():
    time, notes = time_of({"DATE-OBS": START})
    assert time.isot == f"{START}.000"
    assert notes == ["no card gives the exposure time; the time is that of its start"]


@given(
    st.dictionaries(
        st.sampled_from([*START_CARDS, "DATE-END", "DATE-AVG", "MJD-END", "TIMESYS", *LENGTHS]),
        st.one_of(
            st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
            st.floats(allow_nan=False, allow_infinity=False),
            st.booleans(),
            st.sampled_from([START, DAY, f"{START}Z", "05:06:07", "TT", "GPS", 59277.2, 30.0]),
        ),
    )
)
def test_no_cards_raise(cards):
    time, notes = mid_exposure(cards, {})
    assert time is None or 1850 <= time.jyear <= 2150
    assert all(isinstance(note, str) for note in notes)
