"""`boresight solve`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click
import numpy as np

from boresight._utils.threads import in_order
from boresight.apparent.place import ApparentPlace
from boresight.batch.run import FRAME_ERRORS, reason_of
from boresight.cli.frames import LoadedFrame, Reading, check_time, load_frame, paths_of
from boresight.cli.options import (
    aberration_option,
    check_drawable,
    clear_errors,
    frame_options,
    in_options,
    load_camera,
    load_database,
    messages,
    reading_of,
)
from boresight.cli.output import (
    JsonList,
    Record,
    diagnosis_record,
    print_error,
    print_headings,
    print_record,
    record_of,
    save_plot,
    save_report,
)
from boresight.cli.outputs import Outputs, check_outputs, output_options, write_outputs
from boresight.cli.solve_field import SolveField, solve_field_options
from boresight.cli.solve_field import dec as dec_of
from boresight.cli.solve_field import ra as ra_of
from boresight.errors import InputError
from boresight.solver.solution import Solution

#: Time limit, in ms, for the diagnosis of an unsolved frame.
EXPLAIN_MS = 10_000

_WHERE = [
    click.option(
        "-3",
        "--ra",
        type=ra_of,
        metavar="ANGLE",
        help="Right ascension of the centre, degrees or hh:mm:ss, if known.",
    ),
    click.option(
        "-4", "--dec", type=dec_of, metavar="ANGLE", help="Its declination, degrees or dd:mm:ss."
    ),
    click.option(
        "-5", "--radius", type=float, help="Largest error of --ra and --dec. [default: 1]"
    ),
    click.option(
        "--header",
        type=click.Choice(["try", "ignore", "only"]),
        default="try",
        show_default=True,
        help="Use of position and scale in headers: try them first, ignore them, or try only them.",
    ),
    click.option(
        "--explain/--no-explain", default=True, help="Explain why a frame does not solve."
    ),
]


def where_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options about the position of the frames on the sky."""
    return functools.reduce(lambda decorated, option: option(decorated), reversed(_WHERE), command)


class Search(NamedTuple):
    """Arguments of `solve` and `diagnose`, equal for all frames."""

    fov_deg: float | None
    extra: SolveField
    arguments: dict[str, Any]
    aberration: bool | None
    explain: bool

    def one(self, loaded: LoadedFrame) -> tuple[Record, Solution | None]:
        """Solve a frame; return its record (with a diagnosis if it is unsolved) and solution."""
        from boresight.solver.diagnosis import diagnose
        from boresight.solver.solve import solve

        common: Any = self.arguments | {"place": _place(loaded, self.aberration)}
        fov_deg = self.fov_deg
        if (field := self.extra.field(loaded.image_shape[1])) is not None:
            fov_deg, common["fov_max_error_deg"] = field
        solution = solve(loaded.found, fov_deg, image_shape=loaded.image_shape, **common)
        record = record_of(loaded.path, len(loaded.stars), solution)
        if solution is None and self.explain:
            diagnosis = diagnose(
                loaded.found,
                fov_deg,
                image_shape=loaded.image_shape,
                **common | {"solve_timeout_ms": EXPLAIN_MS},
            )
            record["diagnosis"] = diagnosis_record(diagnosis)
        return record, solution


