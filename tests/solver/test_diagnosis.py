"""The cause that a frame does not solve is found: one simulated frame per cause."""

import numpy as np
import pytest

import boresight
from boresight import CameraModel, SolverDatabase, diagnose, simulate_frame

SHAPE = (512, 512)
# By work, not by time: a busy machine gets through less in a given time.
BOUNDS = {"solve_timeout_ms": None, "max_patterns_checked": 5000}


@pytest.fixture(scope="module")
def found(wide_frame):
    return boresight.extract_centroids(wide_frame.image)


def blurred(image, dx, dy, steps):
    """The image of a camera that moves by (dx, dy) px in each of so many steps."""
    return np.mean([np.roll(image, (n * dy, n * dx), (0, 1)) for n in range(steps)], axis=0)


def test_nothing_is_wrong(wide_database, found):
    diagnosis = diagnose(found, 12.0, database=wide_database)
    assert diagnosis.solution is not None
    assert diagnosis.status == "solved"
    assert (diagnosis.best_rejected, diagnosis.remedy, diagnosis.suspicions) == (None, None, ())
    assert diagnosis.num_centroids == len(found.centroids)
    assert str(diagnosis).startswith("Solved")
    # 144 square degrees of the sky's 41253.
    low, high = diagnosis.num_expected
    assert low < wide_database.num_stars * 144 / 41253 < high


def test_wrong_field_of_view(wide_database, found):
    diagnosis = diagnose(found, 18.0, database=wide_database, fov_max_error_deg=1.0)
    assert diagnosis.solution is None
    assert diagnosis.fov_bounds_deg == pytest.approx((17.0, 19.0))
    assert diagnosis.remedy.cause == "field of view"
    assert diagnosis.remedy.changes["fov_deg"] == pytest.approx(12.0, abs=0.05)
    again = boresight.solve(found, database=wide_database, **diagnosis.remedy.changes)
    assert again is not None
    assert "12.0" in str(diagnosis)
    assert "17.0 to 19.0" in str(diagnosis)


def test_magnitudes_for_light(wide_database, found):
    stars = found.centroids
    magnitudes = 25.0 - 2.5 * np.log10(stars.brightness)
    rows = np.column_stack([stars.x, stars.y, magnitudes])
    diagnosis = diagnose(rows, 12.0, database=wide_database, image_shape=SHAPE)
    assert diagnosis.solution is None
    assert diagnosis.remedy.cause == "brightness"
    assert "10 ** (-0.4 * mag)" in str(diagnosis)


def test_wrong_parity(wide_database, found):
    camera = CameraModel.from_fov(12.0, SHAPE, parity_flip=True)
    diagnosis = diagnose(found, database=wide_database, camera_model=camera)
    assert diagnosis.remedy.cause == "parity"
    assert diagnosis.remedy.changes == {"parity_flip": False}


def test_wrong_hint(wide_database, found):
    hint = {"attitude_hint": [1.0, 0, 0, 0], "strict_hint": True}
    diagnosis = diagnose(found, 12.0, database=wide_database, **hint)
    assert diagnosis.remedy.cause == "hint"


def test_wrong_database(found):
    database = SolverDatabase.preset("wide", min_fov_deg=40.0)
    diagnosis = diagnose(found, database=database, **BOUNDS)
    assert diagnosis.remedy.cause == "database"
    assert diagnosis.remedy.solution.fov_deg == pytest.approx(12.0, abs=0.05)


@pytest.mark.parametrize("number", [27, 120])
def test_many_false_stars_hide_nothing(wide_database, found, number):
    """More false stars brighter than all true ones: parts of the frame are searched as well."""
    rng = np.random.default_rng(2)
    false = rng.uniform(-256, 256, (number, 2))
    stars = np.vstack([false, found.centroids.xy[:30]])
    options = {"pattern_checking_stars": 24, "image_shape": SHAPE}
    diagnosis = diagnose(stars, 12.0, database=wide_database, **options)
    assert diagnosis.solution.ra_deg == pytest.approx(83.8, abs=0.01)
    assert diagnosis.remedy is None


def test_best_rejected_candidate(wide_database, found):
    options = {"match_threshold": 1e-300, "image_shape": SHAPE} | BOUNDS
    diagnosis = diagnose(found.centroids[:12], 12.0, database=wide_database, **options)
    best = diagnosis.best_rejected
    assert best.log_ratio < best.log_ratio_needed
    assert 1e-300 < best.probability < 1e-5
    assert best.solution.fov_deg == pytest.approx(12.0, abs=0.1)
    assert "chance" in best.reason
    assert "Best match" in str(diagnosis)


def test_trailing(wide_frame):
    diagnosis = diagnose(blurred(wide_frame.image, 1, 1, 4), 12.0)
    assert [finding.cause for finding in diagnosis.suspicions] == ["trailing"]
    assert "45 degrees" in diagnosis.suspicions[0].text
    far = diagnose(blurred(wide_frame.image, 1, 0, 20), 12.0)
    assert "trailing" in [finding.cause for finding in far.suspicions]


def test_defocus():
    camera = CameraModel.from_fov(12.0, SHAPE)
    frame = simulate_frame(camera, 83.8, -1.2, psf_fwhm_px=9.0, seed=1)
    causes = [finding.cause for finding in diagnose(frame.image, 12.0).suspicions]
    assert causes == ["defocus"]


def test_clouds():
    camera = CameraModel.from_fov(12.0, SHAPE)
    frame = simulate_frame(camera, 83.8, -1.2, zero_point=9.0, seed=1)
    diagnosis = diagnose(frame.image, 12.0)
    assert diagnosis.num_centroids < 10
    assert "few stars" in [finding.cause for finding in diagnosis.suspicions]
    assert "clouds" in str(diagnosis)


def test_no_stars_and_noise():
    diagnosis = diagnose([], 12.0, image_shape=SHAPE)
    assert diagnosis.status == "too few stars"
    assert diagnosis.best_rejected is None
    noise = np.random.default_rng(1).uniform(-256, 256, (12, 2))
    diagnosis = diagnose(noise, 12.0, image_shape=SHAPE, max_patterns_checked=2000)
    assert diagnosis.solution is None
    assert diagnosis.remedy is None
    assert "No cause found" in str(diagnosis)
