"""Earth's velocity against published ephemerides, in every form a time can take."""

import datetime

import numpy as np
import pytest
from astropy.time import Time, TimeDelta
from hypothesis import given
from hypothesis import strategies as st

from boresight import InputError, earth_barycentric_velocity

AU_PER_DAY_KM_S = 149_597_870.7 / 86_400.0


def test_agrees_with_the_test_case_of_sofa():
    velocity = earth_barycentric_velocity(Time(2453412.02501161, format="jd", scale="tdb"))
    published = [-1.091874268116823e-2, -1.246525461732862e-2, -5.404773180966231e-3]  # au/day
    np.testing.assert_allclose(velocity, np.array(published) * AU_PER_DAY_KM_S, atol=1e-5)


def test_agrees_with_jpl_but_for_the_pull_of_the_moon():
    # Horizons, J2000.0: barycentre of Earth and Moon, about which the Earth moves at 12 m/s.
    published = [-1.720762505701730e-2, -2.898167717572411e-3, -1.256395052182784e-3]  # au/day
    velocity = earth_barycentric_velocity(Time(2451545.0, format="jd", scale="tdb"))
    about_the_moon = velocity - np.array(published) * AU_PER_DAY_KM_S
    assert 0.0115 < np.linalg.norm(about_the_moon) < 0.0165


def test_it_is_the_derivative_of_the_position():
    from astropy.coordinates import get_body_barycentric

    middle = Time("2019-03-05T07:00:00")
    hour = TimeDelta(3600, format="sec")
    ends = [
        get_body_barycentric("earth", t, ephemeris="builtin")
        for t in (middle - hour, middle + hour)
    ]
    difference = (ends[1] - ends[0]).xyz.to_value("km") / 7200.0
    np.testing.assert_allclose(earth_barycentric_velocity(middle), difference, atol=1e-4)


def test_every_form_of_a_time_is_the_same_instant():
    expected = earth_barycentric_velocity(Time("2018-08-07T12:00:00", scale="utc"))
    assert expected.shape == (3,)
    zone = datetime.timezone(datetime.timedelta(hours=-7))
    for time in (
        "2018-08-07T12:00:00",
        "2018-08-07T12:00:00Z",
        "2018-08-07 12:00",
        datetime.datetime(2018, 8, 7, 12),
        datetime.datetime(2018, 8, 7, 12, tzinfo=datetime.UTC),
        datetime.datetime(2018, 8, 7, 5, tzinfo=zone),
        np.datetime64("2018-08-07T12:00:00"),
        Time("2018-08-07T12:01:09.184", scale="tt"),
    ):
        np.testing.assert_allclose(earth_barycentric_velocity(time), expected, atol=1e-9)


def test_arrays_keep_their_shape():
    days = np.array([["2018-01-01", "2018-07-01"]] * 3, dtype="M8[D]")
    velocities = earth_barycentric_velocity(days)
    assert velocities.shape == (3, 2, 3)
    assert velocities.flags.c_contiguous
    np.testing.assert_array_equal(velocities[2, 1], earth_barycentric_velocity("2018-07-01"))
    pair = [datetime.datetime(2018, 1, 1), datetime.datetime(2018, 7, 1)]
    np.testing.assert_allclose(earth_barycentric_velocity(pair), velocities[0], atol=1e-9)
    np.testing.assert_allclose(
        earth_barycentric_velocity([Time(t) for t in pair]), velocities[0], atol=1e-9
    )


@given(st.datetimes())
def test_any_date_gives_the_speed_of_the_earth(time):
    assert 29.0 < np.linalg.norm(earth_barycentric_velocity(time)) < 30.6


@pytest.mark.parametrize(
    "nonsense",
    [None, 2458338.0, 5, float("nan"), "yesterday", "2018-13-01", b"2018-01-01", [], [None],
     ["2018-01-01", "x"], np.datetime64("NaT"), object(), {}, datetime.date(2018, 1, 1)],
)  # fmt: skip
def test_nonsense_is_refused_with_the_repair(nonsense):
    with pytest.raises(InputError, match=r"^time: .*give a datetime"):
        earth_barycentric_velocity(nonsense)
