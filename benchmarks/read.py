"""How long `read_frame` takes over astropy's `fits.getdata`, of files that the memory holds.

python benchmarks/read.py [--repeats N]

CPU time, medians of calls in turn. *Touched* is `getdata` and the sum of the pixels: it maps the
file, and reads nothing before.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

from boresight import read_frame

IMAGES = (("float32", 2098), ("float32", 1024), ("float64", 1024), ("uint16", 2098))


def main() -> None:
    """Print a line for each kind of image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=61)
    repeats = parser.parse_args().repeats
    generator = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        for dtype, side in IMAGES:
            path = Path(folder) / f"{dtype}-{side}.fits"
            fits.writeto(path, generator.normal(1000.0, 3.0, (side, side)).astype(dtype))
            ways = {
                "touched": lambda path=path: fits.getdata(path).sum(),
                "not mapped": lambda path=path: fits.getdata(path, memmap=False),
                "read_frame": lambda path=path: read_frame(path),
            }
            taken: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(repeats):
                for name, read in ways.items():
                    start = time.thread_time()
                    read()
                    taken[name].append(1e3 * (time.thread_time() - start))
            medians = {name: float(np.median(times)) for name, times in taken.items()}
            times = ", ".join(f"{name} {value:.2f} ms" for name, value in medians.items())
            ratio = medians["read_frame"] / medians["touched"]
            print(
                f"{dtype}, {side**2 / 1e6:.1f} Mpx: {times}; over touched {ratio:.2f}", flush=True
            )


if __name__ == "__main__":
    main()
