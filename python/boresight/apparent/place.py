"""The apparent place: one value that describes how the stars of a frame are displaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils import arguments
from boresight._utils.naming import named
from boresight.apparent.aberration import earth_barycentric_velocity
from boresight.apparent.earth import site_velocity_km_s
from boresight.apparent.refraction import Refraction
from boresight.errors import InputError
from boresight.frames.times import as_time

if TYPE_CHECKING:
    from astropy.coordinates import EarthLocation

    from boresight.apparent.motion import ProperMotion

__all__ = ["ApparentPlace"]

Floats = NDArray[np.float64]


@named
@dataclass(frozen=True)
class ApparentPlace:
    """Displacement of the stars of one frame between the catalogue and the camera.

    A star is moved to the epoch of the frame (proper motion), displaced by the observer's velocity
    (aberration), and lifted by the air above a site on the ground (refraction), in this order. An
    attribute that is `None` displaces nothing. The object is immutable; it can be compared, hashed
    and pickled.

    Attributes
    ----------
    epoch : float or None
        Julian year (TDB) of the frame, to which stars of known proper motion are moved.
    velocity_km_s : tuple of float or None
        The observer's barycentric velocity along the axes of ICRS.
    refraction : Refraction or None
        Refraction at the observer's site.

    See Also
    --------
    ApparentPlace.at : makes an apparent place from a time, a velocity, a site and its weather.

    Examples
    --------
    >>> import numpy as np
    >>> from boresight import ApparentPlace
    >>> place = ApparentPlace.at("2018-08-07T12:00:00", velocity_km_s="earth")
    >>> star = np.array([[0.0, 0.0, 1.0]])
    >>> seen = place.apparent(star)
    >>> print(f"{np.degrees(np.arccos(seen[0] @ star[0])) * 3600:.1f} arcsec")
    19.4 arcsec
    >>> np.allclose(place.icrs(seen), star, rtol=0, atol=1e-15)
    True
    """

    epoch: float | None = None
    velocity_km_s: tuple[float, float, float] | None = None
    refraction: Refraction | None = None

    @classmethod
    def at(
        cls,
        time: Any = None,
        *,
        velocity_km_s: ArrayLike | Literal["earth"] | None = None,
        site: EarthLocation | None = None,
        weather: Mapping[str, float] | None = None,
    ) -> ApparentPlace:
        """Make the apparent place of a frame from its time, velocity, site and weather.

        Parameters
        ----------
        time : astropy.time.Time, datetime.datetime, str or numpy.datetime64, optional
            Middle of the exposure, in UTC unless it names its scale or time zone. Required for
            ``"earth"`` and for a site.
        velocity_km_s : array_like of shape (3,), or "earth", optional
            The observer's barycentric velocity along the axes of ICRS, km/s. "earth": the velocity
            of the site at `time`, or of the Earth's centre without a site. Default: no aberration.
        site : astropy.coordinates.EarthLocation, optional
            The place on the ground where the frame was taken. Default: no refraction.
        weather : mapping, optional
            Further arguments of `Refraction.at`: `pressure_hpa`, `temperature_c`, ...

        Returns
        -------
        ApparentPlace

        Raises
        ------
        InputError
            If an argument has the wrong type, a time is missing, or `weather` is given without a
            site.
        """
        when = None if time is None else as_time(time)
        if weather is not None and site is None:
            raise InputError("weather: of no effect without a site; give both")
        earth = isinstance(velocity_km_s, str)
        if earth and velocity_km_s != "earth":
            raise InputError(
                f"velocity_km_s: {velocity_km_s!r} is not a velocity; give three components or "
                "'earth'"
            )
        for name, needed in (("velocity_km_s", earth), ("site", site is not None)):
            if needed and when is None:
                raise InputError(f"{name}: the time is unknown; give time")
        velocity: Any = earth_barycentric_velocity(when) if earth else velocity_km_s
        if earth and site is not None:
            velocity = velocity + site_velocity_km_s(site, when)
        return cls(
            None if when is None else float(when.tdb.jyear),
            arguments.velocity_km_s("velocity_km_s", velocity),
            None if site is None else Refraction.at(site, when, **dict(weather or {})),
        )

    def apparent(self, icrs: ArrayLike, motion: ProperMotion | None = None) -> Floats:
        """Apparent directions of stars from their ICRS directions.

        Parameters
        ----------
        icrs : array_like, shape (n, 3)
            ICRS unit vectors, at `epoch` or, with `motion`, at the epoch of the motions.
        motion : ProperMotion, optional
            Proper motions of the stars.

        Returns
        -------
        ndarray, shape (n, 3)
            Unit vectors along the axes of ICRS.

        Raises
        ------
        InputError
            If the shape is not (n, 3), or `motion` is given and `epoch` is not known.
        """
        return self.core.apparent(self.moved(_rows("icrs", icrs), motion))

    def icrs(self, apparent: ArrayLike) -> Floats:
        """ICRS directions at `epoch` from apparent directions: the inverse of `apparent`.

        Parameters
        ----------
        apparent : array_like, shape (n, 3)
            Unit vectors along the axes of ICRS.

        Returns
        -------
        ndarray, shape (n, 3)

        Raises
        ------
        InputError
            If the shape is not (n, 3).
        """
        return self.core.icrs(_rows("apparent", apparent))

    def moved(self, icrs: Floats, motion: ProperMotion | None) -> Floats:
        """Move stars to `epoch` by their proper motions.

        Parameters
        ----------
        icrs : ndarray, shape (n, 3)
            ICRS unit vectors at the epoch of the motions.
        motion : ProperMotion or None
            Proper motions of the stars. None: the stars are returned unmoved.

        Returns
        -------
        ndarray, shape (n, 3)

        Raises
        ------
        InputError
            If `motion` is given and `epoch` is not known.
        """
        if motion is None:
            return icrs
        if self.epoch is None:
            raise InputError("motion: the time of the frame is unknown; make the place with a time")
        return motion.moved(icrs, self.epoch)

    @property
    def core(self) -> core.ApparentPlace:
        """The aberration and refraction of this place, as an object of the extension module."""
        air = self.refraction
        values = None if air is None else {"zenith": air.zenith, "a": air.a_rad, "b": air.b_rad}
        return core.ApparentPlace(self.velocity_km_s, values)


def _rows(name: str, directions: ArrayLike) -> Floats:
    rows = np.ascontiguousarray(directions, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != 3:
        raise InputError(f"{name}: its shape is {rows.shape}; give unit vectors of shape (n, 3)")
    return rows
