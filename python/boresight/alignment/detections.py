"""Detections of all objects that connect images with each other or with the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.arrays import east_north
from boresight.alignment.growing import GrowingReference
from boresight.alignment.identified import Identified
from boresight.alignment.images import ImageCatalog, ImageGroup
from boresight.alignment.mappings import Mapping
from boresight.alignment.objects import ObjectModel
from boresight.alignment.options import Options
from boresight.alignment.reference import ReferenceCatalog
from boresight.alignment.register import matched
from boresight.alignment.sources import Sources, pixel_scale, sources_of

__all__ = ["Detections", "Exposure", "collect", "exposure_of"]

Floats = NDArray[np.float64]
Item = ImageCatalog | ImageGroup

CATALOGUE_WEIGHT = 1e4
"""Weight of a catalogue star without errors, in units of the weight of a detection. The large value
keeps the star at its position."""


@dataclass
class Exposure:
    """An item with its sources in the plane of its first image, and their objects."""

    number: int
    members: list[ImageCatalog]
    before: list[Mapping]
    mappings: list[Mapping]
    sources: Sources
    source: NDArray[np.int64]
    object: NDArray[np.int64]


@dataclass
class Detections:
    """Detections, grouped by object, and the objects.

    `priors` are the inverse covariances of the parameters of each object, from the catalogue.
    """

    exposure: NDArray[np.uint32]
    of_exposure: NDArray[np.int64]
    object: NDArray[np.int64]
    at: Floats
    expected: Floats
    jacobian: Floats
    weight: Floats
    starts: NDArray[np.uint64]
    priors: Floats
    rows: NDArray[np.int64]
    reserved: NDArray[np.bool_]
    years: Floats
    factors: Floats
    colors: Floats
    scale: float
    places: Floats

    @cached_property
    def rows_of(self) -> list[NDArray[np.intp]]:
        """Indices of the detections of each exposure."""
        order = np.argsort(self.exposure, kind="stable")
        ends = np.searchsorted(self.exposure[order], np.arange(1, len(self.places)))
        return np.split(order, ends)

    @cached_property
    def of_core(self) -> core.JointDetections:
        """The detections in the form that the core takes."""
        return core.JointDetections(self.exposure, self.at, self.expected, self.jacobian)

    def bases(self, parameters: int, rows: NDArray[np.intp]) -> Floats:
        """Return derivatives of detections by the object parameters, (n, 2, parameters)."""
        place = self.jacobian[rows].reshape(-1, 2, 2)
        if parameters == 2:
            return place
        moving = [place, self.years[rows, None, None] * place]
        if parameters == 5:
            moving.append(np.einsum("nij,nj->ni", place, self.factors[rows])[:, :, None])
        return np.concatenate(moving, axis=2)


def exposure_of(
    number: int,
    item: Item,
    before: list[Mapping],
    identified: Identified | None,
    reference: GrowingReference,
    options: Options,
) -> Exposure:
    """Return an item's sources with their objects: those in `identified`, or newly matched ones."""
    members = item.members
    plane = members[0].mapping
    sources = sources_of(members, plane)
    if identified is not None:
        source, objects = identified.among(sources, members)
    else:
        near, found = matched(members, sources, reference, plane, options, start="given")
        source, objects = found.pairs[:, 0], near.rows[found.pairs[:, 1]]
    mappings = [member.mapping for member in members]
    return Exposure(number, members, before, mappings, sources, source, objects)


