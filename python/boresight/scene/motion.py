"""Known and fitted motions of sources between the epochs of images, and colours of sources."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boresight.apparent.motion import Motion, ProperMotion, earth_au, seen_from
from boresight.errors import InputError
from boresight.scene.sources import PointSource, Source

if TYPE_CHECKING:
    from astropy.table import QTable

    from boresight.scene.images import Image

__all__ = ["MOTION_NAMES", "Motions", "add_motions", "colors_of"]

Floats = NDArray[np.float64]

#: Step of derivatives with respect to motions, mas and mas per year: large relative to rounding
#: errors, but small on any plane.
STEP_MAS = 100.0

#: Names of the parameters of a motion, in the core's order.
MOTION_NAMES = ("pmra", "pmdec", "parallax")


class Motions:
    """Given proper motions and parallaxes of sources, and which of them are fitted."""

    def __init__(self, sources: list[Source], motion: Motion, images: list[Image]) -> None:
        def column(name: str) -> Floats:
            # Galaxies have no motion.
            return np.array([float(getattr(source, name, None) or 0.0) for source in sources])

        self.sources, self.motion = sources, motion
        self.known = np.stack(
            [column(name) for name in ("pmra_mas_yr", "pmdec_mas_yr", "parallax_mas")]
        )
        self.epochs = column("epoch")
        moves = (self.known[:2] != 0).any(axis=0)
        self.any = bool((self.known != 0).any()) or motion != "still"
        if not np.isfinite([*self.known, self.epochs]).all() or (self.known[2] < 0).any():
            raise InputError(
                "sources: a proper motion, parallax or epoch is not finite, or negative; "
                "leave out what is unknown"
            )
        without = np.array([getattr(source, "epoch", None) is None for source in sources])
        if (moves & without).any():
            raise InputError(
                f"sources: number {np.flatnonzero(moves & without)[0]} has a proper motion but no "
                "epoch; give the Julian year of its position as epoch"
            )
        if self.any and without.any():
            years = [_year(image, f"image {image.name or k + 1}") for k, image in enumerate(images)]
            self.epochs[without] = float(np.mean(years))

    def at(self, directions: Floats, time: Any, name: str) -> Floats:
        """Return directions (n, 3) of sources as seen from the Earth at the time of an image."""
        return self._moved(directions, time, name, self.known)

    def _moved(self, directions: Floats, time: Any, name: str, motions: Floats) -> Floats:
        if not self.any:
            return directions
        if time is None:
            raise InputError(f"time: sources move, and {name} has none; give it to scene.Image")
        seen = directions.copy()
        for epoch in np.unique(self.epochs):
            of = self.epochs == epoch
            motion = ProperMotion(motions[0, of], motions[1, of], epoch=float(epoch))
            seen[of] = motion.moved(seen[of], float(time.tdb.jyear))
        return seen_from(seen, motions[2], earth_au(time))

    def tracks(
        self, directions: Floats, project: Callable[[Floats], Floats], time: Any, name: str
    ) -> Floats:
        """Return displacements, arcsec, per unit of each parameter, (n, 6); (0, 6) if still."""
        if self.motion == "still":
            return np.zeros((0, 6))
        columns = []
        for k in range(len(MOTION_NAMES)):
            there = []
            for step in (STEP_MAS, -STEP_MAS):
                moved = self.known.copy()
                moved[k] += step
                there.append(project(self._moved(directions, time, name, moved)))
            columns.append((there[0] - there[1]) / (2.0 * STEP_MAS))
        return np.ascontiguousarray(np.concatenate(columns, axis=1))

    def priors(self) -> list[tuple[float, float, float] | None]:
        """Return prior errors of each motion: infinite if unknown, 0 if held."""
        if self.motion == "still":
            return [None] * len(self.sources)
        return [
            self._prior(source) if isinstance(source, PointSource) else None
            for source in self.sources
        ]

    def _prior(self, source: PointSource) -> tuple[float, float, float]:
        errors = []
        for name in ("pm_error_mas_yr", "parallax_error_mas"):
            given = getattr(source, name)
            error = math.inf if given is None else float(given)
            if not error >= 0:
                raise InputError(f"{name}: {given} is not a standard error; give 0 or more")
            errors.append(error)
        return errors[0], errors[0], errors[1] if self.motion == "parallax" else 0.0


def add_motions(table: QTable, motions: Motions, fitted: Any, own: list[Floats]) -> None:
    """Add total motions (known plus fitted part) and their errors to a table of sources."""
    from astropy import units

    if motions.motion == "still":
        return
    found, errors = motions.known.copy(), np.zeros_like(motions.known)
    for k, (at, first) in enumerate(
        zip(fitted.layout["motions"], fitted.layout["sources"], strict=True)
    ):
        if at is not None:
            found[:, k] += fitted.state[at : at + 3]
            errors[:, k] = np.sqrt(own[k][at - first : at - first + 3])
    for i, name in enumerate(MOTION_NAMES[: 2 if motions.motion == "proper" else 3]):
        unit = units.mas if name == "parallax" else units.mas / units.yr
        table[name], table[f"{name}_error"] = found[i] * unit, errors[i] * unit


def _year(image: Image, name: str) -> float:
    if image.time is None:
        raise InputError(f"time: sources move, and {name} has none; give it to scene.Image")
    return float(image.time.tdb.jyear)


def colors_of(sources: list[Source], images: list[Image]) -> Floats:
    """Return colours minus their median; unknown colours are 0."""
    if not any(image.chromatic for image in images):
        return np.zeros(len(sources))
    colors = np.array([np.nan if s.color is None else float(s.color) for s in sources])
    if not np.isfinite(colors).any():
        raise InputError(
            "chromatic: no colours are known; give sources a color, or the table a column color"
        )
    colors[~np.isfinite(colors)] = np.nan
    return np.asarray(np.nan_to_num(colors - np.nanmedian(colors)))
