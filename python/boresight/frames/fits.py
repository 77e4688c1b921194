"""Reads FITS: the structure of a file, and the pixels of one of its images.

The structure is read here and not by astropy, which refuses a whole file for one card that it
cannot read. Compressed images are passed to astropy, one by one and with a repaired header.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Iterable
from itertools import pairwise
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.deadline import check_time, is_limited
from boresight.errors import FileFormatError
from boresight.frames.cards import CARD, Cards, cards_of
from boresight.frames.choice import Axes, Hdu, Load
from boresight.frames.pixels import ROWS, luminance, native
from boresight.frames.stored import StoredArray
from boresight.frames.structure import (
    BLOCK,
    array_shape,
    data_size,
    has_groups,
    read_header,
    whole_number,
)

#: Number of pixels of a tile-compressed image that are decompressed at a time if there is a time
#: limit: they take some 50 ms.
BAND = 1 << 21

#: Exceptions of astropy, Pillow and the decompressors on damaged files; they share no base class.
DAMAGE = Exception


def read_hdus(file: IO[bytes], source: str, *, stream: bool) -> tuple[list[Hdu], list[str]]:
    """Read the headers of a FITS file, and note where its structure breaks off.

    For a stream, in which seeking backwards is slow, the data are read immediately.
    """
    hdus: list[Hdu] = []
    offset = 0
    while True:
        try:
            file.seek(offset)
            text, length = read_header(file, first=not hdus)
            if not text:
                return hdus, []
            hdu, size = _hdu(file, len(hdus), text, offset + length, stream=stream)
        except DAMAGE as error:
            if not hdus:
                raise FileFormatError(f"{source} is not a sound FITS file: {error}") from error
            return hdus, [f"the file is damaged after HDU {len(hdus) - 1}: {error}"]
        hdus.append(hdu)
        offset += length + -(-size // BLOCK) * BLOCK


def _hdu(file: IO[bytes], index: int, text: str, offset: int, *, stream: bool) -> tuple[Hdu, int]:
    """Make the HDU of a header with data at `offset`; return it and the data's length in bytes."""
    header = Cards(text)
    bitpix, shape = array_shape(header)
    size = data_size(header, bitpix, shape, first=index == 0)
    groups = index == 0 and has_groups(header)
    repeated = whole_number(header, "GCOUNT", 1, least=0) if index else 1
    kind = "PRIMARY" if index == 0 else str(header["XTENSION"]).strip().upper()
    if stream:
        file, offset = io.BytesIO(file.read(size)), 0
    load: Load
    if kind == "BINTABLE" and header.get("ZIMAGE") is True:
        return _compressed(file, index, header, offset, size), size
    if kind not in ("PRIMARY", "IMAGE", "IUEIMAGE") or groups or repeated != 1:
        shape, load = (), _nothing
    else:
        load = StoredArray(file, offset, shape, header, bitpix, header.notes)
    return Hdu(index, kind, header, header.notes, shape, bitpix, load), size


def _nothing(leading: tuple[int, ...], rows: slice, part: slice) -> NDArray[Any]:
    raise NotImplementedError  # an HDU without a shape is never loaded


def _compressed(file: IO[bytes], index: int, header: Cards, offset: int, size: int) -> Hdu:
    """Make the HDU of a tile-compressed image, which astropy decompresses."""
    lengths = [
        whole_number(header, f"ZNAXIS{i + 1}", least=0)
        for i in range(whole_number(header, "ZNAXIS"))
    ]
    shape, bitpix = tuple(reversed(lengths)), whole_number(header, "ZBITPIX")

    @functools.cache
    def opened() -> Any:
        file.seek(offset)
        data = file.read(size)
        if len(data) < size:
            raise EOFError("it is cut short, pixels of its image are missing")
        return _opened(header, data)

    def load(leading: tuple[int, ...], rows: slice, part: slice) -> NDArray[Any]:
        tall = opened().tile_shape[len(leading)]
        # The image is read in bands of whole tiles, so that each tile is decompressed once. Bands
        # are used only with a time limit, because they cost about a quarter of the time.
        pixels = tall * math.prod(shape[len(leading) + 1 :])
        step = (max(1, BAND // pixels) if is_limited() else rows.stop) * tall
        starts = [rows.start, *range(step * (rows.start // step + 1), rows.stop, step)]
        values = np.empty(0)
        for start, stop in pairwise([*starts, rows.stop]):
            check_time()
            band = np.asarray(opened().section[(*leading, slice(start, stop))])
            band = band.reshape(stop - start, -1)[:, part]
            if start == rows.start:
                kind = band.dtype.newbyteorder("=")
                values = np.empty((rows.stop - rows.start, band.shape[1]), kind)
            values[start - rows.start : stop - rows.start] = band
        return values

    image = cards_of(_opened(header, b"").header)
    return Hdu(index, "IMAGE", image, header.notes, shape, bitpix, load)


def _opened(header: Cards, data: bytes) -> Any:
    """Make an astropy HDU from the header and data of an extension."""
    from astropy.io import fits

    primary = fits.PrimaryHDU().header.tostring().encode("ascii")
    cards = header.text.encode("ascii") + b"END".ljust(CARD)
    content = primary + cards + b" " * (-len(cards) % BLOCK) + data
    return fits.open(io.BytesIO(content + bytes(-len(content) % BLOCK)), memmap=False)[1]


def astropy_hdus(given: Iterable[Any]) -> list[Hdu]:
    """Convert HDUs of astropy to `Hdu`."""
    return [_astropy_hdu(index, hdu) for index, hdu in enumerate(given)]


def _astropy_hdu(index: int, hdu: Any) -> Hdu:
    header = cards_of(hdu.header)

    def load(leading: tuple[int, ...], rows: slice, part: slice) -> NDArray[Any]:
        index: Any = (*leading, rows)
        array = np.asarray(hdu.data)[index]
        return native(array.reshape(rows.stop - rows.start, -1)[:, part])

    shape = tuple(hdu.shape) if hdu.is_image else ()
    bitpix = int(header.get("BITPIX", 8))
    return Hdu(index, type(hdu).__name__, header, header.notes, shape, bitpix, load)


def load_frame(hdu: Hdu, axes: Axes, rows: slice, columns: slice) -> NDArray[Any]:
    """Load rows and columns of an HDU's frame; colours become their luminance."""
    if axes.colour is None:
        return np.ascontiguousarray(hdu.load((0,) * axes.row, rows, columns))
    parts = []
    for start in range(rows.start, rows.stop, ROWS):
        some = slice(start, min(start + ROWS, rows.stop))
        parts.append(luminance(_colours(hdu, axes, some, columns)))
    return np.concatenate(parts)


def _colours(hdu: Hdu, axes: Axes, rows: slice, columns: slice) -> NDArray[Any]:
    """Load rows and columns of a colour image, in shape (rows, columns, 3)."""
    if axes.colour is not None and axes.colour < axes.row:
        planes = []
        for colour in range(3):
            leading = tuple(colour if axis == axes.colour else 0 for axis in range(axes.row))
            planes.append(hdu.load(leading, rows, columns))
        return np.stack(planes, axis=-1)
    part = slice(3 * columns.start, 3 * columns.stop)
    return hdu.load((0,) * axes.row, rows, part).reshape(rows.stop - rows.start, -1, 3)
