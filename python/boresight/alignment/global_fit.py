"""The fit of all images at once: a linear map for each, a position for every object."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight.alignment.detections import Detections, Exposure, collect, exposure_of
from boresight.alignment.device import Device
from boresight.alignment.mappings import Mapping
from boresight.alignment.options import Options
from boresight.alignment.register import (
    corner_error,
    corrected,
    plane_corners,
    total_correction,
    verdict_of,
)
from boresight.alignment.result import (
    AlignmentResult,
    Degeneracy,
    DegeneracyKind,
    GlobalFit,
    ImageAlignment,
    Matches,
    Reason,
)
from boresight.alignment.sources import source_rows
from boresight.camera.distortion import PolynomialDistortion

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["fit_globally"]

Floats = NDArray[np.float64]

DISTORTION_ROUNDS = 3
"""Rounds in which a shared distortion is found before the last: each matches the sources anew."""

UNDITHERED = (
    "undithered: each object is on one pixel in all images, so that a distortion cannot be told "
    "from positions; none is fitted"
)
ONE_DETECTOR = (
    "one detector: its shift, and rotation and scale as far as each image has its own, are those "
    "of the images"
)

FLOOR_ROUNDS = 4
"""Rounds in which the floor of the errors is found."""

RESERVED_CHI2 = (0.5, 2.0)
"""Reserved objects beyond this, per degree of freedom, in units of those of the fit: poor."""


def fit_globally(
    result: AlignmentResult,
    before: list[list[Mapping]],
    catalogued: int,
    options: Options,
    reserve: float,
    distortion_order: int,
    tell: Callable[[float], object] | None,
) -> AlignmentResult:
    """Fit all images of a sequential alignment at once.

    `before` are the mappings of all items before the alignment, `catalogued` is the number of stars
    of the reference that come from a catalogue.
    """
    shared: list[PolynomialDistortion] = []
    for _ in range(DISTORTION_ROUNDS if distortion_order else 0):
        fit = _Fit.of(result, before, catalogued, options, 0.0, distortion_order)
        if len(fit.detections.exposure) == 0 or not fit.device.terms:
            break
        solved = fit.solve(options, tell)
        shared = _sum(shared, fit.device.distortions(solved.device))
        fit.move(solved)
    fit = _Fit.of(result, before, catalogued, options, reserve, distortion_order)
    d, known = fit.detections, fit.known
    if len(d.exposure) == 0:
        return replace(result, fit=fit.summary(None, math.nan, shared))
    solved = fit.solve(options, tell)
    reserved = _reserved_chi2(d, solved)
    reserved = reserved if known else reserved / solved.chi2_dof
    if d.reserved.any():
        # They have served as the test: the maps are those of all objects.
        fit.detections = replace(d, reserved=np.zeros_like(d.reserved))
        solved = fit.solve(options, tell)
    if fit.device.terms:
        shared = _sum(shared, fit.device.distortions(solved.device))
    summary = fit.summary(solved, reserved, shared)
    moved = fit.move(solved)
    images = list(result.images)
    for e, exposure in enumerate(fit.exposures):
        images[exposure.number] = _apply(fit, e, moved[e], solved, summary, options)
    return replace(result, images=images, fit=summary)


def _sum(
    lenses: list[PolynomialDistortion], more: list[PolynomialDistortion]
) -> list[PolynomialDistortion]:
    """Add polynomials of one order and scale."""
    if not lenses:
        return more
    return [
        PolynomialDistortion(
            a.order, a.scale, a.a_coeffs + b.a_coeffs, np.asarray(a.b_coeffs + b.b_coeffs)
        )
        for a, b in zip(lenses, more, strict=True)
    ]


@dataclass
class _Fit:
    """All that one fit is of."""

    result: AlignmentResult
    exposures: list[Exposure]
    detections: Detections
    device: Device
    degeneracies: list[Degeneracy]
    frozen: list[bool]
    known: bool

    @classmethod
    def of(
        cls,
        result: AlignmentResult,
        before: list[list[Mapping]],
        catalogued: int,
        options: Options,
        reserve: float,
        distortion_order: int,
    ) -> _Fit:
        """Find the detections of all objects where the images now have them."""
        items = zip(result.catalogs, result.images, strict=True)
        exposures = [
            exposure_of(number, item, before[number], result.refcat, options)
            for number, (item, image) in enumerate(items)
            if image.status != "failed"
        ]
        frozen = [
            catalogued == 0 and result.images[exposure.number].status == "reference"
            for exposure in exposures
        ]
        detections = collect(exposures, result.refcat, catalogued, reserve)
        found = _degeneracies(exposures, detections, result, catalogued)
        device = Device.of(exposures, detections, distortion_order, options.fitgeom, catalogued)
        if distortion_order and len(detections.exposure):
            names = tuple(result.images[exposure.number].name for exposure in exposures)
            if catalogued == 0 and device.is_undithered(detections):
                found.append(Degeneracy(DegeneracyKind.UNDITHERED, names, UNDITHERED))
                device = Device.of(exposures, detections, 0, options.fitgeom, catalogued)
            elif len(device.halves) == 1:
                found.append(Degeneracy(DegeneracyKind.ONE_DETECTOR, names, ONE_DETECTOR))
        known = all(exposure.sources.weights is not None for exposure in exposures)
        return cls(result, exposures, detections, device, found, frozen, known)

    def name(self, e: int) -> str:
        """Name of an exposure."""
        return self.result.images[self.exposures[e].number].name

    def solve(self, options: Options, tell: Callable[[float], object] | None) -> _Solved:
        """Solve for all maps, and name what is open."""
        return _solve(self.detections, self.device, self.frozen, options, self.known, tell)

    def move(self, solved: _Solved) -> list[list[Mapping]]:
        """Correct the images, and give the new mappings of each exposure."""
        lenses = self.device.distortions(solved.device) if self.device.terms else []
        moved = []
        for e, exposure in enumerate(self.exposures):
            starts = list(exposure.mappings)
            if lenses:
                starts = [m.distorted(lens) for m, lens in zip(starts, lenses, strict=False)]
            if lenses or self.result.images[exposure.number].status != "reference":
                starts = corrected(starts, starts[0], solved.matrices[e], solved.shifts[e])
            moved.append(starts)
            for image, mapping in zip(exposure.members, starts, strict=True):
                image._set(mapping, image.alignment)
        return moved

    def summary(
        self, solved: _Solved | None, reserved: float, shared: list[PolynomialDistortion]
    ) -> GlobalFit:
        """Tell of the fit."""
        found = list(self.degeneracies)
        if solved is not None:
            found += [
                Degeneracy(
                    DegeneracyKind.UNDETERMINED,
                    (self.name(e),),
                    f"{self.name(e)}: its objects do not determine its map; "
                    "what they leave open stays as it was",
                )
                for e in solved.undetermined
            ]
            if solved.undetermined_terms:
                found.append(
                    Degeneracy(
                        DegeneracyKind.UNDETERMINED,
                        tuple(self.name(e) for e in range(len(self.exposures))),
                        f"{len(solved.undetermined_terms)} terms of the shared distortion are not "
                        "determined; they stay as they were",
                    )
                )
        return _summary(self, solved, reserved, found, shared)


@dataclass
class _Solved:
    """Result of the core, and the weights of the detections in it."""

    matrices: Floats
    shifts: Floats
    device: list[float]
    covariances: Floats
    residuals: Floats
    undetermined: list[int]
    undetermined_terms: list[int]
    weights: Floats
    kept: NDArray[np.bool_]
    floor: float
    chi2_dof: float


def _solve(
    d: Detections,
    device: Device,
    frozen: list[bool],
    options: Options,
    known: bool,
    tell: Callable[[float], object] | None,
) -> _Solved:
    """Solve, clip by testing all detections anew, and find the floor of the errors."""
    geometry = options.fitgeom
    lever = max(float(np.abs(d.at).max()), 1.0)
    taken = ~d.reserved[d.object] & (d.weight > 0)
    kept, floor = taken.copy(), 0.0
    parameters = {"shift": 2, "rshift": 3, "rscale": 4, "general": 6}[geometry]
    free = parameters * (len(frozen) - sum(frozen)) + len(device.terms)
    with np.errstate(divide="ignore"):
        variance = 1.0 / d.weight
    for round_ in range(options.clipping["rounds"] + 1 + FLOOR_ROUNDS * known):
        weights = 1.0 / (variance + floor**2)
        values = {
            "exposure": d.exposure, "at": d.at, "expected": d.expected, "jacobian": d.jacobian,
            "weight": np.where(kept, weights, 0.0), "starts": d.starts, "priors": d.priors,
            "frozen": frozen, "geometry": geometry, "lever": lever, "device": device.values(),
        }  # fmt: skip
        told = core.solve_joint(values, tell)
        residuals = told["residuals"]
        square = weights * (residuals**2).sum(axis=1)
        share = _freedom(d, np.where(kept, weights, 0.0))
        freedom = 2.0 * share[kept].sum() - free
        chi2_dof = float(square[kept].sum() / freedom) if freedom > 0 else math.nan
        solved = _Solved(**told, weights=weights, kept=kept, floor=floor, chi2_dof=chi2_dof)
        if not freedom > 0:
            break
        if known and round_ >= options.clipping["rounds"]:
            new = _floor(residuals[kept], variance[kept], freedom)
            if abs(new - floor) < 1e-4 * (new + floor):
                break
            floor = new
            continue
        # Of both axes: the length whose mean square is 2 is told by sigma.
        limit = 2.0 * options.clipping["sigma"] ** 2 * chi2_dof * np.maximum(share, 0.05)
        after = taken & (square < limit)
        if not known and (after == kept).all():
            break
        kept = after
    return solved


def _freedom(d: Detections, weights: Floats) -> Floats:
    """Share of a detection's own variance that is left in its residual: 1 less its leverage."""
    total = np.zeros(len(d.rows))
    np.add.at(total, d.object, weights)
    total += d.priors
    with np.errstate(divide="ignore", invalid="ignore"):
        leverage = np.where(total[d.object] > 0, weights / total[d.object], 0.0)
    return np.asarray(1.0 - leverage)


