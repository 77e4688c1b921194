"""Colours and sizes that all figures share.

The colours are those of Okabe and Ito (2008), which people with any kind of colour vision can
distinguish.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patheffects import AbstractPathEffect

__all__ = [
    "BLUE", "GREEN", "ORANGE", "PURPLE", "SKY", "VERMILION", "YELLOW",
    "figure_of", "halo", "letters", "new_axes", "relative_size",
]  # fmt: skip

BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"
YELLOW, ORANGE, VERMILION, PURPLE = "#F0E442", "#E69F00", "#D55E00", "#CC79A7"

#: Width in inches of axes on which markers and letters have their plain size.
PLAIN_WIDTH = 6.0

#: Smallest and largest factor by which markers and lines are scaled on axes of other widths.
SMALLEST, LARGEST = 0.4, 1.4

#: Smallest size of letters, in points.
SMALLEST_LETTERS = 6.5


def new_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the given axes, or the axes of a new figure of a size in inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.figure(figsize=size, layout="constrained").subplots()


def figure_of(ax: Axes) -> Figure:
    """Return the top-level figure that contains the axes."""
    figure = ax.get_figure(root=True)
    assert figure is not None, "axes are drawn on as long as they are in a figure"
    return figure


def relative_size(ax: Axes) -> float:
    """Return the factor by which markers and lines are scaled for the width of the axes."""
    width = ax.get_window_extent().width / figure_of(ax).dpi
    return float(min(max(width / PLAIN_WIDTH, SMALLEST), LARGEST))


def letters(ax: Axes, plain: float) -> float:
    """Size of letters in points on these axes, from their plain size on axes of `PLAIN_WIDTH`."""
    return max(plain * math.sqrt(relative_size(ax)), SMALLEST_LETTERS)


def halo(width: float = 1.5) -> list[AbstractPathEffect]:
    """Dark outline for letters and lines that are drawn on a frame."""
    from matplotlib import patheffects

    return [patheffects.withStroke(linewidth=width, foreground="black", alpha=0.7)]
