"""`boresight demo`: solving and calibration from beginning to end on simulated frames."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from boresight._utils.files import replacing
from boresight.cli.options import clear_errors

if TYPE_CHECKING:
    from rich.console import Console

    from boresight.calibration.result import CalibrationResult
    from boresight.extraction.centroids import Centroids
    from boresight.frames.frame import Frame
    from boresight.solver.solution import Solution

__all__ = ["run"]

#: Largest mean separation from the true WCS at the centre, in arcsec, with which the demo passes.
GOAL_ARCSEC = 0.5

#: Detection threshold, in standard deviations, for the deep, crowded frames. It can be high because
#: the stars of the catalogue are bright.
SIGMA_THRESHOLD = 300.0


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for the frames and the figure.",
)
@click.option("--binning", type=int, default=1, help="Pixels of the detector per image pixel.")
@clear_errors
def demo(output: Path, binning: int) -> None:
    """Simulate ten frames, solve them and calibrate their camera."""
    raise SystemExit(0 if run(output, binning=binning) else 1)


def run(folder: Path, *, binning: int = 1) -> bool:
    """Simulate ten sectors of a TESS-like camera, solve and calibrate them, and print the errors.

    Parameters
    ----------
    folder : pathlib.Path
        Folder for the frames and the figure, created if needed.
    binning : int
        Detector pixels per side of an image pixel; the detector has 2048 x 2048. A larger number is
        faster.

    Returns
    -------
    bool
        True if every frame is solved and the centres agree with the WCS of the headers.
    """
    from rich.console import Console

    from boresight.apparent.aberration import earth_barycentric_velocity
    from boresight.calibration.calibrate import calibrate
    from boresight.solver_database import SolverDatabase

    console = Console(width=100, highlight=False)
    began = time.perf_counter()

    def step(text: str) -> None:
        console.print(f"[bold]{time.perf_counter() - began:6.1f} s[/bold]  {text}")

    step("Simulating ten sectors of a TESS-like camera")
    frames = _simulate(folder, binning)
    step("Finding the stars")
    centroids = [_extract(frame) for frame in frames]
    step("Generating the star patterns from Hipparcos")
    database = SolverDatabase.generate_from_hipparcos(
        max_fov_deg=14.0,
        pattern_max_error=0.005,
        lattice_field_oversampling=100,
        patterns_per_lattice_field=500,
        verification_stars_per_fov=3000,
        epoch_proper_motion_year=2018,
        cache=False,
    )
    step(f"Solving and calibrating with {database.num_patterns} patterns")
    result = calibrate(
        centroids,
        database,
        image_shape=frames[0].image_shape,
        fov_estimate_deg=11.8,
        fov_max_error_deg=0.5,
        order=6,
        velocities_km_s=[earth_barycentric_velocity(frame.time) for frame in frames if frame.time],
        on_pass=lambda number, result: step(_summary(number, result)),
    )
    step("Drawing the matched stars")
    figure = folder / "matched_stars.png"
    _draw(figure, frames, result.solutions, centroids)
    separations = [_separation(*pair) for pair in zip(frames, result.solutions, strict=True)]
    _print_table(console, frames, result.solutions, separations)
    mean = float(np.mean(separations))
    num_solved = sum(solution is not None for solution in result.solutions)
    passed = num_solved == len(frames) and mean < GOAL_ARCSEC
    step(
        f'{num_solved} of {len(frames)} solved; mean separation from the true WCS {mean:.3f}" '
        f'({"good" if passed else "NOT good"}: the goal is {GOAL_ARCSEC}"); see {figure}'
    )
    return passed


def _simulate(folder: Path, binning: int) -> list[Frame]:
    """Write the sectors as FITS files and read them again, as a user would."""
    from boresight.frames.read import read_frame
    from boresight.simulate import TESS_SECTORS, simulate_tess_sector

    folder.mkdir(parents=True, exist_ok=True)

    def make(sector: int) -> Frame:
        path = folder / f"sector{sector:02d}.fits"
        simulate_tess_sector(sector, binning=binning).write_fits(path)
        return read_frame(path)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(make, TESS_SECTORS))


def _extract(frame: Frame) -> Centroids:
    from boresight.extraction.extract import extract_centroids

    return extract_centroids(
        frame.image,
        sigma_threshold=SIGMA_THRESHOLD,
        min_pixels=4,
        max_pixels=10000,
        local_bg_block_size=16,
        max_elongation=6.0,
    ).centroids


def _separation(frame: Frame, solution: Solution | None) -> float:
    """Separation of the solution and the header's WCS at the image's centre, in arcsec."""
    from astropy.coordinates import SkyCoord

    if solution is None or frame.wcs is None:
        return float("nan")
    height, width = frame.image_shape
    true = frame.wcs.pixel_to_world(width / 2, height / 2)
    ra, dec = solution.pixel_to_world(0.0, 0.0)
    return float(true.separation(SkyCoord(ra, dec, unit="deg")).arcsec)


def _summary(number: int, result: CalibrationResult) -> str:
    solved = sum(solution is not None for solution in result.solutions)
    before = "none" if result.rmse_before_px is None else f"{result.rmse_before_px:.3f}"
    return (
        f"Pass {number}: {solved}/{len(result.solutions)} solved, "
        f"calibration RMSE {before} -> {result.rmse_after_px:.3f} px, "
        f"{result.num_inliers} inliers"
    )


def _draw(path: Path, frames: list[Frame], solutions: Any, centroids: list[Centroids]) -> None:
    import matplotlib as mpl

    from boresight.plot import plot_solutions

    with mpl.rc_context({"backend": "Agg"}):
        figure = plot_solutions(
            [frame.image for frame in frames],
            solutions,
            centroids,
            titles=[frame.path.stem if frame.path else "" for frame in frames],
            columns=5,
        )
        with replacing(path) as draft:
            figure.savefig(draft, dpi=150)


def _print_table(
    console: Console,
    frames: list[Frame],
    solutions: Sequence[Solution | None],
    separations: list[float],
) -> None:
    from rich.table import Table

    table = Table("Sector")
    for heading in ("Matches", 'RMSE (")', "RMSE (px)", 'vs FITS WCS (")', "Solve (ms)"):
        table.add_column(heading, justify="right")
    for frame, solution, separation in zip(frames, solutions, separations, strict=True):
        sector = frame.path.stem.removeprefix("sector") if frame.path else ""
        if solution is None:
            table.add_row(sector, "not solved")
            continue
        pixel = solution.fov_deg * 3600.0 / frame.image_shape[1]
        table.add_row(
            sector,
            str(solution.num_matches),
            f"{solution.rmse_arcsec:.2f}",
            f"{solution.rmse_arcsec / pixel:.3f}",
            f"{separation:.2f}",
            f"{solution.solve_time_ms:.1f}",
        )
    console.print(table)
