"""Reads frames from files and from objects of other packages."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import io
import lzma
import os
import re
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.deadline import deadline_checked
from boresight._utils.files import check_is_file
from boresight._utils.naming import named, type_of
from boresight._utils.quiet import quiet
from boresight.errors import FileFormatError, InputError
from boresight.frames.choice import Hdu, HduName, choose
from boresight.frames.exif import exif_of, time_cards
from boresight.frames.exposure import mid_exposure
from boresight.frames.fits import DAMAGE, astropy_hdus, load_frame, read_hdus
from boresight.frames.frame import Frame
from boresight.frames.pictures import pixels_of, read_picture
from boresight.frames.pixels import ROWS
from boresight.frames.region import Region, resolve

__all__ = ["frame_of", "read_frame"]

#: Beginning of a URL as `pathlib` writes it; a single letter is a drive.
URL = r"[A-Za-z][A-Za-z0-9+]+:/"

#: First bytes of files that may hold FITS: plain (also tile-compressed .fz), gzip, bzip2, xz.
FITS_MAGIC = b"SIMPLE"
_DECOMPRESS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


@named
def read_frame(
    path: str | os.PathLike[str] | IO[bytes] | Any,
    *,
    region: Region | str | None = None,
    hdu: HduName | None = None,
) -> Frame:
    """Read a frame from a file.

    Parameters
    ----------
    path : str, path-like, binary file, HDU, HDUList or PIL image
        A FITS file (plain, tile-compressed ``.fz``, or compressed as a whole with gzip, bzip2 or
        xz), a picture (PNG, JPEG, BMP, TIFF, ... of any depth), or a camera's raw file (with the
        extra ``raw``). The content decides the format, not the name. Or an object that holds a
        frame: an open file, an HDU or HDUList of `astropy.io.fits`, an image of Pillow.
    region : (slice, slice) or "full", optional
        Rows and columns to read, as in ``numpy.s_[0:2048, 44:2092]``. Default: the science region
        if the header of a TESS full frame names one, otherwise the whole image; ``"full"`` reads
        the whole image.
    hdu : int, str or (str, int), optional
        Number (from 0) or name of the HDU of a FITS file, or its name and EXTVER: ``("SCI", 2)``,
        ``"SCI,2"``. Default: the HDU that holds the exposure, see the notes.

    Returns
    -------
    Frame
        The pixels, header, time and position of the region in the file. `Frame.notes` lists all
        data of the file that could not be used unchanged.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If the file does not exist.
    InputError
        If a FITS file holds no 2-D image, the HDU is not one, or the region lies outside it.
    FileFormatError
        If the file is damaged, of no known format, or has more pixels than the memory can hold.

    Notes
    -----
    **FITS.** A frame is an array of two axes, or of three with three colours, first or last, apart
    from axes of length 1. If there are several, the one is taken that is named as such (``SCI``,
    ``IMAGE``), has at least half the size of the largest, more than 8 bits, a celestial WCS, and
    the largest size, with priority in this order. Masks, errors and lookup arrays, recognised by
    their names, are never taken. BSCALE, BZERO and BLANK are applied. A card that cannot be read is
    noted and does not prevent reading.

    **Pictures.** If a TIFF file has several images, the largest is taken, never a thumbnail. Rows
    and columns are those of the file: the orientation of EXIF, by which viewers rotate a picture,
    is noted and not applied, because the pixels keep their places on the sensor however the camera
    is held. In raw files, squares of one red, two green and one blue pixel are averaged (for
    X-Trans sensors of nine pixels): the image has half (a third) of the width and height.

    Colours become luminance (ITU-R BT.709, as in `extract_centroids`; for JPEG the luminance stored
    in the file, ITU-R BT.601); transparency is ignored.

    **Time.** The time is the middle of the exposure, in the scale of TIMESYS (UTC if there is
    none), from the first of these cards that exist: DATE-AVG or MJD-AVG; else the middle of the
    start (DATE-BEG, DATE-OBS, with TIME-OBS, UT or UTC-OBS if they hold a date alone; MJD-BEG,
    MJD-OBS) and the end (DATE-END, MJD-END); else the start plus half of EXPTIME, EXPOSURE or
    TELAPSE, in the unit that the card names; else the start itself. The time is None if cards
    cannot be read or contradict each other; the notes then say so. For pictures, it is the time in
    EXIF, if that names the time zone.

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
    >>> read_frame(hdu).image_shape
    (3, 4)
    >>> folder.cleanup()
    """
    if isinstance(path, str | os.PathLike):
        return _read_path(Path(path), region, hdu)
    frame = frame_of(path, region=region, hdu=hdu)
    if frame is None:
        raise InputError(
            f"path: {type_of(path)} is not a file; give the path of one, an open binary "
            "file, an HDU or a PIL image"
        )
    return frame


def frame_of(
    given: Any, *, region: Region | str | None = None, hdu: HduName | None = None
) -> Frame | None:
    """Return the frame of an open file, HDU, HDUList or PIL image; None for other objects."""
    # Objects of a package can exist only if it has been imported.
    fits, pil = sys.modules.get("astropy.io.fits"), sys.modules.get("PIL.Image")
    if fits is not None and isinstance(given, fits.HDUList):
        return _fits_frame(astropy_hdus(given), [], None, "the HDUList", region, hdu)
    if fits is not None and hasattr(given, "is_image") and hasattr(given, "header"):
        return _fits_frame(astropy_hdus([given]), [], None, "the HDU", region, 0)
    if pil is not None and isinstance(given, pil.Image):
        return _pil_frame(given, region)
    if hasattr(given, "read") and not hasattr(given, "__array__"):
        return _read_open(given, region, hdu)
    return None


def _read_path(path: Path, region: Region | str | None, hdu: HduName | None) -> Frame:
    check_is_file(path)
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        if re.match(URL, str(path)):
            raise InputError(
                f"path: {path} is a URL; read it with boresight.batch, or give the path of a file, "
                "such as astropy.utils.data.download_file makes"
            ) from None
        raise FileNotFoundError(
            f"path: {path} does not exist; give the path of an image file"
        ) from None
    except (IsADirectoryError, PermissionError):
        if not path.is_dir():
            raise
        raise IsADirectoryError(
            f"path: {path} is a directory; give the path of one image file"
        ) from None
    with file:
        return _read(file, path, str(path), region, hdu)


def _read_open(file: IO[bytes], region: Region | str | None, hdu: HduName | None) -> Frame:
    """Read an open file from its beginning, and leave it open."""
    name = getattr(file, "name", None)
    path = Path(name) if isinstance(name, str) else None
    source = "the open image file" if path is None else str(path)
    try:
        if file.seekable():
            file.seek(0)
            probe = file.read(0)
        else:
            probe = file.read()
            file = io.BytesIO(probe)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"path: {source} cannot be read: {error}; open it in mode 'rb'") from error
    if not isinstance(probe, bytes):
        raise InputError(f"path: {source} is open as text; open it in mode 'rb'")
    frame = _read(file, None, source, region, hdu)
    return dataclasses.replace(frame, path=path, header=frame._header_or_cards)


def _read(
    file: IO[bytes],
    path: Path | None,
    source: str,
    region: Region | str | None,
    hdu: HduName | None,
) -> Frame:
    with deadline_checked(file) as content:
        head = content.read(16)
        content.seek(0)
        for magic, decompress in _DECOMPRESS.items():
            if head.startswith(magic):
                with decompress(content) as plain:
                    return _read_fits(plain, path, source, region, hdu, stream=True)
        if head.startswith(FITS_MAGIC):
            return _read_fits(content, path, source, region, hdu, stream=False)
        if hdu is not None:
            raise InputError(f"hdu: {source} is not a FITS file and has no HDUs; leave it out")
        image, exif, notes = read_picture(content, path, source)
        return _picture_frame(image, exif, notes, path, region)


def _read_fits(
    file: Any,
    path: Path | None,
    source: str,
    region: Region | str | None,
    hdu: HduName | None,
    *,
    stream: bool,
) -> Frame:
    with quiet:  # problems are noted here
        hdus, notes = read_hdus(file, source, stream=stream)
        return _fits_frame(hdus, notes, path, source, region, hdu)


def _fits_frame(
    hdus: list[Hdu],
    notes: list[str],
    path: Path | None,
    source: str,
    region: Region | str | None,
    wanted: HduName | None,
) -> Frame:
    chosen, axes, choice = choose(hdus, wanted, source)
    shape = chosen.shape[axes.row], chosen.shape[axes.column]
    (rows, columns), stale = resolve(region, shape, chosen.header)
    try:
        image = load_frame(chosen, axes, rows, columns)
    except MemoryError as error:
        raise FileFormatError(
            f"{source} has more pixels than the memory can hold: {error}; give a region of it"
        ) from error
    except DAMAGE as error:
        raise FileFormatError(f"{source} is not a sound FITS file: {error}") from error
    time, time_notes = mid_exposure(chosen.header, hdus[0].header)
    dimensions = len(chosen.shape)
    return Frame(
        image,
        path,
        chosen.header,
        time,
        None if getattr(chosen.load, "is_finite", False) else _mask(image),
        (rows.start, columns.start),
        (dimensions - axes.column, dimensions - axes.row),
        notes=(*notes, *choice, *chosen.notes, *stale, *time_notes),
    )


def _pil_frame(picture: Any, region: Region | str | None) -> Frame:
    """Make the frame of a Pillow image; one still on disk is read from there, with all its bits."""
    name = getattr(picture, "filename", "")
    if name and getattr(picture, "tile", None) and Path(name).is_file():
        return _read_path(Path(name), region, None)
    try:
        image, exif = pixels_of(picture), exif_of(picture)
    except DAMAGE as error:
        raise FileFormatError(f"the PIL image cannot be read: {error}") from error
    return _picture_frame(image, exif, [], None, region)


def _picture_frame(
    image: Any, exif: dict[str, Any], notes: list[str], path: Path | None, region: Any
) -> Frame:
    (rows, columns), _ = resolve(region, image.shape, {})
    cards = time_cards(exif)
    time, time_notes = mid_exposure(cards, cards)
    image = np.ascontiguousarray(image[rows, columns])
    return Frame(
        image,
        path,
        time=time,
        mask=_mask(image),
        origin=(rows.start, columns.start),
        exif=exif,
        notes=(*notes, *time_notes),
    )


def _mask(image: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return True where a pixel has no value; None if all have one."""
    if image.dtype.kind != "f":
        return None
    # Tested in pieces, so that an image without such pixels needs no extra memory.
    pieces = (image[start : start + ROWS] for start in range(0, len(image), ROWS))
    return None if all(np.isfinite(piece).all() for piece in pieces) else ~np.isfinite(image)
