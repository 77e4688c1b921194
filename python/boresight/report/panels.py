"""Panels: images with marks, as SVG drawings that the reader can zoom and blink."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import longitude_latitude
from boresight.frames.frame import Frame
from boresight.report.pictures import star_picture
from boresight.solver.solution import Solution

__all__ = ["circles_by_inlier", "panel", "panel_section", "solution_panel"]

Floats = NDArray[np.float64]

#: Largest number of marked stars.
MARKED_STARS = 300

#: Radius of the circles as a fraction of the image's longer side.
CIRCLE_PART = 1 / 110


def panel(
    name: str,
    words: str,
    image_shape: tuple[int, int],
    layers: Mapping[str, str],
    marks: str = "",
    *,
    marked: str = "Stars",
) -> str:
    """Make the panel of an image.

    Parameters
    ----------
    name, words : str
        Name of the image, and further text of the caption.
    image_shape : (int, int)
        (height, width).
    layers : mapping of str to str
        SVG elements of pictures of the same pixels, by their names. One picture is visible at a
        time. The button "Blink" alternates the pictures or, if there is only one, hides and shows
        the marks.
    marks : str
        SVG elements that are drawn on the pictures, in pixels from the middle of the image.
    marked : str
        Label of the button that hides and shows the marks.
    """
    height, width = image_shape
    box = f"{-width / 2:g} {-height / 2:g} {width} {height}"
    drawn = "".join(
        f'<g class="layer{" hidden" if number else ""}">{picture}</g>'
        for number, picture in enumerate(layers.values())
    )
    actions = {"in": "+", "out": "&minus;", "all": "Whole"}
    if marks:
        actions["marks"] = escape(marked)
    if marks or len(layers) > 1:
        actions["blink"] = "Blink"
    buttons = "".join(
        f'<button type="button" data-do="{action}">{text}</button>'
        for action, text in actions.items()
    )
    if len(layers) > 1:
        buttons += "".join(
            f'<button type="button" data-layer="{number}" aria-pressed="{str(not number).lower()}">'
            f"{escape(layer)}</button>"
            for number, layer in enumerate(layers)
        )
    return (
        f'<figure class="panel"><figcaption><strong>{escape(name)}</strong> {escape(words)}'
        f'</figcaption><svg viewBox="{box}" data-box="{box}" role="img" '
        f'aria-label="{escape(name)}" preserveAspectRatio="xMidYMid meet">'
        f'<rect x="{-width / 2:g}" y="{-height / 2:g}" width="{width}" height="{height}" '
        f'class="ground"/>{drawn}<g class="marks">{marks}</g></svg>'
        f'<div class="buttons">{buttons}</div></figure>'
    )


def panel_section(panels: Iterable[str], heading: str = "Frames") -> str:
    """Make the section of panels; empty without panels."""
    drawn = "".join(panels)
    if not drawn:
        return ""
    return f'<section><h2>{heading}</h2><div class="panels">{drawn}</div></section>'


def solution_panel(name: str, solution: Solution | None, frame: Frame | None) -> str:
    """Make the panel of a frame with its matched stars."""
    shape = frame.image_shape if frame is not None else _shape(solution)
    layers = {} if frame is None else {"Frame": star_picture(frame.image)}
    if solution is None:
        return panel(name, "not solved", shape, layers)
    where = solution.center.to_string("hmsdms", precision=0)
    return panel(name, where, shape, layers, _matched(solution))


def circles(xy: Floats, words: Iterable[str], image_shape: tuple[int, int], kind: str = "") -> str:
    """Make circles with tooltips around positions, in pixels from the middle of the image."""
    radius = CIRCLE_PART * max(image_shape)
    of_kind = f' class="{kind}"' if kind else ""
    return "".join(
        f'<circle{of_kind} cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{escape(word)}'
        "</title></circle>"
        for (x, y), word in zip(xy, words, strict=True)
    )


def circles_by_inlier(
    xy: Floats, kept: NDArray[np.bool_], tooltip: Callable[[int], str], image_shape: tuple[int, int]
) -> str:
    """Make circles around points; circles of points that the fit has excluded are dashed.

    At most about `MARKED_STARS` points of each kind are drawn. `tooltip` returns the tooltip of a
    point by its row.
    """
    marks = ""
    for wanted, kind in ((True, ""), (False, "left")):
        rows = np.flatnonzero(kept == wanted)
        rows = rows[:: max(1, -(-len(rows) // MARKED_STARS))]
        marks += circles(xy[rows], map(tooltip, rows.tolist()), image_shape, kind)
    return marks


def _shape(solution: Solution | None) -> tuple[int, int]:
    assert solution is not None, "what has neither a frame nor a solution is not drawn"
    return solution.image_shape


def _matched(solution: Solution) -> str:
    """Make circles at the positions, by the solution, of the brightest matched catalogue stars."""
    stars = solution.matched_stars
    order = np.argsort(np.nan_to_num(stars.magnitudes, nan=99.0), kind="stable")[:MARKED_STARS]
    ra, dec = np.degrees(longitude_latitude(stars.directions[order]))
    words = []
    for i in order:
        magnitude = stars.magnitudes[i]
        known = f", magnitude {magnitude:.1f}" if np.isfinite(magnitude) else ""
        words.append(
            f"{stars.catalog_ids[i]}{known}, residual {stars.residuals_arcsec[i]:.2f} arcsec"
        )
    xy = np.column_stack(solution.world_to_pixel(ra, dec))
    return circles(xy, words, solution.image_shape)
