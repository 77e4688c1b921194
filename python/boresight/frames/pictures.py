"""Reads pictures: PNG, JPEG, BMP, TIFF, camera raw files and all other formats of Pillow."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core
from boresight.errors import FileFormatError
from boresight.frames import tiff
from boresight.frames.deep import read_deep
from boresight.frames.exif import ORIENTATIONS, exif_of
from boresight.frames.fits import DAMAGE
from boresight.frames.pillow import max_pixels, opened
from boresight.frames.pixels import luminance, native
from boresight.frames.raw import RAW_SUFFIXES, is_raw, read_raw

_COLOUR_MODES = ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "RGBA", "RGBX", "RGBa")
_GREY_MODES = ("1", "LA", "La")

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
#: Samples per pixel of the PNG colour types that Pillow reduces to 8 bits: colour, grey with alpha,
#: and colour with alpha.
_PNG_SAMPLES = {2: 3, 4: 2, 6: 4}

#: Number of bytes by which formats are recognised, and text is told from pictures with a header of
#: text.
HEAD_BYTES = 512

#: Vector formats, which have no pixels to read.
_VECTOR_FORMATS = ("EPS", "WMF")

Picture = tuple[NDArray[Any], dict[str, Any], list[str]]


def read_picture(file: IO[bytes], path: Path | None, source: str) -> Picture:
    """Return the pixels of a picture, its EXIF, and notes."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    notes: list[str] = []
    try:
        if is_raw(head):
            return read_raw(path or file, source), {}, notes
        if head.startswith(tiff.TIFF_MAGIC):
            return _read_tiff(file, path, source, head)
        with opened(file) as picture:
            if picture.format in _VECTOR_FORMATS:
                raise FileFormatError(f"{source} is a drawing; give FITS, PNG, JPEG, BMP or TIFF")
            exif = exif_of(picture)
            notes += _orientation(exif)
            if getattr(picture, "is_animated", False):
                notes.append(f"the first of {picture.n_frames} pictures in the file was taken")
            if head.startswith(_PNG_MAGIC) and head[24] == 16 and head[25] in _PNG_SAMPLES:
                return _deep_png(file, head), exif, notes
            deep = read_deep(file, picture, source)
            if deep is not None:
                return deep, exif, notes
            # JPEG stores luminance separately from colours, which have less detail. Luminance alone
            # is faster to decode, and colour blocks cannot be mistaken for stars.
            picture.draft("L", None)
            return pixels_of(picture), exif, notes
    except FileFormatError:
        raise
    except DAMAGE as error:
        raise _unreadable(source, head, error) from error


def _unreadable(source: str, head: bytes, error: Exception) -> FileFormatError:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError | MemoryError):
        return FileFormatError(f"{source} has more pixels than the memory can hold: {error}")
    if head.startswith(b"\x1f\x9d"):
        return FileFormatError(f"{source} is compressed with `compress`; use `uncompress` first")
    if isinstance(error, UnidentifiedImageError):
        aside = ""
        if not head:
            aside = ": it is empty"
        elif head.isascii() and b"\0" not in head:
            aside = "; it is text, and a list of stars is read by astropy.table.Table.read"
        return FileFormatError(
            f"{source} is not an image in a known format{aside}; give FITS, PNG, JPEG, BMP or TIFF"
        )
    return FileFormatError(f"{source} is not a sound image file: {error}")


def pixels_of(picture: Any) -> NDArray[Any]:
    """Return the pixels of a Pillow image: grey unchanged, colours as luminance."""
    if picture.mode in _COLOUR_MODES:
        picture = picture.convert("RGB")
    elif picture.mode in _GREY_MODES:
        picture = picture.convert("L")
    pixels = native(np.asarray(picture))
    return luminance(pixels) if pixels.ndim == 3 else np.ascontiguousarray(pixels)


def _orientation(exif: dict[str, Any]) -> list[str]:
    turned = ORIENTATIONS.get(exif.get("Orientation", 1))
    if turned is None:
        return []
    return [
        f"EXIF has viewers show the picture {turned}; rows and columns are as the file stores them"
    ]


def _deep_png(file: IO[bytes], head: bytes) -> NDArray[Any]:
    """Return the pixels of a PNG with several 16-bit samples per pixel."""
    width, height = struct.unpack_from(">II", head, 16)
    samples = _PNG_SAMPLES[head[25]]
    if width * height > max_pixels():
        raise MemoryError(f"{width} x {height}")
    pixels = np.zeros((height, width, samples), ">u2")
    file.seek(0)
    _core.read_png(file, pixels.reshape(-1).view(np.uint8))
    if samples == 2:
        return np.ascontiguousarray(native(pixels[..., 0]))
    return luminance(pixels)


def _read_tiff(file: IO[bytes], path: Path | None, source: str, head: bytes) -> Picture:
    """Read the frame of a TIFF file, with a lossless decoder or else with Pillow."""
    found = tiff.directories(file)
    file.seek(0)
    exif: dict[str, Any] = {}
    with suppress(DAMAGE), opened(file) as picture:  # Pillow reads only some kinds of TIFF
        exif = exif_of(picture)
    if tiff.is_camera_raw(head, found):
        return read_raw(path or file, source), exif, []
    main = tiff.main_image(found, source)
    if path is not None and path.suffix.lower() in RAW_SUFFIXES and main.is_reduced:
        return read_raw(path, source), exif, []
    notes = _orientation(exif)
    alike = sum(d.area == main.area and not d.is_reduced for d in found)
    if alike > 1:
        notes.append(f"the first of {alike} images of one size in the file was taken")
    if main.area > max_pixels():
        raise MemoryError(f"{main.first(tiff.WIDTH)} x {main.first(tiff.HEIGHT)}")
    try:
        return tiff.decode(file, main, source), exif, notes
    except NotImplementedError as error:
        deep = main.first(tiff.BITS, 1) > 8 and main.first(tiff.SAMPLES, 1) > 1
        if deep or main is not found[0]:
            raise FileFormatError(
                f"{source} is a TIFF that cannot be read without loss ({error}); "
                "save it without compression"
            ) from error
    file.seek(0)
    with opened(file) as picture:
        return pixels_of(picture), exif, notes
