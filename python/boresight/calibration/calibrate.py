"""Calibration in one call: extract stars, solve frames, fit the camera; repeated until stable."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight._utils import arguments
from boresight._utils.naming import named
from boresight._utils.origins import Origin
from boresight.apparent.refraction import Refraction
from boresight.calibration.fit import FitOptions
from boresight.calibration.passes import Passes, settle
from boresight.calibration.places import FramePlaces, motions_of
from boresight.calibration.result import CalibrationResult
from boresight.catalog.catalog import Catalog
from boresight.errors import InputError, UndeterminedError
from boresight.extraction.extract import extract_centroids
from boresight.extraction.star_list import StarList
from boresight.frames.frame import Frame
from boresight.frames.read import read_frame
from boresight.frames.times import as_time
from boresight.solver.inputs import choose_database, find_stars, held_frame, start_cameras
from boresight.solver.options import SolveOptions

if TYPE_CHECKING:
    from astropy.coordinates import EarthLocation
    from astropy.time import Time

    from boresight.camera.model import CameraModel, Projection
    from boresight.database.database import PatternDatabase

__all__ = ["calibrate"]

Floats = NDArray[np.float64]


@named
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
    projection: Projection | None = None,
    times: Sequence[Any] | None = None,
    aberration: bool | None = None,
    velocities_km_s: Sequence[ArrayLike | None] | None = None,
    catalog: Catalog | None = None,
    site: EarthLocation | None = None,
    weather: Mapping[str, float] | None = None,
    extraction: Mapping[str, Any] | None = None,
    solve_options: SolveOptions | None = None,
    origin: Origin | None = None,
    on_pass: Callable[[int, CalibrationResult], object] | None = None,
    **options: Unpack[FitOptions],
) -> CalibrationResult:
    """Calibrate the camera that took some frames, from the stars in them.

    The stars are extracted, the frames solved, and the camera fitted. With that camera, the frames
    are solved again with a smaller match radius. This is repeated until the matches stay the same.

    Parameters
    ----------
    frames : sequence
        Frames of one camera, each in any form that `boresight.solve` takes: a path, a `Frame`, an
        image, an `ExtractionResult`, or centroids (which alone do not give the `image_shape`).
    database : SolverDatabase, optional
        Patterns for this field of view. Default: `SolverDatabase.default`.
    image_shape : (int, int), optional
        (height, width) in pixels. Default: that of the frames. If both are given, they must agree.
    fov_estimate_deg, fov_max_error_deg : float, optional
        Horizontal field of view for the first pass and its largest error, as for the solver.
    order, model
        As for `calibrate_camera`, but the default order is 'auto'. The first passes fit lower
        orders.
    camera_model : CameraModel, optional
        Camera to start from. A camera with distortion is assumed to be right to 0.2 % of the field
        of view, so the first passes, which have a larger match radius, are skipped.
    projection : {"gnomonic", "equidistant", "equisolid", "stereographic", "orthographic"}, optional
        Projection of a fisheye, if only `fov_estimate_deg` is known apart from it; both parities
        are tried. Default: that of `camera_model`, or an ordinary lens.
    times : sequence of (Time, datetime, str or None), optional
        When each frame was taken (the middle of its exposure), in UTC unless stated otherwise.
        Default: the time in its file. `aberration`, `catalog` and `site` need it.
    aberration : bool, optional
        Correct for stellar aberration by the Earth's motion, at the time of each frame. Default: if
        the times of all frames are known. Without the correction, the scale differs by up to 1e-4
        between frames (2 arcsec at the edge of a field of 10 degrees), and an error of 0.1 arcsec
        remains that no other parameter can absorb.
    velocities_km_s : sequence of (array_like of shape (3,) or None), optional
        The observer's barycentric velocity in km/s at each frame, instead of `aberration`.
    catalog : Catalog, optional
        Catalogue with proper motions and the database's identifiers, such as `Catalog.hipparcos()`.
        Every matched star is moved to the time of its frame. Default: Hipparcos, if the database is
        made from it and the times of all frames are known; otherwise stars keep their positions in
        the database, at its epoch.
    site : astropy.coordinates.EarthLocation, optional
        Place on the ground from which the frames were taken, to correct for refraction. Default: no
        correction.
    weather : mapping, optional
        Further arguments of `Refraction.at`: `pressure_hpa`, `temperature_c`, ...
    extraction, solve_options : mapping, optional
        Further arguments of `extract_centroids` and `solve_from_centroids`.
    origin : {"center", "corner", "fits"}, optional
        Origin of the pixel coordinates in lists of stars, as for the solver.
    on_pass : callable, optional
        Called after each pass with its number, from 1, and its result.
    **options
        Further arguments of `calibrate_camera`: `sigma_clip`, `max_iterations`, `held_out`,
        `noise`, `systematic_px`.

    Returns
    -------
    CalibrationResult
        With `solutions`, one for each frame (`None` where it was rejected), and `rejected`, the
        reasons. The solutions have the calibrated camera, the attitudes of the joint fit, and the
        matches that the fit used. Their `pixel_to_world` gives ICRS directions, whatever effects
        were corrected. `physics` names these effects.

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
    arguments.check_options(options, FitOptions)
    arguments.check_keywords(weather or {}, Refraction.at, "weather")
    arguments.check_keywords(extraction or {}, extract_centroids, "extraction")
    arguments.check_options(solve_options or {}, SolveOptions, "solve_options")
    known = camera_model.image_shape if image_shape is None and camera_model else image_shape
    listed = arguments.per_frame("frames", frames)
    if not listed:
        raise InputError("frames: there are none; give at least one")
    taken = [_take(i, frame, extraction, origin, known) for i, frame in enumerate(listed)]
    known_times = _times(taken, times)
    database = choose_database(
        database, fov_estimate_deg, camera_model, projection, name="fov_estimate_deg"
    )
    if catalog is None and None not in known_times:
        catalog = motions_of(database)
    places = FramePlaces(known_times, aberration, velocities_km_s, catalog, site, weather)
    shape = _shape(taken, image_shape, camera_model)
    solving = {
        "image_shape": shape,
        "fov_deg": fov_estimate_deg,
        "fov_max_error_deg": fov_max_error_deg,
        **dict(solve_options or {}),
    }
    stars = [frame.stars for frame in taken]
    starts = start_cameras(camera_model, fov_estimate_deg, projection, shape)
    for start in starts:
        passes = Passes(database, stars, places, solving, options, start, on_pass)
        try:
            if start is None or start.distortion is None:
                passes.narrow(order, model)
            return settle(passes, order, model)
        except UndeterminedError:
            if start is starts[-1]:
                raise
    raise AssertionError("there is at least one camera to start from")


