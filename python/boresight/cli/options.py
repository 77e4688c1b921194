"""Options that several commands share, and errors in the names of the options."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from boresight.camera.model import CameraModel, Projection
from boresight.database.database import PatternDatabase
from boresight.errors import BoresightError
from boresight.solver.inputs import choose_database

PROJECTIONS = get_args(Projection)

#: Options by the arguments of the library that they set.
OPTION_NAMES = {
    "fov_deg": "--fov",
    "fov_estimate_deg": "--fov",
    "fov_max_error_deg": "--fov-error",
    "projection": "--projection",
    "lens": "--lens",
    "camera_model": "--camera",
    "sigma_threshold": "--sigma",
}

frames_argument = click.argument("frames", nargs=-1, required=True, type=click.Path(path_type=Path))

aberration_option = click.option(
    "--aberration/--no-aberration",
    default=None,
    help="Allow for the Earth's motion, by the header's time.  [default: where that is known]",
)

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
    click.option(
        "--report",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Write a page about the result (HTML, in one file).",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON to standard output."),
]


def frame_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of commands that take frames."""
    return functools.reduce(
        lambda decorated, option: option(decorated), reversed(_OPTIONS), command
    )


def clear_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the package's errors, the system's and missing extras into one line and exit code 2."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (BoresightError, OSError, ModuleNotFoundError) as error:
            click.echo(f"boresight: {in_options(str(error))}", err=True)
            raise SystemExit(2) from None

    return run


def in_options(message: str) -> str:
    """Name the option instead of the argument that a message of the library begins with."""
    name, colon, rest = message.partition(":")
    return OPTION_NAMES.get(name, name) + colon + rest


def load_camera(path: Path | None) -> CameraModel | None:
    """Load the camera model that is named, if one is."""
    return None if path is None else CameraModel.load(path)


def load_database(
    path: Path | None,
    fov_deg: float | None,
    camera: CameraModel | None,
    projection: Projection | None,
    *,
    quiet: bool,
) -> PatternDatabase:
    """Load the database that is named, or the default one for the field of view."""
    given = None if path is None else PatternDatabase.load_from_file(path)
    return choose_database(given, fov_deg, camera, projection, progress=not quiet)
