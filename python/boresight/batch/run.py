"""Processing of many frames: chunks of frames on an executor, in a window of bounded size."""

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
from boresight._utils.naming import type_of
from boresight.batch.frames import read
from boresight.batch.journal import Row
from boresight.errors import BoresightError, InputError
from boresight.frames.frame import Frame

__all__ = [
    "FRAME_ERRORS",
    "PROCESS_DIED",
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

#: Errors of reading one frame that do not end the batch.
FRAME_ERRORS = (BoresightError, OSError, MemoryError)

#: Errors of the work on a frame that do not end the batch. An `OSError` here, such as a full disk,
#: is not a fault of the frame: it ends the batch, which can be continued later.
WORK_ERRORS = (BoresightError, MemoryError)

#: Chunks that wait for each worker, in addition to the one in work.
AHEAD = 2

#: Smallest and largest number of frames per chunk: in local processes small, so that rows appear
#: soon; on an executor large, because every message has a cost.
LOCAL_CHUNK, REMOTE_CHUNK = (1, 8), (50, 500)

#: Chunks per worker, within the limits above: enough that all workers end at about the same time.
CHUNKS_PER_WORKER = 32


class Work(NamedTuple):
    """The work on each frame: `function(frame, name, settings)` returns its row.

    `timeout_ms` limits the time for reading a frame.
    """

    function: Callable[[Frame, str, Any], Row]
    settings: Any
    on_error: OnError
    timeout_ms: int | None = None


#: Result of a chunk whose process died before the chunk was finished.
PROCESS_DIED = object()


def run(
    names: Sequence[str],
    work: Work,
    *,
    jobs: int | None,
    executor: Any,
) -> Generator[list[Row]]:
    """Yield the rows of the frames, in chunks as these are finished.

    Frames of a chunk whose process died are tried once more, each in a separate process.

    Parameters
    ----------
    names : sequence of str
        Paths or URLs of the frames.
    work : Work
        The work on each frame; it is pickled and sent to the workers.
    jobs : int or None
        Number of processes. None: one per processor.
    executor : Executor or Client or None
        Executor to use instead of own processes.
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
        if rows is PROCESS_DIED:
            lost += chunks[index]
        else:
            yield rows
    for name in lost:
        for _, rows in _in_processes([[name]], function, 1):
            ended = "its process died"
            yield [_failed(name, ended, 0.0)] if rows is PROCESS_DIED else rows


def in_chunks(names: Sequence[str], size: int) -> list[Sequence[str]]:
    """Divide names into chunks of a size; the last chunk may be shorter."""
    return [names[k : k + size] for k in range(0, len(names), size)]


def num_processes(jobs: int | None, most: int) -> int:
    """Return the number of processes: `jobs`, default one per processor; at most `most`."""
    jobs = _processors() if jobs is None else arguments.count("jobs", jobs)
    return max(1, min(jobs, most))


def spread(
    chunks: Sequence[Sequence[str]],
    function: Callable[[Sequence[str]], Any],
    *,
    jobs: int,
    executor: Any,
) -> Iterator[tuple[int, Any]]:
    """Yield the index and result of every chunk as it is finished.

    The result of a chunk whose local process died is `PROCESS_DIED`.

    Parameters
    ----------
    chunks : sequence of sequences of str
        Names of files.
    function : callable
        Computes the result of a chunk; it is pickled and sent to the workers.
    jobs : int
        Number of local processes; 1 works in the calling process.
    executor : Executor or None
        Executor to use instead of local processes.
    """
    if executor is not None:
        left = deque(enumerate(chunks))
        for index, result in _window(left, function, executor, num_workers(executor)):
            if result is PROCESS_DIED:
                raise BrokenExecutor("executor: one of its processes ended")
            yield index, result
    elif jobs == 1:
        yield from ((index, function(chunk)) for index, chunk in enumerate(chunks))
    else:
        yield from _in_processes(chunks, function, jobs)


def _in_processes(
    chunks: Sequence[Sequence[str]], function: Callable[[Sequence[str]], Any], jobs: int
) -> Iterator[tuple[int, Any]]:
    """Work in local processes; after one of them died, continue with new processes."""
    left = deque(enumerate(chunks))
    while left:
        with processes(jobs) as pool:
            yield from _window(left, function, pool, jobs)


@contextmanager
def processes(jobs: int) -> Iterator[Executor]:
    """Start local processes, each with an equal share of the processors as threads.

    They are terminated at once if an error or Ctrl-C leaves the block.
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
        # The frames in work are not needed any more. Files are written atomically, so no
        # incomplete file is left behind.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(threads: int) -> None:
    """Initialize a process: set its number of threads, and leave Ctrl-C to the parent."""
    os.environ.setdefault("BORESIGHT_NUM_THREADS", str(threads))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _window(
    left: deque[tuple[int, Sequence[str]]],
    function: Callable[[Sequence[str]], Any],
    executor: Executor,
    workers: int,
) -> Iterator[tuple[int, Any]]:
    """Process the chunks in `left` in a bounded window, until they end or a process dies."""
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
                    result, broken = PROCESS_DIED, True
                yield index, result
    finally:
        for future in pending:
            future.cancel()


def _rows(names: Sequence[str], work: Work) -> list[Row]:
    return [_row(name, work) for name in names]


def _row(name: str, work: Work) -> Row:
    """Read and process one frame and return its row; an error of the frame also gives a row."""
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
    """Message of an error in one line; for an error of the system, the file and the fault."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _failed(name: str, reason: str, seconds: float) -> Row:
    return {"path": name, "status": "error", "reason": reason, "seconds": round(seconds, 6)}


def as_executor(executor: Any) -> Any:
    """Return the executor of a Dask client; return an executor, or None, unchanged."""
    if executor is None:
        return None
    if hasattr(executor, "get_executor"):
        return executor.get_executor(pure=False, retries=3)
    if not hasattr(executor, "submit"):
        raise InputError(
            f"executor: {type_of(executor)}; give a concurrent.futures.Executor or a "
            "dask.distributed.Client"
        )
    return executor


def num_workers(executor: Any) -> int:
    """Return the number of tasks that an executor runs at the same time."""
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
