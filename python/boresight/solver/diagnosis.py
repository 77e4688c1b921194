"""Why a frame does not solve, and what to change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from boresight import _core as core
from boresight._utils import arguments
from boresight._utils.arrays import plain
from boresight._utils.html import html_table
from boresight.extraction.extract import ExtractionResult
from boresight.extraction.star_list import StarList
from boresight.extraction.stars import CentroidColumns
from boresight.solver.inputs import choose_database, find_stars
from boresight.solver.options import Prepared, SolveOptions
from boresight.solver.solution import Solution
from boresight.solver.solve import prepared, solution_of

if TYPE_CHECKING:
    from boresight.apparent.place import ApparentPlace
    from boresight.camera.model import CameraModel
    from boresight.database.database import PatternDatabase

__all__ = ["Diagnosis", "Finding", "RejectedCandidate", "diagnose"]

#: Fewer stars than this are a reason of their own: a few false ones among them hide the rest.
FEW_STARS = 10

#: Stars are trailed if half of them are longer than wide by this, ...
TRAILED_ELONGATION = 1.4

#: ... and their axes point the same way: length of the mean of the directions, 0 to 1.
TRAILED_ALIGNMENT = 0.7

#: Stars wider than this are out of focus: in focus, cameras for stars give them 1 to 4 pixels.
DEFOCUSED_FWHM_PX = 6.0

#: Tries with other arguments: match radius and tolerance for lenses without a camera model.
WIDE_MATCH_RADIUS, WIDE_MATCH_MAX_ERROR = 0.03, 0.01

#: Light of which all is below this may be magnitudes: those of stars are, their counts seldom.
MOST_MAGNITUDE = 35.0

#: Time bound of each of these tries, ms.
RETRY_TIMEOUT_MS = 2000


@dataclass(frozen=True)
class RejectedCandidate:
    """The most likely of the candidates that were rejected.

    Attributes
    ----------
    log_ratio : float
        Natural logarithm of its likelihood ratio.
    log_ratio_needed : float
        What it would have needed, with so many candidates looked at.
    probability : float
        Bound on the probability that chance gives such a match, at most 1.
    solution : Solution or None
        What it would be: attitude, field of view and matched stars. None if fewer than three match.
    reason : str
        What rejected it.
    """

    log_ratio: float
    log_ratio_needed: float
    probability: float
    solution: Solution | None
    reason: str


@dataclass(frozen=True)
class Finding:
    """A cause found or suspected.

    Attributes
    ----------
    cause : str
        ``"field of view"``, ``"parity"``, ``"hint"``, ``"match radius"``,
        ``"database"``: with the arguments changed the frame solves. ``"brightness"``: it solves
        with the stars in the opposite order, for these are magnitudes. ``"few stars"``,
        ``"trailing"``, ``"defocus"``: from the stars' images.
    text : str
        What was found and what to do.
    changes : dict
        Arguments with which the frame solves; empty for a suspicion, and where it is the list of
        stars that has to change.
    solution : Solution or None
        The solution with these arguments.
    """

    cause: str
    text: str
    changes: dict[str, Any]
    solution: Solution | None = None


def _told(value: Any) -> Any:
    """Turn a value of a diagnosis into what JSON knows."""
    if isinstance(value, RejectedCandidate | Finding):
        return {field.name: _told(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple) and value and isinstance(value[0], Finding):
        return [_told(finding) for finding in value]
    return plain(value)


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """Findings of `diagnose`; printed, a report.

    Attributes
    ----------
    solution : Solution or None
        With the arguments as given.
    status : str
        ``"solved"``, ``"no match"``, ``"too few stars"``, ``"timeout"`` or ``"work bound"``.
    num_centroids : int
        Stars given or extracted.
    fov_bounds_deg : (float, float)
        Fields of view that the arguments allow.
    num_expected : (float, float)
        Stars that the database has on average in fields of that size.
    patterns_checked, candidates_checked : int
        Work done.
    best_rejected : RejectedCandidate or None
        None if it solved or there were no candidates.
    remedy : Finding or None
        The change of arguments with which the frame solves, if one was found.
    suspicions : tuple of Finding
        What is wrong with the image.

    Examples
    --------
    See `diagnose`.
    """

    solution: Solution | None
    status: str
    num_centroids: int
    fov_bounds_deg: tuple[float, float]
    num_expected: tuple[float, float]
    patterns_checked: int
    candidates_checked: int
    best_rejected: RejectedCandidate | None
    remedy: Finding | None
    suspicions: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give the diagnosis as numbers, text and lists, for JSON.

        Returns
        -------
        dict
            The attributes; solutions as `Solution.to_dict` gives them. Of the arguments to change,
            what is no number or text is told in words.

        Examples
        --------
        >>> import boresight, json
        >>> camera = boresight.CameraModel.from_fov(12.0, (512, 512))
        >>> image = boresight.simulate_frame(camera, ra_deg=83.8, dec_deg=-1.2, seed=1).image
        >>> diagnosis = boresight.diagnose(image, fov_deg=25.0)
        >>> json.loads(json.dumps(diagnosis.to_dict()))["remedy"]["cause"]
        'field of view'
        """
        return {field.name: _told(getattr(self, field.name)) for field in fields(self)}

    def __repr__(self) -> str:
        remedy = f", remedy: {self.remedy.cause}" if self.remedy else ""
        causes = "".join(f", {finding.cause}" for finding in self.suspicions)
        return f"<Diagnosis: {self.status}, {self.num_centroids} stars{remedy}{causes}>"

    def _repr_html_(self) -> str:
        title, *lines = str(self).split("\n")
        return html_table(title, ((line[:12].strip(), line[12:].strip()) for line in lines))

    def __str__(self) -> str:
        low, high = self.fov_bounds_deg
        few, many = self.num_expected
        lines = [
            f"{'Solved' if self.solution else 'Not solved'}: {self.status}, after "
            f"{self.patterns_checked} patterns and {self.candidates_checked} candidates",
            f"Stars       {self.num_centroids}; the database has {few:.0f} to {many:.0f} in fields "
            f"of {low:.1f} to {high:.1f} degrees",
        ]
        if self.solution:
            lines.append(f"Solution    {self.solution}")
        if self.best_rejected:
            best = self.best_rejected
            lines.append(
                f"Best match  log likelihood ratio {best.log_ratio:.1f}, needed "
                f"{best.log_ratio_needed:.1f}: {best.reason}"
            )
            if best.solution:
                lines.append(
                    f"            it implies a field of {best.solution.fov_deg:.2f} degrees and "
                    f"matches {best.solution.num_matches} stars"
                )
        if self.remedy:
            lines.append(f"Remedy      {self.remedy.cause}: {self.remedy.text}")
        lines += [f"Suspicion   {finding.cause}: {finding.text}" for finding in self.suspicions]
        if not (self.solution or self.remedy or self.suspicions):
            lines.append("No cause found: look at the image and where the stars were found")
        return "\n".join(lines)


