"""The choice of the camera model by held-out stars."""

import numpy as np
import pytest

from boresight import (
    CameraModel,
    InputError,
    calibrate_camera,
)
from helpers import (
    CASES,
    RADIAL,
    SHAPE,
    polynomial_camera,
    simulate,
    sky_error_px,
)


class TestHeldOut:
    def test_auto_finds_the_order(self):
        results, centroids, truth = simulate(polynomial_camera(order=4), outliers=0.03)
        result = calibrate_camera(results, centroids, order="auto")
        assert result.camera_model.distortion.order == 4
        assert (
            np.sqrt(np.mean(sky_error_px(polynomial_camera(order=4), result, truth) ** 2)) < 0.012
        )

    @pytest.mark.parametrize("seed", range(5))
    def test_auto_does_not_follow_single_stars(self, seed):
        camera = polynomial_camera(order=3)
        results, centroids, _ = simulate(
            camera, frames=1, stars=30, noise=0.3, outliers=0.1, seed=seed
        )
        result = calibrate_camera(results, centroids, order="auto")
        assert result.converged
        parameters = len(result.parameter_names) + 3
        assert result.camera_model.distortion.order == 2 or 2 * result.num_inliers >= 3 * parameters

    @pytest.mark.parametrize("name", ["pinhole", "radial", "polynomial"])
    def test_auto_finds_the_model(self, name):
        camera = CASES[name][0]
        results, centroids, _ = simulate(camera, outliers=0.03)
        result = calibrate_camera(results, centroids, order=4, model="auto")
        assert type(result.camera_model.distortion) is type(camera.distortion)

    @pytest.mark.parametrize("frames", [1, 2, 6])
    def test_error_of_stars_left_out(self, frames):
        results, centroids, _ = simulate(polynomial_camera(), frames=frames, stars=120)
        plain = calibrate_camera(results, centroids, order=4)
        result = calibrate_camera(results, centroids, order=4, held_out=True)
        assert plain.held_out_rmse_px is None
        assert result.camera_model == plain.camera_model
        # Two axes of 0.02 px each; a fit adapts to its own stars and so misses others by more.
        assert result.rmse_after_px < result.held_out_rmse_px
        assert 0.98 < result.held_out_rmse_px / (0.02 * np.sqrt(2)) < 1.35
        assert "held out" in repr(result)

    def test_overfitting_shows(self):
        results, centroids, _ = simulate(polynomial_camera(), frames=3, stars=60)
        fits = [calibrate_camera(results, centroids, order=n, held_out=True) for n in (4, 7)]
        assert fits[1].rmse_after_px < fits[0].rmse_after_px
        assert fits[1].held_out_rmse_px > 1.1 * fits[0].held_out_rmse_px

    def test_velocity_and_uncertainties_count(self):
        velocity = np.array([21.0, -18.0, 9.0])
        results, centroids, _ = simulate(RADIAL, frames=3, velocity=velocity)
        result = calibrate_camera(results, centroids, model="radial", held_out=True)
        assert result.held_out_rmse_px < 0.032

    def test_unknown_order(self):
        results, centroids, _ = simulate(CameraModel(2500.0, SHAPE), frames=1)
        with pytest.raises(InputError, match="order: 'best'"):
            calibrate_camera(results, centroids, order="best")

    def test_displaced_stars_are_kept(self):
        """Unseen neighbours move a fifth of the stars: they are right, and pull little."""
        results, centroids, truth = simulate(polynomial_camera(), stars=200, noise=0.005)
        rng = np.random.default_rng(8)
        for xy in centroids:
            moved = rng.random(len(xy)) < 0.2
            angle = rng.uniform(0, 2 * np.pi, moved.sum())
            distance = rng.uniform(0.02, 0.2, (moved.sum(), 1))
            xy[moved] += distance * np.column_stack([np.cos(angle), np.sin(angle)])
        result = calibrate_camera(results, centroids, order=4)
        assert result.converged
        assert result.num_outliers == 0
        assert np.sqrt(np.mean(sky_error_px(polynomial_camera(), result, truth) ** 2)) < 0.005
