"""Sections of the page about a verdict on a camera's movement, or about the log of its drift."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from boresight.frames.frame import Frame
from boresight.movement import DriftLog, Verdict
from boresight.report.downloads import File, links
from boresight.report.figures import drift_figure, figure_section
from boresight.report.panels import panel_section, solution_panel
from boresight.report.tables import row, table
from boresight.report.verdict import box

__all__ = ["movement_sections"]

_COLUMNS = (
    "Frame", "Time (UTC)", "Verdict", "About x (\")", "About y (\")", "Roll (\")", "Focus (ppm)",
    "Stars", "Covered",
)  # fmt: skip

MAX_UNDECIDED = 0.5
"""Fraction of frames without a verdict above which the box asks the reader to check the log."""


def movement_sections(
    result: Verdict | DriftLog,
    frames: Sequence[Frame | None],
    names: Sequence[str],
    heading: str,
) -> Iterator[str]:
    """Yield the sections of the page from the top."""
    records = result.records() if isinstance(result, DriftLog) else [_record(result, names)]
    words = _log_box(result, records) if isinstance(result, DriftLog) else _verdict_box(result)
    yield f"<header><h1>{escape(heading)}</h1>{words}</header>"
    rows = [row(str(r["frame"] or ""), _cells(r)) for r in records]
    yield f"<main><section><h2>Results</h2>{table(_COLUMNS, rows)}</section>"
    if isinstance(result, Verdict):
        shown = zip(names, result.solutions, frames, strict=False)
        yield panel_section(solution_panel(*parts) for parts in shown)
    elif any(r["unknown"] is None and r["time"] for r in records):
        yield figure_section(drift_figure(result))
    yield f"<section><h2>Files</h2>{links(_files(result, records))}</section>"


def _record(verdict: Verdict, names: Sequence[str]) -> dict[str, Any]:
    return {"frame": ", ".join(names), **verdict.to_dict()}


def _verdict_box(verdict: Verdict) -> str:
    if verdict.unknown is not None:
        return box("bad", f"No decision whether the camera has moved: {verdict.unknown}.", [])
    stars = f"{verdict.num_stars} stars, false alarms {verdict.false_alarm:g}"
    if not verdict.kinds:
        return box("good", f"The camera has not moved: nothing significant changed ({stars}).", [])
    kinds = ", ".join(verdict.kinds)
    return box("check", f"The camera has moved: {kinds} ({stars}).", verdict.sentences())


def _log_box(log: DriftLog, records: Sequence[Mapping[str, Any]]) -> str:
    if not records:
        return box("bad", "The log has no frame.", [])
    moved = sum(bool(r["kinds"]) for r in records)
    undecided = sum(r["unknown"] is not None for r in records)
    notes = [
        f"{point.time[:19]}: about x {point.about_x_arcsec:+.1f}, about y "
        f"{point.about_y_arcsec:+.1f}, roll {point.roll_arcsec:+.1f} arcsec at once"
        for point in log.change_points()
    ]
    text = (
        f"{len(records)} frames: {moved} of a camera that has moved, {undecided} without a "
        f"decision, {len(notes)} sudden changes."
    )
    kind = "check" if moved or notes or undecided > MAX_UNDECIDED * len(records) else "good"
    return box("bad" if undecided == len(records) else kind, text, notes)


def _cells(record: Mapping[str, Any]) -> list[str]:
    """Table cells of one frame; cells without a value are empty."""
    words = record["unknown"] or ", ".join(record["kinds"]) or "unmoved"
    head = [str(record["time"] or "")[:19], words]
    tail = [str(record["num_stars"]), f"{record['coverage']:.0%}"]
    if record["unknown"] is not None:
        return [*head, "", "", "", "", *tail]
    x, y = record["pointing_arcsec"]
    numbers = (x, y, record["roll_arcsec"], 1e6 * record["focus"])
    return [*head, *(f"{value:+.2f}" if value else "0" for value in numbers), *tail]


def _files(result: Verdict | DriftLog, records: Sequence[Mapping[str, Any]]) -> Iterator[File]:
    if isinstance(result, DriftLog):
        lines = "".join(json.dumps(r) + "\n" for r in records)
        yield "drift.jsonl", "application/json", lines, "the log"
    else:
        yield "verdict.json", "application/json", json.dumps(records[0], indent=2), "the verdict"
