"""Extraction side by side with SEP and tetra3rs, where they are installed.

    python benchmarks/extract.py [--stars 3000] [--fwhm 2.0] [--corner 1.0] [--repeat 9]

Simulates isolated or crowded fields, matches what each method finds with the truth, and prints the
root-mean-square position error in units of the Cramer-Rao bound by signal to noise, completeness,
purity, and the time relative to the slowest. Methods take turns, so that the machine's noise hits
them alike: compare ratios within one run, not times between runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import time
from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import erf

import boresight

SIZE, SKY, READ_NOISE, FULL_WELL = 2048, 200.0, 10.0, 6e4
BINS = [5, 10, 20, 50, 100, 200, 500]
Method = Callable[[np.ndarray], np.ndarray]


def profile(offset: np.ndarray, fwhm: np.ndarray, half: int) -> np.ndarray:
    """Fraction of a Gaussian's light in each pixel along one axis."""
    scale = np.sqrt(2) * fwhm[..., None] / np.sqrt(8 * np.log(2))
    d = np.arange(-half, half + 1) - offset[..., None]
    return 0.5 * (erf((d + 0.5) / scale) - erf((d - 0.5) / scale))


def simulate(
    rng: np.random.Generator, stars: int, fwhm_px: float, corner: float
) -> tuple[np.ndarray, np.ndarray]:
    """Frame in electrons, and truth with columns x, y, flux, bound, signal to noise, FWHM.

    Stars have the width `fwhm_px` in the middle and `corner` times that in the corners.
    """
    flux = 150.0 * rng.uniform(1e-5, 1, stars) ** (-1 / 0.55)
    xy = rng.uniform(8, SIZE - 9, (stars, 2))
    pixel = np.rint(xy).astype(int)
    fwhm = fwhm_px * (1 + (corner - 1) * np.sum((2 * xy / SIZE - 1) ** 2, axis=1) / 2)
    half, step = int(4 * fwhm_px * corner), 1e-3
    frac = xy - pixel
    px, py = profile(frac[:, 0], fwhm, half), profile(frac[:, 1], fwhm, half)
    image = np.full((SIZE, SIZE), SKY)
    truth = np.empty((stars, 6))
    dx = (profile(frac[:, 0] + step, fwhm, half) - profile(frac[:, 0] - step, fwhm, half)) / 2e-3
    dy = (profile(frac[:, 1] + step, fwhm, half) - profile(frac[:, 1] - step, fwhm, half)) / 2e-3
    for i in range(stars):
        stamp = np.outer(py[i], px[i])
        weight = 1 / (flux[i] * stamp + SKY + READ_NOISE**2)
        derivatives = np.stack(
            [flux[i] * np.outer(py[i], dx[i]), flux[i] * np.outer(dy[i], px[i]), stamp]
        ).reshape(3, -1)
        cov = np.linalg.inv((derivatives * weight.ravel()) @ derivatives.T)
        bound = np.sqrt((cov[0, 0] + cov[1, 1]) / 2)
        truth[i] = *xy[i], flux[i], bound, flux[i] / np.sqrt(cov[2, 2]), fwhm[i]
        (c, r), lo, hi = pixel[i], -half, half + 1
        rows, cols = slice(max(r + lo, 0), r + hi), slice(max(c + lo, 0), c + hi)
        image[rows, cols] += (flux[i] * stamp[max(-(r + lo), 0) :, max(-(c + lo), 0) :])[
            : SIZE - rows.start, : SIZE - cols.start
        ]
    image = rng.poisson(image) + rng.normal(0, READ_NOISE, image.shape)
    return np.minimum(image, FULL_WELL).astype(np.float32), truth


