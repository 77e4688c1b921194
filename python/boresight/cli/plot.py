"""`boresight plot` and `boresight report`: pictures and HTML pages of frames and saved results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from boresight._utils.files import replacing
from boresight.cli.frames import load_frame
from boresight.cli.options import check_drawable, clear_errors, load_database, reading_of
from boresight.cli.output import save_report
from boresight.errors import FileFormatError, InputError
from boresight.solver.solution import Solution

#: Resolution of pictures, dots per inch.
DPI = 150

_SOLVING = [
    click.option("--fov", type=float, help="Field of view of frames in degrees, if known."),
    click.option("--database", type=click.Path(path_type=Path), help="Database file."),
]


def solving_options(command: Any) -> Any:
    """Add the options for solving frames."""
    for option in reversed(_SOLVING):
        command = option(command)
    return command


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--show",
    type=click.Choice(["sky", "stars"]),
    default="sky",
    show_default=True,
    help="Draw over a frame the sky, or the stars found in it.",
)
@solving_options
@clear_errors
def plot(source: Path, output: Path, show: str, fov: float | None, database: Path | None) -> None:
    """Draw SOURCE as the picture OUTPUT (PNG, PDF, SVG).

    SOURCE is a frame, which is solved first; a camera model or a mounted camera (JSON), whose
    distortion is drawn; or the log of a camera's drift (JSON lines).
    """
    from boresight.plot import plot_centroids, plot_distortion, plot_drift, plot_sky
    from boresight.plot.style import figure_of

    check_drawable("OUTPUT", output)
    kind = source.suffix.lower()
    if kind == ".jsonl":
        axes = plot_drift(_log(source))
    elif kind == ".json":
        axes = plot_distortion(_camera(source))
    else:
        loaded = load_frame(source, reading_of(None))
        if loaded.frame is None:
            raise InputError(f"SOURCE: {source} is a list of stars; give a frame")
        if show == "stars":
            axes = plot_centroids(loaded.frame.image, loaded.stars, title=source.name)
        else:
            axes = plot_sky(loaded.frame.image, _solved(source, loaded.found, fov, database))
    with replacing(output) as draft:
        figure_of(axes).savefig(draft, dpi=DPI)


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@solving_options
@clear_errors
def report(
    sources: tuple[Path, ...], output: Path, fov: float | None, database: Path | None
) -> None:
    """Write a page about SOURCES as OUTPUT (HTML, in one file).

    SOURCES are frames, which are solved first; the log of a camera's drift (JSON lines); or a
    movement (.cmc), optionally followed by the reference and the moved image to show them. The exit
    code is 1 if a frame does not solve.
    """
    from boresight.movement import MovementCorrection

    check_drawable("OUTPUT", output)
    first, kind = sources[0], sources[0].suffix.lower()
    if kind == ".jsonl":
        save_report(output, _log(first), [], {})
    elif kind == ".cmc":
        found = MovementCorrection.load(first)
        save_report(output, found, list(sources[1:]) or [None, None], {"movement": first})
    else:
        solutions, frames = [], []
        for path in sources:
            loaded = load_frame(path, reading_of(None))
            if loaded.frame is not None:
                frames.append(loaded.frame)
                solutions.append(_solution(loaded.found, fov, database))
        save_report(output, solutions, frames, {"fov": fov, "database": database})
        if None in solutions or not solutions:
            raise SystemExit(1)


def _log(path: Path) -> Any:
    from boresight.movement import DriftLog

    if not path.is_file():
        raise FileNotFoundError(f"{path}: the file does not exist")
    return DriftLog(path)


def _camera(path: Path) -> Any:
    """Load the camera model from a file of a mounted camera or of a camera model."""
    from boresight.camera.model import CameraModel
    from boresight.movement import MountedCamera

    try:
        return MountedCamera.load(path).camera_model
    except FileFormatError:
        return CameraModel.load(path)


def _solution(found: Any, fov: float | None, database: Path | None) -> Solution | None:
    from boresight.solver.solve import solve

    return solve(found, fov, database=load_database(database, fov, None, None, quiet=False))


def _solved(path: Path, found: Any, fov: float | None, database: Path | None) -> Solution:
    solution = _solution(found, fov, database)
    if solution is None:
        click.echo(f"boresight: {path}: not solved; boresight diagnose finds why", err=True)
        raise SystemExit(1)
    return solution
