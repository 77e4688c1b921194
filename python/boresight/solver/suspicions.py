"""Suspects faults of a frame from the shapes and number of its stars, and from its header."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from boresight.extraction.extract import ExtractionResult
from boresight.extraction.flags import CentroidFlags
from boresight.extraction.stars import CentroidColumns
from boresight.frames.hints import HeaderHints
from boresight.solver.findings import Finding, RejectedCandidate
from boresight.solver.shapes import (
    TILES,
    blur_of,
    counts,
    crowded,
    is_negative,
    is_noise,
    shape_of,
)
from boresight.solver.solution import Solution

#: Fewer stars than this are a sufficient reason: a few false ones among them hide the others.
FEW_STARS = 10

#: If more than this fraction of the pixels have the highest value, the frame is saturated: stars
#: seldom fill so much.
SATURATED_SHARE = 0.02
#: Number of brightest stars that are tested for saturation, and least number for the test (the
#: stars of a pattern). More than half saturated is too many.
BRIGHTEST, FEWEST_BRIGHTEST = 20, 4

#: Hot pixels above this fraction of the frame hide stars.
HOT_SHARE = 0.002

#: A tile with less than this fraction of the mean number of stars per tile is empty. At least this
#: many empty tiles are a cloud or a foreground.
EMPTY_SHARE, FEWEST_EMPTY = 0.15, 5
#: If the mean number of stars per tile is below this, tiles may be empty by chance.
FEWEST_PER_TILE = 3.0
#: Least difference between the sky of empty and other tiles, in standard deviations of a pixel.
OTHER_SKY_SIGMAS = 1.0

#: If more than this fraction of the detections is in crowded tiles, they are a foreground.
CROWDED_SHARE = 0.3

#: A rejected candidate is reported if its probability of chance is below this.
NEARLY_ACCEPTED = 0.01

#: Largest errors of a correct WCS in a header: of the position as a fraction of the field, of the
#: rotation, and relative error of the scale.
WCS_OFF_SHARE, WCS_TURN_DEG, WCS_SCALE = 0.02, 1.0, 0.02
#: Largest relative error of the field of view by a nominal focal length.
SCALE_OFF = 0.2


def of_image(
    pixels: NDArray[np.float32] | None, found: ExtractionResult | None, stars: CentroidColumns
) -> Iterator[Finding]:
    """Yield suspicions from the pixels and the shapes of the stars."""
    if pixels is not None:
        yield from _levels(pixels, found)
    if found is not None:
        yield from _false_detections(found, stars)
        yield from _widths(found, stars)
        yield from _parts(found, stars)


def _levels(pixels: NDArray[np.float32], found: ExtractionResult | None) -> Iterator[Finding]:
    """Report frames of one value, saturated pixels, and negatives."""
    low, high = float(np.nanmin(pixels)), float(np.nanmax(pixels))
    if low == high:
        yield Finding(
            "blank", f"all pixels are {low:g}: the frame was not exposed, or it is saturated"
        )
        return
    share = float((pixels >= high).mean())
    if share > SATURATED_SHARE:
        yield Finding(
            "saturation",
            f"{share:.0%} of the pixels have the highest value, {high:g}; expose for a shorter "
            "time, or with less gain",
        )
    elif found is not None and is_negative(pixels, found):
        yield Finding("negative", "the stars are darker than the sky; give image.max() - image")


def _false_detections(found: ExtractionResult, stars: CentroidColumns) -> Iterator[Finding]:
    """Report saturated stars, and detections that are not stars: noise and hot pixels."""
    flags = np.asarray(stars.flags)[:BRIGHTEST]
    saturated = flags & int(CentroidFlags.SATURATED) != 0
    if len(flags) >= FEWEST_BRIGHTEST and saturated.mean() > 0.5:
        yield Finding(
            "saturation",
            f"more than half of the {len(flags)} brightest stars are saturated, so that "
            "their order by brightness is unreliable; expose for a shorter time",
        )
    if is_noise(stars):
        yield Finding(
            "many stars",
            f"{len(stars)} detections, nearly all just above the threshold, as of noise; raise "
            "sigma_threshold",
        )
    hot, size = found.rejected["sharp"], math.prod(found.image_shape)
    if hot > max(len(stars), HOT_SHARE * size):
        yield Finding(
            "hot pixels",
            f"{hot} hot pixels and {len(stars)} stars were detected; subtract a dark frame, cool "
            "the camera, or expose for a shorter time",
        )


def _widths(found: ExtractionResult, stars: CentroidColumns) -> Iterator[Finding]:
    """Report trails, and stars out of focus."""
    left_out, shape, blur = found.rejected, shape_of(stars), blur_of(found, stars)
    if blur == "trailing" and shape.is_trailed:
        yield Finding(
            "trailing",
            f"stars are {shape.elongation:.1f} times as long as wide, all {shape.angle_deg:.0f} "
            "degrees from +x towards +y; expose for a shorter time",
        )
    elif blur == "trailing":
        yield Finding(
            "trailing",
            f"{left_out['elongated']} detections were too elongated to be stars; "
            "expose for a shorter time, or raise max_elongation",
        )
    elif blur == "defocus":
        yield Finding(
            "defocus", f"stars are {shape.fwhm_px:.1f} pixels wide; focus, or bin the image"
        )
    elif left_out["extended"] + left_out["too_large"] > max(len(stars), FEW_STARS):
        number = left_out["extended"] + left_out["too_large"]
        yield Finding(
            "defocus",
            f"{number} detections were wider than stars, and {len(stars)} were not; focus, or bin "
            "the image; or a nebula or a foreground is in it",
        )


def _parts(found: ExtractionResult, stars: CentroidColumns) -> Iterator[Finding]:
    """Report parts of the frame that are crowded or without stars: clouds and foreground."""
    if len(stars) and crowded(stars.xy, found.image_shape).mean() > CROWDED_SHARE:
        yield Finding(
            "foreground",
            "most detections are crowded in small parts of the frame; if trees, roofs or lamps are "
            "there, cut them off or mask them",
        )
        return
    if not len(stars):
        return
    number = counts(stars.xy, found.image_shape)
    empty = number < EMPTY_SHARE * number.mean()
    if number.mean() < FEWEST_PER_TILE or empty.sum() < FEWEST_EMPTY:
        return
    sky = np.array(
        [
            [np.median(part) for part in np.array_split(rows, TILES, axis=1)]
            for rows in np.array_split(found.background_map(), TILES, axis=0)
        ]
    )
    difference = float(np.median(sky[empty]) - np.median(sky[~empty])) / max(found.noise, 1e-30)
    share = f"{empty.mean():.0%} of the frame has hardly any stars"
    if difference > OTHER_SKY_SIGMAS:
        yield Finding(
            "clouds", f"{share}, and is brighter: clouds, or the Moon; wait for a clear sky"
        )
    elif difference < -OTHER_SKY_SIGMAS:
        yield Finding("foreground", f"{share}, and is darker: a tree, a roof or a dome; cut it off")
    else:
        yield Finding("clouds", f"{share}: clouds, dew, or something dark before the sky")


def few_stars(number: int, expected: float) -> Iterator[Finding]:
    """Report that there are too few stars."""
    if number < min(FEW_STARS, expected):
        yield Finding(
            "few stars",
            f"{number} where the catalogue has {expected:.0f} or more: clouds, a short "
            "exposure, or a detection threshold (sigma_threshold) that is too high",
        )


def of_candidate(best: RejectedCandidate) -> Iterator[Finding]:
    """Report a candidate that was nearly accepted."""
    found = best.solution
    if found is None or best.probability > NEARLY_ACCEPTED:
        return
    yield Finding(
        "few matches",
        f"{found.ra_deg:.3f} {found.dec_deg:+.3f} with a field of {found.fov_deg:.2f} degrees "
        f"matches {found.num_matches} stars, which chance gives with probability "
        f"{best.probability:.1g}; if that is about right, give it as attitude_hint and fov_deg, or "
        "detect more stars with a lower sigma_threshold",
    )


def of_notes(hints: HeaderHints) -> Iterator[Finding]:
    """Report cards that cannot be read, or that contradict each other or the image."""
    for note in hints.notes:
        yield Finding("header", f"{note}; correct it, or give header='ignore'")


def of_header(hints: HeaderHints, solution: Solution) -> Iterator[Finding]:
    """Report where the header of a solved frame disagrees with the stars."""
    from astropy.coordinates import SkyCoord

    if hints.ra_deg is None or hints.dec_deg is None:
        return
    wrong = []
    stated = SkyCoord(hints.ra_deg, hints.dec_deg, unit="deg")
    true = SkyCoord(solution.ra_deg, solution.dec_deg, unit="deg")
    apart = float(stated.separation(true).deg)
    # Without a WCS, the position may be that of an object anywhere in the field.
    allowed = (WCS_OFF_SHARE if hints.wcs is not None else 0.5) * solution.fov_deg
    if apart > allowed:
        wrong.append(f"the centre is {apart:.3g} degrees from where it says")
    if hints.fov_deg is not None:
        off = hints.fov_deg / solution.fov_deg - 1.0
        if abs(off) > (WCS_SCALE if hints.wcs is not None else SCALE_OFF):
            wrong.append(f"the field is {solution.fov_deg:.3g} degrees, not {hints.fov_deg:.3g}")
    if hints.roll_deg is not None:
        turn = math.remainder(solution.roll_deg - hints.roll_deg, 360.0)
        if abs(turn) > WCS_TURN_DEG:
            wrong.append(f"it is turned by {turn:.1f} degrees")
        if hints.parity_flip is not None and hints.parity_flip != solution.parity_flip:
            wrong.append("the image has the opposite parity")
    if wrong:
        cards = hints.sources.get("ra_deg", "header")
        what = "the header's WCS" if hints.wcs is not None else f"the header ({cards})"
        text = f"{what} disagrees with the stars: {', '.join(wrong)}; write the solution's WCS"
        yield Finding("header", text)
