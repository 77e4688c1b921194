"""Finds out why a frame does not solve, and what to change."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, Unpack

from boresight import _core as core
from boresight._utils import arguments
from boresight._utils.naming import named
from boresight.database.database import check_served
from boresight.errors import NarrowFieldError, TimeLimitError
from boresight.extraction.star_list import StarList
from boresight.solver import image_remedies, remedies, suspicions
from boresight.solver.attempts import HeaderUse, Request
from boresight.solver.case import Case
from boresight.solver.findings import Diagnosis, Finding, RejectedCandidate
from boresight.solver.inputs import Found, choose_database, find_stars
from boresight.solver.options import SolveOptions
from boresight.solver.outcome import solution_of
from boresight.solver.shapes import blur_of, is_noise
from boresight.solver.solution import Solution
from boresight.solver.solve import prepared, solve

if TYPE_CHECKING:
    from boresight.camera.model import CameraModel, Projection
    from boresight.database.database import PatternDatabase

__all__ = ["Diagnosis", "Finding", "RejectedCandidate", "diagnose"]

#: Default time limit of a diagnosis, ms.
BUDGET_MS = 20_000

#: Fractions of the time limit: for solving the frame with the given arguments, and for this and all
#: other tries together. The rest is for looking up the best rejected candidate.
SOLVING_SHARE, TRIES_SHARE = 0.1, 0.85

#: Causes of suspicions that a remedy already explains, by the cause of the remedy. A remedy that is
#: not listed explains only its own cause.
SAYS_ALREADY: dict[str | None, tuple[str, ...]] = {
    "non-square pixels": ("non-square pixels", "trailing"),
}

#: If at least this many stars give no solution and no field of view was given, the field may be
#: narrower than the catalogue serves.
NARROW_STARS = 30


@named
def diagnose(
    image_or_centroids: Any,
    fov_deg: float | None = None,
    *,
    database: PatternDatabase | None = None,
    image_shape: tuple[int, int] | None = None,
    camera_model: CameraModel | None = None,
    projection: Projection | Literal["auto"] | None = None,
    extraction: Mapping[str, Any] | None = None,
    header: HeaderUse = "try",
    **options: Unpack[SolveOptions],
) -> Diagnosis:
    """Find out why a frame does not solve, and what to change.

    The frame is solved as `solve` does it. If that fails, common faults are corrected in turn:
    magnitudes given as brightness, parity and camera, hint, header, field of view; a negative
    image, stars out of focus or trailed, a foreground, pixels that are not square; the projection,
    the match radius, and the database. A correction with which the frame solves is the remedy.
    Without a remedy, the best rejected candidate is looked up. Further faults that the pixels, the
    shapes and number of the stars, or the header indicate are reported as suspicions in any case.

    Parameters
    ----------
    image_or_centroids, fov_deg, database, image_shape, camera_model, projection, extraction, \
