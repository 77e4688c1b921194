"""Where in a frame its matched stars hold the lens that was fitted to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["surrounded"]

Floats = NDArray[np.float64]


def surrounded(points: Floats, stars: Floats) -> NDArray[np.bool_]:
    """Tell which points are among stars: in their convex hull, or hardly outside.

    Parameters
    ----------
    points, stars : ndarray, shape (n, 2) and (m, 2)
        Pixels.

    Returns
    -------
    ndarray of bool, shape (n,)
        Hardly is less than the mean distance between neighbours: the root of the hull's area for
        each star. Of fewer than three stars, or stars in one line, none.
    """
    hull = _convex_hull(stars)
    if len(hull) < 3:
        return np.zeros(len(points), dtype=bool)
    ends = np.roll(hull, -1, axis=0)
    along = (ends - hull) / np.linalg.norm(ends - hull, axis=1, keepdims=True)
    area = 0.5 * np.sum(hull[:, 0] * ends[:, 1] - hull[:, 1] * ends[:, 0])
    # How far outside of each edge: the hull is on the left of all of them.
    offset = points[:, None] - hull
    outside = along[:, 1] * offset[..., 0] - along[:, 0] * offset[..., 1]
    with np.errstate(invalid="ignore"):
        return np.asarray(outside.max(axis=1) <= np.sqrt(area / len(stars)))


def _convex_hull(points: Floats) -> Floats:
    """Corners of the convex hull, counterclockwise (Andrew's monotone chain)."""
    ordered = np.unique(points, axis=0)

    def half(points: Floats) -> list[Floats]:
        chain: list[Floats] = []
        for point in points:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-1] - chain[-2], point - chain[-2]
                if ax * by - ay * bx > 0.0:
                    break
                chain.pop()
            chain.append(point)
        return chain[:-1]

    return np.array(half(ordered) + half(ordered[::-1])).reshape(-1, 2)
