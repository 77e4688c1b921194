"""`boresight solve`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from boresight.apparent.place import ApparentPlace
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
from boresight.cli.output import Record, print_solutions, record_of, save_plot, save_report
from boresight.cli.outputs import Outputs, check_outputs, output_options, write_outputs
from boresight.extraction.centroids import Centroids
from boresight.frames.frame import Frame
from boresight.solver.solution import Solution


@click.command()
@frames_argument
@frame_options
@aberration_option
@click.option(
    "--lens",
    help="Lens fitted to the frame's stars: auto, none, pinhole, radial, polynomial, or the order "
    "of a polynomial. [default: auto; with --camera its own]",
)
@output_options
@clear_errors
def solve(
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
    aberration: bool | None,
    lens: str | None,
    outputs: Outputs,
) -> None:
    """Tell where FRAMES look: FITS, PNG, JPEG, BMP or TIFF, each on its own."""
    from boresight.solver.solve import solve

    check_outputs(outputs, frames)
    model = load_camera(camera)
    patterns = load_database(database, fov, model, projection, quiet=as_json)
    fitted: Any = {} if lens is None else {"lens": int(lens) if lens.isdecimal() else lens}
    records: list[Record] = []
    drawn: list[tuple[Frame, Solution | None, Centroids]] = []
    for taken in extracted(frames, sigma, records, quiet=as_json):
        solution = solve(
            taken.stars,
            fov,
            database=patterns,
            image_shape=taken.frame.image_shape,
            camera_model=model,
            projection=projection,
            fov_max_error_deg=fov_error,
            place=_place(taken, aberration),
            **fitted,
        )
        records.append(record_of(taken.path, len(taken.stars), solution))
        write_outputs(outputs, taken.path, taken.frame, solution, taken.stars)
        drawn.append((taken.frame, solution, taken.stars))
    if plot is not None:
        save_plot(plot, drawn)
    if report is not None:
        options = {"fov": fov, "fov-error": fov_error, "projection": projection, "camera": camera}
        save_report(report, [s for _, s, _ in drawn], [frame for frame, _, _ in drawn], options)
    if as_json:
        click.echo(json.dumps(records, indent=2))
    else:
        print_solutions(records)
    raise SystemExit(0 if all(record["solved"] for record in records) else 1)


def _place(taken: Taken, aberration: bool | None) -> ApparentPlace:
    """Apparent place with the Earth's motion, if that is wanted (`None`: if it can be)."""
    if aberration:
        check_time(taken.path, taken.frame)
    if aberration is False or taken.frame.time is None:
        return ApparentPlace()
    return ApparentPlace.at(taken.frame.time, velocity_km_s="earth")