header, **options
        As in `solve`. The image itself gives the most information, the result of
        `extract_centroids` less, and a list of stars gives the least.
    solve_timeout_ms : int, optional
        Time for reading, extraction and the search for the cause, 20 s by default. At most a tenth
        of it is for solving the frame with the given arguments. The time to generate a database is
        not included.

    Returns
    -------
    Diagnosis
        The findings; prints as a report.

    Raises
    ------
    InputError
        If an argument is invalid.

    Examples
    --------
    >>> import boresight
    >>> camera = boresight.CameraModel.from_fov(12.0, (512, 512))
    >>> image = boresight.simulate_frame(camera, ra_deg=83.8, dec_deg=-1.2, seed=1).image
    >>> diagnosis = boresight.diagnose(image, fov_deg=25.0)
    >>> diagnosis.remedy.cause, round(diagnosis.remedy.changes["fov_deg"], 1)
    ('field of view', 12.0)
    """
    arguments.check_options(options, SolveOptions)
    budget_ms = arguments.optional_count(
        "solve_timeout_ms", options.get("solve_timeout_ms", BUDGET_MS)
    )
    share_ms = None if budget_ms is None else round(SOLVING_SHARE * budget_ms)
    options = {**options, "solve_timeout_ms": share_ms}
    start = time.monotonic()
    deadline = math.inf if budget_ms is None else start + budget_ms / 1e3
    try:
        found = find_stars(image_or_centroids, image_shape, extraction, None, deadline)
    except TimeLimitError:
        return _out_of_time(budget_ms)
    try:
        chosen = choose_database(database, fov_deg, camera_model, _lens(projection))
        request = Request(fov_deg, database, camera_model, projection, header, options)
        narrow = _narrow_by_header(found, request)
    except NarrowFieldError as error:
        narrow = Finding("narrow field", str(error))
        chosen = choose_database(None, None, None)
        request = Request(None, chosen, camera_model, projection, header, options)
    case, solution = _case(found, request, chosen, start, budget_ms, narrow)
    outcome, status, solution = _solved(case, solution)
    remedy = _first(case) if solution is None else None
    if solution is not None and fov_deg is not None and request.fov_deg is None:
        # With the field that was given, `solve` raises an error.
        remedy, solution, status = remedies.wider(fov_deg, solution), None, "no match"
    if budget_ms is not None:
        case.deadline += (1.0 - TRIES_SHARE) * budget_ms / 1e3
    best = _rejected(case, outcome) if solution is None and remedy is None else None
    height, width = case.image_shape
    low, high = (_stars_in_field(chosen, fov, height / width) for fov in case.bounds_deg)
    return Diagnosis(
        solution=solution,
        status=status,
        num_centroids=len(case.stars),
        fov_bounds_deg=case.bounds_deg,
        num_expected=(low, high),
        patterns_checked=outcome.patterns_checked,
        candidates_checked=outcome.candidates_checked,
        best_rejected=best,
        remedy=remedy,
        suspicions=tuple(_suspicions(case, solution, remedy, best, low)),
    )


def _out_of_time(budget_ms: int | None) -> Diagnosis:
    """Return the diagnosis of a frame whose stars were not found in time."""
    text = f"the stars were not found in {budget_ms} ms; give more as solve_timeout_ms"
    return Diagnosis(
        solution=None,
        status="timeout",
        num_centroids=0,
        fov_bounds_deg=(0.0, 180.0),
        num_expected=(0.0, math.inf),
        patterns_checked=0,
        candidates_checked=0,
        best_rejected=None,
        remedy=None,
        suspicions=(Finding("time", f"{text}, or extraction={{'fast': True}}"),),
    )


def _lens(projection: Projection | Literal["auto"] | None) -> Projection | None:
    return None if projection == "auto" else projection


def _narrow_by_header(found: Found, request: Request) -> Finding | None:
    """Return a finding if no catalogue serves the header's field of view and no other is given."""
    hints = found.hints
    given = (request.fov_deg, request.database, request.camera_model)
    if hints.fov_deg is None or request.header == "ignore" or given != (None, None, None):
        return None
    try:
        check_served(hints.fov_deg)
    except NarrowFieldError as error:
        source = hints.sources.get("scale_arcsec", "header")
        text = str(error).removeprefix("fov_deg: ")
        return Finding("narrow field", f"the header ({source}) gives the field: {text}")
    return None


def _case(
    found: Found,
    request: Request,
    database: PatternDatabase,
    start: float,
    budget_ms: int | None,
    narrow: Finding | None,
) -> tuple[Case, Solution | None]:
    """Return the case, and the solution by `solve` if a header or a projection is used."""
    frame = prepared(request.fov_deg, found.image_shape, request.camera_model, request.options)
    listed = StarList.read(found.stars, request.options.get("origin"), frame.image_shape)
    case = Case(
        found=found,
        stars=listed.stars,
        rows=listed.detections(),
        request=request,
        frame=frame,
        database=database,
        bounds_deg=_fov_bounds(frame.values, database),
        deadline=math.inf if budget_ms is None else start + TRIES_SHARE * budget_ms / 1e3,
        narrow=narrow,
    )
    hinted = request.header != "ignore" and found.hints.ra_deg is not None
    if not (hinted or request.header == "only" or request.projection):
        return case, None
    solution = solve(
        found,
        request.fov_deg,
        database=request.database,
        image_shape=found.image_shape,
        camera_model=request.camera_model,
        projection=request.projection,
        header=request.header,
        **request.options,
    )
    return case, solution


def _solved(case: Case, solution: Solution | None) -> tuple[core.Outcome, str, Solution | None]:
    """Solve with the given arguments, and return the outcome, the status and the solution."""
    outcome = core.solve(case.database._core, case.rows, case.frame.values)
    if solution is not None:
        return outcome, "solved", solution
    if case.request.header == "only":
        return outcome, "no match" if outcome.solution else outcome.status, None
    place, number = case.frame.place, len(case.stars)
    return outcome, outcome.status, solution_of(outcome, place, number, case.database)


