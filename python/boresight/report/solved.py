"""Sections of the page about solutions and calibrations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from boresight.calibration.result import CalibrationResult
from boresight.frames.frame import Frame
from boresight.report.downloads import downloads
from boresight.report.figures import calibration_figures, figure_section
from boresight.report.panels import panel_section, solution_panel
from boresight.report.tables import parameter_table, results_table
from boresight.report.verdict import verdict
from boresight.solver.solution import Solution

__all__ = ["solved_sections"]


def solved_sections(
    result: Solution | CalibrationResult | Sequence[Solution | None],
    frames: Sequence[Frame | None],
    names: Sequence[str],
    heading: str,
) -> Iterator[str]:
    """Yield the sections of the page from the top."""
    solutions: Sequence[Solution | None] = (
        [result]
        if isinstance(result, Solution)
        else result.solutions
        if isinstance(result, CalibrationResult)
        else result
    )
    yield f"<header><h1>{escape(heading)}</h1>{verdict(result, solutions, names)}</header>"
    yield f"<main><section><h2>Results</h2>{results_table(result, solutions, frames, names)}"
    yield "</section>"
    yield panel_section(
        solution_panel(name, solution, frame)
        for name, solution, frame in zip(names, solutions, frames, strict=True)
        if solution is not None or frame is not None
    )
    if isinstance(result, CalibrationResult):
        yield f"<section><h2>Camera</h2>{parameter_table(result)}</section>"
        yield figure_section(calibration_figures(result))
    yield f"<section><h2>Files</h2>{downloads(result, solutions, names)}</section>"
