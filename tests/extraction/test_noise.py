"""Noise of every kind: its measured scale, and how often `extract_centroids` takes it for stars."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import zoom

from boresight import extract_centroids
from helpers import match, pixel_gaussian

SHAPE = (600, 700)
#: False stars allowed in a frame of noise: two in a million pixels are expected at most.
MOST_FALSE = 4

Array = npt.NDArray[np.float64]


def normal(seed: int, shape: tuple[int, int] = SHAPE) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def bytes_of(values: Array) -> npt.NDArray[np.uint8]:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def jpeg(pixels: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def num_false(image: npt.ArrayLike, **options: bool) -> int:
    return len(extract_centroids(image, **options).centroids)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("sigma", [0.2, 0.35, 0.5, 0.7, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("sky", [20.0, 20.5])
def test_integers_of_few_steps(sigma: float, sky: float, fast: bool) -> None:
    image = bytes_of(sky + sigma * normal(1))
    result = extract_centroids(image, fast=fast)
    assert len(result.centroids) <= MOST_FALSE
    assert result.noise == pytest.approx(max(float(image.std()), 12**-0.5), rel=0.08)
    assert result.background == pytest.approx(float(image.mean()), abs=0.03 * sigma + 0.03)


@settings(max_examples=12, deadline=None)
@given(
    step=st.floats(1e-6, 1e6),
    offset=st.floats(-100, 100),
    sigma=st.floats(0.6, 3.0),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_lattices_of_any_step(step: float, offset: float, sigma: float, dtype: type) -> None:
    steps = np.round(sigma * normal(2))
    image = (step * (steps + offset)).astype(dtype)
    result = extract_centroids(image)
    assert len(result.centroids) <= MOST_FALSE
    assert result.noise == pytest.approx(step * steps.std(), rel=0.08)


@pytest.mark.parametrize("mean", [0.03, 0.3, 1.0, 4.0, 30.0])
def test_counted_photons(mean: float) -> None:
    image = np.random.default_rng(3).poisson(mean, SHAPE).astype(np.uint16)
    assert num_false(image) <= MOST_FALSE


@pytest.mark.parametrize(
    ("sky", "sigma"),
    [(0.0, 2.0), (-2.0, 2.0), (2.0, 2.0), (254.0, 3.0), (256.0, 2.0), (-12.0, 12.0), (-7.5, 5.0)],
)
def test_noise_cut_off_by_the_converter(sky: float, sigma: float) -> None:
    assert num_false(bytes_of(sky + sigma * normal(4))) <= MOST_FALSE


@pytest.mark.parametrize("weights", [(0.2126, 0.7152, 0.0722), (1 / 3, 1 / 3, 1 / 3)])
@pytest.mark.parametrize("sky", [-1.0, -0.5, 0.0, 5.0])
@pytest.mark.parametrize("sigma", [2.0, 5.0, 12.0])
def test_grey_values_of_colours_that_are_cut_off(
    weights: tuple[float, float, float], sky: float, sigma: float
) -> None:
    """Of three colours few pixels have all at the floor, but their noise is skewed."""
    colours = [bytes_of(sigma * (sky + normal(seed))) for seed in (8, 9, 10)]
    assert num_false(np.tensordot(weights, colours, 1).astype(np.float32)) <= MOST_FALSE


@pytest.mark.parametrize("quality", [40, 50, 60, 75, 85, 95])
@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0, 8.0])
def test_jpeg(quality: int, sigma: float) -> None:
    assert num_false(jpeg(bytes_of(20.0 + sigma * normal(5)), quality)) <= MOST_FALSE


@pytest.mark.parametrize("quality", [40, 50, 60, 75])
def test_jpeg_of_any_sky(quality: int) -> None:
    """Blocks of which few are a step of JPEG's higher than the others, with noise on top."""
    skies = [12.0, 25.0, 27.3, 30.0, 31.0, 32.5, 40.0]
    images = [jpeg(bytes_of(s + n * normal(5)), quality) for s in skies for n in (1.5, 2.6, 3.2)]
    megapixels = len(images) * SHAPE[0] * SHAPE[1] / 1e6
    assert sum(num_false(image) for image in images) <= 2 * megapixels


@pytest.mark.parametrize(
    ("quality", "sky", "sigma"), [(45, 12.0, 0.7), (40, 61.5, 1.4), (40, 9.0, 3.0)]
)
def test_jpeg_of_two_levels(quality: int, sky: float, sigma: float) -> None:
    """Flat blocks of two levels, of which some parts of the frame have fewer than others."""
    assert num_false(jpeg(bytes_of(sky + sigma * normal(5, (1000, 1000))), quality)) <= MOST_FALSE


@pytest.mark.parametrize("quality", [40, 60, 75, 90])
@pytest.mark.parametrize(("sky", "sigma"), [(-0.5, 5.0), (-0.5, 8.0), (-1.0, 12.0), (0.5, 8.0)])
def test_jpeg_of_noise_that_is_cut_off(quality: int, sky: float, sigma: float) -> None:
    """Blocks with anything in them are rare, so that no quantile tells how high they reach."""
    assert num_false(jpeg(bytes_of(sigma * (sky + normal(5))), quality)) <= MOST_FALSE


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0])
def test_resampled_frames(factor: float) -> None:
    shape = (int(SHAPE[0] / factor), int(SHAPE[1] / factor))
    image = zoom(200.0 + 5.0 * normal(6, shape), factor, order=1)
    assert num_false(image) <= MOST_FALSE


