"""Figures of frames with their stars and solutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.naming import named
from boresight._utils.origins import center_of
from boresight.errors import InputError
from boresight.plot.style import (
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    letters,
    new_axes,
    relative_size,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from boresight.extraction.centroids import Centroids
    from boresight.extraction.extract import ExtractionResult
    from boresight.solver.solution import Solution

__all__ = [
    "plot_centroids",
    "plot_solution",
    "plot_solutions",
]

#: Percentiles of the image that are drawn as black and as white.
STRETCH = (1.0, 99.2)

#: Semi-axes of the ellipses in standard deviations of the star's image: they surround the image.
ELLIPSE_SIGMAS = 6.0

#: Colours of the flags. A star with several flags has the colour of the first one in this order.
FLAG_COLOURS = {
    "SATURATED": VERMILION,
    "HOT_PIXEL": PURPLE,
    "MASKED": ORANGE,
    "EDGE": GREEN,
    "BLENDED": SKY,
    "TRAILED": "white",
}

#: Colour of stars without a flag.
COLOUR = YELLOW

#: Longest side of a drawn image in pixels; of larger images only every n-th pixel is drawn.
DRAWN_PIXELS = 1024

#: Width and height, in inches, of a panel in a figure of several.
PANEL_INCHES = 3.5


@named
def plot_centroids(
    image: NDArray[Any],
    stars: Centroids | ExtractionResult,
    *,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a frame with its stars, in the colours of their flags.

    The semi-axes of the ellipses are six standard deviations of the stars' images. Crosses are the
    positions. The legend gives the flags that occur and the number of stars of each. The axes are
    in pixels from the image's centre, y downwards.

    Parameters
    ----------
    image : array_like, shape (height, width)
        The frame.
    stars : Centroids or ExtractionResult
        Its stars.
    title : str, optional
        Title of the panel.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on. Default: a new figure. On astropy's WCSAxes positions are 0-based array
        pixels, as in its WCS.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If the image is not two-dimensional, or `stars` has another type.

    Examples
    --------
    >>> from boresight import CameraModel, extract_centroids, simulate_frame
    >>> from boresight.plot import plot_centroids
    >>> frame = simulate_frame(CameraModel.from_fov(10.0, (256, 256)), 83.8, -1.2)
    >>> ax = plot_centroids(frame.image, extract_centroids(frame.image), title="Orion's belt")
    >>> ax.get_legend() is not None
    True
    """
    from boresight.extraction.centroids import Centroids
    from boresight.extraction.flags import CentroidFlags

    centroids = Centroids.from_any(stars)
    ax = plot_solution(image, title=title, ax=ax)
    left = np.ones(len(centroids), dtype=bool)
    for name, colour in (*FLAG_COLOURS.items(), (None, COLOUR)):
        flagged = left if name is None else (centroids.flags & CentroidFlags[name]) != 0
        shown = centroids[flagged & left]
        left &= ~flagged
        if not len(shown):
            continue
        dx, dy = center_on(ax, np.shape(image))
        size = relative_size(ax)
        _draw_ellipses(ax, shown, colour, (dx, dy))
        label = "no flag" if name is None else name.lower().replace("_", " ")
        ax.plot(
            shown.x + dx,
            shown.y + dy,
            "+",
            color=colour,
            markersize=6 * size,
            markeredgewidth=0.8 * size,
            label=f"{label}: {len(shown)}",
        )
    if len(centroids):
        ax.legend(
            loc="upper right",
            fontsize=letters(ax, 9),
            framealpha=0.8,
            facecolor="black",
            labelcolor="white",
            markerscale=1.5,
        )
    return ax


