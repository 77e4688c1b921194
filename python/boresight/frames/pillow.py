"""Opens images with Pillow, with a pixel limit set by the memory of the machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from boresight._utils.quiet import quiet

__all__ = ["max_pixels", "opened"]

#: Bytes of memory per pixel of a picture while it is decoded and converted to grey.
BYTES_PER_PIXEL = 16

#: Largest number of pixels if the size of the memory is unknown.
DEFAULT_MAX_PIXELS = 1_000_000_000

_pillow_limit = threading.Lock()


def max_pixels() -> int:
    """Return the largest number of pixels that the memory of this machine can hold."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return DEFAULT_MAX_PIXELS
    return memory // BYTES_PER_PIXEL


@contextmanager
def opened(file: Any) -> Iterator[Any]:
    """Open an image with Pillow, with its size limit raised to that of the memory."""
    from PIL import Image

    with quiet:  # broken metadata do not affect the pixels
        with _pillow_limit:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels() // 2
            try:
                picture = Image.open(file)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        with picture:
            yield picture
