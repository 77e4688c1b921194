"""Colours and sizes that all figures share.

The colours are those of Okabe and Ito (2008), which differ for every kind of colour vision; what
has to be told apart differs in its marker too.
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

#: Axes of this width in inches have markers and letters of their plain size, ...
PLAIN_WIDTH = 6.0

#: ... others larger or smaller ones, between these factors.
SMALLEST, LARGEST = 0.4, 1.4

#: Letters are never smaller than this, in points.
SMALLEST_LETTERS = 6.5


def new_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the axes, or those of a new figure of a size in inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.figure(figsize=size, layout="constrained").subplots()


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes are in, at its top."""
    figure = ax.get_figure(root=True)
    assert figure is not None, "axes are drawn on as long as they are in a figure"
    return figure


def relative_size(ax: Axes) -> float:
    """Return a factor for markers and lines that are legible on axes of any size."""
    width = ax.get_window_extent().width / figure_of(ax).dpi
    return float(min(max(width / PLAIN_WIDTH, SMALLEST), LARGEST))


def letters(ax: Axes, plain: float) -> float:
    """Size of letters in points, of those that have a plain size on large axes."""
    return max(plain * math.sqrt(relative_size(ax)), SMALLEST_LETTERS)


def halo(width: float = 1.5) -> list[AbstractPathEffect]:
    """Dark edge of letters and lines that are drawn on a frame."""
    from matplotlib import patheffects

    return [patheffects.withStroke(linewidth=width, foreground="black", alpha=0.7)]
