"""Hot pixels, saturation, trails, rings, beams and stripes: what is on frames besides stars."""

import signal
import threading
import time

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from boresight import CentroidFlags, extract_centroids
from helpers import field, match, pixel_gaussian

Array = npt.NDArray[np.float64]
MARGIN = 60


def stars(rng: np.random.Generator, shape: tuple[int, int], step: int) -> tuple[Array, Array]:
    """Places on a loose grid, away from the edges."""
    rows, cols = (np.arange(MARGIN, n - MARGIN, step) for n in shape)
    gx, gy = np.meshgrid(cols, rows)
    return tuple(g.ravel() + rng.uniform(-0.15 * step, 0.15 * step, g.size) for g in (gx, gy))


def with_hot_pixels(rng: np.random.Generator, image: Array, count: int, least: float) -> Array:
    """The image with so many pixels raised by at least so much."""
    hot = image.copy()
    hot.ravel()[rng.choice(hot.size, count, replace=False)] += least + rng.exponential(60.0, count)
    return hot


@pytest.mark.parametrize("fwhm", [2.2, 3.0, 6.0])
@pytest.mark.parametrize("count", [60, 600])
@pytest.mark.parametrize("bits", [8, 16])
def test_hot_pixels_do_not_draw_positions(fwhm: float, count: int, bits: int) -> None:
    rng = np.random.default_rng(50)
    shape = (600, 800)
    x, y = stars(rng, shape, 40)
    flux = np.exp(rng.uniform(np.log(200), np.log(4000), x.size)) * fwhm**2 / 9
    image = pixel_gaussian(shape, x, y, flux, fwhm) + rng.normal(12.0, 2.0, shape)
    error, found = {}, {}
    for number in (0, count):
        hot = with_hot_pixels(rng, image, number, 10.0)
        read = np.clip(np.rint(hot * 2 ** (bits - 8)), 0, 2**bits - 1).astype(f"u{bits // 8}")
        result = extract_centroids(read)
        near, true = match(result, x, y, 1.5)
        offset = result.centroids.xy[near] + [400, 300] - np.column_stack([x, y])[true]
        error[number] = np.sqrt(np.median(np.sum(offset**2, axis=1)))
        found[number] = len(near)
        assert result.psf in ("uniform", "varying", "gaussian")
        # Positions neither seek the middles of pixels nor avoid them.
        near_middle = np.abs(result.centroids.xy - np.rint(result.centroids.xy)) < 0.1
        assert 0.5 < np.mean(near_middle) / 0.2 < 1.6
    assert found[count] >= 0.97 * found[0]
    assert error[count] <= 1.1 * error[0] + 0.002


