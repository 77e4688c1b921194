"""Where the pixels of an image look, by any WCS of astropy's common interface (APE 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight._utils.quiet import quiet

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord


def is_wcs(given: Any) -> bool:
    """Whether this is a WCS, of astropy, gwcs or another package."""
    return hasattr(given, "pixel_to_world") and hasattr(given, "pixel_n_dim")


def sky_of_pixels(
    wcs: Any, columns: ArrayLike, rows: ArrayLike
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Right ascensions and declinations of 0-based pixels, degrees in ICRS; None without them.

    The WCS may be of any celestial frame that astropy can turn into ICRS, with the declination
    first, or with further axes, such as those of a spectral cube, at whose first pixel it is asked.
    """
    celestial = wcs
    if hasattr(wcs, "sub") and getattr(wcs, "has_celestial", False) and wcs.pixel_n_dim > 2:
        celestial = wcs.celestial
    further = [np.zeros(np.shape(columns))] * (celestial.pixel_n_dim - 2)
    with quiet:
        try:
            if _is_equatorial(celestial):
                ra, dec = celestial.all_pix2world(columns, rows, 0)
            else:
                world = celestial.pixel_to_world(columns, rows, *further)
                sky = _icrs(celestial, next(w for w in _listed(world) if hasattr(w, "icrs")))
                ra, dec = sky.ra.deg, sky.dec.deg
        except Exception:  # astropy's, wcslib's and gwcs's have no common base
            return None
    return (ra, dec) if bool(np.all(np.isfinite(ra) & np.isfinite(dec))) else None


def _is_equatorial(wcs: Any) -> bool:
    """Whether a WCS of FITS gives right ascension and declination in ICRS, in this order.

    Its numbers are then taken as they are; astropy's objects for them take fifty times as long.
    """
    from astropy.coordinates import ICRS
    from astropy.wcs import WCS
    from astropy.wcs.utils import wcs_to_celestial_frame

    return (
        type(wcs) is WCS
        and wcs.naxis == 2
        and (wcs.wcs.lng, wcs.wcs.lat) == (0, 1)
        and wcs.wcs.lngtyp.strip() == "RA"
        and isinstance(wcs_to_celestial_frame(wcs), ICRS)
    )


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
