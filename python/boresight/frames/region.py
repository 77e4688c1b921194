"""Determines the part of an image that is read."""

from __future__ import annotations

from typing import Any

from boresight.errors import InputError
from boresight.frames.cards import card_number

#: Rows and columns, as they index an array.
Region = tuple[slice, slice]

#: Header cards of TESS that give the science pixels of a full frame: 1-based, both ends included.
TESS_REGION_CARDS = ("SCRSA", "SCRED", "SCCSA", "SCCED")

#: Least size of a science region, as a fraction of each side; cards of a smaller region belong to
#: another image.
LEAST_SHARE = 0.5


def resolve(
    region: Region | str | None, shape: tuple[int, ...], header: Any
) -> tuple[Region, list[str]]:
    """Return the requested region, or the header's, with plain start and stop; and notes."""
    notes: list[str] = []
    if region is None:
        region = science_region(header, shape, notes)
    elif isinstance(region, str) and region == "full":
        region = slice(None), slice(None)
    repair = "give slices inside the image, such as numpy.s_[0:2048, 44:2092], or 'full'"
    if not (
        isinstance(region, tuple) and len(region) == 2 and all(isinstance(s, slice) for s in region)
    ):
        raise InputError(f"region: {region!r} is not a pair of slices; {repair}")
    resolved = []
    for part, length in zip(region, shape, strict=True):
        try:
            start, stop, step = part.indices(length)
        except TypeError as error:
            raise InputError(
                f"region: {region!r} has bounds that are not integers; {repair}"
            ) from error
        beyond = part.stop is not None and part.stop > length
        if step != 1 or stop <= start or beyond:
            raise InputError(
                f"region: {region!r} is not inside the image of shape {shape}; {repair}"
            )
        resolved.append(slice(start, stop))
    return (resolved[0], resolved[1]), notes


def science_region(header: Any, shape: tuple[int, ...], notes: list[str]) -> Region:
    """Return the science pixels that the header names; all pixels if it names no valid region."""
    everything = slice(0, shape[0]), slice(0, shape[1])
    if not all(card in header for card in TESS_REGION_CARDS):
        return everything
    ends = [card_number(header, card) for card in TESS_REGION_CARDS]
    if all(end is not None and end % 1 == 0 for end in ends):
        row, row_end, column, column_end = (int(end or 0) for end in ends)
        inside = 1 <= row <= row_end <= shape[0] and 1 <= column <= column_end <= shape[1]
        part = min((row_end - row + 1) / shape[0], (column_end - column + 1) / shape[1])
        if inside and part >= LEAST_SHARE:
            return slice(row - 1, row_end), slice(column - 1, column_end)
    names = ", ".join(TESS_REGION_CARDS)
    notes.append(f"{names} name no region of the image's {shape[0]} rows and {shape[1]} columns")
    return everything
