"""Positions of sources on an image, and their derivatives, in the form that the core takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import longitude_latitude, rotation_about, unit_vector
from boresight.errors import InputError
from boresight.scene.images import Image
from boresight.solver.solution import Solution

__all__ = ["ARCSEC", "Plane", "image_places"]

Floats = NDArray[np.float64]

ARCSEC = math.degrees(1.0) * 3600.0
"""Arcseconds per radian."""

STEP_ARCSEC = 0.05
"""Step of numerical derivatives with respect to positions: small on any plane, but large relative
to rounding errors."""

STEP_PX = 0.5
"""Step of numerical derivatives of a distortion, in pixels."""

NEWTON_ROUNDS = 6
"""Rounds of Newton's method that invert a SIP distortion."""


class Plane:
    """Tangent plane at a direction, in arcsec along right ascension and declination."""

    def __init__(self, ra_deg: float, dec_deg: float) -> None:
        self.ra_deg, self.dec_deg = ra_deg, dec_deg
        ra, dec = math.radians(ra_deg), math.radians(dec_deg)
        self.axes = np.array([
            [-math.sin(ra), math.cos(ra), 0.0],
            [-math.sin(dec) * math.cos(ra), -math.sin(dec) * math.sin(ra), math.cos(dec)],
            [math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)],
        ])  # fmt: skip

    def project(self, directions: Floats) -> Floats:
        """Return points (n, 2), arcsec, of unit vectors (n, 3); NaN on the far side of the sky."""
        xi, eta, depth = (directions @ self.axes.T).T
        with np.errstate(divide="ignore", invalid="ignore"):
            points = np.column_stack([xi / depth, eta / depth]) * ARCSEC
        points[depth <= 0.01] = np.nan
        return points

    def direction(self, points: Floats) -> Floats:
        """Return unit vectors (n, 3) of points (n, 2), arcsec."""
        flat = np.column_stack([points / ARCSEC, np.ones(len(points))]) @ self.axes
        return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True))

    def sky(self, points: Floats) -> tuple[Floats, Floats]:
        """Return right ascension and declination, degrees, of points (n, 2), arcsec."""
        ra, dec = longitude_latitude(self.direction(points))
        return np.degrees(ra) % 360.0, np.degrees(dec)


def image_places(
    image: Image, plane: Plane, points: Floats, seen_at: Callable[[Floats], Floats]
) -> tuple[list[int], Floats, Floats]:
    """Return the sources on an image, their rows for the core, and the CD matrix in arcsec.

    Parameters
    ----------
    image : Image
        The image.
    plane : Plane
        Tangent plane of the sources.
    points : ndarray, shape (n, 2)
        Start positions of the sources on the plane.
    seen_at : callable
        Function from directions of the sources to their apparent directions in the image.

    Returns
    -------
    seen : list of int
        Sources whose light may fall on the image.
    rows : ndarray, shape (len(seen), 14)
        Positions and derivatives in the form that `_core.scene_fit` reads.
    cd : ndarray, shape (2, 2)
    """
    step = STEP_ARCSEC * np.eye(2)
    moved = [points, points + step[0], points + step[1]]
    directions = [seen_at(plane.direction(p)) for p in moved]
    if isinstance(image.wcs, Solution):
        rows, pixels = _camera_rows(image.wcs, directions, image.wcs_freedom == "attitude")
        cd = np.eye(2)
    else:
        rows, pixels, cd = _fits_rows(image.wcs, directions)
    height, width = image.image_shape
    margin = 0.25 * max(height, width)
    with np.errstate(invalid="ignore"):
        inside = (np.abs(pixels[:, 0] - width / 2) < width / 2 + margin) & (
            np.abs(pixels[:, 1] - height / 2) < height / 2 + margin
        )
    inside &= np.isfinite(rows).all(axis=1)
    if image.wcs_freedom == "fixed" or isinstance(image.wcs, Solution):
        # Exclude sources whose light does not reach the image.
        near = (np.abs(pixels[:, 0] - width / 2) < width / 2 + 16) & (
            np.abs(pixels[:, 1] - height / 2) < height / 2 + 16
        )
        inside &= near
    seen = np.flatnonzero(inside)
    return seen.tolist(), np.ascontiguousarray(rows[seen]), cd


def _derivatives(values: list[Floats], step: float) -> Floats:
    """Return derivatives (n, 4), by rows, from values at a point and after a step along x and y."""
    by_x, by_y = (values[1] - values[0]) / step, (values[2] - values[0]) / step
    return np.column_stack([by_x[:, 0], by_y[:, 0], by_x[:, 1], by_y[:, 1]])


