"""Fit of all images at once: a linear map for each image, a position for every object."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boresight.alignment.degeneracies import (
    ONE_DETECTOR,
    UNDITHERED,
    degeneracies,
    few_matches,
)
from boresight.alignment.detections import Detections, Exposure, collect, exposure_of
from boresight.alignment.device import Device, Distortions
from boresight.alignment.growing import GrowingReference
from boresight.alignment.identified import Identified
from boresight.alignment.joint import JointFit, Solved
from boresight.alignment.mappings import Mapping
from boresight.alignment.objects import ObjectModel, object_table
from boresight.alignment.options import Options
from boresight.alignment.reference import ReferenceCatalog
from boresight.alignment.register import (
    corner_error,
    corner_pixels,
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
from boresight.alignment.statistics import closure_table, reserved_chi2
from boresight.camera.distortion import PolynomialDistortion

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["GlobalStart", "fit_globally"]

Floats = NDArray[np.float64]

DISTORTION_ROUNDS = 3
"""Rounds that determine a distortion before the final fit. Each round matches the sources again."""

LEAST_SCATTER_PX = 1e-3
"""Lower limit of the scatter of images, in pixels, that limits the weight of sources without errors
relative to catalogue stars."""

RESERVED_CHI2 = (0.5, 2.0)
"""Range of χ² per degree of freedom of the reserved objects, relative to the fit, for a good
verdict."""

RESERVED_SIGMAS = 6.0
"""Standard deviations by which this χ² must also differ from 1 for a poor verdict. Errors vary from
star to star, so χ² of few objects scatters."""


@dataclass(frozen=True)
class GlobalStart:
    """A sequential alignment, from which the global fit starts, and the model to fit.

    `before` are the mappings of all items before that alignment. `orders` are the order of the
    shared distortion and that of the separate distortion of each image.
    """

    result: AlignmentResult
    before: list[list[Mapping]]
    reference: GrowingReference
    options: Options
    orders: tuple[int, int]
    model: ObjectModel

    @property
    def refcat(self) -> ReferenceCatalog:
        """Catalogue of all stars and objects."""
        return self.reference.stars

    @property
    def catalogued(self) -> int:
        """Number of stars from a catalogue; they come first in `refcat`."""
        return self.reference.catalogued

    @property
    def usual_weight(self) -> float:
        """Weight of a source without errors, from the scatter of all images."""
        scatter = [i.rmse_px for i in self.result.images if i.num_fitted]
        return 2.0 / max(float(np.median(scatter)), LEAST_SCATTER_PX) ** 2 if scatter else 1.0

    def name(self, exposure: Exposure) -> str:
        """Return the name of an exposure."""
        return self.result.images[exposure.number].name


def fit_globally(
    start: GlobalStart,
    identified: dict[int, Identified],
    reserve: float,
    report: Callable[[float], object] | None,
) -> AlignmentResult:
    """Fit all images of a sequential alignment at once.

    `identified` are the known objects of items; `reserve` is the fraction of objects held out to
    test the fit.
    """
    result = start.result
    distortions = Distortions([], [None] * len(result.images))
    for _ in range(DISTORTION_ROUNDS if start.orders != (0, 1) else 0):
        fit = _Fit.of(start, identified, 0.0)
        if len(fit.detections.exposure) == 0 or not (
            fit.device.terms or any(fit.device.has_own_terms)
        ):
            break
        solved = fit.joint.solve(report, covariances=False)
        more = fit.distortions(solved)
        distortions = distortions.plus(more)
        fit.move(solved, more)
        # After a distortion is removed, other sources can match.
        identified = {}
    fit = _Fit.of(start, identified, reserve)
    d, known = fit.detections, fit.known
    if len(d.exposure) == 0:
        return replace(result, fit=fit.summary(None, (math.nan, 0), distortions))
    tested = bool(d.reserved.any())
    solved = fit.joint.solve(report, covariances=not tested)
    chi2, dof, counted = reserved_chi2(
        d, solved.weights, solved.residuals, solved.chi2_dof, start.model.parameters, solved.of_maps
    )
    reserved = (chi2 if known else chi2 / solved.chi2_dof), dof
    if tested:
        # The reserved objects have served as the test; the final maps use all objects.
        d.reserved[:] = False
        solved = fit.joint.solve(report, before=solved, more=counted)
    more = fit.distortions(solved)
    summary = fit.summary(solved, reserved, distortions.plus(more))
    moved = fit.move(solved, more)
    images = list(result.images)
    for e, exposure in enumerate(fit.exposures):
        images[exposure.number] = _apply(fit, e, moved[e], solved, summary)
    return replace(result, images=images, fit=summary)


@dataclass
class _Fit:
    """Input of one fit."""

    start: GlobalStart
    exposures: list[Exposure]
    detections: Detections
    device: Device
    degeneracies: list[Degeneracy]
    frozen: list[bool]
    known: bool

    @classmethod
    def of(cls, start: GlobalStart, identified: dict[int, Identified], reserve: float) -> _Fit:
        """Collect the detections of all objects with the current WCS of the images."""
        result, options, catalogued = start.result, start.options, start.catalogued
        items = zip(result.catalogs, result.images, strict=True)
        exposures = [
            exposure_of(
                number, item, start.before[number], identified.get(number), start.reference, options
            )
            for number, (item, image) in enumerate(items)
            if image.status != "failed"
        ]
        frozen = [
            catalogued == 0 and result.images[exposure.number].status == "reference"
            for exposure in exposures
        ]
        detections = collect(
            exposures, start.refcat, catalogued, reserve, start.model, start.usual_weight
        )
        found = degeneracies(exposures, result, catalogued)
        device = Device.of(exposures, detections, start.orders, options.fitgeom, catalogued)
        if start.orders[0] and len(detections.exposure):
            names = tuple(map(start.name, exposures))
            if catalogued == 0 and device.is_undithered(detections):
                found.append(Degeneracy(DegeneracyKind.UNDITHERED, names, UNDITHERED))
                orders = 0, start.orders[1]
                device = Device.of(exposures, detections, orders, options.fitgeom, catalogued)
            elif len(device.halves) == 1:
                found.append(Degeneracy(DegeneracyKind.ONE_DETECTOR, names, ONE_DETECTOR))
        device.has_own_terms = [
            b and not f for b, f in zip(device.has_own_terms, frozen, strict=False)
        ]
        straight = [e for e, b in enumerate(device.has_own_terms) if not (b or frozen[e])]
        found += [few_matches(start.name(exposures[e])) for e in straight]
        known = all(exposure.sources.weights is not None for exposure in exposures)
        return cls(start, exposures, detections, device, found, frozen, known)

    @property
    def joint(self) -> JointFit:
        """The equations of all images and objects."""
        model, options = self.start.model, self.start.options
        return JointFit(self.detections, self.device, self.frozen, self.known, model, options)

    def name(self, e: int) -> str:
        """Return the name of an exposure."""
        return self.start.name(self.exposures[e])

    def distortions(self, solved: Solved) -> Distortions:
        """Return the fitted distortions."""
        own: list[PolynomialDistortion | None] = [None] * len(self.start.result.images)
        for exposure, lens in zip(
            self.exposures, self.device.own_distortions(solved.own_terms), strict=True
        ):
            own[exposure.number] = lens
        return Distortions(self.device.distortions(solved.device), own)

    def move(self, solved: Solved, distortions: Distortions) -> list[list[Mapping]]:
        """Correct the images and return the new mappings of each exposure."""
        moved = []
        for e, exposure in enumerate(self.exposures):
            starts = list(exposure.mappings)
            lenses = distortions.of_image(exposure.number, len(starts))
            starts = [
                mapping if lens is None else mapping.distorted(lens)
                for mapping, lens in zip(starts, lenses, strict=True)
            ]
            if any(lenses) or self.start.result.images[exposure.number].status != "reference":
                starts = corrected(starts, starts[0], solved.matrices[e], solved.shifts[e])
            moved.append(starts)
            for image, mapping in zip(exposure.members, starts, strict=True):
                image._set(mapping, image.alignment)
        return moved

    def summary(
        self,
        solved: Solved | None,
        reserved: tuple[float, int],
        distortions: Distortions,
    ) -> GlobalFit:
        """Return the summary of the fit."""
        found = list(self.degeneracies)
        if solved is not None:
            found += [
                Degeneracy(
                    DegeneracyKind.UNDETERMINED,
                    (self.name(e),),
                    f"{self.name(e)}: its objects do not determine its map; "
                    "undetermined parameters keep their values",
                )
                for e in solved.undetermined
            ]
            if solved.undetermined_terms:
                found.append(
                    Degeneracy(
                        DegeneracyKind.UNDETERMINED,
                        tuple(self.name(e) for e in range(len(self.exposures))),
                        f"{len(solved.undetermined_terms)} terms of the shared distortion are not "
                        "determined; they keep their values",
                    )
                )
        return _summary(self, solved, reserved, found, distortions)


def _summary(
    fit: _Fit,
    solved: Solved | None,
    reserved: tuple[float, int],
    degeneracies: list[Degeneracy],
    distortions: Distortions,
) -> GlobalFit:
    d, known, exposures = fit.detections, fit.known, fit.exposures
    if solved is None:
        none = math.nan
        closure = closure_table(d, np.zeros((0, 2)), np.zeros(0, bool), exposures)
        return GlobalFit(
            0, 0, none, none, none, 0.0, degeneracies, closure, np.zeros((0, 2)), distortions.shared
        )
    kept = solved.kept
    share = solved.share[kept]
    unit = 1.0 if known else solved.chi2_dof
    with np.errstate(divide="ignore", invalid="ignore"):
        pulls = solved.residuals[kept] * np.sqrt(solved.weights[kept] / (share * unit))[:, None]
    return GlobalFit(
        num_objects=len(np.unique(d.object[kept])),
        num_detections=int(kept.sum()),
        rmse_px=float(np.sqrt((solved.residuals[kept] ** 2).sum(axis=1).mean())),
        chi2_dof=solved.chi2_dof if known else 1.0,
        reserved_chi2_dof=reserved[0],
        reserved_dof=reserved[1],
        floor_px=solved.floor,
        degeneracies=degeneracies,
        closure=closure_table(d, solved.residuals, kept, exposures),
        pulls=pulls[share > 1e-6],
        distortion=distortions.shared,
        exposure_distortion=distortions.own if fit.device.own else [],
        objects=_objects(fit, solved),
        chromatic=solved.chromatic,
    )


def _objects(fit: _Fit, solved: Solved) -> QTable:
    """Return the table of the objects that the fit used."""
    d = fit.detections
    counts = np.bincount(d.object[solved.kept], minlength=len(d.rows))
    used = np.flatnonzero(counts)
    unit = 1.0 if fit.known else solved.chi2_dof
    return object_table(
        fit.start.model, fit.start.refcat, d.rows[used], counts[used], solved.objects[used],
        solved.variances[used] * unit, d.scale,
    )  # fmt: skip


def _is_contradicted(summary: GlobalFit) -> bool:
    """Return whether χ² of the reserved objects differs from 1 more than chance explains."""
    low, high = RESERVED_CHI2
    chi2 = summary.reserved_chi2_dof
    if math.isnan(chi2) or low <= chi2 <= high:
        return False
    spread = math.sqrt(2.0 / summary.reserved_dof)
    return chi2 <= 0.0 or abs(math.log(chi2)) > RESERVED_SIGMAS * spread


def _about(covariance: Floats, center: Floats) -> Floats:
    """Return the covariance of shift and matrix at a centre, from that at the origin.

    Covariances with any further parameters are transformed too.
    """
    lever = np.eye(len(covariance))
    for k in range(2):
        lever[k, 2 + 2 * k : 4 + 2 * k] = center
    return np.asarray(lever @ covariance @ lever.T)


def _own_unit(solved: Solved, kept: NDArray[np.intp]) -> float:
    """Return χ² per degree of freedom of an exposure, at least that of all detections.

    The errors of an image with a larger scatter are scaled up accordingly.
    """
    freedom = 2.0 * float(solved.share[kept].sum())
    squares = float((solved.weights[kept] * (solved.residuals[kept] ** 2).sum(axis=1)).sum())
    return max(solved.chi2_dof, squares / freedom if freedom > 0 else 0.0)


def _apply(
    fit: _Fit,
    e: int,
    moved: list[Mapping],
    solved: Solved,
    summary: GlobalFit,
) -> ImageAlignment:
    """Set and return the result of an exposure whose images have new mappings."""
    d, exposure, refcat, known = fit.detections, fit.exposures[e], fit.start.refcat, fit.known
    alignment = fit.start.result.images[exposure.number]
    rows = d.rows_of[e]
    source = d.of_exposure[rows]
    sources = exposure.sources
    matches = Matches.of(
        exposure.members, refcat, sources.member[source], sources.row[source],
        d.rows[d.object[rows]], -solved.residuals[rows], solved.kept[rows],
    )  # fmt: skip
    kept = rows[solved.kept[rows]]
    squares = (solved.residuals[kept] ** 2).sum(axis=1)
    after = replace(
        alignment,
        num_matches=len(rows),
        num_fitted=len(kept),
        matched_fraction=alignment.matched_fraction * len(kept) / max(len(rows), 1),
        rmse_px=float(np.sqrt(squares.mean())) if len(kept) else math.nan,
        mae_px=float(np.sqrt(squares).mean()) if len(kept) else math.nan,
        std_px=float(np.sqrt((solved.residuals[kept].var(axis=0, ddof=1)).sum()))
        if len(kept) > 1
        else math.nan,
        chi2_dof=float((solved.weights[kept] * squares).sum() / (2 * solved.share[kept].sum()))
        if known and len(kept)
        else math.nan,
        matches=matches,
    )
    if alignment.status != "reference":
        after = total_correction(after, exposure.before[0], moved[0], sources)
    if len(solved.covariances):
        unit = 1.0 if known else _own_unit(solved, kept)
        covariance = _about(solved.covariances[e] * unit, after.center)
        own, corners = None, plane_corners(moved[0], sources)
        if fit.device.own and moved[0].shape is not None:
            own = fit.device.own_design(exposure, corner_pixels(moved[0].shape))
        error = corner_error(covariance, after.center, corners, own)
        after = replace(after, covariance=covariance[:6, :6], corner_error_px=error)
    if alignment.status != "reference":
        verdict, reason = verdict_of(after, fit.start.options)
        after = replace(after, verdict=verdict, reason=reason)
    if after.verdict == "good" and _is_contradicted(summary):
        after = replace(after, verdict="poor", reason=Reason.RESERVED_CONTRADICT)
    for image in exposure.members:
        image.alignment = after
    return after
