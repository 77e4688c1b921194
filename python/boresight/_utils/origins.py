"""Origins of pixel coordinates, and the conversion between them."""

from __future__ import annotations

from typing import Any, Literal, get_args

from boresight._utils.arguments import image_size
from boresight.errors import InputError

Origin = Literal["center", "corner", "fits"]
"""``"center"``: the image's centre is (0, 0), as everywhere in this package. ``"corner"``: the
centre of the first pixel is (0, 0), as in numpy arrays. ``"fits"``: it is (1, 1), as in FITS."""

FIRST_PIXEL = {"corner": 0.0, "fits": 1.0}
"""Both coordinates of the centre of the first pixel, for each origin."""


def known_origin(origin: Any) -> Origin:
    """Check the name of an origin."""
    if origin not in get_args(Origin):
        raise InputError(
            f"origin: {origin!r} is unknown; give 'center', 'corner' (0-based) or 'fits' (1-based)"
        )
    known: Origin = origin
    return known


def center_of(origin: Origin, image_shape: tuple[int, int]) -> tuple[float, float]:
    """Position (x, y) of the image's centre relative to an origin.

    Subtract it from positions relative to the origin to get pixels from the centre; add it to
    convert back.
    """
    if origin == "center":
        return 0.0, 0.0
    width, height = image_size(image_shape)
    first = FIRST_PIXEL[origin]
    return width / 2 + first, height / 2 + first
