"""The time that a call was given, heard by what takes long on its way."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Any

from boresight.errors import TimeLimitError

__all__ = ["after", "check_time", "heard", "is_limited", "until"]

#: Bytes that are read at a time at least.
READ_BYTES = 8192

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


class _OutOfTime(BaseException):
    """It passes by all who take any `Exception` for a fault of a file, as Ctrl-C does."""


def after(timeout_ms: float | None) -> float:
    """Give when so many milliseconds are over, as `time.monotonic` tells; never for None."""
    return math.inf if timeout_ms is None else time.monotonic() + timeout_ms / 1e3


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


class _Trouble(BaseException):
    """Carry what a file raised past decoders: it is no damage of its content."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def heard(file: IO[bytes]) -> Iterator[io.BufferedReader]:
    """Give a binary file of which every read hears the time: decoders read while they work.

    What goes wrong with the file itself, such as a server that does not go on, is raised as it is,
    whatever decoders make of errors that they meet.
    """
    try:
        yield io.BufferedReader(_Heard(file), READ_BYTES)
    except _Trouble as trouble:
        raise trouble.error from None


class _Heard(io.RawIOBase):
    def __init__(self, file: Any) -> None:
        self._file = file

    def readinto(self, buffer: Any) -> int:
        check_time()
        try:
            if hasattr(self._file, "readinto"):
                return int(self._file.readinto(buffer))
            data = self._file.read(len(buffer))
        except Exception as error:
            raise _Trouble(error) from error
        buffer[: len(data)] = data
        return len(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def fileno(self) -> int:
        return int(self._file.fileno())
