"""Matched stars as tables with units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from boresight._utils.arrays import longitude_latitude

if TYPE_CHECKING:
    from astropy.table import QTable

    from boresight.solver.solution import Solution

__all__ = ["match_table"]


def match_table(solution: Solution) -> QTable:
    """Make the table that `Solution.matches` describes."""
    from astropy import units as u
    from astropy.table import QTable

    stars = solution.matched_stars
    x, y = stars.positions_px.T
    table = QTable()
    table["centroid"] = stars.centroids
    table["x"] = x * u.pix
    table["y"] = y * u.pix
    table["sky"] = _sky(np.radians(solution.pixel_to_world(x, y)))
    table["catalog_id"] = stars.catalog_ids
    table["catalog_sky"] = _sky(longitude_latitude(stars.directions))
    table["magnitude"] = stars.magnitudes
    table["residual"] = stars.residuals_arcsec * u.arcsec
    table["probability"] = stars.probability
    for name in ("x", "y", "magnitude", "residual"):
        table[name].info.format = ".3f"
    table["probability"].info.format = ".4f"
    return table


def _sky(radians: Any) -> Any:
    from astropy.coordinates import SkyCoord

    ra, dec = radians
    return SkyCoord(ra, dec, unit="rad")
