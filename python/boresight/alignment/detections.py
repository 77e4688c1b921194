"""Detections of all objects that tie images together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import east_north
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
"""Weight of a catalogue star without errors in units of that of a detection: it does not move."""


@dataclass
class Exposure:
    """An item with sources in the plane of its first image."""

    number: int
    members: list[ImageCatalog]
    before: list[Mapping]
    mappings: list[Mapping]
    sources: Sources
    source: NDArray[np.int64]
    object: NDArray[np.int64]


@dataclass
class Detections:
    """Detections, those of an object together, and the objects."""

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
    motion_priors: Floats
    colors: Floats
    scale: float
    places: Floats

    @cached_property
    def rows_of(self) -> list[NDArray[np.intp]]:
        """Give the detections of each exposure."""
        order = np.argsort(self.exposure, kind="stable")
        ends = np.searchsorted(self.exposure[order], np.arange(1, len(self.places)))
        return np.split(order, ends)

    def bases(self, parameters: int) -> Floats:
        """Displacements in the plane by the parameters of an object, shape (n, 2, parameters)."""
        place = self.jacobian.reshape(-1, 2, 2)
        if parameters == 2:
            return place
        moving = [place, self.years[:, None, None] * place]
        if parameters == 5:
            moving.append(np.einsum("nij,nj->ni", place, self.factors)[:, :, None])
        return np.concatenate(moving, axis=2)

    def all_priors(self, parameters: int) -> Floats:
        """Inverse variances of the parameters of each object, shape (objects, parameters)."""
        priors = np.repeat(self.priors[:, None], parameters, axis=1)
        if parameters > 2:
            priors[:, 2:4] = self.motion_priors[:, :1]
            priors[:, 4:] = self.motion_priors[:, 1:]
        return priors


def exposure_of(
    number: int, item: Item, before: list[Mapping], refcat: ReferenceCatalog, options: Options
) -> Exposure:
    """Give sources and the objects that they are, where the sequential alignment has them."""
    members = item.members
    plane = members[0].mapping
    sources = sources_of(members, plane)
    near, found = matched(members, sources, refcat, plane, options, start="given")
    i, j = found.pairs.T
    mappings = [member.mapping for member in members]
    return Exposure(number, members, before, mappings, sources, i, near.rows[j])


def collect(
    exposures: list[Exposure],
    refcat: ReferenceCatalog,
    catalogued: int,
    reserve: float,
    model: ObjectModel,
) -> Detections:
    """Give detections of all objects that tie an exposure to another or to the catalogue."""
    counts = np.bincount(
        np.concatenate([exposure.object for exposure in exposures]), minlength=len(refcat)
    )
    ties = counts + (np.arange(len(refcat)) < catalogued) >= 2
    rows = np.flatnonzero(ties)
    place = np.full(len(refcat), -1)
    place[rows] = np.arange(len(rows))
    scale = pixel_scale(exposures[0].mappings[0])
    parts: dict[str, list[Any]] = {
        name: []
        for name in (
            "exposure", "source", "object", "at", "expected", "jacobian", "weight", "years",
            "factors", "color",
        )
    }  # fmt: skip
    for e, exposure in enumerate(exposures):
        mine = np.flatnonzero(ties[exposure.object])
        source, of = exposure.source[mine], exposure.object[mine]
        sky = model.moved(refcat, of, exposure.number)
        expected, jacobian = _linearized(exposure.mappings[0], sky, scale)
        years = 0.0 if model.years is None else model.years[exposure.number]
        color = exposure.sources.color
        parts["color"].append(np.full(len(mine), np.nan) if color is None else color[source])
        parts["years"].append(np.full(len(mine), years))
        parts["factors"].append(model.factors(sky, exposure.number))
        weights = exposure.sources.weights
        parts["exposure"].append(np.full(len(mine), e, np.uint32))
        parts["source"].append(source)
        parts["object"].append(place[of])
        parts["at"].append(exposure.sources.plane[source])
        parts["expected"].append(expected)
        parts["jacobian"].append(jacobian)
        parts["weight"].append(np.ones(len(mine)) if weights is None else weights[source])
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    order = np.argsort(joined["object"], kind="stable")
    joined = {name: np.ascontiguousarray(values[order]) for name, values in joined.items()}
    numbers = np.bincount(joined["object"], minlength=len(rows))
    starts = np.concatenate([[0], np.cumsum(numbers)]).astype(np.uint64)
    usual = float(np.median(joined["weight"])) if len(order) else 1.0
    priors = np.zeros(len(rows))
    stars = rows < catalogued
    given = refcat.weights_for(rows, scale)
    priors[stars] = CATALOGUE_WEIGHT * usual if given is None else given[stars]
    priors[~np.isfinite(priors)] = CATALOGUE_WEIGHT * usual
    reserved = np.zeros(len(rows), bool)
    if reserve > 0 and len(rows):
        # By declination, so that the order of images and sources does not matter.
        every = max(round(1.0 / reserve), 2)
        reserved[np.argsort(refcat.sky[rows, 2], kind="stable")[every // 2 :: every]] = True
    return Detections(
        joined["exposure"], joined["source"], joined["object"], joined["at"], joined["expected"],
        joined["jacobian"], joined["weight"], starts, priors, rows, reserved, joined["years"],
        joined["factors"], model.priors(refcat, rows, scale),
        model.colors(refcat, rows, joined["object"], joined["color"]), scale,
        _places(exposures),
    )  # fmt: skip


def _places(exposures: list[Exposure]) -> Floats:
    """Where exposures look, in one plane: the two widest of their directions' coordinates."""
    middles = np.concatenate(
        [e.mappings[0].plane_to_sky(e.sources.plane.mean(axis=0)[None]) for e in exposures]
    )
    axes = np.linalg.svd(middles - middles.mean(axis=0), full_matrices=False)[2]
    return np.ascontiguousarray(middles @ axes[:2].T) if len(axes) > 1 else np.zeros((1, 2))


def _linearized(plane: Mapping, sky: Floats, scale: float) -> tuple[Floats, Floats]:
    """Plane coordinates of directions, and what steps of a pixel east and north are there."""
    at = plane.sky_to_plane(sky)
    steps = []
    for direction in east_north(sky):
        moved = sky + scale * direction
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        steps.append(plane.sky_to_plane(moved) - at)
    jacobian = np.stack([steps[0][:, 0], steps[1][:, 0], steps[0][:, 1], steps[1][:, 1]], axis=-1)
    return at, np.ascontiguousarray(jacobian)
