"""Robust statistics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RAYLEIGH_MEDIAN = 1.1774100225154747
"""Median length of a two-dimensional normal deviate of unit variance per axis."""


def planar_scale(lengths: Floats) -> float:
    """Give the standard deviation per axis of vectors, by the median of their lengths."""
    return float(np.median(lengths)) / RAYLEIGH_MEDIAN
