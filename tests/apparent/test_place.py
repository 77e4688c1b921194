"""The apparent place of stars, and there and back."""

import copy
import pickle

import numpy as np
import pytest
from astropy.coordinates import EarthLocation
from hypothesis import given
from hypothesis import strategies as st

import boresight
from boresight import ApparentPlace, InputError, Refraction
from boresight.apparent import ProperMotion
from helpers import aberrate

TIME = "2024-03-01T20:00:00"
SITE = EarthLocation.from_geodetic(11.0, 48.0, 500.0)


def random_directions(number, seed=0):
    v = np.random.default_rng(seed).normal(size=(number, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def test_an_observer_in_space_sees_aberration_alone():
    place = ApparentPlace.at(TIME, velocity_km_s="earth")
    velocity = boresight.earth_barycentric_velocity(TIME)
    np.testing.assert_allclose(place.velocity_km_s, velocity)
    sky = random_directions(100)
    np.testing.assert_allclose(
        place.apparent(sky), aberrate(sky, velocity / 299792.458), rtol=0, atol=1e-15
    )


def test_refraction_comes_after_aberration():
    air = Refraction.at(SITE, TIME)
    velocity = (20.0, -10.0, 15.0)
    place = ApparentPlace.at(TIME, velocity_km_s=velocity, site=SITE)
    assert place.refraction == air
    sky = random_directions(100)
    outside = aberrate(sky, np.array(velocity) / 299792.458)
    np.testing.assert_allclose(place.apparent(sky), air.refracted(outside), rtol=0, atol=1e-15)


@given(
    st.tuples(*[st.floats(-1000.0, 1000.0)] * 3),
    st.booleans(),
    st.integers(0, 1000),
)
def test_there_and_back(velocity, refracted, seed):
    air = Refraction((0.36, 0.48, 0.8), 2.8e-4, -3e-7) if refracted else None
    place = ApparentPlace(None, velocity, air)
    sky = random_directions(20, seed)
    np.testing.assert_allclose(place.icrs(place.apparent(sky)), sky, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(place.apparent(sky), axis=1), 1.0, atol=1e-12)


def test_nothing_is_displaced_without_a_reason():
    sky = random_directions(10)
    np.testing.assert_array_equal(ApparentPlace().apparent(sky), sky)
    np.testing.assert_array_equal(ApparentPlace.at(TIME).icrs(sky), sky)


def test_stars_move_to_the_epoch_of_the_frame():
    """Uniform motion on straight lines in space."""
    rng = np.random.default_rng(1)
    sky = random_directions(50)
    ra = np.arctan2(sky[:, 1], sky[:, 0])
    pm = rng.normal(0.0, 2000.0, (2, 50))
    pm[:, 7] = np.nan  # unknown: it stays
    motion = ProperMotion(*pm, epoch=2000.0)
    east = np.column_stack([-np.sin(ra), np.cos(ra), 0.0 * ra])
    north = np.cross(sky, east)
    per_year = np.radians(np.nan_to_num(pm) / 3.6e6)
    velocity = east * per_year[0][:, None] + north * per_year[1][:, None]
    place = ApparentPlace(epoch=2024.0)
    moved = sky + 24.0 * velocity
    expected = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(place.apparent(sky, motion), expected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(place.moved(sky, motion)[7], sky[7], atol=1e-15)
    stars = boresight.Catalog.hipparcos()[:200]
    at_epoch = stars.at_epoch(2024.0)
    unit = boresight.ApparentPlace(epoch=2024.0).moved(
        _unit(stars.ra_deg, stars.dec_deg), stars.proper_motion
    )
    np.testing.assert_allclose(unit, _unit(at_epoch.ra_deg, at_epoch.dec_deg), atol=1e-14)


def _unit(ra_deg, dec_deg):
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def test_it_is_a_value():
    place = ApparentPlace.at(TIME, velocity_km_s=(1.0, 2.0, 3.0), site=SITE)
    for other in (pickle.loads(pickle.dumps(place)), copy.deepcopy(place)):
        assert other == place
        assert hash(other) == hash(place)
    assert place != ApparentPlace.at(TIME, velocity_km_s=(1.0, 2.0, 3.5), site=SITE)
    with pytest.raises(AttributeError):
        place.epoch = 2000.0


def test_the_solver_takes_it(wide_database):
    """Stars that only aberration explains: a place gives what the velocity alone does."""
    camera = boresight.CameraModel.from_fov(12.0, (512, 512))
    velocity = (3000.0, -2000.0, 1000.0)
    frame = boresight.simulate_frame(camera, 83.8, -1.2, seed=1, velocity_km_s=velocity)
    stars = boresight.extract_centroids(frame.image)
    common = {"image_shape": (512, 512), "database": wide_database, "lens": "none"}
    by_velocity = boresight.solve(stars, 12.0, observer_velocity_km_s=velocity, **common)
    by_place = boresight.solve(stars, 12.0, place=ApparentPlace(velocity_km_s=velocity), **common)
    assert by_place.place == ApparentPlace(velocity_km_s=velocity)
    np.testing.assert_array_equal(by_place.quaternion, by_velocity.quaternion)
    places = [ApparentPlace(velocity_km_s=velocity)]
    (many,) = boresight.solve_many([stars], 12.0, places=places, **common)
    np.testing.assert_array_equal(many.quaternion, by_velocity.quaternion)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"velocity_km_s": "earth"}, "velocity_km_s: the time is unknown"),
        ({"site": SITE}, "site: the time is unknown"),
        ({"velocity_km_s": "moon", "time": TIME}, "velocity_km_s: 'moon' is not a velocity"),
        ({"velocity_km_s": (1.0, 2.0)}, r"velocity_km_s: its shape is \(2,\)"),
        ({"velocity_km_s": (3e5, 0.0, 0.0)}, "velocity_km_s: it is not finite or not below"),
        ({"velocity_km_s": (np.nan, 0.0, 0.0)}, "velocity_km_s: it is not finite"),
        ({"weather": {"pressure_hpa": 900.0}}, "weather: of no effect without a site"),
        ({"time": "soon"}, "time: 'soon' is not a time"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        ApparentPlace.at(**arguments)


def test_bad_directions_and_a_missing_epoch_are_named():
    with pytest.raises(InputError, match=r"icrs: its shape is \(3,\)"):
        ApparentPlace().apparent([1.0, 0.0, 0.0])
    motion = ProperMotion(np.zeros(1), np.zeros(1), 2000.0)
    with pytest.raises(InputError, match="motion: the time of the frame is unknown"):
        ApparentPlace().apparent([[1.0, 0.0, 0.0]], motion)


def test_a_site_is_carried_along_by_the_earth():
    from astropy import units as u
    from astropy.coordinates import EarthLocation
    from astropy.time import Time

    site, when = EarthLocation.from_geodetic(-70.4, -24.6, 2635.0), Time("2019-05-01T03:00:00")
    centre = ApparentPlace.at(when, velocity_km_s="earth").velocity_km_s
    there = ApparentPlace.at(when, velocity_km_s="earth", site=site).velocity_km_s
    truth = site.get_gcrs_posvel(when)[1].xyz.to_value(u.km / u.s)
    np.testing.assert_allclose(np.subtract(there, centre), truth, atol=2e-6)