def _first(case: Case) -> Finding | None:
    """Return the first remedy with which the frame solves, or None if there is none in time."""
    tries = chain(remedies.of_arguments(), image_remedies.of_image(case))
    found = case.extraction
    # If the stars are blurred or the detections are noise, other geometries cannot help. If no
    # catalogue serves the field, that is the cause.
    spoilt = found is not None and (blur_of(found, case.stars) or is_noise(case.stars))
    if case.narrow is None and not spoilt:
        tries = chain(
            tries,
            (remedies.all_sky, image_remedies.common_ratios),
            remedies.of_last_resort(),
            (image_remedies.any_ratio,),
        )
    for attempt in tries:
        if not case.time_left_ms():
            return None
        if (finding := attempt(case)) is not None:
            return finding
    return None


def _suspicions(
    case: Case,
    solution: Solution | None,
    remedy: Finding | None,
    best: RejectedCandidate | None,
    expected: float,
) -> Iterator[Finding]:
    """Yield the suspicions that the remedy does not explain."""
    known = None if remedy is None else remedy.cause
    solved = solution or (None if remedy is None else remedy.solution)
    narrow = case.narrow if solved is None else None
    if narrow is not None:
        yield narrow
    if solved is not None and known != "header":
        yield from suspicions.of_header(case.found.hints, solved)
    image = tuple(suspicions.of_image(case.pixels, case.extraction, case.stars))
    for finding in image:
        if finding.cause not in SAYS_ALREADY.get(known, (known,)):
            yield finding
    if remedy is None and best is not None:
        yield from suspicions.of_candidate(best)
    blank = any(finding.cause == "blank" for finding in image)
    if remedy is None and narrow is None and not blank:
        yield from suspicions.few_stars(len(case.stars), expected)
    if solved is None and case.request.header != "ignore":
        yield from suspicions.of_notes(case.found.hints)
    if solution is not None and (stretched := image_remedies.stretched(case, solution)):
        yield stretched
    free = case.request.fov_deg is None and narrow is None
    if solved is None and free and len(case.stars) >= NARROW_STARS:
        least = case.database.min_fov_deg
        yield Finding(
            "narrow field",
            f"{len(case.stars)} stars and no match: if the field is narrower than {least:.3g} "
            "degrees, give fov_deg, so that a catalogue of fainter stars is taken (install the "
            "extra boresight[gaia]), or a database that is made for it",
        )


def _rejected(case: Case, outcome: core.Outcome) -> RejectedCandidate | None:
    """Look up the best candidate that was rejected, if there is time."""
    frame, left_ms = case.frame, case.time_left_ms()
    if not left_ms:
        return None
    values = frame.values | {"timeout_ms": left_ms}
    rejected = core.best_rejected(case.database._core, case.rows, values, outcome)
    if rejected is None:
        return None
    threshold, solved = frame.values["match_threshold"], rejected.solution
    if rejected.probability > threshold:
        reason = f"chance gives such a match with probability {rejected.probability:.1g}"
    else:
        reason = "fewer than three stars match it closely"
    return RejectedCandidate(
        log_ratio=rejected.log_ratio,
        log_ratio_needed=math.log(outcome.candidates_checked / threshold),
        probability=rejected.probability,
        solution=None
        if solved is None
        else Solution._from_core(solved, frame.place, outcome.seconds * 1e3),
        reason=reason,
    )


def _fov_bounds(values: dict[str, Any], database: PatternDatabase) -> tuple[float, float]:
    """Smallest and largest field of view that the arguments allow, degrees."""
    estimate, error = values["fov_estimate"], values["fov_max_error"]
    if estimate is None:
        return database.min_fov_deg, database.max_fov_deg
    if error is None:
        error = 0.3 * estimate
    return max(math.degrees(estimate - error), 0.0), min(math.degrees(estimate + error), 180.0)


def _stars_in_field(database: PatternDatabase, fov_deg: float, aspect: float) -> float:
    """Mean number of the database's stars in a field of this width and aspect (height / width)."""
    a = math.tan(math.radians(min(fov_deg, 179.0)) / 2)
    b = a * aspect
    solid_angle = 4 * math.atan(a * b / math.sqrt(1 + a * a + b * b))
    return database.num_stars * solid_angle / (4 * math.pi)
