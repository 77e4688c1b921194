"""The brightest stars of frames of many more: measured, and of rich ones found, alone."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from boresight import extract_centroids

SIZE, MOST = 1024, 500


def crowded(hot: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame of 6,000 stars, places (column, row) of the brightest without close neighbours, and of
    its hot pixels.
    """
    rng = np.random.default_rng(4)
    light = np.sort(2000.0 * rng.uniform(2e-4, 1.0, 6_000) ** -0.9)[::-1]
    places = rng.integers(6, SIZE - 6, (6_000, 2))
    stars = np.zeros((SIZE, SIZE))
    np.add.at(stars, (places[:, 1], places[:, 0]), light)
    image = gaussian_filter(stars, 1.1) + rng.normal(300.0, 5.0, stars.shape)
    defects = rng.integers(3, SIZE - 3, (hot, 2))
    image[defects[:, 1], defects[:, 0]] += 5e4
    nearest = cKDTree(places).query(places[: MOST // 2], k=2)[0][:, 1]
    return image.astype(np.float32), places[: MOST // 2][nearest > 8.0], defects


@pytest.mark.parametrize("fast", [False, True])
def test_the_brightest_are_those_of_all(fast: bool) -> None:
    image, bright, _ = crowded(0)
    every = extract_centroids(image, fast=fast)
    result = extract_centroids(image, fast=fast, max_measured=MOST)
    count = len(result.centroids)
    assert 0.97 * MOST <= count < 2 * MOST < len(every.centroids) / 2
    unmeasured = len(every.centroids) - count
    assert result.rejected["unmeasured"] == pytest.approx(unmeasured, rel=0.25)
    (one, k), (other, j) = (
        cKDTree(found.centroids.xy + SIZE / 2).query(bright) for found in (every, result)
    )
    assert np.mean(other < 0.1) >= np.mean(one < 0.1) > 0.95
    ratio = result.centroids.brightness[j] / every.centroids.brightness[k]
    assert np.median(np.abs(ratio - 1.0)) < 0.01


def test_hot_pixels_take_no_places() -> None:
    image, bright, hot = crowded(200)
    result = extract_centroids(image, max_measured=MOST)
    assert len(result.centroids) >= 0.97 * MOST
    assert result.rejected["sharp"] >= 150
    places = result.centroids.xy + SIZE / 2
    assert np.mean(cKDTree(places).query(bright)[0] < 0.1) > 0.95
    assert np.mean(cKDTree(hot).query(places)[0] < 0.3) < 0.02


def test_light_of_a_nebula_is_no_star() -> None:
    """Noise on it is higher than most stars, and does not stand out."""
    image, _, _ = crowded(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    glow = 3e4 * np.exp(-(np.hypot(x - 500, y - 400) ** 2) / 2 / 25.0**2)
    rng = np.random.default_rng(5)
    image += (glow + rng.normal(0.0, 3.0 * np.sqrt(glow))).astype(np.float32)
    stars = extract_centroids(image, max_measured=MOST).centroids
    inside = np.hypot(*(stars.xy + SIZE / 2 - [500, 400]).T) < 60
    assert len(stars) >= 0.97 * MOST
    assert np.sum(inside) < 60


def test_the_highest_are_measured_with_what_is_beside_them():
    """In one blob of a thousand pixels and more, with companions and fainter stars."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:400, :400]
    image = rng.normal(100.0, 5.0, x.shape) + 400.0 * np.exp(-np.hypot(x - 200, y - 200) / 90)
    places = rng.permutation([(30 + 20 * i, 30 + 20 * j) for i in range(18) for j in range(18)])
    flux = np.where(np.arange(len(places)) < 40, 1e5, 6e3)
    for (column, row), light in zip(places, flux, strict=True):
        image += light / (2 * np.pi * 1.44) * np.exp(-(np.hypot(x - column, y - row) ** 2) / 2.88)
    for column, row in places[:40:4]:  # companions
        at = np.hypot(x - column - 4.0, y - row - 1.0)
        image += 1e4 / (2 * np.pi * 1.44) * np.exp(-(at**2) / 2.88)
    result = extract_centroids(image.astype(np.float32), max_measured=40)
    found = np.column_stack([result.centroids.x, result.centroids.y]) + 200.0
    distance = np.hypot(*(found[:, None] - places[None, :40]).T)
    assert np.all(distance.min(axis=1) < 0.05)
    assert len(found) == 50
    assert result.rejected["unmeasured"] >= 250