def diagnose(
    image_or_centroids: Any,
    fov_deg: float | None = None,
    *,
    database: PatternDatabase | None = None,
    image_shape: tuple[int, int] | None = None,
    camera_model: CameraModel | None = None,
    extraction: Mapping[str, Any] | None = None,
    **options: Unpack[SolveOptions],
) -> Diagnosis:
    """Tell why a frame does not solve, and what to change.

    The frame is solved as `solve` does it. If that fails, the best of the candidates that were
    rejected is looked up, and the frame is tried with other arguments in turn: either parity, the
    whole sky, any field of view, a wider match radius, the default database. What the
    images of the stars tell is reported in any case.

    Parameters
    ----------
    image_or_centroids, fov_deg, database, image_shape, camera_model, extraction, **options
        As in `solve`. Trailing and defocus are only seen in images and in what
        `extract_centroids` returns.

    Returns
    -------
    Diagnosis
        Data, and a report when printed.

    Raises
    ------
    InputError
        For an argument that cannot be worked with.

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
    given = find_stars(image_or_centroids, image_shape, extraction)
    found, shape = given.stars, given.image_shape
    chosen = choose_database(database, fov_deg, camera_model)
    frame = prepared(fov_deg, shape, camera_model, options)
    listed = StarList.read(found, options.get("origin"), frame.image_shape)
    stars, rows = listed.stars, listed.detections()
    outcome, rejected = core.solve_or_explain(chosen._core, rows, frame.values)
    solution = solution_of(outcome, frame.place, len(stars), chosen)
    bounds = _fov_bounds(frame.values, chosen)
    remedy = None
    if solution is None and outcome.status != "too few stars":
        magnitudes = len(stars) > 0 and bool((stars.brightness < MOST_MAGNITUDE).all())
        tries = _tries(frame, camera_model, chosen, bounds, magnitudes)
        remedy = next(filter(None, (t.run(rows, frame.place) for t in tries)), None)
    width, height = frame.values["camera"].image_size
    low, high = (_stars_in_field(chosen, fov, height / width) for fov in bounds)
    return Diagnosis(
        solution=solution,
        status=outcome.status,
        num_centroids=len(stars),
        fov_bounds_deg=bounds,
        num_expected=(low, high),
        patterns_checked=outcome.patterns_checked,
        candidates_checked=outcome.candidates_checked,
        best_rejected=_rejected(rejected, outcome, frame),
        remedy=remedy,
        suspicions=tuple(_suspicions(stars, found, low)),
    )


@dataclass(frozen=True)
class _Try:
    """Solving with other arguments."""

    cause: str
    database: PatternDatabase
    arguments: dict[str, Any]
    #: Arguments of `solve` to change, and what to say; `{0}` stands for the field of view found.
    changes: dict[str, Any]
    text: str
    #: Whether the stars are taken in the opposite order of brightness.
    opposite: bool = False

    def run(self, rows: Any, place: ApparentPlace) -> Finding | None:
        """Solve so; the finding, if that helps."""
        arguments = self.arguments | {"timeout_ms": RETRY_TIMEOUT_MS}
        if self.opposite:
            rows = rows | {"stars": rows["stars"] * (1.0, 1.0, -1.0)}
        outcome = core.solve(self.database._core, rows, arguments)
        solution = solution_of(outcome, place, len(rows["stars"]), self.database)
        if solution is None:
            return None
        changes = dict(self.changes)
        if "fov_deg" in changes:
            changes["fov_deg"] = solution.fov_deg
        return Finding(self.cause, self.text.format(f"{solution.fov_deg:.2f}"), changes, solution)


def _tries(
    frame: Prepared,
    camera_model: CameraModel | None,
    database: PatternDatabase,
    bounds: tuple[float, float],
    magnitudes: bool,
) -> Iterator[_Try]:
    """Other arguments, those that are cheapest to try and easiest to get wrong first."""
    arguments = frame.values
    if magnitudes:
        yield _Try(
            "brightness",
            database,
            arguments,
            {},
            "it is in magnitudes, so that the faintest stars come first; give a table with a "
            "column mag, or 10 ** (-0.4 * mag)",
            opposite=True,
        )
    if camera_model is not None:
        flipped = not camera_model.parity_flip
        yield _Try(
            "parity",
            database,
            arguments | {"parity_known": False},
            {"parity_flip": flipped},
            f"the image is the other way round; give a camera model with parity_flip={flipped}",
        )
    free = arguments | {"hint": None, "parity_known": False}
    if arguments["hint"] is not None:
        yield _Try(
            "hint",
            database,
            free,
            {"attitude_hint": None},
            "it looks elsewhere; leave attitude_hint out or widen hint_uncertainty_deg",
        )
    if arguments["fov_estimate"] is not None:
        free |= {"fov_estimate": None, "fov_max_error": None}
        yield _Try(
            "field of view",
            database,
            free,
            {"fov_deg": None},
            f"it is {{0}} degrees, and {bounds[0]:.1f} to {bounds[1]:.1f} were searched; "
            "give fov_deg={0}",
        )
    yield _Try(
        "match radius",
        database,
        free | {"match_radius": WIDE_MATCH_RADIUS, "match_max_error": WIDE_MATCH_MAX_ERROR},
        {"match_radius": WIDE_MATCH_RADIUS, "match_max_error": WIDE_MATCH_MAX_ERROR},
        "distortion displaces the stars; give a camera_model, or this match_radius",
    )
    for name in ("default", "wide"):
        other = type(database).default(80.0 if name == "wide" else None)
        if other.min_fov_deg < 0.9 * database.min_fov_deg or (
            other.max_fov_deg > 1.1 * database.max_fov_deg
        ):
            yield _Try(
                "database",
                other,
                free,
                {"database": other, "fov_deg": None},
                "the field is {0} degrees, which the database is not made for; make one for it",
            )


def _rejected(
    rejected: core.Rejected | None, outcome: core.Outcome, frame: Prepared
) -> RejectedCandidate | None:
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
        solution=None if solved is None else Solution(solved, frame.place, outcome.seconds * 1e3),
        reason=reason,
    )


def _fov_bounds(arguments: dict[str, Any], database: PatternDatabase) -> tuple[float, float]:
    """Smallest and largest field of view that the arguments allow, degrees."""
    estimate, error = arguments["fov_estimate"], arguments["fov_max_error"]
    if estimate is None:
        return database.min_fov_deg, database.max_fov_deg
    if error is None:
        error = 0.3 * estimate
    return max(math.degrees(estimate - error), 0.0), min(math.degrees(estimate + error), 180.0)


def _stars_in_field(database: PatternDatabase, fov_deg: float, aspect: float) -> float:
    """Stars that the database has on average in a field of this width and height / width."""
    a = math.tan(math.radians(min(fov_deg, 179.0)) / 2)
    b = a * aspect
    solid_angle = 4 * math.atan(a * b / math.sqrt(1 + a * a + b * b))
    return database.num_stars * solid_angle / (4 * math.pi)


def _suspicions(stars: CentroidColumns, found: Any, expected: float) -> Iterator[Finding]:
    """Tell what the number and the images of the stars mean."""
    if len(stars) < min(FEW_STARS, expected):
        yield Finding(
            "few stars",
            f"{len(stars)} where the catalogue has {expected:.0f} or more: clouds, a short "
            "exposure, or a detection threshold (sigma_threshold) that is too high",
            {},
        )
    if isinstance(found, ExtractionResult) and found.rejected["elongated"] > len(stars):
        yield Finding(
            "trailing",
            f"{found.rejected['elongated']} detections were too elongated to be stars; "
            "expose for a shorter time, or raise max_elongation",
            {},
        )
        return
    shapes = stars.cov[np.isfinite(stars.cov).all(axis=(1, 2))]
    if len(shapes) < 3:
        return
    elongation = float(np.median(stars.elongation[np.isfinite(stars.elongation)]))
    # Twice the angle, so that both ends of an axis are one direction.
    axes = shapes[:, 0, 0] - shapes[:, 1, 1] + 2j * shapes[:, 0, 1]
    mean = np.mean(axes / np.maximum(np.abs(axes), np.finfo(float).tiny))
    if elongation > TRAILED_ELONGATION and abs(mean) > TRAILED_ALIGNMENT:
        angle = math.degrees(np.angle(mean)) / 2 % 180
        yield Finding(
            "trailing",
            f"stars are {elongation:.1f} times as long as wide, all {angle:.0f} degrees from +x "
            "towards +y; expose for a shorter time",
            {},
        )
    fwhm = float(np.median(stars.fwhm[np.isfinite(stars.fwhm)]))
    if fwhm > DEFOCUSED_FWHM_PX and elongation < TRAILED_ELONGATION:
        yield Finding(
            "defocus",
            f"stars are {fwhm:.1f} pixels wide; focus, or bin the image",
            {},
        )
