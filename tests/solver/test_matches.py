"""Matched stars: their columns, and how they travel between solving and calibrating."""

import pickle

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import boresight
from boresight import ApparentPlace, CameraModel, Centroids, InputError, MatchedStars
from helpers import RADIAL, quaternion, simulate

CAMERA = CameraModel.from_fov(12.0, (512, 512))


def matches(number=20, seed=1, **columns):
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(-250, 250, (number, 2))
    rotation = Rotation.random(random_state=seed)
    sky = rotation.inv().apply(CAMERA.pixel_to_direction(*pixels.T))
    return MatchedStars(pixels, sky, CAMERA, quaternion(rotation), **columns)


def test_solving_makes_them(wide_database, wide_frame):
    stars = boresight.extract_centroids(wide_frame.image).centroids
    solution = wide_database.solve_from_centroids(stars, 12.0, image_shape=(512, 512))
    found = solution.matched_stars
    index = solution.matched_centroids
    assert len(found) == solution.num_matches > 20
    np.testing.assert_array_equal(found.centroids, index)
    np.testing.assert_array_equal(found.positions_px, stars.xy[index])
    np.testing.assert_array_equal(found.position_cov, stars.position_cov[index])
    np.testing.assert_array_equal(found.brightness, stars.brightness[index])
    np.testing.assert_array_equal(found.directions, solution.matched_directions)
    np.testing.assert_array_equal(found.catalog_ids, solution.matched_catalog_ids)
    np.testing.assert_allclose(found.residuals_arcsec, solution.residuals_arcsec, rtol=1e-12)
    assert found.camera_model == solution.camera_model
    assert found.place == ApparentPlace()
    # An angle on the sky is what astropy measures between the pixel's and the star's places.
    from astropy.coordinates import SkyCoord

    seen = SkyCoord(*solution.pixel_to_world(*stars.xy[index].T), unit="deg")
    x, y, z = found.directions.T
    true = SkyCoord(np.degrees(np.arctan2(y, x)), np.degrees(np.arcsin(z)), unit="deg")
    np.testing.assert_allclose(seen.separation(true).arcsec, found.residuals_arcsec, atol=1e-6)


def test_calibration_takes_them_with_or_without_the_lists():
    results, centroids, _ = simulate(RADIAL, frames=4)
    with_lists = boresight.calibrate_camera(results, centroids, model="radial")
    alone = boresight.calibrate_camera(results, model="radial")
    assert alone.camera_model == with_lists.camera_model
    assert alone.rmse_after_px == with_lists.rmse_after_px


def test_columns_that_are_unknown():
    plain = matches()
    assert np.isnan(plain.brightness).all()
    assert np.isnan(plain.position_cov).all()
    assert not plain.has_position_cov
    assert plain.centroids.tolist() == list(range(20))
    assert plain.probability.tolist() == [1.0] * 20
    assert plain.residuals_arcsec.max() < 1e-6


def test_they_are_pickled_selected_and_replaced():
    cov = np.tile(np.diag([0.01, 0.04]), (20, 1, 1))
    full = matches(
        place=ApparentPlace(velocity_km_s=(1.0, 2.0, 3.0)),
        position_cov=cov,
        brightness=np.arange(20.0),
        catalog_ids=np.arange(100, 120),
        probability=np.full(20, 0.9),
    )
    copy = pickle.loads(pickle.dumps(full))
    names = ("positions_px", "directions", "position_cov", "brightness", "catalog_ids")
    for name in (*names, "centroids", "probability", "quaternion"):
        np.testing.assert_array_equal(getattr(copy, name), getattr(full, name), err_msg=name)
    # An attitude is kept as a matrix and travels as a quaternion: equal to rounding.
    np.testing.assert_allclose(copy.residuals_arcsec, full.residuals_arcsec, atol=1e-9)
    assert copy.place == full.place
    few = full.select(full.brightness > 14.5)
    assert few.catalog_ids.tolist() == [115, 116, 117, 118, 119]
    assert few.position_cov.shape == (5, 2, 2)
    still = full.replace(place=None)
    assert still.place == ApparentPlace()
    assert not np.allclose(still.residuals_arcsec, full.residuals_arcsec)


