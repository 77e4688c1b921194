"""Calibration of simulated frames with known truth: how right it is, how sure, and how fast.

    python benchmarks/calibrate.py [FOLDER] [--order 7] [--repetitions 3]
    python benchmarks/calibrate.py --many

The first prints the sky errors of ten frames, from true positions with noise and from extracted
stars, and the times. FOLDER holds frames as FITS files with their times in the headers, each with a
.npz of the same name beside it: `x`, `y` (0-based pixels), `ra`, `dec` (degrees, at the frame's
time), `flux` and `jyear` of stars, and `grid_x`, `grid_y`, `grid_ra`, `grid_dec` of points in which
errors are measured. Without it ten frames are simulated. The second prints how time and memory of
the fits grow with the number of frames.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import boresight
from boresight import CameraModel, Catalog, Centroids, PolynomialDistortion, read_frame
from boresight.simulate import TESS_SECTORS, simulate_tess_sector

Floats = NDArray[np.float64]

FOV_DEG = 11.8
EXTRACTION = {"sigma_threshold": 100, "local_bg_block_size": 32}
NUM_TRUE, TRUE_NOISE_PX, WRONG, WRONG_PX = 400, 0.011, 0.05, 10.0
"""True positions: the brightest stars of the catalogue, their noise, and how many are how wrong."""


@dataclass
class Truth:
    """A frame's stars, and the sky in a grid of its pixels."""

    image: NDArray[Any]
    mask: NDArray[np.bool_] | None
    time: Any
    stars: Floats  # x, y, flux
    grid: Floats  # x, y
    sky: Floats  # ra, dec


def from_folder(folder: Path) -> Iterator[Truth]:
    """Read frames with the truth beside them."""
    catalog = Catalog.hipparcos()
    for path in sorted(folder.glob("*.fits")):
        frame = read_frame(path)
        with np.load(path.with_suffix(".npz")) as file:
            data = dict(file)
        middle = np.array(frame.image_shape[::-1]) / 2.0
        zeros = np.zeros(len(data["ra"]))
        stars = Catalog(zeros, data["ra"], data["dec"], zeros)
        known = stars.match(catalog.at_epoch(float(data["jyear"])), 2.0) >= 0
        xy = np.column_stack([data["x"], data["y"]]) - middle
        yield Truth(
            frame.image,
            frame.mask,
            frame.time,
            np.column_stack([xy, data["flux"]])[known],
            np.column_stack([data["grid_x"], data["grid_y"]]) - middle,
            np.column_stack([data["grid_ra"], data["grid_dec"]]),
        )


def simulated() -> Iterator[Truth]:
    """Simulate ten frames."""
    for sector in TESS_SECTORS:
        truth = simulate_tess_sector(sector)
        height, width = truth.image.shape
        x, y = (
            g.ravel()
            for g in np.meshgrid(
                np.linspace(0, width - 1, 50) - width / 2,
                np.linspace(0, height - 1, 50) - height / 2,
            )
        )
        stars = truth.stars[truth.stars.catalog_id > 0]
        yield Truth(
            truth.image,
            None,
            TESS_SECTORS[sector][3],
            np.column_stack([stars.x, stars.y, stars.flux]),
            np.column_stack([x, y]),
            np.column_stack(truth.pixel_to_world(x, y)),
        )


def true_positions(truth: Truth, rng: np.random.Generator) -> Centroids:
    """Take the brightest stars, with noise, and make some of them wrong."""
    height, width = truth.image.shape
    on = np.abs(truth.stars[:, :2] + 0.5) < [width / 2, height / 2]
    stars = truth.stars[on.all(axis=1)]
    x, y, flux = stars[np.argsort(-stars[:, 2])[:NUM_TRUE]].T
    wrong = rng.random(len(x)) < WRONG

    def moved(c: Floats) -> Floats:
        noise = rng.normal(0.0, TRUE_NOISE_PX, len(c))
        return c + noise + wrong * rng.uniform(-WRONG_PX, WRONG_PX, len(c))

    return Centroids(x=moved(x), y=moved(y), brightness=flux)


def least_time(function: Callable[[], Any], repetitions: int) -> tuple[Any, float, float]:
    """Tell what a function returns, and its least CPU and wall times in seconds."""
    cpu, wall = [], []
    for _ in range(repetitions):
        begin = time.process_time(), time.perf_counter()
        result = function()
        cpu.append(time.process_time() - begin[0])
        wall.append(time.perf_counter() - begin[1])
    return result, min(cpu), min(wall)


def errors(result: boresight.CalibrationResult, truths: list[Truth]) -> tuple[Floats, Floats]:
    """Sky errors in arcsec, and over the reported sigma, shape (frames, points)."""
    lengths, ratios = [], []
    for solution, truth in zip(result.solutions, truths, strict=True):
        assert solution is not None
        ra, dec, cov = solution.pixel_to_world(*truth.grid.T, return_cov=True)
        east = ((ra - truth.sky[:, 0] + 180) % 360 - 180) * np.cos(np.radians(dec))
        lengths.append(3600.0 * np.hypot(east, dec - truth.sky[:, 1]))
        ratios.append(lengths[-1] / np.sqrt(np.trace(cov, axis1=1, axis2=2)))
    return np.array(lengths), np.array(ratios)


