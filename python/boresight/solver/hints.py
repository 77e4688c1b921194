"""Reads hints, the expected attitude or position of a camera, in all accepted forms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.arguments import angles
from boresight._utils.arrays import east_north, unit_vector
from boresight._utils.celestial import is_wcs, sky_of_pixels
from boresight.errors import InputError


def expected(hint: Any, image_shape: tuple[int, int]) -> dict[str, Any]:
    """Return the attitude of a hint or, if the roll is unknown, the direction of its centre."""
    if is_wcs(hint):
        return _attitude(_attitude_of_wcs(hint, image_shape))
    if hasattr(hint, "quaternion"):  # a Solution
        hint = hint.quaternion
    if hasattr(hint, "icrs"):  # a SkyCoord
        hint = np.array([hint.icrs.ra.deg, hint.icrs.dec.deg], dtype=np.float64)
    if isinstance(hint, tuple | list) and len(hint) == 2:
        hint = [angles("attitude_hint", angle) for angle in hint]
    try:
        numbers = np.asarray(angles("attitude_hint", hint), dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape == (3, 3):
        return _attitude(_of_matrix(numbers.tolist()))
    if numbers.shape == (2,):
        if not (np.all(np.isfinite(numbers)) and abs(numbers[1]) <= 90.0):
            raise InputError(
                f"attitude_hint: {numbers.tolist()} is not a position; give right ascension and "
                "declination in degrees"
            )
        return {"attitude": None, "direction": unit_vector(*numbers).tolist()}
    if numbers.shape != (4,):
        raise InputError(
            f"attitude_hint: {type(hint).__name__} of shape {numbers.shape} is not a hint; give a "
            "quaternion (w, x, y, z), a (3, 3) rotation matrix ICRS to camera, a Solution, a WCS, "
            "a SkyCoord, or right ascension and declination in degrees"
        )
    if not (np.all(np.isfinite(numbers)) and numbers.any()):
        raise InputError(
            f"attitude_hint: {numbers.tolist()} is not a quaternion; give four finite numbers, "
            "scalar first, not all zero"
        )
    return _attitude(numbers.tolist())


def attitude_of(ra_deg: float, dec_deg: float, roll_deg: float) -> NDArray[np.float64]:
    """Return the rotation matrix ICRS to camera for a position and roll of the image's centre."""
    center, roll = unit_vector(ra_deg, dec_deg), np.radians(roll_deg)
    east, north = east_north(center)
    down = -(np.cos(roll) * north + np.sin(roll) * east)
    # In mirrored images down stays down; right and left are exchanged.
    return np.array([np.cross(down, center), down, center])


def _of_matrix(matrix: list[list[float]]) -> list[float]:
    """Quaternion of a rotation matrix."""
    try:
        return core.quaternion_of_matrix(matrix)
    except InputError as error:
        raise InputError(f"attitude_hint: {str(error).partition(': ')[2]}") from None


def _attitude(quaternion: list[float]) -> dict[str, Any]:
    return {"attitude": quaternion, "direction": None}


def _attitude_of_wcs(wcs: Any, image_shape: tuple[int, int]) -> list[float]:
    """Return the quaternion of the camera whose image has a WCS for 0-based array pixels."""
    row, column = image_shape[0] / 2.0, image_shape[1] / 2.0
    sky = sky_of_pixels(wcs, [column] * 3, [row, row - 0.5, row + 0.5])
    if sky is None:
        raise InputError(
            "attitude_hint: the WCS says nothing about the image's centre; give one of this image, "
            "with celestial coordinates"
        )
    center, up, down = unit_vector(*sky)
    y = (down - up) - center * (down - up).dot(center)
    length = np.linalg.norm(y)
    if length == 0.0:
        raise InputError("attitude_hint: all pixels of the WCS map to one point; give another")
    y /= length
    # In mirrored images down stays down; right and left are exchanged.
    x = np.cross(y, center)
    return _of_matrix([x.tolist(), y.tolist(), center.tolist()])
