"""Every kind of bad input through the public interface: a clear exception or `None`, never a crash.

Files that are damaged are tested where they are read: test_frames, test_database, test_camera.
"""

import contextlib
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from boresight import (
    CameraModel,
    InputError,
    SolverDatabase,
    UndeterminedError,
    calibrate_camera,
    extract_centroids,
)

SHAPE = (480, 640)
ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


@contextlib.contextmanager
def refusal(pattern):
    """Allow an `InputError` whose message matches."""
    try:
        yield
    except InputError as error:
        if not re.search(pattern, str(error)):
            raise


@pytest.fixture(scope="module")
def database():
    """Small database for quick attempts."""
    return SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0)


@pytest.fixture(scope="module")
def solved(wide_database, wide_frame):
    """A solved frame: its centroids and its solution."""
    stars = extract_centroids(wide_frame.image).centroids
    solution = wide_database.solve_from_centroids(
        stars, fov_estimate_deg=12.0, image_shape=wide_frame.image.shape
    )
    assert solution is not None
    return stars, solution


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 0)),
        np.zeros((0, 5)),
        np.zeros(7),
        np.zeros(()),
        np.zeros((4, 5, 2)),
        np.zeros((4, 5, 3)),
        np.zeros((2, 3, 4, 5)),
        np.full((20, 20), np.nan),
        np.zeros((20, 20), complex),
        np.full((20, 20), "star"),
        np.array([[1, None], [2, 3]], dtype=object),
        [[1, 2], [3]],
        None,
        b"image.fits",
    ],
    ids=str,
)
def test_what_is_no_image_is_refused_by_name(image):
    with pytest.raises(InputError, match=r"^image: "):
        extract_centroids(image)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5, 1e9])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (3, 3), (100, 90)])
def test_a_constant_image_has_no_stars(value, shape):
    assert len(extract_centroids(np.full(shape, value)).centroids) == 0


def test_a_hundred_million_pixels():
    image = np.full((10_000, 10_000), 10, np.uint8)
    image[::7, ::5] = 12
    y, x = np.mgrid[-8:9, -8:9]
    star = 10 + 200 * np.exp(-0.5 * (x**2 + y**2) / 1.5**2)
    image[5_012:5_029, 6_992:7_009] = star.round()
    result = extract_centroids(image, sigma_threshold=20.0)
    assert len(result.centroids) == 1
    assert result.centroids.x[0] == pytest.approx(2000.0, abs=0.1)
    assert result.centroids.y[0] == pytest.approx(20.0, abs=0.1)


@given(
    image=hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.uint8, np.int32, np.dtype(">i2"), np.bool_]),
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=40),
    ),
    sigma=ANY_FLOAT,
    block=st.integers(-1, 100),
)
def test_any_image_and_any_threshold(image, sigma, block):
    with refusal(r"^(image|sigma_threshold|local_bg_block_size): "):
        stars = extract_centroids(image, sigma, local_bg_block_size=block).centroids
        assert np.isfinite(stars.x).all()
        assert np.isfinite(stars.y).all()


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_too_few_stars_do_not_solve(database, number):
    stars = np.array([[10.0, 20.0, 9.0], [-30.0, 5.0, 8.0], [100.0, -90.0, 7.0]])[:number]
    assert database.solve_from_centroids(stars, fov_estimate_deg=25.0, image_shape=SHAPE) is None


@pytest.mark.parametrize("fov", [0.0, -5.0, 180.0, 400.0, np.nan, np.inf, "wide"])
def test_a_field_of_view_that_is_none(database, fov):
    stars = np.random.default_rng(1).uniform(-200, 200, (20, 2))
    with pytest.raises(InputError, match=r"^fov_estimate_deg: "):
        database.solve_from_centroids(stars, fov_estimate_deg=fov, image_shape=SHAPE)
    with pytest.raises(InputError, match=r"^max_fov_deg: "):
        SolverDatabase.generate_from_hipparcos(max_fov_deg=fov)
    with pytest.raises(InputError, match=r"^fov_deg: "):
        CameraModel.from_fov(fov, SHAPE)


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_positions_that_are_not_finite_are_refused(database, bad):
    stars = np.random.default_rng(1).uniform(-200, 200, (20, 2))
    stars[7, 1] = bad
    with pytest.raises(InputError, match=r"^centroids: y of row 7 is"):
        database.solve_from_centroids(stars, fov_estimate_deg=25.0, image_shape=SHAPE)


@pytest.mark.parametrize("shape", [(0, 10), (-1, 10), (10,), (10, 10, 3), "480x640", None, 5])
def test_an_image_shape_that_is_none(database, shape):
    stars = np.random.default_rng(1).uniform(-200, 200, (20, 2))
    with pytest.raises(InputError, match=r"image_shape: "):
        database.solve_from_centroids(stars, fov_estimate_deg=25.0, image_shape=shape)


def test_an_image_shape_that_contradicts_the_camera(database, solved):
    stars, solution = solved
    with pytest.raises(InputError, match=r"image_shape: "):
        database.solve_from_centroids(
            stars, image_shape=(9, 9), camera_model=CameraModel.from_fov(25.0, SHAPE)
        )
    with pytest.raises(InputError, match=r"image_shape"):
        database.calibrate_camera([solution], [stars], image_shape=(9, 9), order=2)


def test_results_and_centroids_of_different_length(database, solved):
    stars, solution = solved
    for results, centroids in (([solution], []), ([], [stars]), ([solution] * 2, [stars] * 3)):
        with pytest.raises(InputError, match=r"centroids: "):
            calibrate_camera(results, centroids, order=2)
    with pytest.raises(InputError, match=r"centroids\[0\]: "):
        calibrate_camera([solution], [stars[:3]], order=2)


def test_nothing_solved_cannot_be_calibrated(database, solved):
    stars, _ = solved
    with pytest.raises(UndeterminedError):
        database.calibrate_camera([None, None], [stars, stars], image_shape=SHAPE, order=3)
    with pytest.raises(UndeterminedError):
        database.calibrate_camera([], [], image_shape=SHAPE, order=3)


@given(
    stars=hnp.arrays(np.float64, st.tuples(st.integers(0, 30), st.integers(0, 4)),
                     elements=ANY_FLOAT),
    fov=st.none() | ANY_FLOAT,
    fov_error=st.none() | ANY_FLOAT,
    match_radius=ANY_FLOAT,
    match_threshold=ANY_FLOAT,
)  # fmt: skip
def test_any_stars_and_any_numbers(database, stars, fov, fov_error, match_radius, match_threshold):
    with refusal(r"^\w+: .*"):
        solution = database.solve_from_centroids(
            stars, fov, fov_error, SHAPE, match_radius, match_threshold, max_patterns_checked=200
        )
        assert solution is None or np.isfinite(solution.ra_deg)


@given(
    x=hnp.arrays(np.float64, st.integers(0, 5), elements=ANY_FLOAT),
    ra=ANY_FLOAT,
    dec=ANY_FLOAT,
)
def test_any_pixel_and_any_sky_position(solved, x, ra, dec):
    _, solution = solved
    for answer in solution.pixel_to_world(x, 0.0) + solution.world_to_pixel(ra, np.full(4, dec)):
        assert np.asarray(answer).shape in {x.shape, (4,)}
