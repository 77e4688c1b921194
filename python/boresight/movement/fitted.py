"""Conversion of fits of the core to corrections."""

from __future__ import annotations

from typing import Any

import numpy as np

from boresight._utils.arrays import Floats
from boresight.movement.correction import MovementCorrection

__all__ = ["fitted_correction"]


def fitted_correction(
    found: dict[str, Any], im_shape: tuple[int, ...], method: str
) -> MovementCorrection:
    """Return the correction for a fit of the core."""
    covariance: Floats = found["covariance"]
    return MovementCorrection(
        found["matrix"],
        (im_shape[0], im_shape[1]),
        found["ref_points"],
        found["moved_points"],
        f"Detected by Boresight, method {method}",
        method=method,
        covariance=covariance if np.isfinite(covariance).all() else None,
        inliers=found["inliers"],
        log10_chance=found["log_chance"],
    )
