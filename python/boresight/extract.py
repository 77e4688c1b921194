"""Extraction: the stars of a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from boresight import _core
from boresight.centroids import Centroids
from boresight.errors import InputError

__all__ = ["ExtractionResult", "extract_centroids"]

_NATIVE = {np.dtype(t) for t in (np.float32, np.float64, np.uint16, np.int16, np.uint8)}
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
"""Weights of red, green and blue (ITU-R BT.709)."""


@dataclass(frozen=True, eq=False)
class ExtractionResult:
    """Stars of a frame and what was measured on the way.

    Attributes
    ----------
    centroids : Centroids
        The stars, brightest first.
    background, noise : float
        Means over the frame of the background and of the standard deviation of a pixel about it.
    background_mesh, noise_mesh : ndarray of float32, shape (rows, columns)
        The same in blocks; see `background_map` for every pixel.
    threshold : float
        Mean height, in units of the image, that a star had to reach after the matched filter
        (which keeps the flux of a star and lowers its peak).
    num_blobs_raw : int
        Groups of pixels above the threshold, before any was left out.
    rejected : dict of str to int
        How many were left out, by reason: ``too_small``, ``too_large``, ``elongated``,
        ``extended``, ``sharp``, ``border``, ``faint``, ``surplus``.
    saturation_level : float or None
        Pixel value from which on stars were taken as saturated.
    image_shape : tuple of int
        (height, width).

    Examples
    --------
    >>> import numpy as np
    >>> from boresight import extract_centroids
    >>> y, x = np.mgrid[:64, :64]
    >>> frame = 1000 * np.exp(-((x - 20.3) ** 2 + (y - 40.8) ** 2) / 2) + 10.0 * ((x + 3 * y) % 5)
    >>> result = extract_centroids(frame)
    >>> len(result.centroids), result.image_shape
    (1, (64, 64))
    """

    centroids: Centroids
    background: float
    noise: float
    background_mesh: npt.NDArray[np.float32]
    noise_mesh: npt.NDArray[np.float32]
    threshold: float
    num_blobs_raw: int
    rejected: dict[str, int]
    saturation_level: float | None
    image_shape: tuple[int, int]
    _raw: _core.Extraction

    def background_map(self) -> npt.NDArray[np.float32]:
        """Background of every pixel.

        Returns
        -------
        ndarray of float32, shape (height, width)
        """
        return self._raw.maps()[0]

    def noise_map(self) -> npt.NDArray[np.float32]:
        """Noise of every pixel: its standard deviation about the background.

        Returns
        -------
        ndarray of float32, shape (height, width)
        """
        return self._raw.maps()[1]

    def __repr__(self) -> str:
        return (
            f"ExtractionResult({len(self.centroids)} stars, background {self.background:.4g}, "
            f"noise {self.noise:.4g})"
        )


def extract_centroids(
    image: Any,
    sigma_threshold: float = 5.0,
    min_pixels: int = 3,
    max_pixels: int = 10_000,
    max_centroids: int | None = None,
    local_bg_block_size: int = 64,
    max_elongation: float | None = 3.0,
    *,
    matched_filter_sigma: float | None = 1.5,
    max_sharpness: float | None = 0.9,
    saturation_level: float | None = None,
    border_margin: int = 0,
    mask: npt.ArrayLike | None = None,
    luminance: bool = False,
    gain: float | None = None,
    method: str = "psf",
    fast: bool = False,
) -> ExtractionResult:
    r"""Find the stars of a frame and measure their positions.

    The background and its noise are measured in blocks (clipped means) and interpolated between
    them. The frame less its background, over its noise, is filtered with a Gaussian; local maxima
    above `sigma_threshold` standard deviations of the *filtered* noise (measured, so that
    correlated noise is counted) are stars. `method` tells how they are measured.

    Parameters
    ----------
    image : array_like, shape (height, width)
        Any real numbers in any byte order: an array, a masked array, an `astropy.nddata.NDData`
        (its mask is used) or a `~astropy.units.Quantity`. NaN and infinite pixels are left out.
        With `luminance` also (height, width, 3 or 4). float32, float64, uint16, int16 and uint8
        are read in place.
    sigma_threshold : float, default 5.0
        Least height of a star in the filtered frame, in standard deviations of the filtered
        background.
    min_pixels, max_pixels : int, default 3, 10000
        Least number of pixels of a blob (pixels that touch and exceed 0.6 of the threshold), and
        greatest number for each of its stars: where stars are crowded they are one blob.
    max_centroids : int, optional
        Keep so many of the brightest stars. Default: all.
    local_bg_block_size : int, default 64
        Side in pixels of the blocks of the background: several times a star's image. The noise is
        always measured over at least 64 pixels.
    max_elongation : float or None, default 3.0
        Greatest ratio of the axes of a star's image; None is no limit.
    matched_filter_sigma : float or None, default 1.5
        Standard deviation in pixels of the Gaussian filter; None does not filter.
    max_sharpness : float or None, default 0.9
        Greatest (peak - mean of its eight neighbours) / peak. A hot pixel has 1, a star of FWHM
        1.5 pixels has at most 0.8; None is no limit.
    saturation_level : float, optional
        Pixel value from which on pixels are saturated. Default: found from the frame, if its
        brightest stars have flat tops.
    border_margin : int, default 0
        Stars whose highest pixel is nearer than this to the edge of the frame are left out.
    mask : array_like of bool, shape (height, width), optional
        True where a pixel is bad, besides those that the image itself marks.
    luminance : bool, default False
        Turn a colour image (height, width, 3 or 4) into its Rec. 709 luminance; alpha is ignored.
    gain : float, optional
        Electrons per unit of the image. Default: ``"psf"`` estimates it from the frame's stars.
    method : {"window", "psf"}, default "window"
        ``"window"`` takes the centroid in a Gaussian window that moves with the star. ``"psf"``
        takes the point-spread function from the frame's own bright stars (on a grid of half
        pixels) and fits its centroid and flux to all stars by weighted least squares, neighbours
        together; stars that show in the residuals beside others are added. It reaches the
        Cramer-Rao bound, down to an FWHM of 1.5 pixels, where one point-spread function holds for
        the whole frame, and is less exact than a window where it does not. Photon noise and the
        error of the point-spread function are then measured too and are in `position_cov`, which
        for ``"window"`` holds photon noise only if `gain` is given.
    fast : bool, default False
        Detect on pixels binned two by two and sample the background more sparsely: several times
        faster, a little less sensitive.

    Returns
    -------
    ExtractionResult
        With `centroids` brightest first; none of them if the image is constant.

    Raises
    ------
    InputError
        If the image is not a two-dimensional array of real numbers (or is of colour, without
        `luminance`), has no good pixel, or an argument is out of range.

    References
    ----------
    Anderson & King 2000, PASP 112, 1360 (effective point-spread functions). Bertin & Arnouts 1996,
    A&AS 117, 393 (windowed positions: the SExtractor manual).

    Examples
    --------
    >>> import numpy as np
    >>> from boresight import extract_centroids
    >>> rng = np.random.default_rng(1)
    >>> y, x = np.mgrid[:100, :120]
    >>> star = 5000 / (2 * np.pi) * np.exp(-((x - 70.3) ** 2 + (y - 40.5) ** 2) / 2)
    >>> result = extract_centroids(rng.normal(100, 5, (100, 120)) + star)
    >>> [(round(c.x, 1), round(c.y, 1)) for c in result.centroids]
    [(10.3, -9.5)]
    """
    pixels, bad = _pixels(image, luminance)
    if mask is not None:
        given = np.asarray(mask)
        if given.shape != pixels.shape:
            raise InputError(
                f"mask: its shape is {given.shape}; give that of the image, {pixels.shape}"
            )
        bad = given.astype(bool) if bad is None else bad | given.astype(bool)
    options = {
        "sigma_threshold": _number("sigma_threshold", sigma_threshold),
        "min_pixels": _count("min_pixels", min_pixels),
        "max_pixels": _count("max_pixels", max_pixels),
        "max_centroids": None if max_centroids is None else _count("max_centroids", max_centroids),
        "local_bg_block_size": _count("local_bg_block_size", local_bg_block_size),
        "max_elongation": _optional("max_elongation", max_elongation),
        "matched_filter_sigma": _optional("matched_filter_sigma", matched_filter_sigma),
        "max_sharpness": _optional("max_sharpness", max_sharpness),
        "saturation_level": _optional("saturation_level", saturation_level),
        "border_margin": _count("border_margin", border_margin),
        "gain": _optional("gain", gain),
        "method": str(method),
        "fast": bool(fast),
    }
    raw = _core.extract(pixels, None if bad is None else np.ascontiguousarray(bad), options)
    level, noise = raw.level(), raw.noise()
    return ExtractionResult(
        centroids=Centroids(**raw.columns()),
        background=float(level.mean(dtype=np.float64)),
        noise=float(noise.mean(dtype=np.float64)),
        background_mesh=level,
        noise_mesh=noise,
        threshold=raw.threshold,
        num_blobs_raw=raw.num_blobs_raw,
        rejected=raw.rejected,
        saturation_level=raw.saturation_level,
        image_shape=raw.image_shape,
        _raw=raw,
    )


def _pixels(image: Any, luminance: bool) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Return the image as a native array with contiguous rows, and its own mask."""
    mask = None
    if hasattr(image, "data") and hasattr(image, "uncertainty"):  # astropy's NDData
        mask, image = image.mask, image.data
    if isinstance(image, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(image) if mask is None else mask | np.ma.getmaskarray(image)
        image = image.data
    try:
        array = np.asarray(getattr(image, "value", image))
    except ValueError:
        raise InputError(
            "image: its rows differ in length; give an array of shape (height, width)"
        ) from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"image: its type is {array.dtype}; give real numbers")
    if luminance and array.ndim == 3 and array.shape[2] in (3, 4):
        array = array[..., :3] @ _LUMINANCE.astype(np.result_type(array.dtype, np.float32))
        mask = mask.any(axis=2) if mask is not None and np.ndim(mask) == 3 else mask
    if array.ndim == 3 and array.shape[2] in (3, 4):
        raise InputError(
            f"image: its shape is {array.shape}, a colour image; "
            "pass luminance=True, or one of its channels"
        )
    if array.ndim != 2 or array.size == 0:
        raise InputError(
            f"image: its shape is {array.shape}; give a non-empty array of shape (height, width)"
        )
    if mask is not None:
        mask = np.broadcast_to(np.asarray(mask, dtype=bool), array.shape)
        mask = mask if mask.any() else None
    return _native(array), mask


def _native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array if it can be read in place, else a float32 copy."""
    dtype = array.dtype.newbyteorder("=")
    if dtype not in _NATIVE:
        dtype = np.dtype(np.float32)
    array = array.astype(dtype, copy=False)
    if (
        array.strides[1] != array.itemsize
        or array.strides[0] % array.itemsize
        or not array.flags.aligned
    ):
        array = np.ascontiguousarray(array)
    return np.require(array, requirements="A")


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name}: {value!r} is not a number; give one") from None


def _optional(name: str, value: Any) -> float | None:
    return None if value is None else _number(name, value)


def _count(name: str, value: Any) -> int:
    number = _number(name, value)
    if not (number >= 0 and number == int(number)):
        raise InputError(f"{name}: {value!r} is not a whole number; give one that is not negative")
    return int(number)
