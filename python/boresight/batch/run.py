"""Working through many frames: chunks of them on an executor, in a window of bounded size."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from boresight._utils import arguments
from boresight.batch.frames import read
from boresight.batch.journal import Row
from boresight.errors import BoresightError, InputError
from boresight.frames.frame import Frame

__all__ = ["FRAME_ERRORS", "OnError", "Work", "reason_of", "run"]

OnError = Literal["row", "raise"]

#: What reading and solving one frame may raise, which is no reason to give up the others.
FRAME_ERRORS = (BoresightError, OSError, MemoryError)

#: Chunks that wait for each worker, besides the one it works at.
AHEAD = 2

#: Frames of a chunk here, where rows are wanted as they come, and where every message costs.
LOCAL_CHUNK, REMOTE_CHUNK = (1, 20), (50, 500)

#: Chunks for each worker: enough that all of them end together.
CHUNKS_PER_WORKER = 8


class Work(NamedTuple):
    """The work on each frame: `function(frame, name, settings)` gives its row."""

    function: Callable[[Frame, str, Any], Row]
    settings: Any
    on_error: OnError


def run(
    names: Sequence[str],
    work: Work,
    *,
    jobs: int | None,
    executor: Any,
) -> Iterator[list[Row]]:
    """Rows of the frames, in chunks as they end.

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
    if not names:
        return
    if executor is not None:
        executor = _as_executor(executor)
        yield from _submit(names, work, executor, _workers_of(executor), REMOTE_CHUNK)
        return
    jobs = _processors() if jobs is None else max(arguments.count("jobs", jobs), 1)
    jobs = min(jobs, len(names))
    if jobs == 1:
        for name in names:
            yield [_row(name, work)]
        return
    yield from _in_processes(names, work, jobs)


def _in_processes(names: Sequence[str], work: Work, jobs: int) -> Iterator[list[Row]]:
    """Run in processes of this machine. Frames at which one ended are tried once more, alone."""
    missing = dict.fromkeys(names)
    try:
        with _processes(jobs) as pool:
            for rows in _submit(names, work, pool, jobs, LOCAL_CHUNK):
                for row in rows:
                    del missing[row["path"]]
                yield rows
    except BrokenExecutor:
        for name in missing:
            try:
                with _processes(1) as pool:
                    yield pool.submit(_rows, [name], work).result()
            except BrokenExecutor:
                yield [_failed(name, "the process that worked at it ended", 0.0)]


@contextmanager
def _processes(jobs: int) -> Iterator[Executor]:
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
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(threads: int) -> None:
    """Make a process ready: it has its share of the processors, and Ctrl-C is the parent's."""
    os.environ.setdefault("BORESIGHT_NUM_THREADS", str(threads))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _submit(
    names: Sequence[str],
    work: Work,
    executor: Executor,
    workers: int,
    sizes: tuple[int, int],
) -> Iterator[list[Row]]:
    size = min(max(len(names) // (workers * CHUNKS_PER_WORKER), sizes[0]), sizes[1])
    chunks = deque(names[k : k + size] for k in range(0, len(names), size))
    pending: set[Future[list[Row]]] = set()
    try:
        while chunks or pending:
            while chunks and len(pending) < workers * (1 + AHEAD):
                pending.add(executor.submit(_rows, chunks.popleft(), work))
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        for future in pending:
            future.cancel()


def _rows(names: Sequence[str], work: Work) -> list[Row]:
    return [_row(name, work) for name in names]


def _row(name: str, work: Work) -> Row:
    """One frame from its file to its row; what goes wrong with it becomes a row too."""
    start = time.perf_counter()
    try:
        frame = read(name)
        row = work.function(frame, name, work.settings)
    except FRAME_ERRORS as error:
        if work.on_error == "raise":
            raise
        return _failed(name, reason_of(error), time.perf_counter() - start)
    height, width = frame.image_shape
    common = {
        "path": name,
        "width": width,
        "height": height,
        "time": None if frame.time is None else frame.time.utc.isot,
        "seconds": round(time.perf_counter() - start, 6),
    }
    return common | row


def reason_of(error: BaseException) -> str:
    """One line that tells an error."""
    return " ".join(str(error).split()) or type(error).__name__


def _failed(name: str, reason: str, seconds: float) -> Row:
    return {"path": name, "status": "error", "reason": reason, "seconds": round(seconds, 6)}


def _as_executor(executor: Any) -> Any:
    """Take an executor as it is, and of a client of Dask the executor that it is for."""
    if hasattr(executor, "get_executor"):
        return executor.get_executor(pure=False, retries=3)
    if not hasattr(executor, "submit"):
        raise InputError(
            f"executor: a {type(executor).__name__}; give a concurrent.futures.Executor or a "
            "dask.distributed.Client"
        )
    return executor


def _workers_of(executor: Any) -> int:
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
