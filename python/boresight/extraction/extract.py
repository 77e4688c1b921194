"""Finds the stars of a frame and measures them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from boresight import _core
from boresight._utils import arguments
from boresight._utils.arrays import plain
from boresight._utils.deadline import after, until
from boresight._utils.html import html_table
from boresight._utils.naming import named
from boresight.errors import InputError
from boresight.extraction.centroids import Centroids
from boresight.extraction.images import noise_of, pixels_of, variance_of

__all__ = ["ExtractionOptions", "ExtractionResult", "Extractor", "extract_centroids"]


@named
@dataclass(frozen=True, eq=False)
class ExtractionResult:
    """Stars of a frame, with the background, the noise and other results of the extraction.

    Attributes
    ----------
    centroids : Centroids
        The stars, brightest first.
    background, noise : float
        Mean background, and mean standard deviation of a pixel about it, over the frame.
    background_mesh, noise_mesh : ndarray of float32, shape (rows, columns)
        Background and noise in blocks; see `background_map` and `noise_map` for every pixel. If the
        noise was given, `noise_mesh` has a value for every pixel.
    threshold : float
        Detection threshold after the matched filter, mean over the frame, in units of the image.
        The filter keeps the flux of a star and lowers its peak.
    num_blobs_raw : int
        Number of groups of pixels above the threshold, before any was rejected.
    rejected : dict of str to int
        Number of rejected detections by reason: ``too_small``, ``too_large``, ``elongated``,
        ``extended`` (wider than stars, or not brighter than the light around them), ``sharp`` (hot
        pixels that would have been detections), ``border``, ``faint``, ``surplus`` (beyond
        `max_centroids`, or more than one in 60 pixels), ``unmeasured`` (beyond `max_measured`).
    saturation_level : float or None
        Least pixel value that was taken as saturated.
    psf : {"varying", "uniform", "gaussian"} or None
        Point-spread function that was fitted to the stars: measured from them, varying over the
        frame or uniform; or a Gaussian of their width, if there are too few complete, single stars
        or if the measured function is not that of a star. None if positions are measured in
        windows: ``method="window"``, ``fast=True``, and frames of trails or rings.
    image_shape : tuple of int
        (height, width).
    unit : str or None
        Unit of the image, and so of brightness, peak and background, if the image had one.

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
    psf: str | None
    image_shape: tuple[int, int]
    unit: str | None

    def background_map(self) -> npt.NDArray[np.float32]:
        """Return the background of every pixel.

        Returns
        -------
        ndarray of float32, shape (height, width)
        """
        return _core.mesh_pixels(self.background_mesh, self.image_shape)

    def noise_map(self) -> npt.NDArray[np.float32]:
        """Return the noise of every pixel: its standard deviation about the background.

        Returns
        -------
        ndarray of float32, shape (height, width)
        """
        return _core.mesh_pixels(self.noise_mesh, self.image_shape)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as numbers and lists, for JSON.

        Returns
        -------
        dict
            The attributes except the meshes; `centroids` has one list for each column.

        Examples
        --------
        >>> import numpy as np
        >>> from boresight import extract_centroids
        >>> extract_centroids(np.zeros((64, 64))).to_dict()["image_shape"]
        [64, 64]
        """
        names = [name for name in self.__dataclass_fields__ if not name.endswith("_mesh")]
        values = {name: getattr(self, name) for name in names}
        table = self.centroids.table()
        stars = {name: np.asarray(table[name]) for name in table.colnames}
        document: dict[str, Any] = plain(values | {"centroids": stars})
        return document

    def _repr_html_(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        left_out = ", ".join(f"{n} {why}" for why, n in self.rejected.items() if n)
        height, width = self.image_shape
        return html_table(
            "Stars of a frame",
            (
                ("Stars", f"{len(self.centroids)} of {self.num_blobs_raw} groups of pixels"),
                ("Left out", left_out or "none"),
                ("Image", f"{width} x {height} pixels"),
                ("Background", f"{self.background:.4g}{unit}, noise {self.noise:.4g}{unit}"),
                ("Point-spread function", self.psf or "not fitted"),
            ),
        )

    def __repr__(self) -> str:
        return (
            f"ExtractionResult({len(self.centroids)} stars, background {self.background:.4g}, "
            f"noise {self.noise:.4g})"
        )


@named
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
    read_noise: float | None = None,
    variance: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    method: str = "psf",
    fast: bool = False,
    max_measured: int | None = None,
    timeout_ms: int | None = None,
) -> ExtractionResult:
    r"""Find the stars of a frame and measure their positions.

    The background and its noise are measured in blocks (clipped means) and interpolated between
    them. The frame minus its background, divided by its noise, is filtered with a Gaussian. Stars
    are local maxima above `sigma_threshold` standard deviations of the *filtered* noise, which is
    measured and so includes correlated noise. `method` selects how stars are measured.

    Parameters
    ----------
    image : array_like, shape (height, width)
        Any real numbers in any byte order: an array, a masked array, an `astropy.nddata.NDData` or
        `~astropy.nddata.CCDData` (its mask, uncertainty and unit are used), a
        `~astropy.units.Quantity`, an `astropy.utils.masked.Masked` array, a `Frame`, or a path,
        HDU, HDUList, PIL image or open file that `read_frame` takes. NaN and infinite pixels are
        ignored. With `luminance` also (height, width, 3 or 4) or (3, height, width). Axes of length
        1 are removed. float32, float64, uint16, int16 and uint8 are read in place.
    sigma_threshold : float, default 5.0
        Detection threshold in the filtered frame, in standard deviations of the filtered
        background.
    min_pixels, max_pixels : int, default 3, 10000
        Least number of pixels of a blob (touching pixels above 0.6 of the threshold), and greatest
        number for each star of a blob: crowded stars form one blob.
    max_centroids : int, optional
        Largest number of stars to keep, brightest first. Default: all.
    local_bg_block_size : int, default 64
        Side in pixels of the background blocks: several times the size of a star's image. The noise
        is always measured over at least 64 pixels.
    max_elongation : float or None, default 3.0
        Greatest ratio of the axes of a star's image; None for no limit. If all stars of the frame
        are elongated in one direction (`CentroidFlags.TRAILED`), it is relative to their ratio.
    matched_filter_sigma : float or None, default 1.5
        Standard deviation in pixels of the Gaussian filter; None for no filter.
    max_sharpness : float or None, default 0.9
        Greatest sharpness, (peak - mean of its eight neighbours) / peak, within twice its noise. A
        hot pixel has 1, a star of FWHM 1.5 pixels has at most 0.8, one of 1.2 pixels 0.85. Sharper
        pixels, and pairs of them, are masked before detection, so that stars next to them are kept.
        With None nothing is masked, and detections that are sharper than the frame's stars can be
        are kept and flagged `CentroidFlags.HOT_PIXEL`.
    saturation_level : float, optional
        Least pixel value that is saturated. Default: measured in the frame, if its brightest stars
        have flat tops.
    border_margin : int, default 0
        Stars whose highest pixel is nearer than this to the edge, in pixels, are rejected.
    mask : array_like of bool, shape (height, width), optional
        True where a pixel is bad, in addition to pixels that the image itself masks.
    luminance : bool, default False
        Convert a colour image (height, width, 3 or 4) to its Rec. 709 luminance; alpha is ignored.
    gain : float, optional
        Electrons per unit of the image. Default: 1 for an image in electrons without an
        uncertainty; otherwise the method ``"psf"`` estimates it from the frame's stars.
    read_noise : float, optional
        Read noise in electrons; it needs `gain`. The noise of a pixel is then not measured but
        ``sqrt(read_noise**2 + gain * background) / gain``: an image value of zero must mean no
        light (bias and dark current subtracted).
    variance, weight : array_like, shape (height, width), optional
        One of the two: variance of the noise of every pixel in squared units of the image, or its
        inverse. It replaces the measured noise in the threshold and in the errors, where its value
        at the star is used. Pixels of infinite or NaN variance, or of zero weight, are masked. If
        `gain` is given, photon noise of the stars is added: give no `gain` if the variance includes
        it already. Default: the uncertainty of the image, if any.
    method : {"psf", "window"}, default "psf"
        ``"psf"`` measures the point-spread function on the frame's bright stars (on a grid of half
        pixels; varying over the frame if a uniform one does not fit) and fits its centroid and flux
        to all stars by weighted least squares, touching stars together; stars that appear in the
        residuals next to others are added. It reaches the Cramer-Rao bound down to an FWHM of 1.2
        pixels. Photon noise and the error of the point-spread function are measured too and
        included in `position_cov`. ``"window"`` takes the centroid in a Gaussian window that moves
        with the star: faster for crowded stars, biased for asymmetric ones, and with photon noise
        in `position_cov` only if `gain` is given.
    fast : bool, default False
        Detect on pixels binned two by two, sample the background more sparsely, and take positions
        from small Gaussian windows, whatever the `method`: several times faster, a little less
        sensitive. For trackers; see also `Extractor`.
    max_measured : int, optional
        Measure only this number of the highest peaks, and peaks next to them: `solve` needs no more
        of a rich frame. If there are several times as many peaks, the others are not detected:
        `num_blobs_raw` then excludes them, their number (``rejected["unmeasured"]``) is estimated
        from a part of the frame, and the point-spread function has 3 × 3 nodes at most. Default:
        all.
    timeout_ms : int, optional
        Time limit, ms, for finding the stars and, if the image is still in a file, for reading it;
        `None` for no limit.

    Returns
    -------
    ExtractionResult
        With `centroids` brightest first; they are empty if the image is constant.

    Raises
    ------
    InputError
        If the image is not a two-dimensional array of real numbers (or is in colour, without
        `luminance`), has no good pixel, or if an argument is out of range: a `gain` that is not
        positive, a `read_noise` that is negative, without `gain` or together with a `variance`, a
        variance that is not positive, a negative weight, both of them, an array of another shape.
    TimeLimitError
        If the extraction exceeds the time limit.

    See Also
    --------
    Extractor : The same for many frames.

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
    extractor = Extractor(
        sigma_threshold=sigma_threshold,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        max_centroids=max_centroids,
        local_bg_block_size=local_bg_block_size,
        max_elongation=max_elongation,
        matched_filter_sigma=matched_filter_sigma,
        max_sharpness=max_sharpness,
        saturation_level=saturation_level,
        border_margin=border_margin,
        luminance=luminance,
        gain=gain,
        read_noise=read_noise,
        method=method,
        fast=fast,
        max_measured=max_measured,
        timeout_ms=timeout_ms,
    )
    return extractor.extract(image, mask=mask, variance=variance, weight=weight)


