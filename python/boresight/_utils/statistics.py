"""Robust statistics."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core

Floats = NDArray[np.float64]


def planar_scale(lengths: Floats) -> float:
    """Return the standard deviation per axis of 2-D vectors, from their median length."""
    return float(np.median(lengths)) / core.RAYLEIGH_MEDIAN


def chi2_tail(value: float, freedom: int) -> float:
    """Probability that chi square of `freedom` (at least 1) degrees of freedom exceeds a value."""
    half = max(0.0, value) / 2.0
    # Recurrence that starts from one or two degrees of freedom.
    k = 2 - freedom % 2
    tail = math.exp(-half) if k == 2 else math.erfc(math.sqrt(half))
    while k < freedom:
        log_term = (k / 2.0) * math.log(half) - half if half > 0.0 else -math.inf
        tail += math.exp(log_term - math.lgamma(k / 2.0 + 1.0))
        k += 2
    return tail


def chi2_quantile(tail: float, freedom: int) -> float:
    """Value that chi square of `freedom` degrees of freedom exceeds with the probability `tail`."""
    low, high = 0.0, float(freedom)
    while chi2_tail(high, freedom) > tail:
        high *= 2.0
    for _ in range(100):
        middle = (low + high) / 2.0
        low, high = (middle, high) if chi2_tail(middle, freedom) > tail else (low, middle)
    return (low + high) / 2.0


def binomial_interval(count: int, trials: int, confidence: float) -> tuple[float, float]:
    """Confidence interval of Clopper & Pearson (1934) for the rate of `count` successes."""
    tail = (1.0 - confidence) / 2.0
    # P(at most `count`) is `tail` at the upper end; P(at least `count`) is `tail` at the lower end.
    low = _rate_where(tail, count - 1, trials, below=False) if count else 0.0
    high = _rate_where(tail, count, trials, below=True) if count < trials else 1.0
    return low, high


def _rate_where(tail: float, most: int, trials: int, *, below: bool) -> float:
    """Rate at which the probability of at most `most` successes (`below`) or of more is `tail`."""
    counts = np.arange(most + 1)
    log_ways = np.array(
        [
            math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
            for k in counts.tolist()
        ]
    )
    low, high = 0.0, 1.0
    for _ in range(100):
        rate = (low + high) / 2.0
        terms = log_ways + counts * math.log(rate) + (trials - counts) * math.log1p(-rate)
        up_to = float(np.exp(terms).sum())
        # Both tails are monotonic functions of the rate.
        is_low = up_to > tail if below else 1.0 - up_to < tail
        low, high = (rate, high) if is_low else (low, rate)
    return (low + high) / 2.0


def error_floor(residuals: Floats, variance: Floats, freedom: float) -> float:
    """Error per axis to add in quadrature so that chi square equals the degrees of freedom.

    It is 0 if chi square is not larger than the degrees of freedom.
    """
    square = (residuals**2).sum(axis=1)

    def excess(floor2: float) -> float:
        return float((square / (variance + floor2)).sum()) - freedom

    if excess(0.0) <= 0.0:
        return 0.0
    low, high = 0.0, float(square.mean()) + 1e-30
    while excess(high) > 0:
        high *= 2.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return math.sqrt(high)
