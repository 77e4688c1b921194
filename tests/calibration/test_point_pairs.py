"""Calibrations by point pairs: fitted, saved, and updated for a movement."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from boresight import CameraModel, FileFormatError, InputError, RadialDistortion, UndeterminedError
from boresight.calibration import PointPairCalibration
from boresight.movement import MovementCorrection, update_calibration

SHAPE = (480, 640)
CAMERA = CameraModel(
    850.0, SHAPE, optical_center=(12.0, -7.0), distortion=RadialDistortion(-0.08, 0.02, scale=400.0)
)


def pairs(count=80, noise=0.0, camera=CAMERA, seed=1):
    rng = np.random.default_rng(seed)
    turn, position = Rotation.from_rotvec([0.3, -0.2, 0.5]), np.array([1.0, -2.0, 0.5])
    pixels = rng.uniform(-1, 1, (count, 2)) * [310, 230]
    seen = camera.pixel_to_direction(pixels[:, 0], pixels[:, 1])
    points = turn.inv().apply(seen * rng.uniform(3, 9, (count, 1))) + position
    shown = pixels + np.array([320, 240]) + rng.normal(0, noise, (count, 2))
    return shown, points, turn, position


def test_the_truth_is_found():
    pixels, points, turn, position = pairs()
    free = ("focal_length", "center", "k1", "k2")
    found = PointPairCalibration.fit(pixels, points, SHAPE, free=free)
    assert found.rms_px < 1e-6
    assert np.allclose(found.rotation, turn.as_matrix(), atol=1e-8)
    assert np.allclose(found.position, position, atol=1e-7)
    assert found.camera_model.focal_length_px == pytest.approx(850.0, abs=1e-4)
    assert found.camera_model.optical_center == pytest.approx((12.0, -7.0), abs=1e-4)


def test_noise_averages_out():
    pixels, points, _, _ = pairs(200, 0.3)
    found = PointPairCalibration.fit(pixels, points, SHAPE, camera_model=CAMERA)
    assert 0.3 < found.rms_px < 0.5
    assert found.camera_model.focal_length_px == pytest.approx(850.0, rel=3e-3)
    assert found.camera_model.optical_center == pytest.approx(CAMERA.optical_center)


def test_directions():
    pixels, points, turn, position = pairs()
    directions = points - position
    found = PointPairCalibration.fit(
        pixels, directions, SHAPE, directions=True, camera_model=CAMERA
    )
    assert found.position is None
    assert np.allclose(found.rotation, turn.as_matrix(), atol=1e-8)
    assert found.rms_px < 1e-6


def test_files(tmp_path):
    pixels, points, _, _ = pairs()
    found = PointPairCalibration.fit(pixels, points, SHAPE, free=("focal_length", "k1"))
    found.save(tmp_path / "cal.json")
    back = PointPairCalibration.load(tmp_path / "cal.json")
    assert back.to_dict() == found.to_dict()
    assert np.array_equal(back.project(points), found.project(points))
    (tmp_path / "bad.json").write_text('{"format": "boresight-point-pairs"}')
    with pytest.raises(FileFormatError, match="damaged"):
        PointPairCalibration.load(tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(FileFormatError):
        PointPairCalibration.load(tmp_path / "bad.json")


def test_an_update_moves_the_points_and_fits_again():
    pixels, points, _, _ = pairs()
    mask = np.zeros(SHAPE, int)
    mask[:, 300:] = 1
    before = PointPairCalibration.fit(
        pixels, points, SHAPE, free=("focal_length", "center", "k1", "k2"), mask=mask
    )
    stored = before.to_dict()
    c, s = np.cos(0.02), np.sin(0.02)
    moved = MovementCorrection([[c, -s, 60.0], [s, c, 5.0]], SHAPE, [], [], "bumped")
    image = np.zeros(SHAPE)
    after = update_calibration(before, image, moved, "frame 7")
    assert before.to_dict() == stored
    x, y = moved.ref_to_moved_coords(*pixels.T)
    kept = (x >= 0) & (y >= 0) & (x < 639.5) & (y < 479.5)
    assert 0 < np.count_nonzero(~kept) < 20
    assert np.allclose(after.image_points, np.column_stack([x, y])[kept])
    assert np.array_equal(after.object_points, points[kept])
    assert after.free == before.free
    assert after.rms_px < 0.05
    assert len(after.history) == len(before.history) + 1
    assert "bumped" in after.history[-1]
    assert "frame 7" in after.history[-1]
    assert after.image is image
    assert after.mask[100, 300] == 1
    assert after.mask[100, 200] == 0
    assert update_calibration(before, image, moved, coords="Original").rms_px < 0.05


def test_bad_arguments():
    pixels, points, _, _ = pairs()
    with pytest.raises(InputError, match="image_points"):
        PointPairCalibration.fit(pixels[:, :1], points, SHAPE)
    with pytest.raises(InputError, match="free"):
        PointPairCalibration.fit(pixels, points, SHAPE, free=("zoom",))
    with pytest.raises(UndeterminedError):
        PointPairCalibration.fit(pixels[:3], points[:3], SHAPE)
    flat = points * [1, 1, 0]
    with pytest.raises(UndeterminedError, match="plane"):
        PointPairCalibration.fit(pixels, flat, SHAPE)
    before = PointPairCalibration.fit(pixels, points, SHAPE)
    moved = MovementCorrection(np.eye(3), SHAPE, [], [], "")
    with pytest.raises(InputError, match="moved_image"):
        update_calibration(before, np.zeros((10, 10)), moved)
    with pytest.raises(InputError, match="coords"):
        update_calibration(before, np.zeros(SHAPE), moved, coords="Upside down")
    with pytest.raises(InputError, match="mov_correction"):
        update_calibration(before, np.zeros(SHAPE), "moved")
    with pytest.raises(InputError, match="calibration"):
        update_calibration("cal", np.zeros(SHAPE), moved)
