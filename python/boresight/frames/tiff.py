"""Reads TIFF: finds the image of a file that is the frame, and decodes it without loss.

Pillow reduces colours to 8 bits, and reads neither floating-point colours nor most planar files.
"""

from __future__ import annotations

import io
import itertools
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core
from boresight._utils.deadline import check_time, deadline_checked
from boresight.errors import FileFormatError
from boresight.frames.pillow import opened
from boresight.frames.pixels import luminance

#: First bytes of TIFF and BigTIFF, of either byte order.
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

#: Largest number of directories read in one file; in a longer stack of images the first ones are
#: sufficient.
MAX_DIRECTORIES = 200

#: Tags, by their numbers in the TIFF 6.0 specification.
SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = (
    254,
    256,
    257,
    258,
    259,
    262,
    266,
)
STRIP_OFFSETS, SAMPLES, STRIP_ROWS, STRIP_COUNTS, PLANAR = 273, 277, 278, 279, 284
PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 317, 322, 323, 324, 325
SUB_DIRECTORIES, SAMPLE_FORMAT, JPEG_TABLES = 330, 339, 347

#: Formats of the values that are read, by their code: bytes, 16, 32 and 64 bits.
_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

#: Photometric interpretations of undemosaiced pixels: colour filter array, linear raw.
_RAW_PHOTOMETRIC = (32803, 34892)
#: Compressions that camera makers use for raw pixels.
_RAW_COMPRESSION = (32767, 32769, 32770, 34713, 65000, 65535)

#: Types of samples that are read, in numpy's notation.
_TYPES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6

#: Compression by JPEG: strips and tiles are JPEG files without the tables, which they share.
_JPEG = 7
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
#: Marker of Adobe without its last byte: 1 if the colours are luminance and chroma, else 0.
_JPEG_COLOURS = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"

#: Number of compressed bytes that are inflated at a time.
INFLATE_BYTES = 1 << 20


def _inflated(data: bytes, size: int) -> bytes:
    """Inflate at most `size` bytes."""
    stream, parts, left = zlib.decompressobj(), [], size
    for start in range(0, len(data), INFLATE_BYTES):
        check_time()
        if left > 0:
            parts.append(stream.decompress(data[start : start + INFLATE_BYTES], left))
            left -= len(parts[-1])
    return b"".join(parts)


#: Functions that unpack segments, by compression number: none, LZW, Deflate, PackBits.
_UNPACK: dict[int, Callable[[bytes, int], bytes]] = {
    1: lambda data, _size: data,
    5: lambda data, size: _core.unpack_lzw(data, size, check_time),
    8: _inflated,
    32946: _inflated,
    32773: _core.unpack_bits,
}


#: Pairs of photometric interpretation and compression that are read.
_KINDS = {
    *itertools.product((_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB), (*_UNPACK, _JPEG)),
    (_YCBCR, _JPEG),
}


@dataclass(frozen=True)
class Directory:
    """An image file directory: its integer tags, and the file's byte order (< or >)."""

    order: str
    tags: Mapping[int, tuple[int, ...]]

    def first(self, tag: int, default: int = 0) -> int:
        """First value of a tag."""
        return self.tags.get(tag, (default,))[0]

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.first(WIDTH) * self.first(HEIGHT)

    @property
    def is_reduced(self) -> bool:
        """Whether the image is a thumbnail of another image, or a mask."""
        return bool(self.first(SUBFILE) & 0b101)

    @property
    def is_raw(self) -> bool:
        """Whether the pixels are those of a camera's sensor, undemosaiced."""
        return (
            self.first(PHOTOMETRIC) in _RAW_PHOTOMETRIC
            or self.first(COMPRESSION) in _RAW_COMPRESSION
        )


def directories(file: IO[bytes]) -> list[Directory]:
    """Return all image directories of a TIFF file, sub-directories after their parent directory.

    Raises
    ------
    ValueError, struct.error
        If the first directory is damaged; later damaged directories are skipped.
    """
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = b"+" in head[2:4]
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    found: list[Directory] = []
    waiting, seen = [start], {0}
    while waiting and len(found) < MAX_DIRECTORIES:
        offset = waiting.pop(0)
        if offset in seen:
            continue
        seen.add(offset)
        try:
            directory, following = _directory(file, offset, order, big=big)
        except (struct.error, ValueError, OSError, OverflowError):
            if not found:
                raise
            continue
        found.append(directory)
        waiting[:0] = [*directory.tags.get(SUB_DIRECTORIES, ())[:MAX_DIRECTORIES], following]
    return found


