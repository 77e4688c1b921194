"""A deadline for reading a frame, which slow loops and file reads check."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Any

from boresight.errors import TimeLimitError

__all__ = ["after", "check_time", "deadline_checked", "is_limited", "until"]

#: Size of the read buffer, in bytes.
READ_BYTES = 8192

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


class _OutOfTime(BaseException):
    """Raised after the deadline.

    As a `BaseException` it is not caught by decoders that treat any `Exception` as a damaged file.
    """


def after(timeout_ms: float | None) -> float:
    """Deadline in `timeout_ms` milliseconds, on the clock `time.monotonic`; infinity for None."""
    return math.inf if timeout_ms is None else time.monotonic() + timeout_ms / 1e3


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Set the deadline, on the clock `time.monotonic`, for everything that is called in the block.

    Raises
    ------
    TimeLimitError
        If `check_time` is called in the block after the deadline.
    """
    token = _deadline.set(min(deadline, _deadline.get()))
    try:
        yield
    except _OutOfTime:
        raise TimeLimitError("the frame was not read in the time allowed; give it more") from None
    finally:
        _deadline.reset(token)


def check_time() -> None:
    """Stop the work if the deadline has passed; to be called in loops whose steps are short."""
    if time.monotonic() > _deadline.get():
        raise _OutOfTime


def is_limited() -> bool:
    """Whether a deadline is set."""
    return _deadline.get() < math.inf


class _FileError(BaseException):
    """Carries an error of reading a file past decoders, which would report damaged content."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def deadline_checked(file: IO[bytes]) -> Iterator[io.BufferedReader]:
    """Wrap a binary file so that every read checks the deadline, because decoders read in steps.

    Errors of the file itself, such as a server that stops sending, are raised unchanged, even if
    a decoder would turn them into other errors.
    """
    try:
        yield io.BufferedReader(_CheckedReader(file), READ_BYTES)
    except _FileError as failure:
        raise failure.error from None


class _CheckedReader(io.RawIOBase):
    def __init__(self, file: Any) -> None:
        self._file = file

    def readinto(self, buffer: Any) -> int:
        check_time()
        try:
            if hasattr(self._file, "readinto"):
                return int(self._file.readinto(buffer))
            data = self._file.read(len(buffer))
        except Exception as error:
            raise _FileError(error) from error
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
