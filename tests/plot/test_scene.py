import matplotlib.pyplot as plt
import numpy as np
import pytest

from boresight import InputError, plot, scene
from skies import CENTRES, SCALE, draw, header, observe, sky_of


def test_figures_show_what_was_fitted():
    data, variance = observe(draw(CENTRES, [6e3, 1.5e4, 3e4], 2.2, 1 / SCALE), 1)
    image = scene.Image(data, header(), variance=variance, name="r")
    found = scene.fit(image, sky_of(CENTRES, header()))
    for show, expected in (
        ("data", data), ("model", found.model(0)), ("residual", found.pull(0)),
    ):  # fmt: skip
        axes = plot.plot_scene(found, "r", show)
        np.testing.assert_allclose(axes.images[0].get_array(), expected, atol=1e-6)
        assert len(axes.lines) == 3
        plt.close(axes.figure)
    axes = plot.plot_parameter_correlations(found)
    assert len(axes.get_xticklabels()) == len(found.parameter_names)
    np.testing.assert_allclose(np.diag(axes.images[0].get_array()), 1.0)
    plt.close(axes.figure)
    with pytest.raises(InputError, match="show: 'noise'"):
        plot.plot_scene(found, 0, "noise")
