"""Tries to correct faults of the image of a frame that does not solve."""

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

#: Binning factors, tried in this order until the frame solves.
BINNINGS = (4, 8, 16)

#: Smallest side of a binned image, pixels; stronger binning is not tried.
SMALLEST_SIDE = 64

#: Binning is tried if stars are wider than this, in pixels, or if this many detections, as a
#: fraction of the number of stars, were rejected for their width or length.
SMALL_FWHM_PX, WIDE_SHARE = 4.0, 0.3

#: Largest number of stars taken from a corrected image. A blurred star may break up into many
#: detections; the brightest ones are sufficient.
MOST_STARS = 300

#: Common ratios of the sides of a pixel: video standards, binning in one axis.
COMMON_RATIOS = (2.0, 4 / 3, 16 / 15, 59 / 54, 10 / 11, 128 / 117, 1.5)

#: Step between other ratios that are tried, in the logarithm; the search tolerates such an error.
RATIO_STEP = 0.012

#: Number of steps tried on either side of a ratio given by the header or the shapes of the stars.
NEAR_STEPS = 8

#: Largest number of rounds in which an approximate ratio is refined.
RATIO_ROUNDS = 12
#: Pixels count as square if their ratio differs from 1 by less than `SQUARE` or `STRETCH_SIGMAS`
#: standard errors, or if no other ratio matches `MANY_MORE` times as many stars.
SQUARE, STRETCH_SIGMAS, MANY_MORE = 0.003, 5.0, 1.2

#: Time limit for one ratio, ms, and number of stars with which it is tried.
RATIO_MS, RATIO_STARS = 150, 80

#: Least number of stars with which ratios, or parts of the list, are tried.
FEWEST_FOR_RATIO = 8

#: Largest factor between the width of a star's image and the median width.
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
    return Finding(
        "negative", "the stars are darker than the sky; give image.max() - image", {}, solution
    )


def blurred(case: Case) -> Finding | None:
    """Try the binned image, for stars that are wide: out of focus or trailed."""
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
    """Try non-square pixels of the likely ratios: common ones, and those of header and stars."""
    return _non_square(case, _likely_ratios(case))


def any_ratio(case: Case) -> Finding | None:
    """Try non-square pixels of any ratio."""
    steps = int(math.log(LARGEST_RATIO) / RATIO_STEP)
    others = (math.exp(sign * RATIO_STEP * step) for step in range(2, steps) for sign in (1, -1))
    return _non_square(case, others)


def _non_square(case: Case, ratios: Iterable[float]) -> Finding | None:
    """Solve with pixels of these ratios of height to width, until one succeeds."""
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
    """Report non-square pixels of a frame that solves, but with too few of its stars."""
    ratio, error = stretch_of(solution)
    if abs(ratio - 1.0) < max(SQUARE, STRETCH_SIGMAS * error):
        return None
    ratio, better = _better_ratio(case, 1.0, solution)
    if better.num_matches < MANY_MORE * solution.num_matches:
        return None
    return _of_ratio(ratio, better)


def _better_ratio(case: Case, ratio: float, solution: Solution) -> tuple[float, Solution]:
    """Refine an approximate ratio from the positions of the matched stars."""
    for _ in range(RATIO_ROUNDS):
        # Only stars with small residuals match, so they underestimate the stretch: larger steps are
        # tried first.
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
    """Try without the detections that may be trees, roofs or lamps."""
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
    """Yield the tries that the image and the shapes of its stars suggest."""
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
    """Bin an image by means over squares of pixels, ignoring pixels without a value."""
    height, width = (side // factor for side in pixels.shape)
    cut = pixels[: height * factor, : width * factor]
    squares = cut.reshape(height, factor, width, factor)
    good = np.isfinite(squares)
    total = np.where(good, squares, 0.0).sum(axis=(1, 3), dtype=np.float64)
    number = good.sum(axis=(1, 3))
    means = np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)
    return np.asarray(means, dtype=np.float32)


def _matched(found: ExtractionResult, solution: Solution) -> CentroidColumns:
    """Return the stars that match the catalogue."""
    stars: CentroidColumns = found.centroids[solution.matched_stars.centroids]
    return stars


def _extracted(image: NDArray[np.float32]) -> ExtractionResult | None:
    """Extract the stars of a corrected image, whatever their elongation."""
    if not np.isfinite(image).any():
        return None
    return extract_centroids(image, max_elongation=None, max_centroids=MOST_STARS)


def _solve_image(case: Case, image: NDArray[np.float32]) -> Solution | None:
    found = _extracted(image)
    return None if found is None else _solve_stars(case, found, image.shape)


def _solve_stars(case: Case, found: ExtractionResult, shape: tuple[int, ...]) -> Solution | None:
    """Solve with the stars of a corrected image, which may have another scale."""
    rows = StarList.read(found).detections()
    if len(rows["stars"]) == 0:
        return None
    if shape == case.image_shape:
        return case.solve(rows=rows)
    return case.solve(rows=rows, **case.free((shape[0], shape[1])))


def _solve_stretched(case: Case, ratio: float, most: int | None = None) -> Solution | None:
    """Solve with y multiplied by the ratio, with at most `most` of the brightest stars."""
    stars = case.rows["stars"] * (1.0, ratio, 1.0)
    order = np.argsort(-stars[:, 2], kind="stable")[:most]
    height, width = case.image_shape
    rows = {"stars": np.ascontiguousarray(stars[order]), "covariance": None}
    free = case.free((math.ceil(height * ratio), width))
    return case.solve(rows=rows, most_ms=RATIO_MS, **free)


def _is_better(solution: Solution, other: Solution) -> bool:
    """Whether a solution matches more stars than another, or as many with smaller residuals."""
    if solution.num_matches != other.num_matches:
        return solution.num_matches > other.num_matches
    return solution.rmse_arcsec < other.rmse_arcsec


def _likely_ratios(case: Case) -> Iterator[float]:
    """Ratios of a pixel's height to its width, the likeliest first."""
    ratios = [ratio for ratio in (case.found.hints.pixel_ratio, _shape_ratio(case)) if ratio]
    yield from (ratio for start in ratios for ratio in _around(start) if ratio != 1.0)
    for common in COMMON_RATIOS:
        yield from (common, 1 / common)


def _around(ratio: float) -> Iterator[float]:
    yield ratio
    for step in range(1, NEAR_STEPS + 1):
        yield from (ratio * math.exp(RATIO_STEP * step), ratio * math.exp(-RATIO_STEP * step))


def _shape_ratio(case: Case) -> float | None:
    """Pixel ratio that would make the stars round, if they are elongated along rows or columns."""
    shape = shape_of(case.stars)
    return shape.width_over_height if shape.is_along_axes else None