@named
def plot_solution(
    image: NDArray[Any],
    solution: Solution | None = None,
    centroids: Centroids | None = None,
    *,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a frame with its matched stars.

    Blue crosses are the positions of the catalogue's stars according to the solution. Yellow
    ellipses are the detected stars, with semi-axes of six standard deviations of their images. The
    axes are in pixels from the image's centre, y downwards.

    Parameters
    ----------
    image : array_like, shape (height, width)
        The frame.
    solution : Solution, optional
        Solution of the frame. Without a solution all centroids are drawn.
    centroids : Centroids, optional
        The detected stars from which the frame was solved.
    title : str, optional
        Title of the panel.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on. Default: a new figure. On astropy's WCSAxes positions are 0-based array
        pixels, as in its WCS.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If the image is not two-dimensional.

    Examples
    --------
    >>> from boresight import CameraModel, extract_centroids, simulate_frame
    >>> from boresight.plot import plot_solution
    >>> frame = simulate_frame(CameraModel.from_fov(10.0, (256, 256)), 83.8, -1.2)
    >>> stars = extract_centroids(frame.image).centroids
    >>> ax = plot_solution(frame.image, centroids=stars, title="Orion's belt")
    >>> ax.get_title()
    "Orion's belt"
    """
    image = np.asarray(image)
    if image.ndim != 2 or image.size == 0:
        raise InputError(f"image: its shape is {image.shape}; give an array (height, width)")
    height, width = image.shape
    ax = new_axes(ax, (8.0, 8.0 * min(max(height / width, 0.5), 2.0)))
    size = relative_size(ax)
    step = max(1, math.ceil(max(height, width) / DRAWN_PIXELS))
    drawn = image[::step, ::step]
    finite = drawn[np.isfinite(drawn)]
    low, high = np.percentile(finite, STRETCH) if finite.size else (0.0, 1.0)
    dx, dy = center_on(ax, image.shape)
    left, top = dx - width / 2 - 0.5, dy - height / 2 - 0.5
    ax.imshow(
        drawn,
        cmap="gray",
        vmin=float(low),
        vmax=float(high),
        extent=(left, left + drawn.shape[1] * step, top + drawn.shape[0] * step, top),
        interpolation="nearest",
    )
    if centroids is not None:
        shown = centroids if solution is None else centroids[solution.matched_centroids]
        _draw_ellipses(ax, shown, COLOUR, (dx, dy))
    if solution is not None:
        v = solution.matched_directions
        ra, dec = np.arctan2(v[:, 1], v[:, 0]), np.arcsin(np.clip(v[:, 2], -1.0, 1.0))
        x, y = solution.world_to_pixel(np.degrees(ra), np.degrees(dec))
        ax.plot(x + dx, y + dy, "+", color=SKY, markersize=7 * size, markeredgewidth=size)
    ax.set_xlim(left, left + width)
    ax.set_ylim(top + height, top)
    if title is not None:
        ax.set_title(title, fontsize=letters(ax, 11))
    return ax


@named
def plot_solutions(
    images: Sequence[NDArray[Any]],
    solutions: Sequence[Solution | None],
    centroids: Sequence[Centroids],
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
) -> Figure:
    """Draw several frames with their matched stars, one panel per frame.

    Parameters
    ----------
    images : sequence of array_like
        The frames.
    solutions : sequence of Solution or None
        Solutions of the frames. The title of an unsolved frame says so, and its panel shows all
        centroids.
    centroids : sequence of Centroids
        Stars of the frames.
    titles : sequence of str, optional
        Titles of the panels.
    columns : int, optional
        Panels per row. Default: about as many as rows, at most five.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the sequences are empty or of different lengths.

    Examples
    --------
    >>> import boresight
    >>> from boresight.plot import plot_solutions
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> image = boresight.simulate_frame(camera, 83.8, -1.2, seed=1).image
    >>> stars = boresight.extract_centroids(image).centroids
    >>> figure = plot_solutions([image], [boresight.solve(image, 15.0)], [stars])
    >>> len(figure.axes)
    1
    """
    number = len(images)
    if not number or len(solutions) != number or len(centroids) != number:
        raise InputError(
            f"images: {number} of them, with {len(solutions)} solutions and {len(centroids)} lists "
            "of centroids; give as many of each, one at least"
        )
    import matplotlib.pyplot as plt

    columns = columns or min(5, math.ceil(math.sqrt(number)))
    rows = math.ceil(number / columns)
    figure = plt.figure(figsize=(columns * PANEL_INCHES, rows * PANEL_INCHES), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for i, ax in enumerate(panels):
        if i < number:
            title = titles[i] if titles is not None else f"Frame {i}"
            solved = solutions[i] is not None
            plot_solution(
                images[i],
                solutions[i],
                centroids[i],
                title=title if solved else f"{title}: not solved",
                ax=ax,
            )
            ax.set_xticks([])
            ax.set_yticks([])
        else:
            ax.set_axis_off()
    return figure


def center_on(ax: Axes, image_shape: tuple[int, ...]) -> tuple[float, float]:
    """Position of the image's centre on the axes: (0, 0), or in array pixels on a WCSAxes."""
    height, width = image_shape
    on_sky = hasattr(ax, "wcs") and hasattr(ax, "coords")
    return center_of("corner" if on_sky else "center", (height, width))


def _draw_ellipses(ax: Axes, stars: Centroids, colour: str, center: tuple[float, float]) -> None:
    """Draw ellipses of the second moments; stars with unknown moments get circles."""
    from matplotlib.collections import EllipseCollection

    if not len(stars):
        return
    known = np.isfinite(stars.cov).all(axis=(1, 2), keepdims=True)
    cov = np.where(known, stars.cov, np.eye(2))
    values, vectors = np.linalg.eigh(cov)
    minor, major = 2.0 * ELLIPSE_SIGMAS * np.sqrt(np.maximum(values, 0.0)).T
    angles = np.degrees(np.arctan2(vectors[:, 1, 1], vectors[:, 0, 1]))
    ax.add_collection(
        EllipseCollection(
            major,
            minor,
            angles,
            units="xy",
            offsets=stars.xy + center,
            offset_transform=ax.transData,
            facecolors="none",
            edgecolors=colour,
            linewidths=relative_size(ax),
        )
    )
