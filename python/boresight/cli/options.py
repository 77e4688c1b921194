"""Options that several commands share, and error messages that name the options."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import click

from boresight._utils.extras import check_extra
from boresight._utils.origins import Origin
from boresight.batch.run import reason_of
from boresight.camera.model import CameraModel, Projection
from boresight.cli.frames import Reading
from boresight.database.database import PatternDatabase
from boresight.errors import BoresightError, InputError
from boresight.extraction.extract import Extractor
from boresight.solver.inputs import choose_database

PROJECTIONS = get_args(Projection)

#: Option that sets each argument of the library.
OPTION_NAMES = {
    "fov_deg": "--fov",
    "fov_estimate_deg": "--fov",
    "fov_max_error_deg": "--fov-error",
    "projection": "--projection",
    "lens": "--lens",
    "camera_model": "--camera",
    "sigma_threshold": "--sigma",
    "attitude_hint": "--ra and --dec",
    "hint_uncertainty_deg": "--radius",
    "image_shape": "--size",
    "header": "--header",
    "hdu": "--hdu",
    "ra_deg": "--ra",
    "dec_deg": "--dec",
    "database": "--database",
    "origin": "--origin",
    "partition_by": "--partition-by",
    "num_fields": "--fields",
    "num_detections": "--detections",
    "max_fov_deg": "--max-fov",
    "min_fov_deg": "--min-fov",
    "epoch_proper_motion_year": "--epoch",
    "seed": "--seed",
    "jobs": "--jobs",
    "output": "--output",
    "overwrite": "--overwrite",
    "resume": "--anew",  # messages name it with False
}

#: Pattern of an argument with its value in a message, such as ``fov_deg=12.0``.
_GIVEN = re.compile(r"\b(\w+)=('?)([\w.+-]+)\2")
_NAMED = re.compile(r"\b(fov_deg|fov_estimate_deg|fov_max_error_deg|sigma_threshold|attitude_hint|"
                    r"hint_uncertainty_deg|image_shape|camera_model|max_fov_deg|min_fov_deg)"
                    r"\b")  # fmt: skip

frames_argument = click.argument("frames", nargs=-1, required=True, type=click.Path(path_type=Path))

#: Paths, quoted globs, or - for a list on standard input: see `cli.frames.paths_of`.
names_argument = click.argument("frames", nargs=-1, required=True, type=click.Path())

aberration_option = click.option(
    "--aberration/--no-aberration",
    default=None,
    help="Correct aberration by the time in the header.  [default: if the header has a time]",
)

report_option = click.option(
    "--report",
    metavar="FILE.html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page about the result (HTML, in one file).",
)

#: Options for reading frames: the arguments of `reading_of` except the threshold.
READING = [
    click.option("--hdu", help="Number or name of the HDU of FITS files. [default: the exposure]"),
    click.option(
        "--size",
        nargs=2,
        type=click.IntRange(1),
        metavar="WIDTH HEIGHT",
        help="Image size for lists of stars without one.",
    ),
    click.option(
        "--origin",
        type=click.Choice(get_args(Origin)),
        help="Origin of positions in lists of stars: the image's centre, or the first pixel as 0 "
        "(corner) or as 1 (fits). [default: as the columns imply, else center]",
    ),
]

_OPTIONS = [
    click.option("--fov", type=float, help="Horizontal field of view in degrees, if known."),
    click.option(
        "--fov-error", type=float, help="Largest error of --fov in degrees. [default: 30 %]"
    ),
    click.option(
        "--projection",
        type=click.Choice([*PROJECTIONS, "auto"]),
        help="Projection of a fisheye with this --fov; auto tries all. [default: an ordinary lens]",
    ),
    click.option(
        "--camera",
        type=click.Path(path_type=Path),
        help="Camera model to start from (JSON, as `boresight calibrate --output` writes it).",
    ),
    click.option(
        "--database",
        type=click.Path(path_type=Path),
        help="Database file. [default: made from Hipparcos, stored in the cache]",
    ),
    click.option("--sigma", type=float, help="Detection threshold in standard deviations."),
    click.option(
        "--plot", type=click.Path(path_type=Path), help="Draw the matched stars (PNG, PDF)."
    ),
    report_option,
    click.option("--json", "as_json", is_flag=True, help="Print JSON to standard output."),
    *READING,
    click.option("-v", "--verbose", is_flag=True, help="Print notes on reading and solving."),
    click.option("-q", "--quiet", is_flag=True, help="Print results and errors alone."),
]


def frame_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of commands that take frames."""
    return _with(_OPTIONS, command)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for reading a frame."""
    return _with(READING, command)


def _with(options: list[Any], command: Callable[..., Any]) -> Callable[..., Any]:
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)


def clear_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command: errors of the package, the system and missing extras exit with code 2.

    The message of the error is printed in one line.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:  # the reader has closed the pipe; click exits quietly
            raise
        except (BoresightError, OSError, ModuleNotFoundError) as error:
            click.echo(f"boresight: {in_options(reason_of(error))}", err=True)
            raise SystemExit(2) from None

    return run


def in_options(message: str) -> str:
    """Replace the names of arguments in a message of the library by the names of options."""
    name, colon, rest = message.partition(":")
    message = OPTION_NAMES.get(name, name) + colon + rest
    message = _GIVEN.sub(_option, message).replace(", or None", ", or leave it out")
    return _NAMED.sub(lambda m: OPTION_NAMES[m[0]], message)


def _option(given: re.Match[str]) -> str:
    """Return the option that gives an argument its value; a flag has no value."""
    if given[1] not in OPTION_NAMES:
        return given[0]
    name = OPTION_NAMES[given[1]]
    return name if given[3] in ("True", "False") else f"{name} {given[3]}"


def reading_of(
    sigma: float | None,
    hdu: str | None = None,
    size: tuple[int, int] | None = None,
    origin: Origin | None = None,
) -> Reading:
    """Check the options for reading frames, and return them as `Reading`."""
    if sigma is not None:
        Extractor(sigma_threshold=sigma)
    return Reading(sigma, hdu, None if not size else (size[1], size[0]), origin)


def check_writable(option: str, path: Path | None) -> None:
    """Raise an error early if the folder of an output file does not exist."""
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(
            f"{option}: the folder {path.parent} does not exist; make it, or name another"
        )


def check_drawable(option: str, path: Path | None) -> None:
    """Raise an error early if a figure or a page with figures cannot be written."""
    check_writable(option, path)
    if path is not None:
        check_extra("matplotlib", "plot")


@contextlib.contextmanager
def messages(*, verbose: bool, quiet: bool) -> Iterator[None]:
    """Write the package's log and warnings to standard error, one line each."""
    log, handler = logging.getLogger("boresight"), _Lines()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING)

    def show(message: Any, *_: Any, **__: Any) -> None:
        if not quiet:
            click.echo(f"boresight: warning: {in_options(str(message))}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)


class _Lines(logging.Handler):
    """Log handler that prints each record as a line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"boresight: {in_options(record.getMessage())}", err=True)


def load_camera(path: Path | None) -> CameraModel | None:
    """Load the camera model of a file; None if no path is given."""
    return None if path is None else CameraModel.load(path)


def load_database(
    path: Path | None,
    fov_deg: float | None,
    camera: CameraModel | None,
    projection: Projection | Literal["auto"] | None,
    *,
    quiet: bool,
) -> PatternDatabase:
    """Load the database of a file or, without a path, the default one for the field of view."""
    if projection == "auto":
        projection = None
    given = None if path is None else PatternDatabase.load_from_file(path)
    return choose_database(given, fov_deg, camera, projection, progress=not quiet)
