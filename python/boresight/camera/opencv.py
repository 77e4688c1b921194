"""OpenCV's camera matrix and distortion coefficients, from and to a camera model.

OpenCV maps the other way: with ``a = X / Z`` and ``b = Y / Z`` of a direction, ``r² = a² + b²``,

    a' = a (1 + k1 r² + k2 r⁴ + k3 r⁶) + 2 p1 a b + p2 (r² + 2 a²)
    b' = b (1 + k1 r² + k2 r⁴ + k3 r⁶) + p1 (r² + 2 b²) + 2 p2 a b

or, of its rational model, with ``(1 + k1 r² + k2 r⁴ + k3 r⁶) / (1 + k4 r² + k5 r⁴ + k6 r⁶)`` for
the factor; or, in its module ``cv2.fisheye``, with ``a`` and ``b`` on the equidistant plane, where
r is the angle θ to the optical axis,

    a' = a (1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸)        and b' likewise,

and the 0-based pixel is ``(fx a' + s b' + cx, fy b' + cy)``. So the coefficients are fitted anew,
on a grid over the image, and the error is measured on another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils import arguments
from boresight.camera.distortion import PolynomialDistortion, RadialDistortion
from boresight.errors import InputError, UndeterminedError

if TYPE_CHECKING:
    from boresight.camera.model import CameraModel, Projection

__all__ = ["OpenCVModel", "from_opencv", "to_opencv"]

Floats = NDArray[np.float64]

OpenCVModel = Literal["pinhole", "rational", "fisheye"]
"""Names of OpenCV's models of a lens."""

FIT_POINTS_PER_SIDE = 33
"""Nodes per side for the fit."""

CHECK_POINTS_PER_SIDE = 41
"""Points per side, edges included, at which the largest error is looked for."""

MAX_ORDER = 9
"""Highest order of the polynomial for cameras of which the pixels are not square."""

ROUND_TRIP_PX = 1e-6
"""Pixels whose direction leads back to a pixel farther off than that are not imaged one to one."""

NEWTON_STEPS = 50
"""Steps at most to invert OpenCV's distortion; five are usual."""

RATIONAL_ROUNDS = 20
"""Rounds of the fit of the rational model; three or four are enough for a lens."""

RANK_TOLERANCE = 1e-12
"""Combinations of coefficients that bend less than this part of the strongest are left alone: the
numerator and the denominator of the rational model may do nearly the same."""

MIN_COS_FROM_AXIS = 0.02
"""A pinhole images nothing farther than 89 degrees from the axis."""


class _Lens(ABC):
    """One of OpenCV's models: a plane, and what bends its points there."""

    names: tuple[str, ...]
    projection: Projection

    @abstractmethod
    def plane(self, directions: Floats) -> Floats:
        """Points (n, 2) of directions (n, 3) before the distortion; NaN for those not imaged."""

    @abstractmethod
    def bent(self, plane: Floats, coefficients: Floats) -> Floats:
        """Points (a', b') (n, 2) that points of the plane come to lie at."""

    @abstractmethod
    def fitted(self, plane: Floats, bent: Floats) -> Floats:
        """Coefficients that bend points of the plane best, all the same far off."""

    @abstractmethod
    def reach(self, coefficients: Floats) -> float:
        """Distance in the plane up to which its points are imaged one to one."""

    def project(self, matrix: Floats, coefficients: Floats, directions: Floats) -> Floats:
        """0-based pixels (n, 2) in which OpenCV sees directions (n, 3)."""
        distorted = self.bent(self.plane(directions), coefficients)
        return distorted @ matrix[:2, :2].T + matrix[:2, 2]


class _Linear(_Lens):
    """A model that is linear in its coefficients."""

    @abstractmethod
    def terms(self, plane: Floats) -> Floats:
        """Differentiate (a', b') by the coefficients: shape (n, 2, number of coefficients)."""

    def bent(self, plane: Floats, coefficients: Floats) -> Floats:
        bent: Floats = plane + self.terms(plane) @ coefficients
        return bent

    def fitted(self, plane: Floats, bent: Floats) -> Floats:
        return _least_squares(
            self.terms(plane).reshape(-1, len(self.names)), (bent - plane).ravel()
        )


