"""Tries other arguments with which a frame that does not solve may solve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from boresight.database.database import kept_default
from boresight.solver.attempts import FISHEYE_MS, Attempt, bounded, by_header, fisheyes
from boresight.solver.case import Case
from boresight.solver.findings import Finding
from boresight.solver.solution import Solution
from boresight.solver.solve import likeliest, solve_from_centroids

#: Numbers from which on ranks, one a star, may begin.
FIRST_RANKS = (0.0, 1.0)

#: If every brightness is below this value, the numbers may be magnitudes: magnitudes of stars
#: always are below, counts seldom.
MOST_MAGNITUDE = 35.0

#: Match radius and pattern tolerance for distorted lenses without a camera model.
WIDE_MATCH_RADIUS, WIDE_MATCH_MAX_ERROR = 0.03, 0.01

#: Fields of view that select the default databases of wide and of narrow fields, degrees.
WIDE_FOV_DEG, NARROW_FOV_DEG = 80.0, 2.0

#: Least number of stars with which fisheyes are tried: a fisheye shows many stars.
FISHEYE_STARS = 30

#: Field of view of a fisheye whose circle of the sky fills the frame, degrees.
ALL_SKY_FOV_DEG = 180.0


def brightness(case: Case) -> Finding | None:
    """Try the brightness column as magnitudes or ranks, which grow with faintness."""
    light = case.stars.brightness
    if case.extraction is not None or not len(light):
        return None
    are_ranks = light.min() in FIRST_RANKS and light.max() - light.min() == len(set(light)) - 1
    if (light >= MOST_MAGNITUDE).any() and not are_ranks:
        return None
    opposite = case.rows | {"stars": case.rows["stars"] * (1.0, 1.0, -1.0)}
    solution = case.solve(rows=opposite)
    if solution is None:
        return None
    what, repair = "in magnitudes", "give a table with a column mag, or 10 ** (-0.4 * mag)"
    if are_ranks:
        what, repair = "the rank of the star", "give it with the opposite sign, or leave it out"
    text = f"it is {what}, so that the faintest stars come first; {repair}"
    return Finding("brightness", text, {}, solution)


def camera(case: Case) -> Finding | None:
    """Try the other parity, and no camera model at all."""
    model, given = case.request.camera_model, case.request.options.get("parity_flip")
    if model is None and given is None:
        return None
    solution = case.solve(parity_known=False)
    if solution is not None:
        flipped = solution.parity_flip
        text = "the image has the opposite parity; " + (
            "leave the parity out, or give the other"
            if model is None
            else f"give a camera model with parity_flip={flipped}, or read the image as it was "
            "when the model was made"
        )
        return Finding("parity", text, {"parity_flip": flipped}, solution)
    if model is None:
        return None
    solution = case.solve(**case.free())
    if solution is None:
        return None
    text = (
        f"the camera model is another camera's, or another focal length's: without it the field is "
        f"{solution.fov_deg:.2f} degrees, and not {model.fov_deg:.2f}; leave camera_model out and "
        "calibrate anew"
    )
    return Finding("camera", text, {"camera_model": None}, solution)


def hint(case: Case) -> Finding | None:
    """Try without the hint."""
    if case.frame.values["hint"] is None:
        return None
    solution = case.solve(hint=None)
    if solution is None:
        return None
    text = (
        f"the frame points at {solution.ra_deg:.2f} {solution.dec_deg:+.2f}, farther from "
        "attitude_hint than hint_uncertainty_deg; leave attitude_hint out, or widen the uncertainty"
    )
    return Finding("hint", text, {"attitude_hint": None}, solution)


def field_of_view(case: Case) -> Finding | None:
    """Try any field of view."""
    if case.request.fov_deg is None:
        return None
    for parity in (case.frame.values["parity_known"], False):
        solution = case.solve(hint=None, parity_known=parity, fov_estimate=None, fov_max_error=None)
        if solution is not None:
            low, high = case.bounds_deg
            fov = solution.fov_deg
            text = (
                f"it is {fov:.2f} degrees, and {low:.1f} to {high:.1f} were searched; "
                f"give fov_deg={fov:.2f}"
            )
            return Finding("field of view", text, {"fov_deg": fov}, solution)
    return None


def wider(fov_deg: float, solution: Solution) -> Finding:
    """Report the field of view of a frame that solves without the given, too narrow one."""
    fov = solution.fov_deg
    text = (
        f"it is {fov:.2f} degrees, and not {fov_deg:g}, for which no catalogue has enough stars; "
        f"give fov_deg={fov:.2f}"
    )
    return Finding("field of view", text, {"fov_deg": fov}, solution)


def header(case: Case) -> Finding | None:
    """Try with the header if it was ignored, or without it if it was relied upon."""
    use, hints = case.request.header, case.found.hints
    if use == "only":
        solution = case.solve(**case.free())
        if solution is None:
            return None
        text = "its position or scale is wrong; give header='try' or header='ignore'"
        return Finding("header", text, {"header": "ignore"}, solution)
    if use == "try":
        return None  # tried before
    request = case.request._replace(header="try")
    for attempt in by_header(request, hints, case.database, [case.request.camera_model]):
        for bound in bounded([attempt], case.time_left_ms()):
            solution = _solve_attempt(case, bound)
            if solution is not None:
                text = "its position and scale help; give header='try'"
                return Finding("header", text, {"header": "try"}, solution)
    return None


def match_radius(case: Case) -> Finding | None:
    """Try a larger match radius, for a lens that displaces the stars farther."""
    wide = {"match_radius": WIDE_MATCH_RADIUS, "match_max_error": WIDE_MATCH_MAX_ERROR}
    changes: Any = {"hint": None, "parity_known": False} | wide
    solution = case.solve(**changes)
    if solution is None:
        return None
    text = "distortion displaces the stars; give a camera_model, or this match_radius"
    return Finding("match radius", text, wide, solution)


def database(case: Case) -> Finding | None:
    """Try databases for other fields of view."""
    free = case.free() | {"fov_estimate": None, "fov_max_error": None}
    default, wide = case.default_database(None), case.default_database(WIDE_FOV_DEG)
    # The database of narrow fields takes long to generate, so it is used only if it exists.
    for other in (default, kept_default(NARROW_FOV_DEG), wide):
        if other is None or not (
            other.min_fov_deg < 0.9 * case.database.min_fov_deg
            or other.max_fov_deg > 1.1 * case.database.max_fov_deg
        ):
            continue
        solution = case.solve(database=other, **free)
        if solution is not None:
            low, high = case.database.min_fov_deg, case.database.max_fov_deg
            fov_deg = solution.fov_deg
            text = (
                f"the field is {fov_deg:.2f} degrees, and the database is made for {low:.3g} to "
                f"{high:.3g}; make one for it, or give fov_deg={fov_deg:.2f} and no database"
            )
            changes = {"database": other, "fov_deg": fov_deg}
            return Finding("database", text, changes, solution)
    return None


def all_sky(case: Case) -> Finding | None:
    """Try a fisheye whose circle of the sky fills the frame."""
    fov_deg = case.request.fov_deg
    return _fisheye(case, ALL_SKY_FOV_DEG if fov_deg is None else fov_deg)


def projection(case: Case) -> Finding | None:
    """Try a fisheye with any field of view."""
    return _fisheye(case, None)


def _fisheye(case: Case, fov_deg: float | None) -> Finding | None:
    """Solve with the projections of fisheyes."""
    if case.request.camera_model is not None or case.request.projection == "auto":
        return None
    if len(case.stars) < FISHEYE_STARS:
        return None
    case.default_database(ALL_SKY_FOV_DEG)
    request = case.request._replace(database=None, fov_deg=fov_deg, options={})
    for attempt in fisheyes(request, case.image_shape):
        if not (left_ms := case.time_left_ms(FISHEYE_MS)):
            return None
        (bound,) = bounded([attempt], left_ms)
        solution = _solve_attempt(case, bound)
        if solution is None:
            continue
        solution = likeliest(case.found.stars, bound, solution)
        name, fov = solution.camera_model.projection, solution.fov_deg
        text = (
            f"the lens is a fisheye with a field of {fov:.0f} degrees, nearest to the {name} "
            f"projection; give fov_deg={fov:.0f} and projection={name!r}, or projection='auto'"
        )
        changes = {"fov_deg": float(round(fov)), "projection": name}
        return Finding("projection", text, changes, solution)
    return None


def _solve_attempt(case: Case, attempt: Attempt) -> Solution | None:
    return solve_from_centroids(
        attempt.database,
        case.found.stars,
        attempt.fov_deg,
        image_shape=case.image_shape,
        camera_model=attempt.camera_model,
        **attempt.options,
    )


def of_arguments() -> Iterator[Callable[[Case], Finding | None]]:
    """Yield the quick tries of other arguments, the most frequent mistakes first."""
    yield from (brightness, camera, hint, header, field_of_view)


def of_last_resort() -> Iterator[Callable[[Case], Finding | None]]:
    """Yield the tries of other arguments that take longer."""
    yield from (match_radius, database, projection)
