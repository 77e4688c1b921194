"""Reads camera raw files: the sensor's pixels, binned over the colour filters."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.deadline import check_time
from boresight.errors import FileFormatError
from boresight.frames.pixels import ROWS, luminance

#: Offsets and values of the first bytes of raw formats other than TIFF: Fujifilm, Olympus,
#: Panasonic, Canon's CRW and CR3, Minolta, Sigma.
_MAGIC = (
    (0, b"FUJIFILMCCD-RAW"), (0, b"IIRO"), (0, b"IIRS"), (0, b"MMOR"), (0, b"IIU\0"),
    (6, b"HEAPCCDR"), (4, b"ftypcrx"), (0, b"\0MRM"), (0, b"FOVb"),
)  # fmt: skip

#: File name extensions of camera raw files.
RAW_SUFFIXES = {
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef",
    ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw",
    ".x3f",
}  # fmt: skip


def is_raw(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a raw format other than TIFF."""
    return any(head.startswith(magic, offset) for offset, magic in _MAGIC)


def read_raw(file: Path | IO[bytes], source: str) -> NDArray[Any]:
    """Read a camera's raw file; each pixel is a mean over the colour filters."""
    try:
        import rawpy
    except ImportError:
        raise FileFormatError(
            f"{source} is a camera's raw file, which needs the package rawpy; "
            "pip install 'boresight[raw]', or convert it to FITS or 16-bit TIFF"
        ) from None
    try:
        given: Any = str(file) if isinstance(file, Path) else file
        with rawpy.imread(given) as raw:
            check_time()
            pixels = np.asarray(raw.raw_image_visible)
            pattern = raw.raw_pattern
            if pixels.ndim == 3:  # a sensor that sees three colours in each pixel
                return luminance(pixels)
            period = 1 if pattern is None else len(pattern)
            # With a period of 6 (X-Trans), each quarter has the colours in the same proportion.
            return binned(pixels, period // 2 if period > 2 else period)
    except (OSError, ValueError, TypeError, MemoryError, rawpy.LibRawError) as error:
        reason = error.args[0] if error.args else error
        if isinstance(reason, bytes):  # a message of LibRaw
            reason = reason.decode("ascii", "replace")
        raise FileFormatError(
            f"{source} is a camera's raw file that rawpy cannot read: {reason}"
        ) from error


def binned(mosaic: NDArray[Any], side: int) -> NDArray[Any]:
    """Bin by means over squares of pixels, float32; incomplete squares are cut off."""
    if side == 1:
        return mosaic.copy()
    height, width = (length // side for length in mosaic.shape)
    means = np.empty((height, width), np.float32)
    for start in range(0, height, ROWS):
        check_time()
        rows = mosaic[start * side : min(start + ROWS, height) * side, : width * side]
        squares = rows.reshape(-1, side, width, side)
        squares.mean(axis=(1, 3), dtype=np.float32, out=means[start : start + ROWS])
    return means
