"""Positions of `extract_centroids` against the Cramer-Rao bound, on simulated fields."""

import numpy as np
import pytest

from boresight import CentroidFlags, ExtractionResult, extract_centroids
from boresight.simulate import simulate_tess_sector
from helpers import Array, field, match, pixel_gaussian

READ_NOISE, SKY = 10.0, 200.0


def bound(flux: float, fwhm: float, phase: tuple[float, float]) -> float:
    """Least standard deviation of x of a Gaussian star: Fisher information for x, y and flux."""
    half, step = 10, 1e-3
    shape = (2 * half + 1, 2 * half + 1)

    def model(dx: float, dy: float, f: float) -> Array:
        return pixel_gaussian(
            shape, np.array([half + dx]), np.array([half + dy]), np.array([f]), fwhm
        )

    x, y = phase
    light = model(x, y, flux)
    derivatives = [
        (model(x + step, y, flux) - model(x - step, y, flux)) / (2 * step),
        (model(x, y + step, flux) - model(x, y - step, flux)) / (2 * step),
        light / flux,
    ]
    weight = 1 / (light + SKY + READ_NOISE**2)
    fisher = [[np.sum(a * b * weight) for a in derivatives] for b in derivatives]
    return float(np.sqrt(np.linalg.inv(fisher)[0, 0]))


@pytest.mark.parametrize("fwhm", [1.5, 2.0, 3.0])
@pytest.mark.parametrize(("low", "high"), [(1.5e3, 5e3), (2e4, 5e4)])
def test_isolated_stars_reach_the_bound(fwhm: float, low: float, high: float) -> None:
    image, x, y, flux = field(
        20, shape=(700, 700), n=700, fwhm=fwhm, sky=SKY, read=READ_NOISE, low=low, high=high
    )
    result = extract_centroids(image.astype(np.float32), method="psf")
    found, true = match(result, x, y)
    assert len(found) > 0.97 * len(x)
    # The bound hardly depends on the phase, and goes as a power of the flux over so small a range.
    fluxes = np.geomspace(low, high, 4)
    phases = [(0.0, 0.0), (0.5, 0.5), (0.25, 0.25)]
    bounds = [np.mean([bound(f, fwhm, p) for p in phases]) for f in fluxes]
    expected = np.exp(np.interp(np.log(flux[true]), np.log(fluxes), np.log(bounds)))
    error = result.centroids.xy[found] + 350 - np.column_stack([x, y])[true]
    ratio = np.sqrt(np.mean((error / expected[:, None]) ** 2))
    assert ratio < 1.2
    assert np.abs(np.mean(error, axis=0)).max() < 0.2 * np.mean(expected)
    sigma = np.sqrt(result.centroids.position_cov[found][:, [0, 1], [0, 1]])
    assert 0.85 < np.std(error / sigma) < 1.15


def test_positions_do_not_depend_on_the_phase_in_the_pixel() -> None:
    image, x, y, _ = field(21, shape=(700, 700), n=700, fwhm=1.5, low=2e4, high=6e4)
    result = extract_centroids(image.astype(np.float32), method="psf")
    found, true = match(result, x, y)
    error = result.centroids.x[found] + 350 - x[true]
    phase = x[true] - np.rint(x[true])
    for low in np.arange(-0.5, 0.5, 0.25):
        inside = (phase >= low) & (phase < low + 0.25)
        assert abs(np.mean(error[inside])) < 0.004


@pytest.mark.parametrize("fwhm", [1.5, 1.9])
def test_few_dominant_stars_do_not_bias_positions_by_pixel_phase(fwhm: float) -> None:
    """Three stars hold nearly all the light; each is seen at one place in its pixel only."""
    shape, n = (900, 900), 1600
    _, x, y, _ = field(23, shape=shape, n=n, fwhm=fwhm)
    rng = np.random.default_rng(23)
    flux = SKY * rng.uniform(1e-5, 1, n) ** (-1 / 0.55)
    image = rng.poisson(SKY + pixel_gaussian(shape, x, y, flux, fwhm))
    result = extract_centroids((image + rng.normal(0, READ_NOISE, shape)).astype(np.float32))
    found, true = match(result, x, y)
    bright = flux[true] > 1e4
    error = (result.centroids.xy[found] + 450 - np.column_stack([x, y])[true])[bright]
    assert 1.48 * np.median(np.abs(error)) < 0.009