def _fits_rows(wcs: Any, directions: list[Floats]) -> tuple[Floats, Floats, Floats]:
    core = wcs.wcs
    if not str(core.ctype[0]).startswith("RA"):
        raise InputError(f"wcs: its axes are {list(core.ctype)}; give right ascension first")
    if "TAN" not in str(core.ctype[0]):
        raise InputError(
            f"wcs: its projection is {core.ctype[0]}; give a TAN or TAN-SIP WCS, or a Solution"
        )
    if abs(core.lonpole - 180.0) > 1e-9:
        raise InputError(f"wcs: its LONPOLE is {core.lonpole:g}; give one with 180, the default")
    about = Plane(*core.crval)
    on_plane = [about.project(_in_frame(wcs, d)) for d in directions]
    cd = np.asarray(wcs.pixel_scale_matrix) * 3600.0
    crpix = core.crpix - 1.0
    focal = on_plane[0] @ np.linalg.inv(cd).T
    if wcs.sip is None:
        pixel, by_focal = focal + crpix, np.tile([1.0, 0.0, 0.0, 1.0], (len(focal), 1))
    else:
        pixel, by_focal = _distorted(wcs, focal + crpix)
    rows = np.column_stack(
        [on_plane[0], _derivatives(on_plane, STEP_ARCSEC), focal, pixel, by_focal]
    )
    return rows, pixel, cd


def _distorted(wcs: Any, foc: Floats) -> tuple[Floats, Floats]:
    """Return pixels of focal coordinates, and derivatives with respect to focal coordinates."""
    steps = STEP_PX * np.array([[1.0, 0.0], [0.0, 1.0]])
    pixel = foc.copy()
    # Invert the exact polynomials from pixels to focal coordinates; the inverse SIP is not exact.
    for _ in range(NEWTON_ROUNDS):
        sides = [wcs.pix2foc(pixel + step, 0) for step in (*steps, *(-steps))]
        by_x, by_y = (sides[0] - sides[2]) / (2 * STEP_PX), (sides[1] - sides[3]) / (2 * STEP_PX)
        inverse = np.linalg.inv(np.stack([by_x, by_y], axis=2))
        pixel = pixel - np.einsum("nij,nj->ni", inverse, wcs.pix2foc(pixel, 0) - foc)
    return pixel, inverse.reshape(-1, 4)


def _in_frame(wcs: Any, directions: Floats) -> Floats:
    """Return ICRS directions in the frame of a WCS."""
    from astropy.wcs.utils import wcs_to_celestial_frame

    frame = wcs_to_celestial_frame(wcs)
    if frame.name == "icrs":
        return directions
    from astropy.coordinates import SkyCoord

    sky = SkyCoord(*directions.T, representation_type="cartesian").transform_to(frame).spherical
    return unit_vector(sky.lon.deg, sky.lat.deg)


def _camera_rows(solution: Solution, directions: list[Floats], free: bool) -> tuple[Floats, Floats]:
    """Return rows for a camera, linear in position and, if `free`, in attitude and focal length."""
    pixels = [_camera_pixels(solution, d) for d in directions]
    by_source = _derivatives(pixels, STEP_ARCSEC)
    if not free:
        cd = np.tile([0.0, 0.0], (len(pixels[0]), 1))
        identity = np.tile([1.0, 0.0, 0.0, 1.0], (len(pixels[0]), 1))
        # The plane is that of the pixels, on which only the source moves.
        return np.column_stack([cd, by_source, cd, pixels[0], identity]), pixels[0]
    by_wcs = attitude_derivatives(solution, directions[0])
    return np.column_stack([pixels[0], by_source, by_wcs]), pixels[0]


def _camera_pixels(solution: Solution, directions: Floats) -> Floats:
    height, width = solution.image_shape
    ra, dec = np.degrees(longitude_latitude(directions))
    px, py = solution.world_to_pixel(ra, dec)
    return np.column_stack([np.asarray(px) + width / 2, np.asarray(py) + height / 2])


def attitude_derivatives(solution: Solution, directions: Floats) -> Floats:
    """Return derivatives (n, 8) of pixels by rotations of the camera (arcsec) and ln(focal)."""
    matrix = solution.rotation_matrix_icrs_to_camera
    columns = []
    for axis in np.eye(3) * STEP_ARCSEC / ARCSEC:
        # Rotation of the camera by a small angle about one of its axes.
        turn = matrix.T @ rotation_about(axis) @ matrix
        back = turn.T
        high, low = (_camera_pixels(solution, directions @ m.T) for m in (turn, back))
        columns.append((high - low) / (2.0 * STEP_ARCSEC))
    height, width = solution.image_shape
    camera = solution.camera_model
    center = np.array(camera.optical_center) + np.array([width / 2, height / 2])
    columns.append(_camera_pixels(solution, directions) - center)
    return np.concatenate(columns, axis=1)
