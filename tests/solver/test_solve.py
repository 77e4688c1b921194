"""Solving and the solution, against the simulated truth and astropy."""

import pickle
import threading
from importlib import import_module
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import boresight
from boresight import CameraModel, InputError, extract_centroids

SHAPE = (512, 512)


@pytest.fixture(scope="module")
def stars(wide_frame):
    return extract_centroids(wide_frame.image).centroids


@pytest.fixture(scope="module")
def solution(wide_database, stars):
    found = wide_database.solve_from_centroids(stars, fov_estimate_deg=11.5, image_shape=SHAPE)
    assert found is not None
    return found


def test_pointing_and_scale_are_those_simulated(solution):
    center = SkyCoord(83.8 * u.deg, -1.2 * u.deg)
    assert center.separation(SkyCoord(solution.ra_deg, solution.dec_deg, unit="deg")).arcsec < 5
    assert abs(solution.roll_deg - 30.0) < 0.02
    assert abs(solution.fov_deg - 12.0) < 0.005
    assert solution.num_matches >= 20
    assert solution.rmse_arcsec < 20
    assert solution.rmse_arcsec <= solution.max_err_arcsec
    assert solution.p90e_arcsec <= solution.max_err_arcsec
    assert 0 <= solution.probability <= 1e-5
    assert not solution.parity_flip
    assert solution.solve_time_ms > 0


def test_attitude_agrees_with_the_pixels(solution):
    x, y = np.array([0.0, 100.0, -200.0]), np.array([0.0, -50.0, 130.0])
    ra, dec = solution.pixel_to_world(x, y)
    sky = SkyCoord(ra, dec, unit="deg").cartesian.xyz.value.T
    camera = solution.camera_model.pixel_to_direction(x, y)
    matrix = solution.rotation_matrix_icrs_to_camera
    np.testing.assert_allclose(sky @ matrix.T, camera, atol=1e-12)
    w, *v = solution.quaternion
    cross = np.cross(np.eye(3), v)
    np.testing.assert_allclose(np.eye(3) + 2 * w * cross + 2 * cross @ cross, matrix, atol=1e-12)


def test_matches_are_where_their_stars_are(solution, stars, wide_database):
    index = solution.matched_centroids
    assert index.dtype == np.uint64
    assert len(set(index.tolist())) == len(index) == len(solution.matched_catalog_ids)
    star = wide_database.get_star_by_id(int(solution.matched_catalog_ids[0]))
    x, y = solution.world_to_pixel(star.ra_deg, star.dec_deg)
    seen = stars[int(index[0])]
    assert np.hypot(x - seen.x, y - seen.y) < 1.0
    ra, dec = solution.pixel_to_world(stars.x[index], stars.y[index])
    found = SkyCoord(ra, dec, unit="deg").cartesian.xyz.value.T
    angle = np.degrees(np.linalg.norm(found - solution.matched_directions, axis=1)) * 3600
    np.testing.assert_allclose(angle, solution.residuals_arcsec, rtol=1e-3, atol=1e-6)


def test_world_and_pixel_are_inverse_for_scalars_arrays_and_skycoords(solution):
    x, y = np.meshgrid(np.linspace(-256, 256, 5), np.linspace(-256, 256, 4))
    ra, dec = solution.pixel_to_world(x, y)
    assert ra.shape == x.shape
    for back in (
        solution.world_to_pixel(ra, dec),
        solution.world_to_pixel(SkyCoord(ra, dec, unit="deg").galactic),
    ):
        np.testing.assert_allclose(back, (x, y), atol=1e-8)
    ra, dec = solution.pixel_to_world(0, 0)
    assert np.ndim(ra) == 0
    assert (ra, dec) == (solution.ra_deg, solution.dec_deg)


def test_behind_the_camera_is_nan(solution):
    x, y = solution.world_to_pixel((solution.ra_deg + 180) % 360, -solution.dec_deg)
    assert np.isnan(x)
    assert np.isnan(y)
    assert np.isnan(solution.pixel_to_world(np.nan, 0.0)[0])


def test_wcs_agrees_for_array_pixels(solution):
    wcs = solution.wcs()
    columns, rows = np.array([0.0, 255.5, 511.0]), np.array([10.0, 300.0, 500.0])
    sky = wcs.pixel_to_world(columns, rows)
    ra, dec = solution.pixel_to_world(columns - 256, rows - 256)
    assert sky.separation(SkyCoord(ra, dec, unit="deg")).arcsec.max() < 1e-3
    np.testing.assert_allclose(wcs.world_to_pixel(sky), (columns, rows), atol=1e-3)
    np.testing.assert_allclose(wcs.pixel_scale_matrix, solution.cd_matrix, rtol=1e-5, atol=1e-9)
    east, north = solution.cd_matrix @ [0, -1]
    assert np.degrees(np.arctan2(east, north)) == pytest.approx(solution.roll_deg, abs=1e-3)


