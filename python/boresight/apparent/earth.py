"""The Earth under a camera that is fixed to it: its axes at a time, and how it is carried along."""

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
    """Rotation from the axes of ICRS to the local ones (x east, y north, z up), (3, 3).

    Precession, nutation (IAU 2006/2000A) and the Earth's rotation by ERFA. Universal time comes
    from astropy's tables; beyond them it is taken for UTC, which is within 0.9 s (14 arcsec), the
    same for all frames of a night. The motion of the pole (0.3 arcsec) is left out.

    Parameters
    ----------
    site : EarthLocation
        Where.
    time : Time, datetime or str
        When.

    Raises
    ------
    InputError
        If the site is none, or the time is missing or none.
    """
    from astropy.coordinates import EarthLocation
    from astropy.utils import iers

    if time is None:
        raise InputError("time: unknown; give the middle of the exposure")
    if not isinstance(site, EarthLocation) or not site.isscalar:
        raise InputError(f"site: {site!r} is no place; give an astropy EarthLocation")
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
    """Velocity of a site about the Earth's axis, along the axes of ICRS, (3,) in km/s.

    Parameters
    ----------
    site : EarthLocation
        Where.
    time : Time, datetime or str
        When.
    """
    east = local_rotation(site, time)[0]
    axis_distance = np.hypot(site.x.to_value("km"), site.y.to_value("km"))
    return np.asarray(EARTH_SPIN * axis_distance * east)


@lru_cache(maxsize=16)
def _earth_rotation(tt1: float, tt2: float, ut1: float, ut2: float) -> Floats:
    """Rotation from the axes of ICRS to the Earth's at a time, (3, 3): frames ask for it often."""
    import erfa

    rotation = np.asarray(erfa.c2t06a(tt1, tt2, ut1, ut2, 0.0, 0.0))
    rotation.flags.writeable = False
    return rotation


def _local_axes(site: EarthLocation) -> Floats:
    """Give the unit vectors to the east, the north and the zenith in the Earth's axes, (3, 3)."""
    longitude, latitude, _ = site.geodetic
    zenith = unit_vector(float(longitude.deg), float(latitude.deg))
    return np.array([*east_north(zenith), zenith])
