"""Movement between two images of a daylight scene, from corners and their descriptors."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight.errors import UndeterminedError

__all__ = ["feature_transforms", "have_features"]

FEATURES = 3000
"""Maximum number of corners per image."""

SMALLEST_SIDE = 64
"""Minimum side of an image, in pixels. In smaller images no descriptor fits around a corner."""

LEAST_MATCHES = 8
"""Minimum number of corner pairs that are each other's best match."""

TOLERANCE_PX = 4.0
"""Largest distance of inlier corners from a common transform, in pixels. Corners are accurate to
one or two pixels."""

STRETCH = (0.1, 99.9)
"""Percentiles of an image that become black and white in 8 bits."""


def have_features() -> bool:
    """Return whether OpenCV is installed."""
    return importlib.util.find_spec("cv2") is not None


def feature_transforms(ref: NDArray[Any], moved: NDArray[Any]) -> Iterator[list[list[float]]]:
    """Yield transforms from moved to reference pixels proposed by matching corners.

    Parameters
    ----------
    ref, moved : ndarray, shape (rows, columns)
        Two images of the same shape.

    Yields
    ------
    list of list of float
        Rows of the (3, 3) matrix; at most one matrix.

    Raises
    ------
    ModuleNotFoundError
        If OpenCV is not installed.
    """
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "method='features' needs OpenCV: pip install boresight[movement]"
        ) from error
    if min(ref.shape) < SMALLEST_SIDE:
        return
    detector: Any = getattr(cv2, "ORB_create")(FEATURES)  # noqa: B009 - not in its stubs
    found = [detector.detectAndCompute(_stretched(image), None) for image in (ref, moved)]
    (corners, descriptors), (moved_corners, moved_descriptors) = found
    if descriptors is None or moved_descriptors is None:
        return
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
    matches = matcher.match(moved_descriptors, descriptors)
    if len(matches) < LEAST_MATCHES:
        return
    there = np.array([moved_corners[m.queryIdx].pt for m in matches], np.float64)
    here = np.array([corners[m.trainIdx].pt for m in matches], np.float64)
    try:
        yield core.fit_transform(there, here, "similarity", TOLERANCE_PX, None, float(ref.size))[
            "matrix"
        ].tolist()
    except UndeterminedError:
        return


def _stretched(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image as 8-bit grey."""
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return np.zeros(image.shape, np.uint8)
    low, high = np.percentile(finite, STRETCH)
    width = float(high) - float(low)
    if not width > 0:
        return np.zeros(image.shape, np.uint8)
    scaled = np.nan_to_num((image.astype(np.float64) - low) * (255.0 / width), nan=0.0)
    return np.asarray(np.clip(scaled, 0, 255), np.uint8)
