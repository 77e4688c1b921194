"""How one frame is attempted: first where its header says that it looks, then everywhere."""

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

#: What is done with what the header says: tried before all else, not looked at, or relied upon.
HeaderUse = Literal["try", "ignore", "only"]

#: Largest error of an attitude in a header, degrees: that of a frame beside it, or of a mount.
ATTITUDE_ERROR_DEG = 1.0

#: Largest error of the scale of a WCS, which somebody has measured: so few stars are enough.
WCS_SCALE_ERROR = 0.05

#: Largest error of a position: this share of the field of view, for cards name an object that need
#: not be in the middle, ...
POSITION_ERROR_SHARE = 0.5
#: ... within these bounds, degrees: mounts point no better, and a wider search is no shorter than
#: that of the whole sky.
POSITION_ERROR_DEG = (2.0, 20.0)

#: Time bounds of each attempt by a header that may be wrong, ms: before the frame is tried without
#: it, which seldom takes longer, and, if that is in vain, after it.
QUICK_MS, THOROUGH_MS = 100, 1000

#: Projections of fisheyes, the most common first. Each is near enough to its neighbours that stars
#: of one are found with the other.
FISHEYES: tuple[Projection, ...] = ("equidistant", "equisolid", "stereographic", "orthographic")

#: Fields of view that are tried where none is given: images of the whole sky, of which the circle
#: fills the frame, or fits its height alone, or is cut. Each serves to 30 %.
FISHEYE_FOVS_DEG = (180.0, 240.0, 130.0)

#: Time bound of each such attempt, ms: several times what one of the right scale takes.
FISHEYE_MS = 250


class Request(NamedTuple):
    """Arguments of `solve` besides the frame."""

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
    """Give the attempts in order: what is likely and quick first, the others with more time."""
    if request.header not in get_args(HeaderUse):
        raise InputError(
            f"header: {request.header!r} is unknown; give {', '.join(get_args(HeaderUse))}"
        )
    # What was given goes before the header, and is checked before anything is tried.
    lens = None if request.projection == "auto" else request.projection
    database = choose_database(request.database, request.fov_deg, request.camera_model, lens)
    if request.projection == "auto" and request.camera_model is not None:
        raise InputError("projection: the camera model has its own; leave one of the two out")
    flipped = request.options.get("parity_flip")
    cameras = start_cameras(request.camera_model, request.fov_deg, lens, image_shape, flipped)
    told = () if request.header == "ignore" else by_header(request, hints, database, cameras)
    if request.header == "only" and next(_told(request, hints), None) is None:
        raise InputError(
            "header: it tells neither position nor scale that were not given; give header='try'"
        )
    plain = [Attempt(database, request.fov_deg, camera, request.options) for camera in cameras]
    if request.header == "only":
        yield from told
        return
    yield from bounded(told, QUICK_MS)
    if request.projection == "auto":
        yield from bounded(plain, THOROUGH_MS)
        yield from bounded(fisheyes(request, image_shape), FISHEYE_MS)
    yield from plain
    yield from bounded(told, THOROUGH_MS)
    if request.projection == "auto":
        yield from bounded(fisheyes(request, image_shape), THOROUGH_MS)


def bounded(attempts: Iterable[Attempt], most_ms: int) -> Iterator[Attempt]:
    """Give each attempt so much time at most."""
    for attempt in attempts:
        given_ms = attempt.options.get("solve_timeout_ms", most_ms)
        bound_ms = most_ms if given_ms is None else min(given_ms, most_ms)
        options: SolveOptions = {**attempt.options, "solve_timeout_ms": bound_ms}
        yield attempt._replace(options=options)


def deadline_of(options: SolveOptions) -> float:
    """Give when the time of all attempts ends, as `time.monotonic` tells; without one, never."""
    return after(arguments.optional_count("solve_timeout_ms", options.get("solve_timeout_ms")))


def until(attempts: Iterable[Attempt], deadline: float) -> Iterator[Attempt]:
    """Give the attempts while there is time, the first in any case; each gets what is left."""
    for number, attempt in enumerate(attempts):
        left = deadline - time.monotonic()
        if number and left <= 0.0:
            return
        if left == math.inf:
            yield attempt
        else:
            yield from bounded([attempt], max(0, round(1e3 * left)))


def fisheyes(request: Request, image_shape: tuple[int, int] | None) -> Iterator[Attempt]:
    """Give the attempts with fisheyes of which the projection, or all, is unknown."""
    flipped = request.options.get("parity_flip")
    guesses = FISHEYE_FOVS_DEG if request.fov_deg is None else (request.fov_deg,)
    for fov_deg, projection in product(guesses, FISHEYES):
        database = choose_database(request.database, fov_deg, None, "equidistant")
        try:
            cameras = start_cameras(None, fov_deg, projection, image_shape, flipped)
        except InputError:  # wider than this projection can be
            continue
        # A lens that is fitted would make one projection look like another.
        options: SolveOptions = {**request.options, "lens": None}
        for camera in cameras:
            yield Attempt(database, fov_deg, camera, options)


def _told(request: Request, hints: HeaderHints) -> Iterator[dict[str, Any]]:
    """Field of view and options that the header adds, the most it tells first."""
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
    """Give the attempts by what the header adds to a request, most of it first."""
    told = _told(request, hints)
    return [a for changes in told for a in _attempts_by(changes, request, database, cameras)]


def _attempts_by(
    changes: dict[str, Any],
    request: Request,
    database: PatternDatabase,
    cameras: list[CameraModel | None],
) -> Iterator[Attempt]:
    """Give the attempts with what the header adds; none if no catalogue serves its field."""
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
