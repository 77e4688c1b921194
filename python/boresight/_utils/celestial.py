"""Where the pixels of an image look, by any WCS of astropy's common interface (APE 14)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord


def is_wcs(given: Any) -> bool:
    """Whether this is a WCS, of astropy, gwcs or another package."""
    return hasattr(given, "pixel_to_world") and hasattr(given, "pixel_n_dim")


def sky_of_pixels(wcs: Any, columns: ArrayLike, rows: ArrayLike) -> SkyCoord | None:
    """Positions in ICRS of 0-based array pixels; None if the WCS has none for them.

    The WCS may be of any celestial frame that astropy can turn into ICRS, with the declination
    first, or with further axes, such as those of a spectral cube, at whose first pixel it is asked.
    """
    celestial = wcs
    if hasattr(wcs, "sub") and getattr(wcs, "has_celestial", False) and wcs.pixel_n_dim > 2:
        celestial = wcs.celestial
    further = [np.zeros(np.shape(columns))] * (celestial.pixel_n_dim - 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            world = celestial.pixel_to_world(columns, rows, *further)
            sky = _icrs(celestial, next(w for w in _listed(world) if hasattr(w, "icrs")))
        except Exception:  # astropy's, wcslib's and gwcs's have no common base
            return None
    known = np.isfinite(sky.ra.deg) & np.isfinite(sky.dec.deg)
    return sky if bool(np.all(known)) else None


def _icrs(wcs: Any, sky: SkyCoord) -> SkyCoord:
    """Turn what astropy gives for a WCS into ICRS: ecliptic longitudes it takes for equatorial."""
    from astropy.coordinates import BarycentricMeanEcliptic, SkyCoord

    if getattr(getattr(wcs, "wcs", None), "lngtyp", "").strip() != "ELON":
        return sky.icrs
    equinox = wcs.wcs.equinox
    ecliptic = BarycentricMeanEcliptic(equinox=f"J{equinox if np.isfinite(equinox) else 2000.0}")
    return SkyCoord(sky.spherical.lon, sky.spherical.lat, frame=ecliptic).icrs


def _listed(world: Any) -> list[Any]:
    return list(world) if isinstance(world, list | tuple) else [world]
