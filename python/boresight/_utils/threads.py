"""Many pieces of work on a few threads, their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from boresight import _core

__all__ = ["in_order", "num_jobs"]

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Pieces at a time besides one for each thread of the pool, which keep it busy while others are
#: read or wait for Python's lock; and the most, for each has its memory, and Python's share of the
#: work would keep no more of them busy.
EXTRA_JOBS, MOST_JOBS = 4, 8

#: Results that wait for those before them, for each piece at a time.
AHEAD = 2


def num_jobs(jobs: int | None, most: int) -> int:
    """Take as many pieces at a time as asked for, or as keep the processors busy."""
    if jobs is None:
        threads = _core.num_threads()
        jobs = min(threads + EXTRA_JOBS, MOST_JOBS) if threads > 1 else 1
    return max(1, min(jobs, most))


def in_order(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int | None = None
) -> Generator[Result]:
    """Results of a function in the order of the items, in a window of bounded size.

    Where it is closed before the end, or Ctrl-C is heard, the work of the core that goes on stops.

    Parameters
    ----------
    function : callable
        The work on an item, most of it in the core, which leaves Python's lock to others.
    items : sequence
        The items.
    jobs : int, optional
        Items at a time; 1 works in the calling thread, when a result is asked for. Default: as many
        as keep the processors busy.
    """
    jobs = num_jobs(jobs, len(items))
    if jobs == 1:
        yield from map(function, items)
        return
    stop, pending = _core.Stop(), deque[Future[Result]]()
    with ThreadPoolExecutor(jobs, initializer=stop.hear) as pool:
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
