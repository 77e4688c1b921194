"""Conversion of pixels to JPEG pictures embedded in the page."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import block_means

__all__ = ["levels_of", "linear_picture", "signed_picture", "star_picture"]

Floats = NDArray[np.float64]

#: Longest side of a drawn image, in pixels.
DRAWN_PIXELS = 800

#: Percentiles of a frame of stars that are drawn as black and as white, and strength of the arcsinh
#: stretch: a larger value brightens faint light more.
STRETCH, LIFT = (50.0, 99.9), 3.0

#: Percentiles of any other image that are drawn as black and as white.
LINEAR_STRETCH = (0.5, 99.7)

#: Side, in drawn pixels, of the blocks over which the sky background is measured.
SKY_BLOCK = 20

#: JPEG quality of the pictures, 0 to 95.
QUALITY = 72


def star_picture(image: NDArray[Any]) -> str:
    """Draw a frame of stars with the sky background subtracted and faint light brightened."""
    step = _step(image.shape)
    pixels = _flattened(block_means(image, step))
    low, high = np.percentile(pixels, STRETCH)
    part = np.arcsinh(LIFT * _part(pixels, low, high)) / np.arcsinh(LIFT)
    return _element(255.0 * part, image.shape, step)


def levels_of(image: NDArray[Any]) -> tuple[float, float]:
    """Values of an image that `linear_picture` draws as black and as white."""
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, LINEAR_STRETCH) if finite.size else (0.0, 1.0)
    return float(low), float(high)


def linear_picture(image: NDArray[Any], levels: tuple[float, float]) -> str:
    """Draw an image in shades of grey between two values; NaN is black."""
    step = _step(image.shape)
    return _element(255.0 * _part(block_means(image, step), *levels), image.shape, step)


def signed_picture(image: NDArray[Any], largest: float) -> str:
    """Draw differences: blue below zero, red above zero, white at zero and for NaN."""
    import matplotlib as mpl

    step = _step(image.shape)
    part = np.nan_to_num(block_means(image, step) / largest, nan=0.0).clip(-1.0, 1.0)
    colours = mpl.colormaps["RdBu_r"](0.5 + 0.5 * part)[..., :3]
    return _element(255.0 * colours, image.shape, step)


def _step(shape: tuple[int, ...]) -> int:
    """Return the number of pixels per side of the blocks that are drawn as one pixel."""
    return max(1, math.ceil(max(shape) / DRAWN_PIXELS))


def _part(pixels: Floats, low: float, high: float) -> Floats:
    part: Floats = np.nan_to_num((pixels - low) / max(high - low, 1e-30), nan=0.0).clip(0.0, 1.0)
    return part


def _element(shades: Floats, shape: tuple[int, ...], step: int) -> str:
    """Make the SVG element of a picture in a drawing whose origin is the middle of the image."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(shades.astype(np.uint8)).save(file, "JPEG", quality=QUALITY, optimize=True)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    height, width = shape
    rows, columns = shades.shape[:2]
    # The first pixel's corner is half a pixel before its centre.
    return (
        f'<image x="{-width / 2 - 0.5:g}" y="{-height / 2 - 0.5:g}" width="{columns * step}" '
        f'height="{rows * step}" preserveAspectRatio="none" '
        f'href="data:image/jpeg;base64,{data}"/>'
    )


def _flattened(pixels: Floats) -> Floats:
    """Subtract the sky background, which clouds and the lens make uneven; NaN becomes 0."""
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
