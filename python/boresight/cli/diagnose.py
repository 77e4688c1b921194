"""`boresight diagnose`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from boresight._utils.origins import Origin
from boresight.cli.frames import load_frame
from boresight.cli.options import (
    clear_errors,
    in_options,
    load_camera,
    reading_of,
    reading_options,
)
from boresight.database.database import PatternDatabase


@click.command()
@click.argument("frame", type=click.Path(path_type=Path))
@click.option("--fov", type=float, help="Horizontal field of view in degrees, if known.")
@click.option("--camera", type=click.Path(path_type=Path), help="Camera model (JSON).")
@click.option("--database", type=click.Path(path_type=Path), help="Database file.")
@click.option("--sigma", type=float, help="Detection threshold in standard deviations.")
@reading_options
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), default=20.0, show_default=True,
    help="Time limit of the search for the cause, in seconds."
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON to standard output.")
@clear_errors
def diagnose(
    frame: Path,
    fov: float | None,
    camera: Path | None,
    database: Path | None,
    sigma: float | None,
    hdu: str | None,
    size: tuple[int, int] | None,
    origin: Origin | None,
    seconds: float,
    as_json: bool,
) -> None:
    """Explain why FRAME does not solve, and what to change."""
    from boresight.solver.diagnosis import diagnose

    model = load_camera(camera)
    patterns = None if database is None else PatternDatabase.load_from_file(database)
    loaded = load_frame(frame, reading_of(sigma, hdu, size, origin))
    found = diagnose(
        loaded.found,
        fov,
        database=patterns,
        image_shape=loaded.image_shape,
        camera_model=model,
        solve_timeout_ms=round(1e3 * seconds),
    )
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        click.echo("\n".join(in_options(line) for line in str(found).split("\n")))
    raise SystemExit(0 if found.solution is not None else 1)
