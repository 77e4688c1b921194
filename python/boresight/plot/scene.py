"""Figures of fitted scenes: pixels, model, residuals, windows, covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from boresight._utils.naming import named
from boresight.errors import InputError
from boresight.plot.style import ORANGE, figure_of, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from boresight.scene.result import SceneResult

__all__ = ["plot_parameter_correlations", "plot_scene"]

#: Largest residual of the colour scale, in standard errors.
PULL_RANGE = 5.0


@named
def plot_scene(
    result: SceneResult,
    image: int | str = 0,
    show: Literal["data", "model", "residual"] = "residual",
    *,
    windows: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Plot the pixels of an image, its model, or the residuals in standard errors.

    Parameters
    ----------
    result : SceneResult
        The fit.
    image : int or str
        Number or name of the image. Default 0.
    show : "data", "model" or "residual"
        Quantity to plot. A dipole at every source in "residual" means that the WCS has an error.
        Default "residual".
    windows : bool
        Whether to draw the boxes in which the sources are modelled. Default True.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If `image` or `show` is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.wcs import WCS
    >>> from boresight import plot, scene
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 83.8, "CRVAL2": -5.4,
    ...            "CRPIX1": 20.5, "CRPIX2": 20.5, "CDELT1": -1e-4, "CDELT2": 1e-4})
    >>> y, x = np.mgrid[:40, :40]
    >>> pixels = 900 * np.exp(-((x - 18) ** 2 + (y - 22) ** 2) / 8)
    >>> pixels += np.random.default_rng(1).normal(0, 2, pixels.shape)
    >>> image = scene.Image(pixels, wcs, variance=4.0, psf=scene.Gaussian(), name="r")
    >>> found = scene.fit(image, wcs.pixel_to_world([18.0], [22.0]))
    >>> plot.plot_scene(found, "r", "model").get_title()
    'r: model'
    """
    if show not in ("data", "model", "residual"):
        raise InputError(f"show: {show!r} is unknown; give 'data', 'model' or 'residual'")
    fitted = result.images[result.number(image)]
    axes = new_axes(ax, (5.0, 4.4))
    model = result.model(image)
    if show == "residual":
        pixels, low, high = result.pull(image), -PULL_RANGE, PULL_RANGE
    else:
        pixels = model if show == "model" else model + result.residual(image)
        low, high = np.nanpercentile(model + result.residual(image), [1.0, 99.7])
    drawn = axes.imshow(
        pixels,
        origin="lower",
        cmap="RdBu_r" if show == "residual" else "gray",
        vmin=low,
        vmax=high,
        interpolation="nearest",
    )
    label = "residual [standard errors]" if show == "residual" else "pixel value"
    figure_of(axes).colorbar(drawn, ax=axes, label=label)
    for box in fitted.windows if windows else ():
        if box is not None:
            x0, x1, y0, y1 = box
            axes.plot(
                [x0 - 0.5, x1 - 0.5, x1 - 0.5, x0 - 0.5, x0 - 0.5],
                [y0 - 0.5, y0 - 0.5, y1 - 0.5, y1 - 0.5, y0 - 0.5],
                color=ORANGE,
                linewidth=0.8,
            )
    axes.set(title=f"{fitted.name}: {show}", xlabel="column", ylabel="row")
    return axes


@named
def plot_parameter_correlations(result: SceneResult, ax: Axes | None = None) -> Axes:
    """Plot the correlation matrix of the parameters of a scene.

    Parameters
    ----------
    result : SceneResult
        The fit.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    See `boresight.scene.fit`.
    """
    axes = new_axes(ax, (6.0, 5.2))
    errors = np.sqrt(np.diag(result.covariance))
    errors = np.where(errors > 0, errors, 1.0)
    drawn = axes.imshow(
        result.covariance / errors[:, None] / errors, cmap="RdBu_r", vmin=-1.0, vmax=1.0
    )
    figure_of(axes).colorbar(drawn, ax=axes, label="correlation")
    places = np.arange(len(errors))
    axes.set_xticks(places, result.parameter_names, rotation=90, fontsize=7)
    axes.set_yticks(places, result.parameter_names, fontsize=7)
    return axes
