"""Origins of pixels: where positions are counted from, and the way from one to another."""

from __future__ import annotations

from typing import Any, Literal, get_args

from boresight._utils.arguments import image_size
from boresight.errors import InputError

Origin = Literal["center", "corner", "fits"]
"""``"center"``: the image's centre is (0, 0), as everywhere in this package. ``"corner"``: the
centre of the first pixel is (0, 0), as in numpy arrays. ``"fits"``: it is (1, 1), as in FITS."""

FIRST_PIXEL = {"corner": 0.0, "fits": 1.0}
"""Where the centre of the first pixel is, in both coordinates."""


def known_origin(origin: Any) -> Origin:
    """Check the name of an origin."""
    if origin not in get_args(Origin):
        raise InputError(
            f"origin: {origin!r} is none; give 'center', 'corner' (0-based) or 'fits' (1-based)"
        )
    known: Origin = origin
    return known


def center_of(origin: Origin, image_shape: tuple[int, int]) -> tuple[float, float]:
    """Where the image's centre is, (x, y), counted from an origin.

    Subtracted from positions it leaves pixels from the centre; added to those, it undoes that.
    """
    if origin == "center":
        return 0.0, 0.0
    width, height = image_size(image_shape)
    first = FIRST_PIXEL[origin]
    return width / 2 + first, height / 2 + first
