"""Rewriting FITS files with changed headers, while the data are copied byte for byte."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from boresight._utils.files import check_is_file, write_chunks
from boresight._utils.quiet import quiet
from boresight.errors import FileFormatError, InputError
from boresight.frames.cards import CARD
from boresight.frames.choice import Hdu
from boresight.frames.fits import read_hdus
from boresight.frames.structure import BLOCK, RawHdu, raw_hdus

__all__ = ["FitsFile", "card_name", "fits_block"]

#: Bytes per read when data are copied.
CHUNK = 1 << 22

#: Functions that decompress and compress a whole file, by the first bytes of the file.
_COMPRESSIONS: dict[bytes, tuple[Any, Any]] = {
    b"\x1f\x8b": (gzip.decompress, lambda data: gzip.compress(data, mtime=0)),
    b"BZh": (bz2.decompress, bz2.compress),
    b"\xfd7zXZ": (lzma.decompress, lzma.compress),
}


class FitsFile:
    """A FITS file, open for reading, that can be written again with changed headers.

    Parameters
    ----------
    path : path-like
        The file: plain, with compressed images, or compressed as a whole (gzip, bzip2, xz). A file
        that is compressed as a whole is written with the same compression.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If the file is not a FITS file.
    FileFormatError
        If the structure of the file is damaged. The file is not changed then.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        check_is_file(self.path)
        self._file: IO[bytes] = self.path.open("rb")
        self._compress: Any = None
        self._sums: dict[int, int] = {}
        try:
            self._open()
        except (ValueError, EOFError, OSError, lzma.LZMAError) as error:
            self._file.close()
            if isinstance(error, InputError):
                raise
            raise FileFormatError(f"{self.path} is not a sound FITS file: {error}") from error
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        """Find the HDUs; a file that is compressed as a whole is decompressed in memory."""
        head = self._file.read(len("SIMPLE"))
        for magic, (decompress, compress) in _COMPRESSIONS.items():
            if head.startswith(magic):
                self._file.seek(0)
                packed, self._compress = self._file, compress
                with packed:
                    self._file = io.BytesIO(decompress(packed.read()))
                head = self._file.read(len("SIMPLE"))
        if head != b"SIMPLE":
            raise InputError(
                f"path: {self.path} is not a FITS file; write the WCS to a separate file"
            )
        with quiet:  # of odd cards
            self.hdus: list[RawHdu] = list(raw_hdus(self._file))
        self._file.seek(0, io.SEEK_END)
        size = self._file.tell()
        if self.hdus[-1].data_start + self.hdus[-1].data_size > size:
            raise ValueError("its last HDU is cut short")
        #: Position of the end of the last HDU. Bytes after the end are copied, too.
        self._end = min(self.hdus[-1].stop, size)

    def __enter__(self) -> FitsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def images(self) -> list[Hdu]:
        """Return the HDUs in the form from which `read_frame` chooses."""
        with quiet:  # of checksums and odd cards
            return read_hdus(self._file, str(self.path), stream=False)[0]

    def data(self, index: int) -> bytes:
        """Return the data of an HDU."""
        hdu = self.hdus[index]
        self._file.seek(hdu.data_start)
        return self._file.read(hdu.data_size)

    def write(
        self,
        target: str | os.PathLike[str],
        headers: dict[int, Sequence[str]],
        *,
        appended: bytes = b"",
        without: set[int] | None = None,
    ) -> None:
        """Write the file with changed headers, atomically, with the permissions of the original.

        Parameters
        ----------
        target : path-like
            File to write; may be the original file.
        headers : dict of int to sequence of str
            Cards of the HDUs whose headers change, without END.
        appended : bytes
            An HDU to add at the end.
        without : set of int, optional
            HDUs that are not written.
        """
        chunks = self._chunks(headers, appended, without or set())
        if self._compress is not None:
            chunks = iter([self._compress(b"".join(chunks))])
        write_chunks(target, chunks, permissions_of=self.path)

    def _chunks(
        self, headers: dict[int, Sequence[str]], appended: bytes, without: set[int]
    ) -> Iterator[bytes]:
        start = 0
        for index, hdu in enumerate(self.hdus):
            if index not in without:
                if index in headers:
                    yield fits_block(headers[index])
                    start = hdu.data_start
                yield from self._copied(start, min(hdu.stop, self._end))
            start = min(hdu.stop, self._end)
        if appended:
            yield bytes(-self._end % BLOCK)
            yield appended
        self._file.seek(self._end)
        while rest := self._file.read(CHUNK):
            yield rest

    def _copied(self, start: int, stop: int) -> Iterator[bytes]:
        self._file.seek(start)
        while start < stop:
            chunk = self._file.read(min(CHUNK, stop - start))
            if not chunk:
                raise EOFError
            yield chunk
            start += len(chunk)

    def with_checksum(self, index: int, cards: Sequence[str]) -> list[str]:
        """Update the CHECKSUM among the cards, unless the file's own CHECKSUM was wrong before."""
        if not self.is_sound(index, self.hdus[index].cards):
            return list(cards)
        return checksummed(cards, self._data_sum(index))

    def is_sound(self, index: int, cards: Sequence[str]) -> bool:
        """Whether the cards have a CHECKSUM that is right for them and the data of the HDU."""
        if not any(card_name(card) == "CHECKSUM" for card in cards):
            return False
        return ones_sum(fits_block(cards), self._data_sum(index)) == 0xFFFFFFFF

    def _data_sum(self, index: int) -> int:
        if index not in self._sums:
            hdu, total = self.hdus[index], 0
            for chunk in self._copied(hdu.data_start, min(hdu.stop, self._end)):
                total = ones_sum(chunk, total)
            self._sums[index] = total
        return self._sums[index]