@click.command()
@click.argument("frames", nargs=-1, type=click.Path())
@frame_options
@where_options
@solve_field_options
@aberration_option
@click.option(
    "--lens",
    help="Lens fitted to the frame's stars: auto, none, pinhole, radial, polynomial, or the order "
    "of a polynomial. [default: auto; with --camera its own]",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Frames processed at the same time; each needs memory. [default: four more than "
    "processors, at most 8; 1 with --verbose]",
)
@output_options
@clear_errors
def solve(
    frames: tuple[str, ...],
    jobs: int | None,
    fov: float | None,
    plot: Path | None,
    report: Path | None,
    as_json: bool,
    verbose: bool,
    quiet: bool,
    outputs: Outputs,
    extra: SolveField,
    **options: Any,
) -> None:
    """Plate-solve FRAMES, each one separately.

    FRAMES are FITS files, pictures or camera raw files; or lists of stars: CSV, ECSV, FITS tables.
    Quoted globs are expanded; - stands for a list of names on standard input. Options that have the
    names of solve-field's options have the same meaning.
    """
    if not frames and not extra.files_on_stdin:
        raise click.UsageError("Missing argument 'FRAMES...'.")
    extra.check(fov)
    named = (*frames, "-") if extra.files_on_stdin else frames
    paths = check_outputs(outputs, paths_of(named))
    check_drawable("--plot", plot)
    check_drawable("--report", report)
    reading = reading_of(*(options.pop(name) for name in ("sigma", "hdu", "size", "origin")))
    reading = reading._replace(downsample=extra.downsample)
    with messages(verbose=verbose, quiet=quiet):
        search = _search(fov, extra, quiet=quiet or as_json, **options)
        is_drawn = plot is not None or report is not None
        work = partial(
            _ended, search=search, reading=reading, outputs=outputs, verbose=verbose, keep=is_drawn
        )
        kept: list[tuple[LoadedFrame, Solution | None]] = []
        failed = False
        # With --verbose frames are solved one by one, so that notes are printed frame by frame.
        jobs = 1 if verbose else jobs
        with _printing(as_json=as_json) as show, closing(in_order(work, paths, jobs)) as ended:
            for frame in ended:
                show(frame.record)
                if frame.unwritten is not None:
                    click.echo(f"boresight: {frame.unwritten}", err=True)
                failed |= not frame.record["solved"] or frame.unwritten is not None
                kept += [(frame.loaded, frame.solution)] if frame.loaded is not None else []
        failed |= not _drawn(plot, report, kept, {"fov": fov, **extra._asdict(), **options})
    raise SystemExit(1 if failed else 0)


def _search(
    fov: float | None,
    extra: SolveField,
    *,
    quiet: bool,
    fov_error: float | None,
    projection: Any,
    camera: Path | None,
    database: Path | None,
    ra: float | None,
    dec: float | None,
    radius: float | None,
    header: Literal["try", "ignore", "only"],
    explain: bool,
    aberration: bool | None,
    lens: str | None,
) -> Search:
    """Check the options before any frame is read, and return the arguments for all frames."""
    from boresight.solver.solve import solve_from_centroids

    if (ra is None) != (dec is None):
        raise InputError("--ra: it needs --dec, and --dec needs --ra; give both or none")
    if radius is not None and ra is None:
        raise InputError("--radius: it needs --ra and --dec; give them too")
    model = load_camera(camera)
    options: dict[str, Any] = {"fov_max_error_deg": fov_error}
    if not extra.is_by_pixels and (field := extra.field(0)) is not None:
        fov, options["fov_max_error_deg"] = field
    patterns = load_database(database, fov, model, projection, quiet=quiet)
    if extra.cpulimit is not None:
        options["solve_timeout_ms"] = max(1, round(1e3 * extra.cpulimit))
    if ra is not None:
        options["attitude_hint"] = (ra, dec)
    if radius is not None:
        options["hint_uncertainty_deg"] = radius
    if extra.parity is not None:
        if model is not None and model.parity_flip != extra.parity_flip:
            raise InputError("--parity: it contradicts that of --camera; leave one of them out")
        options["parity_flip"] = extra.parity_flip
    if lens is not None:
        options["lens"] = int(lens) if lens.isdecimal() else lens
    # A call without stars checks the arguments and searches nothing.
    shape = (64, 64) if model is None else model.image_shape
    none = np.empty((0, 3))
    checked = None if projection else fov
    solve_from_centroids(patterns, none, checked, image_shape=shape, camera_model=model, **options)
    # If only the header gives the field of view, each frame may need a different database.
    free = (fov is None and model is None) or projection == "auto"
    given = None if database is None and free else patterns
    arguments = {
        "database": given, "camera_model": model, "projection": projection, "header": header,
        **options,
    }  # fmt: skip
    return Search(fov, extra, arguments, aberration, explain)


@contextmanager
def _printing(*, as_json: bool) -> Iterator[Callable[[Record], None]]:
    """Provide the function that prints the record of a frame, in a table or in a JSON list."""
    if not as_json:
        print_headings()
        yield print_record
        return
    records = JsonList()

    def show(record: Record) -> None:
        records.add(record)
        print_error(record)

    try:
        yield show
    finally:
        records.close()


class FinishedFrame(NamedTuple):
    """A finished frame: its record, an error of writing its files, and its data if needed later."""

    record: Record
    unwritten: str | None = None
    loaded: LoadedFrame | None = None
    solution: Solution | None = None


def _ended(
    path: Path, *, search: Search, reading: Reading, outputs: Outputs, verbose: bool, keep: bool
) -> FinishedFrame:
    """Read and solve a frame, and write its files; errors are put into the record of the frame."""
    try:
        loaded = load_frame(path, reading)
    except FRAME_ERRORS as error:
        return FinishedFrame(_unread(path, reason_of(error)))
    if verbose and loaded.frame is not None:
        for note in loaded.frame.notes:
            click.echo(f"boresight: {path}: {note}", err=True)
    solution, unwritten = None, None
    try:
        record, solution = search.one(loaded)
    except FRAME_ERRORS as error:
        record = _unread(path, reason_of(error))
    try:
        write_outputs(outputs, loaded, solution)
    except FRAME_ERRORS as error:  # reported, and the solution is kept
        unwritten = f"{path}: {reason_of(error)}"
    return FinishedFrame(record, unwritten, loaded if keep else None, solution if keep else None)


def _unread(path: Path, reason: str) -> Record:
    return {"file": str(path), "solved": False, "error": in_options(reason)}


def _drawn(
    plot: Path | None,
    report: Path | None,
    kept: list[tuple[LoadedFrame, Solution | None]],
    options: dict[str, Any],
) -> bool:
    """Draw the frames and write the page; an error is printed, not raised, and returns False."""
    drawn = [(t.frame, s, t.stars) for t, s in kept if t.frame is not None]
    try:
        if plot is not None:
            save_plot(plot, drawn)
        if report is not None:
            save_report(report, [s for _, s, _ in drawn], [f for f, _, _ in drawn], options)
    except (*FRAME_ERRORS, ValueError, ModuleNotFoundError) as error:
        click.echo(f"boresight: {reason_of(error)}", err=True)
        return False
    return True


def _place(loaded: LoadedFrame, aberration: bool | None) -> ApparentPlace:
    """Apparent place of a frame, with aberration if `aberration` is True.

    If `aberration` is None, aberration is included if the time of the frame is known.
    """
    if aberration:
        check_time(loaded.path, loaded.frame)
    time = None if loaded.frame is None else loaded.frame.time
    if aberration is False or time is None:
        return ApparentPlace()
    return ApparentPlace.at(time, velocity_km_s="earth")
