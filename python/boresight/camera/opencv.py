"""OpenCV's camera matrix and distortion coefficients, from and to a camera model.

OpenCV maps the other way, from the direction to the pixel. With ``a = X / Z`` and ``b = Y / Z`` of
a direction, and ``r² = a² + b²``, its distorted points are

    a' = a (1 + k1 r² + k2 r⁴ + k3 r⁶) + 2 p1 a b + p2 (r² + 2 a²)
    b' = b (1 + k1 r² + k2 r⁴ + k3 r⁶) + p1 (r² + 2 b²) + 2 p2 a b

In its rational model, the radial factor is
``(1 + k1 r² + k2 r⁴ + k3 r⁶) / (1 + k4 r² + k5 r⁴ + k6 r⁶)`` instead. In its module
``cv2.fisheye``, ``a`` and ``b`` are on the equidistant plane, where r is the angle θ to the optical
axis, and

    a' = a (1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸)        and b' likewise,

The 0-based pixel is ``(fx a' + s b' + cx, fy b' + cy)``. The coefficients of one mapping do not
give those of its inverse. Therefore they are fitted on a grid over the image, and the error is
measured on another grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils import arguments
from boresight._utils.naming import named
from boresight.camera.distortion import PolynomialDistortion, RadialDistortion, powers
from boresight.camera.opencv_lenses import Lens, OpenCVModel, lens_of, unproject
from boresight.errors import InputError, UndeterminedError

if TYPE_CHECKING:
    from boresight.camera.model import CameraModel

__all__ = ["from_opencv", "to_opencv"]

Floats = NDArray[np.float64]


FIT_POINTS_PER_SIDE = 33
"""Points per side of the grid for the fit."""

CHECK_POINTS_PER_SIDE = 41
"""Points per side of the grid, edges included, on which the largest error is measured."""

MAX_ORDER = 9
"""Highest order of the polynomial that is tried, which cameras with pixels that are not square
need."""

ROUND_TRIP_PX = 1e-6
"""Largest distance between a pixel and the pixel that its direction leads back to. Pixels with a
larger distance are not imaged one to one."""


@named
def to_opencv(
    camera: CameraModel, tolerance_px: float = 0.01, model: OpenCVModel = "pinhole"
) -> tuple[Floats, Floats, float]:
    """Camera matrix and distortion coefficients in OpenCV's convention.

    Parameters
    ----------
    camera : CameraModel
        The camera.
    tolerance_px : float
        Largest error allowed, pixels. Default 0.01.
    model : {"pinhole", "rational", "fisheye"}
        OpenCV's model: that of ``cv2.projectPoints`` with five coefficients ("pinhole"), or with
        eight ("rational", whose radial factor is
        ``(1 + k1 r² + k2 r⁴ + k3 r⁶) / (1 + k4 r² + k5 r⁴ + k6 r⁶)``), or that of ``cv2.fisheye``:
        ``θ_d = θ (1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸)`` at the angle θ to the axis. Default
        "pinhole".

    Returns
    -------
    camera_matrix : ndarray of shape (3, 3)
        For 0-based pixels (column, row).
    dist_coeffs : ndarray of shape (5,), (8,) or (4,)
        k1, k2, p1, p2, k3, and for the rational model also k4, k5, k6; for a fisheye k1, k2, k3,
        k4.
    max_error_px : float
        Largest distance over the image between the positions of a star by OpenCV and this model.
        The image of a fisheye counts up to 90 degrees from the axis, where OpenCV's model ends.

    Raises
    ------
    InputError
        For a mirrored camera, which OpenCV does not support, or an unknown model.
    UndeterminedError
        If the error is larger than the tolerance, or a pinhole is requested for an image that
        reaches 89 degrees from the axis.

    Notes
    -----
    OpenCV's distortion goes from the ideal point to the pixel, so its coefficients are not
    those of `RadialDistortion`; they are fitted on a grid over the image, and the error is
    measured on another.

    Examples
    --------
    >>> from boresight import CameraModel, RadialDistortion
    >>> from boresight.camera.opencv import to_opencv
    >>> lens = RadialDistortion(k1=-0.02, scale=512.0)
    >>> camera = CameraModel(2500.0, (768, 1024), distortion=lens)
    >>> matrix, coefficients, error = to_opencv(camera)
    >>> print(f"{coefficients[0]:.2f}", error < 0.001)
    0.48 True
    """
    lens = lens_of(model)
    if camera.parity_flip:
        raise InputError("parity_flip: OpenCV has no mirrored cameras; mirror the image instead")
    height, width = camera.image_shape
    f = camera.focal_length_px
    center = np.add(camera.optical_center, (width / 2, height / 2))
    matrix = np.array([[f, 0.0, center[0]], [0.0, f, center[1]], [0.0, 0.0, 1.0]])
    pixels, directions = _grid(camera, lens, FIT_POINTS_PER_SIDE)
    plane = lens.plane(directions)
    coefficients = lens.fitted(plane, (pixels - center) / f)
    pixels, directions = _grid(camera, lens, CHECK_POINTS_PER_SIDE)
    misses = lens.project(matrix, coefficients, directions) - pixels
    error = float(np.hypot(*misses.T).max())
    if not error <= tolerance_px:
        raise UndeterminedError(
            f"OpenCV's {', '.join(lens.names)} miss this camera by up to {error:.3g} px, more than "
            f"tolerance_px={tolerance_px:g}; allow more, or export a WCS"
        )
    return matrix, coefficients, error


@named
def from_opencv(
    camera_matrix: ArrayLike,
    dist_coeffs: ArrayLike,
    image_shape: tuple[int, int],
    tolerance_px: float = 0.01,
    model: OpenCVModel = "pinhole",
) -> tuple[dict[str, Any], float]:
    """Camera from OpenCV's matrix and distortion coefficients.

    Parameters
    ----------
    camera_matrix : array_like of shape (3, 3)
        For 0-based pixels (column, row).
    dist_coeffs : array_like of shape (4,), (5,) or (8,)
        k1, k2, p1, p2, optionally k3, and for the rational model k4, k5, k6; for a fisheye k1, k2,
        k3, k4.
    image_shape : (int, int)
        Height and width of the image in pixels.
    tolerance_px : float
        Largest error allowed, pixels. Default 0.01.
    model : {"pinhole", "rational", "fisheye"}
        OpenCV's model: that of ``cv2.calibrateCamera`` (rational if it has eight coefficients), or
        that of ``cv2.fisheye.calibrate``. Default "pinhole".

    Returns
    -------
    arguments : dict
        Arguments of `CameraModel`. A fisheye has the projection "equidistant". The distortion is a
        `RadialDistortion` if that reaches the tolerance. Otherwise, or if fx and fy differ, it is
        the `PolynomialDistortion` of the lowest order that does.
    max_error_px : float
        Largest distance over the image between the positions of a star by OpenCV and the model. The
        image of a fisheye counts up to 90 degrees from the axis, where OpenCV's model ends.

    Raises
    ------
    InputError
        If the arrays do not have OpenCV's form, or the model is unknown.
    UndeterminedError
        If the distortion folds over within the image, or the error is larger than the
        tolerance.

    Examples
    --------
    >>> from boresight import CameraModel
    >>> from boresight.camera.opencv import from_opencv
    >>> matrix = [[900.0, 0.0, 320.0], [0.0, 900.0, 240.0], [0.0, 0.0, 1.0]]
    >>> arguments, error = from_opencv(matrix, [-0.1, 0.01, 0.0, 0.0], (480, 640))
    >>> CameraModel(**arguments).focal_length_px, error < 0.001
    (900.0, True)
    """
    width, height = arguments.image_size(image_shape)
    matrix = _checked_matrix(camera_matrix)
    lens, coefficients = _checked_coefficients(dist_coeffs, model)
    center = (float(matrix[0, 2] - width / 2), float(matrix[1, 2] - height / 2))
    check = _pixels((height, width), CHECK_POINTS_PER_SIDE)
    check = check[np.isfinite(unproject(lens, matrix, coefficients, check)).all(axis=1)]
    focal, error = float(matrix[0, 0]), np.inf
    for distortion in _distortions(lens, matrix, coefficients, (height, width)):
        camera = core.CameraModel(
            focal, (width, height), center, False, lens.projection, distortion._core
        )
        directions = camera.pixel_to_direction(check - (width / 2, height / 2))
        misses = lens.project(matrix, coefficients, directions) - check
        error = float(np.hypot(*misses.T).max())
        if error <= tolerance_px:
            found = {
                "focal_length_px": focal,
                "image_shape": (height, width),
                "optical_center": center,
                "distortion": distortion,
                "projection": lens.projection,
            }
            return found, error
    raise UndeterminedError(
        f"dist_coeffs: no camera model comes closer than {error:.3g} px, more than "
        f"tolerance_px={tolerance_px:g}; allow more"
    )


def _checked_matrix(camera_matrix: ArrayLike) -> Floats:
    """OpenCV's camera matrix as an array."""
    matrix = np.array(camera_matrix, dtype=np.float64)
    lower = np.array([matrix[1, 0], *matrix[2]]) if matrix.shape == (3, 3) else None
    if (
        lower is None
        or not np.array_equal(lower, [0.0, 0.0, 0.0, 1.0])
        or not (np.isfinite(matrix).all() and min(matrix[0, 0], matrix[1, 1]) > 0.0)
    ):
        raise InputError(
            "camera_matrix: it is not [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with fx and fy "
            "positive; give the matrix that OpenCV's calibrateCamera returns"
        )
    return matrix


