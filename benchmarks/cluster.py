"""Batches on many machines: what Dask costs, a million frames, the reduction, bytes of a URL.

python benchmarks/cluster.py dask      Dask's LocalCluster against processes, per core
python benchmarks/cluster.py million   memory of scheduler and caller over 1,000,000 names
python benchmarks/cluster.py reduce    measured costs of a calibration, simulated to 1,000 workers
python benchmarks/cluster.py bytes     bytes read of a full-frame image of TESS by URL
"""

import argparse
import heapq
import os
import pickle
import statistics
import tempfile
import time
from pathlib import Path

import fsspec
import numpy as np
from astropy.io import fits
from distributed import Client, LocalCluster
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from scale import simulated

import boresight
from boresight import batch
from boresight.batch.calibrate import BLOCK_FRAMES, blocks_of_a_task
from boresight.batch.frames import read
from boresight.batch.matched import read_matches
from boresight.batch.run import REMOTE_CHUNK, in_chunks, spread


def memory_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def dask(count: int) -> None:
    """Solve the same frames by processes of the batch and by as many workers of Dask."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        names = simulated(work, count)
        rates: dict[str, list[float]] = {"processes": [], "Dask": []}
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            client.run(boresight.SolverDatabase.default, 15.0)
            for run in range(4):
                for kind, how in (("processes", {"jobs": 2}), ("Dask", {"executor": client})):
                    start = time.perf_counter()
                    batch.solve(names, 15.0, output=work / f"{kind}{run}", explain=False, **how)
                    rates[kind].append(count / (time.perf_counter() - start))
        for kind, found in rates.items():
            rates = ", ".join(f"{rate:.1f}" for rate in found)
            print(f"{kind}: median {statistics.median(found[1:]):.1f} frames/s ({rates})")


def nothing(names: list[str]) -> list[dict[str, object]]:
    """Rows as of solved frames, without any work."""
    return [{"path": name, "status": "solved", "ra": 10.123456, "dec": -20.5} for name in names]


def million(count: int) -> None:
    """Chunks of names through a scheduler that runs in this process with the caller."""
    names = [f"s3://bucket/night/{k:08d}.fits" for k in range(count)]
    print(f"names: {memory_mb():.0f} MB")
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        start, rows, level = time.perf_counter(), 0, []
        executor = client.get_executor(pure=False, retries=3)
        for _, part in spread(
            in_chunks(names, REMOTE_CHUNK[1]), nothing, jobs=1, executor=executor
        ):
            rows += len(part)
            if rows % (count // 10) == 0:
                level.append(memory_mb())
        seconds = time.perf_counter() - start
    print(f"{rows} rows in {seconds:.1f} s, {rows / seconds:.0f}/s; memory after each tenth, MB:")
    print("  " + " ".join(f"{mb:.0f}" for mb in level))


def block_of_bytes(_: list[str]) -> bytes:
    """As many bytes as a block has, without any work."""
    return bytes(3365)


def task_seconds(count: int = 2000) -> float:
    """Time that Dask takes for a task, however little its work, with a result of a block's size."""
    names = [f"/data/camera/matches/{k:08d}-0123456789ab.npz" for k in range(count * BLOCK_FRAMES)]
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        executor = client.get_executor(pure=False, retries=3)
        chunks = in_chunks(names, BLOCK_FRAMES)
        start = time.perf_counter()
        for _ in spread(chunks, block_of_bytes, jobs=1, executor=executor):
            pass
        return (time.perf_counter() - start) / count


