"""Movement between two star frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.arrays import Floats
from boresight.alignment import match_lists
from boresight.errors import UndeterminedError
from boresight.extraction.centroids import Centroids
from boresight.extraction.extract import extract_centroids
from boresight.movement.correction import MovementCorrection
from boresight.movement.fitted import fitted_correction

__all__ = ["star_movement", "stars_of"]

LEAST_STARS = 6
"""Minimum number of stars per frame, and of pairs. Fewer may match by chance."""

MOST_STARS = 400
"""Maximum number of stars per frame. The brightest ones are matched."""

RADIUS_PX = 1.5
"""Largest distance between the two stars of a pair, in pixels."""

SCALES = (0.7, 1.45)
"""Smallest and largest scale of the moved frame in the search."""

FLOOR_PX = 0.02
"""Systematic error of every position, in pixels, that is added to the error from noise, because
pixels are not identical."""

EXTRACTION: dict[str, Any] = {"method": "window", "max_centroids": MOST_STARS}


def star_movement(
    ref: Centroids, moved: Centroids, im_shape: tuple[int, ...], transform: str
) -> MovementCorrection | None:
    """Fit the transform between the stars of two frames; None if they have no common pattern."""
    if min(len(ref), len(moved)) < LEAST_STARS:
        return None
    match = match_lists(moved, ref, radius=RADIUS_PX, scales=SCALES)
    if match is None or len(match.pairs) < LEAST_STARS:
        return None
    there, here = match.pairs.T
    middle = np.array(im_shape[1::-1]) / 2.0  # array pixels of the image centre
    moved_xy, ref_xy = moved.xy[there] + middle, ref.xy[here] + middle
    covariance = _covariance(moved, there) + _covariance(ref, here)
    try:
        found = core.fit_transform(
            moved_xy, ref_xy, transform, 2.0 * RADIUS_PX, covariance, float(np.prod(im_shape[:2]))
        )
    except UndeterminedError:
        return None
    if np.count_nonzero(found["inliers"]) < LEAST_STARS:
        return None
    parts = found | {"ref_points": ref_xy, "moved_points": moved_xy}
    return fitted_correction(parts, im_shape, "stars")


def stars_of(image: NDArray[Any]) -> Centroids:
    """Return the brightest stars of a frame."""
    if image.size == 0 or not np.isfinite(image).any():
        return Centroids(np.empty(0), np.empty(0))
    mask = None if image.dtype.kind != "f" else ~np.isfinite(image)
    return extract_centroids(image, mask=mask, **EXTRACTION).centroids


def _covariance(stars: Centroids, rows: NDArray[np.int64]) -> Floats:
    """Return the elements xx, xy and yy of the position covariances, as columns."""
    cov = stars.position_cov
    flat = np.asarray(cov, np.float64)[rows].reshape(-1, 4)[:, [0, 1, 3]]
    return np.ascontiguousarray(flat + np.array([FLOOR_PX**2, 0.0, FLOOR_PX**2]))