def rms(values: Floats, axis: int | None = None) -> Any:
    """Root of the mean square."""
    return np.sqrt(np.mean(values**2, axis=axis))


def accuracy(truths: list[Truth], order: int, repetitions: int) -> None:
    """Print a row for each kind of positions and each model."""
    times = [truth.time for truth in truths]
    height, width = truths[0].image.shape
    rng = np.random.default_rng(5)
    extracted = [
        boresight.extract_centroids(t.image, mask=t.mask, **EXTRACTION).centroids for t in truths
    ]
    kinds = {"true": [true_positions(truth, rng) for truth in truths], "extracted": extracted}
    models: list[dict[str, Any]] = [
        {"order": order},
        {"model": "radial"},
        {"order": "auto"},
        {"model": "auto"},
    ]
    print(
        "| positions | asked | found | RMS | max | worst frame | axis, 0-based px | stars used "
        "| error / sigma | CPU s | wall s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")

    def calibrated(stars: list[Centroids], **options: Any) -> boresight.CalibrationResult:
        options |= {"image_shape": (height, width), "fov_estimate_deg": FOV_DEG}
        return boresight.calibrate(stars, **options)

    for kind, stars in kinds.items():
        for options in models:
            result, cpu, wall = least_time(
                lambda stars=stars, options=options: calibrated(stars, times=times, **options),
                repetitions,
            )
            lengths, ratios = errors(result, truths)
            camera = result.camera_model
            distortion = {} if camera.distortion is None else camera.distortion.to_dict()
            axis = np.array(camera.optical_center) + np.array([width, height]) / 2.0
            given = (
                sum(map(len, stars)) if kind == "true" else result.num_inliers + result.num_outliers
            )
            columns = [
                kind,
                " ".join(f"{name} {value}" for name, value in options.items()),
                f"{distortion.get('model', 'pinhole')} {distortion.get('order', '')}",
                f"{rms(lengths):.3f}",
                f"{lengths.max():.2f}",
                f"{rms(lengths, axis=1).max():.3f}",
                f"{axis[0]:.1f}, {axis[1]:.1f}" if distortion.get("model") == "radial" else "",
                f"{result.num_inliers} of {given}",
                f"{rms(ratios):.2f}",
                f"{cpu:.2f}",
                f"{wall:.2f}",
            ]
            print("|", " | ".join(columns), "|", flush=True)
    alone = []
    for truth, stars, when in zip(truths, extracted, times, strict=True):
        lengths, _ = errors(calibrated([stars], times=[when]), [truth])
        alone.append(rms(lengths))
    print(f"\nOne frame alone, order auto: RMS {min(alone):.2f} to {max(alone):.2f} arcsec")


def solved_frames(count: int, stars: int = 500) -> tuple[CameraModel, list[Any], list[Floats]]:
    """Frames in all directions by a camera with distortion, their stars with 0.02 px of noise."""
    rng = np.random.default_rng(1)
    terms = rng.normal(0.0, 0.5, (2, 21))
    terms[:, :3] = 0.0
    camera = CameraModel.from_fov(
        12.0, (1024, 1024), distortion=PolynomialDistortion(5, 512.0, *terms)
    )
    solutions, positions = [], []
    for _ in range(count):
        w, x, y, z = quaternion = rng.normal(size=4)
        w, x, y, z = quaternion / np.linalg.norm(quaternion)
        turn = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        xy = rng.uniform(-512, 512, (stars, 2))
        directions = camera.pixel_to_direction(*xy.T) @ turn  # to the sky by the inverse
        measured = xy + rng.normal(0.0, 0.02, xy.shape)
        solutions.append(boresight.MatchedStars(measured, directions, camera, [w, x, y, z]))
        positions.append(measured)
    return camera, solutions, positions


def growth(repetitions: int) -> None:
    """Print how time and memory grow with the number of frames."""
    print("| frames | steps | joint fit, CPU ms per frame | round of blocks | bytes of the sum |")
    print("|---|---|---|---|---|")
    for count in (10, 100, 1000):
        camera, solutions, positions = solved_frames(count)
        fit, joint, _ = least_time(
            lambda s=solutions, p=positions: boresight.calibrate_camera(s, p, order=5), repetitions
        )
        block, part, _ = least_time(
            lambda s=solutions, p=positions, c=camera: boresight.calibration_block(
                s, p, c, noise=0.02
            ),
            repetitions,
        )
        columns = [
            f"{count}",
            f"{fit.iterations}",
            f"{1e3 * joint / count:.2f}",
            f"{1e3 * part / count:.2f}",
            f"{len(block.to_bytes())}",
        ]
        print("|", " | ".join(columns), "|", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--order", type=int, default=7)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--many", action="store_true", help="the growth with the number of frames")
    given = parser.parse_args()
    if given.many:
        growth(given.repetitions)
        return
    truths = list(from_folder(given.folder) if given.folder else simulated())
    accuracy(truths, given.order, given.repetitions)


if __name__ == "__main__":
    main()
