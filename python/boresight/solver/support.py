"""Finds where in a frame the matched stars determine the lens that was fitted to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import convex_hull

__all__ = ["surrounded"]

Floats = NDArray[np.float64]


def surrounded(points: Floats, stars: Floats) -> NDArray[np.bool_]:
    """Test which points are among stars: in their convex hull, or only slightly outside.

    Parameters
    ----------
    points, stars : ndarray, shape (n, 2) and (m, 2)
        Pixels.

    Returns
    -------
    ndarray of bool, shape (n,)
        Slightly outside means by at most the mean distance between neighbours: the root of the
        hull's area per star. All false for fewer than three stars, or stars in one line.
    """
    hull = stars[convex_hull(stars)]
    if len(hull) < 3:
        return np.zeros(len(points), dtype=bool)
    ends = np.roll(hull, -1, axis=0)
    along = (ends - hull) / np.linalg.norm(ends - hull, axis=1, keepdims=True)
    area = 0.5 * np.sum(hull[:, 0] * ends[:, 1] - hull[:, 1] * ends[:, 0])
    # Distance outside each edge: the hull is on the left of all edges.
    offset = points[:, None] - hull
    outside = along[:, 1] * offset[..., 0] - along[:, 0] * offset[..., 1]
    with np.errstate(invalid="ignore"):
        return np.asarray(outside.max(axis=1) <= np.sqrt(area / len(stars)))
