"""From frames to their camera in one call: stars, solutions, a fit, and again until it settles."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils.arrays import unit_vector
from boresight.apparent.aberration import SPEED_OF_LIGHT_KM_S, earth_barycentric_velocity
from boresight.apparent.refraction import Refraction
from boresight.calibration.fit import calibrate_camera
from boresight.calibration.result import CalibrateResult
from boresight.camera.model import PolynomialDistortion
from boresight.catalog.catalog import Catalog
from boresight.errors import InputError, UndeterminedError
from boresight.extraction.centroids import Centroids
from boresight.frames.frame import Frame
from boresight.frames.read import read_frame
from boresight.frames.times import as_time
from boresight.solver.solution import Intrinsics, Solution
from boresight.solver.solve import choose_database, find_stars, solve_from_centroids

if TYPE_CHECKING:
    from astropy.coordinates import EarthLocation
    from astropy.time import Time

    from boresight.camera.model import CameraModel
    from boresight.database.database import PatternDatabase

__all__ = ["calibrate"]

Floats = NDArray[np.float64]

PASSES = ((0.01, 3), (0.005, 4), (0.003, 5))
"""Match radius (fraction of the field of view) and highest order of the first passes. Raising the
order before the matches are right makes it follow the wrong ones."""

FINAL_RADIUS = 0.002
"""Match radius of all further passes, which fit the whole model."""

MAX_FINAL_PASSES = 12
"""The matches usually stay the same from the second of them on."""


def calibrate(
    frames: Sequence[Any],
    database: PatternDatabase | None = None,
    *,
    image_shape: tuple[int, int] | None = None,
    fov_estimate_deg: float | None = None,
    fov_max_error_deg: float | None = None,
    order: int | Literal["auto"] = "auto",
    model: Literal["polynomial", "radial", "pinhole", "auto"] = "polynomial",
    camera_model: CameraModel | None = None,
    times: Sequence[Any] | None = None,
    aberration: bool | None = None,
    velocities: Sequence[ArrayLike | None] | None = None,
    catalog: Catalog | None = None,
    site: EarthLocation | None = None,
    weather: Mapping[str, float] | None = None,
    extraction: Mapping[str, Any] | None = None,
    solve_options: Mapping[str, Any] | None = None,
    on_pass: Callable[[int, CalibrateResult], object] | None = None,
    **options: Any,
) -> CalibrateResult:
    """Calibrate the camera that took some frames, from the stars in them.

    Stars are found, the frames solved, and the camera fitted; with that camera the frames are
    solved again and matched more narrowly, and so on until the matches stay the same.

    Parameters
    ----------
    frames : sequence
        Frames of one camera, each as anything that `boresight.solve` takes: a path, a `Frame`, an
        image, an `ExtractionResult`, or centroids (of which none tells the `image_shape`).
    database : SolverDatabase, optional
        Patterns for this field of view. Default: `SolverDatabase.default`.
    image_shape : (int, int), optional
        (height, width) in pixels. Default: that of the frames, which it must not contradict.
    fov_estimate_deg, fov_max_error_deg : float, optional
        Horizontal field of view for the first pass and its largest error, as for the solver.
    order, model
        As for `calibrate_camera`; the order is 'auto' by default. The first passes fit less.
    camera_model : CameraModel, optional
        Camera to start from. One with distortion is taken to be right to 0.2 % of the field of
        view, so that the wide first passes are left out.
    times : sequence of (Time, datetime, str or None), optional
        When each frame was taken (the middle of its exposure); UTC where it does not say. Default:
        what its file tells. Needed for what follows.
    aberration : bool, optional
        Take stellar aberration by the Earth's motion out, at the time of each frame. Default: if
        the times of all of them are known. Without, of it remain a scale that differs by up to 1e-4
        between frames (2 arcsec at the edge of a field of 10 degrees) and 0.1 arcsec, which nothing
        else can take up.
    velocities : sequence of (array_like of shape (3,) or None), optional
        The observer's barycentric velocity in km/s at each frame, instead of `aberration`.
    catalog : Catalog, optional
        Stars with proper motions and the database's identifiers, such as `Catalog.hipparcos()`:
        every matched star is moved to the time of its frame. Default: that of the default database
        if the times of all frames are known; else stars are where they are in the database, at its
        epoch.
    site : astropy.coordinates.EarthLocation, optional
        Where on the ground the frames were taken; refraction is then taken out. Default: it is not.
    weather : mapping, optional
        Further arguments of `Refraction.at`: `pressure_hpa`, `temperature_c`, ...
    extraction, solve_options : mapping, optional
        Further arguments of `extract_centroids` and `solve_from_centroids`.
    on_pass : callable, optional
        Called after each pass with its number, from 1, and its result.
    **options
        Further arguments of `calibrate_camera`: `sigma_clip`, `max_iterations`, `held_out`,
        `noise`, `systematic_px`.

    Returns
    -------
    CalibrateResult
        With `solutions`, one for each frame, `None` where it was rejected, and `rejected`, the
        reasons. The solutions have the calibrated camera and the attitudes of the joint fit, and
        the matches are those it used; their `pixel_to_world` is ICRS whatever was taken out.
        `physics` says what was.

    Raises
    ------
    InputError
        If the frames differ in shape, a frame's time is needed and unknown, or an argument is out
        of its range.
    UndeterminedError
        If no frame solves, or too few stars match for the model.
    FileFormatError, OSError
        If a file cannot be read.

    Notes
    -----
    Calibrating again with ``camera_model=result.camera_model`` and the same arguments changes
    nothing. ``result.converged`` is False if the matches still changed in the last of 12 final
    passes.

    Examples
    --------
    >>> import boresight
    >>> database = boresight.SolverDatabase.generate_from_hipparcos(max_fov_deg=20.0)
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512), optical_center=(20.0, -10.0))
    >>> frames = [boresight.simulate_frame(camera, ra, 10.0, seed=ra) for ra in (20, 140, 260)]
    >>> result = boresight.calibrate(
    ...     [frame.image for frame in frames], database, fov_estimate_deg=15.0, order=3
    ... )
    >>> round(result.camera_model.fov_deg, 2)
    15.0
    >>> [round(solution.dec_deg, 1) for solution in result.solutions]
    [9.7, 9.7, 9.7]
    """
    taken = [_take(i, frame, extraction) for i, frame in enumerate(frames)]
    known_times = _times(taken, times)
    if database is None and catalog is None and None not in known_times:
        catalog = Catalog.hipparcos()
    database = choose_database(database, fov_estimate_deg, camera_model)
    physics = _Physics(known_times, aberration, velocities, catalog, site, weather)
    loop = _Loop(
        database,
        [frame.stars for frame in taken],
        physics,
        {
            "image_shape": _shape(taken, image_shape, camera_model),
            "fov_estimate_deg": fov_estimate_deg,
            "fov_max_error_deg": fov_max_error_deg,
        }
        | dict(solve_options or {}),
        options,
        camera_model,
        on_pass,
    )
    if camera_model is None or camera_model.distortion is None:
        for match_radius, limit in PASSES:
            pass_order = limit if order == "auto" else min(limit, order)
            pass_model = "polynomial" if model == "auto" else model
            loop.calibrate(loop.solve(match_radius), order=pass_order, model=pass_model)
    return _settle(loop, order, model)


def _settle(loop: _Loop, order: int | str, model: str) -> CalibrateResult:
    """Solve and fit the whole model until the matches stay the same, and the choice of the model.

    The model is chosen twice at least: at first, and for the matches in which that ended. Models
    that are as good may each be the choice for the matches in which another ended, in a circle: the
    one of the fewest parameters is then taken, wherever the circle was entered.
    """
    asked = {"order": order, "model": model}
    choice: dict[str, Any] = {}
    ended: list[tuple[dict[str, Any], CalibrateResult]] = []
    chosen_for_these = False
    last: list[Solution | None] = []
    for _ in range(MAX_FINAL_PASSES):
        solutions = loop.solve(FINAL_RADIUS)
        same = _same_matches(solutions, last)
        if same and chosen_for_these:
            return loop.result
        if same or not choice:
            if same:
                ended.append((choice, loop.result))
            choice = _choice(loop.calibrate(solutions, **asked), asked)
            chosen_for_these = True
            before = [earlier for earlier, _ in ended]
            if choice in before:
                circle = [result for _, result in ended[before.index(choice) :]]
                return min(circle, key=lambda result: len(result.parameter_names))
        else:
            loop.calibrate(solutions, **choice)
            chosen_for_these = choice == asked
        last = solutions
    return dataclasses.replace(loop.result, converged=False)


def _choice(result: CalibrateResult, asked: dict[str, Any]) -> dict[str, Any]:
    """How to fit the order and model that were chosen."""
    if "auto" not in (asked["order"], asked["model"]):
        return asked
    distortion = result.camera_model.distortion
    # As where it was chosen.
    found: dict[str, Any] = {"order": 2, "model": "radial", "held_out": True}
    if distortion is None:
        found["model"] = "pinhole"
    elif isinstance(distortion, PolynomialDistortion):
        found |= {"order": distortion.order, "model": "polynomial"}
    return found


class _Loop:
    """What all passes have in common, and what came of the last one."""

    result: CalibrateResult

    def __init__(
        self,
        database: PatternDatabase,
        centroids: list[Centroids],
        physics: _Physics,
        solve_options: dict[str, Any],
        fit_options: dict[str, Any],
        camera: CameraModel | None,
        on_pass: Callable[[int, CalibrateResult], object] | None,
    ) -> None:
        self._database = database
        self._centroids = centroids
        self._physics = physics
        self._solve_options = solve_options
        self._fit_options = fit_options
        self._camera = camera
        self._on_pass = on_pass
        self._number = 0

    def solve(self, match_radius: float) -> list[Solution | None]:
        """Solve all frames with the last camera."""
        from concurrent.futures import ThreadPoolExecutor

        options = self._solve_options | {"match_radius": match_radius, "camera_model": self._camera}
        if self._camera is not None:
            options["fov_estimate_deg"] = self._camera.fov_deg

        def solve(stars: Centroids, velocity: ArrayLike | None) -> Solution | None:
            return solve_from_centroids(
                self._database, stars, observer_velocity_km_s=velocity, **options
            )

        with ThreadPoolExecutor() as pool:
            solutions = list(pool.map(solve, self._centroids, self._physics.velocities))
        if all(solution is None for solution in solutions):
            raise UndeterminedError(
                f"none of the {len(solutions)} frames solves in pass {self._number + 1}; "
                "check the field of view and look at the frames"
            )
        return [self._physics.applied(i, solution) for i, solution in enumerate(solutions)]

    def calibrate(self, solutions: list[Solution | None], **model: Any) -> CalibrateResult:
        """Fit the camera to them, for the next pass to start from."""
        fitted = calibrate_camera(solutions, self._centroids, **(self._fit_options | model))
        self._camera = fitted.camera_model
        self._number += 1
        self.result = dataclasses.replace(
            fitted,
            solutions=_solutions(fitted, solutions, self._centroids),
            physics=self._physics.words,
        )
        if self._on_pass is not None:
            self._on_pass(self._number, self.result)
        return self.result


@dataclasses.dataclass(frozen=True)
class _Taken:
    """The stars of a frame, and what its file says about it."""

    stars: Centroids
    shape: tuple[int, int] | None
    frame: Frame | None


def _take(index: int, given: Any, extraction: Mapping[str, Any] | None) -> _Taken:
    if isinstance(given, str | os.PathLike):
        given = read_frame(given)
    frame = given if isinstance(given, Frame) else None
    found, shape = find_stars(given, None, extraction)
    try:
        return _Taken(Centroids.from_any(found), shape, frame)
    except InputError as error:
        raise InputError(f"frames[{index}]: {error}") from None


def _shape(
    taken: Sequence[_Taken], image_shape: tuple[int, int] | None, camera_model: CameraModel | None
) -> tuple[int, int]:
    """Find the image shape that everything agrees on."""
    named = [(f"frames[{i}]", frame.shape) for i, frame in enumerate(taken) if frame.shape]
    if camera_model is not None:
        named.append(("camera_model", camera_model.image_shape))
    if image_shape is not None:
        named.insert(0, ("image_shape", (image_shape[0], image_shape[1])))
    if not named:
        raise InputError("image_shape: missing; give (height, width) in pixels of the frames")
    for name, shape in named[1:]:
        if shape != named[0][1]:
            raise InputError(
                f"{name}: {shape} pixels, but {named[0][0]} has {named[0][1]}; "
                "give frames of one camera, all of the same (height, width)"
            )
    return named[0][1]


def _times(taken: Sequence[_Taken], times: Sequence[Any] | None) -> list[Time | None]:
    """When the frames were taken, as far as it is known."""
    if times is None:
        return [None if frame.frame is None else frame.frame.time for frame in taken]
    if len(times) != len(taken):
        raise InputError(f"times: {len(times)} for {len(taken)} frames; give one (or None) each")
    return [None if time is None else as_time(time) for time in times]


class _Physics:
    """What displaces the stars of each frame, and is taken out before the fit."""

    def __init__(
        self,
        times: list[Time | None],
        aberration: bool | None,
        velocities: Sequence[ArrayLike | None] | None,
        catalog: Catalog | None,
        site: EarthLocation | None,
        weather: Mapping[str, float] | None,
    ) -> None:
        if aberration is None:
            aberration = None not in times
        for name, wanted in (
            ("aberration", aberration and velocities is None),
            ("catalog", catalog is not None),
            ("site", site is not None),
        ):
            if wanted and None in times:
                raise InputError(
                    f"{name}: the time of frames[{times.index(None)}] is unknown; give times"
                )
        if velocities is not None and len(velocities) != len(times):
            raise InputError(
                f"velocities: {len(velocities)} for {len(times)} frames; give one (or None) each"
            )
        if weather is not None and site is None:
            raise InputError("weather: of no effect without a site; give both")
        words = []
        self.velocities: list[ArrayLike | None] = [None] * len(times)
        if velocities is not None:
            self.velocities = list(velocities)
            words.append("aberration by the velocities given")
        elif aberration:
            self.velocities = [earth_barycentric_velocity(time) for time in times if time]
            words.append("aberration by the Earth's motion at each frame's time")
        self._times = times
        self._catalog = catalog
        if catalog is not None:
            if not len(catalog):
                raise InputError(
                    "catalog: it has no stars; give the one that the database was made of"
                )
            words.append(f"proper motion from {catalog.epoch:.2f} to each frame's time")
        self._refractions: list[Refraction] = []
        if site is not None:
            weather = dict(weather or {})
            self._refractions = [Refraction.at(site, time, **weather) for time in times if time]
            words.append("refraction at each frame's time")
        self.words = tuple(words)

    def applied(self, index: int, solution: Solution | None) -> Solution | None:
        """Make the solution of a frame with its stars as they were then, and its refraction."""
        if solution is None or (self._catalog is None and not self._refractions):
            return solution
        quaternion, cov, probability, found, ids, stars, *rest = solution._core.parts()
        time = self._times[index]
        if self._catalog is not None and time is not None:
            try:
                moved = self._catalog.get(ids).at_epoch(time)
            except KeyError as error:
                raise InputError(
                    f"catalog: {error.args[0]}; give the one that the database was made of"
                ) from None
            stars = unit_vector(moved.ra_deg, moved.dec_deg).tolist()
        camera = solution._core.camera
        return Solution(
            core.Solution(camera, quaternion, cov, probability, found, ids, stars, *rest),
            solution.solve_time_ms,
            refraction=self._refractions[index] if self._refractions else None,
        )


def _same_matches(new: Sequence[Solution | None], old: Sequence[Solution | None]) -> bool:
    """Tell whether the same stars are matched in the same frames."""

    def same(a: Solution | None, b: Solution | None) -> bool:
        if a is None or b is None:
            return a is b
        return np.array_equal(a.matched_centroids, b.matched_centroids) and np.array_equal(
            a.matched_catalog_ids, b.matched_catalog_ids
        )

    return len(new) == len(old) and all(map(same, new, old))


def _solutions(
    fitted: CalibrateResult, solutions: Sequence[Solution | None], centroids: Sequence[Centroids]
) -> tuple[Solution | None, ...]:
    """Put the common camera and the attitudes of the joint fit into the frames' solutions."""

    def joint(index: int, solution: Solution | None) -> Solution | None:
        part = fitted.frames[index]
        if solution is None or part is None or part.rejected is not None:
            return None
        velocity = solution.observer_velocity_km_s
        detections = solution.matched_centroids[part.inliers]
        stars = solution.matched_directions[part.inliers]

        intrinsics = Intrinsics(
            fitted.parameter_names, fitted.covariance, part.cross_cov, fitted.systematic_px
        )

        def with_residuals(residuals: Floats) -> Solution:
            solved = core.Solution(
                fitted.camera_model._core,
                part.quaternion.tolist(),
                part.attitude_cov_rad2.tolist(),
                solution.probability,
                detections.tolist(),
                solution.matched_catalog_ids[part.inliers].tolist(),
                stars.tolist(),
                residuals.tolist(),
                None if velocity is None else (velocity / SPEED_OF_LIGHT_KM_S).tolist(),
            )
            return Solution(
                solved,
                solution.solve_time_ms,
                intrinsics=intrinsics,
                refraction=solution.refraction,
            )

        at = centroids[index]
        pixels = np.column_stack([at.x[detections], at.y[detections]])
        seen = with_residuals(np.zeros(len(stars)))._sky(pixels)
        return with_residuals(2.0 * np.arcsin(np.linalg.norm(seen - stars, axis=1) / 2.0))

    return tuple(joint(i, solution) for i, solution in enumerate(solutions))
