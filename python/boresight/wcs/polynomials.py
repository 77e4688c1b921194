"""Fits of pairs of polynomials at points of an image, of the lowest order within a tolerance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from boresight.camera.distortion import PolynomialDistortion, powers

Floats = NDArray[np.float64]
Fit = TypeVar("Fit")

FIT_POINTS_PER_SIDE = 33
"""Nodes per side for the fit: twice what the highest order needs."""

CHECK_POINTS_PER_SIDE = 41
"""Points per side, edges included, at which the largest error is measured."""


def fit_nodes(image_shape: tuple[int, int]) -> Floats:
    """Chebyshev nodes over the image; a fit at these nodes nearly minimizes the largest error."""
    height, width = image_shape
    t = np.cos(np.pi * (np.arange(FIT_POINTS_PER_SIDE) + 0.5) / FIT_POINTS_PER_SIDE)
    x, y = np.meshgrid(t * width / 2 - 0.5, t * height / 2 - 0.5)
    return np.column_stack([x.ravel(), y.ravel()])


def check_points(image_shape: tuple[int, int]) -> Floats:
    """Points at equal distances from edge to edge of the image."""
    height, width = image_shape
    t = np.linspace(-1.0, 1.0, CHECK_POINTS_PER_SIDE)
    x, y = np.meshgrid(t * width / 2 - 0.5, t * height / 2 - 0.5)
    return np.column_stack([x.ravel(), y.ravel()])


@dataclass(frozen=True)
class Polynomials:
    """A pair of polynomials in the form of SIP: a[p, q] is the coefficient of x^p y^q."""

    a: Floats
    b: Floats

    @property
    def order(self) -> int:
        """Highest degree."""
        return len(self.a) - 1

    @classmethod
    def of_lens(cls, lens: PolynomialDistortion) -> Polynomials:
        """Displacement by a lens as polynomials of pixels from its centre, in pixels."""
        size = max(lens.order, 1) + 1
        a, b = np.zeros((2, size, size))
        for (p, q), u, v in zip(powers(lens.order), lens.a_coeffs, lens.b_coeffs, strict=True):
            a[p, q], b[p, q] = np.array([u, v]) / lens.scale ** (p + q)
        return cls(a, b)

    @classmethod
    def fit(cls, points: Floats, values: Floats, degrees: range) -> Polynomials:
        """Least-squares fit to values (n, 2) at points (n, 2), with the terms of some degrees."""
        terms = [(p, q) for p, q in powers(degrees.stop - 1) if p + q in degrees]
        scale = np.abs(points).max()
        x, y = (points / scale).T
        design = np.column_stack([x**p * y**q for p, q in terms])
        solution = np.linalg.lstsq(design, values, rcond=None)[0]
        a, b = np.zeros((2, degrees.stop, degrees.stop))
        for (p, q), (u, v) in zip(terms, solution, strict=True):
            a[p, q], b[p, q] = u / scale ** (p + q), v / scale ** (p + q)
        return cls(a, b)

    def __call__(self, points: Floats) -> Floats:
        """Values (n, 2) at points (n, 2)."""
        x, y = points.T
        polyval2d = np.polynomial.polynomial.polyval2d
        return np.column_stack([polyval2d(x, y, self.a), polyval2d(x, y, self.b)])


def largest(misses: Floats) -> float:
    """Largest length of vectors (n, 2)."""
    return float(np.hypot(*misses.T).max())


def lowest_order(
    fit: Callable[[int], tuple[float, Fit]], orders: range, tolerance: float
) -> tuple[float, Fit]:
    """Return the first fit whose error is within the tolerance, or else the best fit."""
    best = fit(orders[0])
    for order in orders[1:]:
        if best[0] <= tolerance:
            break
        best = min(best, fit(order), key=lambda candidate: candidate[0])
    return best
