"""Converts pixels to the form used in the package: luminance, native byte order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.deadline import check_time

#: Weights of red, green and blue (ITU-R BT.709).
LUMINANCE = (0.2126, 0.7152, 0.0722)

#: Number of rows converted to luminance at a time; it limits the extra memory.
ROWS = 256


def native(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in native byte order."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def luminance(colours: NDArray[Any]) -> NDArray[Any]:
    """Return the luminance of an array (height, width, 3 or more); channels after blue are ignored.

    The result has the smallest floating-point type that keeps the precision of the colours.
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
        # Added one after the other: a matrix product might round differently for parts of an image.
        np.add(red, green, out=grey[rows])
        grey[rows] += blue
    return grey


def without_mask(image: Any, mask: Any = None) -> tuple[Any, Any]:
    """Return the pixels of an image, and its mask combined with another one; None without any.

    The image may be an NDData, a masked array of numpy, or one of `astropy.utils.masked`.
    """
    if hasattr(image, "data") and hasattr(image, "uncertainty"):  # astropy's NDData
        mask, image = _either(mask, image.mask), image.data
    if isinstance(image, np.ma.MaskedArray):
        mask, image = _either(mask, np.ma.getmaskarray(image)), image.data
    elif hasattr(image, "unmasked") and hasattr(image, "mask"):  # astropy's Masked
        mask, image = _either(mask, image.mask), image.unmasked
    return image, mask


def _either(one: Any, other: Any) -> Any:
    """Combine two masks, each of which may be None."""
    if one is None or other is None:
        return other if one is None else one
    return np.asarray(one, bool) | np.asarray(other, bool)
