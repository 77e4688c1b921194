"""Faults of the image of a frame that does not solve, each tried by mending it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from boresight.extraction.extract import ExtractionResult, extract_centroids
from boresight.extraction.flags import CentroidFlags
from boresight.extraction.star_list import StarList
from boresight.extraction.stars import CentroidColumns
from boresight.solver.case import Case
from boresight.solver.findings import Finding
from boresight.solver.shapes import (
    LARGEST_RATIO,
    blur_of,
    crowded,
    is_negative,
    shape_of,
    stretch_of,
)
from boresight.solver.solution import Solution

#: Images are binned by these factors until the stars' images are small.
BINNINGS = (4, 8, 16)

#: Sides of a binned image below this are none.
SMALLEST_SIDE = 64

#: Stars wider than this may have to be binned, and where so many detections, as a share of the
#: stars, were left out for their width or length.
SMALL_FWHM_PX, WIDE_SHARE = 4.0, 0.3

#: Detections of a blurred star that fell apart are many: fewer of the brightest tell the same.
MOST_STARS = 300

#: Ratios of a pixel's sides that cameras have: video standards, binning in one axis.
COMMON_RATIOS = (2.0, 4 / 3, 16 / 15, 59 / 54, 10 / 11, 128 / 117, 1.5)

#: Others are tried in steps that the search tolerates.
RATIO_STEP = 0.012

#: Steps around the ratio that the header or the images of the stars tell.
NEAR_STEPS = 8

#: Rounds in which a ratio that is about right is made better.
RATIO_ROUNDS = 12
#: Pixels are square within this, or so many standard errors of their ratio; or if with another
#: ratio not so many times as many stars match.
SQUARE, STRETCH_SIGMAS, MANY_MORE = 0.003, 5.0, 1.2

#: Time bound for one ratio, ms, and stars with which it is tried.
RATIO_MS, RATIO_STARS = 150, 80

#: Fewer stars tell no ratio.
FEWEST_FOR_RATIO = 8

#: Stars have images as wide as the median, within this factor.
SAME_WIDTH = 1.5


def negative(case: Case) -> Finding | None:
    """Try the image as a negative: dark stars on a bright sky."""
    if case.pixels is None or case.extraction is None:
        return None
    if not is_negative(case.pixels, case.extraction):
        return None
    solution = _solve_image(case, -case.pixels)
    if solution is None:
        return None
    return Finding("negative", "the stars are dark; give image.max() - image", {}, solution)


def blurred(case: Case) -> Finding | None:
    """Bin the image, in which the stars are wide: out of focus or trailed."""
    pixels = case.pixels
    if pixels is None:
        return None
    for factor in BINNINGS:
        if min(pixels.shape) // factor < SMALLEST_SIDE or not case.time_left_ms():
            return None
        image = binned(pixels, factor)
        found = _extracted(image)
        solution = None if found is None else _solve_stars(case, found, image.shape)
        if found is None or solution is None:
            continue
        shape = shape_of(_matched(found, solution))
        if shape.is_trailed:
            text = (
                f"stars are trails, {factor * shape.length_px:.0f} pixels long; expose for a "
                f"shorter time or guide, or bin the image {factor} x {factor}, which solves"
            )
            return Finding("trailing", text, {}, solution)
        text = (
            f"stars are about {factor * max(shape.fwhm_px, 1.0):.0f} pixels wide; focus, or bin "
            f"the image {factor} x {factor}, which solves"
        )
        return Finding("defocus", text, {}, solution)
    return None


def common_ratios(case: Case) -> Finding | None:
    """Try pixels of a ratio that is common, or that the header or the stars tell."""
    return _non_square(case, _likely_ratios(case))


def any_ratio(case: Case) -> Finding | None:
    """Try pixels of any ratio."""
    steps = int(math.log(LARGEST_RATIO) / RATIO_STEP)
    others = (math.exp(sign * RATIO_STEP * step) for step in range(2, steps) for sign in (1, -1))
    return _non_square(case, others)


def _non_square(case: Case, ratios: Iterable[float]) -> Finding | None:
    """Solve with pixels of some ratios of the height to the width."""
    if len(case.stars) < FEWEST_FOR_RATIO:
        return None
    for ratio in ratios:
        if not case.time_left_ms():
            return None
        solution = _solve_stretched(case, ratio, RATIO_STARS)
        if solution is not None:
            return _of_ratio(*_better_ratio(case, ratio, solution))
    return None


def stretched(case: Case, solution: Solution) -> Finding | None:
    """Tell of pixels that are not square, of a frame that solves with the few stars that match."""
    ratio, error = stretch_of(solution)
    if abs(ratio - 1.0) < max(SQUARE, STRETCH_SIGMAS * error):
        return None
    ratio, better = _better_ratio(case, 1.0, solution)
    if better.num_matches < MANY_MORE * solution.num_matches:
        return None
    return _of_ratio(ratio, better)


def _better_ratio(case: Case, ratio: float, solution: Solution) -> tuple[float, Solution]:
    """Improve a ratio that is about right: the stars that match tell which way."""
    for _ in range(RATIO_ROUNDS):
        # They are those that are not far off: so they tell too little of it.
        for farther in (8, 4, 2, 1):
            tried = ratio * stretch_of(solution)[0] ** farther
            better = _solve_stretched(case, tried)
            if better is not None and _is_better(better, solution):
                ratio, solution = tried, better
                break
        else:
            break
    return ratio, solution


def _of_ratio(ratio: float, solution: Solution) -> Finding:
    text = (
        f"pixels are {1 / ratio:.3f} times as wide as high; resample the rows by {ratio:.3f}, "
        f"or give stars with y times {ratio:.3f} and that much of image_shape's height"
    )
    return Finding("non-square pixels", text, {}, solution)


def foreground(case: Case) -> Finding | None:
    """Leave out what may be trees, roofs and lamps among the stars."""
    stars = case.stars
    if case.extraction is None or len(stars) < FEWEST_FOR_RATIO:
        return None
    width = stars.fwhm / np.nanmedian(stars.fwhm)
    alike = (width < SAME_WIDTH) & (width > 1 / SAME_WIDTH)
    single = (np.asarray(stars.flags) & int(CentroidFlags.BLENDED)) == 0
    free = ~crowded(stars.xy, case.image_shape)
    tried = 0
    for kept in (alike & free, alike & single & free, free):
        if kept.all() or kept.sum() < FEWEST_FOR_RATIO or kept.sum() == tried:
            continue
        tried = int(kept.sum())
        covariance = case.rows["covariance"]
        rows = {
            "stars": np.ascontiguousarray(case.rows["stars"][kept]),
            "covariance": None if covariance is None else np.ascontiguousarray(covariance[kept]),
        }
        solution = case.solve(rows=rows)
        if solution is not None:
            text = (
                "bright things that are no stars, crowded in parts of the frame; cut them off, or "
                "give extraction={'mask': ...} that is True there: without them it solves"
            )
            return Finding("foreground", text, {}, solution)
    return None


def of_image(case: Case) -> Iterator[Callable[[Case], Finding | None]]:
    """Give the tries, those that the images of the stars speak for first."""
    yield negative
    found = case.extraction
    if found is None:
        return
    shape, left_out, blur = shape_of(case.stars), found.rejected, blur_of(found, case.stars)
    if shape.is_along_axes:
        yield common_ratios
    wide = left_out["extended"] + left_out["too_large"] + left_out["elongated"]
    if blur or shape.fwhm_px > SMALL_FWHM_PX or wide > WIDE_SHARE * len(case.stars):
        yield blurred
    if blur is None:
        yield foreground


def binned(pixels: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Means of squares of pixels, without those that have no value."""
    height, width = (side // factor for side in pixels.shape)
    cut = pixels[: height * factor, : width * factor]
    squares = cut.reshape(height, factor, width, factor)
    good = np.isfinite(squares)
    total = np.where(good, squares, 0.0).sum(axis=(1, 3), dtype=np.float64)
    number = good.sum(axis=(1, 3))
    means = np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)
    return np.asarray(means, dtype=np.float32)


