"""A frame: an image with what its file says about it."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.time import Time
    from astropy.wcs import WCS

__all__ = ["Frame"]


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