@pytest.mark.parametrize("quality", [None, 95, 85, 75, 60, 50, 40])
def test_stars_outlive_eight_bits_and_jpeg(quality: int | None) -> None:
    rng = np.random.default_rng(7)
    x, y = rng.uniform(20, 680, 60), rng.uniform(20, 580, 60)
    stars = pixel_gaussian(SHAPE, x, y, np.full(60, 300.0), 2.5)
    image = bytes_of(3.0 + stars + 0.5 * normal(7))
    result = extract_centroids(image if quality is None else jpeg(image, quality))
    found, true = match(result, x, y, 1.5)
    assert len(set(true)) >= 55
    assert len(result.centroids) - len(found) <= (3 if quality is None or quality > 40 else 10)


def starry(
    seed: int, sensitivity: Array | float = 1.0, vignetting: float = 0.0
) -> tuple[Array, Array, Array]:
    """Light of stars and sky, and where the stars are."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(25, 680, 50), np.arange(25, 580, 50)), -1).reshape(-1, 2)
    x, y = (grid + rng.uniform(-8, 8, grid.shape)).T
    flux = 1000.0 * rng.uniform(0.03, 1, len(x)) ** -1.0
    columns = np.linspace(-1, 1, SHAPE[1])
    sky = 200.0 * (1 - vignetting * columns**2)
    return sensitivity * (sky + pixel_gaussian(SHAPE, x, y, flux, 2.8)), x, y


@pytest.mark.parametrize("vignetting", [0.0, 0.1])
@pytest.mark.parametrize(
    ("sensitivity", "offset"),
    [
        ([[0.6, 1.0], [1.0, 0.45]], [[0, 0], [0, 0]]),
        ([[1.0, 0.7], [1.0, 0.7]], [[0, 0], [0, 0]]),
        ([[1.0, 1.0], [1.0, 1.0]], [[0, 40], [0, 40]]),
        ([[1.0, 1.0], [1.0, 1.0]], [[5, 5], [-12, -12]]),
    ],
)
def test_mosaics_and_interleaved_columns(
    sensitivity: list[list[float]], offset: list[list[float]], vignetting: float
) -> None:
    tiles = SHAPE[0] // 2, SHAPE[1] // 2
    image, x, y = starry(8, np.tile(sensitivity, tiles), vignetting)
    image += np.tile(offset, tiles) + 5.0 * normal(8)
    result = extract_centroids(image)
    found, true = match(result, x, y)
    assert len(set(true)) >= len(x) - 2
    assert len(result.centroids) - len(found) <= 1
    stars = result.centroids[found]
    error = stars.xy + np.array([350, 300]) - np.column_stack([x, y])[true]
    sigma = np.sqrt(np.stack([stars.position_cov[:, 0, 0], stars.position_cov[:, 1, 1]], 1))
    assert 0.7 < np.median(np.abs(error / sigma)) / 0.6745 < 1.4


@settings(max_examples=15, deadline=None)
@given(
    power=st.integers(-90, 90),
    dtype=st.sampled_from([np.float32, np.float64]),
    method=st.sampled_from(["psf", "window"]),
    fast=st.booleans(),
)
def test_a_power_of_two_changes_the_units_alone(
    power: int, dtype: type, method: str, fast: bool
) -> None:
    image, _, _ = starry(9)
    image = (image[:300, :320] + 5.0 * normal(9, (300, 320))).astype(dtype)
    factor = 2.0**power
    before = extract_centroids(image, gain=1.0, method=method, fast=fast)
    after = extract_centroids(image * dtype(factor), gain=1.0 / factor, method=method, fast=fast)
    one, two = before.centroids, after.centroids
    assert len(one) > 20
    for name in ("x", "y", "position_cov", "cov", "sharpness", "num_pixels", "flags"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    for name in ("brightness", "brightness_error", "peak", "background"):
        assert np.array_equal(factor * getattr(one, name), getattr(two, name)), name
    assert after.threshold == factor * before.threshold
    assert after.noise == factor * before.noise


@settings(max_examples=8, deadline=None)
@given(exponent=st.floats(-30, 30))
def test_units_do_not_matter(exponent: float) -> None:
    image, _, _ = starry(10)
    image += 5.0 * normal(10)
    variance = np.full(SHAPE, 25.0)
    one = extract_centroids(image, variance=variance).centroids
    unit = 10.0**exponent
    two = extract_centroids(image * unit, variance=variance * unit * unit).centroids
    assert len(one) == len(two)
    assert np.allclose(one.xy, two.xy, atol=1e-3)
    assert np.allclose(one.snr, two.snr, rtol=1e-3)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(
    ("sky", "dtype"), [(0.0, np.float64), (100.0, np.float32), (1000.0, np.uint16)]
)
def test_every_star_of_a_frame_without_noise(sky: float, dtype: type, fast: bool) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        grid = np.stack(np.meshgrid(np.arange(30, 320, 60), np.arange(30, 250, 60)), -1)
        x, y = (grid.reshape(-1, 2)[rng.permutation(20)[:5]] + rng.uniform(-5, 5, (5, 2))).T
        flux = 10.0 ** rng.uniform(2.5, 5, 5)
        columns, rows = np.meshgrid(np.arange(320), np.arange(256))
        r2 = (columns - x[:, None, None]) ** 2 + (rows - y[:, None, None]) ** 2
        stars = flux[:, None, None] / (2 * np.pi) * np.exp(-0.5 * r2)
        image = sky + stars.sum(0)
        image = (np.round(image) if dtype is np.uint16 else image).astype(dtype)
        result = extract_centroids(image, fast=fast)
        found, true = match(result, x, y)
        assert len(result.centroids) == len(found) == len(set(true)) == 5
