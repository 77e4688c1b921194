"""Reads the structure of a FITS file: cards of the headers, and offsets of the HDUs' data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

from boresight.frames.cards import CARD, Cards, card_number
from boresight.frames.stored import TYPES

__all__ = ["BLOCK", "RawHdu", "array_shape", "data_size", "raw_hdus", "read_header"]

#: Size of the blocks of a FITS file, bytes.
BLOCK = 2880

#: Longest header that is read, in blocks: a hundred times the headers of large surveys.
MAX_HEADER_BLOCKS = 5000


class RawHdu(NamedTuple):
    """An HDU as it is stored in a file.

    Attributes
    ----------
    cards : tuple of str
        The cards of its header, 80 characters each, without END, decoded as Latin-1.
    header : Cards
        The header, in which cards that are not valid FITS are repaired.
    data_start, data_size : int
        Offset of its data in the file, and their length without padding, bytes.
    """

    cards: tuple[str, ...]
    header: Cards
    data_start: int
    data_size: int

    @property
    def stop(self) -> int:
        """Offset of the next HDU in the file, bytes."""
        return self.data_start + -(-self.data_size // BLOCK) * BLOCK


def read_header(file: IO[bytes], *, first: bool) -> tuple[str, int]:
    """Return the text of the header that starts here, without END, and its length, or "", 0."""
    blocks: list[bytes] = []
    while len(blocks) < MAX_HEADER_BLOCKS:
        block = file.read(BLOCK)
        if not blocks and not block.startswith(b"SIMPLE" if first else b"XTENSION"):
            if first:
                raise ValueError("it does not begin with a card SIMPLE")
            return "", 0  # special records, or other data after the last HDU
        for start in range(0, len(block), CARD):
            if block[start : start + 8].rstrip(b" \0") == b"END":
                text = b"".join([*blocks, block[:start]])
                return text.decode("latin-1"), (len(blocks) + 1) * BLOCK
        if len(block) < BLOCK or block.count(b"\0") > BLOCK // 2:
            break
        blocks.append(block)
    raise ValueError("a header has no card END")


def array_shape(header: Mapping[str, Any]) -> tuple[int, tuple[int, ...]]:
    """Return BITPIX and the shape of the array, in numpy's order."""
    bitpix = whole_number(header, "BITPIX")
    if bitpix not in TYPES:
        raise ValueError(f"BITPIX is {bitpix}; there are {', '.join(map(str, TYPES))}")
    count = whole_number(header, "NAXIS", least=0)
    lengths = [whole_number(header, f"NAXIS{i + 1}", least=0) for i in range(count)]
    return bitpix, tuple(reversed(lengths))


def data_size(
    header: Mapping[str, Any], bitpix: int, shape: tuple[int, ...], *, first: bool
) -> int:
    """Return the length of an HDU's data in bytes, without padding, by BITPIX and shape."""
    groups = first and has_groups(header)
    elements = math.prod(shape[:-1] if groups else shape) if shape else 0
    extra = whole_number(header, "PCOUNT", 0, least=0) if not first or groups else 0
    repeated = whole_number(header, "GCOUNT", 1, least=0) if not first or groups else 1
    return abs(bitpix) // 8 * repeated * (extra + elements)


def has_groups(header: Mapping[str, Any]) -> bool:
    """Whether a primary HDU holds random groups (old radio data) and no array."""
    return header.get("GROUPS") is True and header.get("NAXIS1") == 0


def whole_number(
    header: Mapping[str, Any], name: str, default: int | None = None, least: int | None = None
) -> int:
    """Return the whole number of a card that defines the structure of the file."""
    number = card_number(header, name)
    if number is None and default is not None:
        return default
    if number is None or number % 1 or (least is not None and number < least):
        raise ValueError(f"{name} is {header.get(name, 'missing')}")
    return int(number)


def raw_hdus(file: IO[bytes]) -> Iterator[RawHdu]:
    """Read the HDUs of a file one by one; ValueError if its structure is damaged."""
    offset = 0
    while True:
        file.seek(offset)
        text, length = read_header(file, first=offset == 0)
        if not length:
            return
        header = Cards(text)
        cards = tuple(text[i : i + CARD] for i in range(0, len(text), CARD))
        size = data_size(header, *array_shape(header), first=offset == 0)
        hdu = RawHdu(cards, header, offset + length, size)
        yield hdu
        offset = hdu.stop