def brightest_of_tess(sector: int, count: int) -> tuple[ExtractionResult, Array, Array]:
    """Detections in a TESS-like frame, its brightest stars, and the errors of their positions."""
    frame = simulate_tess_sector(sector)
    result = extract_centroids(frame.image, sigma_threshold=100)
    brightest = frame.stars[np.argsort(-frame.stars.flux)[:count]]
    stars = np.column_stack([brightest.x, brightest.y])
    difference = result.centroids.xy[:, None] - stars
    nearest = np.argmin(np.linalg.norm(difference, axis=2), axis=0)
    return result, stars, difference[nearest, np.arange(count)]


def test_positions_of_comatic_stars_do_not_depend_on_the_phase_in_the_pixel() -> None:
    _, stars, error = brightest_of_tess(5, 300)
    near = np.linalg.norm(error, axis=1) < 0.02
    assert near.mean() > 0.85
    phase = np.exp(2j * np.pi * stars[near])
    assert np.abs(2 * np.mean(error[near] * phase, axis=0)).max() < 0.004


def test_a_lopsided_star_is_where_its_light_is() -> None:
    rng = np.random.default_rng(22)
    step, shape = 50, (600, 600)
    gx, gy = np.meshgrid(np.arange(30, 570, step), np.arange(30, 570, step))
    x, y = (g.ravel() + rng.uniform(-0.5, 0.5, g.size) for g in (gx, gy))
    flux = np.full(x.size, 4e4)
    # A fifth of the light 1.2 pixels to the right, the rest as much to the left as balances it.
    image = pixel_gaussian(shape, x - 0.24, y, 0.8 * flux, 2.0)
    image += pixel_gaussian(shape, x + 0.96, y, 0.2 * flux, 2.0)
    image = rng.poisson(image + SKY) + rng.normal(0, READ_NOISE, shape)
    bias = {}
    for method in ("psf", "window"):
        result = extract_centroids(image, method=method)
        found, true = match(result, x, y)
        assert len(found) == x.size
        bias[method] = np.mean(result.centroids.x[found] + 300 - x[true])
    assert abs(bias["psf"]) < 0.01
    assert abs(bias["window"]) > 0.02


@pytest.mark.parametrize("corner", [1.0, 1.5, 2.0])
def test_stars_that_are_wider_in_the_corners(corner: float) -> None:
    """No star is split, as a function that is the same everywhere does, and errors are honest."""
    rng = np.random.default_rng(26)
    gx, gy = np.meshgrid(np.arange(20, 880, 30), np.arange(20, 880, 30))
    x, y = (g.ravel() + rng.uniform(-3, 3, g.size) for g in (gx, gy))
    flux = 3e3 * rng.uniform(0.02, 1, x.size) ** -0.8
    fwhm = 2.0 + (corner - 1.0) * ((x - 450) ** 2 + (y - 450) ** 2) / 450**2
    image = np.zeros((900, 900))
    for k in range(x.size):
        one = slice(k, k + 1)
        image += pixel_gaussian(image.shape, x[one], y[one], flux[one], fwhm[k])
    image = rng.poisson(image + SKY) + rng.normal(0, READ_NOISE, image.shape)
    result = extract_centroids(image)
    assert result.psf == ("uniform" if corner == 1.0 else "varying")
    found, true = match(result, x, y)
    assert len(np.unique(true)) == x.size
    assert len(result.centroids) - x.size <= 0.005 * x.size
    error = result.centroids.xy[found] + 450 - np.column_stack([x, y])[true]
    pull = error / np.sqrt(result.centroids.position_cov[found][:, [0, 1], [0, 1]])
    assert 0.9 < np.std(pull) < 1.2
    assert 0.9 < np.std(pull[flux[true] > 8e3]) < 1.5


