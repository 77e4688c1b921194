"""Conversions of points, directions, rotations and values between users, numpy and the core."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils.arguments import numbers, pixels
from boresight.errors import InputError

Floats = NDArray[np.float64]


def block_means(image: NDArray[Any], step: int) -> Floats:
    """Means of blocks of `step` x `step` pixels; incomplete blocks at the far edges are dropped."""
    rows, columns = (side // step for side in image.shape)
    whole = np.asarray(image[: rows * step, : columns * step], dtype=np.float64)
    means: Floats = whole.reshape(rows, step, columns, step).mean(axis=(1, 3))
    return means


def unit_vector(ra_deg: ArrayLike, dec_deg: ArrayLike) -> Floats:
    """Return the unit vectors (..., 3) of right ascensions and declinations in degrees."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def longitude_latitude(vectors: Floats) -> tuple[Any, Any]:
    """Longitude (-π to π) and latitude (-π/2 to π/2) of vectors (..., 3) of any length, radians."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))


def east_north(vectors: Floats) -> tuple[Floats, Floats]:
    """Return the unit vectors to the east and the north at unit vectors (..., 3).

    At a pole the longitude is taken as 0.
    """
    longitude, _ = longitude_latitude(vectors)
    east = np.stack([-np.sin(longitude), np.cos(longitude), np.zeros_like(longitude)], axis=-1)
    return east, np.cross(vectors, east)


def rotation_about(vector: ArrayLike) -> Floats:
    """Rotation matrix (3, 3) about a vector by its length in radians (Rodrigues)."""
    x, y, z = np.asarray(vector, np.float64)
    angle = math.hypot(x, y, z)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    # sin(angle) / angle and (1 - cos(angle)) / angle**2, valid also for an angle of zero.
    sine, half = np.sinc(angle / np.pi), np.sinc(angle / (2.0 * np.pi))
    return np.asarray(np.eye(3) + sine * cross + 0.5 * half**2 * (cross @ cross))


def quaternion_of(rotation: Floats) -> Floats:
    """Return the unit quaternion (4,), scalar first, of a rotation matrix (3, 3)."""
    return np.array(core.quaternion_of_matrix(rotation.tolist()))


def rotation_of(quaternion: ArrayLike) -> Floats:
    """Rotation matrix (3, 3) of a unit quaternion, scalar first."""
    w, x, y, z = np.asarray(quaternion, np.float64)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def convex_hull(points: Floats) -> NDArray[np.intp]:
    """Row numbers of the corners of the convex hull of (n, 2) points.

    Andrew's monotone chain, counterclockwise from the leftmost point. For points on one line the
    corners are its two ends; for a single point there are none.
    """

    def half(rows: NDArray[np.intp]) -> list[int]:
        chain: list[int] = []
        for i in rows:
            while len(chain) > 1:
                before, last = points[chain[-2:]]
                (ax, ay), (bx, by) = last - before, points[i] - before
                if ax * by - ay * bx > 0.0:
                    break
                chain.pop()
            chain.append(int(i))
        return chain[:-1]

    order = np.lexsort((points[:, 1], points[:, 0]))
    return np.array(half(order) + half(order[::-1]), dtype=np.intp)


def points_of(x: ArrayLike, y: ArrayLike) -> tuple[Floats, tuple[int, ...]]:
    """Broadcast pixel coordinates x and y; return them as (n, 2) rows, and their common shape.

    Masked coordinates are NaN.
    """
    xs = numbers("x", pixels("x", x), "give pixels")
    ys = numbers("y", pixels("y", y), "give pixels")
    try:
        xs, ys = np.broadcast_arrays(xs, ys)
    except ValueError:
        raise InputError(
            f"x, y: shapes {xs.shape}, {ys.shape} do not match; give numbers or arrays that "
            "broadcast"
        ) from None
    return np.stack([xs.ravel(), ys.ravel()], axis=-1), xs.shape


def split(points: Floats, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Split (n, 2) rows into x and y of the given shape; plain floats for the shape ()."""
    x, y = points[:, 0].reshape(shape), points[:, 1].reshape(shape)
    return (x, y) if shape else (x.item(), y.item())


def map_points(function: Any, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Apply a function of (n, 2) rows to points of any shape."""
    points, shape = points_of(x, y)
    return split(function(points), shape)


def plain_rows(table: Any) -> list[dict[str, Any]]:
    """Rows of a table as dicts of plain numbers and text, without units; masked values are None."""
    columns = {name: getattr(table[name], "value", table[name]) for name in table.colnames}
    return [
        {
            name: None if np.ma.is_masked(column[k]) else column[k].item()
            for name, column in columns.items()
        }
        for k in range(len(table))
    ]


def plain(value: Any) -> Any:
    """Convert a value to JSON types: numbers, text, lists and dicts; NaN and infinity give None."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return plain(value.to_dict()) if hasattr(value, "to_dict") else str(value)
