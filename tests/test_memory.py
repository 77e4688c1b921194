"""Little memory: an error before it is taken, and never the end of the process."""

import subprocess
import sys

import pytest

pytest.importorskip("resource")

#: What each program does before and after its memory is limited to what it has and so much more.
PROGRAM = """
import resource, sys
import numpy as np
import boresight
from boresight import CameraModel, SolverDatabase, batch, extract_centroids, scene, simulate_frame
from astropy.io import fits

folder = sys.argv[1]
noise = np.random.default_rng(0).normal(100.0, 5.0, (3000, 3000)).astype(np.float32)
extract_centroids(noise[:100, :100])
{before}
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {megabytes} * 2**20,) * 2)
try:
    {work}
except MemoryError as error:
    print("MemoryError", error)
except boresight.FileFormatError as error:
    print("FileFormatError", error)
else:
    print("done")
"""

CASES = {
    "extraction": ("", 60, "extract_centroids(noise)", "MemoryError extraction needs about"),
    "generation": (
        "",
        100,
        "SolverDatabase.generate_from_hipparcos(max_fov_deg=5.0, cache=False)",
        "MemoryError a database of this size needs about",
    ),
    "registration": (
        "scene.register(noise[:64, :64], noise[:64, :64])",
        600,
        "scene.register(noise, noise)",
        "MemoryError the registration needs about",
    ),
    "simulation": (
        "camera = CameraModel.from_fov(10.0, (9000, 9000)); "
        "simulate_frame(CameraModel.from_fov(10.0, (64, 64)), 10.0, 20.0)",
        200,
        "simulate_frame(camera, 10.0, 20.0)",
        "MemoryError the simulated image needs about",
    ),
    "reading": (
        "fits.writeto(folder + '/a.fits', np.tile(noise, (3, 1)))",
        60,
        "boresight.read_frame(folder + '/a.fits')",
        "FileFormatError",
    ),
    "a batch": (
        "fits.writeto(folder + '/a.fits', noise); "
        "database = SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0)",
        80,
        "print(*batch.solve(folder + '/a.fits', 20.0, output=folder + '/out', jobs=1, "
        "database=database)['reason'])",
        "extraction needs about",
    ),
}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps to the limit")
@pytest.mark.parametrize("case", CASES)
def test_too_little_memory_is_told(case, tmp_path):
    before, megabytes, work, told = CASES[case]
    program = PROGRAM.format(before=before, megabytes=megabytes, work=work)
    outcome = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, timeout=100
    )
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    assert outcome.stdout.startswith(told)
