"""The function `report`, which writes the whole page: verdict, table, frames, figures, files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from boresight._utils.files import write_atomically
from boresight._utils.naming import type_of
from boresight.alignment.result import AlignmentResult
from boresight.calibration.result import CalibrationResult
from boresight.errors import InputError
from boresight.extraction.images import pixels_of
from boresight.frames.frame import Frame
from boresight.frames.read import read_frame
from boresight.movement import DriftLog, MovementCorrection, Verdict
from boresight.report.alignment import alignment_sections, members
from boresight.report.correction import correction_sections
from boresight.report.movement import movement_sections
from boresight.report.scene import scene_sections
from boresight.report.solved import solved_sections
from boresight.report.tables import provenance
from boresight.scene.result import SceneResult
from boresight.solver.solution import Solution

__all__ = ["report"]

Result = (
    Solution
    | Sequence[Solution | None]
    | CalibrationResult
    | AlignmentResult
    | SceneResult
    | MovementCorrection
    | Verdict
    | DriftLog
)


class _Kind(NamedTuple):
    """A kind of result, its heading, its number of frames, and the function for its sections."""

    type: type
    heading: str
    num_frames: Callable[[Any], int]
    sections: Callable[..., Iterator[str]]


_KINDS = (
    _Kind(Solution, "Solution", lambda _: 1, solved_sections),
    _Kind(CalibrationResult, "Calibration", lambda r: len(r.solutions), solved_sections),
    _Kind(AlignmentResult, "Alignment", lambda r: len(members(r)), alignment_sections),
    _Kind(SceneResult, "Scene", lambda r: len(r.images), scene_sections),
    _Kind(MovementCorrection, "Movement", lambda _: 2, correction_sections),
    _Kind(Verdict, "Movement", lambda r: len(r.solutions), movement_sections),
    _Kind(DriftLog, "Drift", lambda _: 0, movement_sections),
)

#: Content security policy: scripts, styles and pictures must be in the page itself.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def report(
    result: Result,
    path: str | os.PathLike[str],
    *,
    frames: Sequence[Any] | None = None,
    title: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write an HTML page about a solution, a calibration, an alignment, a scene, or a movement.

    The page is one self-contained file that needs no network. It has a verdict, a table with a row
    for each frame, the frames with their matched stars to zoom and to blink, figures, files to
    download, and provenance. It is legible on screens of any width, light or dark, and on paper. A
    page of ten frames has about 2 MB.

    Parameters
    ----------
    result : Solution, sequence of (Solution or None), CalibrationResult, AlignmentResult, \
SceneResult, MovementCorrection, Verdict or DriftLog
        The result. A calibration must be a result of `boresight.calibrate`, which has the solutions
        of the frames. For a `boresight.movement.Verdict` the solved frames are shown. The frames of
        a drift log are rows of the table and points of a figure.
    path : path-like
        File to create or replace.
    frames : sequence, optional
        The frames, in the order of the solutions or of all images (also those within groups), in
        any form that `solve` accepts as an image. None stands for a frame that is not drawn. For a
        movement, give the reference and the moved image. A scene contains its pixels; only the
        names and hashes of its frames are used. Default: only the stars are drawn.
    title : str, optional
        Title of the page. Default: the kind of the result.
    options : mapping of str to object, optional
        Options of the computation, to be listed in the provenance.

    Returns
    -------
    pathlib.Path
        The file that was written.

    Raises
    ------
    InputError
        If `result` has another type, or the number of frames is not that of the result.
    ModuleNotFoundError
        If matplotlib, which the figures need, is not installed:
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
    kind = _kind(result)
    shown = _frames(frames, kind.num_frames(result))
    heading = title or kind.heading
    names = [_name(frame, i) for i, frame in enumerate(shown)]
    table = provenance(result, shown, options or {})
    body = "\n".join([
        *kind.sections(result, shown, names, heading),
        f"<section><h2>Provenance</h2>{table}</section></main>",
    ])  # fmt: skip
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


def _kind(result: Any) -> _Kind:
    for kind in _KINDS:
        if isinstance(result, kind.type):
            return kind
    known = isinstance(result, Sequence) and not isinstance(result, str)
    if known and all(s is None or isinstance(s, Solution) for s in result):
        return _Kind(Sequence, "Solution", len, solved_sections)
    names = ", ".join(kind.type.__name__ for kind in _KINDS)
    raise InputError(
        f"result: {type_of(result)} has no report; give one of {names}, or a list of solutions"
    )


def _frames(frames: Sequence[Any] | None, number: int) -> list[Frame | None]:
    if frames is None:
        return [None] * number
    if len(frames) != number:
        raise InputError(
            f"frames: {len(frames)} for {number} of the result; give one (or None) each"
        )
    return [_frame(frame) for frame in frames]


def _frame(given: Any) -> Frame | None:
    if given is None or isinstance(given, Frame):
        return given
    if isinstance(given, str | os.PathLike):
        return read_frame(given)
    return Frame(pixels_of(given, luminance=True)[0])


def _name(frame: Frame | None, index: int) -> str:
    return frame.path.name if frame is not None and frame.path is not None else f"Frame {index + 1}"
