"""The lens of one frame: fitted to its own stars, and never silently extrapolated."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import boresight
from boresight import ApparentPlace, CameraModel, Catalog, InputError, RadialDistortion
from boresight.solver.support import surrounded
from helpers import RADIAL, SHAPE, polynomial_camera

STARS = Catalog.hipparcos()
ATTITUDE = Rotation.from_euler("ZYZ", [20.0, 87.0, -82.0], degrees=True).as_matrix()


def star_list(camera, count=300, noise=0.05, false=60, seed=3, epoch=2025.0, keep=None):
    """Stars of Hipparcos as a camera sees them: x, y and brightness, some of them false."""
    rng = np.random.default_rng(seed)
    moved = STARS.at_epoch(epoch)
    sky = directions(moved.ra_deg, moved.dec_deg) @ ATTITUDE.T
    ahead = sky[:, 2] > 0.8
    x, y = camera.direction_to_pixel(sky[ahead])
    magnitude = moved.magnitude[ahead]
    inside = (np.abs(x) < SHAPE[1] / 2) & (np.abs(y) < SHAPE[0] / 2)
    if keep is not None:
        inside &= keep(x, y)
    chosen = np.flatnonzero(inside)[:count]
    brightness = 10 ** (0.4 * (10 - magnitude[chosen] + rng.normal(0, 0.2, len(chosen))))
    true = np.column_stack([x[chosen], y[chosen]]) + rng.normal(0, noise, (len(chosen), 2))
    stray = rng.uniform(-0.5, 0.5, (false, 2)) * SHAPE[::-1]
    light = rng.choice(brightness, false) * 0.5
    rows = np.column_stack([np.vstack([true, stray]), np.concatenate([brightness, light])])
    return rows[(np.abs(rows[:, :2]) < np.array(SHAPE[::-1]) / 2).all(axis=1)]


def directions(ra_deg, dec_deg):
    ra, dec = np.radians([ra_deg, dec_deg])
    return np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def grid_error_px(solution, camera, reach=1.0):
    """Error of the sky over a grid of pixels, in pixels."""
    x, y = np.meshgrid(
        *[np.linspace(-reach * n / 2, reach * n / 2, 21) for n in (SHAPE[1], SHAPE[0])]
    )
    truth = camera.pixel_to_direction(x.ravel(), y.ravel()) @ ATTITUDE
    found = directions(*solution.pixel_to_world(x.ravel(), y.ravel()))
    return np.linalg.norm(found - truth, axis=1) * camera.focal_length_px


@pytest.mark.parametrize("lens", ["auto", None])
def test_a_known_parity_leaves_the_lens_free(lens):
    options = {"image_shape": SHAPE, "lens": lens}
    camera = CameraModel(2500.0, SHAPE, distortion=RadialDistortion(-0.01, scale=512.0))
    stars = star_list(camera)
    free, known = (boresight.solve(stars, parity_flip=p, **options) for p in (None, False))
    assert known.camera_model.distortion is not None
    assert known.num_matches == free.num_matches
    np.testing.assert_allclose(
        grid_error_px(known, camera), grid_error_px(free, camera), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    "camera",
    [
        pytest.param(CameraModel(2500.0, SHAPE), id="pinhole"),
        pytest.param(RADIAL, id="radial"),
        pytest.param(polynomial_camera(order=3), id="polynomial"),
    ],
)
def test_auto_knows_every_lens_to_a_tenth_of_a_pixel(camera):
    stars = star_list(camera)
    solution = boresight.solve(stars, image_shape=SHAPE)
    error = grid_error_px(solution, camera)
    assert np.sqrt(np.mean(error**2)) < 0.05
    assert error.max() < 0.3
    if camera.distortion is None:
        assert solution.camera_model.distortion is None
    # The uncertainty that it tells is that of the errors.
    x = np.linspace(-480, 480, 9)
    *_, cov = solution.pixel_to_world(x, 0 * x, return_cov=True)
    sigma_px = np.sqrt(cov[:, 0, 0] / 2 + cov[:, 1, 1] / 2) / np.degrees(1 / 2500.0) / 3600
    assert (sigma_px < 0.05).all()


@pytest.mark.parametrize(
    ("lens", "name"), [("none", None), ("pinhole", None), ("radial", "Radial"), (3, "Polynomial")]
)
def test_what_is_asked_for_is_fitted(lens, name):
    camera = polynomial_camera(order=3, pixels=1.0)
    stars = star_list(camera)
    solution = boresight.solve(stars, image_shape=SHAPE, lens=lens)
    distortion = solution.camera_model.distortion
    assert (None if distortion is None else type(distortion).__name__) == (
        name and f"{name}Distortion"
    )
    if lens == 3:
        assert distortion.order == 3
        assert np.sqrt(np.mean(grid_error_px(solution, camera) ** 2)) < 0.05


def test_it_is_what_a_calibration_finds():
    stars = star_list(RADIAL)
    solution = boresight.solve(stars, image_shape=SHAPE)
    result = boresight.calibrate_camera([solution], model="auto", order="auto")
    assert type(result.camera_model.distortion) is type(solution.camera_model.distortion)
    x, y = np.meshgrid([-400.0, 0.0, 400.0], [-300.0, 0.0, 300.0])
    theirs = result.camera_model.pixel_to_direction(x, y)
    angle = np.arccos(np.clip((theirs[..., None, :] * theirs[0, 0]).sum(-1), -1, 1))
    ours = solution.camera_model.pixel_to_direction(x, y)
    other = np.arccos(np.clip((ours[..., None, :] * ours[0, 0]).sum(-1), -1, 1))
    assert np.abs(angle - other).max() * 2500.0 < 0.1


def test_few_stars_bear_no_lens():
    stars = star_list(CameraModel(2500.0, SHAPE), count=14, noise=0.2, false=0)
    plain = boresight.solve(stars, image_shape=SHAPE, lens=None)
    solution = boresight.solve(stars, image_shape=SHAPE)
    assert solution.camera_model.distortion is None
    assert grid_error_px(solution, CameraModel(2500.0, SHAPE)).max() < 3.0
    assert solution.num_matches >= 0.8 * plain.num_matches


def test_half_a_frame_of_stars_says_where_the_lens_holds():
    camera = polynomial_camera(order=3, pixels=2.0)
    stars = star_list(camera, false=0, keep=lambda x, y: x < 0)
    solution = boresight.solve(stars, image_shape=SHAPE)
    assert solution.lens_holds(-250.0, [-200.0, 0.0, 200.0]).all()
    assert not solution.lens_holds([300.0, 480.0], 0.0).any()
    assert not solution.lens_holds(np.nan, 0.0)
    # Less than a polynomial, where that would be free on the other side.
    assert grid_error_px(solution, camera).max() < 40.0


def test_a_camera_that_is_given_stays_as_it_is():
    stars = star_list(RADIAL)
    solution = boresight.solve(stars, image_shape=SHAPE, camera_model=RADIAL)
    assert solution.camera_model.distortion == RADIAL.distortion
    asked = boresight.solve(stars, image_shape=SHAPE, camera_model=RADIAL, lens="polynomial")
    assert asked.camera_model.distortion.order >= 2


@pytest.mark.parametrize("lens", ["auto", "none"])
def test_stars_move_to_the_time_of_the_frame(lens):
    camera = CameraModel(2500.0, SHAPE)
    stars = star_list(camera, noise=0.001, false=0, epoch=1925.0)
    place = ApparentPlace(epoch=1925.0)
    solution = boresight.solve(stars, image_shape=SHAPE, place=place, lens=lens)
    there = STARS.at_epoch(1925.0).get(solution.matched_catalog_ids)
    np.testing.assert_allclose(
        solution.matched_directions, directions(there.ra_deg, there.dec_deg), atol=1e-9
    )
    assert np.median(solution.residuals_arcsec) < 0.3
    unmoved = boresight.solve(stars, image_shape=SHAPE)
    assert np.median(unmoved.residuals_arcsec) > 1.0


@pytest.mark.parametrize("lens", ["best", 1, 10, True])
def test_unknown_lenses_are_refused(wide_database, lens):
    with pytest.raises(InputError, match="lens"):
        boresight.solve_from_centroids(
            wide_database, star_list(RADIAL), image_shape=SHAPE, lens=lens
        )


def test_the_convex_hull():
    square = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0], [2.0, 2.0], [2.0, 0.0]])
    points = np.array([[2.0, 2.0], [4.0, 4.0], [5.0, 2.0], [6.0, 2.0], [-2.0, -2.0]])
    assert surrounded(points, square).tolist() == [True, True, True, False, False]
    assert not surrounded(points, square[:2]).any()
    assert not surrounded(points, square[[0, 1, 5]]).any()


def test_the_brightest_stars_give_the_answer_of_all():
    camera = CameraModel.from_fov(15.0, (512, 512))
    image = boresight.simulate_frame(camera, 83.8, -1.2, seed=1).image
    every = boresight.extract_centroids(image)
    assert every.rejected["unmeasured"] == 0
    some = boresight.extract_centroids(image, max_measured=60)
    # Those beside the brightest are measured with them.
    assert some.rejected["unmeasured"] > len(every.centroids) / 2
    assert 55 <= len(some.centroids) < len(every.centroids) / 2
    x, y = np.array([-200.0, 0.0, 200.0]), np.array([100.0, 0.0, -100.0])
    seen = [np.array(boresight.solve(stars).pixel_to_world(x, y)) for stars in (every, some)]
    assert np.abs(seen[0] - seen[1]).max() < 0.1 * camera.fov_deg / 512


def test_a_frame_of_few_stars_is_looked_at_once_more():
    camera = CameraModel.from_fov(8.0, (512, 512))
    image = np.asarray(boresight.simulate_frame(camera, 20.0, 60.0, seed=4).image, float)
    rng = np.random.default_rng(2)
    for noise in np.geomspace(0.5, 30.0, 80) * image.std():
        frame = image + rng.normal(0.0, noise, image.shape)
        found, lower = (
            boresight.extract_centroids(frame, sigma_threshold=sigma) for sigma in (5.0, 4.0)
        )
        few = len(found.centroids) < 20
        if few and boresight.solve(found, 8.0) is None and boresight.solve(lower, 8.0) is not None:
            break
    else:
        pytest.fail("no noise with which only the lower threshold solves")
    solution = boresight.solve(frame, 8.0)
    assert abs(solution.ra_deg - 20.0) < 0.05
    assert abs(solution.dec_deg - 60.0) < 0.05
    assert boresight.solve(frame, 8.0, extraction={"sigma_threshold": 5.0}) is None
