"""Pixels as the rest of the package takes them: luminance of colours, native byte order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.deadline import check_time

#: Weights of red, green and blue (ITU-R BT.709).
LUMINANCE = (0.2126, 0.7152, 0.0722)

#: Rows that are turned into luminance at a time, which bounds the memory beyond the image.
ROWS = 256


def native(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in native byte order."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def luminance(colours: NDArray[Any]) -> NDArray[Any]:
    """Luminance of an array of shape (height, width, 3 or more); what follows blue is ignored.

    It is of the least floating-point type that holds the colours to their precision.
    """
    kind = np.result_type(colours.dtype, np.float32)
    grey = np.empty(colours.shape[:2], kind)
    for start in range(0, len(grey), ROWS):
        check_time()
        rows = slice(start, start + ROWS)
        red, green, blue = (
            np.multiply(colours[rows, :, k], weight, dtype=kind)
            for k, weight in enumerate(LUMINANCE)
        )
        # One after the other: a matrix product would add them up differently for parts of an image.
        np.add(red, green, out=grey[rows])
        grey[rows] += blue
    return grey
