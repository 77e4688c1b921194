"""Figures of an alignment."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from aligned_skies import Sky
from boresight import InputError, align
from boresight.plot import plot_alignment_residuals, plot_closure, plot_overlap, plot_pulls

mpl.use("Agg")


@pytest.fixture(scope="module")
def result():
    sky = Sky(1, stars=200)
    images = [sky.image((x, 0), weight=True).catalog for x in (0, 200, 300)]
    return align(images, method="global", searchrad=3, fitgeom="rscale")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_residuals_are_arrows(result):
    ax = plot_alignment_residuals(result)
    fitted = sum(image.num_fitted for image in result.images)
    assert fitted == ax.collections[0].N
    assert result.images[1].num_fitted == plot_alignment_residuals(result, 1).collections[0].N


def test_footprints_are_outlined(result):
    ax = plot_overlap(result.catalogs)
    assert len(ax.patches) == 3
    width = abs(ax.get_xlim()[1] - ax.get_xlim()[0])
    assert 0.13 < width < 0.16  # 1024 and 300 px of 1e-4 degrees
    with pytest.raises(InputError):
        plot_overlap([])


def test_closure_is_symmetric(result):
    drawn = plot_closure(result).images[0].get_array().filled(-1.0)
    assert (drawn == drawn.T).all()
    assert drawn[0, 1] >= 0


def test_pulls_have_their_standard_deviations(result):
    told = [text.get_text() for text in plot_pulls(result).get_legend().get_texts()]
    assert any(f"{result.fit.pulls[:, 0].std():.2f}" in text for text in told)


def test_sequential_results_have_no_fit():
    sky = Sky(1, stars=200)
    other = align([sky.image().catalog], sky.table())
    with pytest.raises(InputError):
        plot_closure(other)
    with pytest.raises(InputError):
        plot_pulls(other)
