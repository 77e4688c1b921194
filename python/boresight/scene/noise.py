"""Variance of pixels, given or measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight.errors import InputError

__all__ = ["auto_variance", "variance_of_pixels"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Number of brightness bins in which the noise is measured, and the percentiles that limit them.
BINS, PERCENTILES = 10, (1.0, 99.0)

#: Minimum number of pixels per bin. Bins with fewer pixels are excluded.
LEAST_IN_BIN = 30

#: Median absolute deviation of a normal deviate of unit variance.
NORMAL_MAD = 0.67449


def variance_of_pixels(variance: Any, data: Floats, bad: Bools) -> Floats:
    """Return the variance of every pixel from the argument of `Image`; infinite for bad pixels."""
    if isinstance(variance, str):
        if variance != "auto":
            raise InputError(f"variance: {variance!r} is unknown; give 'auto' or an array")
        return np.where(bad, np.inf, auto_variance(data, bad))
    if isinstance(variance, Mapping):
        return np.where(bad, np.inf, _of_detector(variance, data, bad))
    try:
        array = np.asarray(getattr(variance, "value", variance), dtype=np.float64)
        array = np.array(np.broadcast_to(array, data.shape))
    except (TypeError, ValueError):
        raise InputError(
            f"variance: it does not fit the image of shape {data.shape}; give 'auto', one number, "
            "one number per pixel, or {'gain': ..., 'read_noise': ...}"
        ) from None
    senseless = ~bad & ~(array > 0)
    if senseless.any():
        row, column = np.argwhere(senseless)[0]
        raise InputError(
            f"variance: it is {array[row, column]:g} in row {row}, column {column}; "
            "give positive numbers, or mask the pixel"
        )
    array[bad] = np.inf
    return array


def auto_variance(data: Floats, bad: Bools) -> Floats:
    """Measure the variance of pixels as a linear function of their brightness: ``a flux + b``.

    A second difference along both axes keeps the noise and removes almost all of a smooth image
    (Immerkaer 1996, CVIU 64, 300). Its robust scatter is computed in ten bins of the smoothed
    brightness, and a line is fitted. If the line falls with brightness, the variance is taken as
    constant.

    Parameters
    ----------
    data : ndarray, shape (height, width)
        Pixels.
    bad : ndarray of bool, same shape
        True for pixels to ignore.

    Returns
    -------
    ndarray, same shape

    Raises
    ------
    InputError
        If there is no measurable noise, or there are too few pixels.
    """
    if min(data.shape) < 5:
        raise InputError("variance: the image is too small to measure its noise; give the variance")
    clean = np.where(bad, np.nan, data)
    difference = _along_both(clean, np.array([1.0, -2.0, 1.0])) / 6.0
    flux = _along_both(clean, np.full(3, 1.0 / 3.0))
    known = np.isfinite(difference) & np.isfinite(flux)
    difference, brightness = difference[known], flux[known]
    if difference.size < LEAST_IN_BIN:
        raise InputError("variance: too few good pixels to measure the noise; give the variance")
    low, high = np.percentile(brightness, PERCENTILES)
    edges = np.linspace(low, high, BINS + 1)
    which = np.clip(np.digitize(brightness, edges) - 1, 0, BINS - 1)
    rows = []
    for k in range(BINS):
        values = difference[which == k]
        if len(values) >= LEAST_IN_BIN:
            scatter = np.median(np.abs(values - np.median(values))) / NORMAL_MAD
            rows.append((np.median(brightness[which == k]), scatter**2, len(values)))
    level, variance, count = np.array(rows).T
    slope, constant = _line(level, variance, count)
    smooth = np.where(np.isfinite(clean), clean, low)
    padded = np.pad(smooth, 1, mode="edge")
    smooth = _along_both(padded, np.full(3, 1.0 / 3.0))[1:-1, 1:-1]
    # Below the faintest bin the variance is constant: a negative fluctuation has no less photon
    # noise.
    result = slope * np.maximum(smooth, level[0]) + constant
    if not (result > 0).all():
        raise InputError("variance: the image has no noise that can be measured; give the variance")
    return np.asarray(result)


def _along_both(image: Floats, kernel: Floats) -> Floats:
    """Convolve along both axes with a symmetric kernel of three elements; NaN at the edges."""
    out = np.full_like(image, np.nan)
    a, b, _ = kernel
    rows = a * (image[:-2] + image[2:]) + b * image[1:-1]
    out[1:-1, 1:-1] = a * (rows[:, :-2] + rows[:, 2:]) + b * rows[:, 1:-1]
    return out


def _line(level: Floats, variance: Floats, count: Floats) -> tuple[float, float]:
    """Fit slope and constant; the slope is at least zero."""
    if len(level) > 1 and np.ptp(level) > 0:
        # The variance of a variance is 2 variance² / count.
        weight = np.sqrt(count) / np.maximum(variance, 1e-12 * variance.max() + 1e-300)
        slope, constant = np.polyfit(level, variance, 1, w=weight)
        if slope > 0 and slope * level[0] + constant > 0:
            return float(slope), float(constant)
    return 0.0, float(np.average(variance, weights=count))


def _of_detector(given: Mapping[str, Any], data: Floats, bad: Bools) -> Floats:
    """Return the variance from gain (electrons per unit), read noise (electrons) and sky."""
    known = {"gain", "read_noise", "sky"}
    if not set(given) <= known or "gain" not in given:
        raise InputError(f"variance: {dict(given)} is not understood; give {sorted(known)}")
    gain, read, sky = (float(given.get(name, 0.0)) for name in ("gain", "read_noise", "sky"))
    if not (gain > 0 and read >= 0 and np.isfinite([gain, read, sky]).all()):
        raise InputError("variance: gain has to be positive and read_noise at least 0")
    padded = np.pad(np.where(bad, np.nan, data), 1, mode="edge")
    smooth = _along_both(padded, np.full(3, 1.0 / 3.0))[1:-1, 1:-1]
    # Use the mean of nine pixels: a variance from the pixel itself would favour low pixels.
    light = np.maximum(np.where(np.isfinite(smooth), smooth, data) + sky, 0.0)
    variance = light / gain + (read / gain) ** 2
    if not (variance[~bad] > 0).all():
        raise InputError("variance: it is 0 in some pixels; give a read_noise or a sky above 0")
    return np.asarray(variance)
