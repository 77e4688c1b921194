"""Detectors behind one lens: their places from simulated exposures with known truth."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from boresight import (
    CameraModel,
    Detector,
    InputError,
    MatchedStars,
    RadialDistortion,
    UndeterminedError,
    calibrate_mosaic,
)

SHAPE = (480, 500)
TRUE = [
    Detector(),
    Detector(523.4, 2.7, 0.15),
    Detector(-3.1, 506.2, -0.22),
    Detector(521.9, 508.8, 180.0 + 0.08),
]
#: Pixels from the middle of the four, which is near (260, 254) from the first one's centre.
OPTICS = CameraModel(
    3500.0,
    (1000, 1030),
    optical_center=(12.0, -20.0),
    distortion=RadialDistortion(k1=-0.008, k2=0.0005, scale=500.0),
)
MIDDLE = np.array([260.0, 254.0])


def exposures(number, stars=120, noise=0.02, seed=0, outliers=0.0):
    """Each detector's stars and what a solver would say of it alone."""
    rng = np.random.default_rng(seed)
    results, centroids, truth = [], [], []
    for attitude in Rotation.random(number, random_state=seed):
        solved, lists = [], []
        for detector in TRUE:
            xy = rng.uniform(-0.5, 0.5, (stars, 2)) * SHAPE[::-1]
            place = np.column_stack(detector.to_focal_plane(*xy.T)) - MIDDLE
            sky = attitude.inv().apply(OPTICS.pixel_to_direction(*place.T))
            measured = xy + rng.normal(0.0, noise, xy.shape)
            wrong = rng.random(stars) < outliers
            measured[wrong] += rng.uniform(-3.0, 3.0, (wrong.sum(), 2))
            crude = CameraModel(3500.0 * (1 + rng.normal(0.0, 1e-3)), SHAPE)
            own, _ = Rotation.align_vectors(crude.pixel_to_direction(*xy.T), sky)
            x, y, z, w = own.as_quat()
            order = rng.permutation(stars)
            solved.append(
                MatchedStars(measured[order], sky[order], crude, [w, x, y, z], centroids=order)
            )
            lists.append(measured)
        results.append(solved)
        centroids.append(lists)
        truth.append(attitude)
    return results, centroids, truth


def angle(degrees):
    return (degrees + 180.0) % 360.0 - 180.0


@pytest.mark.parametrize("options", [{"order": 5}, {"model": "radial"}], ids=["poly", "radial"])
def test_a_two_by_two_mosaic_is_put_together(options):
    results, centroids, truth = exposures(8, outliers=0.03)
    result = calibrate_mosaic(results, centroids, **options)
    assert result.converged
    assert result.optics.converged
    for found, true in zip(result.detectors, TRUE, strict=True):
        shift = np.hypot(found.shift_x_px - true.shift_x_px, found.shift_y_px - true.shift_y_px)
        assert shift < 0.05
        assert abs(angle(found.rotation_deg - true.rotation_deg)) < 0.01
    assert 0.0 < result.detectors[1].shift_sigma_px < 0.03
    # One attitude for each exposure holds for all detectors.
    assert result.optics.rmse_after_px == pytest.approx(0.02 * np.sqrt(2), rel=0.1)
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(-240, 240, 7), np.linspace(-230, 230, 7)))
    for frame, attitude in zip(result.optics.frames, truth, strict=True):
        w, i, j, k = frame.quaternion
        fitted = Rotation.from_quat([i, j, k, w])
        for number, detector in enumerate(TRUE):
            place = np.column_stack(detector.to_focal_plane(x, y)) - MIDDLE
            true = attitude.inv().apply(OPTICS.pixel_to_direction(*place.T))
            seen = fitted.inv().apply(result.pixel_to_direction(number, x, y))
            miss = np.linalg.norm(true - seen, axis=1) * OPTICS.focal_length_px
            assert np.sqrt(np.mean(miss**2)) < 0.03
    assert "4 detectors" in repr(result)


def test_a_detector_may_fail_now_and_then():
    results, centroids, _ = exposures(5)
    results[0][0] = results[1][2] = None
    results[3] = [None] * 4
    result = calibrate_mosaic(results, centroids, order=4)
    for found, true in zip(result.detectors, TRUE, strict=True):
        shift = np.hypot(found.shift_x_px - true.shift_x_px, found.shift_y_px - true.shift_y_px)
        assert shift < 0.1
    assert result.optics.frames[3] is None


def test_places_and_back():
    detector = Detector(120.0, -7.5, 33.0)
    x, y = detector.from_focal_plane(*detector.to_focal_plane([1.0, 50.0], [2.0, -80.0]))
    np.testing.assert_allclose([x, y], [[1.0, 50.0], [2.0, -80.0]], atol=1e-12)
    np.testing.assert_allclose(
        Detector(rotation_deg=90.0).to_focal_plane(1.0, 0.0), [0, 1], atol=1e-15
    )


def test_bad_input():
    results, centroids, _ = exposures(2)
    with pytest.raises(InputError, match="centroids: 1 exposures, but 2 in results"):
        calibrate_mosaic(results, centroids[:1])
    with pytest.raises(InputError, match=r"results\[1\]: 3 detectors"):
        calibrate_mosaic([results[0], results[1][:3]], centroids)
    with pytest.raises(UndeterminedError, match="detector 1 is in no exposure"):
        calibrate_mosaic([[r[0], None, *r[2:]] for r in results], centroids)
    with pytest.raises(UndeterminedError, match="no detector is solved"):
        calibrate_mosaic([[None] * 4], centroids[:1])
    results[0][1] = results[0][1].replace(camera_model=CameraModel(3500.0, (10, 20)))
    with pytest.raises(InputError, match="detectors of different sizes"):
        calibrate_mosaic(results, centroids)