def _matched(found: ExtractionResult, solution: Solution) -> CentroidColumns:
    """Only those stars that are of the catalogue."""
    stars: CentroidColumns = found.centroids[solution.matched_stars.centroids]
    return stars


def _extracted(image: NDArray[np.float32]) -> ExtractionResult | None:
    """Stars of an image that was mended, whatever their form."""
    if not np.isfinite(image).any():
        return None
    return extract_centroids(image, max_elongation=None, max_centroids=MOST_STARS)


def _solve_image(case: Case, image: NDArray[np.float32]) -> Solution | None:
    found = _extracted(image)
    return None if found is None else _solve_stars(case, found, image.shape)


def _solve_stars(case: Case, found: ExtractionResult, shape: tuple[int, ...]) -> Solution | None:
    """Solve with stars of an image of another scale."""
    rows = StarList.read(found).detections()
    if len(rows["stars"]) == 0:
        return None
    if shape == case.image_shape:
        return case.solve(rows=rows)
    return case.solve(rows=rows, **case.free((shape[0], shape[1])))


def _solve_stretched(case: Case, ratio: float, most: int | None = None) -> Solution | None:
    """Solve with y times the ratio, of so many of the brightest stars at most."""
    stars = case.rows["stars"] * (1.0, ratio, 1.0)
    order = np.argsort(-stars[:, 2], kind="stable")[:most]
    height, width = case.image_shape
    rows = {"stars": np.ascontiguousarray(stars[order]), "covariance": None}
    free = case.free((math.ceil(height * ratio), width))
    return case.solve(rows=rows, most_ms=RATIO_MS, **free)


def _is_better(solution: Solution, other: Solution) -> bool:
    """Whether it matches more stars, or as many more closely."""
    if solution.num_matches != other.num_matches:
        return solution.num_matches > other.num_matches
    return solution.rmse_arcsec < other.rmse_arcsec


def _likely_ratios(case: Case) -> Iterator[float]:
    """Ratios of a pixel's height to its width, the likeliest first."""
    told = [ratio for ratio in (case.found.hints.pixel_ratio, _shape_ratio(case)) if ratio]
    yield from (ratio for start in told for ratio in _around(start) if ratio != 1.0)
    for common in COMMON_RATIOS:
        yield from (common, 1 / common)


def _around(ratio: float) -> Iterator[float]:
    yield ratio
    for step in range(1, NEAR_STEPS + 1):
        yield from (ratio * math.exp(RATIO_STEP * step), ratio * math.exp(-RATIO_STEP * step))


def _shape_ratio(case: Case) -> float | None:
    """Ratio that would make the stars round, if they are longer along the rows or columns."""
    shape = shape_of(case.stars)
    return shape.width_over_height if shape.is_along_axes else None
