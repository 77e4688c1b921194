"""Numbers that tell how good a global fit is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight.alignment.detections import Detections, Exposure

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["closure_table", "reserved_chi2"]

Floats = NDArray[np.float64]


def _normal(d: Detections, weights: Floats, bases: Floats) -> Floats:
    """Equations of each object by its own detections and its prior."""
    n = bases.shape[2]
    squares = bases.transpose(0, 2, 1) @ (weights[:, None, None] * bases)
    # Detections of an object stand together.
    normal = np.add.reduceat(squares, d.starts[:-1].astype(np.int64), axis=0)
    normal[:, range(n), range(n)] += d.all_priors(n)
    return normal


def reserved_chi2(
    d: Detections,
    weighted: Floats,
    start: Floats,
    chi2_dof: float,
    parameters: int,
    of_maps: float,
) -> tuple[float, int, NDArray[np.bool_]]:
    """Squares per degree of freedom of the reserved objects, each at its own best place, and these.

    `start` are the residuals of where they are expected: the core places no object without weight.
    `of_maps` is the number of parameters of the maps for each degree of freedom of the fit. The
    errors of the maps add to the squares of the reserved objects, which are spread as the others
    are, what they have taken from those. Also which detections were counted.
    """
    mine = d.reserved[d.object] & (d.weight > 0)
    if not mine.any():
        return math.nan, 0, mine
    weights = np.where(mine, weighted, 0.0)
    bases, priors = d.bases(parameters), d.all_priors(parameters)
    normal = _normal(d, weights, bases)
    place = np.zeros((len(d.rows), parameters))
    np.add.at(place, d.object, weights[:, None] * np.einsum("nki,nk->ni", bases, start))
    rows = np.flatnonzero(d.reserved & (np.linalg.det(normal) > 0))
    b = np.zeros_like(place)
    b[rows] = np.linalg.solve(normal[rows], place[rows][:, :, None])[:, :, 0]
    left = start - np.einsum("nij,nj->ni", bases, b[d.object])
    square = weights * (left**2).sum(axis=1)
    prior = (priors[rows] * b[rows] ** 2).sum()
    # A detection far outside is no measure of the maps: as in the fit it does not count.
    limit = 2.0 * 9.0 * max(chi2_dof, 1e-300)
    good = mine & (square < limit)
    known = int((priors[rows] > 0).sum())
    count = 2 * int(good.sum()) - parameters * len(rows) + known
    if count <= 0:
        return math.nan, 0, good
    return float((square[good].sum() + prior) / (count * (1.0 + of_maps))), count, good


def closure_table(
    d: Detections, residuals: Floats, kept: NDArray[np.bool_], exposures: list[Exposure]
) -> Table:
    """Mean differences that are left between each two images, by the objects that both have."""
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