def collect(
    exposures: list[Exposure],
    refcat: ReferenceCatalog,
    catalogued: int,
    reserve: float,
    model: ObjectModel,
    weight: float = 1.0,
) -> Detections:
    """Collect detections of all objects that connect an exposure to another or to the catalogue.

    `weight` is the weight of sources with unknown errors.
    """
    none = np.zeros(0, np.int64)
    identified = np.concatenate([none, *(exposure.object for exposure in exposures)])
    counts = np.bincount(identified, minlength=len(refcat))
    ties = counts + (np.arange(len(refcat)) < catalogued) >= 2
    rows = np.flatnonzero(ties)
    place = np.full(len(refcat), -1)
    place[rows] = np.arange(len(rows))
    scale = pixel_scale(exposures[0].mappings[0]) if exposures else 1.0
    numbers = counts[rows]
    starts = np.concatenate([[0], np.cumsum(numbers)])
    d = _empty(int(starts[-1]), model)
    ends = starts[:-1].copy()
    for e, exposure in enumerate(exposures):
        mine = np.flatnonzero(ties[exposure.object])
        mine = mine[np.argsort(exposure.object[mine], kind="stable")]
        source, of = exposure.source[mine], exposure.object[mine]
        # Each detection is appended to its object; a matcher may give an object two detections.
        before = np.arange(len(of)) - np.searchsorted(of, of)
        number = place[of]
        at = ends[number] + before
        ends[number] = at + 1
        sky = model.moved(refcat, of, exposure.number)
        d["exposure"][at], d["source"][at], d["object"][at] = e, source, number
        d["at"][at] = exposure.sources.plane[source]
        d["expected"][at], d["jacobian"][at] = _linearized(exposure.mappings[0], sky, scale)
        weights, color = exposure.sources.weights, exposure.sources.color
        d["weight"][at] = weight if weights is None else weights[source]
        if model.years is not None:
            d["years"][at] = model.years[exposure.number]
            d["factors"][at] = model.factors(sky, exposure.number)
        if model.chromatic and color is not None:
            d["color"][at] = color[source]
    usual = float(np.median(d["weight"])) if starts[-1] else 1.0
    priors = model.priors(refcat, rows, catalogued, scale, CATALOGUE_WEIGHT * usual)
    reserved = np.zeros(len(rows), bool)
    if reserve > 0 and len(rows):
        # Select by declination, so that the order of images and sources does not matter.
        every = max(round(1.0 / reserve), 2)
        reserved[np.argsort(refcat.sky[rows, 2], kind="stable")[every // 2 :: every]] = True
    color = d.pop("color")
    return Detections(
        of_exposure=d.pop("source"), starts=starts.astype(np.uint64), priors=priors, rows=rows,
        reserved=reserved, colors=model.colors(refcat, rows, d["object"], color), scale=scale,
        places=_places(exposures), **d,
    )  # fmt: skip


def _empty(count: int, model: ObjectModel) -> dict[str, Any]:
    """Return empty columns for detections; columns that the model does not need have no rows."""
    moving = 0 if model.years is None else count
    return {
        "exposure": np.empty(count, np.uint32), "source": np.empty(count, np.int64),
        "object": np.empty(count, np.int64), "at": np.empty((count, 2)),
        "expected": np.empty((count, 2)), "jacobian": np.empty((count, 4)),
        "weight": np.empty(count), "years": np.empty(moving), "factors": np.empty((moving, 2)),
        "color": np.full(count if model.chromatic else 0, np.nan),
    }  # fmt: skip


def _places(exposures: list[Exposure]) -> Floats:
    """Project the pointings of the exposures on the two principal axes of their directions."""
    if not exposures:
        return np.zeros((0, 2))
    middles = np.concatenate(
        [e.mappings[0].plane_to_sky(e.sources.plane.mean(axis=0)[None]) for e in exposures]
    )
    axes = np.linalg.svd(middles - middles.mean(axis=0), full_matrices=False)[2]
    return np.ascontiguousarray(middles @ axes[:2].T) if len(axes) > 1 else np.zeros((1, 2))


def _linearized(plane: Mapping, sky: Floats, scale: float) -> tuple[Floats, Floats]:
    """Return plane coordinates of directions, and their derivatives per pixel east and north."""
    at = plane.sky_to_plane(sky)
    steps = []
    for direction in east_north(sky):
        moved = sky + scale * direction
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        steps.append(plane.sky_to_plane(moved) - at)
    jacobian = np.stack([steps[0][:, 0], steps[1][:, 0], steps[0][:, 1], steps[1][:, 1]], axis=-1)
    return at, np.ascontiguousarray(jacobian)
