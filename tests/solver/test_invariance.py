"""Units, threads, the order of the detections and their repetition change nothing."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import boresight

SHAPE = (512, 512)
FOV_DEG = 12.0


@pytest.fixture(scope="module")
def rows(wide_frame):
    """Stars of the frame: x, y and brightness."""
    stars = boresight.extract_centroids(wide_frame.image).centroids
    return np.column_stack([stars.x, stars.y, stars.brightness])


def solved(database, rows, **options):
    return boresight.solve(rows, FOV_DEG, database=database, image_shape=SHAPE, **options)


def same_sky_px(a, b):
    """Largest distance between what two solutions see at the corners and the centre, in pixels."""
    x, y = (
        np.array([-256.0, 256.0, -256.0, 256.0, 0.0]),
        np.array([-256.0, -256.0, 256.0, 256.0, 0]),
    )
    seen = [
        s.camera_model.pixel_to_direction(x, y) @ s.rotation_matrix_icrs_to_camera for s in (a, b)
    ]
    return np.linalg.norm(seen[0] - seen[1], axis=1).max() * a.camera_model.focal_length_px


@given(seed=st.integers(0, 2**32 - 1), power=st.integers(-30, 30))
def test_order_and_unit_of_the_brightness(wide_database, rows, seed, power):
    order = np.random.default_rng(seed).permutation(len(rows))
    first = solved(wide_database, rows)
    other = solved(wide_database, rows[order] * [1.0, 1.0, 10.0**power])
    # Stars of the same brightness may change places, and sums their rounding.
    assert same_sky_px(first, other) < 1e-6
    assert set(order[other.matched_centroids]) == set(first.matched_centroids)


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.05, 1.0), spread=st.floats(0.0, 2.0))
def test_repeated_detections(wide_database, rows, seed, share, spread):
    rng = np.random.default_rng(seed)
    again = rows[rng.random(len(rows)) < share]
    repeated = again * [1.0, 1.0, 0.5]
    repeated[:, :2] += rng.uniform(-spread, spread, (len(again), 2)) / np.sqrt(2)
    inside = (np.abs(repeated[:, :2]) < 256.0).all(axis=1)
    first = solved(wide_database, rows)
    other = solved(wide_database, np.vstack([rows, repeated[inside]]))
    # Some of the repetitions lie nearer to where their star is expected.
    assert same_sky_px(first, other) < 0.5


@pytest.mark.parametrize("unit", [1e-24, 1e-6, 1e12])
def test_unit_of_the_image(wide_database, wide_frame, unit):
    first = boresight.solve(wide_frame.image, FOV_DEG, database=wide_database)
    other = boresight.solve(
        np.asarray(wide_frame.image, np.float64) * unit, FOV_DEG, database=wide_database
    )
    assert same_sky_px(first, other) < 1e-3
    assert other.num_matches == first.num_matches


def test_number_of_threads(tmp_path, wide_database, rows):
    database, stars = tmp_path / "database", tmp_path / "stars.npy"
    wide_database.save_to_file(database)
    np.save(stars, rows)
    code = (
        "import sys, numpy as np, boresight\n"
        "database = boresight.SolverDatabase.load_from_file(sys.argv[1])\n"
        "rows = np.load(sys.argv[2])\n"
        f"s = boresight.solve(rows, {FOV_DEG}, database=database, image_shape={SHAPE})\n"
        "print(s.quaternion.tolist(), s.camera_model, s.matched_catalog_ids.tolist())\n"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code, str(database), str(stars)],
            env={**os.environ, "BORESIGHT_NUM_THREADS": str(threads)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in (1, 2, 5)
    }
    assert len(seen) == 1
