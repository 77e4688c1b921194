"""The time that a call was given, heard by what takes long on its way."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from boresight.errors import TimeLimitError

__all__ = ["Heard", "check_time", "is_limited", "until"]

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


class _OutOfTime(BaseException):
    """It passes by all who take any `Exception` for a fault of a file, as Ctrl-C does."""


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Give what is called here the time to `deadline`, as `time.monotonic` tells.

    Raises
    ------
    TimeLimitError
        If `check_time` was called later.
    """
    token = _deadline.set(min(deadline, _deadline.get()))
    try:
        yield
    except _OutOfTime:
        raise TimeLimitError("the frame was not read in the time allowed; give it more") from None
    finally:
        _deadline.reset(token)


def check_time() -> None:
    """Leave the work if its time is over; for loops of which each step is short."""
    if time.monotonic() > _deadline.get():
        raise _OutOfTime


def is_limited() -> bool:
    """Whether there is a deadline."""
    return _deadline.get() < math.inf


class Heard(io.RawIOBase):
    """A binary file of which every read hears the time: decoders read while they work."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readinto(self, buffer: Any) -> int:
        check_time()
        if hasattr(self._file, "readinto"):
            count: int = self._file.readinto(buffer)
            return count
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        place: int = self._file.seek(offset, whence)
        return place

    def tell(self) -> int:
        place: int = self._file.tell()
        return place

    def fileno(self) -> int:
        number: int = self._file.fileno()
        return number
