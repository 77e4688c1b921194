"""Solving a frame from its centroids."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight.camera import CameraModel
from boresight.centroids import Centroids
from boresight.errors import InputError
from boresight.solution import Solution

if TYPE_CHECKING:
    from boresight.database import SolverDatabase

__all__ = ["solve_from_centroids"]

logger = logging.getLogger("boresight")


def solve_from_centroids(
    database: SolverDatabase,
    centroids: Any,
    fov_estimate_deg: float | None = None,
    fov_max_error_deg: float | None = None,
    image_shape: tuple[int, int] | None = None,
    match_radius: float = 0.01,
    match_threshold: float = 1e-5,
    refine_iterations: int = 10,
    camera_model: CameraModel | None = None,
    *,
    pattern_checking_stars: int = 24,
    match_max_error: float | None = None,
    solve_timeout_ms: int | None = 5000,
    max_patterns_checked: int = 10_000_000,
    attitude_hint: ArrayLike | Solution | None = None,
    hint_uncertainty_deg: float = 1.0,
    strict_hint: bool = False,
    observer_velocity_km_s: ArrayLike | None = None,
) -> Solution | None:
    """Find where a frame looks from the positions of its stars.

    Patterns of four bright stars are looked up in the database by their shape (the Tetra family of
    algorithms, Brown, Stubis & Cahoy 2017). Each find is verified on the other stars by a
    likelihood ratio; the accepted one is refined: attitude and scale are fitted to all matches.

    Parameters
    ----------
    database : SolverDatabase
        Patterns of catalogue stars made for this field of view.
    centroids : Centroids, list of Centroid, array_like of shape (n, 2) or (n, 3), or Table
        Positions in pixels from the image centre and brightness, if known (else the order is taken
        as brightest first).
    fov_estimate_deg : float, optional
        Horizontal field of view, edge to edge. Default: that of `camera_model`, or else all that
        the database is made for.
    fov_max_error_deg : float, optional
        Largest error of the estimate. Default: 30 % of it.
    image_shape : (int, int), optional
        (height, width) in pixels. Needed unless `camera_model` is given.
    match_radius : float
        Centroids and catalogue stars match within this fraction of the horizontal field of view.
        It bounds the error that distortion may cause; the fit narrows it as far as the residuals
        allow.
    match_threshold : float
        Largest accepted probability that the solution is a chance match.
    refine_iterations : int
        Rounds of matching and fitting at most; they end when the matches stay the same.
    camera_model : CameraModel, optional
        Distortion, optical centre and parity to be used. Its focal length is fitted anew.
    pattern_checking_stars : int
        Brightest stars from which patterns are made.
    match_max_error : float, optional
        Largest difference between edge ratios in the image and the catalogue; the database's
        ``pattern_max_error`` if that is larger. When nothing is found, three and ten times as much
        is tried before giving up.
    solve_timeout_ms : int, optional
        Time bound; `None` for none.
    max_patterns_checked : int
        Work bound, the same on every machine.
    attitude_hint : array_like of shape (4,) or (3, 3), or Solution, optional
        Expected attitude: quaternion (w, x, y, z) or rotation matrix ICRS to camera, or the
        solution of a frame before. Three stars are then enough.
    hint_uncertainty_deg : float
        Largest angle between the expected and the true attitude, up to 45.
    strict_hint : bool
        Give up, rather than search the whole sky, when there is no match near the hint.
    observer_velocity_km_s : array_like of shape (3,), optional
        Barycentric velocity (see `earth_barycentric_velocity`): stellar aberration is then taken
        into account.

    Returns
    -------
    Solution or None
        `None` when the frame does not solve.

    Raises
    ------
    InputError
        For an argument that cannot be worked with: positions that are not finite, a field of view
        outside 0 to 180 degrees, a shape that contradicts the camera model, and so on.

    Examples
    --------
    See `Solution`.
    """
    stars = _star_rows(centroids)
    camera = _camera(camera_model, image_shape)
    if fov_estimate_deg is None and camera_model is not None:
        fov_estimate_deg = camera_model.fov_deg
    outcome = core.solve(
        database._core,
        stars,
        camera._core,
        parity_known=camera_model is not None,
        fov_estimate=_radians("fov_estimate_deg", fov_estimate_deg),
        fov_max_error=_radians("fov_max_error_deg", fov_max_error_deg),
        match_radius=float(match_radius),
        match_threshold=float(match_threshold),
        match_max_error=None if match_max_error is None else float(match_max_error),
        pattern_checking_stars=_count("pattern_checking_stars", pattern_checking_stars),
        refine_iterations=_count("refine_iterations", refine_iterations),
        max_patterns_checked=_count("max_patterns_checked", max_patterns_checked),
        timeout_ms=None
        if solve_timeout_ms is None
        else _count("solve_timeout_ms", solve_timeout_ms),
        velocity_km_s=_velocity(observer_velocity_km_s),
        hint=_hint(attitude_hint, hint_uncertainty_deg, strict_hint),
    )
    if outcome.solution is None:
        logger.info(
            "not solved (%s): %d centroids, %d patterns, %d candidates, best log ratio %.1f",
            outcome.status,
            len(stars),
            outcome.patterns_checked,
            outcome.candidates_checked,
            outcome.best_log_ratio,
        )
        return None
    return Solution(outcome.solution, outcome.seconds * 1e3)


def _camera(camera_model: CameraModel | None, image_shape: tuple[int, int] | None) -> CameraModel:
    """Make the camera to start from; a pinhole one when only the image's shape is known."""
    if image_shape is None:
        if camera_model is None:
            raise InputError(
                "image_shape: missing; give (height, width) in pixels or a camera_model"
            )
        return camera_model
    if camera_model is None:
        try:
            return _pinhole(tuple(image_shape))
        except TypeError:  # not a pair at all: say so
            return CameraModel.from_fov(90.0, image_shape)
    if tuple(image_shape) != camera_model.image_shape:
        raise InputError(
            f"image_shape: {tuple(image_shape)} contradicts the camera model's "
            f"{camera_model.image_shape}; leave it out or give the model of this camera"
        )
    return camera_model


