"""Calibration: one camera model from the matched stars of many solved frames.

The intrinsics, which all frames share, and one attitude for each frame are fitted together, so what
one frame cannot tell (where a star lies and how the camera is turned are nearly the same thing to a
single frame) another does. What is held fixed so that the problem has one answer:

- pinhole: the focal length.
- polynomial: the focal length, aspect (B_01), skew (B_10) and all terms of degree 2 to `order`. The
  optical centre stays at the image centre; a shift, a turn or a scale of the whole image belongs to
  the attitudes and the focal length.
- radial: the focal length, the optical centre (which may lie far off the detector), k1 to k4, p1
  and p2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight import _held_out
from boresight.calibration import CalibrateResult, FrameCalibration
from boresight.camera import CameraModel
from boresight.centroids import Centroids
from boresight.errors import InputError, UndeterminedError

if TYPE_CHECKING:
    from boresight.solution import Solution

__all__ = ["calibrate_camera"]

Floats = NDArray[np.float64]

SPEED_OF_LIGHT_KM_S = 299792.458

POSITION_FLOOR_PX = 0.01
"""Added in quadrature to each centroid's own uncertainty, per axis: catalogue, pixel response, and
what the model cannot follow. Without it a few bright stars would decide everything."""

AUTO_ORDERS = range(2, 10)
"""Orders that ``order="auto"`` tries, from the lowest."""

MAX_IN_VAIN = 1
"""Orders in a row that may be no better before it stops: a lens that is nearly symmetric about the
image centre has odd terms only."""

SIGNIFICANCE = 2.0
"""Standard errors by which a model with more parameters has to be better."""

UNSOLVED = "it did not solve"


class _MatchedFrame(NamedTuple):
    """A frame as the core takes it."""

    pixels: Floats
    sky: Floats
    covariance: Floats | None
    camera: core.CameraModel
    quaternion: tuple[float, ...]
    solved_velocity: tuple[float, ...] | None
    velocity: tuple[float, ...] | None


def calibrate_camera(
    results: Solution | Sequence[Solution | None] | None,
    centroids: Any,
    image_shape: tuple[int, int] | None = None,
    order: int | Literal["auto"] = 4,
    model: Literal["polynomial", "radial", "pinhole", "auto"] = "polynomial",
    *,
    held_out: bool = False,
    sigma_clip: float = 3.0,
    max_iterations: int = 200,
    camera_model: CameraModel | None = None,
    velocities: Sequence[ArrayLike | None] | None = None,
    progress: Callable[[float], object] | None = None,
) -> CalibrateResult:
    """Fit one camera model to the matched stars of many solved frames.

    Parameters
    ----------
    results : sequence of (Solution or None)
        The frames' solutions. Frames that did not solve (`None`) are skipped. A single solution is
        taken as a sequence of one.
    centroids : sequence
        For each result the centroids it was solved from, as anything the solver takes: a
        `Centroids`, an `ExtractionResult`, a list of centroids, an array of shape (n, 2) or (n, 3),
        or a table. If all of them have position uncertainties, each star counts accordingly.
    image_shape : (int, int), optional
        Height and width in pixels. Default: that of the results, which it must not contradict.
    order : int or 'auto'
        Order of the polynomial model, 2 to 9. Default 4. The other models have none. 'auto' raises
        it while that lowers the error of frames and stars that are left out of the fit in turn.
    model : {'polynomial', 'radial', 'pinhole', 'auto'}
        Form of the camera model. Default 'polynomial'. 'radial' has few parameters and finds the
        optical axis, even off the detector, but follows only a lens that is symmetric about it.
        'auto' takes the simplest (pinhole, radial, polynomial) that foretells stars left out
        significantly better than those before it.
    held_out : bool
        Also measure `CalibrateResult.held_out_rmse_px`, by five or so more fits. Default False;
        with 'auto' it is measured anyway.
    sigma_clip : float
        Matches farther off than this many standard deviations (by the median residual of their part
        of the detector) lose weight with the square of their distance, and those that are also more
        than 0.3 px off are left out. Default 3.
    max_iterations : int
        At most this many steps of the fit. Default 200; about 30 are needed.
    camera_model : CameraModel, optional
        Camera whose focal length the fit starts from. Default: the median of the results'.
    velocities : sequence of (array_like of shape (3,) or None), optional
        The observer's barycentric velocity in km/s at each frame, to take stellar aberration out
        (exactly). Default: what each result was solved with.
    progress : callable, optional
        Called now and then with the fraction done.

    Returns
    -------
    CalibrateResult

    Raises
    ------
    InputError
        If lengths differ, the image shapes contradict each other, centroids are not those of the
        result, or an argument is out of its range.
    UndeterminedError
        If no frame is solved, too few stars match for the model, or it folds over within the image
        because no stars hold it there.

    Notes
    -----
    Minimises the squared residuals in detector pixels by Levenberg-Marquardt with each frame's
    attitude eliminated, so time grows with the number of frames and memory does not. The fit starts
    from a pinhole, grows to the whole model with wrong matches weighted down, and then clips:
    within 0.3 px a match is taken for the right star, moved by a neighbour it blends with, and kept
    at low weight. The covariance is that of a robust fit (Huber 1981, section 7.6). Only
    focal length, parity and matches are taken from the results, so calibrating again with its own
    model changes nothing. The result is the same to the last bit for any number of threads.

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
    results, centroids = _as_lists(results, centroids)
    if velocities is not None and len(velocities) != len(results):
        raise InputError(
            f"velocities: {len(velocities)} for {len(results)} results; give one (or None) for each"
        )
    shape = _common_shape(results, image_shape, camera_model)
    solved = [i for i, result in enumerate(results) if result]
    if not solved:
        raise UndeterminedError(f"results: none of {len(results)} frames is solved; solve one")
    frames = [
        _matched(
            i,
            results[i],
            centroids[i],
            results[i].observer_velocity_km_s if velocities is None else velocities[i],
        )
        for i in solved
    ]
    if any(frame.covariance is None for frame in frames):
        frames = [frame._replace(covariance=None) for frame in frames]

    def fit(given: Sequence[_MatchedFrame], model: str, order: int) -> core.Calibration:
        return core.calibrate_camera(
            given,
            model,
            order,
            float(sigma_clip),
            max(0, int(max_iterations)),
            None if camera_model is None else camera_model.focal_length_px,
            progress,
        )

    best, error = _choose(frames, fit, _candidates(model, order), held_out)
    camera = CameraModel._from_core(best.camera)
    assert camera.image_shape == shape
    by_index = dict(zip(solved, (_frame(*parts) for parts in best.frames), strict=True))
    parts = tuple(by_index.get(i) for i in range(len(results)))
    return CalibrateResult(
        camera,
        *best.rmse_px,
        *best.counts,
        best.iterations,
        best.converged,
        parts,
        best.noise,
        tuple(best.parameter_names),
        best.covariance,
        tuple(best.frozen),
        best.condition_number,
        error,
        tuple(UNSOLVED if part is None else part.rejected for part in parts),
    )


