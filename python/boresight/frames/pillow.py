"""Pillow, with a limit of pixels that the memory of the machine sets."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from boresight._utils.quiet import quiet

__all__ = ["max_pixels", "opened"]

#: Bytes of memory that a pixel of a picture needs while it is decoded and made grey.
BYTES_PER_PIXEL = 16

#: Pixels that are decoded where the machine does not tell its memory.
DEFAULT_MAX_PIXELS = 1_000_000_000

_pillow_limit = threading.Lock()


def max_pixels() -> int:
    """Pixels that the memory of this machine can hold."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return DEFAULT_MAX_PIXELS
    return memory // BYTES_PER_PIXEL


@contextmanager
def opened(file: Any) -> Iterator[Any]:
    """Open with Pillow, whose limit of size is raised to what the memory holds."""
    from PIL import Image

    with quiet:  # of broken side information the pixels do not care
        with _pillow_limit:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels() // 2
            try:
                picture = Image.open(file)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        with picture:
            yield picture