def _floor(residuals: Floats, variance: Floats, freedom: float) -> float:
    """Error that has to be added for the weighted squares to be as many as degrees of freedom."""
    square = (residuals**2).sum(axis=1)

    def excess(floor2: float) -> float:
        return float((square / (variance + floor2)).sum()) - freedom

    if excess(0.0) <= 0.0:
        return 0.0
    low, high = 0.0, float(square.mean()) + 1e-30
    while excess(high) > 0:
        high *= 2.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return math.sqrt(high)


def _reserved_chi2(d: Detections, solved: _Solved) -> float:
    """Squares per degree of freedom of the reserved objects, each at its own best place."""
    mine = d.reserved[d.object] & (d.weight > 0)
    if not mine.any():
        return math.nan
    weights = np.where(mine, solved.weights, 0.0)
    # The core places no object without weight: its residuals are those of where it is expected.
    start = solved.residuals
    place = np.zeros((len(d.rows), 2))
    normal = np.zeros((len(d.rows), 2, 2))
    j = d.jacobian.reshape(-1, 2, 2)
    np.add.at(normal, d.object, weights[:, None, None] * np.einsum("nki,nkj->nij", j, j))
    np.add.at(place, d.object, weights[:, None] * np.einsum("nki,nk->ni", j, start))
    normal += d.priors[:, None, None] * np.eye(2)
    rows = np.flatnonzero(d.reserved & (np.linalg.det(normal) > 0))
    b = np.zeros_like(place)
    b[rows] = np.linalg.solve(normal[rows], place[rows][:, :, None])[:, :, 0]
    left = start - np.einsum("nij,nj->ni", j, b[d.object])
    square = weights * (left**2).sum(axis=1)
    prior = (d.priors[rows] * (b[rows] ** 2).sum(axis=1)).sum()
    # A detection far outside is no measure of the maps: as in the fit it does not count.
    limit = 2.0 * 9.0 * max(solved.chi2_dof, 1e-300)
    good = mine & (square < limit)
    count = 2 * int(good.sum()) - 2 * len(rows) + 2 * int((d.priors[rows] > 0).sum())
    return float((square[good].sum() + prior) / count) if count > 0 else math.nan


