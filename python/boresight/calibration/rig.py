"""Several detectors behind one lens: their places in the focal plane, and the optics they share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight._utils.unstable import unstable
from boresight.calibration.fit import calibrate_camera
from boresight.calibration.result import CalibrationResult
from boresight.camera.model import CameraModel
from boresight.errors import InputError, UndeterminedError
from boresight.solver.matches import MatchedStars
from boresight.solver.solution import Solution

__all__ = ["Detector", "MosaicResult", "calibrate_mosaic"]

Floats = NDArray[np.float64]

MAX_ROUNDS = 30
"""Rounds of placing the detectors; each makes their error some five times smaller."""

TOLERANCE_PX = 1e-4
"""A detector that moves by less has its place."""

_unstable = unstable("places will be fitted together with the optics, with their covariance")


@_unstable
@dataclass(frozen=True)
class Detector:
    """Where a detector lies in the focal plane.

    A pixel (x, y) of it, from its centre, lies in the focal plane at (x, y) turned by
    `rotation_deg` from x towards y, and moved by (`shift_x_px`, `shift_y_px`).

    Attributes
    ----------
    shift_x_px, shift_y_px : float
        Place of its centre in the focal plane, in pixels from that of the first detector.
    rotation_deg : float
        How far it is turned against the first.
    shift_sigma_px, rotation_sigma_deg : float
        Standard deviations of the shift per axis and of the rotation, from how much the exposures
        differ; 0 for the first detector, NaN from one exposure.
    """

    shift_x_px: float = 0.0
    shift_y_px: float = 0.0
    rotation_deg: float = 0.0
    shift_sigma_px: float = 0.0
    rotation_sigma_deg: float = 0.0

    def to_focal_plane(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Places of pixels in the focal plane.

        Parameters
        ----------
        x, y : array_like
            Pixels from the detector's centre.

        Returns
        -------
        x, y : float or ndarray
            Pixels from the first detector's centre.
        """
        x, y = np.asarray(x, float), np.asarray(y, float)
        cos, sin = np.cos(np.radians(self.rotation_deg)), np.sin(np.radians(self.rotation_deg))
        return cos * x - sin * y + self.shift_x_px, sin * x + cos * y + self.shift_y_px

    def from_focal_plane(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Pixels at places of the focal plane: the inverse of `to_focal_plane`.

        Parameters
        ----------
        x, y : array_like
            Pixels from the first detector's centre.

        Returns
        -------
        x, y : float or ndarray
            Pixels from this detector's centre.
        """
        dx = np.asarray(x, float) - self.shift_x_px
        dy = np.asarray(y, float) - self.shift_y_px
        cos, sin = np.cos(np.radians(self.rotation_deg)), np.sin(np.radians(self.rotation_deg))
        return cos * dx + sin * dy, -sin * dx + cos * dy


@_unstable
@dataclass(frozen=True, eq=False)
class MosaicResult:
    """Result of `calibrate_mosaic`.

    Attributes
    ----------
    detectors : tuple of Detector
        Their places, the first at the origin.
    optics : CalibrationResult
        The calibration of the whole focal plane, one frame for each exposure. The pixels of its
        `camera_model` are counted from the middle of the smallest rectangle around all detectors,
        which has its `image_shape`.
    center_px : (float, float)
        That middle, in pixels from the first detector's centre.
    converged : bool
        Whether the detectors came to rest.
    """

    detectors: tuple[Detector, ...]
    optics: CalibrationResult
    center_px: tuple[float, float]
    converged: bool

    def pixel_to_direction(self, detector: int, x: ArrayLike, y: ArrayLike) -> Floats:
        """Directions that pixels of a detector see, in the axes of the one camera.

        Parameters
        ----------
        detector : int
            Which detector.
        x, y : array_like
            Pixels from its centre.

        Returns
        -------
        ndarray, shape (..., 3)
            Unit vectors in the camera frame; an exposure's attitude is
            ``optics.frames[exposure].quaternion``.
        """
        fx, fy = self.detectors[detector].to_focal_plane(x, y)
        camera = self.optics.camera_model
        return camera.pixel_to_direction(fx - self.center_px[0], fy - self.center_px[1])

    def __repr__(self) -> str:
        places = "\n ".join(repr(detector) for detector in self.detectors)
        return f"<MosaicResult: {len(self.detectors)} detectors\n {places}\n {self.optics!r}>"


@_unstable
def calibrate_mosaic(
    results: Sequence[Sequence[Solution | None]],
    centroids: Sequence[Sequence[Any]],
    order: int = 4,
    model: Literal["polynomial", "radial", "pinhole"] = "polynomial",
    **options: Any,
) -> MosaicResult:
    """Fit one lens and the places of the detectors behind it.

    Parameters
    ----------
    results : sequence of sequences of (Solution or None)
        For each exposure the solution of each detector, the detectors in the same order; `None`
        where one did not solve. The detectors have to be of one size, and no detector without any
        solution.
    centroids : sequence of sequences
        The centroids that were solved, likewise; anything the solver takes.
    order, model, **options
        As for `calibrate_camera`, for the optics they share.

    Returns
    -------
    MosaicResult

    Raises
    ------
    InputError
        If exposures have different numbers of detectors, or detectors different sizes.
    UndeterminedError
        If a detector is in no exposure solved together with the first, or too few stars match.

    Notes
    -----
    In turn, the optics are fitted with an attitude for each detector in each exposure, and the
    detectors moved to where these attitudes agree on average, until nothing moves. Last, the optics
    are fitted with one attitude for each exposure. A shift common to all detectors is a pointing,
    and so is a common rotation: the first detector stays where it is.
    """
    exposures = _exposures(results, centroids)
    detectors = _first_guess(exposures)
    fit: dict[str, Any] = {"order": order, "model": model, **options}
    converged = False
    for _ in range(MAX_ROUNDS):
        center, shape = _bounds(detectors, exposures)
        each = [
            None if part is None else _placed(part, detector, center, shape)
            for parts in exposures
            for part, detector in zip(parts, detectors, strict=True)
        ]
        fitted = calibrate_camera(each, **fit)
        moved = [
            _replaced(i, detector, fitted, len(detectors), center, exposures)
            for i, detector in enumerate(detectors)
        ]
        change = max(_apart(a, b, exposures) for a, b in zip(detectors, moved, strict=True))
        detectors = moved
        if change < TOLERANCE_PX:
            converged = True
            break
    center, shape = _bounds(detectors, exposures)
    optics = calibrate_camera([_together(e, detectors, center, shape) for e in exposures], **fit)
    return MosaicResult(tuple(detectors), optics, center, converged)


def _exposures(results: Sequence[Any], centroids: Sequence[Any]) -> list[list[Part]]:
    """Collect the matched stars by exposure and detector."""
    if len(results) != len(centroids):
        raise InputError(
            f"centroids: {len(centroids)} exposures, but {len(results)} in results; give as many"
        )
    exposures: list[list[Part]] = []
    for i, (solutions, stars) in enumerate(zip(results, centroids, strict=True)):
        if len(solutions) != len(stars) or len(solutions) != len(results[0]):
            raise InputError(
                f"results[{i}]: {len(solutions)} detectors and {len(stars)} lists of centroids, "
                f"but results[0] has {len(results[0])}; give one of each for every detector"
            )
        parts: list[Part] = []
        for solution, found in zip(solutions, stars, strict=True):
            if solution is None:
                parts.append(None)
                continue
            matches = solution.matched_stars if isinstance(solution, Solution) else solution
            parts.append(matches.measured(found, f"centroids[{i}]"))
        exposures.append(parts)
    solved = [part for parts in exposures for part in parts if part is not None]
    if not solved:
        raise UndeterminedError("results: no detector is solved; solve some")
    shapes = {part.camera_model.image_shape for part in solved}
    if len(shapes) > 1:
        raise InputError(f"results: detectors of different sizes {sorted(shapes)}; give one size")
    return exposures


Part = MatchedStars | None
"""The matched stars of one detector in one exposure, if it solved."""


def _first_guess(exposures: list[list[Part]]) -> list[Detector]:
    """Places from the attitudes with which the detectors were solved, without distortion."""
    detectors = [Detector()]
    for i in range(1, len(exposures[0])):
        pair = next((e for e in exposures if e[0] is not None and e[i] is not None), None)
        if pair is None:
            raise UndeterminedError(
                f"results: detector {i} is in no exposure solved together with detector 0; "
                "give one in which both are"
            )
        first, other = pair[0], pair[i]
        assert first is not None
        assert other is not None
        camera = first.camera_model
        plain = CameraModel(
            camera.focal_length_px,
            camera.image_shape,
            parity_flip=camera.parity_flip,
            projection=camera.projection,
        )
        turn = _rotation(first.quaternion) @ _rotation(other.quaternion).T
        pixels = _marks(camera.image_shape)
        seen = plain.pixel_to_direction(*pixels.T) @ turn.T
        detectors.append(_rigid(pixels, np.column_stack(plain.direction_to_pixel(seen))))
    return detectors


def _replaced(
    index: int,
    detector: Detector,
    fitted: CalibrationResult,
    count: int,
    center: tuple[float, float],
    exposures: list[list[Part]],
) -> Detector:
    """Move a detector to where its attitudes agree with those of the first, on average."""
    if index == 0:
        return detector
    camera = fitted.camera_model
    part = next(e[index] for e in exposures if e[index] is not None)
    assert part is not None
    pixels = _marks(part.camera_model.image_shape)
    at = np.column_stack(detector.to_focal_plane(*pixels.T)) - center
    found = []
    for exposure in range(len(exposures)):
        first, own = fitted.frames[exposure * count], fitted.frames[exposure * count + index]
        if first is None or own is None or first.rejected or own.rejected:
            continue
        turn = _rotation(first.quaternion) @ _rotation(own.quaternion).T
        seen = camera.pixel_to_direction(*at.T) @ turn.T
        place = np.column_stack(camera.direction_to_pixel(seen)) + center
        if np.isfinite(place).all():
            found.append(_rigid(pixels, place))
    if not found:
        raise UndeterminedError(
            f"results: detector {index} fits in no exposure together with detector 0; "
            "look at their solutions"
        )
    values = np.array([[d.shift_x_px, d.shift_y_px, d.rotation_deg] for d in found])
    number = len(found)
    sigma = values.std(axis=0, ddof=1) / np.sqrt(number) if number > 1 else np.full(3, np.nan)
    shift_sigma = float(np.sqrt(np.mean(sigma[:2] ** 2)))
    x, y, rotation = (float(mean) for mean in values.mean(axis=0))
    return Detector(x, y, rotation, shift_sigma, float(sigma[2]))


def _rigid(pixels: Floats, places: Floats) -> Detector:
    """Find the detector whose pixels come closest to these places in the focal plane."""
    middle, target = pixels.mean(axis=0), places.mean(axis=0)
    p, q = pixels - middle, places - target
    angle = np.arctan2(np.sum(p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]), np.sum(p * q))
    turned = Detector(rotation_deg=float(np.degrees(angle)))
    x, y = target - np.array(turned.to_focal_plane(*middle))
    return dataclasses.replace(turned, shift_x_px=float(x), shift_y_px=float(y))


def _marks(image_shape: tuple[int, int]) -> Floats:
    """Pixels all over a detector: a grid of 5 by 5."""
    height, width = image_shape
    x, y = np.meshgrid(np.linspace(-0.4, 0.4, 5) * width, np.linspace(-0.4, 0.4, 5) * height)
    return np.column_stack([x.ravel(), y.ravel()])


def _apart(a: Detector, b: Detector, exposures: list[list[Part]]) -> float:
    """Largest distance between the places of pixels of two detectors."""
    part = next(part for parts in exposures for part in parts if part is not None)
    marks = _marks(part.camera_model.image_shape)
    moved = np.subtract(a.to_focal_plane(*marks.T), b.to_focal_plane(*marks.T))
    return float(np.hypot(*moved).max())


def _bounds(
    detectors: list[Detector], exposures: list[list[Part]]
) -> tuple[tuple[float, float], tuple[int, int]]:
    """Middle and shape of the smallest rectangle around all detectors."""
    part = next(part for parts in exposures for part in parts if part is not None)
    height, width = part.camera_model.image_shape
    corners = 0.5 * np.array([[-width, width, -width, width], [-height, -height, height, height]])
    places = np.concatenate([np.array(d.to_focal_plane(*corners)) for d in detectors], axis=1)
    low, high = places.min(axis=1), places.max(axis=1)
    size = np.ceil(high - low - 1e-6).astype(int)
    middle = (low + high) / 2.0
    return (float(middle[0]), float(middle[1])), (int(size[1]), int(size[0]))


def _placed(
    part: MatchedStars, detector: Detector, center: tuple[float, float], shape: tuple[int, int]
) -> MatchedStars:
    """Put the matched stars of a detector into the focal plane."""
    x, y = detector.to_focal_plane(*part.positions_px.T)
    angle = np.radians(detector.rotation_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    camera = part.camera_model
    return part.replace(
        positions_px=np.column_stack([x - center[0], y - center[1]]),
        position_cov=turn @ part.position_cov @ turn.T,
        camera_model=CameraModel(
            camera.focal_length_px,
            shape,
            parity_flip=camera.parity_flip,
            projection=camera.projection,
        ),
    )


def _together(
    parts: list[Part],
    detectors: list[Detector],
    center: tuple[float, float],
    shape: tuple[int, int],
) -> Part:
    """Make one frame of all detectors of an exposure."""
    placed = [
        _placed(part, detector, center, shape)
        for part, detector in zip(parts, detectors, strict=True)
        if part is not None
    ]
    if not placed:
        return None
    number = sum(map(len, placed))
    names = ("positions_px", "directions", "position_cov", "brightness", "catalog_ids")
    joined = {name: np.concatenate([getattr(p, name) for p in placed]) for name in names}
    return placed[0].replace(centroids=np.arange(number), probability=np.ones(number), **joined)


def _rotation(quaternion: ArrayLike) -> Floats:
    """Matrix of a unit quaternion, scalar first."""
    w, x, y, z = np.asarray(quaternion, float)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
