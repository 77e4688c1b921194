"""Distortions in the global fit: shared by all images of a detector, and separate per image."""

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

__all__ = ["Device", "Distortions", "lowest_degree"]

Floats = NDArray[np.float64]

Product = tuple[int, int, float]
"""Degrees of Legendre polynomials along x and y, and a factor."""

HALF_STEP_PX = 0.5
"""Half the step of the numerical derivative of plane coordinates with respect to pixels."""

UNDITHERED = 0.01
"""Smallest dither, in units of half the detector, that determines a distortion."""

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
"""Linear terms that the maps of each geometry lack: both shears, scale, rotation."""


LARGEST_LEVERAGE = 0.5
"""Largest variance of the polynomial of an exposure at a corner of its detector, in units of the
variance of one source. With a larger variance the exposure gets no polynomial. About fifty sources
spread over the detector are enough."""


PRIOR_SOURCES = 0.1
"""Weight of the prior that each separate term is 0, in units of one source. It suffices to move
distortion that all exposures have to the shared terms."""


def lowest_degree(geometry: FitGeometry, catalogued: int, exposure_order: int = 1) -> int:
    """Return the lowest degree of the shared distortion that the maps cannot represent.

    Without a catalogue only the difference of the distortion between two pointings is measured, and
    it is one degree lower.
    """
    return exposure_order + 2 if catalogued == 0 and geometry == "general" else 2


def _added(
    lens: PolynomialDistortion | None, more: PolynomialDistortion | None
) -> PolynomialDistortion | None:
    """Add two polynomials of the same scale; either may be None."""
    if lens is None or more is None:
        return lens or more
    high, low = sorted((lens, more), key=lambda one: -one.order)
    missing = (0, len(high.a_coeffs) - len(low.a_coeffs))
    a, b = (np.pad(coeffs, missing) for coeffs in (low.a_coeffs, low.b_coeffs))
    return PolynomialDistortion(high.order, high.scale, high.a_coeffs + a, high.b_coeffs + b)


@dataclass
class Device:
    """Terms of the distortions, and the position of each detection on its detector.

    A detector is the number of an image in its group. Single images have detector 0, and only they
    can have separate terms.
    """

    order: int
    halves: list[Floats]
    terms: list[tuple[int, tuple[Product, Product]]]
    detector: NDArray[np.uint32]
    at: Floats
    gradient: Floats
    own: list[tuple[int, tuple[Product, Product]]] = field(default_factory=list)
    has_own_terms: list[bool] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        exposures: list[Exposure],
        d: Detections,
        orders: tuple[int, int],
        geometry: FitGeometry,
        catalogued: int,
    ) -> Device:
        """Make the device of all exposures.

        `orders` are the order of the shared distortion, 0 for none, and that of each exposure, 1
        for a linear map.
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
            device.has_own_terms = [device._is_known(rows, own_order) for rows in d.rows_of]
        return device

    def _is_known(self, rows: NDArray[np.intp], order: int) -> bool:
        """Return whether detections determine a polynomial over the whole detector."""
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
        """Return displacements (n, 2, terms) of pixels of an exposure by its separate terms."""
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
        """Return the device in the form that the core takes; `weight` is that of one source."""
        return {
            "terms": self.terms,
            "detector": self.detector,
            "at": self.at,
            "gradient": self.gradient,
            "own": self.own,
            "has_own_terms": self.has_own_terms,
            "own_prior": PRIOR_SOURCES * weight,
        }

    def is_undithered(self, d: Detections) -> bool:
        """Return whether nearly all objects fall on almost the same pixel in all images."""
        start = d.starts[:-1].astype(np.int64)
        spread = np.maximum.reduceat(self.at, start) - np.minimum.reduceat(self.at, start)
        return float(np.quantile(np.hypot(*spread.T), 0.9)) < UNDITHERED

    def distortions(self, parameters: Sequence[float]) -> list[PolynomialDistortion]:
        """Return the polynomials of each detector about its centre; empty if nothing is shared."""
        if self.order == 0:
            return []
        return self._polynomials(self.terms, parameters, self.order)

    def own_distortions(self, parameters: Floats) -> list[PolynomialDistortion | None]:
        """Return the separate polynomial of each exposure, or None."""
        if not self.own:
            return [None] * len(parameters)
        order = max(i + j for _, term in self.own for i, j, _ in term)
        return [
            self._polynomials(self.own, row, order)[0] if has_own_terms else None
            for row, has_own_terms in zip(parameters, self.has_own_terms, strict=True)
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
class Distortions:
    """Shared distortions, one per detector, and separate ones, one per image; both may be empty."""

    shared: list[PolynomialDistortion]
    own: list[PolynomialDistortion | None]

    def plus(self, more: Distortions) -> Distortions:
        """Return the sum with further distortions."""
        shared = self.shared or more.shared
        if self.shared and more.shared:
            both = zip(self.shared, more.shared, strict=True)
            shared = [lens for pair in both if (lens := _added(*pair)) is not None]
        return Distortions(shared, [_added(*pair) for pair in zip(self.own, more.own, strict=True)])

    def of_image(self, number: int, members: int) -> list[PolynomialDistortion | None]:
        """Return the distortions of the members of an item; only single images have their own."""
        lenses = self.shared[:members] if self.shared else [None] * members
        own = self.own[number] if self.own else None
        return [_added(lens, own) for lens in lenses]


def _shapes(exposures: list[Exposure]) -> list[tuple[int, int]]:
    """Return the shape of each detector, which must be the same in all exposures."""
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
    """Yield the terms of a detector; for the first one, only terms that the maps lack."""
    order, own_order = orders
    if order == 0:
        return
    if number:
        yield from _whole(0, order)
        return
    if catalogued:
        yield from LINEAR[geometry]
    # The quadratic maps z² and i z² change between pointings only by rotation and scale, which each
    # map has: without the product x y, the terms in x² and y² span all other quadratic maps.
    without = [(1, 1)] if geometry == "rscale" and not catalogued else []
    yield from _whole(lowest_degree(geometry, catalogued, own_order), order, without)


def _whole(
    lowest: int, order: int, without: Sequence[tuple[int, int]] = ()
) -> Iterator[tuple[Product, Product]]:
    """Yield all terms of a range of degrees along either axis, except some products."""
    for degree in range(lowest, order + 1):
        for j in range(degree + 1):
            if (degree - j, j) not in without:
                yield (degree - j, j, 1.0), (0, 0, 0.0)
                yield (0, 0, 0.0), (degree - j, j, 1.0)


def _values(at: Floats, products: list[tuple[int, int]]) -> Floats:
    """Return values (n, products) of products of Legendre polynomials at points (n, 2)."""
    x, y = (legvander(axis, max(map(max, products))) for axis in at.T)
    return np.column_stack([x[:, i] * y[:, j] for i, j in products])


def _gradient(exposure: Exposure, number: int, pixels: Floats) -> Floats:
    """Return derivatives (n, 4), by rows, of plane coordinates with respect to pixels."""
    mapping, plane = exposure.mappings[number], exposure.mappings[0]
    columns = []
    for step in HALF_STEP_PX * np.eye(2):
        ends = [plane.sky_to_plane(mapping.to_sky(pixels + sign * step)) for sign in (1.0, -1.0)]
        columns.append((ends[0] - ends[1]) / (2.0 * HALF_STEP_PX))
    x, y = columns
    return np.column_stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]])
