"""The distortion that all images of a detector share, as part of the global fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial.legendre import leg2poly
from numpy.typing import NDArray

from boresight.alignment.detections import Detections, Exposure
from boresight.alignment.options import FitGeometry
from boresight.alignment.sip import by_degree
from boresight.camera.distortion import PolynomialDistortion
from boresight.errors import InputError

__all__ = ["Device", "lowest_degree"]

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


def lowest_degree(geometry: FitGeometry, catalogued: int) -> int:
    """Lowest degree of the shared distortion that the maps of the exposures do not stand for.

    Without a catalogue a quadratic distortion differs between two pointings by a linear map.
    """
    return 3 if catalogued == 0 and geometry == "general" else 2


@dataclass
class Device:
    """Terms of the shared distortion, and where each detection is on its detector.

    A detector is the number of an image in its group; images alone are of detector 0.
    """

    order: int
    halves: list[Floats]
    terms: list[tuple[int, tuple[Product, Product]]]
    detector: NDArray[np.uint32]
    at: Floats
    gradient: Floats

    @classmethod
    def of(
        cls,
        exposures: list[Exposure],
        d: Detections,
        order: int,
        geometry: FitGeometry,
        catalogued: int,
    ) -> Device:
        """Give the device of all exposures; `order` 0: they share nothing."""
        n = len(d.exposure)
        if order == 0:
            return cls(0, [], [], np.zeros(n, np.uint32), np.zeros((n, 2)), np.zeros((n, 4)))
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
            for term in _terms(number, order, geometry, catalogued)
        ]
        return cls(order, halves, terms, detector, at, gradient)

    def values(self) -> dict[str, Any]:
        """Give it as the core takes it."""
        return {
            "terms": self.terms,
            "detector": self.detector,
            "at": self.at,
            "gradient": self.gradient,
        }

    def is_undithered(self, d: Detections) -> bool:
        """Tell whether hardly any object falls on pixels that are far from each other."""
        start = d.starts[:-1].astype(np.int64)
        spread = np.maximum.reduceat(self.at, start) - np.minimum.reduceat(self.at, start)
        return float(np.quantile(np.hypot(*spread.T), 0.9)) < UNDITHERED

    def distortions(self, parameters: Sequence[float]) -> list[PolynomialDistortion]:
        """Give the polynomials of each detector, about its middle."""
        size = self.order + 1
        sums = np.zeros((len(self.halves), 2, size, size))
        for (detector, term), value in zip(self.terms, parameters, strict=True):
            for axis, (i, j, factor) in enumerate(term):
                x, y = (leg2poly([0.0] * degree + [1.0]) for degree in (i, j))
                sums[detector, axis, : i + 1, : j + 1] += value * factor * np.outer(x, y)
        return [
            PolynomialDistortion(self.order, float(half.max()), *(by_degree(c) for c in of))
            for half, of in zip(self.halves, sums, strict=True)
        ]


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
    number: int, order: int, geometry: FitGeometry, catalogued: int
) -> Iterator[tuple[Product, Product]]:
    """Terms of a detector: of the first those that the maps of the exposures do not stand for."""
    lowest = 0 if number else lowest_degree(geometry, catalogued)
    if number == 0 and catalogued:
        yield from LINEAR[geometry]
    for degree in range(lowest, order + 1):
        for j in range(degree + 1):
            if number == 0 and (degree, j) == (2, 1) and geometry == "rscale" and not catalogued:
                # Of the quadratic maps, z² and i z² differ between pointings by rotation and scale
                # alone: the terms in x² and y² stand for all others.
                continue
            yield (degree - j, j, 1.0), (0, 0, 0.0)
            yield (0, 0, 0.0), (degree - j, j, 1.0)


def _gradient(exposure: Exposure, number: int, pixels: Floats) -> Floats:
    """Differentiate the plane of an exposure by the pixel of one of its images; by rows."""
    mapping, plane = exposure.mappings[number], exposure.mappings[0]
    columns = []
    for step in HALF_STEP_PX * np.eye(2):
        ends = [plane.sky_to_plane(mapping.to_sky(pixels + sign * step)) for sign in (1.0, -1.0)]
        columns.append((ends[0] - ends[1]) / (2.0 * HALF_STEP_PX))
    x, y = columns
    return np.column_stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]])