def card_name(card: str) -> str:
    """Keyword of a card."""
    return card[:8].rstrip()


def fits_block(cards: Sequence[str]) -> bytes:
    """Header as bytes: the cards, END, and blanks up to a whole number of FITS blocks."""
    text = "".join([*cards, "END".ljust(CARD)])
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("latin-1")


def ones_sum(data: bytes, start: int = 0) -> int:
    """Ones' complement sum of big-endian 32-bit words (FITS standard, 4.4.2.7)."""
    whole = data + bytes(-len(data) % 4)
    total = start + int(np.frombuffer(whole, ">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def checksummed(cards: Sequence[str], data_sum: int) -> list[str]:
    """Cards with CHECKSUM set so that the words of the HDU sum to all ones (FITS standard 4.4.2.7).

    Cards without CHECKSUM are returned unchanged.
    """
    updated = list(cards)
    places = [i for i, card in enumerate(cards) if card_name(card) == "CHECKSUM"]
    if not places:
        return updated
    comment = cards[places[0]].partition(" / ")[2]

    def coded(code: str) -> str:
        return f"CHECKSUM= '{code}'   / {comment}"[:CARD].ljust(CARD)

    updated[places[0]] = coded("0" * 16)
    total = ones_sum(fits_block(updated), data_sum)
    updated[places[0]] = coded(_encoded(~total & 0xFFFFFFFF))
    return updated


def _encoded(value: int) -> str:
    """Encode a 32-bit word in 16 letters and digits whose sum is the word."""
    columns = []
    for byte in value.to_bytes(4, "big"):
        quarter, rest = divmod(byte, 4)
        letters = [ord("0") + quarter + rest] + [ord("0") + quarter] * 3
        while any(not chr(letter).isalnum() for letter in letters):
            # One character of a pair goes up and the other down until both are letters or digits.
            for k in (0, 2):
                if not (chr(letters[k]).isalnum() and chr(letters[k + 1]).isalnum()):
                    letters[k] += 1
                    letters[k + 1] -= 1
        columns.append(letters)
    text = "".join(chr(columns[j][i]) for i in range(4) for j in range(4))
    return text[-1] + text[:-1]