def test_a_function_may_fit_worse_before_it_fits_far_better() -> None:
    """Stars are comatic: the same function everywhere leaves 200 times their noise."""
    result, _, error = brightest_of_tess(4, 400)
    assert result.psf == "varying"
    assert np.median(np.linalg.norm(error, axis=1)) < 0.006


@pytest.mark.parametrize("distance", [2.5, 3.5])
def test_close_pairs_are_told_apart(distance: float) -> None:
    rng = np.random.default_rng(23)
    shape = (600, 600)
    gx, gy = np.meshgrid(np.arange(30, 570, 30), np.arange(30, 570, 30))
    n = gx.size
    x, y = (g.ravel() + rng.uniform(-0.5, 0.5, n) for g in (gx, gy))
    angle = rng.uniform(0, 2 * np.pi, n)
    pair = rng.uniform(size=n) < 0.3
    x2, y2 = (x + distance * np.cos(angle))[pair], (y + distance * np.sin(angle))[pair]
    allx, ally = np.concatenate([x, x2]), np.concatenate([y, y2])
    flux = np.concatenate([np.full(n, 2e4), np.full(pair.sum(), 8e3)])
    image = pixel_gaussian(shape, allx, ally, flux, 2.0) + SKY
    image = rng.poisson(image) + rng.normal(0, READ_NOISE, shape)
    result = extract_centroids(image, method="psf")
    found, true = match(result, allx, ally)
    assert len(found) > 0.95 * allx.size
    assert len(result.centroids) - len(found) <= 0.01 * allx.size
    error = result.centroids.xy[found] + 300 - np.column_stack([allx, ally])[true]
    faint = true >= n
    assert np.sqrt(np.mean(error[~faint] ** 2)) < 0.02
    assert np.sqrt(np.mean(error[faint] ** 2)) < 0.06
    assert np.all(result.centroids.flags[found][faint] & CentroidFlags.BLENDED)
    ratio = result.centroids.brightness[found] / flux[true]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.03)


def test_isolated_saturated_stars_are_fitted_by_their_wings() -> None:
    rng = np.random.default_rng(24)
    shape = (600, 600)
    gx, gy = np.meshgrid(np.arange(30, 570, 45), np.arange(30, 570, 45))
    x, y = (g.ravel() + rng.uniform(-0.5, 0.5, g.size) for g in (gx, gy))
    flux = np.where(np.arange(x.size) % 3 == 0, 1.5e6, 5e4)
    image = rng.poisson(pixel_gaussian(shape, x, y, flux, 2.0) + SKY)
    image = np.minimum(image + rng.normal(0, READ_NOISE, shape), 6e4)
    result = extract_centroids(image, method="psf")
    found, true = match(result, x, y)
    saturated = (result.centroids.flags[found] & CentroidFlags.SATURATED) != 0
    assert np.array_equal(saturated, flux[true] > 1e6)
    error = result.centroids.xy[found][saturated] + 300 - np.column_stack([x, y])[true][saturated]
    assert np.sqrt(np.mean(error**2)) < 0.02
    ratio = result.centroids.brightness[found][saturated] / 1.5e6
    assert np.median(ratio) == pytest.approx(1.0, abs=0.1)


def test_fast_and_window_find_the_same_bright_stars() -> None:
    image, x, y, _ = field(25, low=5e3)
    for options in ({"fast": True}, {"method": "window"}, {"fast": True, "method": "psf"}):
        result = extract_centroids(image, **options)  # type: ignore[arg-type]
        found, true = match(result, x, y)
        assert len(found) == len(result.centroids) == len(x)
        error = result.centroids.xy[found] + np.array([250, 200]) - np.column_stack([x, y])[true]
        assert np.sqrt(np.mean(error**2)) < 0.06


