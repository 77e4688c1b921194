"""Several detectors behind one lens: their places in the focal plane, and the optics they share.

The fit determines at once the intrinsics of the lens, the place of every detector but the first,
and one attitude for each exposure. A shift of all detectors is equivalent to a change of the
pointing, and a common rotation to a roll of every exposure. Therefore the first detector stays
fixed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils.arguments import one_shape, pixels
from boresight._utils.naming import named
from boresight._utils.origins import Origin
from boresight._utils.unstable import unstable
from boresight.calibration import fit
from boresight.calibration.result import CalibrationResult, FrameCalibration
from boresight.camera.model import CameraModel
from boresight.errors import InputError, UndeterminedError
from boresight.solver.matches import MatchedStars
from boresight.solver.solution import Solution

__all__ = ["Detector", "MosaicResult", "calibrate_mosaic"]

Floats = NDArray[np.float64]
Part = MatchedStars | None
"""Matched stars of one detector in one exposure; None if it did not solve."""

_unstable = unstable("detectors with pixels of different sizes will be added")


@named
@_unstable
@dataclass(frozen=True)
class Detector:
    """Where a detector lies in the focal plane.

    A pixel (x, y), relative to the detector's centre, is turned by `rotation_deg` from x towards y,
    and moved by (`shift_x_px`, `shift_y_px`), to give its place in the focal plane.

    Attributes
    ----------
    shift_x_px, shift_y_px : float
        Place of the detector's centre in the focal plane, in pixels from that of the first
        detector.
    rotation_deg : float
        Rotation relative to the first detector.
    shift_sigma_px, rotation_sigma_deg : float
        Standard deviations of the shift per axis and of the rotation; 0 for the first detector.

    Examples
    --------
    See `calibrate_mosaic`.
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
        x, y = np.asarray(pixels("x", x), float), np.asarray(pixels("y", y), float)
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
        dx = np.asarray(pixels("x", x), float) - self.shift_x_px
        dy = np.asarray(pixels("y", y), float) - self.shift_y_px
        cos, sin = np.cos(np.radians(self.rotation_deg)), np.sin(np.radians(self.rotation_deg))
        return cos * dx + sin * dy, -sin * dx + cos * dy


