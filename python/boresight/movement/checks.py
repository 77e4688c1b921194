"""Checks of the arguments of a correction."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from boresight._utils.arrays import Floats
from boresight.errors import InputError

__all__ = ["checked_covariance", "checked_matrix", "checked_points", "normalised"]


def checked_matrix(matrix: ArrayLike, im_shape: tuple[int, int]) -> Floats:
    """Return the (3, 3) matrix of an affine or projective transform."""
    try:
        array = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("matrix: not numbers; give an array of shape (2, 3) or (3, 3)") from None
    if array.shape == (2, 3):
        array = np.vstack([array, [0.0, 0.0, 1.0]])
    if array.shape != (3, 3):
        raise InputError(f"matrix: its shape is {array.shape}; give (2, 3) or (3, 3)")
    if not np.isfinite(array).all():
        raise InputError("matrix: it is not finite; give finite numbers")
    return normalised(array, im_shape)


def normalised(matrix: Floats, im_shape: tuple[int, int]) -> Floats:
    """Scale a matrix so that the image centre is in front of the horizon, and check it."""
    rows, columns = im_shape
    depth = float(matrix[2] @ [(columns - 1) / 2, (rows - 1) / 2, 1.0])
    scaled = matrix if depth > 0 else -matrix
    if scaled[2, 2] > 0:
        scaled = scaled / scaled[2, 2]
    # The condition number, with points in units of the image size, shows whether it is singular.
    size = float(max(im_shape))
    unit = np.diag([size, size, 1.0])
    if depth == 0 or np.linalg.cond(np.linalg.inv(unit) @ scaled @ unit) > 1e12:
        raise InputError("matrix: it is singular; give an invertible transform of the image")
    return scaled


def checked_points(name: str, points: ArrayLike) -> Floats:
    """Return points (n, 2) as an array."""
    try:
        array = np.array(points, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name}: not numbers; give an array of shape (n, 2)") from None
    array = array.reshape(0, 2) if array.size == 0 else array
    if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all():
        raise InputError(f"{name}: give finite numbers of shape (n, 2), not {array.shape}")
    return array


def checked_covariance(covariance: ArrayLike) -> Floats:
    """Return the covariance (8, 8) of a matrix as an array."""
    array = np.array(covariance, dtype=np.float64)
    if array.shape != (8, 8) or not np.isfinite(array).all():
        raise InputError(f"covariance: its shape is {array.shape}; give finite numbers of (8, 8)")
    return array
