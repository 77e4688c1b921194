"""Calibration: one camera model from the matched stars of many solved frames.

The intrinsics, which all frames share, and one attitude for each frame are fitted together. A
single frame hardly distinguishes a shift of its stars from a rotation of the camera, but several
frames together do. The free parameters, chosen so that the problem has one solution:

- pinhole: the focal length.
- polynomial: the focal length, aspect (B_01), skew (B_10) and all terms of degree 2 to `order`. The
  optical centre stays at the image centre; a shift, a turn or a scale of the whole image belongs to
  the attitudes and the focal length.
- radial: the focal length, the optical centre (which may lie far off the detector), k1 to k4, p1
  and p2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils import arguments
from boresight._utils.naming import named, type_of
from boresight._utils.origins import Origin
from boresight._utils.statistics import planar_scale
from boresight.apparent.place import ApparentPlace
from boresight.calibration.result import CalibrationResult, FrameCalibration
from boresight.camera.model import CameraModel
from boresight.errors import InputError, UndeterminedError
from boresight.solver.matches import MatchedStars
from boresight.solver.solution import Solution

__all__ = ["calibrate_camera"]

Floats = NDArray[np.float64]

POSITION_FLOOR_PX = 0.01
"""Error per axis that is added in quadrature to each centroid's own uncertainty. It covers
catalogue errors, pixel response and lens features that the model cannot follow. Without it, a few
bright stars would dominate the fit."""

BEST_PART = 0.2
"""Fraction of the stars, those of least uncertainty, that measure the best accuracy of
positions."""

COMMON_PART = 0.25
"""Fraction of the error of these stars that all frames have in common at one place of the detector.
A fit cannot distinguish this error from distortion or attitude, so residuals do not show it. The
value is that of simulated cameras with coma: three well sampled ones (0.17, 0.22, 0.30) and an
undersampled one (0.34)."""

UNSOLVED = "not solved"


SIGMA_CLIP = 3.0
"""Number of standard deviations above which matches lose weight, unless given."""

MAX_ITERATIONS = 200
"""Maximum number of steps of a fit, unless given."""


class FitOptions(TypedDict, total=False):
    """Options of `calibrate` that it passes on to `calibrate_camera`, which explains them."""

    held_out: bool
    sigma_clip: float
    noise: float | None
    systematic_px: float | None
    max_iterations: int


@named
def calibrate_camera(
    results: Solution | MatchedStars | Sequence[Solution | MatchedStars | None] | None,
    centroids: Any = None,
    image_shape: tuple[int, int] | None = None,
    order: int | Literal["auto"] = 4,
    model: Literal["polynomial", "radial", "pinhole", "auto"] = "polynomial",
    *,
    held_out: bool = False,
    sigma_clip: float = SIGMA_CLIP,
    noise: float | None = None,
    systematic_px: float | None = None,
    max_iterations: int = MAX_ITERATIONS,
    camera_model: CameraModel | None = None,
    velocities_km_s: Sequence[ArrayLike | None] | None = None,
    origin: Origin | None = None,
    progress: Callable[[float], object] | None = None,
) -> CalibrationResult:
    """Fit one camera model to the matched stars of many solved frames.

    Parameters
    ----------
    results : sequence of (Solution, MatchedStars or None)
        The frames' solutions, or their matched stars. Frames that did not solve (`None`) are
        skipped. A single item is taken as a sequence of one.
    centroids : sequence, optional
        For each result the centroids from which it was solved, in any form that the solver takes: a
        `Centroids`, an `ExtractionResult`, a list of centroids, an array of shape (n, 2) or (n, 3),
        or a table. Default: the positions in the results. If all positions have uncertainties, the
        stars are weighted by them.
    image_shape : (int, int), optional
        Height and width in pixels. Default: that of the results. If both are given, they must
        agree.
    order : int or 'auto'
        Order of the polynomial model, 2 to 9. Default 4. The other models have none. 'auto' raises
        the order as long as this lowers the error of held-out frames and stars.
    model : {'polynomial', 'radial', 'pinhole', 'auto'}
        Form of the camera model. Default 'polynomial'. 'radial' has few parameters and finds the
        optical axis, even off the detector, but fits only a lens that is symmetric about this axis.
        'auto' tries pinhole, radial and polynomial in this order, and takes a later one only if it
        predicts held-out stars significantly better than those before it.
    held_out : bool
        Also measure `CalibrationResult.held_out_rmse_px`. Default False; with 'auto' it is always
        measured.
    sigma_clip : float
        Matches with a residual above this many standard deviations (by the median residual of their
        part of the detector) lose weight with the square of the residual. Those whose residual is
        also above 0.3 px are excluded. Default 3.
    noise : float, optional
        Standard deviation of the residuals per axis by which matches are weighted: in pixels, or,
        if all centroids have position uncertainties, in units of these. Default: estimated from the
        median residuals. Needed only for a fit that must end with the same result as
        `CalibrationBlock`.
    systematic_px : float, optional
        Error per axis that the positions have in common in all frames at one place of the detector,
        for example because star images are not symmetric. The fit cannot distinguish it from
        distortion, so it is added to the uncertainty of the directions that pixels see. Default:
        for centroids with position uncertainties, as extraction gives them, a quarter of the
        standard deviation of the best fifth of the stars (those of least uncertainty); for
        positions without uncertainties, 0.
    max_iterations : int
        Maximum number of steps of the fit. Default 200; about 30 are needed.
    camera_model : CameraModel, optional
        Camera that gives the initial focal length, and the projection. Default: the median focal
        length and the projection of the results.
    velocities_km_s : sequence of (array_like of shape (3,) or None), optional
        The observer's barycentric velocity in km/s at each frame, to correct for stellar aberration
        (exactly). Default: the velocity with which each result was solved.
    origin : {"center", "corner", "fits"}, optional
        Origin of the pixel coordinates in `centroids`, as for the solver.
    progress : callable, optional
        Called from time to time with the fraction done.

    Returns
    -------
    CalibrationResult

    Raises
    ------
    InputError
        If lengths differ, the image shapes contradict each other, centroids are not those of the
        result, or an argument is out of its range.
    UndeterminedError
        If no frame is solved, too few stars match for the model, or the distortion folds over
        within the image, because no stars constrain it there.

    Notes
    -----
    Minimises the squared residuals in detector pixels by Levenberg-Marquardt, with each frame's
    attitude eliminated. Time therefore grows with the number of frames, but memory does not. The
    fit starts from a pinhole, grows to the whole model while wrong matches have low weights, and
    then clips. A match within 0.3 px is assumed to be the right star, displaced by a blended
    neighbour, and keeps a low weight. The covariance is that of a robust fit (Huber 1981, section
    7.6). Only focal length, projection, parity and matches are taken from the results, so
    calibrating again with the fitted model changes nothing. The result is the same to the last bit
    for any number of threads.

    Examples
    --------
    >>> import boresight
    >>> database = boresight.SolverDatabase.generate_from_hipparcos(max_fov_deg=20)
    >>> camera = boresight.CameraModel.from_fov(
    ...     15.0, (1024, 1024), distortion=boresight.RadialDistortion(k1=-0.01, scale=512.0)
    ... )
    >>> frames = [
    ...     boresight.simulate_frame(camera, ra_deg=ra, dec_deg=-1.2, roll_deg=30.0, seed=1)
    ...     for ra in (80.0, 83.0, 86.0)
    ... ]
    >>> stars = [boresight.extract_centroids(frame.image).centroids for frame in frames]
    >>> solutions = [
    ...     database.solve_from_centroids(s, fov_estimate_deg=14.5, image_shape=(1024, 1024))
    ...     for s in stars
    ... ]
    >>> result = boresight.calibrate_camera(solutions, stars, model="radial")
    >>> result.rmse_after_px < 0.1
    True
    """
    frames, given = matched_frames(results, centroids, velocities_km_s, origin)
    shape = _common_shape(given, image_shape, camera_model)
    solved = [i for i, result in enumerate(given) if result is not None]
    if not solved:
        raise UndeterminedError(f"results: none of {len(given)} frames is solved; solve one")

    options = fit_options(
        model,
        order,
        held_out=held_out,
        sigma_clip=sigma_clip,
        noise=noise,
        max_iterations=max_iterations,
        camera_model=camera_model,
    )
    stars = [matches._core for matches in frames.stars]
    best = core.calibrate_camera(stars, frames.places, options, progress)
    assert CameraModel._from_core(best.camera).image_shape == shape
    fitted = [
        frame_calibration(part, stars.positions_px, stars.brightness)
        for part, stars in zip(best.frames, frames.stars, strict=True)
    ]
    by_index = dict(zip(solved, fitted, strict=True))
    parts = [by_index.get(i) for i in range(len(given))]
    variances = [position_variances(stars) for stars in frames.stars]
    return calibrate_result(best, parts, common_error(systematic_px, fitted, variances))


def fit_options(
    model: str,
    order: int | str,
    *,
    held_out: bool,
    sigma_clip: float,
    noise: float | None,
    max_iterations: int,
    camera_model: CameraModel | None,
) -> dict[str, Any]:
    """Check the options of a fit, and convert them for the extension module."""
    if model in ("polynomial", "auto"):
        number = isinstance(order, int | np.integer) and not isinstance(order, bool)
        if order != "auto" and not number:
            raise InputError(
                f"order: {order!r} is not an order; give a whole number from 2 to 9, or 'auto'"
            )
    return {
        "model": model,
        "order": max(0, int(order)) if isinstance(order, int | np.integer) else None,
        "sigma_clip": float(sigma_clip),
        "focal_length_px": None if camera_model is None else camera_model.focal_length_px,
        "projection": None if camera_model is None else camera_model.projection,
        "noise": noise,
        "max_iterations": arguments.count("max_iterations", max_iterations),
        "held_out": held_out or "auto" in (model, order),
    }


def calibrate_result(
    best: core.CalibrationResult,
    parts: Sequence[FrameCalibration | None],
    systematic_px: float,
) -> CalibrationResult:
    """Build the result of a fit: its camera, and the quantities of the intrinsics only."""
    num_intrinsics = best.num_intrinsics
    names = best.parameter_names
    placements = names[num_intrinsics:]
    return CalibrationResult(
        camera_model=CameraModel._from_core(best.camera),
        rmse_before_px=best.rmse_before_px,
        rmse_after_px=best.rmse_after_px,
        num_inliers=best.num_inliers,
        num_outliers=best.num_outliers,
        iterations=best.iterations,
        converged=best.converged,
        frames=tuple(parts),
        noise=best.noise,
        parameter_names=tuple(names[:num_intrinsics]),
        covariance=best.covariance[:num_intrinsics, :num_intrinsics],
        frozen=tuple(name for name in best.frozen if name not in placements),
        condition_number=best.condition_number,
        held_out_rmse_px=_held_out_rms(best),
        rejected=tuple(UNSOLVED if part is None else part.rejected for part in parts),
        systematic_px=systematic_px,
        misfit=best.misfit,
    )


def _held_out_rms(best: core.CalibrationResult) -> float | None:
    """RMS residual of the held-out stars; `None` if not requested, or if there are none."""
    lengths = np.concatenate(best.held_out or [np.empty(0)])
    lengths = lengths[np.isfinite(lengths)]
    return float(np.sqrt(np.mean(lengths**2))) if len(lengths) else None


class MatchedFrames(NamedTuple):
    """Solved frames, in the form that the core takes.

    Attributes
    ----------
    stars : list of MatchedStars
        Matched stars of each frame. Either all their positions have covariances, which include the
        floor, or none have.
    places : list of _core.ApparentPlace or None
        Apparent place of each frame, if it is not that with which the stars were matched.
    """

    stars: list[MatchedStars]
    places: list[core.ApparentPlace] | None


def matched_frames(
    results: Any,
    centroids: Any,
    velocities_km_s: Sequence[ArrayLike | None] | None,
    origin: Origin | None = None,
    *,
    one_shape: bool = True,
) -> tuple[MatchedFrames, list[MatchedStars | None]]:
    """Collect the matched stars of the solved frames; also return those of all results.

    Without `one_shape`, the frames may differ in shape, because they are of several detectors.
    """
    results, centroids = _as_lists(results, centroids)
    given = [_matched(i, result) for i, result in enumerate(results)]
    if one_shape:
        _common_shape(given, None, None)
    given = [
        stars
        if stars is None or found is None
        else stars.measured(found, f"centroids[{i}]", origin)
        for i, (stars, found) in enumerate(zip(given, centroids, strict=True))
    ]
    places = None
    if velocities_km_s is not None:
        if len(velocities_km_s) != len(results):
            raise InputError(
                f"velocities_km_s: {len(velocities_km_s)} for {len(results)} results; "
                "give one (or None) for each"
            )
        places = [
            moving(i, stars.place, velocities_km_s[i]).core
            for i, stars in enumerate(given)
            if stars is not None
        ]
    covariances = [None if stars is None else _position_covariance(stars) for stars in given]
    known = not any(
        cov is None for cov, stars in zip(covariances, given, strict=True) if stars is not None
    )
    frames = [
        stars.weighted(cov if known else None)
        for stars, cov in zip(given, covariances, strict=True)
        if stars is not None
    ]
    return MatchedFrames(frames, places), given


def _matched(index: int, result: Any) -> MatchedStars | None:
    """Take the matched stars of one frame."""
    if result is None:
        return None
    stars = result.matched_stars if isinstance(result, Solution) else result
    if not isinstance(stars, MatchedStars):
        raise InputError(
            f"results[{index}]: {type_of(result)} is not a solved frame; "
            "give Solutions, MatchedStars or None"
        )
    return stars


def moving(index: int, place: ApparentPlace, velocity: ArrayLike | None) -> ApparentPlace:
    """Replace the observer's velocity in an apparent place."""
    name = f"velocities_km_s[{index}]"
    return dataclasses.replace(place, velocity_km_s=arguments.velocity_km_s(name, velocity))


