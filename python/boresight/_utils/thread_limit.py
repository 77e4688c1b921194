"""How many threads work."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from boresight import _core
from boresight._utils import arguments

__all__ = ["limit_threads"]


@contextmanager
def limit_threads(threads: int) -> Generator[None]:
    """Let everything that is called inside work on so many threads.

    The results are the same to the last bit for any number. It holds for the thread that it is
    called in, so that each thread of a program can have its own number; threads that ask for the
    same number share them. Inside it another number can be asked for.

    Parameters
    ----------
    threads : int
        1 to 256. Outside of it: ``BORESIGHT_NUM_THREADS``, ``RAYON_NUM_THREADS`` or
        ``OMP_NUM_THREADS``, the first that is set when work begins, or all processors.

    Raises
    ------
    InputError
        For other numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import boresight
    >>> image = np.random.default_rng(1).normal(100.0, 5.0, (256, 256))
    >>> with boresight.limit_threads(1):
    ...     found = boresight.extract_centroids(image)
    """
    before = _core.ask_for_threads(arguments.whole("threads", threads, 1, _core.MOST_THREADS))
    try:
        yield
    finally:
        _core.ask_for_threads(before)
