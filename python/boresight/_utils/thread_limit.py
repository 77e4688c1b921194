"""The public limit of the number of threads."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from boresight import _core
from boresight._utils import arguments

__all__ = ["limit_threads"]


@contextmanager
def limit_threads(threads: int) -> Generator[None]:
    """Set the number of threads for all Boresight functions called in the block.

    The results are the same to the last bit for any number of threads. The limit holds only for the
    calling thread, so that each thread of a program can have a different limit. Callers with the
    same limit share one pool of threads. Blocks can be nested; the innermost limit holds.

    Parameters
    ----------
    threads : int
        Number of threads, 1 to 256. Outside such a block the number is the first of
        ``BORESIGHT_NUM_THREADS``, ``RAYON_NUM_THREADS`` and ``OMP_NUM_THREADS`` that is set when
        the work begins, or the number of processors.

    Raises
    ------
    InputError
        If `threads` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import boresight
    >>> image = np.random.default_rng(1).normal(100.0, 5.0, (256, 256))
    >>> with boresight.limit_threads(1):
    ...     found = boresight.extract_centroids(image)
    """
    before = _core.set_num_threads(arguments.whole("threads", threads, 1, _core.MOST_THREADS))
    try:
        yield
    finally:
        _core.set_num_threads(before)
