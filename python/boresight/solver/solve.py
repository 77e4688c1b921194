"""Solving: one frame, from an image or its centroids, or many."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils.progress import Progress, progress_callback
from boresight.camera.model import CameraModel
from boresight.errors import InputError
from boresight.extraction.centroids import Centroids
from boresight.extraction.extract import ExtractionResult, extract_centroids
from boresight.frames.frame import Frame
from boresight.frames.read import read_frame
from boresight.solver.hints import expected
from boresight.solver.solution import Solution

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.wcs import WCS

    from boresight.database.database import PatternDatabase

__all__ = ["solve", "solve_from_centroids", "solve_many"]


def solve(
    image_or_centroids: Any,
    fov_deg: float | None = None,
    *,
    database: PatternDatabase | None = None,
    image_shape: tuple[int, int] | None = None,
    camera_model: CameraModel | None = None,
    extraction: Mapping[str, Any] | None = None,
    **options: Any,
) -> Solution | None:
    """Find where an image of the sky looks.

    Parameters
    ----------
    image_or_centroids : array_like, NDData, Frame, path, Centroids, ExtractionResult or Table
        An image, of which the stars are extracted: an array of shape (height, width), or of
        colours (height, width, 3 or 4); an `~astropy.nddata.NDData`, such as a CCDData; a `Frame`;
        or the path of a file that `read_frame` reads. Or the stars: whatever
        `Centroids.from_any` takes, such as an array of shape (n, 2) or (n, 3).
    fov_deg : float, optional
        Horizontal field of view, edge to edge, known to 30 % (see `fov_max_error_deg`). Default:
        that of `camera_model`, or else all that the database is made for.
    database : SolverDatabase, optional
        Default: `SolverDatabase.default`, which serves fields from about 3 degrees; it is made when
        first needed.
    image_shape : (int, int), optional
        (height, width) in pixels. Known of an image or an `ExtractionResult`; of other centroids it
        is needed, unless `camera_model` is given.
    camera_model : CameraModel, optional
        Distortion, optical centre and parity to be used. Its focal length is fitted anew.
    extraction : mapping, optional
        Arguments for `extract_centroids`.
    **options
        Further arguments of `solve_from_centroids`.

    Returns
    -------
    Solution or None
        `None` when the frame does not solve; `diagnose` tells why.

    Raises
    ------
    InputError
        For an argument that cannot be worked with.
    FileNotFoundError, FileFormatError
        For a path to nothing, or to a file that is no image.

    Examples
    --------
    >>> import boresight
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> image = boresight.simulate_frame(camera, ra_deg=83.8, dec_deg=-1.2, seed=1).image
    >>> solution = boresight.solve(image)
    >>> print(f"{solution.ra_deg:.1f} {solution.dec_deg:.1f} {solution.fov_deg:.1f}")
    83.8 -1.2 15.0
    """
    stars, shape = find_stars(image_or_centroids, image_shape, extraction)
    return solve_from_centroids(
        choose_database(database, fov_deg, camera_model),
        stars,
        fov_deg,
        image_shape=shape,
        camera_model=camera_model,
        **options,
    )


def solve_many(
    centroids: Iterable[Any],
    fov_deg: float | None = None,
    *,
    database: PatternDatabase | None = None,
    image_shape: tuple[int, int] | None = None,
    camera_model: CameraModel | None = None,
    progress: Progress = None,
    **options: Any,
) -> list[Solution | None]:
    """Find where many frames of one camera look, on all processors.

    Parameters
    ----------
    centroids : iterable
        The stars of each frame, as `solve_from_centroids` takes them.
    fov_deg, database, image_shape, camera_model
        As in `solve`, the same for all frames.
    progress : bool or callable, optional
        True shows a progress bar; a function is called with the fraction done, 0 to 1.
    **options
        Further arguments of `solve_from_centroids`.

    Returns
    -------
    list of Solution or None
        In the order of the frames: of each what solving it alone gives, whatever the number of
        threads (which the environment variable RAYON_NUM_THREADS sets). Only a frame that runs into
        `solve_timeout_ms` depends on what else the machine does.

    Raises
    ------
    InputError
        For an argument that cannot be worked with; centroids are named by their frame.
    KeyboardInterrupt
        On Ctrl-C, at once.

    Examples
    --------
    >>> import boresight
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> frames = [boresight.simulate_frame(camera, ra, 20.0, seed=1).image for ra in (10, 90)]
    >>> stars = [boresight.extract_centroids(frame) for frame in frames]
    >>> [round(solution.ra_deg, 1) for solution in boresight.solve_many(stars)]
    [10.0, 90.0]
    """
    rows = []
    for number, stars in enumerate(centroids):
        if isinstance(stars, ExtractionResult):
            if image_shape is None:
                image_shape = stars.image_shape
            elif tuple(image_shape) != stars.image_shape:
                raise InputError(
                    f"centroids: frame {number} has {stars.image_shape} pixels, not "
                    f"{tuple(image_shape)}; give frames of one camera"
                )
        try:
            rows.append(star_rows(stars))
        except InputError as error:
            raise InputError(f"centroids: in frame {number}: {error}") from None
    if not rows:
        return []
    camera, arguments = prepare(
        fov_estimate_deg=fov_deg, image_shape=image_shape, camera_model=camera_model, **options
    )
    database = choose_database(database, fov_deg, camera_model)
    with progress_callback(progress, "Solving") as callback:
        outcomes = core.solve_many(database._core, rows, camera, arguments, callback)
        if callback is not None:
            callback(1.0)
    return [_solution(outcome, len(stars)) for outcome, stars in zip(outcomes, rows, strict=True)]


def solve_from_centroids(
    database: PatternDatabase,
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
    attitude_hint: ArrayLike | Solution | SkyCoord | WCS | None = None,
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
    attitude_hint : array_like, Solution, WCS or SkyCoord, optional
        Where the camera is expected to look. An attitude: a quaternion (w, x, y, z), a (3, 3)
        rotation matrix ICRS to camera, the solution of a frame before, or an
        `~astropy.wcs.WCS` for the image's 0-based array pixels. Or where the image's centre looks,
        the roll unknown: a `~astropy.coordinates.SkyCoord`, or (right ascension, declination) in
        degrees, ICRS. Three stars are enough with an attitude known to a small part of the field,
        four with a position.
    hint_uncertainty_deg : float
        Largest angle between the expected and the true attitude or position, up to 45; half as
        much again is searched.
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
    stars = star_rows(centroids)
    camera, options = prepare(
        fov_estimate_deg=fov_estimate_deg,
        fov_max_error_deg=fov_max_error_deg,
        image_shape=image_shape,
        match_radius=match_radius,
        match_threshold=match_threshold,
        refine_iterations=refine_iterations,
        camera_model=camera_model,
        pattern_checking_stars=pattern_checking_stars,
        match_max_error=match_max_error,
        solve_timeout_ms=solve_timeout_ms,
        max_patterns_checked=max_patterns_checked,
        attitude_hint=attitude_hint,
        hint_uncertainty_deg=hint_uncertainty_deg,
        strict_hint=strict_hint,
        observer_velocity_km_s=observer_velocity_km_s,
    )
    return _solution(core.solve(database._core, stars, camera, options), len(stars))


def find_stars(
    image_or_centroids: Any,
    image_shape: tuple[int, int] | None = None,
    extraction: Mapping[str, Any] | None = None,
) -> tuple[Any, tuple[int, int] | None]:
    """Extract the stars of an image, or take them as they are; and tell the image's shape."""
    if isinstance(image_or_centroids, ExtractionResult):
        return image_or_centroids, image_shape or image_or_centroids.image_shape
    if isinstance(image_or_centroids, str | os.PathLike):
        image_or_centroids = read_frame(Path(image_or_centroids))
    options = dict(extraction or {})
    if isinstance(image_or_centroids, Frame):
        options.setdefault("mask", image_or_centroids.mask)
        image_or_centroids = image_or_centroids.image
    elif not _is_image(image_or_centroids):
        return image_or_centroids, image_shape
    found = extract_centroids(image_or_centroids, **{"luminance": True} | options)
    if image_shape is not None and tuple(image_shape) != found.image_shape:
        raise InputError(
            f"image_shape: {tuple(image_shape)} contradicts the image's {found.image_shape}; "
            "leave it out"
        )
    return found, found.image_shape


