"""Known motions of sources between the epochs of images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight.apparent.motion import ProperMotion, earth_au, seen_from
from boresight.errors import InputError
from boresight.scene.sources import Source

__all__ = ["Motions"]

Floats = NDArray[np.float64]


class Motions:
    """Proper motions and parallaxes of sources, as they are given."""

    def __init__(self, sources: list[Source]) -> None:
        def column(name: str) -> Floats:
            # Galaxies have no motion.
            values = [getattr(source, name, None) or 0.0 for source in sources]
            return np.array(values, dtype=np.float64)

        self.pmra, self.pmdec = column("pmra_mas_yr"), column("pmdec_mas_yr")
        self.parallax, self.epochs = column("parallax_mas"), column("epoch")
        moves = (self.pmra != 0) | (self.pmdec != 0)
        self.any = bool(moves.any() or (self.parallax != 0).any())
        values = np.concatenate([self.pmra, self.pmdec, self.parallax, self.epochs])
        if not np.isfinite(values).all() or (self.parallax < 0).any():
            raise InputError(
                "sources: a proper motion, parallax or epoch is not finite, or negative; "
                "leave out what is unknown"
            )
        without = [k for k in np.flatnonzero(moves) if getattr(sources[k], "epoch", None) is None]
        if without:
            raise InputError(
                f"sources: number {without[0]} has a proper motion but no epoch; "
                "give the Julian year of its position as epoch"
            )

    def at(self, directions: Floats, time: Any, name: str) -> Floats:
        """Directions (n, 3) in which sources are seen from the Earth at the time of an image."""
        if not self.any:
            return directions
        if time is None:
            raise InputError(f"time: sources move, and {name} has none; give it to scene.Image")
        seen = directions.copy()
        for epoch in np.unique(self.epochs):
            of = self.epochs == epoch
            motion = ProperMotion(self.pmra[of], self.pmdec[of], epoch=float(epoch))
            seen[of] = motion.moved(seen[of], float(time.tdb.jyear))
        return seen_from(seen, self.parallax, earth_au(time))
