"""OpenCV's camera matrix and distortion coefficients, from and to a camera model.

OpenCV maps the other way: with ``a = X / Z`` and ``b = Y / Z`` of a direction, ``r² = a² + b²``,

    a' = a (1 + k1 r² + k2 r⁴ + k3 r⁶) + 2 p1 a b + p2 (r² + 2 a²)
    b' = b (1 + k1 r² + k2 r⁴ + k3 r⁶) + p1 (r² + 2 b²) + 2 p2 a b

and the 0-based pixel is ``(fx a' + cx, fy b' + cy)``. So the coefficients are fitted anew, on a
grid over the image, and the error is measured on another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boresight.errors import InputError, UndeterminedError

if TYPE_CHECKING:
    from boresight.camera import CameraModel

Floats = NDArray[np.float64]

FIT_POINTS_PER_SIDE = 33
"""Nodes per side for the fit."""

CHECK_POINTS_PER_SIDE = 41
"""Points per side, edges included, at which the largest error is looked for."""

MAX_ORDER = 9
"""Highest order of the polynomial for cameras of which the pixels are not square."""

NEWTON_STEPS = 50
"""Steps at most to invert OpenCV's distortion; five are usual."""


def project(matrix: Floats, coefficients: Floats, directions: Floats) -> Floats:
    """0-based pixels (n, 2) in which OpenCV sees directions (n, 3)."""
    plane = directions[:, :2] / directions[:, 2:]
    distorted = plane + _terms(plane) @ coefficients
    return distorted @ matrix[:2, :2].T + matrix[:2, 2]


def fit(camera: CameraModel, tolerance_px: float) -> tuple[Floats, Floats, float]:
    """Camera matrix, coefficients (k1, k2, p1, p2, k3) and the largest error in pixels."""
    if camera.parity_flip:
        raise InputError("parity_flip: OpenCV has no mirrored cameras; mirror the image instead")
    height, width = camera.image_shape
    f = camera.focal_length_px
    center = np.add(camera.optical_center, (width / 2, height / 2))
    matrix = np.array([[f, 0.0, center[0]], [0.0, f, center[1]], [0.0, 0.0, 1.0]])
    pixels, directions = _grid(camera, FIT_POINTS_PER_SIDE)
    plane = directions[:, :2] / directions[:, 2:]
    # In pixels the model is linear in its coefficients once the matrix is kept.
    design = (f * _terms(plane)).reshape(-1, 5)
    scale = np.linalg.norm(design, axis=0)
    misses = (pixels - (f * plane + center)).ravel()
    coefficients = np.linalg.lstsq(design / scale, misses, rcond=None)[0] / scale
    pixels, directions = _grid(camera, CHECK_POINTS_PER_SIDE)
    misses = project(matrix, coefficients, directions) - pixels
    error = float(np.hypot(*misses.T).max())
    if not error <= tolerance_px:
        raise UndeterminedError(
            f"OpenCV's five coefficients miss this camera by up to {error:.3g} px, more than "
            f"tolerance_px={tolerance_px:g}; allow more, or export a WCS"
        )
    return matrix, coefficients, error


def unproject(matrix: Floats, coefficients: Floats, pixels: Floats) -> Floats:
    """Directions with Z = 1 that 0-based pixels see, by Newton's method; NaN where it fails."""
    distorted: Floats = (pixels - matrix[:2, 2]) @ np.linalg.inv(matrix[:2, :2]).T
    plane = distorted.copy()
    step = 1e-6
    for _ in range(NEWTON_STEPS):
        miss = plane + _terms(plane) @ coefficients - distorted
        columns = []
        for axis in np.eye(2) * step:
            ahead, behind = plane + axis, plane - axis
            slope = (_terms(ahead) - _terms(behind)) @ coefficients / (2.0 * step)
            columns.append(slope + axis / step)
        jacobian = np.stack(columns, axis=-1)
        move = np.linalg.solve(jacobian, miss[..., None])[..., 0]
        plane -= move
        if np.abs(move).max() < 1e-14:
            break
    wrong = np.abs(plane + _terms(plane) @ coefficients - distorted).max(axis=1) > 1e-10
    plane[wrong] = np.nan
    return np.column_stack([plane, np.ones(len(plane))])


