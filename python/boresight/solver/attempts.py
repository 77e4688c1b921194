"""Lists the attempts to solve a frame: first near the position in its header, then everywhere."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, Literal, NamedTuple, get_args

from boresight._utils import arguments
from boresight._utils.deadline import after
from boresight.camera.model import CameraModel, Projection
from boresight.database.database import PatternDatabase
from boresight.errors import InputError
from boresight.frames.hints import HeaderHints
from boresight.solver.hints import attitude_of
from boresight.solver.inputs import choose_database, start_cameras
from boresight.solver.options import SolveOptions

__all__ = ["HeaderUse", "Request", "attempts"]

#: Use of the header: tried before all else, ignored, or relied upon.
HeaderUse = Literal["try", "ignore", "only"]

#: Largest error of an attitude in a header, degrees. It may be the attitude of a neighbouring
#: frame, or that of the mount.
ATTITUDE_ERROR_DEG = 1.0

#: Largest relative error of the scale of a WCS. This scale was measured, so the bound is narrow and
#: few stars are enough.
WCS_SCALE_ERROR = 0.05

#: Largest error of a position, as a fraction of the field of view. Header cards may name an object
#: that is not in the middle of the frame.
POSITION_ERROR_SHARE = 0.5
#: Least and greatest value of that error, degrees. Mounts do not point better than the first, and a
#: search wider than the second takes as long as one of the whole sky.
POSITION_ERROR_DEG = (2.0, 20.0)

#: Time limits of each attempt that uses a header, which may be wrong, ms. The first holds before
#: the frame is tried without the header, which seldom takes longer; the second holds after that has
#: failed.
QUICK_MS, THOROUGH_MS = 100, 1000

#: Projections of fisheyes, the most common first. Each is so similar to its neighbours in the list
#: that an image of one solves with the other.
FISHEYES: tuple[Projection, ...] = ("equidistant", "equisolid", "stereographic", "orthographic")

#: Fields of view tried if none is given, degrees: all-sky images whose circle fills the frame, fits
#: its height only, or is cut. Each value covers errors of up to 30 %.
FISHEYE_FOVS_DEG = (180.0, 240.0, 130.0)

#: Time limit of each attempt with a fisheye, ms: several times what an attempt at the right scale
#: takes.
FISHEYE_MS = 250


class Request(NamedTuple):
    """Arguments of `solve`, without the frame."""

    fov_deg: float | None
    database: PatternDatabase | None
    camera_model: CameraModel | None
    projection: Projection | Literal["auto"] | None
    header: HeaderUse
    options: SolveOptions


class Attempt(NamedTuple):
    """Arguments of `solve_from_centroids` for one attempt."""

    database: PatternDatabase
    fov_deg: float | None
    camera_model: CameraModel | None
    options: SolveOptions


def attempts(
    request: Request, hints: HeaderHints, image_shape: tuple[int, int] | None
) -> Iterator[Attempt]:
    """Yield the attempts in order: likely and quick ones first, the others with more time."""
    if request.header not in get_args(HeaderUse):
        raise InputError(
            f"header: {request.header!r} is unknown; give {', '.join(get_args(HeaderUse))}"
        )
    # Given arguments take precedence over the header, and are checked before the first attempt.
    lens = None if request.projection == "auto" else request.projection
    database = choose_database(request.database, request.fov_deg, request.camera_model, lens)
    if request.projection == "auto" and request.camera_model is not None:
        raise InputError("projection: the camera model has its own; leave one of the two out")
    flipped = request.options.get("parity_flip")
    cameras = start_cameras(request.camera_model, request.fov_deg, lens, image_shape, flipped)
    header_attempts = (
        () if request.header == "ignore" else by_header(request, hints, database, cameras)
    )
    if request.header == "only" and next(_header_options(request, hints), None) is None:
        raise InputError(
            "header: it has no position or scale beyond the given arguments; give header='try'"
        )
    plain = [Attempt(database, request.fov_deg, camera, request.options) for camera in cameras]
    if request.header == "only":
        yield from header_attempts
        return
    yield from bounded(header_attempts, QUICK_MS)
    if request.projection == "auto":
        yield from bounded(plain, THOROUGH_MS)
        yield from bounded(fisheyes(request, image_shape), FISHEYE_MS)
    yield from plain
    yield from bounded(header_attempts, THOROUGH_MS)
    if request.projection == "auto":
        yield from bounded(fisheyes(request, image_shape), THOROUGH_MS)


def bounded(attempts: Iterable[Attempt], most_ms: int) -> Iterator[Attempt]:
    """Limit the time of each attempt to `most_ms`."""
    for attempt in attempts:
        given_ms = attempt.options.get("solve_timeout_ms", most_ms)
        bound_ms = most_ms if given_ms is None else min(given_ms, most_ms)
        options: SolveOptions = {**attempt.options, "solve_timeout_ms": bound_ms}
        yield attempt._replace(options=options)


def deadline_of(options: SolveOptions) -> float:
    """Return the deadline of all attempts, by `time.monotonic`; infinity without a limit."""
    return after(arguments.optional_count("solve_timeout_ms", options.get("solve_timeout_ms")))


def until(attempts: Iterable[Attempt], deadline: float) -> Iterator[Attempt]:
    """Yield attempts until the deadline, the first in any case; each gets only the time left."""
    for number, attempt in enumerate(attempts):
        left = deadline - time.monotonic()
        if number and left <= 0.0:
            return
        if left == math.inf:
            yield attempt
        else:
            yield from bounded([attempt], max(0, round(1e3 * left)))


def fisheyes(request: Request, image_shape: tuple[int, int] | None) -> Iterator[Attempt]:
    """Yield attempts with fisheyes whose projection, or also field of view, is unknown."""
    flipped = request.options.get("parity_flip")
    guesses = FISHEYE_FOVS_DEG if request.fov_deg is None else (request.fov_deg,)
    for fov_deg, projection in product(guesses, FISHEYES):
        database = choose_database(request.database, fov_deg, None, "equidistant")
        try:
            cameras = start_cameras(None, fov_deg, projection, image_shape, flipped)
        except InputError:  # wider than this projection can be
            continue
        # A fitted lens would make one projection look like another.
        options: SolveOptions = {**request.options, "lens": None}
        for camera in cameras:
            yield Attempt(database, fov_deg, camera, options)


def _header_options(request: Request, hints: HeaderHints) -> Iterator[dict[str, Any]]:
    """Yield the field of view and options that the header adds, the most complete set first."""
    scale_is_free = (request.fov_deg, request.camera_model) == (None, None)
    fov_deg = hints.fov_deg if scale_is_free else None
    if request.options.get("attitude_hint") is None and hints.ra_deg is not None:
        if hints.wcs is not None and hints.dec_deg is not None and hints.roll_deg is not None:
            near = _near(
                attitude_of(hints.ra_deg, hints.dec_deg, hints.roll_deg), ATTITUDE_ERROR_DEG
            )
            if fov_deg is not None and request.options.get("fov_max_error_deg") is None:
                near["fov_max_error_deg"] = WCS_SCALE_ERROR * fov_deg
            yield {"fov_deg": fov_deg, "options": near}
        field = fov_deg or request.fov_deg
        if field is None and request.camera_model is not None:
            field = request.camera_model.fov_deg
        low, high = POSITION_ERROR_DEG
        error = low if field is None else min(max(POSITION_ERROR_SHARE * field, low), high)
        position = (hints.ra_deg, hints.dec_deg)
        yield {"fov_deg": fov_deg, "options": _near(position, error)}
        if request.header == "only":
            return
    if fov_deg is not None:
        yield {"fov_deg": fov_deg, "options": {}}


def _near(hint: Any, error_deg: float) -> dict[str, Any]:
    return {"attitude_hint": hint, "hint_uncertainty_deg": error_deg, "strict_hint": True}


def by_header(
    request: Request,
    hints: HeaderHints,
    database: PatternDatabase,
    cameras: list[CameraModel | None],
) -> list[Attempt]:
    """Return the attempts with what the header adds to a request, the most complete first."""
    added = _header_options(request, hints)
    return [a for changes in added for a in _attempts_by(changes, request, database, cameras)]


def _attempts_by(
    changes: dict[str, Any],
    request: Request,
    database: PatternDatabase,
    cameras: list[CameraModel | None],
) -> Iterator[Attempt]:
    """Yield the attempts with what the header adds; none if no catalogue serves its field."""
    fov_deg = request.fov_deg
    if changes["fov_deg"] is not None:
        fov_deg = changes["fov_deg"]
        if request.database is None:
            try:
                database = choose_database(None, fov_deg, None)
            except InputError:
                return
    options: Any = {**request.options, **changes["options"]}
    for camera in cameras:
        yield Attempt(database, fov_deg, camera, options)
