"""Corners and their descriptors: the movement between two pictures of a scene by daylight."""

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
"""Corners of each image at most."""

SMALLEST_SIDE = 64
"""Images with a shorter side have no corners that a descriptor fits into."""

LEAST_MATCHES = 8
"""Corners of both images that have to be each other's best match."""

TOLERANCE_PX = 4.0
"""How far corners may lie from a common transform: they are exact to a pixel or two only."""

STRETCH = (0.1, 99.9)
"""Percentiles of an image that become black and white."""


def have_features() -> bool:
    """Tell whether OpenCV is installed."""
    return importlib.util.find_spec("cv2") is not None


def feature_transforms(ref: NDArray[Any], moved: NDArray[Any]) -> Iterator[list[list[float]]]:
    """Propose transforms from moved to reference pixels by matching corners.

    Parameters
    ----------
    ref, moved : ndarray, shape (rows, columns)
        Two images of one shape.

    Yields
    ------
    list of list of float
        Rows of the (3, 3) matrix; one or none.

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
    """Give an image as 8-bit grey."""
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
