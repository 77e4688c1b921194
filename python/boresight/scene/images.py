"""Images of a scene: pixels, noise, WCS with its freedom, and PSF."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight._utils.naming import named
from boresight.errors import InputError
from boresight.extraction.images import pixels_of, variance_of
from boresight.frames.frame import Frame
from boresight.frames.read import read_frame
from boresight.frames.times import as_time
from boresight.scene.noise import variance_of_pixels
from boresight.scene.psf import PSF, Moffat, psf_of
from boresight.solver.solution import Solution

if TYPE_CHECKING:
    from astropy.wcs import WCS

__all__ = ["Freedom", "Image", "Sky"]

Floats = NDArray[np.float64]

Freedom = Literal["fixed", "shift", "rshift", "rscale", "general", "attitude"]
"""Movements of an image that are fitted: none; a shift; a shift and a rotation; a shift, a rotation
and one scale; a shift and any matrix; the attitude and focal length of its camera."""

Sky = Literal["none", "constant", "plane"]
"""Background that is fitted: none, a constant, or a plane."""


#: Largest pixel value, absolute and in units of its noise, so that the sum of squares is finite.
LARGEST_PIXEL = 1e100


@named
class Image:
    """Image for `boresight.scene.fit` and `boresight.scene.register`.

    Parameters
    ----------
    data : array_like, CCDData, str or path
        Pixels, shape (height, width); missing pixels are NaN. The mask, uncertainty and WCS of an
        astropy ``CCDData`` are used too, and the WCS of a FITS file.
    wcs : astropy.wcs.WCS or Solution, optional
        WCS for 0-based array pixels. Default: the WCS of the data.
    variance : "auto", float, array_like or dict, optional
        Variance of the pixels, positive. "auto" measures it as a linear function of the brightness
        (`noise.auto_variance`), or takes that of a ``CCDData``. A dict gives ``gain`` (electrons
        per unit of the data), ``read_noise`` (electrons) and ``sky`` (units of the data; the level
        that has been subtracted).
    mask : array_like of bool, optional
        True for pixels to ignore.
    psf : Moffat, Gaussian, EffectivePSF, "measured", or of photutils
        The point-spread function: its start values and free parameters. An effective PSF is not
        fitted: it is given, measured on the stars of the image ("measured"), or an ``ImagePSF`` or
        ``GriddedPSFModel``.
    sky : "none", "constant" or "plane"
        Background model that is fitted. Default "none".
    wcs_freedom : str
        Movement of the WCS that is fitted: "fixed" (default), "shift", "rshift" (shift and
        rotation), "rscale" (shift, rotation and scale), "general" (shift and any matrix), or
        "attitude" for a `Solution`.
    window : int, (x0, x1, y0, y1) or list of these, optional
        Pixels that are fitted: the side, in pixels, of a square about every source; one box for all
        sources, with columns x0 to x1 - 1 and rows y0 to y1 - 1; or one box per source. Default: a
        square about every source, as wide as its light.
    name : str, optional
        Name in tables and figures. Default: "image" and its number.
    chromatic : bool
        Also fit a shift of the sources in proportion to their colours, as caused by refraction in
        the air and by optics. Sources need a ``color``. Default False.
    time : astropy.time.Time, datetime.datetime, str or numpy.datetime64, optional
        Middle of the exposure, for sources that move. Default: the time in the file.
    band : str, optional
        Name of the band. Chromatic images of one band share their shift by colour. Default:
        ``FILTER`` of the file. An image without a band has a separate shift.

    Raises
    ------
    InputError
        If an argument does not match the image, or is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.wcs import WCS
    >>> from boresight import scene
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [329.2715, 13.6483]
    >>> wcs.wcs.cd, wcs.wcs.crpix = np.diag([-0.262, 0.262]) / 3600, [75.5, 75.5]
    >>> pixels = np.random.default_rng(1).normal(0.0, 5.0, (150, 150))
    >>> image = scene.Image(pixels, wcs, wcs_freedom="shift", name="g")
    >>> f"{np.sqrt(np.median(image.variance)):.0f}"
    '5'
    """

    def __init__(
        self,
        data: ArrayLike | str | os.PathLike[str] | Any,
        wcs: WCS | Solution | None = None,
        *,
        variance: Any = "auto",
        mask: ArrayLike | None = None,
        psf: PSF | str | Any = Moffat(n=2.0, rd=1.0),  # noqa: B008 (immutable)
        sky: Sky = "none",
        wcs_freedom: Freedom = "fixed",
        window: Any = None,
        name: str | None = None,
        chromatic: bool = False,
        time: Any = None,
        band: str | None = None,
    ) -> None:
        if isinstance(data, str | os.PathLike):
            frame = read_frame(data)
            data, wcs = frame, frame.wcs if wcs is None else wcs
            time = frame.time if time is None else time
            band = _band_of(frame) if band is None else band
        elif wcs is None:
            wcs = getattr(data, "wcs", None)
        given = variance_of(data)
        pixels, own_mask = pixels_of(data, luminance=False)
        self.data: Floats = np.ascontiguousarray(pixels, dtype=np.float64)
        self.mask = _bad(self.data, own_mask, mask)
        if given is not None and isinstance(variance, str):
            variance = np.where(given > 0, given, np.nan)
            self.mask |= ~(given > 0)
        _check_range(self.data, self.mask, 1.0)
        noise = variance_of_pixels(variance, self.data, self.mask)
        self.variance: Floats = np.ascontiguousarray(noise)
        _check_range(self.data, self.mask, np.sqrt(self.variance))
        self.wcs = _checked_wcs(wcs)
        self.psf: PSF = psf_of(psf, self.data, self.mask)
        self.sky: Sky = _one_of("sky", sky, get_args(Sky))
        self.wcs_freedom: Freedom = _one_of("wcs_freedom", wcs_freedom, get_args(Freedom))
        if self.wcs is not None:
            self._check_freedom()
        self.window = window
        self.name = name
        self.chromatic = bool(chromatic)
        self.time = None if time is None else as_time(time)
        if not (band is None or isinstance(band, str)):
            raise InputError(f"band: {band!r} is not a name; give a str, or leave it out")
        self.band = band

    def _check_freedom(self) -> None:
        camera, freedom = isinstance(self.wcs, Solution), self.wcs_freedom
        if camera and freedom not in ("fixed", "attitude"):
            raise InputError(
                f"wcs_freedom: {freedom!r} cannot be used with a camera; give 'attitude', "
                "or solution.wcs() as the wcs"
            )
        if not camera and freedom == "attitude":
            raise InputError(
                "wcs_freedom: 'attitude' needs a camera; give a Solution as the wcs, or 'rshift'"
            )

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.data.shape
        return height, width

    def __repr__(self) -> str:
        height, width = self.image_shape
        return (
            f"Image({height} x {width}, {self.psf}, sky={self.sky!r}, "
            f"wcs_freedom={self.wcs_freedom!r}, name={self.name!r})"
        )


def _band_of(frame: Frame) -> str | None:
    """Return the band named in a FITS header."""
    band = None if frame.header is None else frame.header.get("FILTER")
    return band.strip() or None if isinstance(band, str) else None


def _bad(data: Floats, own: NDArray[np.bool_] | None, mask: ArrayLike | None) -> NDArray[np.bool_]:
    bad = ~np.isfinite(data)
    if own is not None:
        bad |= own
    if mask is not None:
        given = np.asarray(mask, dtype=bool)
        if given.shape != data.shape:
            raise InputError(f"mask: its shape is {given.shape}; give that of the image")
        bad |= given
    if bad.all():
        raise InputError("data: all pixels are masked or NaN; give an image with good ones")
    return bad


def _check_range(data: Floats, bad: NDArray[np.bool_], noise: Any) -> None:
    """Raise an error if squares of pixels, in units of the noise, may have no finite sum."""
    with np.errstate(over="ignore"):
        far = ~bad & (np.abs(data) / noise > LARGEST_PIXEL)
    if far.any():
        row, column = np.argwhere(far)[0]
        raise InputError(
            f"data: the pixel in row {row}, column {column} is {data[row, column]:g}, far beyond "
            "any light; mask it, or give it a variance of its size"
        )


def _checked_wcs(wcs: Any) -> Any:
    if wcs is None or isinstance(wcs, Solution):
        return wcs
    if not getattr(wcs, "has_celestial", False):
        raise InputError(
            f"wcs: {type(wcs).__name__} has no celestial axes; "
            "give an astropy.wcs.WCS or a Solution"
        )
    return wcs.celestial


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise InputError(f"{name}: {value!r} is unknown; give one of {', '.join(known)}")
    return value
