"""Solution of the equations of all images and objects, with clipping and an error floor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.statistics import error_floor
from boresight.alignment.detections import Detections
from boresight.alignment.device import Device
from boresight.alignment.objects import ObjectModel
from boresight.alignment.options import PARAMETERS, Options
from boresight.alignment.statistics import clipped_objects, placed

__all__ = ["JointFit", "Solved"]

Floats = NDArray[np.float64]

FEW_CHANGES = 1e-4
"""Clipping ends when at most this fraction of the detections changes."""

FLOOR_ROUNDS = 4
"""Maximum number of rounds that determine the error floor."""

SMALLEST_UNIT = 1e-300
"""Lower limit of χ² per degree of freedom, which avoids a division by 0."""


@dataclass
class Solved:
    """Result of the core, with the weights of the detections."""

    matrices: Floats
    shifts: Floats
    device: list[float]
    own_terms: Floats
    chromatic: Floats
    objects: Floats
    variances: Floats
    covariances: Floats
    residuals: Floats
    undetermined: list[int]
    undetermined_terms: list[int]
    weights: Floats
    kept: NDArray[np.bool_]
    out: NDArray[np.bool_]
    share: Floats
    floor: float
    spare: float
    chi2_dof: float
    of_maps: float


@dataclass(frozen=True)
class JointFit:
    """Detections and the model to fit; `known` tells whether the errors of detections are known."""

    detections: Detections
    device: Device
    frozen: list[bool]
    known: bool
    model: ObjectModel
    options: Options

    @property
    def free(self) -> int:
        """Number of free parameters of the maps and of the device."""
        of_map = PARAMETERS[self.options.fitgeom] + 2 * self.model.chromatic
        own = len(self.device.own) * sum(self.device.has_own_terms)
        return of_map * (len(self.frozen) - sum(self.frozen)) + len(self.device.terms) + own

    def solve(
        self,
        report: Callable[[float], object] | None,
        *,
        before: Solved | None = None,
        more: NDArray[np.bool_] | None = None,
        covariances: bool = True,
    ) -> Solved:
        """Solve with clipping of detections and objects, and determine the error floor.

        Each clipping round tests all detections again. The first round uses the detections that the
        solution `before` kept, and `more`; by default all detections.
        """
        d = self.detections
        taken = ~d.reserved[d.object] & (d.weight > 0)
        kept, out, floor = taken, np.zeros(len(d.rows), bool), 0.0
        if before is not None and more is not None:
            kept, out, floor = taken & (before.kept | more), before.out, before.floor
        rounds, settled = self.options.clipping["rounds"], False
        with np.errstate(divide="ignore"):
            variance = 1.0 / d.weight
        for round_ in range(rounds + 1 + FLOOR_ROUNDS * self.known):
            # The first round is rarely the last one, so it computes no covariances.
            first = round_ == 0 < rounds
            weights = 1.0 / (variance + floor**2)
            solved = self._solved(weights, (kept, out, floor), covariances and not first, report)
            square = weights * (solved.residuals**2).sum(axis=1)
            if solved.spare > 0 and not settled and round_ < rounds:
                was, kept, out = (kept, out), *self._clipped(solved, square, taken)
                # An object that is clipped or restored with all its detections counts as one
                # change.
                of_object = was[1] != out
                alone = (was[0] != kept) & ~of_object[d.object]
                changes = np.count_nonzero(of_object) + np.count_nonzero(alone)
                settled = bool(changes <= FEW_CHANGES * len(kept))
                if not settled:
                    continue
            if covariances and first:
                settled = True
                continue
            if not self.known or not solved.spare > 0:
                break
            new = error_floor(solved.residuals[kept], variance[kept], solved.spare)
            if abs(new - floor) <= 1e-4 * (new + floor):
                break
            floor = new
        return solved

    def _solved(
        self,
        weights: Floats,
        state: tuple[NDArray[np.bool_], NDArray[np.bool_], float],
        covariances: bool,
        report: Callable[[float], object] | None,
    ) -> Solved:
        """Solve once with the kept detections."""
        d, (kept, out, floor) = self.detections, state
        weight = float(np.median(weights[kept])) if kept.any() else 0.0
        values = {
            "detections": d.of_core, "weight": np.where(kept, weights, 0.0),
            "starts": d.starts, "priors": d.priors.ravel(), "frozen": self.frozen,
            "places": d.places, "geometry": self.options.fitgeom,
            "lever": max(float(np.abs(d.at).max()), 1.0), "device": self.device.values(weight),
            "motion": self.model.motion, "years": d.years, "parallax_factors": d.factors,
            "colors": d.colors, "covariances": covariances,
        }  # fmt: skip
        solution = core.solve_joint(values, report)
        residuals, share = solution["residuals"], solution["share"]
        if out.any():
            # The core leaves objects without weight at their expected positions: fit these, to test
            # them.
            there = placed(d, weights, residuals, out, self.model.parameters)
            residuals[there.detections], share[there.detections] = there.left, there.share
        spare = 2.0 * share[kept].sum() - self.free
        chi2 = float((weights[kept] * (residuals[kept] ** 2).sum(axis=1)).sum())
        return Solved(
            **solution, weights=weights, kept=kept, out=out, floor=floor, spare=spare,
            chi2_dof=chi2 / spare if spare > 0 else math.nan,
            of_maps=self.free / (spare + self.free) if spare > 0 else 0.0,
        )  # fmt: skip

    def _clipped(
        self, solved: Solved, square: Floats, taken: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return the detections to keep, and the objects to exclude with all their detections."""
        sigma, number, share = self.options.clipping["sigma"], self.detections.object, solved.share
        unit = max(solved.chi2_dof, SMALLEST_UNIT)
        # `square` is a sum over both axes, so its expectation is 2 units: hence the factor 2.
        kept = taken & (square < 2.0 * sigma**2 * unit * np.maximum(share, 0.05))
        out = clipped_objects(number, square / unit, share, kept, sigma)
        return kept & ~out[number], out
