"""Sources of an item and nearby stars of the reference, both in the plane of the item."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight.alignment.growing import GrowingReference
from boresight.alignment.images import ImageCatalog
from boresight.alignment.mappings import Mapping
from boresight.alignment.options import Options
from boresight.alignment.reference import ReferenceCatalog

__all__ = [
    "Near",
    "Sources",
    "all_stars",
    "near_of",
    "pixel_scale",
    "sources_of",
    "stars_near",
]

Floats = NDArray[np.float64]


class _Listed:
    """Points of a plane with their weights and brightness, if these are known."""

    plane: Floats
    weights: Floats | None
    brightness: Floats | None

    def values(self) -> dict[str, Any]:
        """Return the points in the form that the core takes."""
        return {"points": self.plane, "weights": self.weights, "brightness": self.brightness}


@dataclass(frozen=True)
class Sources(_Listed):
    """Sources of all members of an item, in the plane of the first member."""

    plane: Floats
    member: NDArray[np.int64]
    row: NDArray[np.int64]
    pixels: Floats
    weights: Floats | None
    brightness: Floats | None
    color: Floats | None


@dataclass(frozen=True)
class Near(_Listed):
    """Stars of the reference near an item, in the plane of the item."""

    rows: NDArray[np.intp]
    plane: Floats
    weights: Floats | None
    brightness: Floats | None
    inside: int

    def with_more(self, more: Near) -> Near:
        """Return the stars followed by more stars, which do not count as inside."""

        def joined(ours: Floats | None, theirs: Floats | None) -> Floats | None:
            return None if ours is None or theirs is None else np.concatenate([ours, theirs])

        return replace(
            self,
            rows=np.concatenate([self.rows, more.rows]),
            plane=np.concatenate([self.plane, more.plane]),
            weights=joined(self.weights, more.weights),
            brightness=joined(self.brightness, more.brightness),
        )


def sources_of(
    members: list[ImageCatalog], plane: Mapping, mappings: list[Mapping] | None = None
) -> Sources:
    """Return the sources of all members that can be projected to the plane of the first."""
    planes, of_member, rows, pixels = [], [], [], []
    for number, member in enumerate(members):
        xy = member.pixels
        mapping = member.mapping if mappings is None else mappings[number]
        flat = xy
        if len(xy):
            own = mapping is plane
            flat = plane.to_plane(xy) if own else plane.sky_to_plane(mapping.to_sky(xy))
        good = np.flatnonzero(np.isfinite(flat[:, 0] + flat[:, 1]))
        planes.append(flat[good])
        of_member.append(np.full(len(good), number))
        rows.append(good)
        pixels.append(xy[good])

    def column(name: str) -> Floats | None:
        values = [getattr(member, name) for member in members]
        if any(value is None for value in values):
            return None
        return np.concatenate([v[r] for v, r in zip(values, rows, strict=True)])

    return Sources(
        np.ascontiguousarray(np.concatenate(planes)),
        np.concatenate(of_member),
        np.concatenate(rows),
        np.concatenate(pixels),
        column("_weights"),
        column("_brightness"),
        column("_color"),
    )


def stars_near(
    members: list[ImageCatalog],
    sources: Sources,
    reference: GrowingReference,
    plane: Mapping,
    options: Options,
    *,
    wide: bool,
) -> Near:
    """Return the stars within reach; if `wide`, for patterns, within two image sizes."""
    low = np.array([sources.plane[:, k].min() for k in range(2)])
    high = np.array([sources.plane[:, k].max() for k in range(2)])
    around = np.array([low, high, [low[0], high[1]], [high[0], low[1]], (low + high) / 2])
    *corners, middle = plane.plane_to_sky(around)
    scale = pixel_scale(plane)
    radius = max(float(np.arccos(np.clip(corner @ middle, -1.0, 1.0))) for corner in corners)
    shapes = [member.image_shape for member in members if member.image_shape]
    if shapes:
        radius = max(radius, scale * max(math.hypot(*shape) for shape in shapes) / 2)
    reach = (options.searchrad + options.tolerance + math.hypot(*options.offset)) * scale
    rows = reference.near(middle, min(radius + max(reach, 2.0 * radius if wide else 0.0), 1.4))
    near = near_of(rows, reference.stars, plane)
    low, high = low - reach / scale, high + reach / scale
    flat = near.plane
    within = (flat[:, 0] >= low[0]) & (flat[:, 0] <= high[0])
    within &= (flat[:, 1] >= low[1]) & (flat[:, 1] <= high[1])
    return replace(near, inside=int(np.count_nonzero(within)))


def near_of(rows: NDArray[np.intp], refcat: ReferenceCatalog, plane: Mapping) -> Near:
    """Return those of the stars in `rows` that can be projected to the plane of an item."""
    flat = plane.sky_to_plane(refcat.sky.take(rows, axis=0))
    good = np.isfinite(flat[:, 0] + flat[:, 1])
    if not good.all():
        rows, flat = rows[good], flat[good]
    flat = np.ascontiguousarray(flat)
    light = None if refcat.brightness is None else refcat.brightness[rows]
    return Near(rows, flat, refcat.weights_for(rows, pixel_scale(plane)), light, len(rows))


def all_stars(refcat: ReferenceCatalog, plane: Mapping) -> Near:
    """Return all stars that can be projected to the plane of an item."""
    return near_of(np.arange(len(refcat)), refcat, plane)


def pixel_scale(plane: Mapping) -> float:
    """Return the pixel scale at the origin of a plane, in radians."""
    near = plane.plane_to_sky(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    across = np.cross(near[1] - near[0], near[2] - near[0])
    return float(np.sqrt(np.linalg.norm(across)))