@dataclasses.dataclass(frozen=True)
class _FrameInput:
    """The stars of a frame, and what its file says about it."""

    stars: StarList
    shape: tuple[int, int] | None
    frame: Frame | None


def _take(
    index: int,
    given: Any,
    extraction: Mapping[str, Any] | None,
    origin: Origin | None,
    image_shape: tuple[int, int] | None,
) -> _FrameInput:
    if isinstance(given, str | os.PathLike):
        given = read_frame(given)
    frame = given if isinstance(given, Frame) else held_frame(given)
    given = given if frame is None else frame
    try:
        found = find_stars(given, None, extraction)
        stars, shape = found.stars, found.image_shape
        if shape is not None:  # an image, or the result of an extraction
            return _FrameInput(StarList.read(stars), shape, frame)
        return _FrameInput(StarList.read(stars, origin, image_shape), shape, frame)
    except InputError as error:
        raise InputError(f"frames[{index}]: {error}") from None


def _shape(
    taken: Sequence[_FrameInput],
    image_shape: tuple[int, int] | None,
    camera_model: CameraModel | None,
) -> tuple[int, int]:
    """Find the image shape on which all inputs agree."""
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


def _times(taken: Sequence[_FrameInput], times: Sequence[Any] | None) -> list[Time | None]:
    """Return the times of the frames; `None` where unknown."""
    if times is None:
        return [None if frame.frame is None else frame.frame.time for frame in taken]
    if isinstance(times, str) or len(times) != len(taken):
        number = 1 if isinstance(times, str) else len(times)
        raise InputError(f"times: {number} for {len(taken)} frames; give one (or None) each")
    try:
        return [None if time is None else as_time(time) for time in times]
    except InputError as error:
        raise InputError(str(error).replace("time:", "times:", 1)) from None
