"""Measures the false-alarm rate of given settings by experiment."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Unpack, cast

import numpy as np

from boresight._utils import arguments
from boresight._utils.arrays import unit_vector
from boresight._utils.naming import named
from boresight._utils.progress import Progress, progress_callback
from boresight._utils.statistics import binomial_interval
from boresight.camera.model import CameraModel
from boresight.database.database import PatternDatabase
from boresight.errors import InputError
from boresight.solver.fields import KINDS, Field, FieldKind, FieldMaker
from boresight.solver.inputs import choose_database
from boresight.solver.options import SearchOptions, SolveOptions
from boresight.solver.solution import Solution
from boresight.solver.solve import prepared, solve_many

__all__ = ["Certificate", "FalseAlarms", "certify"]

#: Number of fields that are solved together; progress is reported after each such group.
FIELDS_AT_ONCE = 32

#: Largest distance of a correct solution's centre from the true centre, as a fraction of the field
#: of view.
RIGHT_PLACE = 0.05

#: Fewest and most detections of a field: a pattern needs four, and no camera gives more than the
#: second number.
FEWEST_DETECTIONS, MOST_DETECTIONS = 4, 100_000

#: Most fields of a kind: they take months, at some ten fields a second.
MOST_FIELDS = 100_000_000


@named
@dataclasses.dataclass(frozen=True)
class FalseAlarms:
    """Number and rate of false solutions for one kind of fields, or for all kinds.

    Attributes
    ----------
    kind : str
        ``"sky"``, ``"random"``, ``"scrambled"``, ``"mirrored"``, ``"structured"``, or ``"all"``.
    num_fields : int
        Number of fields tried.
    num_solved : int
        Number of fields for which the solver gave a solution, right or false.
    num_false : int
        Number of fields for which the solver gave a false solution.
    low, high : float
        Confidence interval of the rate of false solutions, by Clopper and Pearson (1934,
        Biometrika 26, 404).

    Examples
    --------
    See `certify`.
    """

    kind: str
    num_fields: int
    num_solved: int
    num_false: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """Observed rate of false solutions."""
        return self.num_false / self.num_fields


@named
@dataclasses.dataclass(frozen=True)
class Certificate:
    """Observed rates of false solutions with one setting; prints as a table.

    Attributes
    ----------
    kinds : tuple of FalseAlarms
        One for each kind of fields.
    total : FalseAlarms
        All fields together.
    match_threshold : float
        Largest false-alarm probability that the setting accepts.
    confidence : float
        Confidence level of the intervals.
    num_detections : int
        Number of detections in each field.
    image_shape : (int, int)
        Height and width of the images.
    fov_deg : float or None
        Field of view that the solver was given, degrees.
    seed : int
        Seed of the fields.

    Examples
    --------
    See `certify`.
    """

    kinds: tuple[FalseAlarms, ...]
    total: FalseAlarms
    match_threshold: float
    confidence: float
    num_detections: int
    image_shape: tuple[int, int]
    fov_deg: float | None
    seed: int

    @property
    def holds(self) -> bool:
        """Whether every false rate agrees with `match_threshold` within its interval."""
        return all(kind.low <= self.match_threshold for kind in (*self.kinds, self.total))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``boresight certify --json`` prints them.

        Returns
        -------
        dict
        """
        values = dataclasses.asdict(self)
        for outcome in (*values["kinds"], values["total"]):
            outcome["rate"] = outcome["num_false"] / outcome["num_fields"]
        return values | {"image_shape": list(self.image_shape), "holds": self.holds}

    def __repr__(self) -> str:
        total = self.total
        return (
            f"<Certificate: {total.num_false} of {total.num_fields} fields false, rate "
            f"{total.low:.2g} to {total.high:.2g}>"
        )

    def __str__(self) -> str:
        lines = [
            f"{'fields':<12}{'tried':>8}{'solved':>8}{'false':>7}   "
            f"false rate, {100 * self.confidence:g} % interval"
        ]
        lines += [
            f"{one.kind:<12}{one.num_fields:>8}{one.num_solved:>8}{one.num_false:>7}   "
            f"{one.rate:.2g} ({one.low:.2g} to {one.high:.2g})"
            for one in (*self.kinds, self.total)
        ]
        verdict = "agrees with" if self.holds else "exceeds"
        lines.append(f"The rate {verdict} the threshold asked for, {self.match_threshold:g}.")
        return "\n".join(lines)