def _is_image(given: Any) -> bool:
    """Whether something with pixels was given, and not positions: those have two or three columns.

    Tables, structured arrays, lists and objects hold positions.
    """
    if hasattr(given, "uncertainty") and hasattr(given, "data"):  # astropy's NDData
        return True
    dtype = getattr(given, "dtype", None)
    shape: tuple[int, ...] = getattr(given, "shape", ())
    if dtype is None or getattr(dtype, "names", None) is not None:
        return False
    return len(shape) == 3 or (len(shape) == 2 and shape[1] > 3)


def choose_database(
    database: PatternDatabase | None, fov_deg: float | None, camera_model: CameraModel | None
) -> PatternDatabase:
    """Take the database given, or the one that serves the field of view."""
    fisheye = camera_model is not None and camera_model.projection != "gnomonic"
    most = 360 if fisheye else 180
    if fov_deg is not None and not 0.0 < (_radians("fov_deg", fov_deg) or 0.0) < math.radians(most):
        raise InputError(
            f"fov_deg: {fov_deg} is no field of view; give degrees above 0 and below {most}"
        )
    if database is not None:
        return database
    from boresight.database.database import PatternDatabase

    if fov_deg is None and camera_model is not None:
        fov_deg = camera_model.fov_deg
    return PatternDatabase.default(fov_deg)


