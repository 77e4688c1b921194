"""The verdict at the top of the page: a sentence on success, and notes on points to check."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from boresight.calibration.result import CalibrationResult
from boresight.solver.solution import Solution

__all__ = ["box", "verdict"]

#: Sign of each kind of box, so that the kinds differ also without colours.
_SIGNS = {"good": "✓", "check": "!", "bad": "✕"}


def verdict(result: Any, solutions: Sequence[Solution | None], names: Sequence[str]) -> str:
    """Make the box at the top of the page."""
    solved = [solution for solution in solutions if solution is not None]
    missing = [name for name, solution in zip(names, solutions, strict=True) if solution is None]
    many = len(solutions) > 1
    if isinstance(result, CalibrationResult):
        text, notes = _calibrated(result, len(solved)), list(result.warnings)
    elif solved:
        residual = max(solution.rmse_arcsec for solution in solved)
        chance = max(solution.probability for solution in solved)
        opening = (
            f"{len(solved)} of {len(solutions)} frames solved, with RMS residuals of up to"
            if many
            else "The frame is solved, with an RMS residual of"
        )
        text = (
            f"{opening} {residual:.2g} arcsec. Chance gives such a match with a probability of at "
            f"most {chance:.0e}."
        )
        notes = []
    else:
        text, notes = "Not solved. boresight diagnose finds why a frame does not solve.", []
    if missing and solved:
        notes.append(f"Not solved: {', '.join(missing)}")
    return box("bad" if not solved else "check" if notes else "good", text, notes)


def box(kind: str, text: str, notes: Sequence[str]) -> str:
    """Make a box of the kind "good", "check" (points to check) or "bad"."""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f'<div class="verdict {kind}"><span class="sign" aria-hidden="true">{_SIGNS[kind]}</span>'
        f"<div><p>{escape(text)}</p>{f'<ul>{items}</ul>' if items else ''}</div></div>"
    )


def _calibrated(result: CalibrationResult, solved: int) -> str:
    held_out = result.held_out_rmse_px
    tail = "" if held_out is None else f", {held_out:.3f} px for stars held out of the fit"
    return (
        f"{solved} of {len(result.frames)} frames, {result.num_inliers} stars: the camera "
        f"reproduces their positions to {result.rmse_after_px:.3f} px RMS{tail}."
    )
