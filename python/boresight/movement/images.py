"""Reading of image arguments: arrays, files, or calibrations that carry an image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import Floats
from boresight._utils.naming import type_of
from boresight.errors import InputError
from boresight.frames.frame import Frame
from boresight.frames.pixels import luminance, native, without_mask
from boresight.frames.read import frame_of, read_frame

__all__ = ["grey", "image_of", "noise_of", "pair_of"]

MAD_SIGMA = 1.4826
"""Ratio of the standard deviation to the median absolute deviation, for normal noise."""

SECOND_DIFFERENCE = 36.0
"""Variance of the second difference along both axes, [1 -2 1] times its transpose, for noise of
unit variance."""


def image_of(given: Any, name: str = "image") -> NDArray[Any]:
    """Return the pixels of an array, a frame, a file, or a calibration that carries an image.

    Parameters
    ----------
    given : array_like, Frame, path, HDU, PIL image, or an object with an attribute ``image``
        Image of any dtype. Masked pixels become NaN.
    name : str
        Name of the argument, for error messages.

    Returns
    -------
    ndarray of shape (rows, columns) or (rows, columns, colours)
    """
    mask: Any = None
    if isinstance(given, str | os.PathLike):
        given = read_frame(Path(given))
    frame = given if isinstance(given, Frame) else frame_of(given)
    if frame is not None:
        given, mask = frame.image, frame.mask
    elif not hasattr(given, "__array__") and hasattr(given, "image"):
        if given.image is None:
            raise InputError(
                f"{name}: this calibration carries no image; give the image it was made of"
            )
        return image_of(given.image, name)
    given, mask = without_mask(given, mask)
    try:
        array = native(np.asarray(getattr(given, "value", given)))
    except ValueError as error:
        raise InputError(f"{name}: {error}; give an array of shape (rows, columns)") from None
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{name}: {type_of(given)} of type {array.dtype} is not an image; give real numbers"
        )
    if array.ndim not in (2, 3) or array.size == 0:
        raise InputError(
            f"{name}: its shape is {array.shape}; give (rows, columns) or (rows, columns, colours)"
        )
    if mask is not None and np.any(mask):
        array = np.where(mask, np.nan, array)
    return array


def grey(image: NDArray[Any]) -> NDArray[Any]:
    """Return a grey image: the luminance of 3 or 4 colours, the mean of any other number."""
    if image.ndim == 2:
        return image
    if image.shape[2] in (3, 4):
        value = luminance(image)
        return np.rint(value).astype(np.uint8) if image.dtype == np.uint8 else value
    return np.asarray(image.mean(axis=2))


def pair_of(ref: Any, moved: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return two grey images, which must have the same shape."""
    first, second = grey(image_of(ref, "ref")), grey(image_of(moved, "moved"))
    if first.shape != second.shape:
        raise InputError(
            f"moved: its shape {second.shape} is not that of the reference, {first.shape}; "
            "give images of one camera at one binning"
        )
    return first, second


def noise_of(image: NDArray[Any]) -> float:
    """Return the standard deviation of the noise of an image, from the median second difference.

    This is the method of Immerkaer (1996), but with the median in place of the mean, because edges
    raise the mean. The noise is 0 for an image with fewer than three rows or columns.
    """
    if min(image.shape) < 3:
        return 0.0
    data: Floats = np.asarray(image, np.float64)
    rows = data[2:] - 2.0 * data[1:-1] + data[:-2]
    both = np.abs(rows[:, 2:] - 2.0 * rows[:, 1:-1] + rows[:, :-2])
    both = both[np.isfinite(both)]
    return MAD_SIGMA * float(np.median(both)) / SECOND_DIFFERENCE**0.5 if both.size else 0.0
