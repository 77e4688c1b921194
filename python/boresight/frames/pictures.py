"""Reading pictures: PNG, JPEG, BMP, TIFF and whatever else Pillow reads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight.errors import FileFormatError
from boresight.frames.fits import DAMAGE
from boresight.frames.region import Region, resolve

#: Weights of red, green and blue (ITU-R BT.709), as in `extract_centroids`.
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


def read_picture(
    path: Path, region: Region | str | None
) -> tuple[NDArray[Any], None, None, tuple[int, int]]:
    """Pixels of the region of a picture, no header, no time, and the origin."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Large images are welcome, and of broken side information the pixels do not care.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if picture.mode in (
                    "P",
                    "PA",
                    "CMYK",
                    "YCbCr",
                    "LAB",
                    "HSV",
                    "RGBA",
                    "RGBX",
                    "RGBa",
                ):
                    pixels = np.asarray(picture.convert("RGB"))
                elif picture.mode in ("1", "LA", "La"):
                    pixels = np.asarray(picture.convert("L"))
                else:
                    pixels = np.asarray(picture)
    except UnidentifiedImageError as error:
        raise FileFormatError(
            f"{path} is no image in a known format; give FITS, PNG, JPEG, BMP or TIFF"
        ) from error
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise FileFormatError(f"{path} is not a sound image file: {error}") from error
    if pixels.ndim == 3:
        pixels = pixels @ LUMINANCE
    rows, columns = resolve(region, pixels.shape, {})
    return np.ascontiguousarray(pixels[rows, columns]), None, None, (rows.start, columns.start)
