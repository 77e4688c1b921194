"""A frame with its matched stars, as a drawing to zoom into and to blink."""

from __future__ import annotations

import base64
import io
import math
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import longitude_latitude
from boresight.frames.frame import Frame
from boresight.solver.solution import Solution

__all__ = ["panel"]

Floats = NDArray[np.float64]

#: Longest side in pixels at which frames are drawn.
DRAWN_PIXELS = 800

#: Percentiles of the image that are drawn black and white, and how much faint light is lifted.
STRETCH, LIFT = (50.0, 99.9), 3.0

#: Side in drawn pixels of the blocks over which the sky is measured.
SKY_BLOCK = 20

#: Quality of the pictures, 0 to 95.
QUALITY = 72

#: Stars that are marked at most, the brightest.
MARKED_STARS = 300


def panel(name: str, solution: Solution | None, frame: Frame | None) -> str:
    """Make the figure of one frame."""
    height, width = frame.image_shape if frame is not None else _shape(solution)
    picture = "" if frame is None else _picture(frame, width, height)
    marks = "" if solution is None else _marks(solution)
    box = f"{-width / 2:g} {-height / 2:g} {width} {height}"
    buttons = "".join(
        f'<button type="button" data-do="{action}">{words}</button>'
        for action, words in (("in", "+"), ("out", "&minus;"), ("all", "Whole frame"),
                              ("stars", "Stars"), ("blink", "Blink"))
    )  # fmt: skip
    where = "not solved" if solution is None else solution.center.to_string("hmsdms", precision=0)
    return (
        f'<figure class="panel"><figcaption><strong>{escape(name)}</strong> {escape(where)}'
        f'</figcaption><svg viewBox="{box}" data-box="{box}" role="img" '
        f'aria-label="{escape(name)} with its matched stars" preserveAspectRatio="xMidYMid meet">'
        f'<rect x="{-width / 2:g}" y="{-height / 2:g}" width="{width}" height="{height}" '
        f'class="ground"/>{picture}<g class="marks">{marks}</g></svg>'
        f'<div class="buttons">{buttons}</div></figure>'
    )


def _shape(solution: Solution | None) -> tuple[int, int]:
    assert solution is not None, "what has neither a frame nor a solution is not drawn"
    return solution.image_shape


def _picture(frame: Frame, width: int, height: int) -> str:
    """Pixels of a frame as a picture inside of the drawing; pixel (0, 0) is its centre."""
    from PIL import Image

    step = max(1, math.ceil(max(height, width) / DRAWN_PIXELS))
    pixels = _flattened(_thinned(frame.image, step))
    low, high = np.percentile(pixels, STRETCH)
    part = np.clip((pixels - low) / max(high - low, 1e-30), 0.0, 1.0)
    shades = 255.0 * np.arcsinh(LIFT * part) / np.arcsinh(LIFT)
    file = io.BytesIO()
    Image.fromarray(shades.astype(np.uint8)).save(file, "JPEG", quality=QUALITY, optimize=True)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    rows, columns = pixels.shape
    # The first pixel's corner is half a pixel before its centre.
    return (
        f'<image x="{-width / 2 - 0.5:g}" y="{-height / 2 - 0.5:g}" width="{columns * step}" '
        f'height="{rows * step}" preserveAspectRatio="none" '
        f'href="data:image/jpeg;base64,{data}"/>'
    )


def _thinned(image: NDArray[Any], step: int) -> Floats:
    """Means of squares of pixels; what is left over at the right and below is cut off."""
    rows, columns = (side // step for side in image.shape)
    whole = np.asarray(image[: rows * step, : columns * step], dtype=np.float64)
    means: Floats = whole.reshape(rows, step, columns, step).mean(axis=(1, 3))
    return means


def _flattened(pixels: Floats) -> Floats:
    """Take out the sky, which clouds and the lens make uneven, and set what has no value to it."""
    from PIL import Image

    finite = np.isfinite(pixels)
    filled = np.where(finite, pixels, np.median(pixels[finite]) if finite.any() else 0.0)
    rows, columns = (max(1, side // SKY_BLOCK) for side in filled.shape)
    blocks = [np.array_split(row, columns, axis=1) for row in np.array_split(filled, rows)]
    sky = np.array([[np.median(block) for block in row] for row in blocks], dtype=np.float32)
    size = filled.shape[1], filled.shape[0]
    smooth = Image.fromarray(sky).resize(size, Image.Resampling.BICUBIC)
    flat: Floats = np.where(finite, filled - np.asarray(smooth, dtype=np.float64), 0.0)
    return flat


def _marks(solution: Solution) -> str:
    """Circles where the catalogue's stars are by the solution; a touch tells which."""
    stars = solution.matched_stars
    order = np.argsort(np.nan_to_num(stars.magnitudes, nan=99.0), kind="stable")[:MARKED_STARS]
    ra, dec = np.degrees(longitude_latitude(stars.directions[order]))
    x, y = solution.world_to_pixel(ra, dec)
    radius = max(solution.image_shape) / 110.0
    marks = []
    for i, px, py in zip(order, x, y, strict=True):
        magnitude = stars.magnitudes[i]
        known = f", magnitude {magnitude:.1f}" if np.isfinite(magnitude) else ""
        words = f"{stars.catalog_ids[i]}{known}, residual {stars.residuals_arcsec[i]:.2f} arcsec"
        marks.append(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{radius:.1f}"><title>{words}</title></circle>'
        )
    return "".join(marks)