def test_covariance_of_the_attitude_is_that_of_repeated_noise(wide_database, wide_frame):
    """The scatter of 60 solutions with fresh centroid noise against the covariance they report."""
    truth = wide_frame.stars
    inside = truth[(abs(truth.x) < 250) & (abs(truth.y) < 250)]
    bright = inside[np.argsort(-inside.flux)[:40]]
    xy = np.column_stack([bright.x, bright.y])
    rng = np.random.default_rng(5)
    offsets, reported = [], []
    for _ in range(60):
        noisy = xy + rng.normal(0, 0.3, xy.shape)
        found = wide_database.solve_from_centroids(noisy, 12.0, image_shape=SHAPE)
        off = found.rotation_matrix_icrs_to_camera @ wide_frame.rotation_icrs_to_camera.T
        offsets.append([off[2, 1], off[0, 2], off[1, 0]])
        reported.append(np.diag(found.attitude_cov_rad2))
    ratio = np.std(offsets, axis=0) / np.sqrt(np.mean(reported, axis=0))
    assert np.all((ratio > 0.7) & (ratio < 1.4)), ratio


def test_covariance_of_sky_positions_is_that_of_repeated_noise(wide_database, wide_frame):
    """Where a corner looks, whose error is that of scale, roll and pointing together."""
    truth = wide_frame.stars
    inside = truth[(abs(truth.x) < 250) & (abs(truth.y) < 250)]
    bright = inside[np.argsort(-inside.flux)[:40]]
    xy = np.column_stack([bright.x, bright.y])
    rng = np.random.default_rng(6)
    positions, reported = [], []
    for _ in range(80):
        noisy = xy + rng.normal(0, 0.3, xy.shape)
        found = wide_database.solve_from_centroids(noisy, 12.0, image_shape=SHAPE)
        ra, dec, cov = found.pixel_to_world(250.0, -250.0, return_cov=True)
        positions.append([ra * np.cos(np.radians(dec)), dec])
        reported.append(cov)
    scatter = np.cov(np.array(positions).T * 3600.0)
    ratio = np.trace(scatter) / np.trace(np.mean(reported, axis=0))
    assert 0.7 < ratio < 1.4


@pytest.mark.parametrize("form", ["list", "array", "brightest first", "table"])
def test_centroids_in_any_form(wide_database, stars, solution, form):
    given_as = {
        "list": list(stars),
        "array": np.column_stack([stars.x, stars.y, stars.brightness]),
        "brightest first": np.column_stack([stars.x, stars.y]),
        "table": Table({"x": stars.x, "y": stars.y, "flux": stars.brightness}),
    }[form]
    found = wide_database.solve_from_centroids(given_as, 11.5, image_shape=SHAPE)
    np.testing.assert_array_equal(found.matched_centroids, solution.matched_centroids)
    np.testing.assert_array_equal(found.quaternion, solution.quaternion)


def test_order_of_the_centroids_does_not_matter(wide_database, stars, solution):
    shuffled = np.random.default_rng(1).permutation(len(stars))
    found = wide_database.solve_from_centroids(stars[shuffled], 11.5, image_shape=SHAPE)
    assert set(shuffled[found.matched_centroids]) == set(solution.matched_centroids.tolist())
    np.testing.assert_allclose(found.quaternion, solution.quaternion, atol=1e-9)


def test_mirrored(wide_database, stars):
    mirrored = np.column_stack([-stars.x, stars.y, stars.brightness])
    found = wide_database.solve_from_centroids(mirrored, 11.5, image_shape=SHAPE)
    assert found.parity_flip
    assert np.linalg.det(found.wcs().pixel_scale_matrix) < 0
    ra, dec = found.pixel_to_world(-100.0, 50.0)
    straight = wide_database.solve_from_centroids(stars, 11.5, image_shape=SHAPE)
    there = SkyCoord(*straight.pixel_to_world(100.0, 50.0), unit="deg")
    assert there.separation(SkyCoord(ra, dec, unit="deg")).arcsec < 1


def test_attitude_hints(wide_database, stars, solution):
    for hint in (
        solution,
        solution.quaternion,
        solution.rotation_matrix_icrs_to_camera.tolist(),
        solution.wcs(),
    ):
        found = wide_database.solve_from_centroids(
            stars, 12.0, image_shape=SHAPE, attitude_hint=hint, strict_hint=True
        )
        np.testing.assert_allclose(found.quaternion, solution.quaternion, atol=1e-7)


