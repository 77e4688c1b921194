"""Reads star lists given by callers, and selects the rows of the usable stars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arguments import image_size
from boresight._utils.origins import Origin, center_of, known_origin
from boresight.errors import InputError
from boresight.extraction.columns import read_columns
from boresight.extraction.stars import Centroid, CentroidColumns

Floats = NDArray[np.float64]

COLUMNS = tuple(field.name for field in fields(CentroidColumns))

EDGE_MARGIN, EDGE_MARGIN_PX = 0.1, 80.0
"""Positions may lie outside the image by this fraction of its side or by this number of pixels,
whichever is more, as do stars at the edge. Smaller values refuse lists of all stars around a field;
larger values accept more lists whose positions are relative to the corner by mistake."""

LEAST_FROM_CORNER, FARTHEST_FROM_CENTER = -1.0, 0.52
"""Positions are taken to be relative to the corner if all are above the first value, in pixels (the
first pixel begins at -0.5), and the largest exceeds the second value times the side of the image.
Relative to the centre, such a list would have no star to the left of it or above it, and its
farthest star would be farther outside the image than the error of a fit at the edge."""


@dataclass(frozen=True)
class StarList:
    """The usable stars of a list: with a position and, if any star has one, a brightness.

    Attributes
    ----------
    columns : dict of ndarray
        Columns of these stars by the names of `Centroids`, in pixels from the image's centre.
    rows : ndarray of int
        Row of each star in the given list, ascending.
    length : int
        Number of rows of the given list.
    """

    columns: dict[str, NDArray[Any]]
    rows: NDArray[np.intp]
    length: int

    @classmethod
    def read(
        cls,
        given: Any,
        origin: Origin | None = None,
        image_shape: tuple[int, int] | None = None,
    ) -> StarList:
        """Read a list in any form that `Centroids.from_any` takes, with the same arguments."""
        if isinstance(given, cls):
            return given
        origin = None if origin is None else known_origin(origin)
        stars = _as_centroids(given)
        if stars is not None:
            if origin not in (None, "center"):
                raise InputError(
                    f"origin: {origin!r}, but Centroids are counted from the image's centre; leave "
                    "it out, or make them with Centroids.from_corner"
                )
            check_inside(stars.x, stars.y, image_shape, "center", "the centroids")
            columns = {name: getattr(stars, name) for name in COLUMNS}
            return cls(columns, np.arange(len(stars)), len(stars))
        read = read_columns(given, COLUMNS)
        if origin is None and read.origin is not None and image_shape is None:
            raise InputError(
                f"image_shape: missing; {read.source} are counted from the corner: give (height, "
                "width) in pixels"
            )
        _check_columns(read.values)
        kept, columns = read.present, read.values
        if not kept.all():
            columns = {name: np.asarray(column)[kept] for name, column in columns.items()}
        _center(columns, origin or read.origin or "center", image_shape, read.source)
        return cls(columns, np.flatnonzero(kept), len(kept))

    @cached_property
    def stars(self) -> CentroidColumns:
        """The usable stars."""
        return CentroidColumns(**self.columns)

    def detections(self) -> dict[str, Any]:
        """Return the rows of the list for the extension module, with NaN for excluded stars."""
        filled = np.full((len(self.rows), 3), np.nan)
        for k, name in enumerate(("x", "y", "brightness")):
            if name in self.columns:
                filled[:, k] = self.columns[name]
        _check_brightness(filled[:, 2])
        cov = self.columns.get("position_cov")
        known = cov is not None and bool(np.isfinite(cov).any())
        return {
            "stars": self._every(filled),
            "covariance": self._every(np.ascontiguousarray(cov, np.float64)) if known else None,
        }

    def _every(self, values: Floats) -> Floats:
        """Expand values of the stars to all rows of the list, with NaN for excluded stars."""
        if len(self.rows) == self.length:
            return values
        every = np.full((self.length, *values.shape[1:]), np.nan)
        every[self.rows] = values
        return every

    def at(self, rows: NDArray[Any], name: str = "centroids") -> CentroidColumns:
        """Return the stars of some rows of the list."""
        places = np.searchsorted(self.rows, rows)
        there = places < len(self.rows)
        if not (there.all() and np.array_equal(self.rows[places], rows)):
            raise InputError(
                f"{name}: {len(self.rows)} of them, but a match is of number {rows.max()}; "
                "give the list that the frame was solved from"
            )
        return CentroidColumns(**{name: c[places] for name, c in self.columns.items()})


def _as_centroids(given: Any) -> CentroidColumns | None:
    """Return `Centroids` given directly, in a result or star by star; `None` for other lists."""
    if isinstance(given, CentroidColumns):
        return given
    if isinstance(getattr(given, "centroids", None), CentroidColumns):
        return given.centroids  # type: ignore[no-any-return]
    listed = isinstance(given, list | tuple) and len(given) > 0
    return _gather(given) if listed and all(isinstance(s, Centroid) for s in given) else None


def _gather(stars: Sequence[Centroid]) -> CentroidColumns:
    """Make columns of single stars, which may be of different frames."""
    columns = {
        name: np.array([getattr(star._stars, name)[star._index] for star in stars])
        for name in COLUMNS
    }
    return CentroidColumns(**columns)


def _check_columns(values: dict[str, NDArray[Any]]) -> None:
    """Refuse columns of different lengths, and infinite numbers; missing numbers are NaN."""
    length = values["x"].shape[:1]
    for name, column in values.items():
        if np.shape(column)[:1] != length or (name in ("x", "y") and np.ndim(column) != 1):
            raise InputError(
                f"{name}: its shape is {np.shape(column)}, that of x {values['x'].shape}; give one "
                "entry per star"
            )
    for name in ("x", "y", "brightness"):
        if name in values and (infinite := np.isinf(values[name])).any():
            row = int(infinite.argmax())
            raise InputError(
                f"centroids: {name} of row {row} is {values[name][row]}; "
                "leave such stars out, or make it NaN"
            )


def _center(
    columns: dict[str, NDArray[Any]],
    origin: Origin,
    image_shape: tuple[int, int] | None,
    source: str,
) -> None:
    """Convert positions to the image's centre as origin, and check that they lie in the image."""
    if origin != "center":
        if image_shape is None:
            raise InputError(
                f"image_shape: missing; with origin={origin!r} give (height, width) in pixels"
            )
        for name, middle in zip("xy", center_of(origin, image_shape), strict=True):
            columns[name] = columns[name] - middle
    check_inside(columns["x"], columns["y"], image_shape, origin, source)


