"""Reads arrays as FITS stores them: big-endian, scaled, with a number for missing values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core
from boresight._utils.deadline import check_time
from boresight.frames.cards import card_number

#: Types of stored numbers, by BITPIX.
TYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}

#: Count of numbers that are read and converted at a time: few enough for the processor's cache, and
#: enough that the cost of calls is negligible.
CHUNK = 1 << 18


@dataclass(frozen=True)
class Scaling:
    """Conversion of stored numbers: ``zero + scale * stored``; the number `blank` has no value.

    Without scale and blank, a `zero` of half the range inverts the sign bit; in this way FITS
    stores integer types that it lacks.
    """

    stored: np.dtype[Any]
    scale: float
    zero: float
    blank: int | None

    @classmethod
    def of(cls, header: Mapping[str, Any], bitpix: int, notes: list[str]) -> Scaling:
        """Read BSCALE, BZERO and BLANK; a card without a number is noted and not applied."""
        stored = np.dtype(TYPES[bitpix])
        scale = _optional(header, "BSCALE", notes)
        if scale == 0:
            notes.append("BSCALE is 0 and was not applied")
        zero, blank = _optional(header, "BZERO", notes), None
        if stored.kind != "f" and (number := _optional(header, "BLANK", notes)) is not None:
            blank = int(number)
        return cls(stored, scale or 1.0, zero or 0.0, blank)

    @property
    def _flips_sign(self) -> bool:
        """Whether values and stored numbers are integers of opposite signedness."""
        bits = 8 * self.stored.itemsize
        half = 2.0 ** (bits - 1) * (-1 if self.stored.kind == "u" else 1)
        return self._is_integer and self.zero == half

    @property
    def _is_integer(self) -> bool:
        return self.stored.kind != "f" and self.scale == 1 and self.blank is None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, in native byte order."""
        size = self.stored.itemsize
        if self._flips_sign:
            return np.dtype(f"{'i' if self.stored.kind == 'u' else 'u'}{size}")
        if self.stored.kind == "f" or (self._is_integer and self.zero == 0):
            return self.stored.newbyteorder("=")
        return np.dtype(np.float32 if size <= 2 else np.float64)

    def apply(self, stored: NDArray[Any], values: NDArray[Any]) -> None:
        """Convert stored numbers to values, in an array of `dtype`."""
        if self._flips_sign:
            bits = values.view(f"u{values.itemsize}")
            bits[...] = stored.view(stored.dtype.str.replace("i", "u"))
            bits ^= bits.dtype.type(1 << (8 * values.itemsize - 1))
            return
        values[...] = stored
        with np.errstate(over="ignore", invalid="ignore"):
            if self.scale != 1:
                np.multiply(values, self.scale, out=values)
            if self.zero != 0:
                np.add(values, self.zero, out=values)
        if self.blank is not None:
            values[stored == self.blank] = np.nan


def _optional(header: Mapping[str, Any], name: str, notes: list[str]) -> float | None:
    value = header.get(name, "")
    if value == "" or type(value).__name__ == "Undefined":
        return None
    number = card_number(header, name)
    if number is None:
        notes.append(f"{name} = {value!r} is not a number and was not applied")
    return number


class StoredArray:
    """An uncompressed array in a file; parts of it can be loaded as values.

    Parameters
    ----------
    file, offset
        Binary file, and offset of the array in it, bytes.
    shape : tuple of int
        In numpy's order.
    header, bitpix, notes
        Header with the scaling, type of the stored numbers, and list for notes on unreadable cards.
    """

    def __init__(
        self,
        file: IO[bytes],
        offset: int,
        shape: tuple[int, ...],
        header: Mapping[str, Any],
        bitpix: int,
        notes: list[str],
    ) -> None:
        self._file, self._offset, self._shape = file, offset, shape
        self._header, self._bitpix, self._notes = header, bitpix, notes
        #: Whether all numbers that were loaded last have a value.
        self.is_finite = False

    def __call__(self, leading: tuple[int, ...], rows: slice, part: slice) -> NDArray[Any]:
        """Load ``[*leading, rows]``; each row is flattened, and its elements `part` are taken."""
        first = 0
        for index, length in zip(leading, self._shape, strict=False):
            first = first * length + index
        height, *inner = self._shape[len(leading) :]
        width, count = math.prod(inner), rows.stop - rows.start
        noted: list[str] = []
        scaling = Scaling.of(self._header, self._bitpix, noted)
        self._notes.extend(note for note in noted if note not in self._notes)
        numbers = part.stop - part.start
        _core.check_memory("the image", count * numbers * scaling.dtype.itemsize)
        values = np.empty((count, numbers), scaling.dtype)
        step = max(1, CHUNK // width)
        stored = np.empty((min(step, count), width), scaling.stored)
        offset = (first * height + rows.start) * width * stored.itemsize
        self._file.seek(self._offset + offset)
        self.is_finite = True
        for start in range(0, count, step):
            check_time()
            chunk, done = stored[: count - start], values[start : start + step]
            self._fill(chunk)
            scaling.apply(chunk[:, part], done)
            # Tested here, while the numbers are in the processor's cache.
            if self.is_finite and done.dtype.kind == "f":
                self.is_finite = bool(np.isfinite(done).all())
        return values

    def _fill(self, stored: NDArray[Any]) -> None:
        view: Any = memoryview(stored.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        done = 0
        while done < len(view):
            count: int = self._file.readinto(view[done:])  # type: ignore[attr-defined]
            if not count:
                raise EOFError("it is cut short, pixels of its image are missing")
            done += count
