"""Figure of a frame with a coordinate grid, names of stars and lines of constellations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import longitude_latitude, unit_vector
from boresight._utils.naming import named
from boresight.plot.asterisms import LINES, STAR_NAMES
from boresight.plot.frames import center_on, plot_solution
from boresight.plot.style import ORANGE, SKY, YELLOW, figure_of, halo, letters, relative_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from boresight.solver.solution import Solution

__all__ = ["plot_sky"]

Floats = NDArray[np.float64]

#: Possible spacings of grid lines in degrees.
GRID_STEPS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)

#: Approximate number of grid lines of each coordinate across the frame.
GRID_LINES = 5

#: Number of points along a grid line or a line of a constellation.
LINE_POINTS = 200

#: Largest absolute declination, in degrees, to which lines of right ascension are drawn.
POLE_DEG = 85.0

#: Largest number of stars with a circle: more circles would hide the frame.
MAX_CIRCLES = 120


@named
def plot_sky(
    image: NDArray[Any],
    solution: Solution,
    *,
    grid: bool = True,
    names: bool = True,
    constellations: bool = True,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a frame with a coordinate grid, names of stars and lines of constellations.

    Blue circles are the positions of the brightest matched stars according to the catalogue and the
    solution. If the solution is right, the stars are inside their circles. Grid lines are ICRS
    right ascension and declination, for any projection. Lines of constellations and names are drawn
    for the bright stars in view.

    Parameters
    ----------
    image : array_like, shape (height, width)
        The frame.
    solution : Solution
        Solution of the frame.
    grid, names, constellations : bool
        Whether to draw the grid, the names of stars and the lines of constellations. Default: all.
    title : str, optional
        Title. Default: the sky position of the image's centre, and the field of view.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Axes in pixels from the image's centre, y downwards.

    Raises
    ------
    InputError
        If the image is not two-dimensional.

    Examples
    --------
    >>> import boresight
    >>> from boresight.plot import plot_sky
    >>> camera = boresight.CameraModel.from_fov(15.0, (400, 400))
    >>> frame = boresight.simulate_frame(camera, 83.8, -1.2)
    >>> ax = plot_sky(frame.image, boresight.solve(frame.image, 15.0))
    >>> "Alnilam" in [text.get_text() for text in ax.texts]
    True
    """
    if title is None:
        where = solution.center.to_string("hmsdms", precision=0)
        title = f"{where}, {solution.fov_deg:.3g}° wide"
    ax = plot_solution(image, title=title, ax=ax)
    canvas = _Canvas(ax, solution)
    canvas.draw_stars()
    if grid:
        canvas.draw_grid()
    if constellations:
        canvas.draw_constellations()
    if names:
        canvas.draw_names()
    return ax


