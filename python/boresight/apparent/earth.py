"""Rotation of the Earth: the local axes at a site and a time, and the velocity of the site."""

from __future__ import annotations

import contextlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import east_north, unit_vector
from boresight._utils.quiet import quiet
from boresight.errors import InputError
from boresight.frames.times import as_time

if TYPE_CHECKING:
    from astropy.coordinates import EarthLocation

__all__ = ["local_rotation", "site_velocity_km_s"]

Floats = NDArray[np.float64]

EARTH_SPIN = 7.292115e-5
"""Rotation of the Earth, radians per second."""


def local_rotation(site: EarthLocation, time: Any) -> Floats:
    """Rotation matrix from ICRS to the local axes of a site (x east, y north, z up), (3, 3).

    ERFA computes precession and nutation (IAU 2006/2000A) and the Earth's rotation. Universal time
    UT1 comes from astropy's tables. Outside their dates UTC is used instead; the difference is at
    most 0.9 s (14 arcsec) and equal for all frames of a night. Polar motion (0.3 arcsec) is
    neglected.

    Parameters
    ----------
    site : EarthLocation
        The site.
    time : Time, datetime or str
        The time.

    Raises
    ------
    InputError
        If `site` is not one EarthLocation, or `time` is missing or cannot be read as a time.
    """
    from astropy.coordinates import EarthLocation
    from astropy.utils import iers

    if time is None:
        raise InputError("time: unknown; give the middle of the exposure")
    if not isinstance(site, EarthLocation) or not site.isscalar:
        raise InputError(f"site: {site!r} is not a location; give an astropy EarthLocation")
    when = as_time(time)
    offline = {"auto_download": False, "auto_max_age": None}
    with quiet, contextlib.ExitStack() as stack:
        for name, value in offline.items():
            stack.enter_context(iers.conf.set_temp(name, value))
        tt = when.tt
        try:
            ut1 = when.ut1
        except (iers.IERSRangeError, IndexError):
            ut1 = when.utc
        days = [float(day) for day in (tt.jd1, tt.jd2, ut1.jd1, ut1.jd2)]
    return np.asarray(_local_axes(site) @ _earth_rotation(*days), np.float64)


def site_velocity_km_s(site: EarthLocation, time: Any) -> Floats:
    """Velocity of a site by the Earth's rotation, along the axes of ICRS, (3,) in km/s.

    Parameters
    ----------
    site : EarthLocation
        The site.
    time : Time, datetime or str
        The time.
    """
    east = local_rotation(site, time)[0]
    axis_distance = np.hypot(site.x.to_value("km"), site.y.to_value("km"))
    return np.asarray(EARTH_SPIN * axis_distance * east)


@lru_cache(maxsize=16)
def _earth_rotation(tt1: float, tt2: float, ut1: float, ut2: float) -> Floats:
    """Rotation matrix from ICRS to the Earth's axes, (3, 3). Cached: each frame needs it often."""
    import erfa

    rotation = np.asarray(erfa.c2t06a(tt1, tt2, ut1, ut2, 0.0, 0.0))
    rotation.flags.writeable = False
    return rotation


def _local_axes(site: EarthLocation) -> Floats:
    """Return unit vectors to the east, the north and the zenith along the Earth's axes, (3, 3)."""
    longitude, latitude, _ = site.geodetic
    zenith = unit_vector(float(longitude.deg), float(latitude.deg))
    return np.array([*east_north(zenith), zenith])
