"""Growing reference: the given stars, and objects added from images."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight.alignment.reference import ReferenceCatalog, Tracks

__all__ = ["GrowingReference"]

Floats = NDArray[np.float64]

MOST_MISSES = 3
"""Ratio of images that missed an object to images that contain it, from which an object is rare.

With a larger value, spurious sources of more images take part in matching the next image. With a
smaller value, fewer of the objects that only deep images show take part.
"""

CELLS_IN_RADIUS = 4.0
"""Cells per image radius. More cells take longer to visit; fewer cells return more objects outside
the image."""

ROUNDING = 1e-9
"""Fraction of a weight below which the difference of two weights counts as 0."""


class _Column:
    """Array with spare capacity, so that growth rarely copies; the given array is not changed."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self.rows = self._room = rows

    def add(self, more: NDArray[Any]) -> None:
        n, end = len(self.rows), len(self.rows) + len(more)
        if end > len(self._room):
            self._room = np.empty((max(2 * n, end), *self.rows.shape[1:]), self.rows.dtype)
            self._room[:n] = self.rows
        self._room[n:end] = more
        self.rows = self._room[:end]


class GrowingReference:
    """Stars to which images are aligned, including objects added from images.

    `near` returns all given stars and the objects that most images contain. Objects that images
    have missed are rare, like spurious sources. Rare objects are not used to find the position of
    an image, but sources that coincide with them are matched afterwards. So the time to align an
    image is the same after a thousand others at the same position as after ten.

    Parameters
    ----------
    stars : ReferenceCatalog
        The initial stars.
    of_image : bool
        Whether the stars are objects of an image, not of a catalogue.
    reach : float
        Typical search radius for rare objects, radians.
    """

    def __init__(
        self, stars: ReferenceCatalog, *, of_image: bool = False, reach: float = 1e-6
    ) -> None:
        self.stars = stars
        self._catalogue = None if of_image else stars
        self.catalogued = 0 if of_image else len(stars)
        self._usual: core.SkyCells | None = None
        self._rare = core.SkyCells(2.0 * reach)
        self._columns: dict[str, _Column] | None = None
        self._tracks: dict[str, _Column] | None = None
        self._next_id = 0
        self._seen, self._missed = (_Column(np.zeros(0, np.int64)) for _ in range(2))
        self._is_rare = _Column(np.zeros(0, bool))
        # Number of images in the mean position of each object.
        self._images = _Column(np.zeros(0, np.int64))
        # Positions under which the cells store the objects; `refine` does not change these.
        self._placed = _Column(np.zeros((0, 3)))
        self._add_usual(self.catalogued)

    def _add_usual(self, first: int) -> None:
        """Add the stars from index `first` on to the objects that are not rare."""
        sky = self.stars.sky[first:]
        if len(sky) == 0:
            return
        if self._usual is None:
            center = sky.mean(axis=0)
            center /= max(float(np.linalg.norm(center)), 1e-300)
            radius = np.arccos(np.clip((sky @ center).min(), -1.0, 1.0))
            self._usual = core.SkyCells(radius / CELLS_IN_RADIUS)
        self._usual.add(np.arange(first, len(self.stars)), sky)
        self._seen.add(np.ones(len(sky), np.int64))
        self._missed.add(np.zeros(len(sky), np.int64))
        self._is_rare.add(np.zeros(len(sky), bool))
        self._images.add(np.ones(len(sky), np.int64))
        self._placed.add(sky.copy())

    def near(self, center: Floats, radius: float) -> NDArray[np.int64]:
        """Return indices of the stars, except rare ones, within an angle in rad of a direction."""
        parts = [] if self._catalogue is None else [self._catalogue.near(center, radius)]
        if self._usual is not None:
            parts.append(self._usual.within(center[None], min(radius, np.pi)))
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def rare(self, places: Floats, angle: float) -> NDArray[np.int64]:
        """Return indices of rare objects within an angle of any of the given directions."""
        return self._rare.within(places, angle)

    def has_rare(self) -> bool:
        """Return whether there are rare objects."""
        return len(self._rare) > 0

    def note(self, seen: NDArray[np.int64], missed: NDArray[np.int64]) -> None:
        """Record which stars an image contains, and which of the expected stars are missing."""
        if self._usual is None:
            return
        first, is_rare = self.catalogued, self._is_rare.rows
        seen, missed = (rows[rows >= first] - first for rows in (seen, missed))
        missed = missed[~is_rare[missed]]
        self._seen.rows[seen] += 1
        self._missed.rows[missed] += 1
        for at, rare in ((missed, True), (seen, False)):
            now = self._missed.rows[at] >= MOST_MISSES * self._seen.rows[at]
            moved = at[(now == rare) & (is_rare[at] != rare)]
            is_rare[moved] = rare
            rows, sky = moved + first, self._placed.rows[moved]
            old, new = (self._usual, self._rare) if rare else (self._rare, self._usual)
            old.remove(rows, sky)
            new.add(rows, sky)

    def is_placed(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which stars are from the catalogue or have a position from at least one image."""
        placed = rows < self.catalogued
        placed[~placed] = self._images.rows[rows[~placed] - self.catalogued] > 0
        return placed

    def refine(
        self,
        rows: NDArray[np.int64],
        sky: Floats,
        weights: Floats,
        *,
        scale: float = 1.0,
        out: bool = False,
    ) -> None:
        """Update the mean positions of objects with their positions in an image.

        Stars of the catalogue do not move. If the objects have weights, the mean is weighted;
        `scale` is the pixel scale of the weights, in radians. With `out` the image is removed from
        the means that contain it. An object that only this image contains keeps its position, with
        weight 0, until an image is added again.
        """
        mine, sign = rows >= self.catalogued, -1 if out else 1
        rows, weights = rows[mine], sign * weights[mine]
        columns, objects = self._opened(), rows - self.catalogued
        known, errors = columns.get("weights"), columns.get("sigma")
        with np.errstate(divide="ignore", invalid="ignore"):
            if known is not None:
                had = known.rows[rows]
            elif errors is not None:
                had = (scale / errors.rows[rows]) ** 2
            else:
                had, weights = self._images.rows[objects], np.full(len(rows), float(sign))
            self._images.rows[objects] += sign
            total = had + weights
            # A difference within rounding counts as weight 0.
            none = (self._images.rows[objects] == 0) | (total <= ROUNDING * np.abs(weights))
            total[none] = 0.0
            share = np.where(none, 0.0, np.nan_to_num(weights / total))
            if known is not None:
                known.rows[rows] = total
            elif errors is not None:
                errors.rows[rows] = scale / np.sqrt(total)
        places = columns["sky"].rows
        mean = places[rows] + share[:, None] * (sky[mine] - places[rows])
        places[rows] = mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def grow(
        self,
        sky: Floats,
        weights: Floats | None,
        brightness: Floats | None,
        color: Floats | None = None,
        *,
        scale: float = 1.0,
    ) -> None:
        """Add objects with new ids; drop columns that not all objects have, except colours.

        `scale` is the pixel scale of the weights, in radians.
        """
        n, more = len(self.stars), len(sky)
        if more == 0:
            return
        columns = self._opened()
        ids = self._next_id + np.arange(more)
        self._next_id += more
        if color is not None and "color" not in columns:
            columns["color"] = _Column(np.full(n, np.nan))
        sigma = None
        if weights is not None and "sigma" in columns:
            with np.errstate(divide="ignore"):
                sigma = scale / np.sqrt(weights)
        values: dict[str, NDArray[Any] | None] = {
            "sky": sky, "weights": weights, "sigma": sigma, "brightness": brightness, "ids": ids,
            "color": np.full(more, np.nan) if color is None else color,
        }  # fmt: skip
        for name in list(columns):
            if (value := values[name]) is None:
                del columns[name]
            else:
                columns[name].add(value)
        tracks = None
        if self._tracks is not None:
            for column in self._tracks.values():
                column.add(np.full((more, *column.rows.shape[1:]), np.nan))
            tracks = Tracks(**{name: column.rows for name, column in self._tracks.items()})
        rows: dict[str, Any] = {name: column.rows for name, column in columns.items()}
        self.stars = ReferenceCatalog(**rows, tracks=tracks, covariance=self.stars.covariance)
        self._add_usual(n)

    def _opened(self) -> dict[str, _Column]:
        """Return the columns as growing arrays, made at the first call."""
        if self._columns is None:
            stars, names = self.stars, ("sky", "weights", "sigma", "brightness", "ids", "color")
            given = {name: getattr(stars, name) for name in names}
            self._columns = {k: _Column(rows) for k, rows in given.items() if rows is not None}
            self._next_id = int(stars.ids.max()) + 1 if len(stars) else 0
            if (tracks := stars.tracks) is not None:
                columns = {field.name: getattr(tracks, field.name) for field in fields(Tracks)}
                self._tracks = {name: _Column(rows) for name, rows in columns.items()}
        return self._columns
