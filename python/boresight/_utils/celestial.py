"""Sky positions of pixels by any WCS with astropy's common interface (APE 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight._utils.quiet import quiet

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord


def is_wcs(given: Any) -> bool:
    """Whether an object is a WCS, of astropy, gwcs or another package."""
    return hasattr(given, "pixel_to_world") and hasattr(given, "pixel_n_dim")


def sky_of_pixels(
    wcs: Any, columns: ArrayLike, rows: ArrayLike
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """ICRS right ascensions and declinations of 0-based pixels in degrees; None on failure.

    The WCS may have any celestial frame that astropy can convert to ICRS, and any order of its
    axes. It may have further axes, such as those of a spectral cube, which are evaluated at their
    first pixel.
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
        except Exception:  # errors of astropy, wcslib and gwcs have no common base class
            return None
    return (ra, dec) if bool(np.all(np.isfinite(ra) & np.isfinite(dec))) else None


def _is_equatorial(wcs: Any) -> bool:
    """Whether a FITS WCS gives right ascension and declination in ICRS, in this order.

    The numbers of such a WCS are used directly, which is fifty times faster than astropy's objects.
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
    """Convert astropy's coordinates of a WCS to ICRS.

    astropy treats ecliptic longitudes as equatorial ones; this is corrected here.
    """
    from astropy.coordinates import BarycentricMeanEcliptic, SkyCoord

    if getattr(getattr(wcs, "wcs", None), "lngtyp", "").strip() != "ELON":
        return sky.icrs
    equinox = wcs.wcs.equinox
    ecliptic = BarycentricMeanEcliptic(equinox=f"J{equinox if np.isfinite(equinox) else 2000.0}")
    return SkyCoord(sky.spherical.lon, sky.spherical.lat, frame=ecliptic).icrs


def _listed(world: Any) -> list[Any]:
    return list(world) if isinstance(world, list | tuple) else [world]
