"""Reads EXIF of pictures: tags by name, and the time of the exposure as header cards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from boresight.frames.fits import DAMAGE

#: Number of the EXIF directory with the data of the exposure.
_EXPOSURE_DIRECTORY = 0x8769

#: Values of the tag Orientation, other than 1: how a viewer turns the picture.
ORIENTATIONS = {2: "mirrored left to right", 3: "turned by 180 degrees", 4: "mirrored upside down",
                5: "transposed", 6: "turned clockwise", 7: "transposed about the other diagonal",
                8: "turned counter-clockwise"}  # fmt: skip


def exif_of(picture: Any) -> dict[str, Any]:
    """Return the tags of a Pillow image by name; empty if there are none or they are damaged."""
    from PIL.ExifTags import TAGS

    try:
        exif = picture.getexif()
        tags = {**exif, **exif.get_ifd(_EXPOSURE_DIRECTORY)}
    except DAMAGE:
        return {}
    return {TAGS[tag]: value for tag, value in tags.items() if tag in TAGS}


def time_cards(exif: Mapping[str, Any]) -> dict[str, Any]:
    """Return the time of the exposure in EXIF, as FITS cards."""
    start = str(exif.get("DateTimeOriginal", "")).strip("\0 ")
    if not start:
        return {}
    date, _, time = start.partition(" ")
    fraction = str(exif.get("SubsecTimeOriginal", "")).strip("\0 ")
    offset = str(exif.get("OffsetTimeOriginal", "")).strip("\0 ")
    text = f"{date.replace(':', '-')}T{time}" + (f".{fraction}" if fraction.isdigit() else "")
    cards: dict[str, Any] = {"DATE-OBS": text + offset}
    if not offset:
        cards["TIMESYS"] = "LOCAL"
    if (seconds := exif_number(exif, "ExposureTime")) is not None:
        cards["EXPTIME"] = seconds
    return cards


def exif_number(exif: Mapping[str, Any], name: str) -> float | None:
    """Return a positive number of EXIF, or None."""
    try:
        number = float(exif[name])
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None
    return number if 0 < number < float("inf") else None
