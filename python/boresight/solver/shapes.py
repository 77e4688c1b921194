"""Measures a frame's stars and pixels to find out what is wrong with the frame."""

from __future__ import annotations

import math
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from boresight.extraction.extract import ExtractionResult
from boresight.solver.solution import Solution

#: Least median elongation of trailed stars.
TRAILED_ELONGATION = 1.4
#: Least alignment of the long axes of trailed stars: length of the mean direction, 0 to 1.
TRAILED_ALIGNMENT = 0.7

#: Stars wider than this, in pixels, are out of focus: in focus, their FWHM is 1 to 4 pixels.
DEFOCUSED_FWHM_PX = 6.0

#: If the stars are longer along rows or columns by this factor, with their axes within this angle
#: (radians) of the rows or columns, the pixels may not be square.
STRETCHED, AXIS_ANGLE = 1.04, 0.15
#: Largest ratio of a pixel's sides; stars longer than that are trails.
LARGEST_RATIO = 2.1

#: Number of tiles along each axis in which the stars of a frame are counted.
TILES = 6
#: A tile is crowded if it has more than this multiple of the median tile's stars, and more than
#: this number.
CROWDED, FEWEST_CROWDED = 4.0, 8

#: Ratio of the ninth to the first decile of the detections' SNR: noise has a smaller ratio, any sky
#: a larger one.
NOISE_SPREAD = 3.0
#: SNR of the ninth decile above which the detections are not noise.
NOISE_SNR = 20.0
#: Least number of detections for which deciles are computed.
FEWEST_FOR_SPREAD = 50

#: Pixels this many standard deviations above the background are stars; pixels as far below it are
#: stars of a negative.
OUTSTANDING_SIGMAS = 8.0
#: A negative has more than this number of outstanding dark pixels, and more than this multiple of
#: the number of outstanding bright ones.
FEWEST_OUTSTANDING, DARK_OVER_BRIGHT = 20, 5.0


#: Least number of matched stars from which a pixel ratio is fitted, and least cosine of their angle
#: from the optical axis.
FEWEST_FOR_STRETCH, LEAST_COSINE = 6, 0.2


class Shape(NamedTuple):
    """Median shape of the images of a frame's stars.

    Attributes
    ----------
    fwhm_px, length_px : float
        Mean FWHM of both axes, and length along the longer axis.
    elongation : float
        Ratio of the axes.
    alignment : float
        Alignment of the longer axes, from 0 (random) to 1 (all parallel).
    angle_deg : float
        Direction of the longer axes, from +x towards +y, 0 to 180 degrees.
    width_over_height : float
        Ratio of the extents along x and y.
    """

    fwhm_px: float
    length_px: float
    elongation: float
    alignment: float
    angle_deg: float
    width_over_height: float

    @property
    def is_trailed(self) -> bool:
        """Whether the stars are trails."""
        return self.elongation > TRAILED_ELONGATION and self.alignment > TRAILED_ALIGNMENT

    @property
    def is_along_axes(self) -> bool:
        """Whether the stars are elongated along the rows or the columns."""
        from_axis = abs(math.remainder(math.radians(self.angle_deg), math.pi / 2))
        longer = max(self.width_over_height, 1 / self.width_over_height)
        is_stretched = STRETCHED < longer < LARGEST_RATIO
        return is_stretched and self.alignment > TRAILED_ALIGNMENT and from_axis < AXIS_ANGLE


ROUND = Shape(0.0, 0.0, 1.0, 0.0, 0.0, 1.0)
"""Of no stars."""


def shape_of(stars: Any) -> Shape:
    """Measure the median image; `ROUND` with fewer than three stars."""
    cov = np.asarray(stars.cov, dtype=np.float64)
    known = np.isfinite(cov).all(axis=(1, 2)) & (cov[:, 0, 0] > 0) & (cov[:, 1, 1] > 0)
    cov = cov[known]
    if len(cov) < 3:
        return ROUND
    elongation = float(np.median(stars.elongation[known]))
    # The angle is doubled, so that both ends of an axis are the same direction.
    axes = cov[:, 0, 0] - cov[:, 1, 1] + 2j * cov[:, 0, 1]
    mean = complex(np.mean(axes / np.maximum(np.abs(axes), np.finfo(float).tiny)))
    longest = np.sqrt(np.linalg.eigvalsh(cov)[:, 1])
    return Shape(
        fwhm_px=float(np.median(stars.fwhm[known])),
        # The standard deviation of a uniform line is its length over the root of 12.
        length_px=float(np.median(longest)) * math.sqrt(12.0),
        elongation=elongation,
        alignment=abs(mean),
        angle_deg=math.degrees(np.angle(mean)) / 2 % 180,
        width_over_height=float(np.median(np.sqrt(cov[:, 0, 0] / cov[:, 1, 1]))),
    )