def test_a_star_on_a_nebula_has_its_own_background() -> None:
    # A bright ridge too narrow for the blocks in which the background is measured.
    image, x, y, flux = field(31, shape=(600, 600), n=300, fwhm=2.0, low=5e3, high=2e4)
    ridge = 150.0 * np.exp(-0.5 * ((np.arange(600) - 310.0) / 20.0) ** 2)
    image = image + np.random.default_rng(32).poisson(ridge[:, None], image.shape)
    result = extract_centroids(image)
    found, true = match(result, x, y)
    stars = result.centroids
    above = ridge[np.rint(y[true]).astype(int)]
    high = above > 140.0
    assert high.sum() > 8
    sky = np.median(stars.background[found][above < 1.0])
    on_mesh = result.background_map()[310].mean() - sky
    assert on_mesh < 90.0
    assert np.median(stars.background[found][high]) - sky == pytest.approx(145.0, abs=20.0)
    pull = (stars.brightness[found] - flux[true]) / stars.brightness_error[found]
    assert abs(np.median(pull[above < 1.0])) < 0.3
    # What the background of a star is still too low, the star is too bright.
    assert abs(np.median(pull[high])) < 1.5
    assert np.std(pull[high]) < 1.5


def roofs(shape: tuple[int, int]) -> Array:
    """Sky in the upper part of an image, below it roofs with edges and tiles."""
    row, column = np.mgrid[: shape[0], : shape[1]]
    tiles = np.where((row // 17 + column // 23) % 2 == 0, 20.0, 90.0)
    skyline = 0.8 * shape[0] + 25.0 * np.abs(column / 40 % 2 - 1) + 12.0 * np.sin(column / 7.3)
    return np.where(row > skyline, tiles, 100.0)


@pytest.mark.parametrize("seed", [40, 41])
def test_roofs_do_not_tell_the_shape_of_the_stars(seed: int) -> None:
    # More peaks than stars stand out from the noise of such a frame, and 8 bits saturate soon.
    rng = np.random.default_rng(seed)
    shape, n = (600, 600), 120
    x, y = rng.uniform(10, shape[1] - 10, n), rng.uniform(10, 0.75 * shape[0], n)
    flux = np.exp(rng.uniform(np.log(500), np.log(3500), n))
    light = pixel_gaussian(shape, x, y, flux, 2.4) + rng.normal(0, 8.0, shape)
    rms = {}
    for name, sky in (("roofs", roofs(shape)), ("nothing", np.full(shape, 100.0))):
        image = np.clip(np.rint(sky + light), 0, 255).astype(np.uint8)
        result = extract_centroids(image)
        found, true = match(result, x, y)
        assert len(found) > 0.95 * n
        stars = result.centroids[found]
        good = (flux[true] > 600.0) & ((stars.flags & CentroidFlags.SATURATED) == 0)
        error = stars.xy + 300 - np.column_stack([x, y])[true]
        rms[name] = np.sqrt(np.mean(error[good] ** 2))
    assert rms["nothing"] < 0.09
    assert rms["roofs"] < 1.15 * rms["nothing"]


@pytest.mark.parametrize("n", [9, 36])
@pytest.mark.parametrize(("fwhm", "tail"), [(2.0, 0.0), (2.0, 0.2), (3.0, 0.2)])
def test_few_faint_stars_are_placed_as_well_as_they_say(n: int, fwhm: float, tail: float) -> None:
    """Noise of a few stars is not taken for the shape of all."""
    pulls = []
    for seed in range(180 // n):
        rng = np.random.default_rng(seed)
        side = int(np.sqrt(n))
        step = 360 / side
        gy, gx = np.divmod(np.arange(n), side)
        x, y = (20 + (g + rng.uniform(0.2, 0.8, n)) * step for g in (gx, gy))
        # Signal to noise of 9 to 25, with wings of twice the width.
        noise = 17.0
        flux = rng.uniform(9, 25, n) * noise * np.sqrt(4 * np.pi) * (fwhm + 0.4) / 2.355
        image = pixel_gaussian((400, 400), x, y, (1 - tail) * flux, fwhm)
        image += pixel_gaussian((400, 400), x, y, tail * flux, 2 * fwhm)
        result = extract_centroids(rng.normal(image + 200.0, noise))
        found, true = match(result, x, y)
        assert len(found) >= n - 1
        error = result.centroids.xy[found] + 200 - np.column_stack([x, y])[true]
        sigma = np.sqrt(np.diagonal(result.centroids.position_cov[found], axis1=1, axis2=2))
        pulls.append(error / sigma)
    assert 0.85 < np.sqrt(np.mean(np.concatenate(pulls) ** 2)) < 1.15
