"""Alignment of one image, or one group, to a reference."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight.alignment.growing import GrowingReference
from boresight.alignment.identified import Identified
from boresight.alignment.images import ImageCatalog, ImageGroup
from boresight.alignment.mappings import Mapping
from boresight.alignment.options import LEAST_MATCHES, Options
from boresight.alignment.pairs import (
    combined,
    match_custom,
    match_known,
    match_rows,
    with_own_errors,
)
from boresight.alignment.reference import ReferenceCatalog
from boresight.alignment.result import ImageAlignment, Matches, Reason, Verdict
from boresight.alignment.sources import (
    Near,
    Sources,
    all_stars,
    near_of,
    pixel_scale,
    sources_of,
    stars_near,
)
from boresight.alignment.tangent import SolvedMapping
from boresight.errors import UndeterminedError

__all__ = [
    "about_origin",
    "align_to",
    "corner_error",
    "corrected",
    "difference",
    "follow",
    "matched",
    "plane_corners",
    "total_correction",
    "verdict_of",
]

Floats = NDArray[np.float64]

LEAST_FRACTION = 0.45
"""Smallest fraction of the possible matches for a good verdict. With fewer matches the verdict is
poor, because most sources lie elsewhere."""

LARGEST_RESIDUAL = 0.4
"""Largest rmse for a good verdict, as a fraction of the tolerance. Chance pairs give 0.71."""

LARGEST_CORNER_ERROR = 0.25
"""Largest uncertainty of a corner for a good verdict, as a fraction of the tolerance."""

LARGEST_CHI2 = 9.0
"""Largest χ² per degree of freedom for a good verdict. A larger value means that the weights are
wrong."""

LARGEST_SCALE = 1.25
"""Largest factor by which the scale may increase or decrease along any axis. Beyond the factor the
alignment has failed."""

SETTLED_PX = 1e-4
"""The rotation of a camera is repeated until the remaining shift is below this, in pixels."""

SETTLED_AT_PX = 1e4
"""Distance from the centre, in pixels, at which the remaining matrix may move a point by at most
`SETTLED_PX`."""

TURNS = 6
"""Maximum number of rotations of a camera."""

WIDER = 1.5
"""Factor on the search radius for rare objects, because the pixel scale varies over the image."""

ENDINGS = {
    "too few": Reason.TOO_FEW_MATCHES,
    "outside radius": Reason.OUTSIDE_SEARCH_RADIUS,
    "chance": Reason.CHANCE,
    "singular": Reason.SINGULAR,
}


def align_to(
    item: ImageCatalog | ImageGroup,
    name: str,
    reference: GrowingReference,
    options: Options,
    *,
    starts: list[Mapping] | None = None,
    identified: Identified | None = None,
) -> tuple[ImageAlignment, NDArray[np.int64]]:
    """Align an item to a reference, and correct the WCS of its members if it succeeds.

    The alignment starts from the current mappings of the members, or from `starts`. Sources in
    `identified` are not matched again. Also returns the rows of the reference stars that are
    missing among the sources.
    """
    members, refcat = item.members, reference.stars
    none = np.zeros(0, np.int64)
    starts = [member.mapping for member in members] if starts is None else starts
    plane = starts[0]
    sources = sources_of(members, plane, starts)
    if len(sources.plane) == 0:
        return ImageAlignment(name, "failed", Reason.NO_SOURCES), none
    near, found = matched(members, sources, reference, plane, options, identified=identified)
    reason = _failure(found, near, options)
    total = ImageAlignment(name, "failed", reason, num_sources=len(sources.plane))
    total = replace(total, num_matches=len(found.pairs), log_odds=found.log_odds)
    if reason is not Reason.ALIGNED:
        return total, none
    try:
        mappings = corrected(starts, plane, *about_origin(found.fit))
        if isinstance(plane, SolvedMapping):
            mappings = _settled(mappings, found, sources, near, refcat, options)
            # A linear shift of the first tangent plane misplaces distant stars, so match again
            # after the turn.
            sources = sources_of(members, mappings[0], mappings)
            there = replace(options, offset=(0.0, 0.0))
            near_again, found_again = matched(
                members,
                sources,
                reference,
                mappings[0],
                there,
                start="given",
                identified=identified,
            )
            if found_again.fit is not None:
                near, found = near_again, found_again
            mappings = _settled(mappings, found, sources, near, refcat, options)
    except (UndeterminedError, np.linalg.LinAlgError):
        return replace(total, reason=Reason.WCS_CANNOT_FOLLOW), none
    total = _with_fit(total, found, sources, near, refcat, members, options)
    total = replace(total, num_matches=len(found.pairs))
    if isinstance(plane, SolvedMapping):
        total = total_correction(total, plane, mappings[0], sources)
    if total.status == "success":
        for member, mapping in zip(members, mappings, strict=True):
            member._set(mapping, total)
    return total, near.rows[np.asarray(found.missed, np.int64)]


def matched(
    members: list[ImageCatalog],
    sources: Sources,
    reference: GrowingReference,
    plane: Mapping,
    options: Options,
    start: str | None = None,
    identified: Identified | None = None,
) -> tuple[Near, Any]:
    """Return the candidate stars for the sources, and the pairs with a fit to them."""
    if identified is not None:
        near, found = match_known(members, reference.stars, sources, plane, identified, options)
    elif options.match is None:
        near = all_stars(reference.stars, plane)
        found = match_rows(members, reference.stars, sources, near, options)
    else:
        near, found = _match_usual(members, sources, reference, plane, options, start)
        if found.fit is not None and reference.has_rare():
            near, found = _join_rare(sources, reference, plane, options, near, found)
    alone = sources.weights is None and reference.stars.sigma is not None
    if found.fit is None or not alone or reference.stars.weights is not None:
        return near, found
    return with_own_errors(sources, near, found, options)


def _match_usual(
    members: list[ImageCatalog],
    sources: Sources,
    reference: GrowingReference,
    plane: Mapping,
    options: Options,
    start: str | None,
) -> tuple[Near, Any]:
    """Match sources with the nearby stars that are not rare."""
    if start is not None or options.match == "auto":
        # Patterns need many more stars than a known start, and most images do not need patterns.
        nearby = options if start is not None else replace(options, match="histogram")
        near = stars_near(members, sources, reference, plane, options, wide=False)
        found = _match_sources(sources, near, nearby, start)
        if start is not None or found.clear:
            return near, found
    wide = options.match in ("auto", "pattern")
    near = stars_near(members, sources, reference, plane, options, wide=wide)
    return near, _match_sources(sources, near, options, start)


def _match_sources(sources: Sources, near: Near, options: Options, start: str | None) -> Any:
    """Match the sources with the nearby stars and fit them."""
    image, reference = sources.values(), near.values()
    if callable(options.match):
        return match_custom(options.match, image, reference, options)
    return core.register(image, reference, options.core(start=start))


def _join_rare(
    sources: Sources,
    reference: GrowingReference,
    plane: Mapping,
    options: Options,
    near: Near,
    found: Any,
) -> tuple[Near, Any]:
    """Add rare objects to the stars, and pair them with the sources that are still free."""
    free = np.ones(len(sources.plane), bool)
    free[found.pairs[:, 0]] = False
    matrix, shift = about_origin(found.fit)
    places = plane.plane_to_sky(sources.plane[free] @ matrix.T + shift)
    angle = WIDER * options.tolerance * pixel_scale(plane)
    more = near_of(reference.rare(places, angle), reference.stars, plane)
    if len(more.rows) == 0:
        return near, found
    both = near.with_more(more)
    first = len(near.rows)
    return both, core.join(found, sources.values(), both.values(), first, options.core())


def _failure(found: Any, near: Near, options: Options) -> Reason:
    if found.ending != "fitted":
        return Reason.NO_OVERLAP if near.inside == 0 else ENDINGS[found.ending]
    if options.match is None:
        return Reason.ALIGNED
    scales = np.linalg.svd(np.array(found.fit.matrix), compute_uv=False)
    if scales.max() > LARGEST_SCALE or scales.min() < 1.0 / LARGEST_SCALE:
        return Reason.UNEXPECTED_SCALE
    return Reason.ALIGNED


def corrected(
    starts: list[Mapping], plane: Mapping, matrix: Floats, shift: Floats
) -> list[Mapping]:
    """Return the mappings of all members after a correction in the plane of the first member."""
    return [
        mapping.corrected(matrix, shift)
        if mapping is plane
        else follow(mapping, plane, matrix, shift)
        for mapping in starts
    ]


def about_origin(fit: Any) -> tuple[Floats, Floats]:
    """Return the matrix of a fit, and the shift at the origin of the plane."""
    matrix, center = np.array(fit.matrix), np.array(fit.center)
    return matrix, np.array(fit.shift) + center - matrix @ center


def follow(mapping: Mapping, plane: Mapping, matrix: Floats, shift: Floats) -> Mapping:
    """Return a mapping with the linear correction that best follows one made in another plane."""
    pixels = _grid(mapping)
    wanted = plane.plane_to_sky(plane.sky_to_plane(mapping.to_sky(pixels)) @ matrix.T + shift)
    return mapping.corrected(*_linear(mapping, pixels, wanted))


def difference(before: Mapping, after: Mapping) -> tuple[Floats, Floats]:
    """Return the linear correction of one mapping that comes nearest to another mapping."""
    pixels = _grid(before)
    return _linear(before, pixels, after.to_sky(pixels))


def _grid(mapping: Mapping) -> Floats:
    """Return a grid of pixels over an image, corners included."""
    height, width = mapping.shape or (1000, 1000)
    x, y = np.meshgrid(np.linspace(0, width - 1, 5), np.linspace(0, height - 1, 5))
    return np.column_stack([x.ravel(), y.ravel()])


def _linear(mapping: Mapping, pixels: Floats, sky: Floats) -> tuple[Floats, Floats]:
    """Fit the matrix and shift, in the plane of a mapping, that move pixels to directions."""
    own = mapping.to_plane(pixels)
    design = np.column_stack([own, np.ones(len(own))])
    terms = np.linalg.lstsq(design, mapping.sky_to_plane(sky), rcond=None)[0]
    return np.asarray(terms[:2].T, np.float64), np.asarray(terms[2], np.float64)


def _settled(
    mappings: list[Mapping],
    found: Any,
    sources: Sources,
    near: Near,
    refcat: ReferenceCatalog,
    options: Options,
) -> list[Mapping]:
    """Rotate a camera, and with it its tangent plane, until its stars need no further shift."""
    i, j = found.pairs.T
    kept = np.asarray(found.fit.kept)
    weights = combined(
        None if sources.weights is None else sources.weights[i],
        None if near.weights is None else near.weights[j],
    )
    star = refcat.sky[near.rows[j]]
    geometry = "rscale" if options.fitgeom == "general" else options.fitgeom
    for _ in range(TURNS):
        plane = mappings[0]
        at = np.empty((len(i), 2))
        for number, mapping in enumerate(mappings):
            mine = sources.member[i] == number
            at[mine] = plane.sky_to_plane(mapping.to_sky(sources.pixels[i][mine]))
        fit = core.fit_linear(
            np.ascontiguousarray(at[kept]),
            np.ascontiguousarray(plane.sky_to_plane(star)[kept]),
            None if weights is None else np.ascontiguousarray(weights[kept]),
            geometry,
            {**options.clipping, "rounds": 0},
        )
        turn = float(np.abs(np.array(fit.matrix) - np.eye(2)).max())
        if max(math.hypot(*fit.shift), turn * SETTLED_AT_PX) < SETTLED_PX:
            break
        mappings = corrected(mappings, plane, *about_origin(fit))
    return mappings


def _with_fit(
    total: ImageAlignment,
    found: Any,
    sources: Sources,
    near: Near,
    refcat: ReferenceCatalog,
    members: list[ImageCatalog],
    options: Options,
) -> ImageAlignment:
    """Return the alignment with the numbers of a successful fit and the verdict."""
    fit = found.fit
    i, j = found.pairs.T
    matrix, shift, center = np.array(fit.matrix), np.array(fit.shift), np.array(fit.center)
    matches = Matches.of(
        members, refcat, sources.member[i], sources.row[i], near.rows[j],
        np.asarray(fit.residuals), np.asarray(fit.kept),
    )  # fmt: skip
    corners = plane_corners(members[0].mapping, sources)
    # If only the errors of the stars are known, those of the sources were chosen to make χ² 1.
    known = sources.weights is not None or refcat.weights is not None
    total = replace(
        total,
        status="success",
        num_fitted=int(matches.kept.sum()),
        rmse_px=fit.rmse,
        mae_px=fit.mae,
        std_px=fit.std,
        shift=shift,
        matrix=matrix,
        center=center,
        covariance=np.asarray(fit.covariance),
        chi2_dof=fit.chi2_dof if known else math.nan,
        corner_error_px=corner_error(np.asarray(fit.covariance), center, corners),
        matched_fraction=_fraction(len(i), found.possible),
        by_patterns=found.by_patterns,
        matches=matches,
    )
    verdict, reason = verdict_of(total, options)
    return replace(total, verdict=verdict, reason=reason)


def total_correction(
    alignment: ImageAlignment, before: Mapping, after: Mapping, sources: Sources
) -> ImageAlignment:
    """Set the matrix and shift to those from the given WCS to the fitted WCS."""
    pixels = sources.pixels[sources.member == 0]
    if len(pixels) < LEAST_MATCHES["general"]:
        return alignment
    start, end = before.to_plane(pixels), before.sky_to_plane(after.to_sky(pixels))
    clipping = {"rounds": 0, "sigma": 3.0, "statistic": "rmse", "least_pairs": 3}
    fit = core.fit_linear(
        np.ascontiguousarray(start), np.ascontiguousarray(end), None, "general", clipping
    )
    return replace(
        alignment,
        matrix=np.array(fit.matrix),
        shift=np.array(fit.shift),
        center=np.array(fit.center),
    )


def _fraction(matched: int, possible: int) -> float:
    return matched / possible if possible else math.nan


def corner_error(
    covariance: Floats, center: Floats, corners: Floats, own: Floats | None = None
) -> float:
    """Return the largest standard deviation, both axes together, of a fit at some corners.

    `own` are the displacements (n, 2, terms) of the corners by the other terms of the fit, which
    follow the linear map.

    NaN if the covariance is unknown, because there are no more matches than parameters.
    """
    if not np.isfinite(covariance).all():
        return math.nan
    worst = 0.0
    for k, (x, y) in enumerate(corners - center):
        design = np.array([[1, 0, x, y, 0, 0], [0, 1, 0, 0, x, y]], dtype=float)
        if own is not None:
            design = np.hstack([design, own[k]])
        worst = max(worst, float(np.trace(design @ covariance @ design.T)))
    return math.sqrt(worst)


def corner_pixels(shape: tuple[int, int]) -> Floats:
    """Return the corner pixels of an image."""
    height, width = shape
    return np.array([[0.0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]])


def plane_corners(plane: Mapping, sources: Sources) -> Floats:
    """Return the corners, in the plane, of the first image or of the sources' rectangle."""
    if plane.shape is not None:
        return plane.to_plane(corner_pixels(plane.shape))
    x, y = sources.plane.T
    low, high = (x.min(), y.min()), (x.max(), y.max())
    return np.array([low, (high[0], low[1]), high, (low[0], high[1])])


def verdict_of(total: ImageAlignment, options: Options) -> tuple[Verdict, Reason]:
    """Return the verdict on a successful alignment, from its numbers."""
    if total.matched_fraction < LEAST_FRACTION:
        return "poor", Reason.FEW_MATCHED
    if total.rmse_px > LARGEST_RESIDUAL * options.tolerance:
        return "poor", Reason.LARGE_RESIDUALS
    if total.chi2_dof > LARGEST_CHI2:
        return "poor", Reason.WEIGHTS_CONTRADICTED
    if not total.corner_error_px <= LARGEST_CORNER_ERROR * options.tolerance:
        return "poor", Reason.UNCERTAIN_CORNERS
    return "good", Reason.ALIGNED