def _checked_coefficients(dist_coeffs: ArrayLike, model: str) -> tuple[Lens, Floats]:
    """OpenCV's model by its name (rational for eight coefficients), and its coefficients.

    Missing coefficients are zero.
    """
    lens = lens_of(model)
    coefficients = np.array(dist_coeffs, dtype=np.float64).ravel()
    if model == "fisheye":
        if len(coefficients) != 4 or not np.isfinite(coefficients).all():
            raise InputError(
                f"dist_coeffs: {coefficients.tolist()} are not k1, k2, k3 and k4; "
                "give what cv2.fisheye.calibrate returns"
            )
    elif len(coefficients) not in (4, 5, 8) or not np.isfinite(coefficients).all():
        raise InputError(
            f"dist_coeffs: {coefficients.tolist()} are not k1, k2, p1, p2, perhaps k3, and "
            "perhaps k4, k5, k6; calibrate without OpenCV's thin-prism and tilted models"
        )
    elif len(coefficients) == 8:
        lens = lens_of("rational")
    return lens, np.append(coefficients, np.zeros(len(lens.names) - len(coefficients)))


def _distortions(
    lens: Lens, matrix: Floats, coefficients: Floats, image_shape: tuple[int, int]
) -> Iterator[RadialDistortion | PolynomialDistortion]:
    """Distortions fitted to the lens, the simplest first."""
    scale = image_shape[1] / 2.0
    pixels = _pixels(image_shape, FIT_POINTS_PER_SIDE)
    plane = unproject(lens, matrix, coefficients, pixels)
    seen = np.isfinite(plane).all(axis=1)
    # A fisheye's image may be a circle; a pinhole's fills the frame.
    if not (seen.any() if lens.projection == "equidistant" else seen.all()):
        raise UndeterminedError("dist_coeffs: the distortion folds over within the image")
    points = pixels[seen] - matrix[:2, 2]
    bend = matrix[0, 0] * plane[seen] - points
    if matrix[0, 0] == matrix[1, 1] and matrix[0, 1] == 0.0:
        k1, k2, k3, k4, p1, p2 = _radial(points, bend, scale)
        yield RadialDistortion(k1, k2, k3, p1, p2, k4=k4, scale=scale)
    for order in range(1, MAX_ORDER + 1):
        yield PolynomialDistortion(order, scale, *_polynomials(points, bend, scale, order))