def position_variances(stars: MatchedStars) -> Floats | None:
    """Variance of each position, the sum over both axes; `None` if it is not known."""
    if not stars.has_position_cov:
        return None
    return np.asarray(np.trace(stars.position_cov, axis1=1, axis2=2))


def common_error(
    given: float | None,
    fitted: Sequence[FrameCalibration],
    variances: Sequence[Floats | None],
) -> float:
    """Estimate the error that all frames have in common, unless it is given."""
    if given is not None:
        if not 0 <= given < np.inf:
            raise InputError(f"systematic_px: {given} is not an error; give 0 or more pixels")
        return float(given)
    used, lengths = [], []
    for part, variance in zip(fitted, variances, strict=True):
        if variance is None:
            return 0.0
        used.append(variance[part.inliers])
        lengths.append(np.hypot(*part.residuals_px[part.inliers].T))
    order = np.argsort(np.concatenate(used), kind="stable")
    best = np.concatenate(lengths)[order[: max(1, round(BEST_PART * len(order)))]]
    return COMMON_PART * planar_scale(best)


def _as_lists(results: Any, centroids: Any) -> tuple[list[Any], list[Any]]:
    """Convert results and centroids to two lists of the same length."""
    if results is None or isinstance(results, Solution | MatchedStars):
        results, centroids = [results], [centroids]
    try:
        results = list(results)
        centroids = [None] * len(results) if centroids is None else list(centroids)
    except TypeError:
        raise InputError(
            "results, centroids: not sequences; give a solution and its centroids for each frame"
        ) from None
    if len(results) != len(centroids):
        raise InputError(
            f"centroids: {len(centroids)} lists for {len(results)} results; "
            "give one list per frame, also for frames that did not solve"
        )
    return results, centroids