def prepare(
    *,
    fov_estimate_deg: float | None = None,
    fov_max_error_deg: float | None = None,
    image_shape: tuple[int, int] | None = None,
    match_radius: float = 0.01,
    match_threshold: float = 1e-5,
    refine_iterations: int = 10,
    camera_model: CameraModel | None = None,
    pattern_checking_stars: int = 24,
    match_max_error: float | None = None,
    solve_timeout_ms: int | None = 5000,
    max_patterns_checked: int = 10_000_000,
    attitude_hint: ArrayLike | Solution | SkyCoord | WCS | None = None,
    hint_uncertainty_deg: float = 1.0,
    strict_hint: bool = False,
    observer_velocity_km_s: ArrayLike | None = None,
) -> tuple[core.CameraModel, dict[str, Any]]:
    """Camera and options as the core takes them, of the arguments of `solve_from_centroids`."""
    camera = _camera(camera_model, image_shape)
    if fov_estimate_deg is None and camera_model is not None:
        fov_estimate_deg = camera_model.fov_deg
    return camera._core, {
        "parity_known": camera_model is not None,
        "fov_estimate": _radians("fov_estimate_deg", fov_estimate_deg),
        "fov_max_error": _radians("fov_max_error_deg", fov_max_error_deg),
        "match_radius": float(match_radius),
        "match_threshold": float(match_threshold),
        "match_max_error": None if match_max_error is None else float(match_max_error),
        "pattern_checking_stars": _count("pattern_checking_stars", pattern_checking_stars),
        "refine_iterations": _count("refine_iterations", refine_iterations),
        "max_patterns_checked": _count("max_patterns_checked", max_patterns_checked),
        "timeout_ms": None
        if solve_timeout_ms is None
        else _count("solve_timeout_ms", solve_timeout_ms),
        "velocity_km_s": _velocity(observer_velocity_km_s),
        "hint": None
        if attitude_hint is None
        else (
            expected(attitude_hint, camera.image_shape),
            _radians("hint_uncertainty_deg", hint_uncertainty_deg),
            bool(strict_hint),
        ),
    }


def _solution(outcome: core.Outcome, num_stars: int) -> Solution | None:
    if outcome.solution is None:
        import logging

        logging.getLogger("boresight").info(
            "not solved (%s): %d centroids, %d patterns, %d candidates, best log ratio %.1f",
            outcome.status,
            num_stars,
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


def star_rows(centroids: Any) -> NDArray[np.float64]:
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
        return math.radians(float(degrees))
    except (TypeError, ValueError):
        raise InputError(f"{name}: {degrees!r} is not a number; give degrees") from None


def _count(name: str, value: int) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        count = -1
    if count < 0:
        raise InputError(f"{name}: {value!r} is not a whole number from 0 up")
    return count


def _velocity(velocity: ArrayLike | None) -> tuple[float, ...] | None:
    if velocity is None:
        return None
    vector = np.asarray(velocity, dtype=np.float64)
    if vector.shape != (3,):
        raise InputError(
            f"observer_velocity_km_s: its shape is {vector.shape}; "
            "give the three ICRS components in km/s"
        )
    return tuple(vector.tolist())