def _summary(
    fit: _Fit,
    solved: _Solved | None,
    reserved: float,
    degeneracies: list[Degeneracy],
    shared: list[PolynomialDistortion],
) -> GlobalFit:
    d, known, exposures = fit.detections, fit.known, fit.exposures
    if solved is None:
        none = math.nan
        closure = _closure(d, np.zeros((0, 2)), np.zeros(0, bool), exposures)
        return GlobalFit(
            0, 0, none, none, none, 0.0, degeneracies, closure, np.zeros((0, 2)), shared
        )
    kept = solved.kept
    share = _freedom(d, np.where(kept, solved.weights, 0.0))[kept]
    unit = 1.0 if known else solved.chi2_dof
    with np.errstate(divide="ignore", invalid="ignore"):
        pulls = solved.residuals[kept] * np.sqrt(solved.weights[kept] / (share * unit))[:, None]
    return GlobalFit(
        num_objects=len(np.unique(d.object[kept])),
        num_detections=int(kept.sum()),
        rmse_px=float(np.sqrt((solved.residuals[kept] ** 2).sum(axis=1).mean())),
        chi2_dof=solved.chi2_dof if known else 1.0,
        reserved_chi2_dof=reserved,
        floor_px=solved.floor,
        degeneracies=degeneracies,
        closure=_closure(d, solved.residuals, kept, exposures),
        pulls=pulls[share > 1e-6],
        distortion=shared,
    )


