"""Figures of an alignment; public in `boresight.plot`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import east_north, longitude_latitude
from boresight._utils.naming import named
from boresight.errors import InputError
from boresight.plot.style import BLUE, ORANGE, VERMILION, figure_of, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from boresight.alignment.images import ImageCatalog, ImageGroup
    from boresight.alignment.result import AlignmentResult, GlobalFit

__all__ = ["plot_alignment_residuals", "plot_closure", "plot_overlap", "plot_pulls"]

Floats = NDArray[np.float64]

#: Width and height of new figures, inches.
SIZE = (6.0, 5.0)

#: Largest number of arrows, approximately.
MOST_ARROWS = 3000

#: Length of the arrow of the median residual, as a fraction of the extent of the matches.
ARROW_PART = 0.03

#: Number of bins of the histogram of pulls, and largest pull that is shown.
PULL_BINS, LARGEST_PULL = 40, 5.0


@named
def plot_alignment_residuals(
    result: AlignmentResult, image: int | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw the residuals of an alignment as arrows over the image.

    Parameters
    ----------
    result : AlignmentResult
        The alignment.
    image : int, optional
        Number of an image. Default: all images, drawn on one detector.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If no match was fitted.

    Examples
    --------
    >>> from boresight.plot import plot_alignment_residuals
    >>> plot_alignment_residuals(result)  # doctest: +SKIP
    <Axes: ...>
    """
    chosen = result.images if image is None else [result.images[image]]
    found = [image.matches for image in chosen if image.matches is not None]
    if not any(m.kept.any() for m in found):
        raise InputError("result: no match was fitted; there is nothing to draw")
    pixels = np.concatenate([m.pixels[m.kept] for m in found])
    residuals = np.concatenate([m.residuals[m.kept] for m in found])
    every = max(len(pixels) // MOST_ARROWS, 1)
    pixels, residuals = pixels[::every], residuals[::every]
    ax = new_axes(ax, SIZE)
    size = float(np.ptp(pixels, axis=0).max()) or 1.0
    usual = float(np.median(np.hypot(*residuals.T))) or 1.0
    arrows = ax.quiver(
        *pixels.T, *residuals.T, angles="xy", scale_units="xy", scale=usual / (ARROW_PART * size),
        color=BLUE, width=0.002,
    )  # fmt: skip
    ax.quiverkey(arrows, 0.94, 1.03, usual, f"{usual:.2g} px", labelpos="W")
    ax.set(xlabel="x (px)", ylabel="y (px)", aspect="equal")
    ax.set_title("Residuals", loc="left")
    return ax


@named
def plot_overlap(images: Sequence[ImageCatalog | ImageGroup], *, ax: Axes | None = None) -> Axes:
    """Draw the footprints of images on the sky.

    Parameters
    ----------
    images : sequence of ImageCatalog or ImageGroup
        The images. Each must have a shape or at least three sources.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The tangent plane at the mean direction of the corners, in degrees, with east to the left.

    Raises
    ------
    InputError
        If `images` is empty.

    Examples
    --------
    >>> from boresight.plot import plot_overlap
    >>> plot_overlap([first, second])  # doctest: +SKIP
    <Axes: ...>
    """
    members = [(k, member) for k, item in enumerate(images) for member in item.members]
    if not members:
        raise InputError("images: the list is empty; give at least one")
    corners = [member.corners() for _, member in members]
    middle = np.concatenate(corners).mean(axis=0)
    middle /= np.linalg.norm(middle)
    longitude, latitude = (float(angle) for angle in longitude_latitude(middle))
    east, north = east_north(middle)
    ax = new_axes(ax, SIZE)
    colors = (BLUE, ORANGE, VERMILION)
    for (k, _), ring in zip(members, corners, strict=True):
        flat = np.degrees(np.stack([ring @ east, ring @ north], axis=-1) / (ring @ middle)[:, None])
        ax.fill(*flat.T, color=colors[k % 3], alpha=0.15)
        ax.plot(*np.concatenate([flat, flat[:1]]).T, color=colors[k % 3], linewidth=1.0)
        ax.annotate(str(k), flat.mean(axis=0), ha="center", va="center")
    ax.invert_xaxis()
    about = f"RA {np.degrees(longitude) % 360:.4f}, Dec {np.degrees(latitude):.4f}"
    ax.set(
        xlabel=f"east of {about} (deg)", ylabel="north (deg)", title="Footprints", aspect="equal"
    )
    return ax


@named
def plot_closure(result: AlignmentResult, *, ax: Axes | None = None) -> Axes:
    """Draw the remaining offset between each pair of images after a global fit.

    Parameters
    ----------
    result : AlignmentResult
        Result of ``align(..., method="global")``.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        A matrix with an element for each pair of images: the length of the mean position difference
        of their common objects, in units of its standard error. Values are about 1 where the loops
        close.

    Raises
    ------
    InputError
        If the alignment was not global.

    Examples
    --------
    >>> from boresight.plot import plot_closure
    >>> plot_closure(result)  # doctest: +SKIP
    <Axes: ...>
    """
    closure = _fit_of(result).closure
    n = len(result.images)
    matrix = np.full((n, n), np.nan)
    for a, b, dx, dy, error in closure[["a", "b", "dx", "dy", "error"]].iterrows():
        if error > 0:
            matrix[a, b] = matrix[b, a] = np.hypot(dx, dy) / error
    ax = new_axes(ax, SIZE)
    image = ax.imshow(matrix, origin="lower", cmap="viridis", vmin=0.0)
    figure_of(ax).colorbar(image, ax=ax, label="difference / standard error")
    ax.set(xlabel="image", ylabel="image", title="Closure")
    return ax


@named
def plot_pulls(result: AlignmentResult, *, ax: Axes | None = None) -> Axes:
    """Draw the histogram of residuals divided by their expected errors, and the normal curve.

    Parameters
    ----------
    result : AlignmentResult
        Result of ``align(..., method="global")``.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If the alignment was not global, or nothing was fitted.

    Examples
    --------
    >>> from boresight.plot import plot_pulls
    >>> plot_pulls(result)  # doctest: +SKIP
    <Axes: ...>
    """
    pulls = _fit_of(result).pulls
    if len(pulls) == 0:
        raise InputError("result: no detection was fitted; there is nothing to draw")
    ax = new_axes(ax, SIZE)
    edges = np.linspace(-LARGEST_PULL, LARGEST_PULL, PULL_BINS + 1)
    for values, color, axis in zip(pulls.T, (BLUE, ORANGE), "xy", strict=True):
        label = f"{axis}, standard deviation {values.std():.2f}"
        ax.hist(values, edges.tolist(), density=True, histtype="step", color=color, label=label)
    z = np.linspace(-LARGEST_PULL, LARGEST_PULL, 200)
    ax.plot(z, np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), color=VERMILION, label="normal")
    ax.legend()
    ax.set(xlabel="residual / expected error", ylabel="density", title="Pulls")
    return ax


def _fit_of(result: AlignmentResult) -> GlobalFit:
    if result.fit is None:
        raise InputError('result: it has no global fit; use align(..., method="global")')
    return result.fit
