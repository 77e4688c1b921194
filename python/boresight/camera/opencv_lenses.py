"""OpenCV's lens models: a projection to a plane, and a distortion of its points by coefficients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from boresight.errors import InputError

if TYPE_CHECKING:
    from boresight.camera.model import Projection

Floats = NDArray[np.float64]

OpenCVModel = Literal["pinhole", "rational", "fisheye"]
"""Names of OpenCV's models of a lens."""

NEWTON_STEPS = 50
"""Maximum number of steps to invert OpenCV's distortion; five are usual."""

RATIONAL_ROUNDS = 20
"""Number of rounds of the fit of the rational model; three or four are enough for a lens."""

RANK_TOLERANCE = 1e-12
"""Smallest effect of a combination of coefficients that is fitted, as a fraction of the largest.
The numerator and the denominator of the rational model can have nearly the same effect."""

MIN_COS_FROM_AXIS = 0.02
"""Smallest cosine of the angle to the axis that a pinhole images: about 89 degrees."""


class Lens(ABC):
    """One of OpenCV's models: a projection to a plane, and a distortion of its points."""

    names: tuple[str, ...]
    projection: Projection

    @abstractmethod
    def plane(self, directions: Floats) -> Floats:
        """Points (n, 2) of directions (n, 3) before the distortion; NaN for those not imaged."""

    @abstractmethod
    def bent(self, plane: Floats, coefficients: Floats) -> Floats:
        """Distorted points (a', b') (n, 2) of points of the plane."""

    @abstractmethod
    def fitted(self, plane: Floats, bent: Floats) -> Floats:
        """Coefficients that distort points of the plane best, with equal weight for all points."""

    @abstractmethod
    def reach(self, coefficients: Floats) -> float:
        """Distance in the plane up to which its points are imaged one to one."""

    def project(self, matrix: Floats, coefficients: Floats, directions: Floats) -> Floats:
        """0-based pixels (n, 2) in which OpenCV sees directions (n, 3)."""
        distorted = self.bent(self.plane(directions), coefficients)
        return distorted @ matrix[:2, :2].T + matrix[:2, 2]


class Linear(Lens):
    """A model that is linear in its coefficients."""

    @abstractmethod
    def terms(self, plane: Floats) -> Floats:
        """Differentiate (a', b') by the coefficients: shape (n, 2, number of coefficients)."""

    def bent(self, plane: Floats, coefficients: Floats) -> Floats:
        """Points of the plane, distorted."""
        bent: Floats = plane + self.terms(plane) @ coefficients
        return bent

    def fitted(self, plane: Floats, bent: Floats) -> Floats:
        """Fit the coefficients to distorted points of the plane."""
        return _least_squares(
            self.terms(plane).reshape(-1, len(self.names)), (bent - plane).ravel()
        )


class Pinhole(Linear):
    """The model of cv2.projectPoints with five coefficients."""

    names = ("k1", "k2", "p1", "p2", "k3")
    projection = "gnomonic"

    def plane(self, directions: Floats) -> Floats:
        """Points of the plane that directions meet."""
        with np.errstate(divide="ignore", invalid="ignore"):
            plane: Floats = directions[:, :2] / directions[:, 2:]
        plane[~(directions[:, 2] > MIN_COS_FROM_AXIS)] = np.nan
        return plane

    def terms(self, plane: Floats) -> Floats:
        """Differentiate the distorted points by the coefficients."""
        a, b = plane.T
        r2 = a * a + b * b
        along_a = [a * r2, a * r2**2, 2 * a * b, r2 + 2 * a * a, a * r2**3]
        along_b = [b * r2, b * r2**2, r2 + 2 * b * b, 2 * a * b, b * r2**3]
        return np.stack([np.column_stack(along_a), np.column_stack(along_b)], axis=1)

    def reach(self, coefficients: Floats) -> float:
        """Distance in the plane at which the distortion folds over."""
        # A distortion that folds over within the image is not that of a camera; Newton's method
        # detects it.
        return np.inf


PINHOLE = Pinhole()
PINHOLE_RADIAL = np.array([True, True, False, False, True])
"""Which of the coefficients of `PINHOLE` are in the numerator of the rational model."""