@pytest.mark.parametrize("form", [tuple, np.array, lambda p: SkyCoord(*p, unit="deg").galactic])
def test_position_hints(wide_database, stars, solution, form):
    near = form((solution.ra_deg + 1.5, solution.dec_deg - 1.0))
    options = {"image_shape": SHAPE, "attitude_hint": near, "strict_hint": True}
    found = wide_database.solve_from_centroids(stars, 12.0, hint_uncertainty_deg=2.0, **options)
    np.testing.assert_allclose(found.quaternion, solution.quaternion, atol=1e-7)
    assert (
        wide_database.solve_from_centroids(stars, 12.0, hint_uncertainty_deg=0.5, **options) is None
    )


def test_the_wcs_of_a_mirrored_image_is_a_hint(wide_database, stars):
    rows = np.array([[-star.x, star.y, star.brightness] for star in stars])
    mirrored = wide_database.solve_from_centroids(rows, 12.0, image_shape=SHAPE)
    assert mirrored.parity_flip
    found = wide_database.solve_from_centroids(
        rows, 12.0, image_shape=SHAPE, attitude_hint=mirrored.wcs(), strict_hint=True
    )
    np.testing.assert_allclose(found.quaternion, mirrored.quaternion, atol=1e-7)


def test_a_wrong_hint_is_strict_only_if_asked(wide_database, stars):
    options = {"attitude_hint": [1.0, 0, 0, 0], "image_shape": SHAPE}
    assert wide_database.solve_from_centroids(stars, strict_hint=True, **options) is None
    assert wide_database.solve_from_centroids(stars, **options) is not None


def test_pickle(solution):
    copy = pickle.loads(pickle.dumps(solution))
    assert repr(copy) == repr(solution)
    np.testing.assert_array_equal(copy.matched_catalog_ids, solution.matched_catalog_ids)
    np.testing.assert_allclose(copy.pixel_to_world(3, 4), solution.pixel_to_world(3, 4), rtol=1e-14)
    np.testing.assert_array_equal(
        copy.rotation_matrix_icrs_to_camera, solution.rotation_matrix_icrs_to_camera
    )


def test_threads_share_one_database(wide_database, stars, solution):
    found = [None] * 8

    def work(k):
        found[k] = wide_database.solve_from_centroids(stars, 11.5, image_shape=SHAPE)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in found:
        np.testing.assert_array_equal(one.quaternion, solution.quaternion)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_too_few_stars_do_not_solve(wide_database, stars, count):
    assert wide_database.solve_from_centroids(stars[:count], 11.5, image_shape=SHAPE) is None


BAD = [
    ({"fov_estimate_deg": 0}, "fov_estimate_deg"),
    ({"fov_estimate_deg": -5.0}, "fov_estimate_deg"),
    ({"fov_estimate_deg": 180.0}, "fov_estimate_deg"),
    ({"fov_estimate_deg": float("nan")}, "fov_estimate_deg"),
    ({"fov_estimate_deg": "wide"}, "fov_estimate_deg"),
    ({"fov_max_error_deg": -1.0}, "fov_max_error_deg"),
    ({"image_shape": None}, "image_shape"),
    ({"image_shape": (0, 512)}, "image_shape"),
    ({"camera_model": CameraModel.from_fov(12.0, (100, 100))}, "image_shape"),
    ({"match_radius": 0.0}, "match_radius"),
    ({"match_threshold": float("inf")}, "match_threshold"),
    ({"pattern_checking_stars": 2.5}, "pattern_checking_stars"),
    ({"solve_timeout_ms": -1}, "solve_timeout_ms"),
    ({"observer_velocity_km_s": [1.0, 2.0]}, "observer_velocity_km_s"),
    ({"observer_velocity_km_s": [4e5, 0.0, 0.0]}, "observer_velocity_km_s"),
    ({"attitude_hint": [1.0, 0.0, 0.0]}, "attitude_hint"),
    ({"attitude_hint": [10.0, 95.0]}, "attitude_hint"),
    ({"attitude_hint": [np.nan, 0.0]}, "attitude_hint"),
    ({"attitude_hint": "Orion"}, "attitude_hint"),
    ({"attitude_hint": np.ones((3, 3))}, "attitude_hint: the matrix is not a rotation"),
    ({"attitude_hint": np.zeros(4)}, "attitude_hint: .* is not a quaternion"),
    ({"attitude_hint": [1.0, 0, 0, 0], "hint_uncertainty_deg": 90.0}, "hint_uncertainty_deg"),
]


