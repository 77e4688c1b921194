"""The part of an image that is read."""

from __future__ import annotations

from typing import Any

from boresight.errors import InputError

#: Rows and columns, as they index an array.
Region = tuple[slice, slice]

#: Header cards of TESS that give the science pixels of a full frame: 1-based, both ends included.
TESS_REGION_CARDS = ("SCRSA", "SCRED", "SCCSA", "SCCED")


def resolve(region: Region | str | None, shape: tuple[int, ...], header: Any) -> Region:
    """Find the region asked for, or the header's, with plain start and stop."""
    if region is None and all(card in header for card in TESS_REGION_CARDS):
        row, row_end, column, column_end = (int(header[card]) for card in TESS_REGION_CARDS)
        region = slice(row - 1, row_end), slice(column - 1, column_end)
    elif region is None or region == "full":
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
                f"region: {region!r} holds something else than integers; {repair}"
            ) from error
        beyond = part.stop is not None and part.stop > length
        if step != 1 or stop <= start or beyond:
            raise InputError(
                f"region: {region!r} does not lie in the image of shape {shape}; {repair}"
            )
        resolved.append(slice(start, stop))
    return resolved[0], resolved[1]
