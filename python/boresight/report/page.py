"""The page as a whole: verdict, table, frames, figures, downloads, provenance."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from boresight._utils.files import write_atomically
from boresight.calibration.result import CalibrationResult
from boresight.errors import InputError
from boresight.extraction.images import pixels_of
from boresight.frames.frame import Frame
from boresight.frames.read import read_frame
from boresight.movement import DriftLog, Verdict
from boresight.report.downloads import downloads
from boresight.report.figures import calibration_figures
from boresight.report.movement import movement_sections
from boresight.report.panels import panel
from boresight.report.tables import parameter_table, provenance, results_table
from boresight.report.verdict import verdict
from boresight.solver.solution import Solution

__all__ = ["report"]

Result = Solution | CalibrationResult | Verdict | DriftLog | Sequence[Solution | None]

#: No script, style or picture may come from anywhere but the page itself.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def report(
    result: Result,
    path: str | os.PathLike[str],
    *,
    frames: Sequence[Any] | None = None,
    title: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write a page about a solution, several solutions, a calibration, or a moved camera.

    One HTML file that needs nothing else, no network either: a verdict, a table with a row for each
    frame, the frames with their matched stars to zoom into and to blink, figures of the
    calibration, files to download, and provenance. It is read on a screen of any width, light or
    dark, and on paper. Ten frames take about 2 MB.

    Parameters
    ----------
    result : Solution, CalibrationResult, Verdict, DriftLog, or sequence of (Solution or None)
        The result; of a calibration one by `boresight.calibrate`, which has the frames' solutions.
        Of a `boresight.movement.Verdict` the solved frames are shown, and of a drift log its
        frames are rows of the table and points of a figure.
    path : path-like
        File to create or replace.
    frames : sequence, optional
        The frames, in the order of the solutions, as anything that `solve` takes as an image; None
        for one that is not to be drawn. Default: only the stars are drawn.
    title : str, optional
        Title of the page. Default: the kind of the result.
    options : mapping of str to object, optional
        Options that were used, for the provenance.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        If `result` is none of these, or there are not as many frames as solutions.
    ModuleNotFoundError
        If matplotlib is not installed, which figures of a calibration need:
        ``pip install boresight[report]``.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import boresight, pathlib, tempfile
    >>> camera = boresight.CameraModel.from_fov(12.0, (256, 256))
    >>> image = boresight.simulate_frame(camera, ra_deg=83.8, dec_deg=-1.2, seed=1).image
    >>> solution = boresight.solve(image, 12.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = boresight.report(solution, pathlib.Path(folder) / "report.html", frames=[image])
    ...     print(page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>"))
    True
    """
    solutions = _solutions(result)
    shown = _frames(frames, len(solutions))
    heading = title or _heading(result)
    names = [_name(frame, i) for i, frame in enumerate(shown)]
    if isinstance(result, Verdict | DriftLog):
        parts = movement_sections(result, shown, names, heading, options or {})
    else:
        parts = _sections(result, solutions, shown, names, heading, options or {})
    body = "\n".join(parts)
    assets = files("boresight.report") / "assets"
    style = (assets / "page.css").read_text(encoding="utf-8")
    script = (assets / "page.js").read_text(encoding="utf-8")
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n'
        f"<title>{escape(heading)} - Boresight</title>\n<style>\n{style}</style></head>\n"
        f"<body>\n{body}\n<script>\n{script}</script>\n</body></html>\n"
    )
    write_atomically(path, page.encode("utf-8"))
    return Path(path)


def _heading(result: Result) -> str:
    if isinstance(result, Verdict | DriftLog):
        return "Movement" if isinstance(result, Verdict) else "Drift"
    return "Calibration" if isinstance(result, CalibrationResult) else "Solution"


def _sections(
    result: Solution | CalibrationResult | Sequence[Solution | None],
    solutions: Sequence[Solution | None],
    frames: Sequence[Frame | None],
    names: Sequence[str],
    heading: str,
    options: Mapping[str, Any],
) -> Iterator[str]:
    """Parts of the page from the top."""
    yield f"<header><h1>{escape(heading)}</h1>{verdict(result, solutions, names)}</header>"
    yield f"<main><section><h2>Results</h2>{results_table(result, solutions, frames, names)}"
    yield "</section>"
    panels = [
        panel(name, solution, frame)
        for name, solution, frame in zip(names, solutions, frames, strict=True)
        if solution is not None or frame is not None
    ]
    yield f'<section><h2>Frames</h2><div class="panels">{"".join(panels)}</div></section>'
    if isinstance(result, CalibrationResult):
        yield f"<section><h2>Camera</h2>{parameter_table(result)}</section>"
        yield f'<section><h2>Figures</h2><div class="figures">{calibration_figures(result)}</div>'
        yield "</section>"
    yield f"<section><h2>Files</h2>{downloads(result, solutions, names)}</section>"
    yield f"<section><h2>Provenance</h2>{provenance(result, frames, options)}</section></main>"


def _solutions(result: Any) -> list[Solution | None]:
    """Solutions of a result, one for each frame."""
    if isinstance(result, Solution):
        return [result]
    if isinstance(result, CalibrationResult):
        return list(result.solutions)
    if isinstance(result, Verdict):
        return list(result.solutions)
    if isinstance(result, DriftLog):
        return []
    known = isinstance(result, Sequence) and not isinstance(result, str)
    if not known or not all(s is None or isinstance(s, Solution) for s in result):
        raise InputError(
            f"result: a {type(result).__name__} has no report; give a Solution, a list of them, a "
            "CalibrationResult, a Verdict or a DriftLog"
        )
    return list(result)


def _frames(frames: Sequence[Any] | None, number: int) -> list[Frame | None]:
    if frames is None:
        return [None] * number
    if len(frames) != number:
        raise InputError(f"frames: {len(frames)} for {number} solutions; give one (or None) each")
    return [_frame(frame) for frame in frames]


def _frame(given: Any) -> Frame | None:
    if given is None or isinstance(given, Frame):
        return given
    if isinstance(given, str | os.PathLike):
        return read_frame(given)
    return Frame(pixels_of(given, luminance=True)[0])


def _name(frame: Frame | None, index: int) -> str:
    return frame.path.name if frame is not None and frame.path is not None else f"Frame {index + 1}"
