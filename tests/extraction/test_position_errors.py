"""Errors of positions hold in frames whose noise is correlated, and in frames full of stars."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import convolve, gaussian_filter, shift
from scipy.spatial import cKDTree

from boresight import extract_centroids
from helpers import pixel_gaussian

SIZE, SKY, READ_NOISE, FWHM = 800, 20.0, 3.0, 2.5

Image = NDArray[np.float64]


def frame(seed: int, flux: NDArray[np.float64]) -> tuple[Image, NDArray[np.float64]]:
    """Frame in electrons of stars at random places, and these places (column, row)."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(10, SIZE - 10, (len(flux), 2))
    light = SKY + pixel_gaussian((SIZE, SIZE), *places.T, flux, FWHM)
    return rng.poisson(light) + rng.normal(0, READ_NOISE, light.shape), places


def bright(seed: int) -> NDArray[np.float64]:
    return np.exp(np.random.default_rng(seed).uniform(np.log(2e3), np.log(1e5), 500))


def smoothed(image: Image) -> Image:
    return gaussian_filter(image, 0.7)


def resampled(image: Image) -> Image:
    """Moved by half a pixel along both axes and back by whole pixels, with linear interpolation."""
    return shift(shift(image, 0.5, order=1, mode="nearest"), -0.5, order=1, mode="nearest")


def demosaiced(image: Image) -> Image:
    """Brightness of a colour frame whose colours were interpolated from a Bayer mosaic."""
    y, x = np.mgrid[:SIZE, :SIZE]
    red, blue = (y % 2 == 0) & (x % 2 == 0), (y % 2 == 1) & (x % 2 == 1)
    wide = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    narrow = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    parts = [(0.2126, red, wide), (0.7152, ~(red | blue), narrow), (0.0722, blue, wide)]
    return sum(
        (share * convolve(image * mask, kernel) for share, mask, kernel in parts), np.zeros(1)
    )


def errors_over_sigma(
    seed: int, flux: NDArray[np.float64], changed: Callable[[Image], Image]
) -> NDArray[np.float64]:
    """Errors of the positions of both axes in units of their sigmas, brightest stars first."""
    image, places = frame(seed, flux)
    stars = extract_centroids(changed(image)).centroids
    brightest = np.argsort(-flux)[: 2 * len(stars)]
    distance, nearest = cKDTree(places[brightest]).query(stars.xy + SIZE / 2)
    found = np.flatnonzero(distance < 1)
    found = found[np.argsort(-stars.brightness[found])]
    error = stars.xy[found] + SIZE / 2 - places[brightest][nearest[found]]
    return error / np.sqrt(np.diagonal(stars.position_cov[found], axis1=1, axis2=2))


def scale(errors: NDArray[np.float64]) -> float:
    """Standard deviation from the median, since light of neighbours makes outliers."""
    return float(1.4826 * np.median(np.abs(errors)))


@pytest.mark.parametrize("changed", [np.asarray, smoothed, resampled, demosaiced])
def test_errors_hold_whatever_was_done_to_the_pixels(changed: Callable[[Image], Image]) -> None:
    parts = [np.array_split(errors_over_sigma(seed, bright(seed), changed), 3) for seed in (1, 2)]
    for part in zip(*parts, strict=True):
        assert 0.7 < scale(np.concatenate(part)) < 1.4


def test_errors_hold_in_frames_full_of_stars() -> None:
    """Light of stars too faint to be found looks like correlated noise. It hardly moves stars."""
    flux = np.minimum(60 * np.random.default_rng(5).uniform(1e-5, 1, 9000) ** -1.25, 1e6)
    for part in np.array_split(errors_over_sigma(5, flux, np.asarray), 3):
        assert 0.7 < scale(part) < 1.4
