"""OpenCV's models of a lens: a plane, and a distortion of its points by coefficients."""

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
"""Steps at most to invert OpenCV's distortion; five are usual."""

RATIONAL_ROUNDS = 20
"""Rounds of the fit of the rational model; three or four are enough for a lens."""

RANK_TOLERANCE = 1e-12
"""Combinations of coefficients that bend less than this part of the strongest are left alone: the
numerator and the denominator of the rational model may do nearly the same."""

MIN_COS_FROM_AXIS = 0.02
"""A pinhole images nothing farther than 89 degrees from the axis."""


class Lens(ABC):
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
        """Fit the coefficients to points of the plane, distorted."""
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
        # Where it folds over within the image, it is no camera's; Newton's method finds out.
        return np.inf


PINHOLE = Pinhole()
PINHOLE_RADIAL = np.array([True, True, False, False, True])
"""Which of its coefficients stand in the numerator of the rational model."""


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
        """Fit the coefficients to points of the plane, distorted."""
        # Multiplied by its denominator the model is linear, but errors count the more the larger
        # that is; so it is divided by that of the round before (Sanathanan & Koerner 1963).
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

    As there, for directions up to 90 degrees from the axis.
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
    """Find OpenCV's model of a name."""
    if model not in LENSES:
        raise InputError(f"model: {model!r} is unknown; give one of {', '.join(LENSES)}")
    return LENSES[model]


def unproject(lens: Lens, matrix: Floats, coefficients: Floats, pixels: Floats) -> Floats:
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
