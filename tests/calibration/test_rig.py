"""Detectors behind one lens: their places from simulated exposures with known truth."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from boresight import (
    CameraModel,
    Centroids,
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


def exposures(number, stars=120, noise=0.02, seed=0, outliers=0.0, shapes=(SHAPE,) * 4):
    """Each detector's stars and what a solver would say of it alone."""
    rng = np.random.default_rng(seed)
    results, centroids, truth = [], [], []
    for attitude in Rotation.random(number, random_state=seed):
        solved, lists = [], []
        for detector, shape in zip(TRUE, shapes, strict=True):
            xy = rng.uniform(-0.5, 0.5, (stars, 2)) * shape[::-1]
            place = np.column_stack(detector.to_focal_plane(*xy.T)) - MIDDLE
            sky = attitude.inv().apply(OPTICS.pixel_to_direction(*place.T))
            measured = xy + rng.normal(0.0, noise, xy.shape)
            wrong = rng.random(stars) < outliers
            measured[wrong] += rng.uniform(-3.0, 3.0, (wrong.sum(), 2))
            crude = CameraModel(3500.0 * (1 + rng.normal(0.0, 1e-3)), shape)
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


def test_a_detector_may_share_exposures_with_another_than_the_first():
    results, centroids, _ = exposures(6)
    for exposure in results[:3]:
        exposure[1] = exposure[3] = None
    for exposure in results[3:]:
        exposure[0] = None
    result = calibrate_mosaic(results, centroids, model="radial")
    assert result.converged
    for found, true in zip(result.detectors, TRUE, strict=True):
        shift = np.hypot(found.shift_x_px - true.shift_x_px, found.shift_y_px - true.shift_y_px)
        assert shift < 0.05
    # Placed only by way of detector 2, the others are less certain than it is.
    assert result.detectors[3].shift_sigma_px > result.detectors[2].shift_sigma_px


@pytest.mark.parametrize("shapes", [(SHAPE,) * 4, (SHAPE, (240, 250), (120, 500), SHAPE)])
@pytest.mark.parametrize("options", [{"order": 5}, {"model": "radial"}], ids=["poly", "radial"])
def test_the_uncertainty_of_places_is_honest(options, shapes):
    pulls = []
    for seed in range(30):
        results, centroids, _ = exposures(4, stars=60, seed=seed, shapes=shapes)
        result = calibrate_mosaic(results, centroids, **options)
        for found, true in zip(result.detectors[1:], TRUE[1:], strict=True):
            x, y = found.shift_x_px - true.shift_x_px, found.shift_y_px - true.shift_y_px
            turn = angle(found.rotation_deg - true.rotation_deg)
            sigma = found.shift_sigma_px
            pulls.append([x / sigma, y / sigma, turn / found.rotation_sigma_deg])
    rms = np.sqrt(np.mean(np.square(pulls), axis=0))
    assert np.all((rms > 0.7) & (rms < 1.4)), rms


def test_detectors_may_have_different_sizes():
    shapes = (SHAPE, (240, 250), (120, 500), SHAPE)
    results, centroids, _ = exposures(6, shapes=shapes)
    # Corners are those of each detector.
    corners = [
        [xy + np.array(shape[::-1]) / 2.0 for xy, shape in zip(lists, shapes, strict=True)]
        for lists in centroids
    ]
    result = calibrate_mosaic(results, centroids, model="radial")
    for found, true in zip(result.detectors, TRUE, strict=True):
        shift = np.hypot(found.shift_x_px - true.shift_x_px, found.shift_y_px - true.shift_y_px)
        assert shift < 0.05
        assert abs(angle(found.rotation_deg - true.rotation_deg)) < 0.01
    assert result.optics.rmse_after_px == pytest.approx(0.02 * np.sqrt(2), rel=0.1)
    same = calibrate_mosaic(results, corners, model="radial", origin="corner")
    assert same.detectors[2].shift_x_px == pytest.approx(result.detectors[2].shift_x_px, abs=1e-6)
    # The smallest rectangle around all of them, turned as they are: 1025.6 by 989.2 pixels.
    assert result.optics.camera_model.image_shape == (990, 1026)


