"""Figures show what was solved where it is."""

import dataclasses

import numpy as np
import pytest
from matplotlib import pyplot as plt

from boresight import CentroidFlags, Centroids, InputError, calibrate_camera, extract_centroids
from boresight.plot import (
    plot_centroids,
    plot_coverage,
    plot_model_error,
    plot_residual_trends,
    plot_residuals,
    plot_solution,
    plot_solutions,
)
from helpers import RADIAL, simulate


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def stars(wide_frame):
    return extract_centroids(wide_frame.image).centroids


def test_matched_stars_and_expected_positions_coincide(wide_database, wide_frame, stars):
    solution = wide_database.solve_from_centroids(
        stars, fov_estimate_deg=12.0, image_shape=wide_frame.image.shape
    )
    ax = plot_solution(wide_frame.image, solution, stars, title="Orion")
    assert ax.get_title() == "Orion"
    (crosses,) = ax.lines
    (ellipses,) = ax.collections
    crosses = np.column_stack(crosses.get_data())
    np.testing.assert_allclose(ellipses.get_offsets(), crosses, atol=0.5)
    assert len(crosses) == solution.num_matches
    # Axes in pixels from the centre: the array's first pixel is the upper left one.
    assert ax.get_xlim() == (-256.5, 255.5)
    assert ax.get_ylim() == (255.5, -256.5)


def test_on_the_axes_of_a_wcs_stars_are_at_their_array_pixels(wide_database, wide_frame, stars):
    image = wide_frame.image[:, :400]  # wider than high no more
    inside = stars[stars.x + 256 < 399]
    inside = Centroids.from_corner(inside.to_corner(wide_frame.image.shape), image.shape)
    solution = wide_database.solve_from_centroids(
        inside, fov_estimate_deg=9.0, image_shape=image.shape
    )
    wcs = solution.wcs()
    ax = plt.figure().add_subplot(projection=wcs)
    plot_solution(image, solution, inside, ax=ax)
    crosses = np.column_stack(ax.lines[0].get_data())
    sky = wcs.pixel_to_world(*crosses.T)
    v = solution.matched_directions
    np.testing.assert_allclose(sky.icrs.cartesian.xyz.value.T, v, atol=1e-8)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), crosses, atol=0.5)
    assert ax.images[0].get_extent() == [-0.5, 399.5, 511.5, -0.5]
    drawn = plot_centroids(image, inside, ax=plt.figure().add_subplot(projection=wcs))
    assert drawn.lines[0].get_xdata().min() >= 0.0


def test_without_solution_all_stars_are_drawn(wide_frame, stars):
    ax = plot_solution(wide_frame.image, centroids=stars)
    assert len(ax.collections[0].get_offsets()) == len(stars)
    assert not ax.lines
    bare = Centroids(x=[1.0], y=[2.0])  # no moments: a small circle
    assert len(plot_solution(wide_frame.image, centroids=bare).collections) == 1
    assert not plot_solution(wide_frame.image, centroids=bare[:0]).collections


def test_a_grid_of_panels(wide_frame, stars):
    images = [wide_frame.image, np.full((30, 40), np.nan), wide_frame.image.astype(np.uint16)]
    figure = plot_solutions(images, [None] * 3, [stars] * 3, titles=["a", "b", "c"], columns=2)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["a: not solved", "b: not solved", "c: not solved", ""]


def test_bad_input_is_refused(wide_frame, stars):
    with pytest.raises(InputError, match=r"^image: "):
        plot_solution(np.zeros((3, 4, 3)))
    with pytest.raises(InputError, match=r"^images: "):
        plot_solutions([], [], [])
    with pytest.raises(InputError, match=r"^images: "):
        plot_solutions([wide_frame.image], [None, None], [stars])


def test_flags_have_their_colours(wide_frame):
    image = wide_frame.image.copy()
    image[100, 200] += 0.5 * image.max()
    image[300:303, 400] = np.nan
    result = extract_centroids(image, max_sharpness=None)
    ax = plot_centroids(image, result, title="Flags")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    counts = {label.rsplit(": ", 1)[0]: int(label.rsplit(": ", 1)[1]) for label in labels}
    assert sum(counts.values()) == len(result.centroids)
    assert counts["no flag"] == np.sum(result.centroids.flags == 0)
    hot = (result.centroids.flags & CentroidFlags.HOT_PIXEL) != 0
    assert counts["hot pixel"] == np.sum(hot) == 1
    offsets = np.concatenate([part.get_offsets() for part in ax.collections])
    assert sorted(map(tuple, offsets)) == sorted(map(tuple, result.centroids.xy))
    empty = plot_centroids(image, result.centroids[:0])
    assert empty.get_legend() is None
    with pytest.raises(InputError, match="image"):
        plot_centroids(image[0], result)


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
        assert "extrapolated over" in repr(result)
        everywhere, xy, _ = simulate(RADIAL, frames=4, stars=300)
        assert calibrate_camera(everywhere, xy, order=6).warnings == ()

    def test_residuals_are_arrows_in_their_places(self, result):
        ax = plot_residuals(result, scale=100.0)
        (quiver,) = ax.collections
        used = np.concatenate([frame.positions_px[frame.inliers] for frame in result.frames])
        np.testing.assert_array_equal(quiver.XY, used)
        residuals = np.concatenate([frame.residuals_px[frame.inliers] for frame in result.frames])
        np.testing.assert_allclose(np.column_stack([quiver.U, quiver.V]), 100.0 * residuals)
        assert ax.get_ylim() == (384.0, -384.0)

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