def _candidates(model: str, order: int | str) -> list[list[tuple[str, int]]]:
    """Models to choose from, the simplest first: groups of (model, order), tried in turn."""
    if order == "auto":
        orders = AUTO_ORDERS
    elif isinstance(order, int | np.integer) and 2 <= order <= 9:
        orders = range(int(order), int(order) + 1)
    elif model in ("polynomial", "auto"):
        raise InputError(
            f"order: {order!r} is no order; give a whole number from 2 to 9, or 'auto'"
        )
    else:
        orders = range(2, 3)
    polynomials = [("polynomial", order) for order in orders]
    if model == "auto":
        return [[("pinhole", 0)], [("radial", 0)], polynomials]
    return [polynomials if model == "polynomial" else [(model, 0)]]


def _choose(
    frames: Sequence[_MatchedFrame],
    fit: Callable[[Sequence[_MatchedFrame], str, int], core.Calibration],
    groups: list[list[tuple[str, int]]],
    held_out: bool,
) -> tuple[core.Calibration, float | None]:
    """Fit the candidate that foretells stars left out best; also their RMS residual."""
    if len(groups) == 1 and len(groups[0]) == 1:
        best = fit(frames, *groups[0][0])
        if not held_out:
            return best, None
        return best, _rms(_left_out(frames, best, fit, groups[0][0]))
    winner: _Fitted | None = None
    problem: UndeterminedError | None = None
    for group in groups:
        best_of_group: _Fitted | None = None
        in_vain = 0
        for candidate in group:
            try:
                fitted = fit(frames, *candidate)
                found = _Fitted(fitted, _left_out(frames, fitted, fit, candidate))
            except UndeterminedError as error:
                problem = error
                break
            if found.improves_on(best_of_group):
                best_of_group, in_vain = found, 0
            else:
                in_vain += 1
            if in_vain > MAX_IN_VAIN:
                break
        if best_of_group is not None and best_of_group.improves_on(winner):
            winner = best_of_group
    if winner is None:
        assert problem is not None  # there is at least one candidate
        raise problem
    return winner.calibration, _rms(winner.left_out)


class _Fitted(NamedTuple):
    """A fit and the residual lengths of its stars, each left out in turn."""

    calibration: core.Calibration
    left_out: list[Floats]

    @property
    def num_frames(self) -> int:
        """Number of frames that took part."""
        return sum(frame[5] is None for frame in self.calibration.frames)

    def improves_on(self, other: _Fitted | None) -> bool:
        """Tell whether it foretells stars significantly better than one with fewer parameters."""
        if other is None:
            return True
        if self.num_frames != other.num_frames:
            return self.num_frames > other.num_frames
        gain, uncertainty = _held_out.gain(other.left_out, self.left_out)
        return gain > SIGNIFICANCE * uncertainty


