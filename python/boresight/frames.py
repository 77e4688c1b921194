"""Reading frames from files: FITS and the common image formats."""

from __future__ import annotations

import dataclasses
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boresight.errors import FileFormatError, InputError

if TYPE_CHECKING:
    import os

    from astropy.io.fits import Header
    from astropy.time import Time
    from astropy.wcs import WCS

__all__ = ["Frame", "read_frame"]

#: Rows and columns, as they index an array.
Region = tuple[slice, slice]

#: First bytes of files that may hold FITS: plain (also tile-compressed .fz), gzip, bzip2.
FITS_MAGIC = (b"SIMPLE  =", b"\x1f\x8b", b"BZh")

#: Header cards of TESS that give the science pixels of a full frame: 1-based, both ends included.
TESS_REGION_CARDS = ("SCRSA", "SCRED", "SCCSA", "SCCED")

#: Weights of red, green and blue (ITU-R BT.709), as in `extract_centroids`.
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)

#: What astropy and Pillow raise on damaged files (they have no common base).
DAMAGE = (OSError, ValueError, TypeError, LookupError, SyntaxError, EOFError, ArithmeticError,
          AttributeError, MemoryError, zlib.error)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """An image with what its file says about it.

    Attributes
    ----------
    image : numpy.ndarray
        Pixels, shape (height, width), in the file's own numeric type (native byte order).
    path : pathlib.Path
        The file.
    header : astropy.io.fits.Header or None
        Header of the image's HDU, unchanged; None for image formats.
    time : astropy.time.Time or None
        Middle of the exposure, where the header tells it.
    mask : numpy.ndarray or None
        True for pixels without a value (NaN or infinite); None if there are none.
    origin : tuple of int
        0-based (row, column) in the file's image of the pixel ``image[0, 0]``.
    """

    image: NDArray[Any]
    path: Path
    header: Header | None = None
    time: Time | None = None
    mask: NDArray[np.bool_] | None = None
    origin: tuple[int, int] = (0, 0)

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.image.shape
        return height, width

    @property
    def wcs(self) -> WCS | None:
        """The header's celestial WCS for 0-based pixels of `image`, or None if it has none."""
        from astropy.wcs import WCS, FITSFixedWarning, WcsError

        if self.header is None or "CTYPE1" not in self.header:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            try:
                wcs = WCS(self.header, naxis=2)
            except (WcsError, ValueError, KeyError):
                return None
        if not wcs.has_celestial:
            return None
        row, column = self.origin
        return wcs[row:, column:]


