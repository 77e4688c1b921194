"""Comparison of a calibrated camera with new star frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from boresight._utils.arguments import probability
from boresight._utils.arrays import Floats
from boresight._utils.naming import named, type_of
from boresight._utils.quiet import quiet
from boresight.calibration.result import CalibrationResult
from boresight.camera.model import CameraModel
from boresight.database.database import PatternDatabase
from boresight.errors import InputError
from boresight.frames.times import as_time
from boresight.movement.change import FrameStars, fit_change, held_out_px
from boresight.movement.mounted import MountedCamera, place_at
from boresight.movement.verdict import KINDS, Verdict, judge
from boresight.solver.inputs import find_stars, held_frame
from boresight.solver.solution import Solution
from boresight.solver.solve import solve

if TYPE_CHECKING:
    from astropy.coordinates import EarthLocation

__all__ = ["compare"]

FALSE_ALARM = 1e-3
"""Default probability of a false alarm."""

HINT_DEG = 1.0
"""Largest expected movement of the camera, in degrees. After a larger movement the frame is solved
blind."""

NEIGHBOURS_PX = 3.0
"""Distance within which catalogue stars may be blended, or shift each other's centroids, in
pixels."""

MOST_BLEND_PX = 0.02
"""Largest centroid shift of a used star by its neighbours, in pixels. With a larger value more
stars are used, but verdicts are wrong more often if the centroids are more precise than the
shift."""

OPTICS = ("focus", "optical centre", "distortion")
"""Kinds of change that can be found for a camera with unknown attitude."""


@named
def compare(
    calibration: MountedCamera | Solution | CalibrationResult | CameraModel,
    frame: Any,
    *,
    site: EarthLocation | None = None,
    time: Any = None,
    false_alarm: float = FALSE_ALARM,
    database: PatternDatabase | None = None,
    weather: Mapping[str, float] | None = None,
) -> Verdict:
    """Determine from the stars of a new frame how a calibrated camera has changed.

    Parameters
    ----------
    calibration : MountedCamera, Solution, CalibrationResult or CameraModel
        The camera before the change. The last two have no attitude, so only changes of the optics
        are found.
    frame : image, Frame, path, centroids or Solution; or a list of these
        The new frame, in any form that `boresight.solve` takes. Several sparse frames between which
        the camera does not move are judged together.
    site : EarthLocation, optional
        Site of a camera that is fixed to the ground; its attitude is then compared in the local
        frame. Default: the site of the calibration.
    time : Time, datetime or str, or a list of these, optional
        Middle of each exposure, for the proper motions of Hipparcos stars. Default: the time in the
        frame's header.
    false_alarm : float
        Probability of reporting a change if there is none. Default 1e-3. If stars cover less than
        three quarters of the frame, as under clouds, 1/2000 of this value is used, and a change
        that is significant only at the full value is `suspected`.
    database : SolverDatabase, optional
        Database of stars and patterns. Default: that of `boresight.solve`.
    weather : mapping, optional
        Arguments of `Refraction.at`, used with a site.

    Returns
    -------
    Verdict

    Raises
    ------
    InputError
        If an argument has a wrong type, or a site is given without a time.

    Notes
    -----
    A robust fit of all parameters gives the change and its covariance, to which the covariance of
    the calibration is added. The kinds of change that explain the stars at the least cost are
    selected, by a likelihood ratio test of nested models (see `boresight.movement.verdict.judge`).
    Stars whose neighbours in the catalogue may shift the centroid are excluded.

    See Also
    --------
    Watch : frames one after another, at a rate of false alarms for a thousand of them.

    Examples
    --------
    >>> import boresight
    >>> from boresight.movement import MountedCamera, compare
    >>> camera = boresight.CameraModel.from_fov(12.0, (512, 512))
    >>> frames = [boresight.simulate_frame(camera, 83.8, dec, 30.0, seed=1) for dec in (-1.2, -1.1)]
    >>> before = MountedCamera.from_solution(boresight.solve(frames[0].image, camera_model=camera))
    >>> verdict = compare(before, frames[1].image)
    >>> verdict.kinds, round(sum(v**2 for v in verdict.pointing_arcsec) ** 0.5)
    (('pointing',), 360)
    """
    alarm = probability("false_alarm", false_alarm)
    reference = reference_of(calibration, site)
    frames = list(frame) if isinstance(frame, list | tuple) else [frame]
    times = list(time) if isinstance(time, list | tuple) else [time] * len(frames)
    if not frames or len(times) != len(frames):
        raise InputError(f"time: {len(times)} for {len(frames)} frames; give one for each")
    pairs = zip(frames, times, strict=True)
    return verdict_on(
        reference, [observe(reference, *pair, database, weather) for pair in pairs], alarm
    )


@dataclass(frozen=True, eq=False)
class Reference:
    """Reference camera for the comparison, with its uncertainty.

    Attributes
    ----------
    camera : MountedCamera
        The camera before the change.
    known : tuple of str
        Kinds of change that can be found for this camera.
    covariance : ndarray of shape (8, 8)
        Covariance of the camera's parameters.
    """

    camera: MountedCamera
    known: tuple[str, ...]
    covariance: Floats


@dataclass(frozen=True, eq=False)
class Observation:
    """A frame: its time (UTC), its solution, and its stars as the reference camera would see them.

    Solution and stars are None if the frame did not solve.
    """

    time: str | None
    solution: Solution | None = None
    stars: FrameStars | None = None


def observe(
    reference: Reference,
    given: Any,
    time: Any,
    database: PatternDatabase | None,
    weather: Mapping[str, float] | None,
) -> Observation:
    """Solve a frame, and predict its stars for an unchanged camera."""
    at = _time_of(given, time)
    utc = None if at is None else _utc(at)
    solution = _solved(reference, given, at, database, weather)
    if solution is None:
        return Observation(utc)
    return Observation(utc, solution, _predicted_stars(reference, solution, at))


def verdict_on(
    reference: Reference,
    observations: Sequence[Observation],
    false_alarm: float,
    sure: bool = False,
) -> Verdict:
    """Return the verdict on frames together; `sure` as in `judge`."""
    solved = [one for one in observations if one.solution is not None]
    times = [one.time for one in solved or observations if one.time is not None]
    camera = reference.camera.camera_model
    common: dict[str, Any] = {
        "camera_model": camera, "false_alarm": false_alarm, "time": times[0] if times else None,
        "solutions": tuple(one.solution for one in solved),
    }  # fmt: skip
    seen = [one.stars for one in solved if one.stars is not None]
    if not seen:
        reason = "the frame did not solve" if len(observations) == 1 else "no frame solved"
        return Verdict(kinds=(), unknown=reason, solved=False, **common)
    change = fit_change(camera, seen)
    judged = judge(camera, change, reference.covariance, false_alarm, reference.known, sure)
    if judged["kinds"]:
        common["held_out_px"] = held_out_px(camera, seen)
    return Verdict(solved=True, **common, **judged)


def reference_of(calibration: Any, site: EarthLocation | None) -> Reference:
    """Return the reference camera of a calibration."""
    if isinstance(calibration, Solution):
        if site is not None:
            raise InputError(
                "calibration: a solution has no local attitude; give "
                "MountedCamera.from_solution(solution, site=site, time=time)"
            )
        calibration = MountedCamera.from_solution(calibration)
    if isinstance(calibration, CalibrationResult):
        cov = np.zeros((8, 8))
        names = calibration.parameter_names
        places = ("focal_length_px", "optical_center_x", "optical_center_y")
        scale = np.array([1.0 / calibration.camera_model.focal_length_px, 1.0, 1.0])
        for i, first in enumerate(places):
            for j, second in enumerate(places):
                if first in names and second in names:
                    value = calibration.covariance[names.index(first), names.index(second)]
                    cov[3 + i, 3 + j] = value * scale[i] * scale[j]
        bare = MountedCamera(calibration.camera_model, np.array([1.0, 0, 0, 0]), cov)
        return Reference(bare, OPTICS, cov)
    if isinstance(calibration, CameraModel):
        bare = MountedCamera(calibration, np.array([1.0, 0, 0, 0]))
        return Reference(bare, OPTICS, np.zeros((8, 8)))
    if not isinstance(calibration, MountedCamera):
        raise InputError(
            f"calibration: {type_of(calibration)} is not valid; give a MountedCamera, a "
            "Solution, a CalibrationResult or a CameraModel"
        )
    if site is not None and calibration.site is None:
        raise InputError(
            "site: the attitude of this calibration is that in the sky; make it with "
            "MountedCamera.from_solution(solution, site=site, time=time)"
        )
    assert calibration.covariance is not None
    return Reference(calibration, tuple(KINDS), calibration.covariance)


def _utc(time: Any) -> str:
    """Return a time as text, UTC."""
    with quiet:  # suppresses warnings about future leap seconds
        return str(as_time(time).utc.isot)


def _time_of(given: Any, time: Any) -> Any:
    """Return the middle of an exposure: the given time, or the time in the frame's header."""
    if time is not None:
        return time
    if isinstance(given, str) or hasattr(given, "__fspath__"):
        from boresight.frames.read import read_frame

        return read_frame(given).time
    frame = given if hasattr(given, "notes") else held_frame(given)
    return getattr(frame, "time", None)