def test_magnitudes_of_a_database_follow_the_numbers(wide_frame, wide_database):
    stars = boresight.solve(wide_frame.image, database=wide_database).matched_stars
    few = stars.select(np.arange(3, 8))
    np.testing.assert_array_equal(few.magnitudes, stars.magnitudes[3:8])
    assert np.isfinite(few.magnitudes).all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(few)).magnitudes, few.magnitudes)
    assert few.replace(magnitudes=np.arange(5.0)).magnitudes.tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(few.replace(magnitudes=None).magnitudes).all()


def test_positions_are_taken_from_the_list_that_was_solved():
    order = np.array([3, 0, 2])
    listed = Centroids(x=[1.0, 2.0, 3.0, 4.0], y=[5.0, 6.0, 7.0, 8.0])
    measured = matches(3, centroids=order).measured(listed)
    assert measured.positions_px.tolist() == [[4.0, 8.0], [1.0, 5.0], [3.0, 7.0]]
    with pytest.raises(InputError, match="centroids: 3 of them, but a match is of number 3"):
        matches(3, centroids=order).measured(listed[:3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"directions": np.eye(3)}, "centroids: 20 positions, but 3 stars"),
        ({"positions_px": np.full((20, 2), np.nan)}, "centroids: a position is not finite"),
        ({"directions": np.full((20, 3), np.inf)}, "results: a star has no direction"),
        ({"position_cov": np.zeros((20, 3))}, r"position_cov: its shape is \(20, 3\)"),
        ({"brightness": np.zeros(3)}, "centroids: 20 positions"),
        ({"quaternion": np.zeros(4)}, "quaternion: its length is zero"),
    ],
)
def test_bad_columns_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        matches().replace(**changes)


@pytest.mark.parametrize("magnitudes", [5.0, np.zeros(3), np.zeros((20, 1))])
def test_magnitudes_are_one_for_each_star(magnitudes):
    with pytest.raises(InputError, match="magnitudes: its shape is"):
        matches(magnitudes=magnitudes)


def test_stars_that_their_neighbours_draw_aside_are_known(wide_database, wide_frame):
    camera = wide_frame.camera_model
    solution = boresight.solve(wide_frame.image, database=wide_database, camera_model=camera)
    stars = solution.matched_stars
    around = wide_database.cone_search(solution.ra_deg, solution.dec_deg, 12.0)
    places = np.column_stack(solution.world_to_pixel(around.ra_deg, around.dec_deg))
    expected, clear = np.zeros(len(stars)), np.ones(len(stars), bool)
    for k, star in enumerate(stars.catalog_ids):
        (own,) = np.flatnonzero(around.ids == star)
        far = np.hypot(*(places - places[own]).T)
        near = (far < 3.0) & (around.ids != star)
        clear[k] = not (np.abs(far - 3.0) < 0.05).any()
        light = 10.0 ** (0.4 * (around.magnitude[own] - around.magnitude[near]))
        expected[k] = (light * far[near]).sum() / (1.0 + light.sum())
    assert 0 < np.count_nonzero(expected > 0.02) < len(stars) / 3
    assert stars.blend_px(3.0)[clear] == pytest.approx(expected[clear], abs=1e-3)
    assert stars.select(clear & (expected > 0.02)).blend_px(3.0).min() > 0.019
    assert stars.select([False] * len(stars)).blend_px(3.0).shape == (0,)
    assert not matches().blend_px(3.0).any()


def test_no_stars_and_quaternions_that_are_none():
    assert len(MatchedStars([], [], CAMERA, (1, 0, 0, 0))) == 0
    for wrong in ((1, 0), (1, 0, 0, 0, 0), [[1, 0, 0, 0]], "north"):
        with pytest.raises(InputError, match=r"^quaternion: "):
            MatchedStars([[1, 2]], [[0, 0, 1]], CAMERA, wrong)
