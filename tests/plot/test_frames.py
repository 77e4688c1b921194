"""Figures show what was solved where it is."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from boresight import CentroidFlags, Centroids, InputError, extract_centroids
from boresight.plot import (
    plot_centroids,
    plot_solution,
    plot_solutions,
)


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