def _closure(
    d: Detections, residuals: Floats, kept: NDArray[np.bool_], exposures: list[Exposure]
) -> Table:
    """Mean differences that are left between each two images, by the objects that both have."""
    from astropy.table import Table

    rows = np.flatnonzero(kept)
    of, exposure = d.object[rows], d.exposure[rows].astype(np.int64)
    r = residuals[rows]
    n = len(exposures)
    keys, steps = [], []
    for apart in range(1, n):
        same = np.flatnonzero(of[apart:] == of[:-apart]) if apart < len(of) else np.zeros(0, int)
        if len(same) == 0:
            break
        a, b = exposure[same], exposure[same + apart]
        keys.append(np.minimum(a, b) * n + np.maximum(a, b))
        steps.append((r[same] - r[same + apart]) * np.where(a < b, 1.0, -1.0)[:, None])
    key = np.concatenate(keys) if keys else np.zeros(0, np.int64)
    step = np.concatenate(steps) if steps else np.zeros((0, 2))
    pairs, where, counts = np.unique(key, return_inverse=True, return_counts=True)
    means = np.stack(
        [np.bincount(where, step[:, k], len(pairs)) / counts for k in range(2)], axis=-1
    )
    squares = np.bincount(where, (step**2).sum(axis=1), len(pairs)) / counts
    numbers = np.array([exposure.number for exposure in exposures], dtype=np.int64)
    return Table(
        {
            "a": numbers[pairs // n] if n else pairs,
            "b": numbers[pairs % n] if n else pairs,
            "num_objects": counts,
            "dx": means[:, 0],
            "dy": means[:, 1],
            "error": np.sqrt(squares / 2 / counts),
        },
        units={"dx": "pix", "dy": "pix", "error": "pix"},
    )


def _degeneracies(
    exposures: list[Exposure], d: Detections, result: AlignmentResult, catalogued: int
) -> list[Degeneracy]:
    """Give what the images leave open before anything is fitted."""
    names = [result.images[exposure.number].name for exposure in exposures]
    found = []
    if catalogued == 0:
        first = [n for e, n in zip(exposures, names, strict=True)
                 if result.images[e.number].status == "reference"]  # fmt: skip
        found.append(
            Degeneracy(
                DegeneracyKind.NO_REFERENCE,
                tuple(first),
                f"no reference catalogue: the position, rotation and scale of all images are those "
                f"of {', '.join(first)}, which is frozen",
            )
        )
    if len(exposures) == 1:
        found.append(
            Degeneracy(
                DegeneracyKind.ONE_IMAGE,
                tuple(names),
                "one image: nothing but the catalogue tells of it, and there is no loop to close",
            )
        )
    apart = [i.name for i in result.images if i.reason is Reason.NO_OVERLAP]
    if apart:
        found.append(
            Degeneracy(
                DegeneracyKind.DISCONNECTED,
                tuple(apart),
                f"{', '.join(apart)}: not connected with the others by any object; not fitted",
            )
        )
    return found


def _about(covariance: Floats, center: Floats) -> Floats:
    """Covariance of the shift at a centre and of the matrix, from that at the origin."""
    lever = np.eye(6)
    for k in range(2):
        lever[k, 2 + 2 * k : 4 + 2 * k] = center
    return np.asarray(lever @ covariance @ lever.T)


def _apply(
    fit: _Fit,
    e: int,
    moved: list[Mapping],
    solved: _Solved,
    summary: GlobalFit,
    options: Options,
) -> ImageAlignment:
    """Tell of the images of an exposure, which have new mappings."""
    d, exposure, refcat, known = fit.detections, fit.exposures[e], fit.result.refcat, fit.known
    told = fit.result.images[exposure.number]
    mine = d.exposure == e
    rows = np.flatnonzero(mine)
    source = d.of_exposure[rows]
    sources = exposure.sources
    member = sources.member[source]
    matches = Matches(
        source=source_rows(exposure.members, member, sources.row[source]),
        member=member,
        reference=refcat.ids[d.rows[d.object[rows]]],
        pixels=sources.pixels[source],
        sky=refcat.sky[d.rows[d.object[rows]]],
        residuals=-solved.residuals[rows],
        kept=solved.kept[rows],
    )
    kept = rows[solved.kept[rows]]
    square = solved.weights * (solved.residuals**2).sum(axis=1)
    share = _freedom(d, np.where(solved.kept, solved.weights, 0.0))
    lengths = (solved.residuals[kept] ** 2).sum(axis=1)
    after = replace(
        told,
        num_matches=len(rows),
        num_fitted=len(kept),
        rmse_px=float(np.sqrt(lengths.mean())) if len(kept) else math.nan,
        mae_px=float(np.sqrt(lengths).mean()) if len(kept) else math.nan,
        std_px=float(np.sqrt((solved.residuals[kept].var(axis=0, ddof=1)).sum()))
        if len(kept) > 1
        else math.nan,
        chi2_dof=float(square[kept].sum() / (2 * share[kept].sum()))
        if known and len(kept)
        else math.nan,
        matches=matches,
    )
    if told.status != "reference":
        after = total_correction(after, exposure.before[0], moved[0], sources)
    if len(solved.covariances):
        unit = 1.0 if known else solved.chi2_dof
        covariance = _about(solved.covariances[e] * unit, after.center)
        error = corner_error(covariance, after.center, plane_corners(moved[0], sources))
        after = replace(after, covariance=covariance, corner_error_px=error)
    if told.status != "reference":
        verdict, reason = verdict_of(after, options)
        after = replace(after, verdict=verdict, reason=reason)
    low, high = RESERVED_CHI2
    tested = not math.isnan(summary.reserved_chi2_dof)
    if after.verdict == "good" and tested and not low <= summary.reserved_chi2_dof <= high:
        after = replace(after, verdict="poor", reason=Reason.RESERVED_CONTRADICT)
    for image in exposure.members:
        image.alignment = after
    return after
