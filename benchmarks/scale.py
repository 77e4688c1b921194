"""Batches: frames per second, resuming, memory, and what Dask costs.

python benchmarks/scale.py                     simulated frames of 512 x 512 pixels
python benchmarks/scale.py FOLDER --fov 24     the FITS frames of a folder
"""

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from astropy.io import fits

from boresight import CameraModel, batch, simulate_frame
from boresight.batch.journal import Journal


def simulated(folder: Path, count: int) -> list[Path]:
    """Frames of random fields, 15 degrees wide."""
    rng = np.random.default_rng(1)
    camera = CameraModel.from_fov(15.0, (512, 512))
    names = []
    for k in range(count):
        ra, dec = rng.uniform(0, 360), np.degrees(np.arcsin(rng.uniform(-1, 1)))
        image = simulate_frame(camera, ra, dec, seed=k).image
        names.append(folder / f"{k:04d}.fits")
        fits.writeto(names[-1], np.round(image).astype(np.uint16))
    return names


def rate(names: list[Path], fov_deg: float | None, folder: Path, **how: object) -> float:
    """Frames per second, processes that start included."""
    shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    table = batch.solve(names, fov_deg, output=folder, explain=False, **how)
    seconds = time.perf_counter() - start
    solved = int(table["solved"].sum())
    print(
        f"  {how}: {len(names) / seconds:.1f} frames/s, {solved} of {len(names)} solved", flush=True
    )
    return len(names) / seconds


def resuming(folder: Path, count: int) -> None:
    """Open a batch of which so many frames are done."""
    names = [f"night/{k:07d}.fits" for k in range(count)]
    header = {"format": "boresight batch 1", "command": "solve"}
    folder.mkdir()
    with (folder / "journal.jsonl").open("w") as file:
        file.write(json.dumps(header) + "\n")
        row = {"status": "solved", "solved": True, "ra": 10.123456, "dec": -20.5, "fov": 15.0}
        file.writelines(json.dumps({"path": name, **row}) + "\n" for name in names)
    start = time.perf_counter()
    with Journal(folder, {"command": "solve"}, resume=True) as journal:
        done = {row["path"] for row in journal.rows()}
        missing = [name for name in names if name not in done]
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    table = batch.read_results(folder)
    print(
        f"  {count} done frames, {len(missing)} missing: {seconds:.2f} s until the first new one, "
        f"their table {time.perf_counter() - start:.2f} s ({len(table)} rows)"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--fov", type=float)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        if arguments.folder is None:
            names, fov_deg = simulated(work, arguments.count), 15.0
        else:
            names, fov_deg = sorted(arguments.folder.glob("*.f*ts*")), arguments.fov
        for how in ({"jobs": 1}, {"jobs": 2}, {"jobs": 4}):
            rates = [rate(names, fov_deg, work / "out", **how) for _ in range(arguments.runs)]
            print(f"{how}: median {statistics.median(rates):.1f} frames/s")
        with ThreadPoolExecutor(2) as pool:
            rate(names, fov_deg, work / "out", executor=pool)
        resuming(work / "resume", 100_000)
    print(f"largest memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
