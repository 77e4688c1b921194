"""Planes of FITS's zenithal projections about a reference pixel of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import longitude_latitude
from boresight.errors import InputError, UndeterminedError

if TYPE_CHECKING:
    from boresight.camera.model import Projection

Floats = NDArray[np.float64]

MIN_COS_FROM_CENTER = 0.05
"""Smallest cosine of the angle from the reference pixel on a tangent plane: 87 degrees."""


FITS_CODES: dict[str, str] = {
    "gnomonic": "TAN",
    "equidistant": "ARC",
    "equisolid": "ZEA",
    "stereographic": "STG",
    "orthographic": "SIN",
}
"""FITS code of each projection of a camera."""


@dataclass(frozen=True)
class Reference:
    """Projection, reference pixel (from the image centre), and radius within which pixels count."""

    projection: Projection = "gnomonic"
    center: tuple[float, float] = (0.0, 0.0)
    reach_px: float = np.inf

    @property
    def code(self) -> str:
        """FITS code of the projection."""
        if self.projection not in FITS_CODES:
            raise InputError(
                f"projection: {self.projection!r} is unknown; give one of {', '.join(FITS_CODES)}"
            )
        return FITS_CODES[self.projection]


@dataclass(frozen=True)
class Plane:
    """Projection plane about the direction of the reference pixel.

    `ra` and `dec` are in radians; the rows of `axes` are east, north and out.
    """

    ra: float
    dec: float
    axes: Floats
    about: Reference

    @classmethod
    def around(cls, pixel_to_direction: Callable[[Floats], Floats], about: Reference) -> Plane:
        """Make the plane about the direction of the reference pixel."""
        center = np.array([about.center], np.float64)
        seen = np.asarray(pixel_to_direction(center), np.float64)
        if seen.shape not in ((1, 3), (3,)):
            raise InputError(
                f"pixel_to_direction: gives an array of shape {seen.shape} for one pixel; give "
                "unit vectors of shape (n, 3)"
            )
        seen = seen.reshape(3)
        if not np.isfinite(seen).all():
            raise UndeterminedError(
                "the image centre sees no direction, so no WCS can be centred on it"
            )
        ra, dec = longitude_latitude(seen)
        sa, ca, sd, cd = np.sin(ra), np.cos(ra), np.sin(dec), np.cos(dec)
        axes = np.array([[-sa, ca, 0.0], [-sd * ca, -sd * sa, cd], [cd * ca, cd * sa, sd]])
        return cls(float(ra), float(dec), axes, about)

    def sample(
        self, pixel_to_direction: Callable[[Floats], Floats], pixels: Floats
    ) -> tuple[Floats, Floats]:
        """Pixels from the reference pixel, and their (east, north) on the plane in degrees.

        Pixels without a direction, or outside `reach_px`, are excluded.
        """
        directions = np.asarray(pixel_to_direction(pixels), np.float64)
        pixels = pixels - self.about.center
        seen = np.isfinite(directions).all(axis=1) & (np.hypot(*pixels.T) <= self.about.reach_px)
        pixels, (east, north, out) = pixels[seen], self.axes @ directions[seen].T
        lowest = {"TAN": MIN_COS_FROM_CENTER, "SIN": 0.0}.get(self.about.code, -1.0)
        if len(pixels) == 0 or out.min() < lowest:
            raise UndeterminedError(
                f"the image reaches {np.degrees(np.arccos(lowest)):.0f} degrees from its reference "
                "pixel, which is too far for this projection; make a WCS of a smaller part of it"
            )
        # FITS's zenithal projections (Calabretta & Greisen 2002, A&A 395, 1077, section 5.1).
        rho = np.hypot(east, north)
        angle = np.arctan2(rho, out)
        with np.errstate(divide="ignore", invalid="ignore"):
            stretch = {
                "TAN": 1.0 / out,
                "ARC": angle / rho,
                "ZEA": 2.0 * np.sin(angle / 2.0) / rho,
                "STG": 2.0 * np.tan(angle / 2.0) / rho,
                "SIN": np.ones_like(rho),
            }[self.about.code]
        stretch = np.where(rho > 0.0, stretch, 1.0)
        return pixels, np.degrees(np.column_stack([east * stretch, north * stretch]))
