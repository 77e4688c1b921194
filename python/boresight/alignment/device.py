"""The distortion that all images of a detector share, and that of each, in the global fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.polynomial.legendre import leg2poly, legvander
from numpy.typing import NDArray

from boresight.alignment.detections import Detections, Exposure
from boresight.alignment.options import FitGeometry
from boresight.alignment.sip import by_degree
from boresight.camera.distortion import PolynomialDistortion
from boresight.errors import InputError

__all__ = ["Bent", "Device", "lowest_degree"]

Floats = NDArray[np.float64]

Product = tuple[int, int, float]
"""Degrees of Legendre polynomials along x and y, and a factor."""

HALF_STEP_PX = 0.5
"""Half the step of the numerical derivative of the plane by the pixel."""

UNDITHERED = 0.01
"""Pixels of an object that differ by less, in units of half the detector, tell no distortion."""

LINEAR: dict[FitGeometry, tuple[tuple[Product, Product], ...]] = {
    "general": (),
    "rscale": (((1, 0, 1.0), (0, 1, -1.0)), ((0, 1, 1.0), (1, 0, 1.0))),
    "rshift": (
        ((1, 0, 1.0), (0, 1, -1.0)),
        ((0, 1, 1.0), (1, 0, 1.0)),
        ((1, 0, 1.0), (0, 1, 1.0)),
    ),
    "shift": (
        ((1, 0, 1.0), (0, 1, -1.0)),
        ((0, 1, 1.0), (1, 0, 1.0)),
        ((1, 0, 1.0), (0, 1, 1.0)),
        ((0, 1, -1.0), (1, 0, 1.0)),
    ),
}
"""Linear terms that the maps of the exposures lack: both shears, scale, rotation."""


LARGEST_LEVERAGE = 0.5
"""Variance of the polynomial of an exposure at a corner of its detector, in that of one source, up
to which it has one: it takes fifty sources all over the detector."""


PRIOR_SOURCES = 0.1
"""So many sources say that a term of an exposure is 0: enough that what all have is shared."""


def lowest_degree(geometry: FitGeometry, catalogued: int, exposure_order: int = 1) -> int:
    """Lowest degree of the shared distortion that the maps of the exposures do not stand for.

    Without a catalogue a distortion differs between two pointings by a map of a degree less.
    """
    return exposure_order + 2 if catalogued == 0 and geometry == "general" else 2


def _added(
    lens: PolynomialDistortion | None, more: PolynomialDistortion | None
) -> PolynomialDistortion | None:
    """Add polynomials of one scale; either may be none."""
    if lens is None or more is None:
        return lens or more
    high, low = sorted((lens, more), key=lambda one: -one.order)
    missing = (0, len(high.a_coeffs) - len(low.a_coeffs))
    a, b = (np.pad(coeffs, missing) for coeffs in (low.a_coeffs, low.b_coeffs))
    return PolynomialDistortion(high.order, high.scale, high.a_coeffs + a, high.b_coeffs + b)


@dataclass
class Device:
    """Terms of the shared distortion, and where each detection is on its detector.

    A detector is the number of an image in its group; images alone are of detector 0, and only
    they have terms of their own.
    """

    order: int
    halves: list[Floats]
    terms: list[tuple[int, tuple[Product, Product]]]
    detector: NDArray[np.uint32]
    at: Floats
    gradient: Floats
    own: list[tuple[int, tuple[Product, Product]]] = field(default_factory=list)
    bends: list[bool] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        exposures: list[Exposure],
        d: Detections,
        orders: tuple[int, int],
        geometry: FitGeometry,
        catalogued: int,
    ) -> Device:
        """Give the device of all exposures.

        `orders` are those of what they share, 0: nothing, and of what each has, 1: a linear map.
        """
        n, (order, own_order) = len(d.exposure), orders
        if order == 0 and own_order == 1:
            return cls(0, [], [], np.zeros(0, np.uint32), np.zeros((0, 2)), np.zeros((0, 4)))
        halves = [np.array(shape[::-1]) / 2 for shape in _shapes(exposures)]
        detector, at, gradient = np.zeros(n, np.uint32), np.zeros((n, 2)), np.zeros((n, 4))
        for e, exposure in enumerate(exposures):
            rows = d.rows_of[e]
            source = d.of_exposure[rows]
            member = exposure.sources.member[source]
            pixels = exposure.sources.pixels[source]
            detector[rows] = member
            for number, half in enumerate(halves[: len(exposure.members)]):
                mine = member == number
                at[rows[mine]] = (pixels[mine] - half) / half.max()
                gradient[rows[mine]] = _gradient(exposure, number, pixels[mine])
        terms = [
            (number, term)
            for number in range(len(halves))
            for term in _terms(number, orders, geometry, catalogued)
        ]
        device = cls(order, halves, terms, detector, at, gradient)
        if own_order > 1:
            device.own = [(0, term) for term in _whole(2, own_order)]
            device.bends = [device._is_known(rows, own_order) for rows in d.rows_of]
        return device

    def _is_known(self, rows: NDArray[np.intp], order: int) -> bool:
        """Tell whether detections determine a polynomial all over the detector."""
        products = [(degree - j, j) for degree in range(order + 1) for j in range(degree + 1)]
        if len(rows) < len(products):
            return False
        half = self.halves[0] / self.halves[0].max()
        corners = half * np.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
        design, there = (_values(at, products) for at in (self.at[rows], corners))
        information = design.T @ design
        if np.linalg.cond(information) > 1e12:
            return False
        leverage = np.einsum("ij,ij->i", there, np.linalg.solve(information, there.T).T)
        return bool(leverage.max() <= LARGEST_LEVERAGE)

    def own_design(self, exposure: Exposure, pixels: Floats) -> Floats:
        """Displacements (n, 2, terms) of pixels of an exposure by its own terms."""
        half = self.halves[0]
        at, gradient = (pixels - half) / half.max(), _gradient(exposure, 0, pixels)
        steps = np.stack(
            [
                [factor * _values(at, [(i, j)])[:, 0] for i, j, factor in term]
                for _, term in self.own
            ]
        )
        design: Floats = np.einsum("nij,kjn->nik", gradient.reshape(-1, 2, 2), steps)
        return design

    def values(self, weight: float) -> dict[str, Any]:
        """Give it as the core takes it; `weight` is that of a source."""
        return {
            "terms": self.terms,
            "detector": self.detector,
            "at": self.at,
            "gradient": self.gradient,
            "own": self.own,
            "bends": self.bends,
            "own_prior": PRIOR_SOURCES * weight,
        }

    def is_undithered(self, d: Detections) -> bool:
        """Tell whether hardly any object falls on pixels that are far from each other."""
        start = d.starts[:-1].astype(np.int64)
        spread = np.maximum.reduceat(self.at, start) - np.minimum.reduceat(self.at, start)
        return float(np.quantile(np.hypot(*spread.T), 0.9)) < UNDITHERED

    def distortions(self, parameters: Sequence[float]) -> list[PolynomialDistortion]:
        """Give the polynomials of each detector, about its middle; none if nothing is shared."""
        if self.order == 0:
            return []
        return self._polynomials(self.terms, parameters, self.order)

    def own_distortions(self, parameters: Floats) -> list[PolynomialDistortion | None]:
        """Give the polynomial of each exposure; None of those that have none."""
        if not self.own:
            return [None] * len(parameters)
        order = max(i + j for _, term in self.own for i, j, _ in term)
        return [
            self._polynomials(self.own, row, order)[0] if bends else None
            for row, bends in zip(parameters, self.bends, strict=True)
        ]

    def _polynomials(
        self,
        terms: list[tuple[int, tuple[Product, Product]]],
        parameters: Sequence[float] | Floats,
        order: int,
    ) -> list[PolynomialDistortion]:
        size = order + 1
        sums = np.zeros((len(self.halves), 2, size, size))
        for (detector, term), value in zip(terms, parameters, strict=True):
            for axis, (i, j, factor) in enumerate(term):
                x, y = (leg2poly([0.0] * degree + [1.0]) for degree in (i, j))
                sums[detector, axis, : i + 1, : j + 1] += value * factor * np.outer(x, y)
        return [
            PolynomialDistortion(order, float(half.max()), *(by_degree(c) for c in of))
            for half, of in zip(self.halves, sums, strict=True)
        ]


@dataclass(frozen=True)
class Bent:
    """Distortions that all images share, by detector, and those of each image; may be empty."""

    shared: list[PolynomialDistortion]
    own: list[PolynomialDistortion | None]

    def and_more(self, more: Bent) -> Bent:
        """Add others."""
        shared = self.shared or more.shared
        if self.shared and more.shared:
            both = zip(self.shared, more.shared, strict=True)
            shared = [lens for pair in both if (lens := _added(*pair)) is not None]
        return Bent(shared, [_added(*pair) for pair in zip(self.own, more.own, strict=True)])

    def of_image(self, number: int, members: int) -> list[PolynomialDistortion | None]:
        """Give those of the members of an image, which alone has its own."""
        lenses = self.shared[:members] if self.shared else [None] * members
        own = self.own[number] if self.own else None
        return [_added(lens, own) for lens in lenses]


def _shapes(exposures: list[Exposure]) -> list[tuple[int, int]]:
    """Shape of each detector, the same in all exposures."""
    shapes: dict[int, tuple[int, int]] = {}
    for exposure in exposures:
        for number, image in enumerate(exposure.members):
            shape = image.image_shape
            assert shape is not None, "a mapping that can be distorted has one"
            if shapes.setdefault(number, shape) != shape:
                raise InputError(
                    f"imcat: images of shapes {shapes[number]} and {shape} share no distortion; "
                    "align those of each detector apart"
                )
    return [shapes[number] for number in sorted(shapes)]


def _terms(
    number: int, orders: tuple[int, int], geometry: FitGeometry, catalogued: int
) -> Iterator[tuple[Product, Product]]:
    """Terms of a detector: of the first those that the maps of the exposures do not stand for."""
    order, own_order = orders
    if order == 0:
        return
    if number:
        yield from _whole(0, order)
        return
    if catalogued:
        yield from LINEAR[geometry]
    # Of the quadratic maps, z² and i z² differ between pointings by rotation and scale alone: the
    # terms in x² and y² stand for all others.
    without = [(1, 1)] if geometry == "rscale" and not catalogued else []
    yield from _whole(lowest_degree(geometry, catalogued, own_order), order, without)


def _whole(
    lowest: int, order: int, without: Sequence[tuple[int, int]] = ()
) -> Iterator[tuple[Product, Product]]:
    """All terms of some degrees along either axis, but for some products."""
    for degree in range(lowest, order + 1):
        for j in range(degree + 1):
            if (degree - j, j) not in without:
                yield (degree - j, j, 1.0), (0, 0, 0.0)
                yield (0, 0, 0.0), (degree - j, j, 1.0)


def _values(at: Floats, products: list[tuple[int, int]]) -> Floats:
    """Values (n, products) of products of Legendre polynomials at places (n, 2)."""
    x, y = (legvander(axis, max(map(max, products))) for axis in at.T)
    return np.column_stack([x[:, i] * y[:, j] for i, j in products])


def _gradient(exposure: Exposure, number: int, pixels: Floats) -> Floats:
    """Differentiate the plane of an exposure by the pixel of one of its images; by rows."""
    mapping, plane = exposure.mappings[number], exposure.mappings[0]
    columns = []
    for step in HALF_STEP_PX * np.eye(2):
        ends = [plane.sky_to_plane(mapping.to_sky(pixels + sign * step)) for sign in (1.0, -1.0)]
        columns.append((ends[0] - ends[1]) / (2.0 * HALF_STEP_PX))
    x, y = columns
    return np.column_stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]])
