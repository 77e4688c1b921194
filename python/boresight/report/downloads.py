"""Files that can be downloaded from the page, embedded in the page."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import PurePath
from typing import Any

from boresight.calibration.result import CalibrationResult
from boresight.errors import BoresightError
from boresight.solver.solution import Solution
from boresight.wcs import header_cards

__all__ = ["File", "downloads", "ecsv", "links", "stem_of", "wcs_file"]

File = tuple[str, str, str, str]
"""Name, MIME type, content and description of a file."""


def downloads(result: Any, solutions: Sequence[Solution | None], names: Sequence[str]) -> str:
    """Make the list of links to the files of a solution or a calibration."""
    return links(_files(result, solutions, names))


def links(files: Iterable[File]) -> str:
    """Make an HTML list of links that contain the files."""
    items = "".join(
        f'<li><a download="{escape(name)}" href="data:{kind};base64,{_coded(text)}">'
        f"{escape(name)}</a>: {words}</li>"
        for name, kind, text, words in files
    )
    return f'<ul class="downloads">{items}</ul>'


def _files(
    result: Any, solutions: Sequence[Solution | None], names: Sequence[str]
) -> Iterator[File]:
    if isinstance(result, CalibrationResult):
        text = json.dumps(result.camera_model.to_dict(), indent=2)
        yield "camera.json", "application/json", text, "the camera model, for <code>--camera</code>"
    solved = {
        name: solution
        for name, solution in zip(names, solutions, strict=True)
        if solution is not None
    }
    document = {name: solution.to_dict() for name, solution in solved.items()}
    yield "solutions.json", "application/json", json.dumps(document), "all solutions"
    for name, solution in solved.items():
        stem = stem_of(name)
        yield f"{stem}_matches.ecsv", "text/plain", _matches(solution), "its matched stars"
        yield from wcs_file(stem, solution)


def stem_of(name: str) -> str:
    """Beginning of the file names for a frame: the frame's name without extension, made safe."""
    return re.sub(r"[^\w-]+", "_", PurePath(name).name.split(".")[0])


def wcs_file(stem: str, wcs: Any) -> Iterator[File]:
    """Yield the file with a WCS, or the WCS of a solution; none if FITS cards cannot express it."""
    try:
        header = header_cards(wcs.wcs() if isinstance(wcs, Solution) else wcs)
    except (BoresightError, AttributeError):
        return  # a field too wide for FITS, or a gwcs
    yield f"{stem}_wcs.txt", "text/plain", header.tostring(sep="\n"), "its WCS as a header"


def ecsv(table: Any) -> str:
    """Convert a table to ECSV text."""
    file = io.StringIO()
    table.write(file, format="ascii.ecsv")
    return file.getvalue()


def _matches(solution: Solution) -> str:
    table = solution.matches
    # The measured sky positions can be computed from the pixels and the WCS.
    table.remove_column("sky")
    for name in ("x", "y", "residual"):
        table[name] = table[name].round(4)
    return ecsv(table)


def _coded(text: str) -> str:
    return base64.b64encode(text.encode("utf-8")).decode("ascii")