class ExtractionOptions(TypedDict, total=False):
    """Keywords of `Extractor`: the arguments of `extract_centroids` that hold for all frames."""

    sigma_threshold: float
    min_pixels: int
    max_pixels: int
    max_centroids: int | None
    local_bg_block_size: int
    max_elongation: float | None
    matched_filter_sigma: float | None
    max_sharpness: float | None
    saturation_level: float | None
    border_margin: int
    luminance: bool
    gain: float | None
    read_noise: float | None
    method: str
    fast: bool
    max_measured: int | None
    timeout_ms: int | None


_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(extract_centroids).parameters.items()
    if name in ExtractionOptions.__annotations__
}


@named
class Extractor:
    """Extracts the stars of many frames; its options are checked once.

    Threads may share an extractor.

    Parameters
    ----------
    **options
        Arguments of `extract_centroids`, with the same defaults, except `image`, `mask`, `variance`
        and `weight`.

    Raises
    ------
    InputError
        If an option is unknown or out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from boresight import Extractor
    >>> extractor = Extractor(sigma_threshold=6.0, fast=True)
    >>> y, x = np.mgrid[:64, :64]
    >>> for shift in (0.0, 0.5):
    ...     star = 1000 * np.exp(-((x - 20.3 - shift) ** 2 + (y - 40.8) ** 2) / 2)
    ...     print(round(extractor(star + 10.0 * ((x + 3 * y) % 5)).centroids[0].x, 1))
    -11.7
    -11.2
    """

    def __init__(self, **options: Unpack[ExtractionOptions]) -> None:
        unknown = set(options) - set(_DEFAULTS)
        if unknown:
            raise InputError(
                f"{sorted(unknown)[0]}: no such option; give some of {', '.join(_DEFAULTS)}"
            )
        o: dict[str, Any] = {**_DEFAULTS, **options}
        self._luminance = bool(o["luminance"])
        self._options: dict[str, Any] = {
            "sigma_threshold": arguments.number(
                "sigma_threshold", o["sigma_threshold"], "give one"
            ),
            **{
                name: arguments.count(name, o[name])
                for name in ("min_pixels", "max_pixels", "local_bg_block_size", "border_margin")
            },
            **{
                name: _optional(name, o[name])
                for name in (
                    "max_elongation",
                    "matched_filter_sigma",
                    "max_sharpness",
                    "saturation_level",
                    "gain",
                    "read_noise",
                )
            },
            **{
                name: arguments.optional_count(name, o[name])
                for name in ("max_centroids", "max_measured", "timeout_ms")
            },
            "method": str(o["method"]),
            "fast": bool(o["fast"]),
        }
        # If no gain is given, images in electrons have a gain of 1.
        electrons = {**self._options, "gain": self._options["gain"] or 1.0}
        needs_gain = self._options["read_noise"] is not None and self._options["gain"] is None
        self._electrons = _core.Extractor(electrons) if self._options["gain"] is None else None
        self._raw = _core.Extractor(self._options) if not needs_gain else None

    def extract(
        self,
        image: Any,
        *,
        mask: npt.ArrayLike | None = None,
        variance: npt.ArrayLike | None = None,
        weight: npt.ArrayLike | None = None,
    ) -> ExtractionResult:
        """Find the stars of a frame; `extractor(image)` is a short form.

        Parameters
        ----------
        image, mask, variance, weight
            As for `extract_centroids`.

        Returns
        -------
        ExtractionResult
            Equal to that of `extract_centroids`, whatever frames came before.

        Raises
        ------
        InputError, TimeLimitError
            As `extract_centroids`.
        """
        with until(after(self._options["timeout_ms"])):
            pixels, bad = pixels_of(image, self._luminance)
        if mask is not None:
            given = np.asarray(mask)
            if given.shape != pixels.shape:
                raise InputError(
                    f"mask: its shape is {given.shape}; give that of the image, {pixels.shape}"
                )
            bad = given.astype(bool) if bad is None else bad | given.astype(bool)
        if variance is None and weight is None:
            variance = variance_of(image)
        noise = None
        if variance is not None or weight is not None:
            noise, bad = noise_of(variance, weight, pixels.shape, bad)
        unit = getattr(image, "unit", None)
        raw = self._raw
        if self._electrons is not None and str(unit) == "electron" and noise is None:
            raw = self._electrons
        if raw is None:
            raise InputError(
                "read_noise: it is in electrons, but no gain is given to convert it; "
                "give the gain too, in electrons per unit of the image"
            )
        found = raw.extract(pixels, None if bad is None else np.ascontiguousarray(bad), noise)
        level, scatter = found.level(), found.noise()
        return ExtractionResult(
            centroids=Centroids(**found.columns()),
            background=float(level.mean(dtype=np.float64)),
            noise=float(scatter.mean(dtype=np.float64)),
            background_mesh=level,
            noise_mesh=scatter,
            threshold=found.threshold,
            num_blobs_raw=found.num_blobs_raw,
            rejected=found.rejected,
            saturation_level=found.saturation_level,
            psf=found.psf,
            image_shape=found.image_shape,
            unit=None if unit is None else str(unit),
        )

    __call__ = extract

    def __reduce__(self) -> tuple[Any, ...]:
        return _extractor, ({**self._options, "luminance": self._luminance},)

    def __repr__(self) -> str:
        options = {**self._options, "luminance": self._luminance}
        changed = [f"{k}={options[k]!r}" for k, v in _DEFAULTS.items() if options[k] != v]
        return f"Extractor({', '.join(changed)})"


def _extractor(options: ExtractionOptions) -> Extractor:
    """Restore a pickled `Extractor`."""
    return Extractor(**options)


def _optional(name: str, value: Any) -> float | None:
    return None if value is None else arguments.number(name, value, "give one")
