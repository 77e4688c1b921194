"""Suppression of the warnings of other packages, safe with several threads."""

from __future__ import annotations

import os
import threading
import warnings
from types import TracebackType
from typing import Any

__all__ = ["quiet"]


class _Quiet:
    """Suppresses all warnings as long as any thread is inside the block.

    Warning filters belong to the whole process. If each thread restored the filters that it had
    found, the last thread could restore the suppressing filters of another thread.
    """

    def __init__(self) -> None:
        self._lock, self._within = threading.Lock(), 0
        self._before: Any = None

    def begin_anew(self) -> None:
        """Reset the count of threads in a forked process, which does not have these threads."""
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


#: ``with quiet:`` suppresses all warnings inside the block.
quiet = _Quiet()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=quiet.begin_anew)
