"""Matches among centroids that are no stars, that are listed twice, or that hide the stars."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from boresight import CameraModel, simulate_frame

SHAPE = (768, 1024)
CAMERA = CameraModel.from_fov(15.0, SHAPE)
HALF = np.array(SHAPE[::-1]) / 2


@pytest.fixture(scope="module")
def field():
    """Positions of the stars of a field, brightest first."""
    stars = simulate_frame(CAMERA, 83.8, -1.2, 30.0, seed=3).stars
    xy = np.column_stack([stars.x, stars.y])[np.argsort(stars.magnitude)]
    return xy[(np.abs(xy) < HALF).all(axis=1)]


def solved(database, xy, brightness=None):
    """Solution of centroids, by default the brightest first."""
    if brightness is None:
        brightness = np.linspace(2.0, 1.0, len(xy))
    stars = np.column_stack([xy, brightness])
    return database.solve_from_centroids(stars, 15.0, image_shape=SHAPE)


@pytest.mark.parametrize(("true", "false"), [(60, 400), (40, 800), (30, 1500)])
def test_chance_neighbours_are_no_matches(wide_database, field, true, false):
    rng = np.random.default_rng(true)
    xy = np.concatenate(
        [field[:true] + rng.normal(0, 0.3, (true, 2)), rng.uniform(-HALF, HALF, (false, 2))]
    )
    brightness = np.append(1000 * 0.95 ** np.arange(true), rng.exponential(20.0, false) + 1)
    solution = solved(wide_database, xy, brightness)
    wrong = np.count_nonzero(solution.matched_centroids >= true)
    assert wrong <= 2
    assert solution.num_matches - wrong > 0.8 * true
    assert solution.rmse_arcsec < 0.6 * CAMERA.pixel_scale_arcsec


def test_probabilities_tell_how_many_matches_are_wrong(wide_database, field):
    wrong, expected, matches = 0, 0.0, 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        true = 100
        xy = np.concatenate(
            [field[:true] + rng.normal(0, 1.0, (true, 2)), rng.uniform(-HALF, HALF, (1000, 2))]
        )
        rank = np.append(np.arange(true), rng.uniform(10, 1000, 1000))
        solution = solved(wide_database, xy, -rank)
        assert solution.matched_stars.probability.shape == (solution.num_matches,)
        assert (solution.matched_stars.probability >= 0.7).all()
        wrong += np.count_nonzero(solution.matched_centroids >= true)
        expected += np.sum(1 - solution.matched_stars.probability)
        matches += solution.num_matches
    assert matches > 20 * 70
    assert wrong < 2 * expected + 10


@settings(max_examples=15)
@given(st.integers(0, 1000), st.integers(2, 4), st.floats(0.0, 2.0))
def test_places_listed_several_times_do_not_solve(wide_database, seed, times, apart):
    rng = np.random.default_rng(seed)
    xy = np.repeat(rng.uniform(-HALF, HALF, (rng.integers(5, 25), 2)), times, axis=0)
    assert solved(wide_database, xy + rng.normal(0, apart, xy.shape)) is None


@settings(max_examples=10)
@given(st.integers(0, 1000), st.integers(1, 3))
def test_repetitions_and_order_change_nothing(wide_database, field, seed, times):
    rng = np.random.default_rng(seed)
    xy, brightness = field[:50], 1000 * 0.95 ** np.arange(50)
    once = solved(wide_database, xy, brightness)
    order = rng.permutation(np.tile(np.arange(50), times))
    again = solved(wide_database, xy[order], brightness[order])
    assert again.quaternion == pytest.approx(once.quaternion, abs=1e-12)
    found = dict(zip(order[again.matched_centroids], again.matched_catalog_ids, strict=True))
    assert found == dict(zip(once.matched_centroids, once.matched_catalog_ids, strict=True))


FOREGROUND = {
    "ground": lambda rng, n: rng.uniform([-HALF[0], HALF[1] / 2], HALF, (n, 2)),
    "pole": lambda rng, n: np.column_stack(
        [rng.normal(60, 15, n), rng.uniform(-HALF[1], HALF[1], n)]
    ),
    "tree": lambda rng, n: rng.normal([100, 50], 60, (n, 2)),
    "hot pixels": lambda rng, n: rng.uniform(-HALF, HALF, (n // 2, 2)),
}


@pytest.mark.parametrize("kind", FOREGROUND)
@pytest.mark.parametrize("lead", [0, 4])
def test_foreground_brighter_than_the_stars(wide_database, field, kind, lead):
    rng = np.random.default_rng(7)
    stars = field[:80] + rng.normal(0, 0.3, (80, 2))
    xy = np.concatenate([stars[:lead], FOREGROUND[kind](rng, 120), stars[lead:]])
    solution = solved(wide_database, xy)
    assert solution is not None
    truth = solved(wide_database, field[:80])
    found = SkyCoord(solution.ra_deg, solution.dec_deg, unit="deg")
    there = SkyCoord(truth.ra_deg, truth.dec_deg, unit="deg")
    assert found.separation(there).arcsec < CAMERA.pixel_scale_arcsec
