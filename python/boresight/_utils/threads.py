"""Processing of many items on a few threads, with the results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from boresight import _core

__all__ = ["in_order", "num_jobs"]

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Number of items processed at a time in addition to one per thread of the core's pool, which keep
#: the pool busy while other items are read or wait for Python's lock; and largest number in total.
#: More items would need more memory, and Python's share of the work could not keep them busy.
EXTRA_JOBS, MOST_JOBS = 4, 8

#: Largest number of items started but not yet returned, per item processed at a time.
AHEAD = 2


def num_jobs(jobs: int | None, most: int) -> int:
    """Return how many items run at a time: `jobs`, or as many as keep the processors busy."""
    if jobs is None:
        threads = _core.num_threads()
        jobs = min(threads + EXTRA_JOBS, MOST_JOBS) if threads > 1 else 1
    return max(1, min(jobs, most))


def in_order(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int | None = None
) -> Generator[Result]:
    """Yield the results of a function in the order of the items, in a window of bounded size.

    If the generator is closed before the end, or on Ctrl-C, running work of the core is stopped.

    Parameters
    ----------
    function : callable
        The work on an item. Most of it should be in the core, which releases Python's lock.
    items : sequence
        The items.
    jobs : int, optional
        Number of items processed at a time. 1 works in the calling thread, when a result is
        requested. Default: as many as keep the processors busy.
    """
    jobs = num_jobs(jobs, len(items))
    if jobs == 1:
        yield from map(function, items)
        return
    stop, pending = _core.Stop(), deque[Future[Result]]()
    with ThreadPoolExecutor(jobs, initializer=stop.attach) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) == jobs * AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            stop.set()
            for future in pending:
                future.cancel()