def reduce(count: int) -> None:
    """Measure a block and the caller's part; simulate workers that a caller serves one by one."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        names = simulated(work, count)
        result = batch.calibrate(names, 15.0, output=work / "out", order=3, jobs=2)
        files = sorted((work / "out" / "matches").iterdir())[:BLOCK_FRAMES]
        start = time.perf_counter()
        matches = [read_matches(file) for file in files]
        reading = (time.perf_counter() - start) / len(files)
        start = time.perf_counter()
        block = boresight.calibration_block(matches, None, result.camera_model, noise=result.noise)
        reducing = (time.perf_counter() - start) / len(files)
    packed = pickle.dumps(block)
    start = time.perf_counter()
    for _ in range(200):
        total = pickle.loads(packed) + block
    serving = (time.perf_counter() - start) / 200
    start = time.perf_counter()
    total.solve()
    solving = time.perf_counter() - start
    dispatching = task_seconds()
    print(f"a frame: read {1e3 * reading:.2f} ms, reduced {1e3 * reducing:.2f} ms (one core)")
    print(
        f"a block of {len(packed)} bytes: {1e3 * dispatching:.2f} ms of Dask and the caller for "
        f"its task, {1e3 * serving:.2f} ms of the caller to add it; "
        f"solved in {1e3 * solving:.2f} ms"
    )
    work = reading + reducing
    for frames in (10_000, 160_000, 1_000_000):
        for workers in (1, 10, 100, 1000):
            tree = blocks_of_a_task(-(-frames // BLOCK_FRAMES), workers)
            for size in dict.fromkeys((1, tree)):
                seconds = round_time(frames, workers, size, work, dispatching + serving) + solving
                print(
                    f"  {frames:>9} frames, {workers:>4} workers, {size:>2} blocks a task: "
                    f"{seconds:9.2f} s a round, {100 * frames * work / workers / seconds:5.1f} % "
                    "of the workers' time is work"
                )


def round_time(frames: int, workers: int, size: int, work: float, serving: float) -> float:
    """Time of one round: each worker takes the next task, and the caller takes each result."""
    blocks = -(-frames // BLOCK_FRAMES)
    tasks = [min(size, blocks - k) for k in range(0, blocks, size)]
    free = [0.0] * workers
    ended = []
    for task in tasks:
        begin = heapq.heappop(free)
        heapq.heappush(free, begin + task * BLOCK_FRAMES * work)
        ended.append(begin + task * BLOCK_FRAMES * work)
    caller = 0.0
    for end in sorted(ended):
        caller = max(caller, end) + serving
    return caller


class CountedFile(AbstractBufferedFile):
    """A local file, read in ranges, as one on a server."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        with Path(self.path).open("rb") as file:
            file.seek(start)
            data = file.read(end - start)
        Counted.ranges.append(len(data))
        return data


class Counted(AbstractFileSystem):
    """Files of which every byte that is fetched is counted."""

    protocol = "counted"
    ranges: list[int] = []  # noqa: RUF012 - of all

    def info(self, path: str, **_: object) -> dict[str, object]:
        """Size of a file."""
        path = self._strip_protocol(path)
        return {"name": path, "size": Path(path).stat().st_size, "type": "file"}

    def _open(self, path: str, mode: str = "rb", **how: object) -> CountedFile:
        return CountedFile(self, path, mode, **how)


def bytes_read() -> None:
    """Read a file of the layout of TESS's: an image of 2078 x 2136, its errors, and a table."""
    fsspec.register_implementation("counted", Counted, clobber=True)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "tess2018206045859-s0001-1-1-0120-s_ffic.fits"
        image = np.random.default_rng(0).normal(100, 5, (2078, 2136)).astype(np.float32)
        error = fits.ImageHDU(image, name="UNCERTAINTY")
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(image, name="CAMERA.CCD 1.1 cal"), error]
        fits.HDUList(hdus).writeto(path)
        start = time.perf_counter()
        frame = read(f"counted://{path}")
        seconds = time.perf_counter() - start
        fetched = sum(Counted.ranges)
        print(
            f"file {path.stat().st_size / 1e6:.1f} MB, image {frame.image.nbytes / 1e6:.1f} MB: "
            f"{fetched / 1e6:.2f} MB fetched in {len(Counted.ranges)} requests, "
            f"{fetched / image.nbytes:.3f} of the image, {seconds:.2f} s"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["dask", "million", "reduce", "bytes"])
    parser.add_argument("--count", type=int)
    arguments = parser.parse_args()
    if arguments.what == "dask":
        dask(arguments.count or 400)
    elif arguments.what == "million":
        million(arguments.count or 1_000_000)
    elif arguments.what == "reduce":
        reduce(arguments.count or BLOCK_FRAMES)
    else:
        bytes_read()


if __name__ == "__main__":
    main()