class _Canvas:
    """Axes with a frame, on which sky positions are drawn."""

    def __init__(self, ax: Axes, solution: Solution) -> None:
        self._ax, self._solution = ax, solution
        self._height, self._width = solution.image_shape
        self._shift = center_on(ax, solution.image_shape)
        self._size = relative_size(ax)
        self._taken: list[tuple[float, float, float]] = []

    def draw_stars(self) -> None:
        """Draw circles around the brightest matched stars."""
        stars = self._solution.matched_stars
        order = np.argsort(np.nan_to_num(stars.magnitudes, nan=99.0), kind="stable")[:MAX_CIRCLES]
        ra, dec = np.degrees(longitude_latitude(stars.directions[order]))
        x, y = self._pixels(ra, dec)
        # Brighter stars have larger circles.
        sizes = np.linspace(13.0, 7.0, len(order)) * self._size
        self._ax.scatter(
            x, y, s=sizes**2, facecolors="none", edgecolors=SKY, linewidths=0.9 * self._size,
            zorder=2.4,
        )  # fmt: skip

    def draw_grid(self) -> None:
        """Draw lines of right ascension and declination, each with a label near an edge."""
        ra, dec = self._edges()
        center_ra, center_dec = self._solution.ra_deg, self._solution.dec_deg
        polar = np.abs(dec).max() > POLE_DEG
        away = (ra - center_ra + 180.0) % 360.0 - 180.0
        low, high = (-180.0, 180.0) if polar else (away.min(), away.max())
        bottom, top = dec.min(), dec.max()
        if polar:  # The pole may be in the frame.
            bottom, top = (bottom, 90.0) if center_dec > 0 else (-90.0, top)
        for value in _steps(center_ra + low, center_ra + high):
            line = np.linspace(max(bottom, -POLE_DEG), min(top, POLE_DEG), LINE_POINTS)
            self._line(np.full(LINE_POINTS, value), line, _hours(value % 360.0))
        for value in _steps(bottom, top):
            if abs(value) < 90.0:
                line = np.linspace(center_ra + low, center_ra + high, LINE_POINTS)
                self._line(line, np.full(LINE_POINTS, value), f"{value:+g}°" if value else "0°")

    def draw_constellations(self) -> None:
        """Draw the lines between the bright stars of each constellation."""
        for first, second in LINES:
            ends = _bright_stars([first, second])
            parts = np.linspace(0.0, 1.0, LINE_POINTS)[:, None]
            along = ends[0] * (1.0 - parts) + ends[1] * parts
            x, y = self._pixels(*np.degrees(longitude_latitude(along)))
            if np.isfinite(x).any():
                self._ax.plot(
                    x, y, "-", color=ORANGE, linewidth=1.1 * self._size, alpha=0.75, zorder=2.5
                )

    def draw_names(self) -> None:
        """Write the names of the brightest stars in view."""
        numbers = list(STAR_NAMES)
        ra, dec = np.degrees(longitude_latitude(_bright_stars(numbers)))
        x, y = self._pixels(ra, dec)
        for number, px, py in zip(numbers, x, y, strict=True):
            if np.isfinite(px):
                right = px - self._shift[0] > 0.3 * self._width
                for up in (7.0, -7.0):
                    offset = (-8.0 if right else 8.0, up)
                    if self._write(STAR_NAMES[number], (px, py), offset, YELLOW, 9):
                        break

    def _edges(self) -> tuple[Floats, Floats]:
        """Sky positions along the edges of the frame, and of its centre."""
        side = np.linspace(-0.5, 0.5, 41)
        x = np.concatenate([side, side, np.full(41, -0.5), np.full(41, 0.5), [0.0]]) * self._width
        y = np.concatenate([np.full(41, -0.5), np.full(41, 0.5), side, side, [0.0]]) * self._height
        ra, dec = self._solution.pixel_to_world(x, y)
        seen = np.isfinite(ra)
        return ra[seen], dec[seen]

    def _pixels(self, ra: Floats, dec: Floats) -> tuple[Floats, Floats]:
        """Positions on the axes of sky positions; NaN outside the frame."""
        x, y = self._solution.world_to_pixel(ra, dec)
        with np.errstate(invalid="ignore"):
            inside = (np.abs(x) <= self._width / 2) & (np.abs(y) <= self._height / 2)
        return (
            np.where(inside, x + self._shift[0], np.nan),
            np.where(inside, y + self._shift[1], np.nan),
        )

    def _line(self, ra: Floats, dec: Floats, label: str) -> None:
        x, y = self._pixels(ra, dec)
        seen = np.flatnonzero(np.isfinite(x))
        if not seen.size:
            return
        self._ax.plot(x, y, "-", color=SKY, linewidth=0.6 * self._size, alpha=0.6, zorder=2.2)
        # The label is at the end nearer to the lower left corner, slightly inside the frame.
        ends = seen[[0, -1]]
        end = ends[np.argmin(x[ends] - y[ends])]
        inner = 0.93
        center = np.array(self._shift)
        at = center + inner * (np.array([x[end], y[end]]) - center)
        self._write(label, (at[0], at[1]), None, SKY, 8)

    def _write(
        self,
        text: str,
        at: tuple[float, float],
        offset: tuple[float, float] | None,
        color: str,
        size: float,
    ) -> bool:
        """Write text at a point unless it would overlap other text; return whether it was written.

        Without an offset the text is centred; an offset, in typographic points, puts it to a side.
        """
        points = letters(self._ax, size)
        dpi = figure_of(self._ax).dpi
        dx, dy = offset or (0.0, 0.0)
        width = 0.6 * points * len(text)
        x, y = self._ax.transData.transform(at) * 72.0 / dpi
        middle = x + dx + math.copysign(width / 2, dx) if offset else x
        if any(
            abs(middle - x0) < (width + w0) / 2 and abs(y + dy - y0) < 1.2 * points
            for x0, y0, w0 in self._taken
        ):
            return False
        self._taken.append((middle, y + dy, width))
        self._ax.annotate(
            text, at, xytext=(dx, dy), textcoords="offset points", va="center", color=color,
            ha="center" if offset is None else "right" if dx < 0 else "left",
            fontsize=points, path_effects=halo(), clip_on=True, annotation_clip=True,
        )  # fmt: skip
        return True


def _steps(low: float, high: float) -> Floats:
    """Positions of grid lines in a range: multiples of the step that gives about five lines."""
    wanted = (high - low) / GRID_LINES
    step = next((step for step in GRID_STEPS if step >= wanted), GRID_STEPS[-1])
    first, last = math.ceil(low / step), math.floor(high / step)
    return np.array([number * step for number in range(first, last + 1)])


def _hours(ra_deg: float) -> str:
    seconds = round(ra_deg * 240.0) % 86400
    minutes, second = divmod(seconds, 60)
    text = f"{minutes // 60}h{minutes % 60:02d}m"
    return f"{text}{second:02d}s" if second else text


def _bright_stars(numbers: list[int]) -> Floats:
    """Return the unit vectors of stars by their Hipparcos numbers."""
    from boresight.catalog.catalog import Catalog

    stars = Catalog.hipparcos().get(numbers)
    return unit_vector(stars.ra_deg, stars.dec_deg)
