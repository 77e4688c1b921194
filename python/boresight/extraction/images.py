"""Converts images given by callers to arrays, and reads the noise that comes with them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from boresight._utils.arguments import numbers
from boresight._utils.naming import type_of
from boresight.errors import InputError
from boresight.frames.frame import Frame
from boresight.frames.pixels import luminance as to_luminance
from boresight.frames.pixels import without_mask
from boresight.frames.read import frame_of, read_frame

_NATIVE = {np.dtype(t) for t in (np.float32, np.float64, np.uint16, np.int16, np.uint8)}


def variance_of(image: Any) -> npt.NDArray[Any] | None:
    """Return the variance of an NDData, in squared units of its data; None without one."""
    uncertainty = getattr(image, "uncertainty", None)
    if uncertainty is None or not hasattr(image, "data"):
        return None
    from astropy.nddata import VarianceUncertainty
    from astropy.units import Quantity

    try:
        with np.errstate(divide="ignore"):
            variance = uncertainty.represent_as(VarianceUncertainty)
    except (TypeError, ValueError):
        raise InputError(
            f"image: its uncertainty is {type_of(uncertainty)}; give StdDevUncertainty, "
            "VarianceUncertainty or InverseVariance"
        ) from None
    array = np.asarray(variance.array, dtype=np.float64)
    if variance.unit is None or image.unit is None or variance.unit == image.unit**2:
        return array
    return np.asarray(Quantity(array, variance.unit).to_value(image.unit**2))


def noise_of(
    variance: npt.ArrayLike | None,
    weight: npt.ArrayLike | None,
    shape: tuple[int, ...],
    bad: npt.NDArray[np.bool_] | None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the standard deviation of every pixel, and the mask extended by pixels without one."""
    if variance is not None and weight is not None:
        raise InputError("weight: there is a variance too; give one of the two")
    name, given = ("variance", variance) if weight is None else ("weight", weight)
    array = numbers(name, given, "give one per pixel")
    if array.shape != shape:
        raise InputError(f"{name}: its shape is {array.shape}; give that of the image, {shape}")
    masked = np.zeros(shape, bool) if bad is None else bad
    senseless = ~masked & ((array < 0) | (array == (0 if weight is None else np.inf)))
    if senseless.any():
        row, column = np.argwhere(senseless)[0]
        raise InputError(
            f"{name}: it is {array[row, column]} in row {row}, column {column}; "
            "give positive, finite numbers, or mask the pixel"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = np.sqrt(array if weight is None else 1.0 / array).astype(np.float32)
    # The extraction needs a finite positive number in masked pixels too.
    known = ~masked & (noise > 0) & np.isfinite(noise)
    noise[~known] = np.median(noise[known]) if known.any() else 1.0
    return np.ascontiguousarray(noise), ~known


def pixels_of(image: Any, luminance: bool) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Return the image as a native array with contiguous rows, and the mask that it brings."""
    mask: Any = None
    if isinstance(image, str | os.PathLike):
        image = read_frame(image)
    frame = image if isinstance(image, Frame) else frame_of(image)
    if frame is not None:
        image, mask = frame.image, frame.mask
    image, mask = without_mask(image, mask)
    try:
        array = np.asarray(getattr(image, "value", image))
    except ValueError:
        raise InputError(
            "image: its rows differ in length; give an array of shape (height, width)"
        ) from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"image: its type is {array.dtype}; give real numbers")
    array = _with_colours_last(array)
    mask = None if mask is None else _with_colours_last(np.asarray(mask, dtype=bool))
    is_coloured = array.ndim == 3 and array.shape[2] in (3, 4)
    if luminance and is_coloured:
        array = to_luminance(array)
        mask = mask.any(axis=2) if mask is not None and mask.ndim == 3 else mask
    elif is_coloured:
        raise InputError(
            f"image: its shape is {array.shape}, a colour image; "
            "pass luminance=True, or one of its channels"
        )
    if array.ndim != 2 or array.size == 0:
        raise InputError(
            f"image: its shape is {array.shape}; give a non-empty array of shape (height, width)"
        )
    if mask is not None:
        mask = np.broadcast_to(mask, array.shape)
        mask = mask if mask.any() else None
    return native(array), mask


def _with_colours_last(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Remove axes of length 1, and move a first axis of three colours to the end."""
    kept = tuple(length for length in array.shape if length != 1)
    if array.ndim > 2 and len(kept) > 1:
        array = array.reshape(kept)
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] not in (3, 4):
        array = np.moveaxis(array, 0, 2)
    return array


def native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array if it can be read in place, else a float32 copy."""
    dtype = array.dtype.newbyteorder("=")
    if dtype not in _NATIVE:
        dtype = np.dtype(np.float32)
    array = array.astype(dtype, copy=False)
    if (
        array.strides[1] != array.itemsize
        or array.strides[0] % array.itemsize
        or not array.flags.aligned
    ):
        array = np.ascontiguousarray(array)
    return np.require(array, requirements="A")