class _Pinhole(_Linear):
    """The model of cv2.projectPoints with five coefficients."""

    names = ("k1", "k2", "p1", "p2", "k3")
    projection = "gnomonic"

    def plane(self, directions: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            plane: Floats = directions[:, :2] / directions[:, 2:]
        plane[~(directions[:, 2] > MIN_COS_FROM_AXIS)] = np.nan
        return plane

    def terms(self, plane: Floats) -> Floats:
        a, b = plane.T
        r2 = a * a + b * b
        along_a = [a * r2, a * r2**2, 2 * a * b, r2 + 2 * a * a, a * r2**3]
        along_b = [b * r2, b * r2**2, r2 + 2 * b * b, 2 * a * b, b * r2**3]
        return np.stack([np.column_stack(along_a), np.column_stack(along_b)], axis=1)

    def reach(self, coefficients: Floats) -> float:
        # Where it folds over within the image, it is no camera's; Newton's method finds out.
        return np.inf


_PINHOLE = _Pinhole()
_PINHOLE_RADIAL = np.array([True, True, False, False, True])
"""Which of its coefficients stand in the numerator of the rational model."""


class _Rational(_Lens):
    """The model of cv2.projectPoints with eight coefficients (CALIB_RATIONAL_MODEL)."""

    names = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
    projection = "gnomonic"

    def plane(self, directions: Floats) -> Floats:
        return _PINHOLE.plane(directions)

    def bent(self, plane: Floats, coefficients: Floats) -> Floats:
        r2 = (plane**2).sum(axis=1)[:, None]
        radial = np.where(_PINHOLE_RADIAL, coefficients[:5], 0.0)
        bent: Floats = _PINHOLE.bent(plane, radial) / self._denominator(r2, coefficients)
        bent += _PINHOLE.terms(plane) @ (coefficients[:5] - radial)
        return bent

    def fitted(self, plane: Floats, bent: Floats) -> Floats:
        # Multiplied by its denominator the model is linear, but errors count the more the larger
        # that is; so it is divided by that of the round before (Sanathanan & Koerner 1963).
        r2 = (plane**2).sum(axis=1)[:, None]
        five = _PINHOLE.terms(plane)
        powers = np.stack([r2, r2**2, r2**3], axis=-1)
        coefficients = np.zeros(len(self.names))
        for _ in range(RATIONAL_ROUNDS):
            below = self._denominator(r2, coefficients)
            design = np.concatenate([five, -bent[:, :, None] * powers], axis=2) / below[..., None]
            design[:, :, 2:4] = five[:, :, 2:4]  # p1 and p2 are not divided
            misses = (bent - plane) / below
            coefficients = _least_squares(design.reshape(-1, len(self.names)), misses.ravel())
        return coefficients

    def reach(self, coefficients: Floats) -> float:
        # As for the pinhole.
        return np.inf

    @staticmethod
    def _denominator(r2: Floats, coefficients: Floats) -> Floats:
        k4, k5, k6 = coefficients[5:]
        denominator: Floats = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
        return denominator


class _Fisheye(_Linear):
    """The model of cv2.fisheye with its four coefficients (Kannala & Brandt 2006).

    As there, for directions up to 90 degrees from the axis.
    """

    names = ("k1", "k2", "k3", "k4")
    projection = "equidistant"

    def plane(self, directions: Floats) -> Floats:
        x, y, z = directions.T
        rho = np.hypot(x, y)
        stretch = np.where(rho > 0.0, np.arctan2(rho, z) / np.where(rho > 0.0, rho, 1.0), 1.0)
        plane = np.column_stack([x * stretch, y * stretch])
        plane[z < 0.0] = np.nan
        return plane

    def terms(self, plane: Floats) -> Floats:
        theta2 = (plane**2).sum(axis=1)[:, None]
        return np.stack([plane * theta2**power for power in (1, 2, 3, 4)], axis=-1)

    def reach(self, coefficients: Floats) -> float:
        theta = np.linspace(0.0, np.pi / 2, 901)
        slope = 1.0 + sum(
            (2 * i + 3) * k * theta ** (2 * i + 2) for i, k in enumerate(coefficients)
        )
        folded = np.flatnonzero(slope <= 0.0)
        return float(theta[folded[0] - 1] if len(folded) else theta[-1])


_LENSES: dict[str, _Lens] = {"pinhole": _PINHOLE, "rational": _Rational(), "fisheye": _Fisheye()}


def _lens_of(model: str) -> _Lens:
    """Find OpenCV's model of a name."""
    if model not in _LENSES:
        raise InputError(f"model: {model!r} is unknown; give one of {', '.join(_LENSES)}")
    return _LENSES[model]


def to_opencv(
    camera: CameraModel, tolerance_px: float = 0.01, model: OpenCVModel = "pinhole"
) -> tuple[Floats, Floats, float]:
    """Camera matrix and distortion coefficients as OpenCV has them.

    The method `CameraModel.to_opencv` is this function, and explains it.

    Parameters
    ----------
    camera : CameraModel
        The camera.
    tolerance_px, model
        As for the method.

    Returns
    -------
    camera_matrix, dist_coeffs, max_error_px
        As for the method.

    Raises
    ------
    InputError, UndeterminedError
        As the method.
    """
    lens = _lens_of(model)
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


def _unproject(lens: _Lens, matrix: Floats, coefficients: Floats, pixels: Floats) -> Floats:
    """Points of the lens's plane that 0-based pixels see, by Newton's method; NaN where none is."""
    distorted: Floats = (pixels - matrix[:2, 2]) @ np.linalg.inv(matrix[:2, :2]).T
    reach = lens.reach(coefficients)
    # Beyond the reach the slope may vanish: start, and stay, within it.
    plane = _shortened(distorted, reach)
    step = 1e-6
    # Where the slope vanishes, or the distortion runs away, there is no answer: NaN.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        for _ in range(NEWTON_STEPS):
            miss = lens.bent(plane, coefficients) - distorted
            slopes = []
            for axis in np.eye(2) * step:
                ahead, behind = plane + axis, plane - axis
                slope = lens.bent(ahead, coefficients) - lens.bent(behind, coefficients)
                slopes.append(slope.T / (2.0 * step))
            (xx, yx), (xy, yy) = slopes
            inverse = np.array([[yy, -xy], [-yx, xx]]) / (xx * yy - xy * yx)
            move = np.einsum("ijn,nj->ni", inverse, miss)
            plane = _shortened(plane - move, reach)
            if np.nanmax(np.abs(move), initial=0.0) < 1e-14:
                break
        right = np.abs(lens.bent(plane, coefficients) - distorted).max(axis=1) <= 1e-10
    plane[~right] = np.nan
    return plane


def _least_squares(design: Floats, values: Floats) -> Floats:
    """Coefficients that give the values best; what is as good without one leaves it small."""
    scale = np.linalg.norm(design, axis=0)
    found: Floats = np.linalg.lstsq(design / scale, values, rcond=RANK_TOLERANCE)[0] / scale
    return found


def _shortened(points: Floats, length: float) -> Floats:
    """Points drawn to the origin that are farther from it."""
    if not np.isfinite(length):
        return points
    distance = np.hypot(*points.T)[:, None]
    return np.where(distance > length, points * (length / np.maximum(distance, length)), points)


def from_opencv(
    camera_matrix: ArrayLike,
    dist_coeffs: ArrayLike,
    image_shape: tuple[int, int],
    tolerance_px: float = 0.01,
    model: OpenCVModel = "pinhole",
) -> tuple[dict[str, Any], float]:
    """Camera that OpenCV's matrix and distortion coefficients describe.

    The method `CameraModel.from_opencv` makes the camera of it, and explains the rest.

    Parameters
    ----------
    camera_matrix, dist_coeffs, image_shape, tolerance_px, model
        As for the method.

    Returns
    -------
    arguments : dict
        Arguments of `CameraModel`.
    max_error_px : float
        As from the method.

    Raises
    ------
    InputError, UndeterminedError
        As the method.
    """
    width, height = arguments.image_size(image_shape)
    matrix = _checked_matrix(camera_matrix)
    lens, coefficients = _checked_coefficients(dist_coeffs, model)
    center = (float(matrix[0, 2] - width / 2), float(matrix[1, 2] - height / 2))
    check = _pixels((height, width), CHECK_POINTS_PER_SIDE)
    check = check[np.isfinite(_unproject(lens, matrix, coefficients, check)).all(axis=1)]
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


def _checked_coefficients(dist_coeffs: ArrayLike, model: str) -> tuple[_Lens, Floats]:
    """OpenCV's model of a name, rational if the number of coefficients says so, and all of them."""
    lens = _lens_of(model)
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
        lens = _lens_of("rational")
    return lens, np.append(coefficients, np.zeros(len(lens.names) - len(coefficients)))


def _distortions(
    lens: _Lens, matrix: Floats, coefficients: Floats, image_shape: tuple[int, int]
) -> Iterator[RadialDistortion | PolynomialDistortion]:
    """Distortions fitted to the lens, the simplest first."""
    scale = image_shape[1] / 2.0
    pixels = _pixels(image_shape, FIT_POINTS_PER_SIDE)
    plane = _unproject(lens, matrix, coefficients, pixels)
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


def _grid(camera: CameraModel, lens: _Lens, side: int) -> tuple[Floats, Floats]:
    """0-based pixels over the image (of a fisheye its circle), and the directions they see."""
    height, width = camera.image_shape
    pixels = _pixels(camera.image_shape, side)
    x, y = pixels.T
    directions = camera.pixel_to_direction(x - width / 2, y - height / 2)
    seen = np.isfinite(lens.plane(directions)).all(axis=1)
    if lens.projection == "equidistant":
        # Beyond its circle the distortion of a fisheye may fold over: other pixels see the same.
        column, row = np.add(camera.direction_to_pixel(directions), [[width / 2], [height / 2]])
        with np.errstate(invalid="ignore"):
            seen &= np.hypot(column - pixels[:, 0], row - pixels[:, 1]) < ROUND_TRIP_PX
    if not (seen.any() if lens.projection == "equidistant" else seen.all()):
        raise UndeterminedError(
            "the image reaches 89 degrees from the optical axis, which no pinhole does; "
            "give model='fisheye'"
        )
    return pixels[seen], directions[seen]