def test_the_time_given_is_for_all_attempts(wide_database, monkeypatch):
    clock, bounds = [0.0], []

    def vain(_database, _stars, values):
        bounds.append(values["timeout_ms"])
        clock[0] += 0.1

    solve, attempts = (import_module(f"boresight.solver.{name}") for name in ("solve", "attempts"))
    monkeypatch.setattr(solve, "core", SimpleNamespace(solve=vain))
    monkeypatch.setattr(solve, "solution_of", lambda *_: None)
    for module in (attempts, import_module("boresight._utils.deadline")):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    xy = np.random.default_rng(1).uniform(-200, 200, (30, 2))
    arguments = {"image_shape": SHAPE, "database": wide_database, "projection": "auto"}
    boresight.solve(xy, 150.0, solve_timeout_ms=450, **arguments)
    assert bounds == [450, 250, 250, 150, 50]
    bounds.clear()
    boresight.solve(xy, 150.0, solve_timeout_ms=0, **arguments)
    assert bounds == [0]
    bounds.clear()
    boresight.solve(xy, 150.0, **arguments)
    assert len(bounds) > 10


def test_reading_and_extraction_are_of_the_time_given(wide_database, tmp_path):
    image = boresight.simulate_frame(CameraModel.from_fov(12.0, (256, 256)), 83.8, -1.2).image
    fits.writeto(tmp_path / "a.fits", image)
    for frame in (image, tmp_path / "a.fits"):
        for limit in ({"solve_timeout_ms": 0}, {"extraction": {"timeout_ms": 0}}):
            assert boresight.solve(frame, 12.0, database=wide_database, **limit) is None
        diagnosis = boresight.diagnose(frame, 12.0, database=wide_database, solve_timeout_ms=0)
        assert (diagnosis.solution, diagnosis.status) == (None, "timeout")
        assert [finding.cause for finding in diagnosis.findings] == ["time"]
        assert "0 ms" in str(diagnosis)
        limit = {"solve_timeout_ms": 60_000, "extraction": {"timeout_ms": 50_000}}
        assert boresight.solve(frame, 12.0, database=wide_database, **limit) is not None
    with pytest.raises(InputError, match="timeout_ms"):
        boresight.solve(image, extraction={"timeout_ms": -1})


@pytest.mark.parametrize("shift", [0.0, 1.0, 8.0, 60.0])
def test_stars_beyond_the_edge_are_as_others(wide_database, stars, solution, shift):
    """They are checked quickly near the image, and by their columns farther out."""
    beyond = [[SHAPE[1] / 2 + shift, 20.0, 1.0]]
    given = np.vstack([np.column_stack([stars.x, stars.y, stars.brightness]), beyond])
    found = wide_database.solve_from_centroids(given, 11.5, image_shape=SHAPE)
    assert abs(found.ra_deg - solution.ra_deg) < 0.01
    with pytest.raises(InputError, match="outside the image"):
        wide_database.solve_from_centroids(np.add(given, [300.0, 0.0, 0.0]), image_shape=SHAPE)


@pytest.mark.parametrize(("wrong", "name"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_arguments_are_named(wide_database, stars, wrong, name):
    options = {"fov_estimate_deg": 11.5, "image_shape": SHAPE} | wrong
    with pytest.raises(InputError, match=name):
        wide_database.solve_from_centroids(stars, **options)


@given(
    hnp.arrays(
        float, st.tuples(st.integers(0, 30), st.integers(2, 3)), elements=st.floats(-256, 256)
    ),
    st.floats(0.1, 179.0),
)
def test_no_list_of_centroids_does_harm(wide_database, centroids, fov):
    centroids[:, 2:] = abs(centroids[:, 2:])  # light
    wide_database.solve_from_centroids(centroids, fov, image_shape=SHAPE, max_patterns_checked=500)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_known_parity_restricts_the_search(wide_database, stars, mirrored):
    side = -1.0 if mirrored else 1.0
    rows = np.array([[side * star.x, star.y, star.brightness] for star in stars])
    options = {"fov_estimate_deg": 12.0, "image_shape": SHAPE}
    free = wide_database.solve_from_centroids(rows, **options)
    known = wide_database.solve_from_centroids(rows, parity_flip=mirrored, **options)
    assert known.parity_flip == free.parity_flip == mirrored
    # The lens is as free as without: the same answer to the last digit that differs by order.
    np.testing.assert_allclose(known.quaternion, free.quaternion, rtol=0, atol=1e-9)
    assert known.num_matches == free.num_matches
    other = wide_database.solve_from_centroids(rows, parity_flip=not mirrored, **options)
    assert other is None


def test_a_parity_is_no_word_and_does_not_contradict_the_camera(wide_database, stars):
    camera = CameraModel.from_fov(12.0, SHAPE)
    with pytest.raises(InputError, match="parity_flip: True contradicts the camera model's False"):
        wide_database.solve_from_centroids(stars, camera_model=camera, parity_flip=True)
    with pytest.raises(InputError, match="parity_flip: 'pos' is neither True nor False"):
        wide_database.solve_from_centroids(stars, image_shape=SHAPE, parity_flip="pos")
