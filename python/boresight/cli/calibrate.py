"""`boresight calibrate`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click

from boresight._utils.origins import Origin
from boresight.batch.run import reason_of
from boresight.camera.model import Projection
from boresight.cli.frames import LoadedFrame, Reading, check_time, load_frames, paths_of
from boresight.cli.options import (
    aberration_option,
    check_drawable,
    check_writable,
    clear_errors,
    frame_options,
    in_options,
    load_camera,
    load_database,
    messages,
    names_argument,
    reading_of,
)
from boresight.cli.output import (
    Record,
    calibration_record,
    print_error,
    print_headings,
    print_pass,
    print_record,
    record_of,
    save_plot,
    save_report,
)
from boresight.errors import InputError

ModelName = Literal["polynomial", "radial", "pinhole", "auto"]


@click.command()
@names_argument
@frame_options
@click.option(
    "--order",
    type=click.Choice(["auto", *map(str, range(2, 10))]),
    default="auto",
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
@aberration_option
@click.option(
    "--output", type=click.Path(path_type=Path), help="Save the camera model here (JSON)."
)
@clear_errors
def calibrate(
    frames: tuple[str, ...],
    fov: float | None,
    fov_error: float | None,
    projection: Projection | Literal["auto"] | None,
    camera: Path | None,
    database: Path | None,
    sigma: float | None,
    hdu: str | None,
    size: tuple[int, int] | None,
    origin: Origin | None,
    plot: Path | None,
    report: Path | None,
    as_json: bool,
    verbose: bool,
    quiet: bool,
    order: str,
    model: ModelName,
    aberration: bool | None,
    output: Path | None,
) -> None:
    """Calibrate the camera of FRAMES by their stars."""
    from boresight.calibration.calibrate import calibrate

    if projection == "auto":
        raise InputError("--projection: calibrating needs one; give the one that solve finds")
    paths = paths_of(frames)
    check_writable("--output", output)
    check_drawable("--plot", plot)
    check_drawable("--report", report)
    reading = reading_of(sigma, hdu, size, origin)
    given = load_camera(camera)
    with messages(verbose=verbose, quiet=quiet):
        patterns = load_database(database, fov, given, projection, quiet=as_json or quiet)
        loaded, unread = _usable(paths, reading, needed=plot is not None or report is not None)
        if aberration:
            for one in loaded:
                check_time(one.path, one.frame)
        result = calibrate(
            [one.stars for one in loaded],
            patterns,
            image_shape=loaded[0].image_shape,
            fov_estimate_deg=fov,
            fov_max_error_deg=fov_error,
            order="auto" if order == "auto" else int(order),
            model=model,
            camera_model=given,
            projection=projection,
            times=[None if one.frame is None else one.frame.time for one in loaded],
            aberration=aberration,
            on_pass=None if as_json or quiet else print_pass,
        )
        records = unread + [
            record_of(one.path, len(one.stars), solution) | ({"rejected": reason} if reason else {})
            for one, solution, reason in zip(loaded, result.solutions, result.rejected, strict=True)
        ]
        if output is not None:
            result.camera_model.save(output)
        if as_json:
            click.echo(json.dumps(calibration_record(result, records), indent=2))
        else:
            print_headings()
            for record in records:
                print_record(record, error=record not in unread)
            click.echo(f"{result.camera_model}")
        options = {"fov": fov, "order": order, "model": model, "camera": camera, "sigma": sigma}
        options |= {"database": repr(patterns)}
        drawn = _drawn(plot, report, loaded, result, options)
    raise SystemExit(0 if drawn and all(record["solved"] for record in records) else 1)


def _usable(
    paths: Sequence[Path], reading: Reading, *, needed: bool
) -> tuple[list[LoadedFrame], list[Record]]:
    """Read the frames, and keep those whose shape is the most frequent one.

    Their pixels are dropped unless `needed`. Errors are printed and returned as records for all
    other frames.
    """
    loaded: list[LoadedFrame] = []
    unread: list[Record] = []
    for path, one in load_frames(paths, reading, pixels=needed):
        if isinstance(one, str):
            unread.append(_left_out(path, one))
        else:
            loaded.append(one)
    if not loaded:
        raise InputError("FRAMES: none of them can be read; give frames of one camera")
    shape, _ = Counter(one.image_shape for one in loaded).most_common(1)[0]
    usable = [one for one in loaded if one.image_shape == shape]
    for one in loaded:
        if one.image_shape != shape:
            reason = f"{one.image_shape} pixels, but most frames have {shape}; it is excluded"
            unread.append(_left_out(one.path, reason))
    return usable, unread


def _left_out(path: Path, reason: str) -> Record:
    record = {"file": str(path), "solved": False, "error": in_options(reason)}
    print_error(record)
    return record


def _drawn(
    plot: Path | None,
    report: Path | None,
    loaded: list[LoadedFrame],
    result: Any,
    options: dict[str, Any],
) -> bool:
    """Draw the frames and write the page; an error is printed, not raised, and returns False."""
    drawn = [
        (one.frame, solution, one.stars)
        for one, solution in zip(loaded, result.solutions, strict=True)
        if one.frame is not None
    ]
    try:
        if plot is not None:
            save_plot(plot, drawn)
        if report is not None:
            save_report(report, result, [frame for frame, _, _ in drawn], options)
    except (OSError, ValueError, MemoryError, ModuleNotFoundError) as error:
        click.echo(f"boresight: {reason_of(error)}", err=True)
        return False
    return True
