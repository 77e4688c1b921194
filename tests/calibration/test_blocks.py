"""Calibration in pieces ends where the fit of all frames at once does."""

import pickle

import numpy as np
import pytest

from boresight import (
    CalibrationBlock,
    CameraModel,
    FileFormatError,
    InputError,
    RadialDistortion,
    UndeterminedError,
    calibrate_camera,
    calibration_block,
)
from helpers import RADIAL, polynomial_camera, simulate

NOISE = 0.02
FISHEYE = CameraModel(
    650.0,
    (768, 1024),
    projection="equidistant",
    distortion=RadialDistortion(k1=-0.01, scale=512.0),
)


def rounds(results, centroids, camera, pieces, count=30, **options):
    """Take rounds over frames in pieces that travel as bytes, until nothing moves."""
    for _ in range(count):
        sent = [
            calibration_block(
                results[a:b], centroids[a:b], camera, noise=NOISE, **options
            ).to_bytes()
            for a, b in pieces
        ]
        block = sum(CalibrationBlock.from_bytes(data) for data in sent)
        step = block.solve()
        camera = step.camera_model
        if step.change < 1e-10:
            break
    assert step.change < 1e-10
    return block, step


@pytest.mark.parametrize(
    ("camera", "options"),
    [
        (polynomial_camera(), {"order": 4}),
        (RADIAL, {"model": "radial"}),
        (FISHEYE, {"model": "radial"}),
    ],
    ids=["polynomial", "radial", "fisheye"],
)
@pytest.mark.parametrize("velocity", [None, np.array([21.0, -18.0, 9.0])])
def test_they_lead_to_the_joint_fit(camera, options, velocity):
    results, centroids, _ = simulate(camera, outliers=0.05, velocity=velocity)
    joint = calibrate_camera(results, centroids, noise=NOISE, **options)
    first = calibrate_camera(results[:2], centroids[:2], **options)
    block, step = rounds(
        results, centroids, first.camera_model, [(0, 1), (1, 4), (4, 6)],
        parameter_names=joint.parameter_names,
    )  # fmt: skip
    assert (block.num_frames, block.num_rejected) == (6, 0)
    assert (block.num_inliers, block.num_outliers) == (joint.num_inliers, joint.num_outliers)
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(-500, 500, 7), np.linspace(-380, 380, 7)))
    apart = joint.camera_model.pixel_to_direction(x, y) - step.camera_model.pixel_to_direction(x, y)
    assert np.abs(apart).max() * camera.focal_length_px < 1e-6
    assert step.noise == pytest.approx(joint.noise, rel=1e-6)
    assert step.parameter_names == joint.parameter_names
    np.testing.assert_allclose(step.covariance, joint.covariance, rtol=1e-4, atol=1e-12)
    assert step.condition_number == pytest.approx(joint.condition_number, rel=1e-4)


def test_position_uncertainties_count():
    from boresight import Centroids

    results, arrays, _ = simulate(RADIAL, frames=3)
    cov = np.tile(np.eye(2) * 0.02**2, (150, 1, 1))
    centroids = [Centroids(x=xy[:, 0], y=xy[:, 1], position_cov=cov) for xy in arrays]
    camera = calibrate_camera(results, arrays, model="radial").camera_model
    step = calibration_block(results, centroids, camera, noise=1.0).solve()
    # The floor of 0.01 px is added to each position's own 0.02 px.
    assert step.noise == pytest.approx(0.02 / np.hypot(0.02, 0.01), rel=0.1)


def test_a_block_is_small_and_travels():
    results, centroids, _ = simulate(polynomial_camera(), frames=3)
    camera = calibrate_camera(results, centroids).camera_model
    few = calibration_block(results[:1], centroids[:1], camera, noise=NOISE)
    many = calibration_block(results * 5, centroids * 5, camera, noise=NOISE)
    assert abs(len(few.to_bytes()) - len(many.to_bytes())) < 100
    assert len(many.to_bytes()) < 10_000
    copy = pickle.loads(pickle.dumps(many))
    assert copy.camera_model == camera
    assert (copy.num_frames, copy.num_inliers) == (15, many.num_inliers)
    np.testing.assert_array_equal(copy.solve().covariance, many.solve().covariance)
    assert "15 frames" in repr(copy)
    unsolved = calibration_block([None, *results], [[], *centroids], camera, noise=NOISE)
    assert unsolved.num_frames == 3


def test_bad_input():
    results, centroids, _ = simulate(polynomial_camera(), frames=2)
    camera = calibrate_camera(results, centroids).camera_model
    block = calibration_block(results, centroids, camera, noise=NOISE)
    with pytest.raises(InputError, match="blocks: they differ"):
        block + calibration_block(results, centroids, camera, noise=2 * NOISE)
    with pytest.raises(TypeError):
        block + 3
    with pytest.raises(InputError, match="noise: 0 is not positive"):
        calibration_block(results, centroids, camera, noise=0)
    with pytest.raises(InputError, match="parameter_names: they differ from the names"):
        calibration_block(results, centroids, camera, noise=NOISE, parameter_names=["k1"])
    with pytest.raises(InputError, match=r"parameter_names: .* are not names"):
        calibration_block(results, centroids, camera, noise=NOISE, parameter_names=[1, 2])
    with pytest.raises(InputError, match=r"velocities_km_s\[0\]: not numbers"):
        calibration_block(results, centroids, camera, noise=NOISE, velocities_km_s=["a", "b"])
    with pytest.raises(InputError, match="results: their frames differ in size"):
        calibration_block(results, centroids, CameraModel(2000.0, (10, 10)), noise=NOISE)
    with pytest.raises(UndeterminedError, match="0 stars in 0 frames"):
        calibration_block([], [], camera, noise=NOISE).solve()
    data = block.to_bytes()
    for bad in (b"", b"PK\x03\x04", data[:100], pickle.dumps(3)):
        with pytest.raises(FileFormatError, match="not a calibration block"):
            CalibrationBlock.from_bytes(bad)
