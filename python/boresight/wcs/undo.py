"""Restoring the WCS that a FITS file had before `write_wcs` replaced it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from boresight._utils.naming import named
from boresight.errors import InputError
from boresight.frames.cards import CARD
from boresight.wcs.files import FitsFile, checksummed, fits_block, ones_sum

__all__ = ["KEPT", "Change", "kept_hdu", "next_version", "undo"]

KEPT = "BORESIGHT-UNDO"
"""Name of the extension that keeps the cards. Each writing adds one; EXTVER counts them."""

#: A row of the table in the extension.
_ROW = np.dtype([("HDU", ">i4"), ("PLACE", ">i4"), ("CHANGE", "S1"), ("CARD", f"S{CARD}")])


class Change(NamedTuple):
    """A header card that was removed ("-") from, or added ("+") to, the header of an HDU.

    `place` is the index of a removed card in the header.
    """

    hdu: int
    place: int
    change: str
    card: str


def kept_hdu(changes: Iterable[Change], version: int) -> bytes:
    """Bytes of the HDU that keeps header changes: a table with readable text in column CARD."""
    from astropy.io.fits import Header

    rows = [(c.hdu, c.place, c.change.encode(), c.card.encode("latin-1")) for c in changes]
    data = np.array(rows, _ROW).tobytes()
    header = Header()
    header["XTENSION"] = ("BINTABLE", "cards of the WCS that was replaced")
    for name, value in (
        ("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", _ROW.itemsize), ("NAXIS2", len(rows)),
        ("PCOUNT", 0), ("GCOUNT", 1), ("TFIELDS", 4),
    ):  # fmt: skip
        header[name] = value
    forms = ("1J", "1J", "1A", f"{CARD}A")
    for number, (name, form) in enumerate(zip(_ROW.names or (), forms, strict=True), 1):
        header[f"TTYPE{number}"] = name
        header[f"TFORM{number}"] = form
    header["EXTNAME"] = KEPT
    header["EXTVER"] = (version, "the last is the newest")
    header["COMMENT"] = "Cards removed (-) and added (+); `boresight undo` restores them."
    header["DATASUM"] = (str(ones_sum(data)), "of the data")
    header["CHECKSUM"] = ("0" * 16, "of the HDU")
    text = header.tostring(sep="", endcard=False, padding=False)
    cards = [text[i : i + CARD] for i in range(0, len(text), CARD)]
    block = fits_block(checksummed(cards, ones_sum(data)))
    return block + data + bytes(-len(data) % len(fits_block([])))


def _backup_hdus(file: FitsFile) -> list[int]:
    """Return the indices of the HDUs that keep cards, the newest last."""
    found = [i for i, hdu in enumerate(file.hdus) if hdu.header.get("EXTNAME") == KEPT]
    return sorted(found, key=lambda i: int(file.hdus[i].header.get("EXTVER", 1)))


def next_version(file: FitsFile) -> int:
    """EXTVER for the next extension that keeps cards."""
    kept = _backup_hdus(file)
    return int(file.hdus[kept[-1]].header.get("EXTVER", 1)) + 1 if kept else 1


@named
def undo(path: str | os.PathLike[str], *, copy: str | os.PathLike[str] | None = None) -> Path:
    """Restore the WCS that a file had before one was written into it.

    The added cards are removed, and the removed cards and the checksum are restored at their old
    places. If nothing else was changed since, the header is equal to the old one byte for byte.
    Cards that other programs have changed or added stay. If several WCS were written one after the
    other, only the last writing is undone.

    Parameters
    ----------
    path : path-like
        A FITS file into which this package has written a WCS.
    copy : path-like, optional
        File to write instead, replacing it if it exists. Default: `path` is changed in place.

    Returns
    -------
    pathlib.Path
        The file that was written.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If the file keeps no old cards, or its HDUs were reordered since.
    FileFormatError
        If the file is damaged.

    Examples
    --------
    See `write_wcs`.
    """
    with FitsFile(path) as file:
        kept = _backup_hdus(file)
        if not kept:
            raise InputError(
                f"path: {path} has no extension {KEPT}: no WCS was written into it, or by another "
                "program"
            )
        table = np.frombuffer(file.data(kept[-1]), _ROW)
        headers: dict[int, Sequence[str]] = {}
        for index in np.unique(table["HDU"]):
            rows = table[table["HDU"] == index]
            headers[int(index)] = _restored(file, int(index), rows)
        target = Path(path if copy is None else copy)
        file.write(target, headers, without={kept[-1]})
    return target


def _restored(file: FitsFile, index: int, rows: NDArray[Any]) -> Sequence[str]:
    """Cards of an HDU after undoing the changes."""
    text = [(int(r["PLACE"]), bytes(r["CARD"]).decode("latin-1").ljust(CARD)) for r in rows]
    added = {card for (_, card), row in zip(text, rows, strict=True) if row["CHANGE"] == b"+"}
    removed = [pair for pair, row in zip(text, rows, strict=True) if row["CHANGE"] == b"-"]
    there = set(file.hdus[index].cards) if index < len(file.hdus) else set()
    if added and not added & there:
        raise InputError(
            f"path: HDU {index} of {file.path} has none of the cards that were written; it is "
            "another one, or was changed since"
        )
    cards = [card for card in file.hdus[index].cards if card not in added]
    for place, card in sorted(removed):
        cards.insert(min(place, len(cards)), card)
    # A checksum can be encoded in several ways: the old encoding is kept if it is right.
    return cards if file.is_sound(index, cards) else file.with_checksum(index, cards)