def check_inside(
    x: Floats,
    y: Floats,
    image_shape: tuple[int, int] | None,
    origin: Origin,
    source: str,
) -> None:
    """Refuse positions (from the centre) outside the image; the message names the likely cause."""
    if image_shape is None or not len(x):
        return
    width, height = image_size(image_shape)
    lowest, highest = (x.min(), y.min()), (x.max(), y.max())
    cornered = min(lowest) > LEAST_FROM_CORNER and (
        highest[0] > FARTHEST_FROM_CENTER * width or highest[1] > FARTHEST_FROM_CENTER * height
    )
    if _lie_inside(lowest, highest, width, height) and not cornered:
        return
    outside = (np.abs(x) > 0.5 * width) | (np.abs(y) > 0.5 * height)
    raise InputError(
        f"centroids: {int(outside.sum())} of {len(x)} positions lie outside the image of "
        f"{width} x {height} pixels, counted by origin={origin!r} ({source}); "
        f"{_repair(lowest, highest, (height, width), origin)}"
    )


def _lie_inside(
    lowest: tuple[float, float], highest: tuple[float, float], width: float, height: float
) -> bool:
    """Whether positions with these least and greatest x and y lie in an image or near it."""
    sides = zip(lowest, highest, (width, height), strict=True)
    return all(
        max(-low, high) <= 0.5 * side + max(EDGE_MARGIN * side, EDGE_MARGIN_PX)
        for low, high, side in sides
    )


def _repair(
    lowest: tuple[float, float],
    highest: tuple[float, float],
    image_shape: tuple[int, int],
    origin: Origin,
) -> str:
    """Suggest the origin, or the order of the columns, with which the positions lie inside."""
    height, width = image_shape
    given, corner = center_of(origin, image_shape), center_of("corner", image_shape)
    column, row = (
        (lowest[k] + given[k], highest[k] + given[k]) for k in range(2)
    )  # the ranges of the numbers that were given

    def inside(x: tuple[float, float], y: tuple[float, float], middle: tuple[float, float]) -> bool:
        (left, right), (top, bottom) = x, y
        shifted = (left - middle[0], top - middle[1]), (right - middle[0], bottom - middle[1])
        return _lie_inside(*shifted, width, height)

    if origin == "center" and inside(column, row, corner):
        either_way = "; rows (y, x), as tetra3 has them, as stars[:, ::-1]"
        return (
            "they look counted from the corner: give origin='corner' (0-based: SEP, photutils) or "
            "origin='fits' (1-based: SExtractor, FITS)"
        ) + (either_way if inside(row, column, corner) else "")
    if origin != "center" and inside(column, row, (0.0, 0.0)):
        return "they look counted from the centre: leave origin out"
    if inside(row, column, corner):
        return (
            "they look like (y, x), as tetra3 has them: give (x, y), such as stars[:, ::-1], with "
            "origin='corner'; or image_shape is no (height, width)"
        )
    return (
        "check image_shape, (height, width), and give origin='corner' or 'fits' if they are "
        "counted from the corner"
    )


def _check_brightness(light: Floats) -> None:
    """Refuse brightness that is negative for all of several stars."""
    if len(light) > 1 and light.max() < 0.0:
        raise InputError(
            "centroids: every brightness is negative; if these are magnitudes, give a table with "
            "a column mag, or 10 ** (-0.4 * mag); else give light, or positions alone, brightest "
            "first"
        )
