"""Warps of images of any type."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.arrays import Floats

__all__ = ["warp_plane"]

NARROWED = {"i": np.int32, "u": np.uint32, "b": np.uint8, "f": np.float32}
"""Types to which images are converted before the warp, by kind, if the core does not support their
type."""

_CORE_TYPES = {np.dtype(t) for t in ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8")}


def warp_plane(
    plane: NDArray[Any], to_source: Floats, linear: bool, fill_edges: bool
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Warp a grey image of any real dtype by a transform of its pixels.

    Parameters
    ----------
    plane : ndarray, shape (rows, columns)
        The image.
    to_source : ndarray, shape (3, 3)
        Transform from pixels of the result to pixels of the image.
    linear : bool
        Whether to interpolate linearly; otherwise the nearest pixel is used.
    fill_edges : bool
        Whether to repeat edge pixels.

    Returns
    -------
    image : ndarray
        The warped image, of the same shape and dtype.
    mask : ndarray of bool
        True for valid pixels of the result.
    """
    dtype = plane.dtype
    source = plane
    if dtype not in _CORE_TYPES:
        # 64-bit integers are exact as float64 up to 2^53.
        source = plane.astype(np.float64 if dtype.itemsize == 8 else NARROWED[dtype.kind])
    source = np.ascontiguousarray(source)
    out = np.empty_like(source)
    valid = np.empty(source.shape, np.bool_)
    core.warp_image(source, to_source.tolist(), linear, fill_edges, out, valid)
    if out.dtype == dtype:
        return out, valid
    return (np.rint(out) if dtype.kind in "iu" else out).astype(dtype), valid
