"""Fits to known pairs of sources and stars, without a search."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.statistics import error_floor
from boresight.alignment.identified import Identified
from boresight.alignment.images import ImageCatalog
from boresight.alignment.mappings import Mapping
from boresight.alignment.options import PARAMETERS, Options
from boresight.alignment.reference import ReferenceCatalog
from boresight.alignment.result import of_members
from boresight.alignment.sources import Near, Sources, near_of
from boresight.errors import InputError, UndeterminedError

__all__ = [
    "LEAST_ERROR_PX",
    "Fitted",
    "combined",
    "match_custom",
    "match_known",
    "match_rows",
    "with_own_errors",
]

Floats = NDArray[np.float64]

ERROR_ROUNDS = 3
"""Rounds that determine the error of the sources, given the errors of the stars."""

LEAST_ERROR_PX = 1e-9
"""Lower limit of an error, in pixels, so that every weight is finite."""


@dataclass(frozen=True)
class Fitted:
    """Pairs of sources and stars with a fit; has the attributes of a registration of the core."""

    pairs: NDArray[np.int64]
    fit: Any
    ending: str
    log_odds: float = math.nan
    by_patterns: bool = False
    possible: int = 0
    missed: tuple[int, ...] = ()


def match_custom(
    matcher: Callable[..., Any],
    image: dict[str, Any],
    reference: dict[str, Any],
    options: Options,
) -> Fitted:
    """Fit the pairs that a user's matcher returns."""
    pairs = np.asarray(matcher(reference["points"], image["points"]))
    if pairs.size == 0:
        return Fitted(np.zeros((0, 2), np.int64), None, "too few")
    if pairs.ndim != 2 or 2 not in pairs.shape or pairs.dtype.kind not in "iu":
        raise InputError(
            f"match: it returned an array of shape {pairs.shape}; return two index arrays, of the "
            "reference and of the image"
        )
    of_reference, of_image = pairs if pairs.shape[0] == 2 else pairs.T
    both = np.column_stack([of_image, of_reference]).astype(np.int64)
    return _fitted(image, reference, both, options)


def match_rows(
    members: list[ImageCatalog],
    refcat: ReferenceCatalog,
    sources: Sources,
    near: Near,
    options: Options,
) -> Fitted:
    """Fit sources to the stars with the same row numbers."""
    first = np.cumsum([0, *(member.num_rows for member in members)])
    row = first[sources.member] + of_members([m.rows for m in members], sources.member, sources.row)
    _, i, j = np.intersect1d(row, refcat.rows[near.rows], return_indices=True)
    image = {"points": sources.plane, "weights": sources.weights}
    reference = {"points": near.plane, "weights": near.weights}
    return _fitted(image, reference, np.column_stack([i, j]).astype(np.int64), options)


def match_known(
    members: list[ImageCatalog],
    refcat: ReferenceCatalog,
    sources: Sources,
    plane: Mapping,
    identified: Identified,
    options: Options,
) -> tuple[Near, Fitted]:
    """Fit sources to their known objects."""
    i, objects = identified.among(sources, members)
    near = near_of(objects, refcat, plane)
    i = i[np.isin(objects, near.rows)]
    both = np.column_stack([i, np.arange(len(i))]).astype(np.int64)
    return near, _fitted(sources.values(), near.values(), both, options)


def _fitted(
    image: dict[str, Any], reference: dict[str, Any], both: NDArray[np.int64], options: Options
) -> Fitted:
    """Fit the given pairs."""
    of_image, of_reference = both.T
    if len(both) < options.minobj:
        return Fitted(both, None, "too few")
    weights = combined(
        None if image["weights"] is None else image["weights"][of_image],
        None if reference["weights"] is None else reference["weights"][of_reference],
    )
    try:
        fit = _fit(image["points"], reference["points"], both, weights, options)
    except UndeterminedError:
        return Fitted(both, None, "singular")
    return Fitted(both, fit, "fitted")


def _fit(
    sources: Floats,
    stars: Floats,
    pairs: NDArray[np.int64],
    weights: Floats | None,
    options: Options,
) -> Any:
    i, j = pairs.T
    at, wanted = np.ascontiguousarray(sources[i]), np.ascontiguousarray(stars[j])
    return core.fit_linear(at, wanted, weights, options.fitgeom, options.clipping)


def with_own_errors(
    sources: Sources, near: Near, found: Any, options: Options
) -> tuple[Near, Fitted]:
    """Fit pairs again with an unknown error of the sources that makes χ² per degree of freedom 1.

    Returns the stars with weights from the errors of star and source together. With the errors of
    the stars alone, the few best stars would have nearly all weight.
    """
    assert near.weights is not None, "errors of the stars are known"
    with np.errstate(divide="ignore"):
        variance = np.nan_to_num(1.0 / near.weights, nan=np.inf)
    weights, pairs = near.weights, found.pairs
    of_pair = variance[pairs[:, 1]]
    fit = _fit(sources.plane, near.plane, pairs, None, options)
    for _ in range(ERROR_ROUNDS):
        kept = np.asarray(fit.kept) & np.isfinite(of_pair)
        spare = 2.0 * np.count_nonzero(kept) - PARAMETERS[options.fitgeom]
        if spare <= 0:
            break
        floor = error_floor(np.asarray(fit.residuals)[kept], of_pair[kept], spare)
        weights = 1.0 / (variance + max(floor, LEAST_ERROR_PX) ** 2)
        fit = _fit(sources.plane, near.plane, pairs, weights[pairs[:, 1]], options)
    again = Fitted(
        pairs, fit, found.ending, found.log_odds, found.by_patterns, found.possible,
        tuple(found.missed),
    )  # fmt: skip
    return replace(near, weights=weights), again


def combined(a: Floats | None, b: Floats | None) -> Floats | None:
    """Return the weights of differences, for which the variances add."""
    if a is None or b is None:
        return b if a is None else a
    with np.errstate(divide="ignore"):
        return np.ascontiguousarray(1.0 / (1.0 / a + 1.0 / b))
