"""Work on a few threads: results in order, a bounded window, and an end when nobody wants them."""

import threading
import warnings
from contextlib import closing

import numpy as np
import pytest

from boresight import SolverDatabase, _core, solve_from_centroids
from boresight._utils.quiet import quiet
from boresight._utils.threads import in_order, num_jobs


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_order_from_a_bounded_window(jobs):
    begun = []

    def work(item):
        begun.append(item)
        return -item

    assert list(in_order(work, range(50), jobs)) == list(range(0, -50, -1))
    begun.clear()
    with closing(in_order(work, range(50), jobs)) as results:
        assert next(results) == 0
    assert len(begun) <= 6


def test_an_error_is_raised_in_its_place():
    def work(item):
        return 1 / (3 - item)

    results = in_order(work, range(9), 2)
    assert [next(results) for _ in range(3)] == [1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_the_work_of_the_core_ends_with_those_who_want_it():
    begun, ended = threading.Barrier(3), []

    def work(item):
        begun.wait(60)
        try:
            if item:  # half a minute of work
                SolverDatabase.generate_from_hipparcos(
                    max_fov_deg=5.0,
                    lattice_field_oversampling=20_000,
                    patterns_per_lattice_field=2000,
                    cache=False,
                )
        except KeyboardInterrupt:
            ended.append(item)
            raise

    with closing(in_order(work, range(3), 3)) as results:
        next(results)
    assert sorted(ended) == [1, 2]


def test_work_on_the_calling_thread_ends_too(wide_database):
    stars = np.random.default_rng(0).uniform(1.0, 200.0, (60, 3))
    stop, raised = _core.Stop(), []

    def work():
        stop.attach()
        try:
            solve_from_centroids(wide_database, stars, image_shape=(512, 512))
        except KeyboardInterrupt:
            raised.append(True)

    stop.set()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert raised
    # It is that thread's alone.
    assert solve_from_centroids(wide_database, stars, image_shape=(512, 512)) is None


def test_no_more_at_a_time_than_there_are():
    assert num_jobs(None, 1) == 1
    assert num_jobs(5, 3) == 3
    assert 1 <= num_jobs(None, 1000) <= 8


def test_warnings_are_left_out_and_filters_put_back_whoever_ends_first():
    before, inside, done = list(warnings.filters), threading.Event(), threading.Event()

    def other():
        with quiet:
            inside.set()
            done.wait(60)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        thread = threading.Thread(target=other)
        with quiet:
            thread.start()
            inside.wait(60)
        warnings.warn("the other thread is within", stacklevel=1)
        done.set()
        thread.join()
        warnings.warn("nobody is", stacklevel=1)
    assert [str(one.message) for one in told] == ["nobody is"]
    assert warnings.filters == before
