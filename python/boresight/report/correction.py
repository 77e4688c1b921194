"""Sections of the page about the movement between two images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from boresight.frames.frame import Frame
from boresight.movement import MovementCorrection
from boresight.report.downloads import File, links
from boresight.report.panels import circles_by_inlier, panel, panel_section
from boresight.report.pictures import levels_of, linear_picture
from boresight.report.tables import row, table
from boresight.report.verdict import box

__all__ = ["correction_sections"]


def correction_sections(
    result: MovementCorrection,
    frames: Sequence[Frame | None],
    names: Sequence[str],
    heading: str,
) -> Iterator[str]:
    """Yield the sections of the page from the top."""
    ref, moved = frames
    score = None
    if ref is not None and moved is not None and ref.image_shape == moved.image_shape:
        score = result.get_ddscore(ref.image, moved.image)
    yield f"<header><h1>{escape(heading)}</h1>{_verdict(result, score)}</header>"
    rows = [row(name, cells) for name, *cells in _rows(result, score)]
    head = ("Moved to reference", "Value", "Uncertainty")
    yield f"<main><section><h2>Results</h2>{table(head, rows)}</section>"
    yield panel_section(_panels(result, ref, moved))
    yield f"<section><h2>Files</h2>{links(_files(result))}</section>"


def _verdict(result: MovementCorrection, score: float | None) -> str:
    x, y = result.shift
    text = (
        f"The image has moved by ({x:+.2f}, {y:+.2f}) px, with a rotation of "
        f"{result.rotation:+.3f} deg and a scale of {result.scale:.5f}"
    )
    if len(result.inliers):
        text += f"; {int(result.inliers.sum())} of {len(result.inliers)} points agree"
    notes = []
    if result.log10_chance is not None and result.log10_chance >= 0.0:
        notes.append("Chance makes such a movement between unrelated images.")
    if score is not None and score < 0.0:
        notes.append("The images agree less after the correction than before it.")
    return box("check" if notes else "good", f"{text}.", notes)


def _rows(result: MovementCorrection, score: float | None) -> Iterator[tuple[str, str, str]]:
    """Yield the name, value and uncertainty of each quantity."""
    sigmas = result.shift_sigma or (None, None)
    for name, shift, sigma in zip("xy", result.shift, sigmas, strict=True):
        yield f"Shift {name} (px)", f"{shift:+.3f}", _error(sigma)
    yield "Rotation (deg)", f"{result.rotation:+.4f}", _error(result.rotation_sigma)
    yield "Scale", f"{result.scale:.6f}", _error(result.scale_sigma)
    yield "Points", f"{int(result.inliers.sum())} of {len(result.inliers)}", ""
    if result.inliers.any():
        lengths = np.hypot(*result.residuals[result.inliers].T)
        yield "RMS residual (px)", f"{np.sqrt(np.mean(lengths**2)):.3f}", ""
    if score is not None:
        yield "DDScore (-1 worse, 1 better)", f"{score:+.3f}", ""
    if result.log10_chance is not None:
        yield "log10 of chance", f"{result.log10_chance:.1f}", ""


def _error(sigma: float | None) -> str:
    return "" if sigma is None else f"{sigma:.2g}"


def _panels(result: MovementCorrection, ref: Frame | None, moved: Frame | None) -> Iterator[str]:
    """Panels of the reference with the moved image before and after the correction, for blinking.

    Blinking shows the movement, and what remains of the movement after the correction.
    """
    shape = result.im_shape
    if ref is None:
        if len(result.ref_points):
            yield panel("Reference", "its points", shape, {}, _points(result), marked="Points")
        return
    levels = levels_of(ref.image)
    reference = linear_picture(ref.image, levels)
    if moved is None or moved.image_shape != ref.image_shape:
        yield panel("Reference", "", shape, {"Reference": reference}, _points(result))
        return
    aligned, _ = result.warp_moved_to_ref(moved.image)
    for name, image in (("Before", moved.image), ("After the correction", aligned)):
        layers = {"Reference": reference, "Moved": linear_picture(image, levels)}
        yield panel(name, "", shape, layers, _points(result), marked="Points")


def _points(result: MovementCorrection) -> str:
    """Make circles around the points of the reference."""

    def tooltip(row: int) -> str:
        dx, dy = result.residuals[row]
        return f"residual ({dx:+.2f}, {dy:+.2f}) px"

    middle = np.array(result.im_shape[::-1]) / 2
    return circles_by_inlier(result.ref_points - middle, result.inliers, tooltip, result.im_shape)


def _files(result: MovementCorrection) -> Iterator[File]:
    document = {
        "matrix": result.matrix.tolist(),
        "shift_px": list(result.shift),
        "rotation_deg": result.rotation,
        "scale": result.scale,
        "covariance": None if result.covariance is None else result.covariance.tolist(),
        "ref_points": result.ref_points.tolist(),
        "moved_points": result.moved_points.tolist(),
        "inliers": result.inliers.tolist(),
        "history": result.history,
    }
    yield "movement.json", "application/json", json.dumps(document, indent=2), "the movement"