@lru_cache(maxsize=16)
def _pinhole(image_shape: tuple[int, int]) -> CameraModel:
    """Make a pinhole camera for images of a shape; the solver finds its focal length."""
    return CameraModel.from_fov(90.0, image_shape)


def _star_rows(centroids: Any) -> NDArray[np.float64]:
    """Give rows (x, y, brightness) that the core can read in place."""
    plain = isinstance(centroids, np.ndarray) and centroids.dtype.kind == "f"
    if plain and centroids.ndim == 2 and centroids.shape[1] == 3:
        return np.ascontiguousarray(centroids, dtype=np.float64)
    stars = Centroids.from_any(centroids)
    return np.column_stack([stars.x, stars.y, stars.brightness])


def _radians(name: str, degrees: float | None) -> float | None:
    if degrees is None:
        return None
    try:
        return float(np.radians(float(degrees)))
    except (TypeError, ValueError):
        raise InputError(f"{name}: {degrees!r} is not a number; give degrees") from None


def _count(name: str, value: int) -> int:
    if not isinstance(value, int | np.integer) or value < 0:
        raise InputError(f"{name}: {value!r} is not a whole number from 0 up")
    return int(value)


def _velocity(velocity: ArrayLike | None) -> NDArray[np.float64] | None:
    if velocity is None:
        return None
    vector = np.ascontiguousarray(velocity, dtype=np.float64)
    if vector.shape != (3,):
        raise InputError(
            f"observer_velocity_km_s: its shape is {vector.shape}; "
            "give the three ICRS components in km/s"
        )
    return vector


def _hint(
    hint: ArrayLike | Solution | None, uncertainty_deg: float, strict: bool
) -> tuple[tuple[float, ...], float, bool] | None:
    """Quaternion, uncertainty in radians and strictness of an attitude hint."""
    if hint is None:
        return None
    attitude = hint.quaternion if isinstance(hint, Solution) else np.asarray(hint, dtype=np.float64)
    if attitude.shape == (3, 3):
        attitude = np.array(core.quaternion_of_matrix(attitude.tolist()))
    if attitude.shape != (4,):
        raise InputError(
            f"attitude_hint: its shape is {attitude.shape}; give a quaternion (w, x, y, z), "
            "a (3, 3) rotation matrix ICRS to camera, or a Solution"
        )
    uncertainty = _radians("hint_uncertainty_deg", uncertainty_deg)
    assert uncertainty is not None
    return tuple(attitude.tolist()), uncertainty, bool(strict)
