"""Stellar aberration: the Earth's velocity, which displaces stars by up to 20.5 arcsec."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.naming import named
from boresight._utils.quiet import quiet
from boresight.frames.times import as_time

if TYPE_CHECKING:
    from astropy.time import Time

__all__ = ["earth_barycentric_velocity"]

SPEED_OF_LIGHT_KM_S = core.SPEED_OF_LIGHT_KM_S


@named
def earth_barycentric_velocity(
    time: Time | datetime.datetime | str | np.datetime64 | Sequence[Any] | NDArray[Any],
) -> NDArray[np.float64]:
    """Velocity of the Earth's centre with respect to the solar system's barycentre.

    Parameters
    ----------
    time : astropy.time.Time, datetime.datetime, str, numpy.datetime64, or a sequence of these
        Time or times. A datetime without a time zone, a string and a datetime64 are UTC.

    Returns
    -------
    numpy.ndarray
        Velocity in km/s along the axes of ICRS, shape (3,), or `time.shape` + (3,).

    Raises
    ------
    InputError
        If `time` cannot be read as a time; a bare number is refused because its scale is unknown.

    Notes
    -----
    The ephemeris is ERFA's ``epv00``, which is built into astropy and needs no file and no network.
    According to its authors it agrees with DE405 to 5e-6 km/s from 1900 to 2100. By the years 1000
    and 3000 the error has grown sixtyfold, to 3e-4 km/s.

    The rotation of the Earth (at most 0.46 km/s, 0.3 arcsec) and the orbital velocity of a
    satellite are not included. Add these velocities where they are known.

    Examples
    --------
    >>> from boresight import earth_barycentric_velocity
    >>> earth_barycentric_velocity("2018-08-07T12:00:00").round(3)
    array([20.693, 19.123,  8.289])
    """
    from erfa import DAU, DAYSEC, epv00

    when = as_time(time)
    with quiet:
        # ERFA warns of dates outside 1900-2100, whose error the docstring states, and of dates
        # whose leap seconds are not known yet: a minute changes the velocity by at most 4e-4 km/s.
        _, barycentric = epv00(when.tdb.jd1, when.tdb.jd2)
    return np.ascontiguousarray(barycentric["v"] * (DAU / 1e3 / DAYSEC), dtype=np.float64)
