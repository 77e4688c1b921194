"""Parallel work in processes that were forked or started, and the number of its threads."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from boresight import (
    CameraModel,
    InputError,
    _core,
    calibrate_camera,
    extract_centroids,
    limit_threads,
    simulate_frame,
    solve_many,
)

WORK = """
import multiprocessing, sys
import numpy as np
from boresight import Catalog, extract_centroids

image = np.random.default_rng(0).normal(100, 5, (400, 400))
image[200, 200:202] += 500

def count(_):
    return len(extract_centroids(image).centroids), len(Catalog.hipparcos().at_epoch(2020.0))

if __name__ == "__main__":
    here = count(0)
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        assert pool.map_async(count, range(4)).get(40) == [here] * 4
"""


@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems have all three")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_every_kind_work(tmp_path, method):
    program = tmp_path / "work.py"
    program.write_text(WORK)
    subprocess.run([sys.executable, "-W", "error", program, method], check=True, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({"BORESIGHT_NUM_THREADS": "3", "OMP_NUM_THREADS": "1"}, 3),
        ({"RAYON_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "many", "BORESIGHT_NUM_THREADS": "4"}, 4),
    ],
)
def test_the_environment_limits_the_threads(variables, count):
    program = (
        "import pathlib; from boresight import Catalog; Catalog.hipparcos().at_epoch(2020.0);"
        "names = [(t / 'comm').read_text() for t in pathlib.Path('/proc/self/task').iterdir()];"
        "print(sum(name.startswith('boresight-') for name in names))"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", program],
        check=True, capture_output=True, text=True, env=os.environ | variables,
    )  # fmt: skip
    assert int(outcome.stdout) == count


def test_a_program_limits_the_threads_of_what_it_calls():
    image = np.random.default_rng(1).normal(100.0, 5.0, (300, 400))
    image[::37, ::41] += 500.0
    outside = _core.num_threads()
    known = [extract_centroids(image).centroids.xy]
    for threads in (1, 2, 5):
        with limit_threads(threads):
            assert _core.num_threads() == threads
            known.append(extract_centroids(image).centroids.xy)
            with limit_threads(3), ThreadPoolExecutor(1) as pool:
                # Another thread has not asked for it.
                assert pool.submit(_core.num_threads).result() == outside
            assert _core.num_threads() == threads
    assert _core.num_threads() == outside
    assert all(np.array_equal(known[0], other) for other in known)


@pytest.mark.parametrize("threads", [0, -1, 257, 1.5, "2", None])
def test_a_number_of_threads_is_checked(threads):
    with pytest.raises((InputError, TypeError), match="threads"), limit_threads(threads):
        pass


def test_a_fork_solves_and_calibrates_as_its_parent_does(wide_database, wide_frame):
    """Everything parallel is used once, then again in a child without threads."""
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    camera = CameraModel.from_fov(12.0, (512, 512))
    frames = [wide_frame, simulate_frame(camera, 200.0, 40.0, 0.0, seed=2)]

    def work():
        lists = [extract_centroids(frame.image).centroids for frame in frames]
        solved = solve_many(lists, 12.0, database=wide_database, image_shape=(512, 512))
        return calibrate_camera(solved, lists, order=2).camera_model.focal_length_px

    here = work()
    child = os.fork()
    if child == 0:
        os._exit(0 if work() == here else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