def blur_of(found: ExtractionResult, stars: Any) -> Literal["trailing", "defocus"] | None:
    """Return the kind of blur of most stars, or None if they are sharp."""
    shape = shape_of(stars)
    if shape.is_trailed or found.rejected["elongated"] > len(stars):
        return "trailing"
    wide = shape.fwhm_px > DEFOCUSED_FWHM_PX and shape.elongation < TRAILED_ELONGATION
    return "defocus" if wide else None


def is_noise(stars: Any) -> bool:
    """Whether there are many detections, and nearly all of them just above the threshold."""
    snr = stars.snr[np.isfinite(stars.snr)]
    if len(snr) < FEWEST_FOR_SPREAD:
        return False
    low, high = np.quantile(snr, (0.1, 0.9))
    return bool(high < min(NOISE_SPREAD * low, NOISE_SNR))


def stretch_of(solution: Solution) -> tuple[float, float]:
    """Fit the height of a pixel over its width to the matched stars; return it with its error.

    The positions in the tangential plane are fitted by an affine function of the pixels, by least
    squares. The error is the standard error.
    """
    matched = solution.matched_stars
    pixels = matched.positions_px
    w, x, y, z = matched.quaternion
    matrix = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    seen = matched.directions @ matrix.T
    if len(pixels) < FEWEST_FOR_STRETCH or (seen[:, 2] < LEAST_COSINE).any():
        return 1.0, math.inf
    plane = seen[:, :2] / seen[:, 2:]
    design = np.column_stack([pixels, np.ones(len(pixels))])
    fitted, *_ = np.linalg.lstsq(design, plane, rcond=None)
    width, height = np.linalg.norm(fitted[:2], axis=1)
    scatter = np.sqrt(np.mean((plane - design @ fitted) ** 2)) / max(width, 1e-30)
    error = scatter / (max(float(pixels.std(axis=0).min()), 1e-30) * math.sqrt(len(pixels)))
    return float(height / width), float(error)


def is_negative(pixels: NDArray[np.float32], found: ExtractionResult) -> bool:
    """Whether most pixels that stand out from the background are dark."""
    dark = bright = 0
    # Each position of a colour mosaic, or of alternating amplifiers, has a separate background.
    for row, column in product(range(2), range(2)):
        part = pixels[row::2, column::2]
        if not np.isfinite(part).any():
            continue
        middle = float(np.nanmedian(part))
        scale = max(1.4826 * float(np.nanmedian(np.abs(part - middle))), found.noise, 1e-30)
        residual = (part - middle) / scale
        dark += int((residual < -OUTSTANDING_SIGMAS).sum())
        bright += int((residual > OUTSTANDING_SIGMAS).sum())
    return dark > FEWEST_OUTSTANDING and dark > DARK_OVER_BRIGHT * bright


def counts(xy: NDArray[np.float64], image_shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return the number of stars in each of `TILES` x `TILES` tiles of the frame."""
    return np.bincount(_tiles(xy, image_shape), minlength=TILES**2).reshape(TILES, TILES)


def crowded(xy: NDArray[np.float64], image_shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether each star is in a tile that has many times the stars of the median tile."""
    number = counts(xy, image_shape).ravel()
    most = max(CROWDED * float(np.median(number)), FEWEST_CROWDED)
    return (number > most)[_tiles(xy, image_shape)]


def _tiles(xy: NDArray[np.float64], image_shape: tuple[int, int]) -> NDArray[np.int64]:
    height, width = image_shape
    column = np.clip((xy[:, 0] / width + 0.5) * TILES, 0, TILES - 1).astype(np.int64)
    row = np.clip((xy[:, 1] / height + 0.5) * TILES, 0, TILES - 1).astype(np.int64)
    return row * TILES + column