class Rational(Lens):
    """The model of cv2.projectPoints with eight coefficients (CALIB_RATIONAL_MODEL)."""

    names = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
    projection = "gnomonic"

    def plane(self, directions: Floats) -> Floats:
        """Points of the plane that directions meet."""
        return PINHOLE.plane(directions)

    def bent(self, plane: Floats, coefficients: Floats) -> Floats:
        """Points of the plane, distorted."""
        r2 = (plane**2).sum(axis=1)[:, None]
        radial = np.where(PINHOLE_RADIAL, coefficients[:5], 0.0)
        bent: Floats = PINHOLE.bent(plane, radial) / self._denominator(r2, coefficients)
        bent += PINHOLE.terms(plane) @ (coefficients[:5] - radial)
        return bent

    def fitted(self, plane: Floats, bent: Floats) -> Floats:
        """Fit the coefficients to distorted points of the plane."""
        # Multiplied by its denominator, the model is linear, but errors are then weighted by the
        # denominator. So each round divides by the denominator of the round before (Sanathanan &
        # Koerner 1963).
        r2 = (plane**2).sum(axis=1)[:, None]
        five = PINHOLE.terms(plane)
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
        """Distance in the plane at which the distortion folds over."""
        # As for the pinhole.
        return np.inf

    @staticmethod
    def _denominator(r2: Floats, coefficients: Floats) -> Floats:
        k4, k5, k6 = coefficients[5:]
        denominator: Floats = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
        return denominator


class Fisheye(Linear):
    """The model of cv2.fisheye with its four coefficients (Kannala & Brandt 2006).

    As in OpenCV, it is limited to directions up to 90 degrees from the axis.
    """

    names = ("k1", "k2", "k3", "k4")
    projection = "equidistant"

    def plane(self, directions: Floats) -> Floats:
        """Points of the plane that directions meet."""
        x, y, z = directions.T
        rho = np.hypot(x, y)
        stretch = np.where(rho > 0.0, np.arctan2(rho, z) / np.where(rho > 0.0, rho, 1.0), 1.0)
        plane = np.column_stack([x * stretch, y * stretch])
        plane[z < 0.0] = np.nan
        return plane

    def terms(self, plane: Floats) -> Floats:
        """Differentiate the distorted points by the coefficients."""
        theta2 = (plane**2).sum(axis=1)[:, None]
        return np.stack([plane * theta2**power for power in (1, 2, 3, 4)], axis=-1)

    def reach(self, coefficients: Floats) -> float:
        """Distance in the plane at which the distortion folds over."""
        theta = np.linspace(0.0, np.pi / 2, 901)
        slope = 1.0 + sum(
            (2 * i + 3) * k * theta ** (2 * i + 2) for i, k in enumerate(coefficients)
        )
        folded = np.flatnonzero(slope <= 0.0)
        return float(theta[folded[0] - 1] if len(folded) else theta[-1])


LENSES: dict[str, Lens] = {"pinhole": PINHOLE, "rational": Rational(), "fisheye": Fisheye()}


def lens_of(model: str) -> Lens:
    """Find OpenCV's model by its name."""
    if model not in LENSES:
        raise InputError(f"model: {model!r} is unknown; give one of {', '.join(LENSES)}")
    return LENSES[model]


def unproject(lens: Lens, matrix: Floats, coefficients: Floats, pixels: Floats) -> Floats:
    """Points of the lens's plane seen by 0-based pixels, by Newton's method; NaN where none is."""
    distorted: Floats = (pixels - matrix[:2, 2]) @ np.linalg.inv(matrix[:2, :2]).T
    reach = lens.reach(coefficients)
    # Beyond the reach the slope may vanish: start, and stay, within it.
    plane = _shortened(distorted, reach)
    step = 1e-6
    # Where the slope vanishes, or the distortion diverges, there is no solution: NaN.
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
    """Coefficients that fit the values best; poorly determined combinations of them stay small."""
    scale = np.linalg.norm(design, axis=0)
    found: Floats = np.linalg.lstsq(design / scale, values, rcond=RANK_TOLERANCE)[0] / scale
    return found


def _shortened(points: Floats, length: float) -> Floats:
    """Points, moved towards the origin where they are farther from it than a given length."""
    if not np.isfinite(length):
        return points
    distance = np.hypot(*points.T)[:, None]
    return np.where(distance > length, points * (length / np.maximum(distance, length)), points)
