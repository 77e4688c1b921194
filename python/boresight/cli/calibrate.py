"""`boresight calibrate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from boresight.camera.model import Projection
from boresight.cli.frames import Taken, check_time, extracted
from boresight.cli.options import (
    aberration_option,
    clear_errors,
    frame_options,
    frames_argument,
    load_camera,
    load_database,
)
from boresight.cli.output import (
    Record,
    calibration_record,
    print_pass,
    print_solutions,
    record_of,
    save_plot,
    save_report,
)
from boresight.errors import InputError

ModelName = Literal["polynomial", "radial", "pinhole", "auto"]


@click.command()
@frames_argument
@frame_options
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
@aberration_option
@click.option(
    "--output", type=click.Path(path_type=Path), help="Save the camera model here (JSON)."
)
@clear_errors
def calibrate(
    frames: tuple[Path, ...],
    fov: float | None,
    fov_error: float | None,
    projection: Projection | None,
    camera: Path | None,
    database: Path | None,
    sigma: float | None,
    plot: Path | None,
    report: Path | None,
    as_json: bool,
    order: str,
    model: ModelName,
    aberration: bool | None,
    output: Path | None,
) -> None:
    """Calibrate the one camera that took all FRAMES, from the stars in them."""
    from boresight.calibration.calibrate import calibrate

    given = load_camera(camera)
    patterns = load_database(database, fov, given, projection, quiet=as_json)
    unread: list[Record] = []
    taken = list(extracted(frames, sigma, unread, quiet=as_json))
    shape = _common_shape(taken)
    if aberration:
        for path, frame, _ in taken:
            check_time(path, frame)
    result = calibrate(
        [stars for _, _, stars in taken],
        # The default is left to it, for it knows of which catalogue that is.
        None if database is None else patterns,
        image_shape=shape,
        fov_estimate_deg=fov,
        fov_max_error_deg=fov_error,
        order="auto" if order == "auto" else int(order),
        model=model,
        camera_model=given,
        projection=projection,
        times=[frame.time for _, frame, _ in taken],
        aberration=aberration,
        on_pass=None if as_json else print_pass,
    )
    records = unread + [
        record_of(path, len(stars), solution) | ({"rejected": reason} if reason else {})
        for (path, _, stars), solution, reason in zip(
            taken, result.solutions, result.rejected, strict=True
        )
    ]
    if output is not None:
        result.camera_model.save(output)
    if plot is not None:
        save_plot(plot, [(f, s, c) for (_, f, c), s in zip(taken, result.solutions, strict=True)])
    if report is not None:
        options = {"fov": fov, "order": order, "model": model, "camera": camera, "sigma": sigma}
        save_report(report, result, [frame for _, frame, _ in taken], options)
    if as_json:
        click.echo(json.dumps(calibration_record(result, records), indent=2))
    else:
        print_solutions(records)
        click.echo(f"{result.camera_model}")
    raise SystemExit(0 if all(record["solved"] for record in records) else 1)


def _common_shape(taken: list[Taken]) -> tuple[int, int]:
    """Shape of all frames; an error if they differ."""
    if not taken:
        raise InputError("FRAMES: none of them can be read; give frames of one camera")
    shape = taken[0].frame.image_shape
    for path, frame, _ in taken:
        if frame.image_shape != shape:
            raise InputError(
                f"FRAMES: {path} has {frame.image_shape} pixels, {taken[0].path} has {shape}; "
                "give frames of one camera"
            )
    return shape
