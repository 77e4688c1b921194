"""Geometry of simulated frames in plain numpy, independent of the solver and the camera fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight.errors import InputError

Floats = NDArray[np.float64]

SPEED_OF_LIGHT_KM_S = 299_792.458

#: Points per axis of the grid on which the header's WCS is fitted.
SIP_GRID = 40


def attitude(ra_deg: float, dec_deg: float, roll_deg: float) -> Floats:
    """Rotation matrix ICRS to camera; its rows are the image's right, down and the optical axis."""
    ra, dec, roll = np.radians([ra_deg, dec_deg, roll_deg])
    axis = unit_vector(ra_deg, dec_deg)
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    down = -(np.cos(roll) * north + np.sin(roll) * east)
    return np.stack([np.cross(down, axis), down, axis])


def unit_vector(ra_deg: ArrayLike, dec_deg: ArrayLike) -> Floats:
    """Return the unit vectors of right ascensions and declinations."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def ra_dec(v: Floats) -> tuple[Floats, Floats]:
    """Right ascensions (0 to 360) and declinations of unit vectors, in degrees."""
    ra = np.degrees(np.arctan2(v[..., 1], v[..., 0])) % 360.0
    return ra, np.degrees(np.arctan2(v[..., 2], np.hypot(v[..., 0], v[..., 1])))


def aberrate(v: Floats, velocity_km_s: Floats) -> Floats:
    """Apparent directions for a moving observer (Urban & Seidelmann 2013, eq. 7.40)."""
    beta = velocity_km_s / SPEED_OF_LIGHT_KM_S
    gamma = 1.0 / np.sqrt(1.0 - beta @ beta)
    along = (v @ beta)[..., None]
    apparent = (v / gamma + beta * (1.0 + along * gamma / (1.0 + gamma))) / (1.0 + along)
    unit: Floats = apparent / np.linalg.norm(apparent, axis=-1, keepdims=True)
    return unit


def fit_tan_sip(
    pixel_to_world: Callable[[ArrayLike, ArrayLike], tuple[Floats, Floats]],
    image_shape: tuple[int, int],
    order: int,
) -> dict[str, Any]:
    """Fit TAN-SIP header cards to the truth on a grid over the image."""
    if not (order == 0 or 2 <= order <= 9):
        raise InputError(f"sip_order: {order} is not a SIP order; give 0 (none) or 2 to 9")
    height, width = image_shape
    half = max(height, width) / 2.0
    columns = np.linspace(-width / 2, width / 2 - 1, SIP_GRID)
    rows = np.linspace(-height / 2, height / 2 - 1, SIP_GRID)
    x, y = (grid.ravel() for grid in np.meshgrid(columns, rows))
    ra, dec = pixel_to_world(x, y)
    crval = [float(c) for c in pixel_to_world(0.0, 0.0)]
    # Axes of the tangent plane: for an unrotated camera, right is west and down is south.
    west, south, centre = attitude(crval[0], crval[1], 0.0)
    sky = unit_vector(ra, dec)
    plane = np.degrees(np.stack([-(sky @ west), -(sky @ south)], -1) / (sky @ centre)[:, None])
    # There is no constant term, because the centre of the image maps to CRVAL exactly.
    terms = [(p, n - p) for n in range(1, max(order, 1) + 1) for p in range(n, -1, -1)]
    basis = np.stack([(x / half) ** p * (y / half) ** q for p, q in terms], axis=-1)
    scale = np.array([half ** -(p + q) for p, q in terms])
    coefficients = np.linalg.lstsq(basis, plane, rcond=None)[0] * scale[:, None]
    cd = coefficients[:2].T
    suffix = "-SIP" if order else ""
    cards: dict[str, Any] = {
        "CTYPE1": f"RA---TAN{suffix}", "CTYPE2": f"DEC--TAN{suffix}",
        "CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "ICRS",
        "CRPIX1": width / 2 + 1.0, "CRPIX2": height / 2 + 1.0,
        "CRVAL1": crval[0], "CRVAL2": crval[1],
        "CD1_1": cd[0, 0], "CD1_2": cd[0, 1], "CD2_1": cd[1, 0], "CD2_2": cd[1, 1],
    }  # fmt: skip
    if order:
        sip = np.linalg.solve(cd, coefficients[2:].T)
        for name, values in zip("AB", sip, strict=True):
            cards[f"{name}_ORDER"] = order
            cards |= {f"{name}_{p}_{q}": c for (p, q), c in zip(terms[2:], values, strict=True)}
    return cards