def test_the_covariance_holds_everything():
    results, centroids, _ = exposures(4)
    result = calibrate_mosaic(results, centroids, model="radial")
    names, cov = result.parameter_names, result.covariance
    assert names[:2] == ("focal_length_px", "k1")
    assert names[-3:] == (
        "detector_3_shift_x_px", "detector_3_shift_y_px", "detector_3_rotation_rad",
    )  # fmt: skip
    assert cov.shape == (len(names), len(names))
    sigma = np.sqrt(np.diag(cov))
    last = result.detectors[3]
    assert last.shift_sigma_px == pytest.approx(np.sqrt(np.mean(sigma[-3:-1] ** 2)))
    assert last.rotation_sigma_deg == pytest.approx(np.degrees(sigma[-1]))
    # What is common to optics and placements: neither is known without the other.
    assert np.abs(cov[:-9, -9:] / np.outer(sigma[:-9], sigma[-9:])).max() > 0.3
    assert result.optics.parameter_names == names[:-9]
    np.testing.assert_array_equal(result.optics.covariance, cov[:-9, :-9])
    for frame, cross in zip(result.optics.frames, result.cross_cov, strict=True):
        np.testing.assert_array_equal(frame.cross_cov, cross[:-9])
        assert np.abs(cross[-9:]).max() > 0.0


def test_an_order_is_chosen():
    results, centroids, _ = exposures(5, stars=100)
    result = calibrate_mosaic(results, centroids, order="auto")
    assert 3 <= result.optics.camera_model.distortion.order <= 6
    assert result.optics.held_out_rmse_px == pytest.approx(0.02 * np.sqrt(2), rel=0.15)


def test_velocities_are_those_of_exposures():
    results, centroids, _ = exposures(3)
    plain = calibrate_mosaic(results, centroids, model="radial")
    velocity = np.array([20.0, -15.0, 10.0])
    moving = calibrate_mosaic(results, centroids, model="radial", velocities_km_s=[velocity] * 3)
    # The stars are shifted together, which turns the attitudes by up to v/c.
    turned = [
        np.linalg.norm(a.quaternion - b.quaternion)
        for a, b in zip(plain.optics.frames, moving.optics.frames, strict=True)
    ]
    assert 1e-5 < max(turned) < 1e-4
    with pytest.raises(InputError, match="velocities_km_s: 2 for 3 exposures"):
        calibrate_mosaic(results, centroids, velocities_km_s=[None, None])


def test_position_uncertainties_count():
    results, centroids, _ = exposures(3)
    cov = np.tile(np.eye(2) * 0.02**2, (120, 1, 1))
    known = [
        [Centroids(x=xy[:, 0], y=xy[:, 1], position_cov=cov) for xy in lists] for lists in centroids
    ]
    optics = calibrate_mosaic(results, known, model="radial").optics
    # The floor of 0.01 px is added to each position's own 0.02 px.
    assert optics.noise == pytest.approx(0.02 / np.hypot(0.02, 0.01), rel=0.1)
    assert optics.systematic_px > 0.0


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
    with pytest.raises(UndeterminedError, match="detector 1 shares no solved exposure"):
        calibrate_mosaic([[r[0], None, *r[2:]] for r in results], centroids)
    with pytest.raises(UndeterminedError, match="no detector is solved"):
        calibrate_mosaic([[None] * 4], centroids[:1])
    results[0][1] = results[0][1].replace(camera_model=CameraModel(3500.0, (490, 500)))
    with pytest.raises(InputError, match=r"results\[1\]\[1\].*contradicts"):
        calibrate_mosaic(results, centroids)
