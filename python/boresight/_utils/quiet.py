"""Warnings of other packages left out, also where several threads ask for it."""

from __future__ import annotations

import os
import threading
import warnings
from types import TracebackType
from typing import Any

__all__ = ["quiet"]


class _Quiet:
    """Leaves out all warnings as long as any thread is within.

    Filters are the whole process's: where each thread put back those that it found, the last one
    could leave them as another had made them.
    """

    def __init__(self) -> None:
        self._lock, self._within = threading.Lock(), 0
        self._before: Any = None

    def begin_anew(self) -> None:
        """Forget the threads that a process that was forked does not have."""
        if self._within:
            self._before.__exit__(None, None, None)
        self.__init__()  # type: ignore[misc]

    def __enter__(self) -> None:
        with self._lock:
            if self._within == 0:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.simplefilter("ignore")
            self._within += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._within -= 1
            if self._within == 0:
                self._before.__exit__(None, None, None)


#: ``with quiet:`` leaves out the warnings of what is called within.
quiet = _Quiet()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=quiet.begin_anew)