def _directory(file: IO[bytes], offset: int, order: str, *, big: bool) -> tuple[Directory, int]:
    """Read a directory; return it and the offset of the next one."""
    count_format, entry_format, link_format = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    file.seek(offset)
    (count,) = struct.unpack(order + count_format, _exactly(file, struct.calcsize(count_format)))
    length = struct.calcsize(order + entry_format)
    body = _exactly(file, min(count, 65535) * length)
    link = file.read(struct.calcsize(order + link_format))
    tags: dict[int, tuple[int, ...]] = {}
    for tag, kind, number, data in struct.iter_unpack(order + entry_format, body):
        form = "B" if tag == JPEG_TABLES else _FORMATS.get(kind)
        if form is None or not number:
            continue
        size = struct.calcsize(order + form) * number
        if size > len(data):
            file.seek(struct.unpack(order + link_format, data)[0])
            data = file.read(size)
        if len(data) >= size:
            tags[tag] = struct.unpack_from(f"{order}{number}{form}", data)
    whole = len(link) == struct.calcsize(order + link_format)
    return Directory(order, tags), struct.unpack(order + link_format, link)[0] if whole else 0


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ValueError("it is cut short")
    return data


def is_camera_raw(head: bytes, found: Sequence[Directory]) -> bool:
    """Whether a TIFF file is a camera's raw file."""
    canon = head[8:10] == b"CR"  # CR2, otherwise shown only by makers' tags
    return canon or any(directory.is_raw for directory in found)


def main_image(found: Sequence[Directory], source: str) -> Directory:
    """Return the directory of the frame: the largest image that is not a thumbnail."""
    images = [d for d in found if d.area]
    full = [d for d in images if not d.is_reduced]
    if not images or (not full and len(images) == 1 and SUB_DIRECTORIES in images[0].tags):
        raise FileFormatError(
            f"{source} contains only a thumbnail; if it is a camera's raw file, "
            "convert it to FITS or 16-bit TIFF"
        )
    return max(full or images, key=lambda directory: directory.area)


def decode(file: IO[bytes], directory: Directory, source: str) -> NDArray[Any]:
    """Decode the pixels of an image: grey unchanged, colours as luminance.

    Raises
    ------
    NotImplementedError
        If the image is of a kind that is not supported here, but perhaps by Pillow.
    ValueError, MemoryError
        If the file is damaged, or the image larger than the memory.
    """
    layout = _Layout(directory)
    shape = (directory.first(HEIGHT), directory.first(WIDTH), layout.samples)
    pixels = np.zeros(shape, layout.dtype.newbyteorder("="))
    for place, segment in layout.segments(file):
        check_time()
        pixels[place] = segment
    if directory.first(PHOTOMETRIC, _BLACK_IS_ZERO) == _WHITE_IS_ZERO:
        pixels = (1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max) - pixels
    if layout.samples in (3, 4):
        return luminance(pixels)
    if layout.samples > 2:
        raise FileFormatError(
            f"{source} has {layout.samples} samples a pixel, which are no colours; "
            "give a file of one band"
        )
    return np.ascontiguousarray(pixels[..., 0])


