"""Files to download, inside of the page."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import PurePath
from typing import Any

from boresight.calibration.result import CalibrationResult
from boresight.errors import BoresightError
from boresight.solver.solution import Solution
from boresight.wcs import header_cards

__all__ = ["downloads", "links"]


def downloads(result: Any, solutions: Sequence[Solution | None], names: Sequence[str]) -> str:
    """Make the list of links to the files of a solution or a calibration."""
    return links(_files(result, solutions, names))


def links(files: Iterable[tuple[str, str, str, str]]) -> str:
    """Make the list of links to files: their names, types, contents and meanings."""
    items = "".join(
        f'<li><a download="{escape(name)}" href="data:{kind};base64,{_coded(text)}">'
        f"{escape(name)}</a>: {words}</li>"
        for name, kind, text, words in files
    )
    return f'<ul class="downloads">{items}</ul>'


def _files(
    result: Any, solutions: Sequence[Solution | None], names: Sequence[str]
) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, content and meaning of each file."""
    if isinstance(result, CalibrationResult):
        text = json.dumps(result.camera_model.to_dict(), indent=2)
        yield "camera.json", "application/json", text, "the camera model, for <code>--camera</code>"
    solved = {
        name: solution
        for name, solution in zip(names, solutions, strict=True)
        if solution is not None
    }
    told = {name: solution.to_dict() for name, solution in solved.items()}
    yield "solutions.json", "application/json", json.dumps(told), "all solutions"
    for name, solution in solved.items():
        stem = PurePath(name).name.split(".")[0].replace(" ", "_")
        yield f"{stem}_matches.ecsv", "text/plain", _matches(solution), "its matched stars"
        try:
            header = header_cards(solution.wcs())
        except BoresightError:
            continue  # farther than any header can tell
        yield f"{stem}_wcs.txt", "text/plain", header.tostring(sep="\n"), "its WCS as a header"


def _matches(solution: Solution) -> str:
    table = solution.matches
    # The positions on the sky that were measured follow from the pixels and the WCS.
    table.remove_column("sky")
    for name in ("x", "y", "residual"):
        table[name] = table[name].round(4)
    file = io.StringIO()
    table.write(file, format="ascii.ecsv")
    return file.getvalue()


def _coded(text: str) -> str:
    return base64.b64encode(text.encode("utf-8")).decode("ascii")
