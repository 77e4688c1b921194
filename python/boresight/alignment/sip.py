"""Operations on SIP polynomials (Shupe et al. 2005, ADASS XIV, 491): move, add and invert."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boresight.camera.distortion import powers
from boresight.wcs.polynomials import Polynomials

if TYPE_CHECKING:
    from astropy.wcs import WCS

__all__ = ["by_degree", "expanded", "move_sip", "summed"]

Floats = NDArray[np.float64]

ROUNDS = 20
"""Maximum number of rounds of Newton's method."""


def move_sip(wcs: WCS, target: Floats) -> Floats:
    """Move CRPIX to the pixel at a point of the plane, and expand the SIP polynomials about it.

    Returns the linear part of the distortion at that pixel, which belongs into the CD matrix.
    """
    from astropy.wcs import Sip

    a, b = (np.zeros((1, 1)) if p is None else np.array(p) for p in (wcs.sip.a, wcs.sip.b))
    at = target.copy()
    for _ in range(ROUNDS):
        (xa, ya), (xb, yb) = slopes(a, at), slopes(b, at)
        miss = at + np.array([value(a, at), value(b, at)]) - target
        at = at - np.linalg.solve(np.eye(2) + np.array([[xa, ya], [xb, yb]]), miss)
    about = [expanded(p, at) for p in (a, b)]
    linear = np.eye(2) + np.array([[term(p, 1, 0), term(p, 0, 1)] for p in about])
    for p in about:
        p[0, 0] = 0.0
        if p.shape[0] > 1:
            p[1, 0] = p[0, 1] = 0.0
    both = np.stack([padded(p, max(map(len, about))) for p in about])
    new_a, new_b = np.einsum("ij,jkl->ikl", np.linalg.inv(linear), both)
    wcs.wcs.crpix = wcs.wcs.crpix + at
    ap, bp = inverse_sip(wcs, new_a, new_b)
    wcs.sip = Sip(new_a, new_b, ap, bp, wcs.wcs.crpix)
    return np.asarray(linear)


def summed(p: Floats, q: Floats) -> Floats:
    """Add two polynomials of any orders."""
    size = max(len(p), len(q))
    return padded(p, size) + padded(q, size)


def padded(p: Floats, size: int) -> Floats:
    """Pad the coefficients of a polynomial with zeros to a higher order."""
    return np.pad(p, (0, size - len(p)))


def by_degree(p: Floats, scale: float = 1.0) -> Floats:
    """Return coefficients in the order of `PolynomialDistortion`, for scaled coordinates."""
    return np.array([p[i, j] * scale ** (i + j) for i, j in powers(len(p) - 1)])


def value(p: Floats, at: Floats) -> float:
    """Return the value of a polynomial at a point."""
    return float(np.polynomial.polynomial.polyval2d(at[0], at[1], p))


def term(p: Floats, i: int, j: int) -> float:
    """Return a coefficient; 0 beyond the order."""
    return float(p[i, j]) if i < p.shape[0] and j < p.shape[1] else 0.0


def slopes(p: Floats, at: Floats) -> tuple[float, float]:
    """Return the derivatives of a polynomial at a point."""
    polyval2d, polyder = np.polynomial.polynomial.polyval2d, np.polynomial.polynomial.polyder
    return (
        float(polyval2d(at[0], at[1], polyder(p, axis=0))) if p.shape[0] > 1 else 0.0,
        float(polyval2d(at[0], at[1], polyder(p, axis=1))) if p.shape[1] > 1 else 0.0,
    )


def expanded(p: Floats, at: Floats) -> Floats:
    """Return the coefficients of a polynomial about another origin."""
    n = p.shape[0]
    shifts = []
    for k in range(2):
        matrix = np.zeros((n, n))
        for i in range(n):
            power = np.polynomial.polynomial.polypow([at[k], 1.0], i)
            matrix[: i + 1, i] = power
        shifts.append(matrix)
    return np.asarray(shifts[0] @ p @ shifts[1].T)


def inverse_sip(wcs: WCS, a: Floats, b: Floats) -> tuple[Floats | None, Floats | None]:
    """Fit new inverse polynomials if the WCS had any."""
    old = wcs.sip
    if old.ap is None or old.bp is None:
        return None, None
    order = max(old.ap.shape[0], old.bp.shape[0]) - 1
    width, height = wcs.pixel_shape or tuple(2 * np.abs(np.array(old.crpix)))
    x, y = np.meshgrid(np.linspace(0, width, 2 * order + 9), np.linspace(0, height, 2 * order + 9))
    u = np.column_stack([x.ravel(), y.ravel()]) + 1.0 - wcs.wcs.crpix
    bend = Polynomials(a, b)(u)
    inverse = Polynomials.fit(u + bend, -bend, range(order + 1))
    return inverse.a, inverse.b
