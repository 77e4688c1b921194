"""Robust statistics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core

Floats = NDArray[np.float64]


def planar_scale(lengths: Floats) -> float:
    """Give the standard deviation per axis of vectors, by the median of their lengths."""
    return float(np.median(lengths)) / core.RAYLEIGH_MEDIAN
