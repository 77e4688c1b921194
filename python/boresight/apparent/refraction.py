"""Refraction by the atmosphere, which lifts stars towards the zenith."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.naming import named
from boresight.apparent.earth import local_rotation
from boresight.errors import InputError

if TYPE_CHECKING:
    from astropy.coordinates import EarthLocation

__all__ = ["Refraction"]

Floats = NDArray[np.float64]

SCALE_HEIGHT_M = 8434.0
"""Height in metres over which the pressure of the standard atmosphere falls to 1/e, near ground."""

SEA_LEVEL_HPA = 1013.25

LOWEST_ALTITUDE_DEG = float(np.degrees(core.LOWEST_ALTITUDE))
"""Lowest altitude of the formula, degrees. Lower stars are refracted as if they were at this
altitude, because the formula fails at the horizon."""

ROUNDS = core.REFRACTION_ROUNDS
"""Iterations for the refracted direction of a star; each makes the error 100 times smaller."""


@named
@dataclass(frozen=True)
class Refraction:
    """Refraction at one place and time.

    A star is lifted towards the zenith by ``A tan(z) + B tan(z)**3``, where z is its refracted
    zenith distance.

    Attributes
    ----------
    zenith : tuple of float
        Unit vector to the zenith in ICRS.
    a_rad, b_rad : float
        The constants A and B, in radians.

    Notes
    -----
    ERFA (``refco``) computes the constants. Its authors compare the formula with ray tracing
    through model atmospheres: the error is 0.06 arcsec down to an altitude of 15 degrees, and 0.6
    arcsec at 10 degrees. At these altitudes the real air differs from the models by more.

    Examples
    --------
    >>> from astropy.coordinates import EarthLocation
    >>> from boresight import Refraction
    >>> site = EarthLocation.from_geodetic(11.0, 48.0, 500.0)
    >>> air = Refraction.at(site, "2024-03-01T20:00:00", temperature_c=5.0)
    >>> print(f"{206265 * air.a_rad:.1f} arcsec at 45 degrees")
    55.7 arcsec at 45 degrees
    """

    zenith: tuple[float, float, float]
    a_rad: float
    b_rad: float

    @classmethod
    def at(
        cls,
        site: EarthLocation,
        time: Any,
        *,
        pressure_hpa: float | None = None,
        temperature_c: float = 10.0,
        relative_humidity: float = 0.5,
        wavelength_um: float = 0.6,
    ) -> Refraction:
        """Compute the refraction at a site and time.

        Parameters
        ----------
        site : astropy.coordinates.EarthLocation
            The site.
        time : astropy.time.Time, datetime.datetime, str or numpy.datetime64
            The time, in UTC unless it names its scale or time zone.
        pressure_hpa : float, optional
            Air pressure at the site. Default: the standard atmosphere at the height of the site.
        temperature_c : float
            Air temperature in degrees Celsius. Default 10.
        relative_humidity : float
            Relative humidity, 0 to 1. Default 0.5. Its effect is small.
        wavelength_um : float
            Wavelength in micrometres. Default 0.6.

        Returns
        -------
        Refraction

        Raises
        ------
        InputError
            If an argument has the wrong type or is out of range.
        """
        import erfa

        x, y, z = local_rotation(site, time)[2]
        pressure = pressure_hpa
        if pressure is None:
            height = site.height.to_value("m")
            pressure = SEA_LEVEL_HPA * float(np.exp(-height / SCALE_HEIGHT_M))
        values = (pressure, temperature_c, relative_humidity, wavelength_um)
        ranges = ((0.0, 1100.0), (-100.0, 60.0), (0.0, 1.0), (0.1, 100.0))
        names = ("pressure_hpa", "temperature_c", "relative_humidity", "wavelength_um")
        for name, value, (low, high) in zip(names, values, ranges, strict=True):
            if not low <= value <= high:
                raise InputError(f"{name}: {value} is out of range; give {low} to {high}")
        a, b = erfa.refco(*(float(value) for value in values))
        return cls((float(x), float(y), float(z)), float(a), float(b))

    def refracted(self, sky: Floats) -> Floats:
        """Directions as seen through the atmosphere, from those outside it.

        Parameters
        ----------
        sky : ndarray, shape (n, 3)
            Unit vectors outside the atmosphere.

        Returns
        -------
        ndarray, shape (n, 3)
        """
        return self._core.apparent(np.ascontiguousarray(sky, dtype=np.float64))

    def unrefracted(self, seen: Floats) -> Floats:
        """Directions outside the atmosphere, from those seen through it.

        Parameters
        ----------
        seen : ndarray, shape (n, 3)
            Unit vectors as seen through the atmosphere.

        Returns
        -------
        ndarray, shape (n, 3)
        """
        return self._core.icrs(np.ascontiguousarray(seen, dtype=np.float64))

    @property
    def _core(self) -> core.ApparentPlace:
        values = {"zenith": self.zenith, "a": self.a_rad, "b": self.b_rad}
        return core.ApparentPlace(None, values)
