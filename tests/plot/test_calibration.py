"""Figures of calibrations show their stars where they are."""

import dataclasses

import numpy as np
import pytest
from matplotlib import pyplot as plt

from boresight import CameraModel, InputError, calibrate, calibrate_camera, simulate_frame
from boresight.plot import (
    plot_convergence,
    plot_coverage,
    plot_distortion,
    plot_model_error,
    plot_residual_trends,
    plot_residuals,
)
from helpers import RADIAL, simulate


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def result():
    """A calibration from matches that leave the right third of the detector empty."""
    results, centroids, _ = simulate(RADIAL, frames=4, stars=300)
    results = [
        solved.select(xy[solved.centroids, 0] < 170.0)
        for solved, xy in zip(results, centroids, strict=True)
    ]
    with_light = [np.column_stack([xy, np.geomspace(1, 1e4, 300)]) for xy in centroids]
    return calibrate_camera(results, with_light, order=6)


class TestCalibration:
    """Figures and maps of a calibration."""

    def test_coverage_counts_every_star(self, result):
        counts, x, y = result.coverage(16)
        assert counts.shape == (12, 16)
        assert counts.sum() == result.num_inliers
        assert counts[:, x[:-1] > 170.0].sum() == 0
        assert (x[0], x[-1], y[0], y[-1]) == (-512.0, 512.0, -384.0, 384.0)
        with pytest.raises(InputError, match="cells: 0 is not above zero"):
            result.coverage(0)

    def test_the_error_grows_where_no_star_is(self, result):
        errors, x, _ = result.model_error()
        centres = (x[1:] + x[:-1]) / 2
        assert errors[:, centres < 100].max() < 0.02
        assert errors[:, centres > 400].min() > 0.1
        assert 0.15 < result.extrapolated < 0.33
        assert any("extrapolated over" in warning for warning in result.warnings)
        assert "extrapolated over" in str(result)
        everywhere, xy, _ = simulate(RADIAL, frames=4, stars=300)
        assert calibrate_camera(everywhere, xy, order=6).warnings == ()

    def test_residuals_are_arrows_in_their_places(self, result):
        ax = plot_residuals(result, cells=None, scale=100.0)
        (quiver,) = ax.collections
        used = np.concatenate([frame.positions_px[frame.inliers] for frame in result.frames])
        np.testing.assert_array_equal(quiver.XY, used)
        residuals = np.concatenate([frame.residuals_px[frame.inliers] for frame in result.frames])
        np.testing.assert_allclose(np.column_stack([quiver.U, quiver.V]), 100.0 * residuals)
        assert ax.get_ylim() == (384.0, -384.0)

    def test_mean_residuals_are_those_of_the_cells(self, result):
        ax = plot_residuals(result, cells=4, scale=1.0)
        (quiver,) = ax.collections
        used = np.concatenate([frame.positions_px[frame.inliers] for frame in result.frames])
        residuals = np.concatenate([frame.residuals_px[frame.inliers] for frame in result.frames])
        inside = (used[:, 0] < -256.0) & (used[:, 1] < -128.0)
        (cell,) = np.flatnonzero((quiver.XY == (-384.0, -256.0)).all(axis=1))
        mean = residuals[inside].mean(axis=0)
        np.testing.assert_allclose((quiver.U[cell], quiver.V[cell]), mean, atol=1e-12)
        assert len(quiver.XY) == 9  # the right third is empty

    def test_a_trend_needs_what_it_is_against(self, result):
        (epoch,) = plot_residual_trends(result, against=["epoch"])
        assert len(epoch.lines[0].get_xdata()) == 0
        with pytest.raises(InputError, match="against: 'weather'"):
            plot_residual_trends(result, against=["weather"])

    def test_trends_with_epoch_and_colour(self, wide_database):
        camera = CameraModel.from_fov(12.0, (400, 512))
        views = [simulate_frame(camera, ra, -1.2, seed=1).image for ra in (83.8, 86.0)]
        times = ["2018-01-01", "2020-01-01"]
        fit = calibrate(views, wide_database, model="radial", times=times)
        numbers = np.concatenate([solution.matched_catalog_ids for solution in fit.solutions])
        colours = {int(number): 0.5 for number in numbers[::2]}
        epoch, colour = plot_residual_trends(fit, against=["epoch", "colour"], colours=colours)
        assert set(np.round(epoch.lines[0].get_xdata())) == {2018.0, 2020.0}
        known = sum(number in colours for number in numbers.tolist())
        assert len(colour.lines[0].get_xdata()) == known

    def test_distortion_is_where_the_camera_has_it(self):
        ax = plot_distortion(RADIAL)
        corner = ax.collections[0].get_array().ravel()[0]
        u, v = RADIAL.pixel_to_ideal(-496.0, -368.0)
        cx, cy = RADIAL.optical_center
        assert corner == pytest.approx(np.hypot(-496.0 - cx - u, -368.0 - cy - v))

    def test_convergence_shows_every_pass(self, result):
        ax = plot_convergence([result, result])
        assert [len(line.get_xdata()) for line in ax.lines] == [2, 2]
        with pytest.raises(InputError, match="on_pass"):
            plot_convergence([])

    def test_trends_are_those_of_the_residuals(self, result):
        radius, magnitude = plot_residual_trends(result)
        points, median = radius.lines
        assert len(points.get_xdata()) == result.num_inliers
        # Two axes of 0.02 px each.
        assert np.median(median.get_ydata()) == pytest.approx(0.02 * 1.177, rel=0.15)
        assert magnitude.lines[0].get_xdata().min() == pytest.approx(-10.0, abs=0.3)

    def test_maps_are_drawn(self, result):
        assert "stars" in plot_coverage(result).get_title()
        assert "extrapolated over" in plot_model_error(result).get_title()

    def test_nothing_to_draw(self, result):
        with pytest.raises(InputError, match="used no star"):
            plot_residuals(dataclasses.replace(result, frames=(None,)))