def camera_of(
    matrix: Floats, coefficients: Floats, image_shape: tuple[int, int], tolerance_px: float
) -> tuple[CameraModel, float]:
    """Camera model that sees the same directions, and its largest error in pixels."""
    from boresight.camera import CameraModel, PolynomialDistortion, RadialDistortion

    height, width = image_shape
    scale = width / 2.0
    focal = float(matrix[0, 0])
    center = (float(matrix[0, 2] - width / 2), float(matrix[1, 2] - height / 2))
    pixels = _pixels(image_shape, FIT_POINTS_PER_SIDE)
    seen = unproject(matrix, coefficients, pixels)
    if not np.isfinite(seen).all():
        raise UndeterminedError("dist_coeffs: the distortion folds over within the image")
    points = pixels - matrix[:2, 2]
    bend = focal * seen[:, :2] - points
    square = matrix[0, 0] == matrix[1, 1] and matrix[0, 1] == 0.0
    distortions: list[RadialDistortion | PolynomialDistortion] = []
    if square:
        k1, k2, k3, k4, p1, p2 = _radial(points, bend, scale)
        distortions.append(RadialDistortion(k1, k2, k3, p1, p2, k4=k4, scale=scale))
    distortions += [
        PolynomialDistortion(order, scale, *_polynomials(points, bend, scale, order))
        for order in range(1, MAX_ORDER + 1)
    ]
    error = np.inf
    for distortion in distortions:
        camera = CameraModel(focal, image_shape, optical_center=center, distortion=distortion)
        check, directions = _grid(camera, CHECK_POINTS_PER_SIDE)
        misses = project(matrix, coefficients, directions) - check
        error = float(np.hypot(*misses.T).max())
        if error <= tolerance_px:
            return camera, error
    raise UndeterminedError(
        f"dist_coeffs: no camera model comes closer than {error:.3g} px, more than "
        f"tolerance_px={tolerance_px:g}; allow more"
    )


def _radial(points: Floats, bend: Floats, scale: float) -> list[float]:
    """k1 to k4, p1 and p2 of `RadialDistortion` that bend points best."""
    x, y = (points / scale).T
    r2 = x * x + y * y
    along_x = [x * r2, x * r2**2, x * r2**3, x * r2**4, 2 * x * y, r2 + 2 * x * x]
    along_y = [y * r2, y * r2**2, y * r2**3, y * r2**4, r2 + 2 * y * y, 2 * x * y]
    design = np.vstack([np.column_stack(along_x), np.column_stack(along_y)])
    values = bend.T.ravel() / scale
    return [float(term) for term in np.linalg.lstsq(design, values, rcond=None)[0]]


def _polynomials(points: Floats, bend: Floats, scale: float, order: int) -> tuple[Floats, Floats]:
    """Coefficients of `PolynomialDistortion` that bend points best."""
    x, y = (points / scale).T
    design = np.column_stack([x ** (d - q) * y**q for d in range(order + 1) for q in range(d + 1)])
    a, b = np.linalg.lstsq(design, bend, rcond=None)[0].T
    return a, b


def _pixels(image_shape: tuple[int, int], side: int) -> Floats:
    """0-based pixels from edge to edge of an image."""
    height, width = image_shape
    x, y = np.meshgrid(np.linspace(-0.5, width - 0.5, side), np.linspace(-0.5, height - 0.5, side))
    return np.column_stack([x.ravel(), y.ravel()])


def _grid(camera: CameraModel, side: int) -> tuple[Floats, Floats]:
    """0-based pixels over the image, and the directions they see."""
    height, width = camera.image_shape
    pixels = _pixels(camera.image_shape, side)
    x, y = pixels.T
    return pixels, camera.pixel_to_direction(x - width / 2, y - height / 2)


def _terms(plane: Floats) -> Floats:
    """Differentiate (a', b') by k1, k2, p1, p2, k3: shape (n, 2, 5)."""
    a, b = plane.T
    r2 = a * a + b * b
    along_a = [a * r2, a * r2**2, 2 * a * b, r2 + 2 * a * a, a * r2**3]
    along_b = [b * r2, b * r2**2, r2 + 2 * b * b, 2 * a * b, b * r2**3]
    return np.stack([np.column_stack(along_a), np.column_stack(along_b)], axis=1)