def _left_out(
    frames: Sequence[_MatchedFrame],
    fitted: core.Calibration,
    fit: Callable[[Sequence[_MatchedFrame], str, int], core.Calibration],
    candidate: tuple[str, int],
) -> list[Floats]:
    """Residual lengths of the stars that a fit used, each left out in turn; NaN for others."""
    taken = [i for i, frame in enumerate(fitted.frames) if frame[5] is None]
    used = [np.asarray(fitted.frames[i][3]) for i in taken]
    lengths = [np.full(len(frame.pixels), np.nan) for frame in frames]
    found = _held_out.residuals(
        [frames[i] for i in taken], used, lambda some: fit(some, *candidate).camera
    )
    for i, some in zip(taken, found, strict=True):
        lengths[i] = some
    return lengths


def _rms(lengths: Sequence[Floats]) -> float:
    return float(np.sqrt(np.nanmean(np.concatenate(lengths) ** 2)))


def _as_lists(results: Any, centroids: Any) -> tuple[list[Any], list[Any]]:
    """Make lists of results and of centroids, of one length."""
    if results is None or hasattr(results, "matched_centroids"):
        results, centroids = [results], [centroids]
    try:
        results, centroids = list(results), list(centroids)
    except TypeError:
        raise InputError(
            "results, centroids: not sequences; give a solution and its centroids for each frame"
        ) from None
    if len(results) != len(centroids):
        raise InputError(
            f"centroids: {len(centroids)} lists for {len(results)} results; "
            "give the list of each frame, those that did not solve included"
        )
    return results, centroids


def _common_shape(
    results: Sequence[Any], image_shape: tuple[int, int] | None, camera_model: CameraModel | None
) -> tuple[int, int]:
    """Find the image shape that everything agrees on."""
    named = [(f"results[{i}]", r.camera_model.image_shape) for i, r in enumerate(results) if r]
    if camera_model is not None:
        named.append(("camera_model", camera_model.image_shape))
    if image_shape is not None:
        named.insert(0, ("image_shape", tuple(image_shape)))
    for name, shape in named[1:]:
        if shape != named[0][1]:
            raise InputError(
                f"{name}: {shape} contradicts {named[0][0]}, {named[0][1]}; "
                "give frames of one camera, all of the same (height, width)"
            )
    return named[0][1] if named else (0, 0)


def _matched(index: int, result: Any, centroids: Any, velocity: ArrayLike | None) -> _MatchedFrame:
    """Collect the matched stars of one frame."""
    stars = Centroids.from_any(centroids)
    matched = np.asarray(result.matched_centroids, dtype=np.int64)
    if len(matched) and not 0 <= matched.min() <= matched.max() < len(stars):
        raise InputError(
            f"centroids[{index}]: {len(stars)} of them, but results[{index}] matched number "
            f"{matched.max()}; give the list that frame was solved from"
        )
    return _MatchedFrame(
        pixels=np.column_stack([stars.x[matched], stars.y[matched]]),
        sky=np.ascontiguousarray(result.matched_directions, dtype=np.float64),
        covariance=_position_covariance(stars.position_cov[matched]),
        camera=result.camera_model._core,
        quaternion=tuple(float(q) for q in result.quaternion),
        solved_velocity=_beta(index, result.observer_velocity_km_s),
        velocity=_beta(index, velocity),
    )


def _position_covariance(cov: Floats) -> Floats | None:
    """(n, 3) columns xx, xy, yy with the floor added; `None` if no star has an uncertainty."""
    floor = POSITION_FLOOR_PX**2
    xx, xy, yy = cov[:, 0, 0] + floor, cov[:, 0, 1], cov[:, 1, 1] + floor
    with np.errstate(invalid="ignore"):
        known = (xx >= floor) & (yy >= floor) & (xx * yy > xy**2) & np.isfinite(xx * yy)
    if not known.any():
        return None
    # A star without an uncertainty of its own is taken for as bad as the worst that has one.
    worst = max(xx[known].max(), yy[known].max())
    columns = [
        np.where(known, given, value) for given, value in ((xx, worst), (xy, 0.0), (yy, worst))
    ]
    return np.column_stack(columns)


def _beta(index: int, velocity: ArrayLike | None) -> tuple[float, ...] | None:
    if velocity is None:
        return None
    beta = np.asarray(velocity, dtype=np.float64) / SPEED_OF_LIGHT_KM_S
    if beta.shape != (3,) or not np.isfinite(beta).all():
        raise InputError(f"velocities[{index}]: {velocity!r} is none; give (x, y, z) in km/s")
    return tuple(float(b) for b in beta)


def _frame(
    quaternion: list[float],
    attitude_cov: list[list[float]],
    residuals: Floats,
    inliers: NDArray[np.bool_],
    rmse_px: float,
    rejected: str | None,
    cross_cov: Floats,
) -> FrameCalibration:
    return FrameCalibration(
        np.array(quaternion),
        np.array(attitude_cov),
        residuals,
        inliers,
        rmse_px,
        rejected,
        cross_cov,
    )