def _solved(
    reference: Reference,
    given: Any,
    time: Any,
    database: PatternDatabase | None,
    weather: Mapping[str, float] | None,
) -> Solution | None:
    if isinstance(given, Solution):
        return given
    found = find_stars(given)
    stars, shape = found.stars, found.image_shape
    before, camera = reference.camera, reference.camera.camera_model
    if shape is not None and tuple(shape) != camera.image_shape:
        raise InputError(
            f"frame: its shape {tuple(shape)} is not that of the camera, {camera.image_shape}; "
            "give frames of this camera"
        )
    options: dict[str, Any] = {}
    if reference.known != OPTICS:
        options = {"attitude_hint": before.attitude(time), "hint_uncertainty_deg": HINT_DEG}
    place = place_at(before.site, time, weather)
    return solve(
        stars, database=database, camera_model=camera, image_shape=camera.image_shape,
        place=place, **options,
    )  # fmt: skip


def _predicted_stars(reference: Reference, solution: Solution, time: Any) -> FrameStars:
    """Return predicted directions for the unmoved camera and measured positions of stars.

    Stars whose neighbours may shift their centroid are excluded. With two blended stars, the choice
    of the matched star and the centroid of their common light would look like a movement.
    """
    stars = solution.matched_stars
    single = stars.blend_px(NEIGHBOURS_PX) <= MOST_BLEND_PX
    attitude = solution.rotation_matrix_icrs_to_camera
    if reference.known != OPTICS:
        attitude = reference.camera.attitude(time)
    directions = solution.place.apparent(stars.directions[single]) @ attitude.T
    sigma = None
    if stars.has_position_cov:
        cov = np.asarray(stars.position_cov)[single]
        sigma = np.sqrt((cov[:, 0, 0] + cov[:, 1, 1]) / 2.0)
    return FrameStars(
        np.ascontiguousarray(directions), np.asarray(stars.positions_px)[single], sigma
    )
