"""Tables of the page: a row for each frame, the camera's parameters, provenance."""

from __future__ import annotations

import datetime
import hashlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from boresight.calibration.result import SHOWN_PARAMETERS, CalibrationResult
from boresight.frames.frame import Frame
from boresight.solver.solution import Solution

__all__ = ["parameter_table", "provenance", "results_table", "row", "table"]

#: Column that is shown only if the header of a frame has a WCS.
_HEADER = 'vs header WCS (")'

#: Columns of the results. The first column is text.
_COLUMNS = (
    "Frame", "RA (deg)", "Dec (deg)", "Roll (deg)", "Width (deg)", "Stars", 'RMSE (")',
    "RMSE (px)", _HEADER, "Solve (ms)",
)  # fmt: skip

_PACKAGES = ("boresight", "numpy", "astropy", "matplotlib")


def results_table(
    result: Any,
    solutions: Sequence[Solution | None],
    frames: Sequence[Frame | None],
    names: Sequence[str],
) -> str:
    """Make the table with a row for each frame."""
    reasons = result.rejected if isinstance(result, CalibrationResult) else ()
    away = [_header_separation(f, s) for f, s in zip(frames, solutions, strict=True)]
    known = any(separation is not None for separation in away)
    columns = [name for name in _COLUMNS if known or name != _HEADER]
    rows = []
    for i, (name, solution) in enumerate(zip(names, solutions, strict=True)):
        if solution is None:
            reason = (reasons[i] if i < len(reasons) else None) or "not solved"
            rows.append(f'<tr><th scope="row">{escape(name)}</th>'
                        f'<td colspan="{len(columns) - 1}">{escape(reason)}</td></tr>')  # fmt: skip
            continue
        scale = solution.camera_model.pixel_scale_arcsec
        cells = [
            f"{solution.ra_deg:.5f}", f"{solution.dec_deg:+.5f}", f"{solution.roll_deg:.4f}",
            f"{solution.fov_deg:.4f}", str(solution.num_matches), f"{solution.rmse_arcsec:.2f}",
            f"{solution.rmse_arcsec / scale:.3f}", *([_number(away[i])] if known else []),
            f"{solution.solve_time_ms:.1f}",
        ]  # fmt: skip
        rows.append(row(name, cells))
    return table(columns, rows)


def parameter_table(result: CalibrationResult) -> str:
    """Make the table of the camera's parameters with their uncertainties."""
    shown = list(result.parameters.items())[:SHOWN_PARAMETERS]
    rows = [row(name, (f"{value:.7g}", f"{sigma:.2g}")) for name, (value, sigma) in shown]
    left = len(result.parameters) - len(shown)
    note = f"<p>{left} more are in the camera model below.</p>" if left else ""
    camera = f"<p><code>{escape(repr(result.camera_model))}</code></p>"
    return camera + table(("Parameter", "Value", "Uncertainty"), rows) + note


def provenance(result: Any, frames: Sequence[Frame | None], options: Mapping[str, Any]) -> str:
    """Make the table of provenance: software, star catalogues, options, and hashes of files."""
    rows = [("Written", datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))]
    rows += [(name, found) for name in _PACKAGES if (found := _version(name))]
    rows.append(("Python", f"{platform.python_version()} on {platform.system()}"))
    if isinstance(result, CalibrationResult):
        rows.append(("Taken out of the positions", "; ".join(result.physics) or "nothing"))
    solutions = getattr(result, "solutions", result if isinstance(result, Sequence) else [result])
    used = (s.star_database for s in solutions if isinstance(s, Solution))
    rows += [("Solved with", program) for program in dict.fromkeys(used) if program]
    rows += [(f"Option {name}", str(value)) for name, value in options.items()]
    for frame in frames:
        if frame is not None and frame.path is not None and frame.path.is_file():
            with frame.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            rows.append((frame.path.name, f"SHA-256 {digest}"))
    body = [row(name, (value,), "text") for name, value in rows]
    return table(("", ""), body, head=False)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _header_separation(frame: Frame | None, solution: Solution | None) -> float | None:
    """Angle between the image centres by the header's WCS and by the solution, arcsec."""
    wcs = None if frame is None else frame.wcs
    if wcs is None or solution is None:
        return None
    height, width = solution.image_shape
    there = wcs.pixel_to_world(width / 2, height / 2)
    return float(there.icrs.separation(solution.center).arcsec)


def row(name: str, cells: Iterable[str], kind: str = "number") -> str:
    """Make a table row with its name in the first column."""
    text = "".join(f'<td class="{kind}">{escape(cell)}</td>' for cell in cells)
    return f'<tr><th scope="row">{escape(name)}</th>{text}</tr>'


def table(columns: Sequence[str], rows: Iterable[str], *, head: bool = True) -> str:
    """Make a table that scrolls horizontally if it is too wide."""
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    top = f"<thead><tr>{names}</tr></thead>" if head else ""
    return f'<div class="scroll"><table>{top}<tbody>{"".join(rows)}</tbody></table></div>'
