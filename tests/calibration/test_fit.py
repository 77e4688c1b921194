"""Calibration of simulated cameras with known truth."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from boresight import (
    CameraModel,
    Centroids,
    InputError,
    MatchedStars,
    UndeterminedError,
    calibrate_camera,
)
from helpers import (
    CASES,
    HALF,
    RADIAL,
    SHAPE,
    polynomial_camera,
    rotation_of,
    simulate,
    sky_error_px,
)


@pytest.mark.parametrize(("camera", "options"), CASES.values(), ids=CASES.keys())
class TestKnownCameras:
    def test_exact_positions_give_the_camera_back(self, camera, options):
        results, centroids, truth = simulate(camera, noise=0.0, frames=3)
        result = calibrate_camera(results, centroids, **options)
        assert result.converged
        assert result.num_outliers == 0
        assert result.rmse_after_px < 1e-5
        assert sky_error_px(camera, result, truth).max() < 1e-3

    def test_noise_and_wrong_matches(self, camera, options):
        results, centroids, truth = simulate(camera, outliers=0.05)
        result = calibrate_camera(results, centroids, **options)
        assert result.converged
        error = sky_error_px(camera, result, truth)
        assert np.sqrt(np.mean(error**2)) < 0.012
        assert error.max() < 0.1
        assert result.noise == pytest.approx(0.02, rel=0.1)
        for frame, solved, (_, wrong) in zip(result.frames, results, truth, strict=True):
            right = ~wrong[solved.centroids]
            assert np.mean(frame.inliers[right]) > 0.95
            # Only the wrong matches that moved by less than the clipping limit may stay.
            assert np.linalg.norm(frame.residuals_px[frame.inliers], axis=1).max() < 0.1
        assert result.rmse_before_px > 20 * result.rmse_after_px

    def test_one_frame_alone(self, camera, options):
        results, centroids, _ = simulate(camera, frames=1, stars=400, outliers=0.05)
        result = calibrate_camera(results[0], centroids[0], **options)
        assert result.converged
        assert result.rmse_after_px < 0.04
        x, y = (g.ravel() for g in np.meshgrid(*(np.linspace(-h, h - 1, 15) for h in HALF)))
        true = camera.pixel_to_direction(x, y)
        fitted = result.camera_model.pixel_to_direction(x, y)
        best, _ = Rotation.align_vectors(true, fitted)
        error = np.linalg.norm(true - best.apply(fitted), axis=1) * camera.focal_length_px
        assert np.sqrt(np.mean(error**2)) < 0.03

    def test_calibrating_again_changes_nothing(self, camera, options):
        results, centroids, _ = simulate(camera, outliers=0.03)
        first = calibrate_camera(results, centroids, **options)
        again = [
            solved.replace(camera_model=first.camera_model, quaternion=frame.quaternion)
            for solved, frame in zip(results, first.frames, strict=True)
        ]
        second = calibrate_camera(again, centroids, camera_model=first.camera_model, **options)
        assert second.num_inliers == first.num_inliers
        assert second.rmse_before_px == pytest.approx(first.rmse_after_px, rel=1e-9)
        for x, y in ((-512.0, -384.0), (500.0, 100.0)):
            np.testing.assert_allclose(
                first.camera_model.pixel_to_ideal(x, y),
                second.camera_model.pixel_to_ideal(x, y),
                atol=2e-6 * abs(x) if options.get("model") == "radial" else 1e-6,
            )


def test_the_axis_is_found_off_the_detector():
    results, centroids, _ = simulate(RADIAL, frames=10, stars=300)
    result = calibrate_camera(results, centroids, model="radial")
    value, sigma = result.parameters["optical_center_x"]
    assert abs(value - 620.0) < 4 * sigma < 20
    value, sigma = result.parameters["optical_center_y"]
    assert abs(value + 450.0) < 4 * sigma < 20


def test_an_axis_that_nothing_tells_is_frozen_and_named():
    camera = CameraModel(20000.0, SHAPE)
    results, centroids, truth = simulate(camera, frames=2, stars=40, noise=0.1)
    result = calibrate_camera(results, centroids, model="radial")
    assert {"optical_center_x", "optical_center_y"} <= set(result.frozen)
    assert result.camera_model.optical_center == (0.0, 0.0)
    assert "frozen" in str(result)
    assert np.sqrt(np.mean(sky_error_px(camera, result, truth) ** 2)) < 0.15


def test_the_covariance_is_honest():
    camera = polynomial_camera(order=3)
    pulls, attitude_pulls, errors = [], [], []
    for seed in range(30):
        results, centroids, truth = simulate(camera, frames=3, stars=60, noise=0.05, seed=seed)
        result = calibrate_camera(results, centroids, order=3)
        true = {"focal_length_px": camera.focal_length_px}
        lens = camera.distortion
        exponents = [(d - q, q) for d in range(4) for q in range(d + 1)]
        for k, (p, q) in enumerate(exponents):
            true |= {f"A_{p}{q}": lens.a_coeffs[k], f"B_{p}{q}": lens.b_coeffs[k]}
        names = result.parameter_names
        error = np.array([result.parameters[n][0] - true[n] for n in names])
        pulls.append(error / np.sqrt(np.diag(result.covariance)))
        errors.append(error @ np.linalg.solve(result.covariance, error) / len(names))
        for frame, (rotation, _) in zip(result.frames, truth, strict=True):
            turn = (rotation_of(frame.quaternion) * rotation.inv()).as_rotvec()
            attitude_pulls.append(turn / np.sqrt(np.diag(frame.attitude_cov_rad2)))
    assert 0.85 < np.std(pulls) < 1.15
    assert 0.8 < np.std(attitude_pulls) < 1.2
    assert 0.75 < np.mean(errors) < 1.35


@pytest.mark.parametrize(
    ("camera", "options"),
    [(polynomial_camera(order=4), {"order": 4}), (RADIAL, {"model": "radial"})],
    ids=["polynomial", "radial"],
)
def test_the_uncertainty_of_what_pixels_see_is_honest(camera, options):
    x, y = (g.ravel() for g in np.meshgrid(*(np.linspace(-h, h - 1, 6) for h in HALF)))
    pulls = []
    for seed in range(20):
        results, centroids, truth = simulate(camera, frames=3, stars=100, noise=0.05, seed=seed)
        result = calibrate_camera(results, centroids, **options)
        for i, (rotation, _) in enumerate(truth):
            true = rotation.inv().apply(camera.pixel_to_direction(x, y))
            turn = rotation_of(result.frames[i].quaternion)
            there = np.transpose(result.camera_model.direction_to_pixel(turn.apply(true)))
            miss = there - np.column_stack([x, y])
            cov = result.model_cov_px2(i, x, y)
            pulls.append(np.einsum("ni,nij,nj->n", miss, np.linalg.inv(cov), miss) / 2)
    pulls = np.array(pulls)
    # Chi-square per degree of freedom, over everything and at every place of the detector.
    assert 0.8 < pulls.mean() < 1.25
    assert pulls.mean(axis=0).min() > 0.5
    assert pulls.mean(axis=0).max() < 2.0
    with pytest.raises(InputError, match=r"^frame"):
        replace(result, frames=(None,)).model_cov_px2(0, 0.0, 0.0)


def test_results_are_pickled():
    results, centroids, _ = simulate(polynomial_camera(), frames=2)
    result = calibrate_camera(results, centroids)
    copy = pickle.loads(pickle.dumps(result))
    assert copy.camera_model == result.camera_model
    assert repr(copy) == repr(result)
    cov = result.model_cov_px2(1, [1.0, 2.0], [[3.0]])
    assert cov.shape == (1, 2, 2, 2)
    np.testing.assert_array_equal(copy.model_cov_px2(1, [1.0, 2.0], [[3.0]]), cov)


def test_position_uncertainties_are_weights():
    from boresight import Centroids

    camera = polynomial_camera(order=3)
    results, centroids, truth = simulate(camera, noise=0.0, stars=200)
    rng = np.random.default_rng(3)
    sigmas = [np.where(rng.random(200) < 0.5, 0.02, 0.3) for _ in results]
    noisy = [
        xy + s[:, None] * rng.normal(size=xy.shape) for xy, s in zip(centroids, sigmas, strict=True)
    ]
    weighted = [
        Centroids(x=xy[:, 0], y=xy[:, 1], position_cov=s[:, None, None] ** 2 * np.eye(2))
        for xy, s in zip(noisy, sigmas, strict=True)
    ]
    plain = calibrate_camera(results, noisy, order=3)
    result = calibrate_camera(results, weighted, order=3)
    assert result.noise == pytest.approx(1.0, abs=0.1)
    assert result.num_outliers < 0.03 * 1200
    error = np.sqrt(np.mean(sky_error_px(camera, result, truth) ** 2))
    assert error < 0.5 * np.sqrt(np.mean(sky_error_px(camera, plain, truth) ** 2))
    assert error < 0.01


def test_aberration_is_taken_out_exactly():
    velocity = np.array([0.0, 3000.0, -4000.0])  # a hundred times the Earth's
    camera = polynomial_camera(order=3)
    results, centroids, truth = simulate(camera, noise=0.0, frames=3, velocity=velocity)
    result = calibrate_camera(results, centroids, order=3)
    assert sky_error_px(camera, result, truth).max() < 1e-4
    # The same velocities_km_s given by hand, to results that do not know of any.
    blind = [r.replace(place=None) for r in results]
    given = calibrate_camera(blind, centroids, order=3, velocities_km_s=[velocity] * 3)
    assert given.camera_model == result.camera_model
    assert calibrate_camera(blind, centroids, order=3).rmse_after_px > 1e-3


def test_a_wrong_frame_is_rejected_with_the_reason():
    camera = polynomial_camera()
    results, centroids, truth = simulate(camera, frames=5)
    rng = np.random.default_rng(1)
    centroids[2] = centroids[2] + rng.uniform(-20, 20, centroids[2].shape)
    results.append(
        MatchedStars(np.zeros((3, 2)), np.eye(3), results[0].camera_model, results[0].quaternion)
    )
    centroids.append(centroids[0])
    result = calibrate_camera([None, *results], [None, *centroids], order=4)
    assert result.frames[0] is None
    assert "matches agree" in result.frames[3].rejected
    assert result.frames[3].num_inliers == 0
    assert "too few" in result.frames[6].rejected
    table = result.table()
    assert list(table["frame"]) == [1, 2, 3, 4, 5, 6]
    assert [bool(reason) for reason in table["rejected"]] == [
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    good = [0, 1, 3, 4]
    fitted = replace(result, frames=tuple(result.frames[1 + i] for i in good))
    assert sky_error_px(camera, fitted, [truth[i] for i in good]).max() < 0.1


def test_a_stiff_model_keeps_the_corners():
    """Order 3 cannot follow this lens; its misfit in the corners is no wrong match."""
    camera = polynomial_camera(order=6, pixels=6.0)
    results, centroids, truth = simulate(camera, stars=300)
    result = calibrate_camera(results, centroids, order=3)
    assert result.num_outliers < 0.05 * 1800
    assert sky_error_px(camera, result, truth).max() < 6.0


def test_corners_that_are_matched_wrongly_are_left_out():
    """As after solving with a pinhole: no true match survives where the lens bends most."""
    camera = polynomial_camera(order=3)
    results, centroids, truth = simulate(camera, stars=300)
    rng = np.random.default_rng(2)
    for xy in centroids:
        corner = (np.abs(xy) > 0.6 * HALF).all(axis=1)
        xy[corner] += rng.uniform(-20, 20, (corner.sum(), 2))
    result = calibrate_camera(results, centroids, order=3)
    assert result.noise == pytest.approx(0.02, rel=0.1)
    assert sky_error_px(camera, result, truth).max() < 0.15


def test_the_order_of_frames_does_not_matter():
    results, centroids, _ = simulate(polynomial_camera(), outliers=0.05)
    one = calibrate_camera(results, centroids)
    other = calibrate_camera(results[::-1], centroids[::-1])
    assert one.num_inliers == other.num_inliers
    x, y = np.meshgrid(np.linspace(-512, 511, 9), np.linspace(-384, 383, 9))
    np.testing.assert_allclose(
        one.camera_model.pixel_to_ideal(x, y), other.camera_model.pixel_to_ideal(x, y), atol=1e-8
    )


def test_the_number_of_threads_does_not_matter():
    script = (
        "import boresight, helpers as t;"
        "r, c, _ = t.simulate(t.polynomial_camera(), frames=70, stars=30);"
        "print(boresight.calibrate_camera(r, c, order=5).camera_model.to_dict())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"RAYON_NUM_THREADS": threads},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            check=True,
        ).stdout
        for threads in ("1", "2", "5")
    }
    assert len(outputs) == 1


@pytest.fixture(scope="module")
def solved():
    return simulate(polynomial_camera(), frames=2, stars=80)[:2]


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "options", "message"),
        [
            (lambda r, c: (r, c[:1]), {}, "^centroids: 1 lists for 2 results"),
            (lambda r, c: (r, [xy[:10] for xy in c]), {}, r"^centroids\[0\]: 10 of them"),
            (lambda r, c: (5, c), {}, "^results, centroids"),
            (lambda r, c: (r, c), {"image_shape": (10, 10)}, "contradicts image_shape"),
            (lambda r, c: (r, c), {"camera_model": CameraModel(9.0, (9, 9))}, "^camera_model"),
            (lambda r, c: (r, c), {"order": 10}, "^order"),
            (lambda r, c: (r, c), {"order": 1}, "^order"),
            (lambda r, c: (r, c), {"order": 2.5}, "^order"),
            (lambda r, c: (r, c), {"model": "fisheye"}, "^model"),
            (lambda r, c: (r, c), {"sigma_clip": 0.0}, "^sigma_clip"),
            (lambda r, c: (r, c), {"sigma_clip": np.nan}, "^sigma_clip"),
            (lambda r, c: (r, c), {"velocities_km_s": [None]}, "^velocities_km_s"),
            (lambda r, c: (r, c), {"velocities_km_s": [None, (1, 2)]}, r"^velocities_km_s\[1\]"),
            (lambda r, c: (r, c), {"velocities_km_s": [None, (3e5, 0, 0)]}, "^velocities_km_s"),
            (
                lambda r, c: ([r[0], r[1].replace(camera_model=CameraModel(9.0, (9, 9)))], c),
                {},
                r"^results\[1\].*contradicts results\[0\]",
            ),
            (
                lambda r, c: (
                    [r[0], r[1].replace(camera_model=CameraModel(9.0, SHAPE, parity_flip=True))],
                    c,
                ),
                {},
                "^results: some frames are mirrored",
            ),
        ],
    )
    def test_is_refused_by_name(self, solved, change, options, message):
        with pytest.raises(InputError, match=message):
            calibrate_camera(*change(*solved), **options)

    def test_too_little_is_undetermined(self, solved):
        results, centroids = solved
        with pytest.raises(UndeterminedError, match="none of 2 frames"):
            calibrate_camera([None, None], centroids)
        with pytest.raises(UndeterminedError):
            calibrate_camera([], [])
        few = [r.select(np.arange(6)) for r in results]
        with pytest.raises(UndeterminedError, match=r"do not determine"):
            calibrate_camera(few, centroids, order=6)

    def test_stars_in_a_corner_do_not_give_a_wild_model(self, solved):
        camera = polynomial_camera()
        rng = np.random.default_rng(0)
        xy = rng.uniform(0.6, 1.0, (60, 2)) * HALF
        sky = camera.pixel_to_direction(xy[:, 0], xy[:, 1])
        solved = MatchedStars(xy, sky, camera, [1.0, 0, 0, 0])
        with pytest.raises(UndeterminedError, match="fold"):
            calibrate_camera(solved, xy + rng.normal(0, 0.5, xy.shape), order=7)

    @settings(max_examples=40, deadline=None)
    @given(
        data=st.lists(
            st.tuples(
                st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), *[st.floats(-1, 1) for _ in range(3)]
            ),
            max_size=30,
        ),
        model=st.sampled_from(["polynomial", "radial", "pinhole"]),
    )
    def test_nonsense_never_panics(self, data, model):
        rows = np.array(data).reshape(-1, 5)
        try:
            solved = MatchedStars(
                rows[:, :2], rows[:, 2:], CameraModel(500.0, SHAPE), [1.0, 0, 0, 0]
            )
            result = calibrate_camera(solved, rows[:, :2], order=2, model=model)
        except (InputError, UndeterminedError):
            return
        assert np.isfinite(result.rmse_after_px)


class TestImperfectMatches:
    @staticmethod
    def corner_of_wrong_matches(results, centroids, share, rng):
        """Wrong neighbours some pixels off for this share of the matches in one corner."""
        for result, xy in zip(results, centroids, strict=True):
            wrong = (xy > 0.4 * HALF).all(axis=1) & (rng.random(len(xy)) < share)
            xy[wrong] += rng.normal(0, 3.0, (wrong.sum(), 2))
            assert len(result) == len(xy)

    @pytest.mark.parametrize("seed", range(3))
    def test_a_corner_of_wrong_matches_decides_nothing(self, seed):
        camera = polynomial_camera()
        results, centroids, truth = simulate(camera, stars=400, outliers=0.15, seed=seed)
        self.corner_of_wrong_matches(results, centroids, 0.65, np.random.default_rng(seed))
        result = calibrate_camera(results, centroids, order=4)
        assert result.converged
        assert result.rmse_after_px < 0.06
        assert np.sqrt(np.mean(sky_error_px(camera, result, truth) ** 2)) < 0.02

    def test_a_poor_frame_does_not_decide_the_order(self):
        camera = polynomial_camera(order=5)
        results, centroids, _ = simulate(camera, stars=200)
        rng = np.random.default_rng(1)
        # Matches that any smooth model can be made to follow if it is far enough off.
        centroids[0][:] += rng.normal(0, 6.0, centroids[0].shape)
        result = calibrate_camera(results, centroids, order="auto")
        assert result.camera_model.distortion.order == 5
        assert result.frames[0].rejected is not None
        assert result.frames[0].rmse_px is None
        assert result.table()["rmse_px"].mask.tolist() == [True, *5 * [False]]
        assert result.rmse_after_px < 0.05

    def test_residuals_far_above_the_errors_are_no_convergence(self):
        results, centroids, _ = simulate(polynomial_camera(order=5, pixels=30.0))
        covariance = np.tile(0.02**2 * np.eye(2), (len(centroids[0]), 1, 1))
        known = [Centroids(*xy.T, position_cov=covariance) for xy in centroids]
        good = calibrate_camera(results, known, order=5)
        assert good.converged
        assert 0.8 < good.misfit < 1.2
        stiff = calibrate_camera(results, known, order=2)
        assert stiff.misfit > 10.0
        assert not stiff.converged
        assert any("times the errors of the positions" in warning for warning in stiff.warnings)
        assert calibrate_camera(results, centroids, order=5).misfit is None