def _radial(points: Floats, bend: Floats, scale: float) -> list[float]:
    """k1 to k4, p1 and p2 of the `RadialDistortion` that fits the displacements of points best."""
    x, y = (points / scale).T
    r2 = x * x + y * y
    along_x = [x * r2, x * r2**2, x * r2**3, x * r2**4, 2 * x * y, r2 + 2 * x * x]
    along_y = [y * r2, y * r2**2, y * r2**3, y * r2**4, r2 + 2 * y * y, 2 * x * y]
    design = np.vstack([np.column_stack(along_x), np.column_stack(along_y)])
    values = bend.T.ravel() / scale
    return [float(term) for term in np.linalg.lstsq(design, values, rcond=None)[0]]


def _polynomials(points: Floats, bend: Floats, scale: float, order: int) -> tuple[Floats, Floats]:
    """Coefficients of the `PolynomialDistortion` that fits the displacements of points best."""
    x, y = (points / scale).T
    design = np.column_stack([x**p * y**q for p, q in powers(order)])
    a, b = np.linalg.lstsq(design, bend, rcond=None)[0].T
    return a, b


def _pixels(image_shape: tuple[int, int], side: int) -> Floats:
    """0-based pixels from edge to edge of an image."""
    height, width = image_shape
    x, y = np.meshgrid(np.linspace(-0.5, width - 0.5, side), np.linspace(-0.5, height - 0.5, side))
    return np.column_stack([x.ravel(), y.ravel()])


def _grid(camera: CameraModel, lens: Lens, side: int) -> tuple[Floats, Floats]:
    """0-based pixels over the image (for a fisheye, its circle), and the directions they see."""
    height, width = camera.image_shape
    pixels = _pixels(camera.image_shape, side)
    x, y = pixels.T
    directions = camera.pixel_to_direction(x - width / 2, y - height / 2)
    seen = np.isfinite(lens.plane(directions)).all(axis=1)
    if lens.projection == "equidistant":
        # Beyond its image circle, the distortion of a fisheye may fold over, so that other pixels
        # see the same directions.
        column, row = np.add(camera.direction_to_pixel(directions), [[width / 2], [height / 2]])
        with np.errstate(invalid="ignore"):
            seen &= np.hypot(column - pixels[:, 0], row - pixels[:, 1]) < ROUND_TRIP_PX
    if not (seen.any() if lens.projection == "equidistant" else seen.all()):
        raise UndeterminedError(
            "the image reaches 89 degrees from the optical axis, which no pinhole does; "
            "give model='fisheye'"
        )
    return pixels[seen], directions[seen]
