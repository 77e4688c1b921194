"""A camera from many frames: as from all at once, whatever works at them."""

import importlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.io import fits

import boresight
from boresight import CameraModel, FileFormatError, InputError, RadialDistortion, batch

TRUE = CameraModel.from_fov(15.0, (512, 512), distortion=RadialDistortion(k1=-0.02, scale=256.0))


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Ten frames of one lens, one of them without stars."""
    folder = tmp_path_factory.mktemp("frames")
    for k in range(10):
        image = boresight.simulate_frame(TRUE, 36.0 * k, 8.0 * k - 40.0, seed=k).image
        fits.writeto(folder / f"{k}.fits", image)
    noise = np.random.default_rng(0).normal(100, 5, (512, 512)).astype(np.float32)
    fits.writeto(folder / "x-dark.fits", noise)
    return folder


def run(frames, output, **how):
    how = {"num_first": 4, "model": "radial", "jobs": 1} | how
    return batch.calibrate(f"{frames}/*.fits", 15.0, output=output, **how)


@pytest.fixture(scope="module")
def result(frames, tmp_path_factory):
    return run(frames, tmp_path_factory.mktemp("out"))


def directions(camera):
    """Directions of a grid of pixels, seen from the middle one."""
    x, y = np.meshgrid(np.linspace(-250, 250, 9), np.linspace(-250, 250, 9))
    seen = camera.pixel_to_direction(x.ravel(), y.ravel())
    axis = camera.pixel_to_direction(0.0, 0.0)
    return seen @ np.array([[1.0, 0, 0], [0, 1.0, 0], axis]).T


def difference(a, b):
    """Largest distance between directions on the grid, pixels."""
    return np.abs(directions(a) - directions(b)).max() * a.focal_length_px


def test_it_finds_the_camera(result):
    assert result.converged
    assert result.num_frames == 10
    assert [str(s) for s in result.table["status"]] == ["solved"] * 10 + ["unsolved"]
    assert abs(result.camera_model.focal_length_px / TRUE.focal_length_px - 1) < 5e-5
    assert difference(result.camera_model, TRUE) < 0.1


def test_it_ends_where_all_frames_at_once_do(frames, result):
    names = sorted(frames.glob("[0-9].fits"))
    once = boresight.calibrate(names, fov_estimate_deg=15.0, model="radial")
    assert difference(result.camera_model, once.camera_model) < 0.02


def test_workers_make_no_difference(frames, result, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        other = run(frames, tmp_path, executor=pool)
    assert other.camera_model == result.camera_model
    assert np.array_equal(other.covariance, result.covariance)


def test_the_sum_is_the_same_for_any_tasks():
    calibrate = importlib.import_module("boresight.batch.calibrate")

    # Numbers of which the order of a sum shows in the last bit.
    rng = np.random.default_rng(0)
    numbers = list(rng.normal(size=137) * 10.0 ** rng.uniform(0, 6, 137))
    whole = calibrate._sum(numbers)
    assert whole != sum(numbers)
    for size in (1, 2, 4, 8, 64):
        parts = [calibrate._sum(numbers[k : k + size]) for k in range(0, 137, size)]
        assert calibrate._sum(parts) == whole
    sizes = [calibrate.blocks_of_a_task(10_000, workers) for workers in (1, 100, 200, 1000, 9000)]
    assert sizes == [1, 1, 2, 8, 1]


def test_a_worker_that_is_killed_makes_no_difference(frames, result, tmp_path, monkeypatch):
    """Blocks of two frames, so that there are some for both workers."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("boresight.batch.run.REMOTE_CHUNK", (2, 2))
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        victims = [client.run(os.getpid).popitem()[1]]

        def kill(_):
            if victims:
                os.kill(victims.pop(), signal.SIGKILL)

        other = run(frames, tmp_path, executor=client, progress=kill)
    assert not victims
    assert other.camera_model == result.camera_model
    assert np.array_equal(other.covariance, result.covariance)


def test_the_camera_is_on_the_disk_and_a_batch_is_continued(frames, tmp_path):
    before = run(frames, tmp_path)
    assert CameraModel.load(tmp_path / "camera.json") == before.camera_model
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    after = run(frames, tmp_path)
    assert (tmp_path / "journal.jsonl").read_text().splitlines() == lines
    assert after.camera_model == before.camera_model
    with pytest.raises(InputError, match="order"):
        run(frames, tmp_path, order=3)
    (tmp_path / "first.json").write_text("{}")
    with pytest.raises(FileFormatError, match=r"first\.json"):
        run(frames, tmp_path)
