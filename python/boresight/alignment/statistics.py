"""Quality statistics of a global fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight.alignment.detections import Detections, Exposure

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["clipped_objects", "closure_table", "placed", "reserved_chi2"]

Floats = NDArray[np.float64]

RESERVED_SIGMA = 3.0
"""Clipping limit of reserved detections and objects, in standard deviations."""

SMALLEST = 1e-300
"""Smallest probability that is used, far beyond 20 sigma. It avoids a quantile of 0."""


@dataclass(frozen=True)
class Placed:
    """Some objects, each at its best-fit position, and their detections.

    `moved` are the displacements of the objects, NaN if undetermined. `left` are the residuals of
    the detections. `share` is, per detection, the fraction of its own variance that remains in its
    residual.
    """

    objects: NDArray[np.intp]
    moved: Floats
    detections: NDArray[np.intp]
    number: NDArray[np.intp]
    left: Floats
    share: Floats


def placed(
    d: Detections, weights: Floats, start: Floats, of: NDArray[np.bool_], parameters: int
) -> Placed:
    """Fit positions of objects to all their detections; the core skips detections of weight 0.

    `start` are the residuals relative to the expected positions.
    """
    objects, detections = np.flatnonzero(of), np.flatnonzero(of[d.object])
    starts = d.starts.astype(np.int64)
    counts = (starts[1:] - starts[:-1])[objects]
    number = np.repeat(np.arange(len(objects)), counts)
    w, bases = weights[detections], d.bases(parameters, detections)

    def of_objects(values: Floats) -> Floats:
        # Detections of an object are contiguous.
        return np.asarray(np.add.reduceat(values, np.cumsum(counts) - counts, axis=0))

    normal = of_objects(bases.transpose(0, 2, 1) @ (w[:, None, None] * bases))
    normal += d.priors[objects]
    right = of_objects(w[:, None] * np.einsum("nki,nk->ni", bases, start[detections]))
    inverse = np.full_like(normal, np.nan)
    known = np.linalg.det(normal) > 0
    inverse[known] = np.linalg.inv(normal[known])
    moved = np.einsum("nij,nj->ni", inverse, right)
    gain = np.einsum("nki,nij->nkj", bases, inverse[number])
    return Placed(
        objects, moved, detections, number,
        left=start[detections] - np.einsum("nki,ni->nk", bases, moved[number]),
        share=1.0 - w * np.einsum("nki,nki->n", gain, bases) / 2.0,
    )  # fmt: skip


def clipped_objects(
    number: NDArray[Any], square: Floats, share: Floats, counted: NDArray[np.bool_], sigma: float
) -> NDArray[np.bool_]:
    """Find objects whose detections together exceed the clipping limit.

    `number` are the objects of the detections, ascending from 0. `square` are weighted squares in
    units of χ² per degree of freedom. `share` are the degrees of freedom per axis. χ² is converted
    to a normal deviate with the approximation of Wilson & Hilferty (1931, PNAS 17, 684).
    """
    objects = int(number[-1]) + 1 if len(number) else 0
    chi2 = np.bincount(number, np.where(counted, square, 0.0), objects)
    freedom = 2.0 * np.bincount(number, np.where(counted, share, 0.0), objects)
    known = freedom >= 1.0
    freedom = np.where(known, freedom, 1.0)
    spread = 2.0 / (9.0 * freedom)
    # An object is clipped by chance as often as a single detection with a residual beyond sigma.
    limit = -NormalDist().inv_cdf(min(max(math.exp(-(sigma**2)), SMALLEST), 0.5))
    clipped: NDArray[np.bool_] = np.cbrt(chi2 / freedom) > 1.0 - spread + limit * np.sqrt(spread)
    return clipped & known


def reserved_chi2(
    d: Detections,
    weighted: Floats,
    start: Floats,
    chi2_dof: float,
    parameters: int,
    of_maps: float,
) -> tuple[float, int, NDArray[np.bool_]]:
    """Compute χ² per degree of freedom of the reserved objects, each at its best-fit position.

    `start` are the residuals relative to the expected positions.
    `of_maps` is the number of parameters of the maps per degree of freedom of the fit. Errors of
    the maps increase the residuals of the reserved objects by the amount that the fit has removed
    from those of the fitted objects, because both are distributed alike over the images. Also
    returns the degrees of freedom and which detections were counted.
    """
    mine = d.reserved[d.object] & (d.weight > 0)
    if not mine.any():
        return math.nan, 0, mine
    there = placed(d, weighted, start, d.reserved, parameters)
    unit = max(chi2_dof, SMALLEST)
    square = weighted[there.detections] * (there.left**2).sum(axis=1)
    # Outliers do not measure the quality of the maps: as in the fit, they are excluded.
    near = mine[there.detections] & (square < 2.0 * RESERVED_SIGMA**2 * unit)
    spread = square / (unit * (1.0 + of_maps))
    out = clipped_objects(there.number, spread, there.share, near, RESERVED_SIGMA)
    near &= ~out[there.number]
    counts = np.isfinite(there.moved).all(axis=1) & ~out
    priors, moved = d.priors[there.objects[counts]], there.moved[counts]
    known = np.diagonal(priors, axis1=1, axis2=2) > 0
    count = 2 * int(near.sum()) - parameters * len(priors) + int(known.sum())
    good = np.zeros(len(mine), bool)
    good[there.detections[near]] = True
    if count <= 0:
        return math.nan, 0, good
    total = square[near].sum() + np.einsum("ni,nij,nj->", moved, priors, moved)
    return float(total / (count * (1.0 + of_maps))), count, good


def closure_table(
    d: Detections, residuals: Floats, kept: NDArray[np.bool_], exposures: list[Exposure]
) -> Table:
    """Return the mean remaining difference of each pair of images, over their common objects."""
    from astropy.table import Table

    pairs, counts, means, errors = core.closure_of(
        len(exposures), d.exposure, d.starts, residuals, kept
    )
    numbers = np.array([exposure.number for exposure in exposures], dtype=np.int64)
    return Table(
        {
            "a": numbers[pairs[:, 0]],
            "b": numbers[pairs[:, 1]],
            "num_objects": counts,
            "dx": means[:, 0],
            "dy": means[:, 1],
            "error": errors,
        },
        units={"dx": "pix", "dy": "pix", "error": "pix"},
    )