def test_many_hot_pixels_leave_the_stars() -> None:
    rng = np.random.default_rng(51)
    image, x, y, _ = field(51, shape=(600, 800), n=300, fwhm=2.0, low=2e3, high=1e5)
    hot = rng.choice(image.size, int(0.006 * image.size), replace=False)
    image.ravel()[hot] = rng.uniform(1e3, 6e4, hot.size)
    result = extract_centroids(image)
    found, true = match(result, x, y)
    assert len(set(true)) >= 0.97 * len(x)
    assert len(result.centroids) - len(found) <= 0.02 * len(x)
    assert result.rejected["sharp"] > 0.85 * hot.size


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("method", ["psf", "window"])
def test_hot_columns_and_rows_are_no_stars(axis: int, method: str) -> None:
    rng = np.random.default_rng(53)
    shape = (600, 800)
    x, y = stars(rng, shape, 50)
    flux = np.exp(rng.uniform(np.log(1e3), np.log(3e4), x.size))
    image = pixel_gaussian(shape, x, y, flux, 2.4) + rng.normal(100.0, 4.0, shape)
    lines = np.moveaxis(image, axis, 0)  # Whole lines, and lines that begin in the middle.
    across = rng.choice(np.arange(5, lines.shape[1] - 5, 7), 12, replace=False)
    for k, place in enumerate(across):
        lines[(k % 2) * lines.shape[0] // 2 :, place] += 4.0 * rng.uniform(8.0, 200.0)
    result = extract_centroids(image, method=method)
    found, true = match(result, x, y)
    assert len(result.centroids) - len(found) <= 1
    place = (x, y)[1 - axis]
    clear = np.min(np.abs(place[:, None] - across), axis=1) > 4
    assert clear.sum() > 80
    assert len(set(true) & set(np.flatnonzero(clear))) >= 0.98 * clear.sum()


@pytest.mark.parametrize("axis", [0, 1])
def test_narrow_trails_along_columns_and_rows_are_kept(axis: int) -> None:
    rng = np.random.default_rng(54)
    shape = (600, 800)
    x, y = stars(rng, shape, 60)
    image = rng.normal(100.0, 4.0, shape)
    flux = np.exp(rng.uniform(np.log(300), np.log(3e4), x.size))
    for shift in np.linspace(-10.0, 10.0, 41):
        along = (shift, 0.0) if axis else (0.0, shift)
        image += pixel_gaussian(shape, x + along[0], y + along[1], flux / 10, 1.3)
    _, true = match(extract_centroids(image), x, y, 1.5)
    assert len(set(true)) >= 0.97 * len(x)


def test_a_star_beside_a_hot_pixel_is_kept_without_it() -> None:
    image, x, y, _ = field(52, n=80, fwhm=2.5, low=1e4, high=3e4)
    hot = image.copy()
    beside = [(1, 0), (0, 2), (-2, -1), (3, 1)]
    for k, (i, j) in enumerate(
        zip(np.rint(x[:40]).astype(int), np.rint(y[:40]).astype(int), strict=True)
    ):
        dx, dy = beside[k % 4]
        hot[j + dy, i + dx] += 3e4
    clean, result = extract_centroids(image), extract_centroids(hot)
    at = {}
    for name, r in (("clean", clean), ("hot", result)):
        found, true = match(r, x, y)
        assert sorted(true) == list(range(len(x)))
        at[name] = r.centroids[found[np.argsort(true)]]
    moved = np.hypot(*(at["hot"].xy - at["clean"].xy).T)[:40]
    sigma = np.sqrt(np.trace(at["clean"].position_cov, axis1=1, axis2=2))[:40]
    assert np.median(moved / sigma) < 1.0
    assert moved.max() < 0.15
    masked = (at["hot"].flags & CentroidFlags.MASKED) != 0
    assert masked[:40].mean() > 0.7
    assert not masked[40:].any()


@pytest.mark.parametrize("options", [{}, {"method": "window"}, {"fast": True}])
def test_saturated_stars_come_first_and_in_their_order(options: dict[str, object]) -> None:
    rng = np.random.default_rng(53)
    shape = (700, 900)
    x, y = stars(rng, shape, 45)
    flux = np.exp(rng.uniform(np.log(3e3), np.log(3e6), x.size))
    image = rng.poisson(pixel_gaussian(shape, x, y, 0.8 * flux, 2.3) + 60.0).astype(float)
    image += pixel_gaussian(shape, x, y, 0.2 * flux, 5.0)
    stretched = np.clip((image - 50.0) / 4, 0, 255).astype(np.uint8)
    result = extract_centroids(stretched, **options)  # type: ignore[arg-type]
    found, true = match(result, x, y, 1.5)
    saturated = (result.centroids.flags[found] & CentroidFlags.SATURATED) != 0
    assert 0.3 < saturated.mean() < 0.95
    assert len(found) > 0.95 * x.size
    order = np.argsort(np.argsort(-flux[true]))
    # The place of a star in the list is that of its light, but for its neighbours in it.
    assert np.corrcoef(order, np.arange(order.size))[0, 1] > 0.97
    assert flux[true[:20]].min() > np.quantile(flux, 0.8)


def drawn(
    kernel: Array, seed: int, shape: tuple[int, int] = (600, 800), step: int = 75
) -> tuple[Array, Array, Array]:
    """Stars of the shape of a kernel on noise, and their places."""
    rng = np.random.default_rng(seed)
    x, y = stars(rng, shape, step)
    flux = np.exp(rng.uniform(np.log(1e4), np.log(8e4), x.size))
    image = np.full(shape, 200.0)
    half = kernel.shape[0] // 2
    for cx, cy, f in zip(x, y, flux, strict=True):
        ix, iy = int(cx), int(cy)
        fx, fy = cx - ix, cy - iy
        for dx, dy, part in (
            (0, 0, (1 - fx) * (1 - fy)),
            (1, 0, fx * (1 - fy)),
            (0, 1, (1 - fx) * fy),
            (1, 1, fx * fy),
        ):
            rows = slice(iy + dy - half, iy + dy + half + 1)
            image[rows, ix + dx - half : ix + dx + half + 1] += f * part * kernel
    return rng.poisson(image) + rng.normal(0, 5.0, shape), x, y


def trail(length: float, angle: float) -> Array:
    """Light of a star that moved evenly along a line."""
    half = 42
    grid = np.zeros((2 * half + 1, 2 * half + 1))
    for t in np.linspace(-length / 2, length / 2, int(8 * length) + 1):
        px, py = half + t * np.cos(angle), half + t * np.sin(angle)
        i, j = int(px), int(py)
        fx, fy = px - i, py - j
        grid[j : j + 2, i : i + 2] += np.outer([1 - fy, fy], [1 - fx, fx])
    grid = gaussian_filter(grid, 0.9)
    return grid / grid.sum()


def ring(radius: float, hole: float) -> Array:
    """Light of a star out of focus behind an obstructed aperture."""
    y, x = np.mgrid[-28:29, -28:29]
    r = np.hypot(x, y)
    light = gaussian_filter(((r <= radius) & (r >= hole)).astype(float), 0.8)
    return light / light.sum()


def check_middles(image: Array, x: Array, y: Array, trailed: bool, **options: bool) -> None:
    """One star for each image, at its middle within the error that it says."""
    result = extract_centroids(image, **options)  # type: ignore[arg-type]
    height, width = image.shape
    xy = result.centroids.xy + np.array([width / 2, height / 2])
    distance, nearest = cKDTree(np.column_stack([x, y])).query(xy)
    good = distance < 4.0
    assert len(np.unique(nearest[good])) == good.sum() >= 0.97 * x.size
    assert (~good).sum() <= 0.02 * x.size
    offset = (xy - np.column_stack([x, y])[nearest])[good]
    inverse = np.linalg.inv(result.centroids.position_cov[good])
    pull = np.sqrt(np.einsum("ni,nij,nj->n", offset, inverse, offset) / 2)
    # The median of a Rayleigh distribution is 0.83 of its sigma times the root of two.
    assert 0.6 < np.median(pull) < 1.3
    assert np.all(((result.centroids.flags & CentroidFlags.TRAILED) != 0) == trailed)
    assert np.all(np.diff(result.centroids.brightness) <= 0)


@pytest.mark.parametrize("length", [16, 25, 41, 60])
@pytest.mark.parametrize("angle", [0.0, 0.6, np.pi / 2, 2.4])
def test_a_trail_is_one_star_at_its_middle(length: float, angle: float) -> None:
    image, x, y = drawn(trail(length, angle), 54, step=75 if length < 50 else 105)
    check_middles(image, x, y, True)


@pytest.mark.parametrize(("radius", "hole"), [(5, 2), (8, 4), (8, 0), (13, 6)])
def test_a_star_out_of_focus_is_one_star_at_its_middle(radius: float, hole: float) -> None:
    image, x, y = drawn(ring(radius, hole), 55)
    check_middles(image, x, y, False)


def test_trails_and_rings_in_a_hurry() -> None:
    for kernel, trailed in ((trail(30, 1.0), True), (ring(9, 4), False)):
        image, x, y = drawn(kernel, 56)
        check_middles(image, x, y, trailed, fast=True)


def test_bleeding_stars_are_no_trails() -> None:
    image, x, y, _ = field(57, shape=(600, 600), n=200)
    for cx, cy in zip(x[::10], y[::10], strict=True):
        image[max(int(cy) - 20, 0) : int(cy) + 21, round(cx)] = 6e4
    result = extract_centroids(np.minimum(image, 6e4))
    assert not np.any(result.centroids.flags & CentroidFlags.TRAILED)
    found, _ = match(result, x, y, 1.5)
    assert len(found) >= 0.9 * len(x)


def test_beams_and_lamps_are_one_detection_or_none() -> None:
    rng = np.random.default_rng(58)
    y, x = np.mgrid[:600, :800]
    noise = rng.normal(100, 3, x.shape)
    beam = 3000 * np.exp(-(((x - 0.6 * y - 200) / 25) ** 2))
    lamp = np.where(np.hypot(x - 300, y - 250) < 45, 4000.0, 0.0)
    glare = 2500 * np.exp(-np.hypot(x - 500, y - 300) / 30)
    for light in (beam, lamp, glare, np.minimum(glare, 1500.0)):
        for options in ({}, {"fast": True}):
            result = extract_centroids(rng.poisson(light) + noise, **options)  # type: ignore[arg-type]
            assert len(result.centroids) <= 1


def test_stars_in_front_of_a_glow_are_kept() -> None:
    image, x, y, _ = field(59, shape=(600, 600), n=250, low=1e4, high=1e5)
    ry, rx = np.mgrid[:600, :600]
    glow = 600 * np.exp(-(((rx - 300) / 90) ** 2) - ((ry - 300) / 60) ** 2)
    bright = image + np.random.default_rng(59).poisson(glow)
    plain, glowing = (match(extract_centroids(i), x, y)[1] for i in (image, bright))
    assert len(set(glowing)) >= 0.97 * len(set(plain))


@pytest.mark.parametrize("period", [2, 7, 12])
def test_stripes_and_lattices_end_and_say_what_was_measured(period: int) -> None:
    y, x = np.mgrid[:256, :320]
    noise = np.random.default_rng(60).normal(0, 1, x.shape)
    for pattern in (x // (period // 2) % 2, (x // (period // 2) + y // (period // 2)) % 2):
        result = extract_centroids(100.0 * pattern + noise)
        assert result.psf in ("uniform", "varying", "gaussian", None)
        assert np.all(np.isfinite(result.centroids.xy))


def test_what_was_fitted_is_told() -> None:
    image, *_ = field(61, n=120)
    assert extract_centroids(image).psf == "uniform"
    assert extract_centroids(image, method="window").psf is None
    assert extract_centroids(image, fast=True).psf is None
    few, *_ = field(61, shape=(120, 120), n=4)
    assert extract_centroids(few).psf == "gaussian"
    nothing_but_hot = np.random.default_rng(62).normal(100, 3, (300, 300))
    nothing_but_hot[5::11, 7::13] += 500.0
    result = extract_centroids(nothing_but_hot)
    assert result.psf == "gaussian"
    assert len(result.centroids) == 0


def test_a_signal_is_heard() -> None:
    # As Ctrl-C; long enough a frame for it to come while it is worked on.
    frames = [np.random.default_rng(63).exponential(1000.0, (1500, 2000)).astype(np.float32)] * 200
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(map(extract_centroids, frames))
    timer.join()
    assert time.monotonic() - start < 20.0
