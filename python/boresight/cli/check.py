"""`boresight check`: detects whether a camera has moved; suited to cron jobs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boresight._utils.files import write_atomically
from boresight.cli.options import clear_errors, frames_argument
from boresight.errors import BoresightError, FileFormatError

if TYPE_CHECKING:
    from boresight.movement import DriftLog, MountedCamera, Verdict, Watch

MOVED, UNSOLVED, UNKNOWN = 3, 4, 5
"""Exit codes for frames that moved, were not solved, or have no verdict. The first one in this
order that applies to a frame is used, else 0."""

LEAST_STARS_UPDATE = 20
"""Smallest number of stars for an automatic update of the calibration."""

LEAST_COVERAGE_UPDATE = 0.75
"""Smallest fraction of the frame's cells with a star for an automatic update. It is larger than for
a verdict, because a wrong calibration affects every later frame, a false verdict only one."""

WORST_HELD_OUT = 2.0
"""Largest ratio of the scatter of held-out stars to that of the fitted stars, for an update."""


@click.command()
@frames_argument
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    required=True,
    help="The camera before: a MountedCamera or a camera model (JSON).",
)
@click.option(
    "--log",
    type=click.Path(path_type=Path),
    help="Append to this drift log, and continue from its last frames.",
)
@click.option(
    "--site",
    type=float,
    nargs=3,
    help="Latitude and longitude in degrees and height in metres of a camera fixed to the ground.",
)
@click.option(
    "--false-alarm",
    type=float,
    default=1e-3,
    show_default=True,
    help="Probability that a camera is said to have moved in 1,000 frames though it has not.",
)
@click.option("--database", type=click.Path(path_type=Path), help="Database file.")
@click.option(
    "--update",
    is_flag=True,
    help="Update the calibration if the camera moved; the old file is kept.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page about the last verdict, or with --log about the log (HTML, in one file).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a document for each frame.")
@clear_errors
def check(
    frames: tuple[Path, ...],
    calibration: Path,
    log: Path | None,
    site: tuple[float, float, float] | None,
    false_alarm: float,
    database: Path | None,
    update: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """Detect by the stars of FRAMES whether a camera has moved.

    FRAMES are in the order of time. The exit code is 0 if the camera has not moved, 3 if it has
    moved, 4 if a frame did not solve, and 5 if there is no verdict (because of clouds, or of a
    small change that another frame must confirm).
    """
    from boresight.database.database import PatternDatabase
    from boresight.movement import DriftLog, MountedCamera, Watch

    before = _load(calibration)
    place = None
    if site is not None and isinstance(before, MountedCamera):
        from astropy.coordinates import EarthLocation

        place = EarthLocation.from_geodetic(site[1], site[0], site[2])
    patterns = None if database is None else PatternDatabase.load_from_file(database)
    drift, codes = None if log is None else DriftLog(log), set()
    last: tuple[Verdict, Path] | None = None
    watch = Watch(before, site=place, false_alarm=false_alarm, database=patterns)
    if drift is not None:
        _evaluate_suspects(watch, drift)
    for path in frames:
        try:
            verdict = watch.look(path)
        except (BoresightError, OSError) as error:
            click.echo(f"boresight: {path}: {error}", err=True)
            codes.add(UNSOLVED)
            continue
        note = None
        if update and verdict.moved and isinstance(before, MountedCamera):
            after, note = _updated(before, verdict, calibration)
            if after is not before:
                before = watch.calibration = after
        if drift is not None:
            drift.append(verdict, path, note)
        codes.add(_code(verdict))
        last = verdict, path
        record = {"file": str(path), **verdict.to_dict(), "note": note}
        line = f"{path.name}: {verdict}" + ("" if note is None else f"; {note}")
        click.echo(json.dumps(record) if as_json else line)
    if report is not None and (drift is not None or last is not None):
        _report(report, drift, last)
    raise SystemExit(next((code for code in (MOVED, UNSOLVED, UNKNOWN) if code in codes), 0))


def _evaluate_suspects(watch: Watch, drift: DriftLog) -> None:
    """Evaluate again the last frames in the log that seem to show a change, if they still exist."""
    for path in map(Path, drift.suspects()):
        with contextlib.suppress(BoresightError, OSError):
            watch.look(path)


def _report(page: Path, drift: DriftLog | None, last: tuple[Verdict, Path] | None) -> None:
    """Write the page about the log, or about the last verdict."""
    from boresight.report.page import report

    if drift is not None:
        report(drift, page)
    elif last is not None:
        verdict, path = last
        shown = dataclasses.replace(verdict, solutions=verdict.solutions[-1:])
        report(shown, page, frames=[path][: len(shown.solutions)])


def _code(verdict: Verdict) -> int:
    if not verdict.solved:
        return UNSOLVED
    return UNKNOWN if verdict.moved is None else MOVED if verdict.moved else 0


def _load(path: Path) -> Any:
    """Load a mounted camera or a camera model."""
    from boresight.camera.model import CameraModel
    from boresight.movement import MountedCamera

    try:
        return MountedCamera.load(path)
    except FileFormatError:
        return CameraModel.load(path)


def refusal(verdict: Verdict) -> str | None:
    """Reason why the frames of a verdict do not suffice to update the calibration, or None."""
    if verdict.num_stars < LEAST_STARS_UPDATE:
        return f"{verdict.num_stars} stars are too few"
    if verdict.coverage < LEAST_COVERAGE_UPDATE:
        return f"stars cover {verdict.coverage:.0%} of the frame, too little"
    if not verdict.held_out_px <= WORST_HELD_OUT * verdict.rms_px:
        return "the change does not predict stars that were held out of the fit"
    return None


def _updated(
    before: MountedCamera, verdict: Verdict, path: Path
) -> tuple[MountedCamera, str | None]:
    """Update the calibration file and keep a copy of the old one, or return the reason if not."""
    from boresight.movement import update_calibration

    reason = refusal(verdict)
    if reason is not None:
        return before, f"not updated: {reason}"
    try:
        after: MountedCamera = update_calibration(before, None, verdict)
    except BoresightError as error:
        return before, f"not updated: {error}"
    kept = path.with_name(path.stem + ".before" + path.suffix)
    # The file itself: written again, numbers could differ in the last digit.
    write_atomically(kept, path.read_bytes())
    after.save(path)
    return after, f"calibration updated; the previous one is kept in {kept.name}"
