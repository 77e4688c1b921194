"""`boresight batch`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boresight.cli.frames import names_of
from boresight.cli.options import clear_errors, load_camera, names_argument
from boresight.database.database import PatternDatabase

if TYPE_CHECKING:
    from astropy.table import QTable


@click.group()
def batch() -> None:
    """Process thousands of frames, resumable after a kill."""


output_option = click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the journal and the table; a batch that is there is continued.",
)
jobs_option = click.option("--jobs", type=int, help="Processes. [default: one a processor]")
resume_option = click.option(
    "--resume/--anew", default=True, help="Continue the batch in --output, or begin anew."
)

partition_option = click.option(
    "--partition-by",
    multiple=True,
    metavar="COLUMN",
    help="Write the table into folders by this column (date, status, ...); may be repeated.",
)

fov_option = click.option(
    "--fov", type=float, help="Horizontal field of view in degrees, if known."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")


@batch.command()
@names_argument
@output_option
@jobs_option
@resume_option
@partition_option
@fov_option
@click.option("--fov-error", type=float, help="Largest error of --fov in degrees. [default: 30 %]")
@click.option("--camera", type=click.Path(path_type=Path), help="Camera model (JSON).")
@click.option("--database", type=click.Path(path_type=Path), help="Database file.")
@click.option("--fast", is_flag=True, help="Find the stars quicker, with lower sensitivity.")
@click.option("--explain/--no-explain", default=True, help="Explain why a frame does not solve.")
@json_option
@clear_errors
def solve(
    frames: tuple[str, ...],
    output: Path,
    jobs: int | None,
    resume: bool,
    partition_by: tuple[str, ...],
    fov: float | None,
    fov_error: float | None,
    camera: Path | None,
    database: Path | None,
    fast: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """Plate-solve FRAMES.

    FRAMES are paths, quoted globs, URLs, or - for a list on standard input.
    """
    from boresight.batch import solve as solve_batch
    from boresight.solver_database import SolverDatabase

    patterns: PatternDatabase | None = None
    if database is not None:
        patterns = SolverDatabase.load_from_file(database)
    table = solve_batch(
        names_of(frames), fov, output=output, jobs=jobs, resume=resume, database=patterns,
        partition_by=partition_by, camera_model=load_camera(camera),
        extraction={"fast": True} if fast else None, explain=explain,
        progress=sys.stderr.isatty(), fov_max_error_deg=fov_error,
    )  # fmt: skip
    _conclude(table, output, "solved", as_json)


@batch.command()
@names_argument
@output_option
@jobs_option
@resume_option
@partition_option
@json_option
@clear_errors
def extract(
    frames: tuple[str, ...],
    output: Path,
    jobs: int | None,
    resume: bool,
    partition_by: tuple[str, ...],
    as_json: bool,
) -> None:
    """Find the stars of FRAMES.

    The stars of each frame are written to a separate file in the folder --output.
    """
    from boresight.batch import extract as extract_batch

    table = extract_batch(
        names_of(frames),
        output=output,
        jobs=jobs,
        resume=resume,
        partition_by=partition_by,
        progress=sys.stderr.isatty(),
    )
    _conclude(table, output, "done", as_json)


@batch.command()
@names_argument
@output_option
@jobs_option
@resume_option
@partition_option
@fov_option
@click.option(
    "--camera", type=click.Path(path_type=Path), help="Camera model (JSON) to start from."
)
@click.option(
    "--num-first",
    type=int,
    default=16,
    show_default=True,
    help="Frames that give the first camera.",
)
@json_option
@clear_errors
def calibrate(
    frames: tuple[str, ...],
    output: Path,
    jobs: int | None,
    resume: bool,
    partition_by: tuple[str, ...],
    fov: float | None,
    camera: Path | None,
    num_first: int,
    as_json: bool,
) -> None:
    """Calibrate the camera of FRAMES.

    The camera model is written to camera.json in the folder --output.
    """
    from boresight.batch import calibrate as calibrate_batch

    result = calibrate_batch(
        names_of(frames), fov, output=output, num_first=num_first, jobs=jobs, resume=resume,
        partition_by=partition_by, camera_model=load_camera(camera), progress=sys.stderr.isatty(),
    )  # fmt: skip
    if not as_json:
        ended = "" if result.converged else ", not converged"
        click.echo(
            f"{result.num_frames} frames, {result.num_inliers} stars, {len(result.changes)} rounds"
            f"{ended}; the camera is in {output}/camera.json"
        )
    _conclude(result.table, output, "solved", as_json)


def _conclude(table: QTable, output: Path, good: str, as_json: bool) -> None:
    """Print counts and reasons; exit with code 0 if every frame has the status `good`, else 1."""
    counts = {
        str(status): int((table["status"] == status).sum()) for status in set(table["status"])
    }
    if as_json:
        click.echo(json.dumps({"output": str(output), "frames": len(table), "counts": counts}))
    else:
        listed = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        click.echo(f"{len(table)} frames: {listed}; in {output}")
        for row in table[table["status"] != good]:
            click.echo(f"boresight: {row['path']}: {row['reason'] or 'not solved'}", err=True)
    raise SystemExit(0 if counts.get(good, 0) == len(table) else 1)