@named
@_unstable
@dataclass(frozen=True, eq=False)
class MosaicResult:
    """Result of `calibrate_mosaic`.

    Attributes
    ----------
    detectors : tuple of Detector
        Places of the detectors, the first at the origin.
    optics : CalibrationResult
        The calibration of the whole focal plane, with one frame for each exposure. The pixels of
        its `camera_model` are relative to the middle (to within a pixel) of the smallest rectangle
        around all detectors. The `image_shape` is that of this rectangle.
    center_px : (float, float)
        Origin of these pixels, in pixels from the first detector's centre.
    converged : bool
        Whether the fit of optics and detectors converged.
    parameter_names : tuple of str
        All fitted parameters: those of the optics, then ``detector_1_shift_x_px``,
        ``detector_1_shift_y_px``, ``detector_1_rotation_rad`` and so on.
    covariance : ndarray of shape (n, n)
        Covariance of these parameters; shifts are in pixels and rotations in radians.
    cross_cov : tuple of (ndarray of shape (n, 3) or None)
        For each exposure the covariance of these parameters with a small rotation of its attitude
        about the camera's axes, in radians; `None` where no detector was solved.

    Examples
    --------
    See `calibrate_mosaic`.
    """

    detectors: tuple[Detector, ...]
    optics: CalibrationResult
    center_px: tuple[float, float]
    converged: bool
    parameter_names: tuple[str, ...]
    covariance: Floats
    cross_cov: tuple[Floats | None, ...]

    def pixel_to_direction(self, detector: int, x: ArrayLike, y: ArrayLike) -> Floats:
        """Directions that pixels of a detector see, in the axes of the common camera.

        Parameters
        ----------
        detector : int
            Index of the detector.
        x, y : array_like
            Pixels from the detector's centre.

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
        return f"<MosaicResult: {len(self.detectors)} detectors, {self.optics!r}>"

    def __str__(self) -> str:
        places = "\n ".join(repr(detector) for detector in self.detectors)
        return f"<MosaicResult: {len(self.detectors)} detectors\n {places}\n {self.optics!r}>"


@_unstable
@named
def calibrate_mosaic(
    results: Sequence[Sequence[Solution | MatchedStars | None]],
    centroids: Sequence[Sequence[Any]],
    order: int | Literal["auto"] = 4,
    model: Literal["polynomial", "radial", "pinhole", "auto"] = "polynomial",
    *,
    held_out: bool = False,
    sigma_clip: float = fit.SIGMA_CLIP,
    noise: float | None = None,
    systematic_px: float | None = None,
    max_iterations: int = fit.MAX_ITERATIONS,
    camera_model: CameraModel | None = None,
    velocities_km_s: Sequence[ArrayLike | None] | None = None,
    origin: Origin | None = None,
    progress: Callable[[float], object] | None = None,
) -> MosaicResult:
    """Fit one lens and the places of the detectors behind it.

    Parameters
    ----------
    results : sequence of sequences of (Solution, MatchedStars or None)
        For each exposure the solution of each detector, the detectors in the same order; `None`
        where a detector did not solve. Detectors may have different numbers of pixels, but not
        pixels of different sizes. Every detector must have at least one solution.
    centroids : sequence of sequences
        The centroids that were solved, in the same order, in any form that the solver takes.
    order, model, held_out, sigma_clip, noise, systematic_px, max_iterations, progress
        As for `calibrate_camera`, for the common optics.
    camera_model : CameraModel, optional
        Camera that gives the initial focal length, and the projection. Default: the median focal
        length and the projection of the results.
    velocities_km_s : sequence of (array_like of shape (3,) or None), optional
        The observer's barycentric velocity in km/s at each exposure. Default: the velocity with
        which each result was solved.
    origin : {"center", "corner", "fits"}, optional
        Origin of the pixel coordinates in `centroids`, as for the solver.

    Returns
    -------
    MosaicResult

    Raises
    ------
    InputError
        If exposures have different numbers of detectors, a detector has frames of different shapes,
        or an argument is out of its range.
    UndeterminedError
        If a detector shares no solved exposure with the first one, directly or through other
        detectors, or too few stars match.

    Notes
    -----
    The fit is one least-squares problem, like that of `calibrate_camera`. The parameters that all
    exposures share also include a shift and a rotation of every detector but the first. Sums over
    an exposure's stars are computed detector by detector, and its attitude is eliminated. The first
    guess of the places comes from the attitudes with which the detectors were solved.

    Examples
    --------
    Two detectors side by side, the second 520 pixels to the right, in three exposures:

    >>> import numpy as np
    >>> import boresight
    >>> lens = boresight.CameraModel(3000.0, (480, 1020))
    >>> chip = boresight.CameraModel(3000.0, (480, 500))
    >>> rng = np.random.default_rng(1)
    >>> results = [[], [], []]
    >>> for exposure in results:
    ...     for place in (-260.0, 260.0):
    ...         pixels = rng.uniform(-240, 240, (50, 2))
    ...         sky = lens.pixel_to_direction(pixels[:, 0] + place, pixels[:, 1])
    ...         tilt = np.arctan(place / 3000.0)  # of the chip's own axis
    ...         attitude = (np.cos(tilt / 2), 0.0, -np.sin(tilt / 2), 0.0)
    ...         exposure.append(boresight.MatchedStars(pixels, sky, chip, attitude))
    >>> lists = [[stars.positions_px for stars in exposure] for exposure in results]
    >>> mosaic = boresight.calibrate_mosaic(results, lists, model="pinhole")
    >>> round(mosaic.detectors[1].shift_x_px, 3)
    520.0
    """
    exposures = _exposures(results, centroids, origin)
    used = [i for i, parts in enumerate(exposures) if any(part is not None for part in parts)]
    given = [[None if p is None else p._core for p in exposures[i]] for i in used]
    places = None if velocities_km_s is None else _places(exposures, velocities_km_s, used)

    options = fit.fit_options(
        model,
        order,
        held_out=held_out,
        sigma_clip=sigma_clip,
        noise=noise,
        max_iterations=max_iterations,
        camera_model=camera_model,
    )
    best = core.calibrate_rig(given, places, options, progress)
    detectors = _detectors(best)
    center = best.rig.center
    fitted: list[FrameCalibration | None] = [None] * len(exposures)
    cross: list[Floats | None] = [None] * len(exposures)
    for i, part in zip(used, best.frames, strict=True):
        cross[i] = part.cross_covariance
        fitted[i] = _frame(part, exposures[i], detectors, center, best.num_intrinsics)
    variances = [_variances(exposures[i]) for i in used]
    common = fit.common_error(systematic_px, [f for f in fitted if f is not None], variances)
    return MosaicResult(
        detectors=detectors,
        optics=fit.calibrate_result(best, fitted, common),
        center_px=center,
        converged=best.converged,
        parameter_names=tuple(best.parameter_names),
        covariance=best.covariance,
        cross_cov=tuple(cross),
    )


def _exposures(
    results: Sequence[Any], centroids: Sequence[Any], origin: Origin | None
) -> list[list[Part]]:
    """Collect the matched stars by exposure and detector."""
    if len(results) != len(centroids):
        raise InputError(
            f"centroids: {len(centroids)} exposures, but {len(results)} in results; give as many"
        )
    for name, exposures in (("results", results), ("centroids", centroids)):
        for i, detectors in enumerate(exposures):
            if not isinstance(detectors, Sequence | np.ndarray):
                raise InputError(f"{name}[{i}]: {detectors!r}; give a list, one for every detector")
    for i, (solutions, stars) in enumerate(zip(results, centroids, strict=True)):
        if len(solutions) != len(stars) or len(solutions) != len(results[0]):
            raise InputError(
                f"results[{i}]: {len(solutions)} detectors and {len(stars)} lists of centroids, "
                f"but results[0] has {len(results[0])}; give one of each for every detector"
            )
    flat = [solution for solutions in results for solution in solutions]
    listed = [stars for lists in centroids for stars in lists]
    if all(solution is None for solution in flat):
        raise UndeterminedError("results: no detector is solved; solve some")
    frames, parts = fit.matched_frames(flat, listed, None, origin, one_shape=False)
    own: list[list[tuple[str, tuple[int, int]]]] = [[] for _ in results[0]]
    for k, part in enumerate(parts):
        exposure, detector = divmod(k, len(own))
        if part is not None:
            name = f"results[{exposure}][{detector}]"
            own[detector].append((name, part.camera_model.image_shape))
    for named_shapes in own:
        one_shape(named_shapes)
    stars = iter(frames.stars)
    weighted = iter([None if part is None else next(stars) for part in parts])
    return [[next(weighted) for _ in solutions] for solutions in results]


def _places(
    exposures: Sequence[Sequence[Part]],
    velocities_km_s: Sequence[ArrayLike | None],
    used: Sequence[int],
) -> list[core.ApparentPlace]:
    """Apparent places of the used exposures, with the given velocities."""
    if len(velocities_km_s) != len(exposures):
        raise InputError(
            f"velocities_km_s: {len(velocities_km_s)} for {len(exposures)} exposures; "
            "give one (or None) for each"
        )
    first = {i: next(part for part in exposures[i] if part is not None) for i in used}
    return [fit.moving(i, first[i].place, velocities_km_s[i]).core for i in used]


def _detectors(best: core.CalibrationResult) -> tuple[Detector, ...]:
    """Places of the detectors with their standard deviations, which are 0 for the first."""
    sigmas = np.zeros((len(best.rig.rotations), 3))
    sigmas[1:] = np.sqrt(np.diag(best.covariance)[best.num_intrinsics :]).reshape(-1, 3)
    return tuple(
        Detector(
            shift_x_px=float(shift[0]),
            shift_y_px=float(shift[1]),
            rotation_deg=float(np.degrees(rotation)),
            shift_sigma_px=float(np.sqrt(np.mean(sigma[:2] ** 2))),
            rotation_sigma_deg=float(np.degrees(sigma[2])),
        )
        for shift, rotation, sigma in zip(best.rig.shifts, best.rig.rotations, sigmas, strict=True)
    )


def _frame(
    part: core.FrameFit,
    stars: Sequence[Part],
    detectors: Sequence[Detector],
    center: tuple[float, float],
    num_intrinsics: int,
) -> FrameCalibration:
    """Build the result of one exposure in the calibration of the focal plane."""
    solved = [
        (own, detector) for own, detector in zip(stars, detectors, strict=True) if own is not None
    ]
    positions = [
        np.column_stack(detector.to_focal_plane(*own.positions_px.T)) - center
        for own, detector in solved
    ]
    brightness = np.concatenate([own.brightness for own, _ in solved])
    frame = fit.frame_calibration(part, np.concatenate(positions), brightness)
    return dataclasses.replace(frame, cross_cov=frame.cross_cov[:num_intrinsics])


def _variances(stars: Sequence[Part]) -> Floats | None:
    """Variances of the positions of an exposure; `None` if they are not known."""
    variances = [fit.position_variances(own) for own in stars if own is not None]
    known = [variance for variance in variances if variance is not None]
    return np.concatenate(known) if len(known) == len(variances) else None