@named
def certify(
    fov_deg: float | None = None,
    *,
    num_fields: int = 200,
    num_detections: int = 50,
    image_shape: tuple[int, int] = (1024, 1024),
    database: PatternDatabase | None = None,
    camera_model: CameraModel | None = None,
    kinds: Sequence[FieldKind] = KINDS,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Progress = None,
    **options: Unpack[SearchOptions],
) -> Certificate:
    """Measure how often the solver gives a false solution with certain settings.

    The settings are used to solve simulated fields, which have either one right solution or none. A
    solution is false if the field has none, or if it lies at another place.

    Parameters
    ----------
    fov_deg : float, optional
        Horizontal field of view, as in `solve_many`. Default: that of `camera_model`, or else the
        whole range of the database.
    num_fields : int
        Number of fields of each kind. Default 200. If no solution among n fields is false, the
        upper end of the interval is 3.7 / n: to show a rate below 1e-5 takes 370,000 fields.
    num_detections : int
        Number of detections in each field. Default 50.
    image_shape : (int, int)
        Height and width in pixels. If a `camera_model` is given, its shape is used.
    database : SolverDatabase, optional
        As in `solve`. Fields of the sky are made from its stars, with position errors of 0.3 px and
        one star in ten missing.
    camera_model : CameraModel, optional
        Camera with which fields are made and solved.
    kinds : sequence of str
        ``"sky"``: stars at a random place of the sky. ``"random"``: uniform positions, with the
        brightness distribution of stars. ``"scrambled"``: fields of the sky with the y positions
        exchanged between the stars. ``"mirrored"``: mirror images of the sky; with a camera model
        no solution is right, without one the mirrored solution is right. ``"structured"``: grids,
        lines, rings and repeated positions. Default: all.
    confidence : float
        Confidence level of the intervals. Default 0.95.
    seed : int
        Seed of the fields, from 0 up; the same seed gives the same fields.
    progress : bool or callable, optional
        True shows a progress bar; a function is called with the fraction done, 0 to 1.
    **options
        Arguments of `solve_from_centroids`, such as `match_threshold`, `match_radius` and
        `solve_timeout_ms`.

    Returns
    -------
    Certificate

    Raises
    ------
    InputError
        If an argument is invalid.
    KeyboardInterrupt
        On Ctrl-C, at once.

    Examples
    --------
    >>> import boresight
    >>> database = boresight.SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0)
    >>> certificate = boresight.certify(30.0, num_fields=4, database=database)
    >>> certificate.total.num_fields, certificate.total.num_false, certificate.holds
    (20, 0, True)
    """
    arguments.check_options(options, SearchOptions)
    kinds = _checked_kinds(kinds)
    num_fields = arguments.whole("num_fields", num_fields, 1, MOST_FIELDS)
    num_detections = arguments.whole(
        "num_detections", num_detections, FEWEST_DETECTIONS, MOST_DETECTIONS
    )
    seed = arguments.count("seed", seed)
    confidence = arguments.probability("confidence", confidence)
    if options.get("origin") not in (None, "center"):
        raise InputError("origin: fields are made about the image's centre; leave it out")
    if camera_model is not None:
        image_shape = camera_model.image_shape
    width, height = arguments.image_size(image_shape)
    # Invalid arguments raise an error before a database is generated.
    checked = prepared(fov_deg, (height, width), camera_model, cast(SolveOptions, options))
    chosen = choose_database(database, fov_deg, camera_model, progress=progress)
    maker = FieldMaker(chosen, fov_deg, camera_model, (height, width), num_detections, seed)
    outcomes = []
    with progress_callback(progress, "Fields") as callback:
        for index, kind in enumerate(kinds):
            solved = false = 0
            for numbers in _in_parts(num_fields):
                more = _solve(maker, kind, numbers, options)
                solved, false = solved + more[0], false + more[1]
                if callback is not None:
                    callback((index + numbers.stop / num_fields) / len(kinds))
            outcomes.append(_outcome(kind, num_fields, solved, false, confidence))
    return Certificate(
        kinds=tuple(outcomes),
        total=_outcome(
            "all",
            sum(one.num_fields for one in outcomes),
            sum(one.num_solved for one in outcomes),
            sum(one.num_false for one in outcomes),
            confidence,
        ),
        match_threshold=float(checked.values["match_threshold"]),
        confidence=confidence,
        num_detections=num_detections,
        image_shape=(height, width),
        fov_deg=fov_deg,
        seed=seed,
    )


def _in_parts(num_fields: int) -> Iterator[range]:
    for start in range(0, num_fields, FIELDS_AT_ONCE):
        yield range(start, min(start + FIELDS_AT_ONCE, num_fields))


def _solve(
    maker: FieldMaker, kind: FieldKind, numbers: range, options: SearchOptions
) -> tuple[int, int]:
    """Solve fields of a kind; return the number of solutions and of false solutions."""
    fields = [maker.make(kind, number) for number in numbers]
    solutions = solve_many(
        [field.detections for field in fields],
        maker.fov_deg,
        database=maker.database,
        image_shape=maker.image_shape,
        camera_model=maker.camera_model,
        lens=None,
        **options,
    )
    known = maker.camera_model is not None
    pairs = [(f, s) for f, s in zip(fields, solutions, strict=True) if s is not None]
    return len(pairs), sum(not _is_right(field, solution, known) for field, solution in pairs)


def _is_right(field: Field, solution: Solution, parity_known: bool) -> bool:
    if field.truth is None or (parity_known and field.is_mirrored):
        return False
    center = unit_vector(solution.ra_deg, solution.dec_deg)
    apart = np.linalg.norm(center - field.center)
    return bool(
        solution.parity_flip == field.truth.parity_flip
        and apart < RIGHT_PLACE * np.radians(field.truth.fov_deg)
    )


def _outcome(kind: str, num_fields: int, solved: int, false: int, confidence: float) -> FalseAlarms:
    low, high = binomial_interval(false, num_fields, confidence)
    return FalseAlarms(kind, num_fields, solved, false, low, high)


def _checked_kinds(kinds: Sequence[FieldKind]) -> Sequence[FieldKind]:
    chosen = list(kinds)
    unknown = [kind for kind in chosen if kind not in KINDS]
    if unknown or not chosen:
        raise InputError(f"kinds: {kinds!r}; give some of {', '.join(map(repr, KINDS))}")
    return list(dict.fromkeys(chosen))
