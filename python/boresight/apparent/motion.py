"""Proper motion: positions of stars at an epoch other than that of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.arrays import longitude_latitude
from boresight._utils.naming import named

__all__ = ["Motion", "ProperMotion", "earth_au", "seen_from"]

if TYPE_CHECKING:
    from astropy.time import Time

Floats = NDArray[np.float64]

Motion = Literal["still", "proper", "parallax"]
"""Fitted parameters of a star: "still": position; "proper": also proper motion; "parallax": also
parallax."""

RADIANS_PER_MAS = np.pi / 648_000_000


@named
@dataclass(frozen=True, eq=False)
class ProperMotion:
    """Proper motions of stars, and the epoch of their positions.

    Attributes
    ----------
    pmra_mas_yr, pmdec_mas_yr : ndarray, shape (n,)
        Proper motion in right ascension times cos(declination), and in declination, mas per Julian
        year. NaN: unknown; the star is not moved.
    epoch : float
        Epoch of the positions that belong to the motions, Julian year.

    Examples
    --------
    >>> import numpy as np
    >>> from boresight.apparent import ProperMotion
    >>> motion = ProperMotion(np.array([0.0]), np.array([10_000.0]), epoch=2000.0)
    >>> moved = motion.moved(np.array([[1.0, 0.0, 0.0]]), 2010.0)
    >>> print(f"{np.degrees(moved[0, 2]) * 3600:.2f} arcsec")
    100.00 arcsec
    """

    pmra_mas_yr: Floats
    pmdec_mas_yr: Floats
    epoch: float

    def moved(self, directions: Floats, epoch: float) -> Floats:
        """Directions of the stars at another epoch.

        The stars move uniformly on straight lines in space. The change of distance (parallax,
        radial velocity) is neglected: an error below 1 mas in 50 years except for the very nearest
        stars.

        Parameters
        ----------
        directions : ndarray, shape (n, 3)
            ICRS unit vectors at the epoch of the motions.
        epoch : float
            The new epoch, Julian year.

        Returns
        -------
        ndarray, shape (n, 3)
        """
        ra, dec = longitude_latitude(directions)
        stars: dict[str, Any] = {
            "ra": ra,
            "dec": dec,
            "pm_ra": self.pmra_mas_yr * RADIANS_PER_MAS,
            "pm_dec": self.pmdec_mas_yr * RADIANS_PER_MAS,
        }
        return core.moved(stars, float(epoch) - self.epoch)


def earth_au(time: Time) -> Floats:
    """Barycentric position of the Earth along the axes of ICRS, au, shape (3,) or (n, 3)."""
    from astropy.coordinates import get_body_barycentric

    return np.asarray(get_body_barycentric("earth", time).xyz.to_value("au").T)


def seen_from(directions: Floats, parallax_mas: Floats, place_au: Floats) -> Floats:
    """Directions (n, 3) of stars as seen from a place other than the barycentre.

    A star of parallax 0 keeps its direction.
    """
    seen = directions - (parallax_mas * RADIANS_PER_MAS)[:, None] * place_au
    return np.asarray(seen / np.linalg.norm(seen, axis=1, keepdims=True))
