"""Pictures with more than 8 bits a sample that Pillow cuts to 8: they are read here, or refused."""

from __future__ import annotations

import re
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from boresight.errors import FileFormatError
from boresight.frames.pixels import luminance

#: Modes in which Pillow keeps all bits of a sample.
_WHOLE_MODES = ("I", "I;16", "I;16B", "F")

#: Number of bytes at the beginning of a file in which the depth of its samples is looked for.
_HEADER_BYTES = 1 << 16

#: Beginning of a JPEG 2000 codestream, and where its first component's depth follows.
_CODESTREAM, _DEPTH_PLACE = b"\xff\x4f\xff\x51", 42

#: Name of the AVIF box with the configuration of the codec, its flags, and the flag of high depth.
_AVIF_CODEC, _FLAGS_PLACE, _HIGH_DEPTH = b"av1C", 6, 0x40


def read_deep(file: IO[bytes], picture: Any, source: str) -> NDArray[Any] | None:
    """Return the pixels of a deep picture, or None if Pillow reads it without loss.

    Raises
    ------
    FileFormatError
        If the picture is deep, and of a format that is not read here.
    ValueError
        If the file is cut short.
    """
    if picture.mode in _WHOLE_MODES:
        return None
    if picture.format == "PPM":
        return _read_ppm(file, picture)
    file.seek(0)
    bits = _bits(picture.format, file.read(_HEADER_BYTES))
    if bits > 8:
        raise FileFormatError(
            f"{source} has more than 8 bits a sample, which are lost in reading this format; "
            "save it as PNG, TIFF or FITS"
        )
    return None


def _bits(form: str, head: bytes) -> int:
    """Return the number of bits of a sample by the header of a file; 8 if it is not deep."""
    if form == "SGI":
        return 8 * head[3]
    if form == "JPEG2000" and (start := head.find(_CODESTREAM)) >= 0:
        return (head[start + _DEPTH_PLACE] & 0x7F) + 1
    if form == "AVIF" and (start := head.find(_AVIF_CODEC)) >= 0:
        return 10 if head[start + _FLAGS_PLACE] & _HIGH_DEPTH else 8
    return 8


def _read_ppm(file: IO[bytes], picture: Any) -> NDArray[Any] | None:
    """Read a colour PPM whose samples have 16 bits, in binary or as text."""
    decoder, _, start, parameters = picture.tile[0]
    largest = parameters[1] if isinstance(parameters, tuple) else 255
    if picture.mode != "RGB" or largest < 256:
        return None
    width, height = picture.size
    file.seek(start)
    data = file.read()
    if decoder == "ppm_plain":
        samples = np.array(re.sub(rb"#[^\r\n]*", b"", data).split(), np.uint16)
    else:
        samples = np.frombuffer(data[: len(data) // 2 * 2], ">u2")
    if samples.size < 3 * width * height:
        raise ValueError("it is cut short, pixels are missing")
    return luminance(samples[: 3 * width * height].reshape(height, width, 3))
