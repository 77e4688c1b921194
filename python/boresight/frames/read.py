"""Reading frames from files: FITS and the common image formats."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from boresight.frames.fits import FITS_MAGIC, read_fits
from boresight.frames.frame import Frame
from boresight.frames.pictures import read_picture
from boresight.frames.region import Region

__all__ = ["read_frame"]


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
    image, header, time, origin = read_fits(path, region) if is_fits else read_picture(path, region)
    mask = None
    if image.dtype.kind == "f":
        bad = ~np.isfinite(image)
        mask = bad if bad.any() else None
    return Frame(image, path, header, time, mask, origin)