def methods(fwhm: float) -> dict[str, Method]:
    """Name and function of every method at hand: from an image to positions (n, 2)."""

    def own(**options: object) -> Method:
        return lambda image: boresight.extract_centroids(image, **options).centroids.xy + SIZE / 2

    found: dict[str, Method] = {
        "boresight psf": own(method="psf"),
        "boresight window": own(method="window"),
        "boresight fast": own(fast=True),
    }
    if importlib.util.find_spec("sep"):
        import sep

        sep.set_extract_pixstack(3_000_000)
        sep.set_sub_object_limit(8192)

        def extract(image: np.ndarray, refine: bool) -> np.ndarray:
            background = sep.Background(image)
            data = image - background.back()
            objects = sep.extract(data, 1.5, err=background.globalrms, minarea=5)
            x, y = objects["x"], objects["y"]
            if refine:
                x, y, _ = sep.winpos(data, x, y, np.full(len(x), fwhm / 2.3548))
            return np.column_stack([x, y])

        found["sep"] = lambda image: extract(image, False)
        found["sep winpos"] = lambda image: extract(image, True)
    if importlib.util.find_spec("tetra3rs"):
        import tetra3rs

        def peer(function: Callable[..., object]) -> Method:
            # Its origin is the middle of the middle pixels.
            return lambda image: (
                np.array([(c.x, c.y) for c in function(image).centroids]) + (SIZE - 1) / 2
            )

        found["tetra3rs"] = peer(tetra3rs.extract_centroids)
        found["tetra3rs fast"] = peer(tetra3rs.extract_centroids_fast)
    return found


def score(positions: np.ndarray, truth: np.ndarray, saturated: np.ndarray) -> str:
    """Error over the bound and completeness in each bin, and purity."""
    positions = positions[np.isfinite(positions).all(axis=1)]
    near, star = cKDTree(truth[:, :2]).query(positions, distance_upper_bound=1.5)
    back = cKDTree(positions).query(truth[:, :2])[1]
    hit = np.flatnonzero(np.isfinite(near))
    hit = hit[back[star[hit]] == hit]
    star = star[hit]
    cells = []
    for low, high in itertools.pairwise(BINS):
        inside = (truth[:, 4] >= low) & (truth[:, 4] < high) & ~saturated
        keep = inside[star]
        error = near[hit][keep] / np.sqrt(2) / truth[star[keep], 3]
        rms = np.sqrt(np.mean(error**2)) if error.size else np.nan
        cells.append(f"{rms:5.2f} {100 * keep.sum() / max(inside.sum(), 1):3.0f}%")
    return " ".join(cells) + f"  {100 * len(hit) / max(len(positions), 1):6.2f}%"


def main() -> None:
    """Simulate, run the methods in turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, default=3000)
    parser.add_argument("--fwhm", type=float, default=2.0)
    parser.add_argument("--corner", type=float, default=1.0, help="width in the corners, relative")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    image, truth = simulate(rng, options.stars, options.fwhm, options.corner)
    peak = profile(np.zeros(options.stars), truth[:, 5], 0)[:, 0] ** 2
    saturated = truth[:, 2] * peak + SKY > 0.98 * FULL_WELL
    run = methods(options.fwhm)
    times: dict[str, list[float]] = {name: [] for name in run}
    results = {name: method(image) for name, method in run.items()}
    order = np.random.default_rng(0)
    for _ in range(options.repeat):
        for name in order.permutation(list(run)):
            start = time.perf_counter()
            run[name](image)
            times[name].append(time.perf_counter() - start)
    slowest = max(np.median(t) for t in times.values())
    widths = f"FWHM {options.fwhm} px, in the corners {options.corner * options.fwhm} px"
    print(f"{options.stars} stars of {widths}: error / bound, completeness")
    print(
        f"{'':18s}"
        + " ".join(f"{f'{a}-{b}':>10s}" for a, b in itertools.pairwise(BINS))
        + "   purity   median ms  of slowest"
    )
    for name, positions in results.items():
        median = np.median(times[name])
        quality = score(positions, truth, saturated)
        print(f"{name:18s}{quality}  {1e3 * median:8.1f}  {median / slowest:8.3f}")


if __name__ == "__main__":
    main()