def read_frame(path: str | os.PathLike[str], *, region: Region | str | None = None) -> Frame:
    """Read a frame from a file.

    Parameters
    ----------
    path : str or path-like
        A FITS file (plain, tile-compressed ``.fz``, or gzipped), or anything Pillow reads: PNG,
        JPEG, BMP, TIFF, ... with 8 or 16 bits. The content decides, not the name.
    region : (slice, slice) or "full", optional
        Rows and columns to read, as in ``numpy.s_[0:2048, 44:2092]``. By default the science region
        where the header of a TESS full frame names one, otherwise all; ``"full"`` reads all.

    Returns
    -------
    Frame
        The pixels, header, time and place of the region in the file.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    InputError
        If a FITS file holds no 2-D image, or the region lies outside it.
    FileFormatError
        If the file is damaged or of no known format.

    Notes
    -----
    Of a FITS file, the first HDU with a 2-D image is taken; BSCALE, BZERO and BLANK are applied.
    Colours become luminance (ITU-R BT.709, as in `extract_centroids`); transparency is ignored.
    The time is DATE-AVG or MJD-AVG, else the middle of DATE-OBS and DATE-END, else DATE-OBS plus
    half of EXPTIME, in the scale of TIMESYS (UTC if there is none).

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from astropy.io import fits
    >>> from boresight import read_frame
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name) / "frame.fits"
    >>> hdu = fits.PrimaryHDU(np.arange(12, dtype=np.int16).reshape(3, 4))
    >>> hdu.header["DATE-OBS"] = "2018-08-07T12:00:00"
    >>> hdu.writeto(path)
    >>> frame = read_frame(path, region=np.s_[1:, 2:])
    >>> frame.image
    array([[ 6,  7],
           [10, 11]], dtype=int16)
    >>> frame.origin, frame.time.isot
    ((1, 2), '2018-08-07T12:00:00.000')
    >>> folder.cleanup()
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"path: {path} is a directory; give the path of one image file")
    if not path.exists():
        raise FileNotFoundError(f"path: {path} does not exist; give the path of an image file")
    with path.open("rb") as file:
        is_fits = file.read(16).startswith(FITS_MAGIC)
    image, header, time, origin = _read_fits(path, region) if is_fits else _read_image(path, region)
    mask = None
    if image.dtype.kind == "f":
        bad = ~np.isfinite(image)
        mask = bad if bad.any() else None
    return Frame(image, path, header, time, mask, origin)


def _read_fits(
    path: Path, region: Region | str | None
) -> tuple[NDArray[Any], Header, Time | None, tuple[int, int]]:
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyUserWarning

    with warnings.catch_warnings():
        # astropy warns of a file cut short, and then goes on with what is left.
        warnings.filterwarnings("error", message=".*truncated", category=AstropyUserWarning)
        warnings.filterwarnings("ignore", category=fits.verify.VerifyWarning)
        try:
            # An open file, because astropy leaves its own open when it finds damage.
            with path.open("rb") as file, fits.open(file) as hdus:
                hdu = next((h for h in hdus if h.is_image and len(h.shape) == 2), None)
                if hdu is None:
                    kinds = (f"{i} {type(h).__name__} {h.name}" for i, h in enumerate(hdus))
                    raise InputError(
                        f"path: {path} holds no 2-D image, only the HDUs {', '.join(kinds)}; "
                        "give a FITS file with one"
                    )
                rows, columns = _resolve(region, hdu.shape, hdu.header)
                image = np.ascontiguousarray(hdu.section[rows, columns])
                image = image.astype(image.dtype.newbyteorder("="), copy=False)
                header = hdu.header.copy()
                time = _mid_exposure(header, hdus[0].header)
        except InputError:
            raise
        except (*DAMAGE, AstropyUserWarning, fits.VerifyError) as error:
            raise FileFormatError(f"{path} is not a sound FITS file: {error}") from error
    if image.shape != (rows.stop - rows.start, columns.stop - columns.start):
        raise FileFormatError(f"{path} is cut short: pixels of its image are missing")
    return image, header, time, (rows.start, columns.start)


def _read_image(
    path: Path, region: Region | str | None
) -> tuple[NDArray[Any], None, None, tuple[int, int]]:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Large images are welcome, and of broken side information the pixels do not care.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if picture.mode in (
                    "P",
                    "PA",
                    "CMYK",
                    "YCbCr",
                    "LAB",
                    "HSV",
                    "RGBA",
                    "RGBX",
                    "RGBa",
                ):
                    pixels = np.asarray(picture.convert("RGB"))
                elif picture.mode in ("1", "LA", "La"):
                    pixels = np.asarray(picture.convert("L"))
                else:
                    pixels = np.asarray(picture)
    except UnidentifiedImageError as error:
        raise FileFormatError(
            f"{path} is no image in a known format; give FITS, PNG, JPEG, BMP or TIFF"
        ) from error
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise FileFormatError(f"{path} is not a sound image file: {error}") from error
    if pixels.ndim == 3:
        pixels = pixels @ LUMINANCE
    rows, columns = _resolve(region, pixels.shape, {})
    return np.ascontiguousarray(pixels[rows, columns]), None, None, (rows.start, columns.start)


def _resolve(region: Region | str | None, shape: tuple[int, ...], header: Any) -> Region:
    """Find the region asked for, or the header's, with plain start and stop."""
    if region is None and all(card in header for card in TESS_REGION_CARDS):
        row, row_end, column, column_end = (int(header[card]) for card in TESS_REGION_CARDS)
        region = slice(row - 1, row_end), slice(column - 1, column_end)
    elif region is None or region == "full":
        region = slice(None), slice(None)
    repair = "give slices inside the image, such as numpy.s_[0:2048, 44:2092], or 'full'"
    if not (
        isinstance(region, tuple) and len(region) == 2 and all(isinstance(s, slice) for s in region)
    ):
        raise InputError(f"region: {region!r} is not a pair of slices; {repair}")
    resolved = []
    for part, length in zip(region, shape, strict=True):
        try:
            start, stop, step = part.indices(length)
        except TypeError as error:
            raise InputError(
                f"region: {region!r} holds something else than integers; {repair}"
            ) from error
        beyond = part.stop is not None and part.stop > length
        if step != 1 or stop <= start or beyond:
            raise InputError(
                f"region: {region!r} does not lie in the image of shape {shape}; {repair}"
            )
        resolved.append(slice(start, stop))
    return resolved[0], resolved[1]


def _mid_exposure(header: Header, primary: Header) -> Time | None:
    """Middle of the exposure from the usual cards, those of the image's HDU first."""
    from astropy.time import Time, TimeDelta
    from erfa import ErfaWarning

    def card(*names: str) -> Any:
        for name in names:
            for source in (header, primary):
                value = source.get(name)
                if value not in (None, ""):
                    return value
        return None

    scale = str(card("TIMESYS") or "UTC").strip().lower()

    def instant(value: Any) -> Time:
        if isinstance(value, str):
            text = value.strip()
            return Time(text.removesuffix("Z"), scale="utc" if text.endswith("Z") else scale)
        return Time(float(value), format="mjd", scale=scale)

    average = card("DATE-AVG", "MJD-AVG")
    start = card("DATE-OBS", "MJD-OBS", "DATE-BEG", "MJD-BEG")
    end, exposure = card("DATE-END", "MJD-END"), card("EXPTIME")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ErfaWarning)
        try:
            if average is not None:
                return instant(average)
            if start is None:
                return None
            begin = instant(start)
            if end is not None:
                return begin + (instant(end) - begin) / 2
            if exposure is not None:
                return begin + TimeDelta(float(exposure) / 2, format="sec")
        except (ValueError, TypeError):
            return None  # an unreadable date is no reason to refuse the pixels
        return begin
