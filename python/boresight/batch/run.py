"""Working through many frames: chunks of them on an executor, in a window of bounded size."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple

from boresight._utils import arguments
from boresight.batch.frames import read
from boresight.batch.journal import Row
from boresight.errors import BoresightError, InputError
from boresight.frames.frame import Frame

__all__ = [
    "FRAME_ERRORS",
    "LOST",
    "OnError",
    "Work",
    "as_executor",
    "in_chunks",
    "num_processes",
    "num_workers",
    "processes",
    "reason_of",
    "run",
    "spread",
]

OnError = Literal["row", "raise"]

#: What reading and solving one frame may raise, which is no reason to give up the others.
FRAME_ERRORS = (BoresightError, OSError, MemoryError)

#: The same of work on a frame that was read: an error of the system, such as a full disk, is not
#: the frame's, and ends the batch, which can go on later.
WORK_ERRORS = (BoresightError, MemoryError)

#: Chunks that wait for each worker, besides the one it works at.
AHEAD = 2

#: Frames of a chunk here, where rows are wanted as they come, and where every message costs.
LOCAL_CHUNK, REMOTE_CHUNK = (1, 8), (50, 500)

#: Chunks for each worker: enough that all of them end together.
CHUNKS_PER_WORKER = 32


class Work(NamedTuple):
    """The work on each frame: `function(frame, name, settings)` gives its row.

    Reading it may take `timeout_ms`.
    """

    function: Callable[[Frame, str, Any], Row]
    settings: Any
    on_error: OnError
    timeout_ms: int | None = None


#: In place of the result of a chunk whose process ended while it was worked at.
LOST = object()


def run(
    names: Sequence[str],
    work: Work,
    *,
    jobs: int | None,
    executor: Any,
) -> Generator[list[Row]]:
    """Rows of the frames, in chunks as they end.

    Frames at which a process ended are tried once more, each alone.

    Parameters
    ----------
    names : sequence of str
        The frames.
    work : Work
        What to do; it travels to the workers.
    jobs : int or None
        Processes; None: one for each processor.
    executor : Executor or Client or None
        Works instead of processes of its own.
    """
    function = partial(_rows, work=work)
    jobs = num_processes(jobs, len(names))
    workers, sizes = jobs, LOCAL_CHUNK if jobs > 1 else (1, 1)
    executor = as_executor(executor)
    if executor is not None:
        workers, sizes = num_workers(executor), REMOTE_CHUNK
    size = min(max(len(names) // (workers * CHUNKS_PER_WORKER), sizes[0]), sizes[1])
    chunks = in_chunks(names, size)
    lost: list[str] = []
    for index, rows in spread(chunks, function, jobs=jobs, executor=executor):
        if rows is LOST:
            lost += chunks[index]
        else:
            yield rows
    for name in lost:
        for _, rows in _in_processes([[name]], function, 1):
            ended = "the process that worked at it ended"
            yield [_failed(name, ended, 0.0)] if rows is LOST else rows


def in_chunks(names: Sequence[str], size: int) -> list[Sequence[str]]:
    """Part names into chunks of this size, the last one shorter."""
    return [names[k : k + size] for k in range(0, len(names), size)]


def num_processes(jobs: int | None, most: int) -> int:
    """Take as many processes as asked for, or one a processor, and no more than `most`."""
    jobs = _processors() if jobs is None else arguments.count("jobs", jobs)
    return max(1, min(jobs, most))


def spread(
    chunks: Sequence[Sequence[str]],
    function: Callable[[Sequence[str]], Any],
    *,
    jobs: int,
    executor: Any,
) -> Iterator[tuple[int, Any]]:
    """Give number and result of every chunk as they end; `LOST` where a process here ended.

    Parameters
    ----------
    chunks : sequence of sequences of str
        Names of files.
    function : callable
        Gives the result of a chunk; it travels to the workers.
    jobs : int
        Processes of this machine; 1 works in this one.
    executor : Executor or None
        Works instead of them.
    """
    if executor is not None:
        left = deque(enumerate(chunks))
        for index, result in _window(left, function, executor, num_workers(executor)):
            if result is LOST:
                raise BrokenExecutor("executor: one of its processes ended")
            yield index, result
    elif jobs == 1:
        yield from ((index, function(chunk)) for index, chunk in enumerate(chunks))
    else:
        yield from _in_processes(chunks, function, jobs)


def _in_processes(
    chunks: Sequence[Sequence[str]], function: Callable[[Sequence[str]], Any], jobs: int
) -> Iterator[tuple[int, Any]]:
    """Work in processes of this machine; after one ended, the rest goes on in new ones."""
    left = deque(enumerate(chunks))
    while left:
        with processes(jobs) as pool:
            yield from _window(left, function, pool, jobs)


@contextmanager
def processes(jobs: int) -> Iterator[Executor]:
    """Start processes of this machine, each with its share of the processors.

    They end at once where an error, or Ctrl-C, leaves the block.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(max(1, _processors() // jobs),),
    )
    try:
        yield pool
    except BaseException:
        # Nobody waits for the frames that they are at. What they write is there whole, or not.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(threads: int) -> None:
    """Make a process ready: it has its share of the processors, and Ctrl-C is the parent's."""
    os.environ.setdefault("BORESIGHT_NUM_THREADS", str(threads))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _window(
    left: deque[tuple[int, Sequence[str]]],
    function: Callable[[Sequence[str]], Any],
    executor: Executor,
    workers: int,
) -> Iterator[tuple[int, Any]]:
    """Work at what is left, in a window of bounded size, until it ends or a process does."""
    pending: dict[Future[Any], int] = {}
    broken = False
    try:
        while pending or (left and not broken):
            while left and not broken and len(pending) < workers * (1 + AHEAD):
                try:
                    future = executor.submit(function, left[0][1])
                except BrokenExecutor:
                    broken = True
                else:
                    pending[future] = left.popleft()[0]
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                index = pending.pop(future)
                try:
                    result = future.result()
                except BrokenExecutor:
                    result, broken = LOST, True
                yield index, result
    finally:
        for future in pending:
            future.cancel()


def _rows(names: Sequence[str], work: Work) -> list[Row]:
    return [_row(name, work) for name in names]


def _row(name: str, work: Work) -> Row:
    """One frame from its file to its row; what goes wrong with it becomes a row too."""
    start = time.perf_counter()
    try:
        frame = read(name, work.timeout_ms)
    except FRAME_ERRORS as error:
        return _failure(name, error, start, work)
    try:
        row = work.function(frame, name, work.settings)
    except WORK_ERRORS as error:
        return _failure(name, error, start, work)
    height, width = frame.image_shape
    common = {
        "path": name,
        "width": width,
        "height": height,
        "time": None if frame.time is None else frame.time.utc.isot,
        "seconds": round(time.perf_counter() - start, 6),
    }
    return common | row


def _failure(name: str, error: Exception, start: float, work: Work) -> Row:
    if work.on_error == "raise":
        raise error
    return _failed(name, reason_of(error), time.perf_counter() - start)


def reason_of(error: BaseException) -> str:
    """One line that tells an error."""
    return " ".join(str(error).split()) or type(error).__name__


def _failed(name: str, reason: str, seconds: float) -> Row:
    return {"path": name, "status": "error", "reason": reason, "seconds": round(seconds, 6)}


def as_executor(executor: Any) -> Any:
    """Take an executor, or none, as it is, and of a client of Dask the executor that it is for."""
    if executor is None:
        return None
    if hasattr(executor, "get_executor"):
        return executor.get_executor(pure=False, retries=3)
    if not hasattr(executor, "submit"):
        raise InputError(
            f"executor: a {type(executor).__name__}; give a concurrent.futures.Executor or a "
            "dask.distributed.Client"
        )
    return executor


def num_workers(executor: Any) -> int:
    """Tell how many tasks an executor works at, at a time."""
    client = getattr(executor, "_client", None)
    if client is not None:
        threads: dict[str, int] = client.nthreads()
        return max(1, sum(threads.values()))
    workers: int = getattr(executor, "_max_workers", 0)
    return workers or _processors()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
