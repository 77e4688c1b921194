"""`boresight certify`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from boresight.cli.options import clear_errors, in_options, load_camera, messages
from boresight.database.database import PatternDatabase
from boresight.solver.fields import KINDS, FieldKind


@click.command()
@click.option("--fov", type=float, help="Horizontal field of view in degrees, if known.")
@click.option("--fov-error", type=float, help="Largest error of --fov in degrees. [default: 30 %]")
@click.option("--camera", type=click.Path(path_type=Path), help="Camera model (JSON).")
@click.option("--database", type=click.Path(path_type=Path), help="Database file.")
@click.option(
    "--size", nargs=2, type=click.IntRange(8), metavar="WIDTH HEIGHT", default=(1024, 1024),
    show_default=True, help="Pixels of the images; --camera has its own.",
)  # fmt: skip
@click.option("--fields", type=int, default=200, show_default=True, help="Fields of each kind.")
@click.option(
    "--detections", type=int, default=50, show_default=True, help="Detections of each field."
)
@click.option(
    "--kind", "kinds", type=click.Choice(KINDS), multiple=True,
    help="Kind of fields; may be given several times. [default: all]",
)  # fmt: skip
@click.option("--match-radius", type=float, help="As in solving, a part of the field of view.")
@click.option(
    "--threshold", type=float, help="Largest false-alarm probability accepted. [default: 1e-5]"
)
@click.option(
    "--timeout", type=click.FloatRange(0.001), help="Seconds for each field. [default: 5]"
)
@click.option(
    "--confidence",
    type=float,
    default=0.95,
    show_default=True,
    help="Confidence level of the intervals.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the fields.")
@click.option("--threads", type=click.IntRange(1), help="Threads. [default: one a processor]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Print results and errors alone.")
@clear_errors
def certify(
    fov: float | None,
    camera: Path | None,
    database: Path | None,
    size: tuple[int, int],
    fields: int,
    detections: int,
    kinds: tuple[FieldKind, ...],
    confidence: float,
    seed: int,
    threads: int | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Measure how often a setting gives a false solution.

    The command solves true star fields, and random, scrambled, mirrored and structured fields. The
    exit code is 0 if the rate of false solutions agrees with --threshold, and 1 if it is larger.
    """
    from boresight.solver.certificate import certify as certify_setting

    if threads is not None:
        os.environ["BORESIGHT_NUM_THREADS"] = str(threads)
    with messages(verbose=False, quiet=quiet):
        certificate = certify_setting(
            fov,
            num_fields=fields,
            num_detections=detections,
            image_shape=(size[1], size[0]),
            database=None if database is None else PatternDatabase.load_from_file(database),
            camera_model=load_camera(camera),
            confidence=confidence,
            seed=seed,
            progress=sys.stderr.isatty() and not quiet,
            kinds=kinds or KINDS,
            **_solving(**options),
        )
    if as_json:
        click.echo(json.dumps(certificate.to_dict()))
    else:
        click.echo(in_options(str(certificate)))
    raise SystemExit(0 if certificate.holds else 1)


def _solving(
    *,
    fov_error: float | None,
    match_radius: float | None,
    threshold: float | None,
    timeout: float | None,
) -> dict[str, Any]:
    """Arguments of solving from the options that the user has given."""
    options = {
        "fov_max_error_deg": fov_error,
        "match_radius": match_radius,
        "match_threshold": threshold,
        "solve_timeout_ms": None if timeout is None else round(1e3 * timeout),
    }
    return {name: value for name, value in options.items() if value is not None}