def _common_shape(
    results: Sequence[MatchedStars | None],
    image_shape: tuple[int, int] | None,
    camera_model: CameraModel | None,
) -> tuple[int, int]:
    """Find the image shape on which all inputs agree."""
    named = [
        (f"results[{i}]", stars.camera_model.image_shape)
        for i, stars in enumerate(results)
        if stars is not None
    ]
    if camera_model is not None:
        named.append(("camera_model", camera_model.image_shape))
    if image_shape is not None:
        named.insert(0, ("image_shape", image_shape))
    return arguments.one_shape(named) or (0, 0)


def _position_covariance(stars: MatchedStars) -> Floats | None:
    """Covariances with the floor added; `None` if no star has an uncertainty."""
    if not stars.has_position_cov:
        return None
    cov = stars.position_cov
    floor = POSITION_FLOOR_PX**2
    xx, xy, yy = cov[:, 0, 0] + floor, cov[:, 0, 1], cov[:, 1, 1] + floor
    with np.errstate(invalid="ignore"):
        known = (xx >= floor) & (yy >= floor) & (xx * yy > xy**2) & np.isfinite(xx * yy)
    if not known.any():
        return None
    # A star without an uncertainty gets the largest one of the other stars.
    worst = max(xx[known].max(), yy[known].max())
    floored = np.where(known[:, None, None], cov + floor * np.eye(2), worst * np.eye(2))
    return np.asarray(floored)


def frame_calibration(
    part: core.FrameFit, positions_px: Floats, brightness: Floats
) -> FrameCalibration:
    """Build the result of one frame, including its covariance with the intrinsics."""
    return FrameCalibration(
        quaternion=np.array(part.quaternion),
        attitude_cov_rad2=np.array(part.attitude_covariance),
        residuals_px=part.residuals,
        inliers=part.inliers,
        rmse_px=part.rmse_px,
        rejected=part.rejected,
        cross_cov=part.cross_covariance,
        positions_px=positions_px,
        brightness=brightness,
    )
