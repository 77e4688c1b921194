"""Reading FITS files."""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boresight.errors import FileFormatError, InputError
from boresight.frames.region import Region, resolve
from boresight.frames.times import mid_exposure

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.time import Time

#: First bytes of files that may hold FITS: plain (also tile-compressed .fz), gzip, bzip2.
FITS_MAGIC = (b"SIMPLE  =", b"\x1f\x8b", b"BZh")

#: Exceptions of astropy and Pillow on damaged files (they have no common base).
DAMAGE = (OSError, ValueError, TypeError, LookupError, SyntaxError, EOFError, ArithmeticError,
          AttributeError, MemoryError, zlib.error)  # fmt: skip


def read_fits(
    path: Path, region: Region | str | None
) -> tuple[NDArray[Any], Header, Time | None, tuple[int, int]]:
    """Pixels, header, time and origin of the region of a FITS image."""
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
                rows, columns = resolve(region, hdu.shape, hdu.header)
                image = np.ascontiguousarray(hdu.section[rows, columns])
                image = image.astype(image.dtype.newbyteorder("="), copy=False)
                header = hdu.header.copy()
                time = mid_exposure(header, hdus[0].header)
        except InputError:
            raise
        except (*DAMAGE, AstropyUserWarning, fits.VerifyError) as error:
            raise FileFormatError(f"{path} is not a sound FITS file: {error}") from error
    if image.shape != (rows.stop - rows.start, columns.stop - columns.start):
        raise FileFormatError(f"{path} is cut short: pixels of its image are missing")
    return image, header, time, (rows.start, columns.start)