class _Layout:
    """Layout of the samples of an image in the file."""

    def __init__(self, directory: Directory) -> None:
        first = directory.first
        self._directory = directory
        self.samples = first(SAMPLES, 1)
        self._planar = first(PLANAR, 1) == 2 and self.samples > 1
        self._tiled = TILE_OFFSETS in directory.tags
        self._height = first(HEIGHT)
        bits = set(directory.tags.get(BITS, (1,)))
        formats = set(directory.tags.get(SAMPLE_FORMAT, (1,)))
        kind = {1: "u", 2: "i", 3: "f", 4: "u"}.get(first(SAMPLE_FORMAT, 1), "")
        size = first(BITS, 1) // 8
        supported = (
            f"{kind}{size}" in _TYPES
            and bits == {8 * size}
            and len(formats) == 1
            and (first(PHOTOMETRIC, _BLACK_IS_ZERO), first(COMPRESSION, 1)) in _KINDS
            and first(PREDICTOR, 1) in (1, 2, 3)
            and first(FILL_ORDER, 1) == 1
        )
        if not supported:
            raise NotImplementedError(
                f"{first(BITS, 1)} bits of format {kind or '?'}, compression "
                f"{first(COMPRESSION, 1)}, photometric interpretation {first(PHOTOMETRIC, 1)}"
            )
        self.dtype = np.dtype(f"{directory.order}{kind}{size}")

    def segments(self, file: IO[bytes]) -> Iterator[tuple[tuple[Any, ...], NDArray[Any]]]:
        """Yield strips or tiles, each with the part (rows, columns, samples) that it fills."""
        first = self._directory.first
        height, width = self._height, first(WIDTH)
        rows, columns = min(first(STRIP_ROWS, height), height), width
        tags = self._directory.tags
        offsets, counts = tags.get(STRIP_OFFSETS, ()), tags.get(STRIP_COUNTS, ())
        if self._tiled:
            rows, columns = first(TILE_HEIGHT), first(TILE_WIDTH)
            offsets, counts = tags[TILE_OFFSETS], tags.get(TILE_COUNTS, ())
        if rows < 1 or columns < 1:
            raise ValueError("its strips or tiles have no size")
        planes = self.samples if self._planar else 1
        down, across = -(-height // rows), -(-width // columns)
        if len(offsets) < planes * down * across:
            raise ValueError(
                f"it has {len(offsets)} strips or tiles, but needs {planes * down * across}"
            )
        for index in range(planes * down * across):
            plane, place = divmod(index, down * across)
            top, left = rows * (place // across), columns * (place % across)
            held = rows if self._tiled else min(rows, height - top)
            depth = 1 if self._planar else self.samples
            size = held * columns * depth * self.dtype.itemsize
            file.seek(offsets[index])
            # Old programs omit the counts if the data are not compressed.
            data = file.read(counts[index] if index < len(counts) else size)
            segment = self._unpacked(data, size, (held, columns, depth))
            samples = slice(plane, plane + 1) if self._planar else slice(None)
            filled = slice(top, min(top + held, height)), slice(left, min(left + columns, width))
            yield (*filled, samples), segment[: height - top, : width - left]

    def _unpacked(self, data: bytes, size: int, shape: tuple[int, int, int]) -> NDArray[Any]:
        """Unpack the samples of a strip or tile."""
        if self._directory.first(COMPRESSION, 1) == _JPEG:
            return self._of_jpeg(data, shape)
        raw = _UNPACK[self._directory.first(COMPRESSION, 1)](data, size)
        if len(raw) < size:
            raise ValueError("it is cut short, pixels are missing")
        predictor = self._directory.first(PREDICTOR, 1)
        if predictor == 3 and self.dtype.kind == "f":
            return self._undo_float_predictor(raw[:size], shape)
        samples = np.frombuffer(raw, self.dtype, math.prod(shape)).reshape(shape)
        if predictor == 2:
            # The samples are differences of neighbours, which wrap around like integers.
            integers = samples.view(f"{self._directory.order}u{self.dtype.itemsize}")
            native = integers.astype(integers.dtype.newbyteorder("="))
            np.cumsum(native, axis=1, dtype=native.dtype, out=native)
            return native.view(self.dtype.newbyteorder("="))
        return samples

    def _of_jpeg(self, data: bytes, shape: tuple[int, int, int]) -> NDArray[Any]:
        """Unpack the samples of a strip or tile that is compressed by JPEG."""
        rows, columns, depth = shape
        tables = bytes(self._directory.tags.get(JPEG_TABLES, ())).removesuffix(_JPEG_END)
        colours = _JPEG_COLOURS + bytes([self._directory.first(PHOTOMETRIC) == _YCBCR])
        whole = (tables or _JPEG_START) + colours + data.removeprefix(_JPEG_START)
        with deadline_checked(io.BytesIO(whole)) as content, opened(content) as picture:
            if (picture.format, picture.mode) != ("JPEG", "RGB" if depth == 3 else "L"):
                raise ValueError(f"it has JPEG of {picture.mode} for {depth} samples a pixel")
            # The last strip may be stored at the full height of a strip.
            if picture.width != columns or not rows <= picture.height <= max(rows, self._height):
                raise ValueError(f"a strip or tile is of {picture.size} pixels")
            return np.asarray(picture).reshape(picture.height, columns, depth)[:rows]

    def _undo_float_predictor(self, raw: bytes, shape: tuple[int, int, int]) -> NDArray[Any]:
        """Undo Adobe's predictor of floats: bytes sorted by significance, stored as differences."""
        rows, columns, depth = shape
        size = self.dtype.itemsize
        steps = np.frombuffer(raw, np.uint8).reshape(rows, size * columns, depth)
        whole = np.cumsum(steps, axis=1, dtype=np.uint8).reshape(rows, size, columns * depth)
        samples = np.ascontiguousarray(np.moveaxis(whole, 1, 2)).view(f">f{size}")
        return samples.reshape(shape)
