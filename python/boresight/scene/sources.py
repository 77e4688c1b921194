"""Sources of a scene: given, in a table, or found."""

from __future__ import annotations

import dataclasses
import operator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.naming import named
from boresight.errors import InputError
from boresight.extraction.extract import extract_centroids
from boresight.solver.solution import Solution

if TYPE_CHECKING:
    from boresight.scene.images import Image

__all__ = ["PointSource"]

Floats = NDArray[np.float64]


@named
@dataclasses.dataclass(frozen=True)
class PointSource:
    """A star of a scene.

    Parameters
    ----------
    ra_deg, dec_deg : float
        Where it starts, ICRS.
    error_arcsec : float or (float, float), optional
        Standard error of the position along right ascension and declination, if it is known, such
        as that of a catalogue: it is a prior of the fit. 0 holds the position. Default: unknown.
    name : str, optional
        Name in the table of sources.
    pmra_mas_yr, pmdec_mas_yr : float, optional
        Proper motion in right ascension times cos(declination), and in declination, mas per Julian
        year, if it is known; it is not fitted. Images need their ``time``. Default 0.
    parallax_mas : float, optional
        Parallax, seen from the Earth, if it is known; it is not fitted. Default 0.
    epoch : float, optional
        Julian year of the position, which a proper motion needs.

    Examples
    --------
    >>> from boresight import scene
    >>> star = scene.PointSource(329.27, 13.65, error_arcsec=0.01, pmra_mas_yr=30.0, epoch=2016.0)
    >>> star.prior
    (0.01, 0.01)
    """

    ra_deg: float
    dec_deg: float
    error_arcsec: float | tuple[float, float] | None = None
    name: str | None = None
    pmra_mas_yr: float = 0.0
    pmdec_mas_yr: float = 0.0
    parallax_mas: float = 0.0
    epoch: float | None = None

    @property
    def prior(self) -> tuple[float, float] | None:
        """Standard errors along both axes, arcsec, or None."""
        if self.error_arcsec is None:
            return None
        along, up = np.broadcast_to(np.asarray(self.error_arcsec, dtype=np.float64), (2,))
        if not (np.isfinite([along, up]).all() and min(along, up) >= 0):
            raise InputError(
                f"error_arcsec: {self.error_arcsec} is no standard error; give arcsec from 0 up"
            )
        return float(along), float(up)


def sources_of(given: Any, image: Image) -> list[PointSource]:
    """Read sources as `fit` takes them; `image` is where a number of them is looked for."""
    if isinstance(given, PointSource):
        given = [given]
    if isinstance(given, list | tuple) and all(isinstance(s, PointSource) for s in given):
        sources = list(given)
    elif hasattr(given, "ra") and hasattr(given, "dec"):
        sky = given.icrs if hasattr(given, "icrs") else given
        sources = _listed(sky.ra.deg, sky.dec.deg)
    elif hasattr(given, "colnames"):
        sources = _of_table(given)
    else:
        sources = _found(given, image)
    if not sources:
        raise InputError("sources: there are none; give positions, or a number to find")
    bad = [k for k, s in enumerate(sources) if not np.isfinite([s.ra_deg, s.dec_deg]).all()]
    if bad:
        raise InputError(f"sources: the position of number {bad[0]} is not finite; leave it out")
    return sources


def _listed(ra: Any, dec: Any, errors: Any = None) -> list[PointSource]:
    ra, dec = np.atleast_1d(ra).ravel(), np.atleast_1d(dec).ravel()
    errors = [None] * len(ra) if errors is None else [float(e) for e in errors]
    return [PointSource(float(a), float(d), e) for a, d, e in zip(ra, dec, errors, strict=True)]


def _of_table(table: Any) -> list[PointSource]:
    names = {name.lower(): name for name in table.colnames}
    if "sky" in names:
        return sources_of(table[names["sky"]], None)  # type: ignore[arg-type]
    pairs = (("ra", "dec"), ("ra_deg", "dec_deg"), ("raj2000", "dej2000"))
    for ra, dec in pairs:
        if ra in names and dec in names:
            from astropy.units import Quantity

            columns = (table[names[ra]], table[names[dec]])
            degrees = [
                Quantity(c).to_value("deg") if getattr(c, "unit", None) else np.asarray(c)
                for c in columns
            ]
            errors = table[names["error_arcsec"]] if "error_arcsec" in names else None
            return _listed(degrees[0], degrees[1], errors)
    raise InputError(
        f"sources: the table has the columns {table.colnames}; give 'ra' and 'dec' in degrees, "
        "or a 'sky' of SkyCoord"
    )


def _found(given: Any, image: Image) -> list[PointSource]:
    try:
        number = operator.index(given)
    except TypeError:
        number = 0
    if number < 1:
        raise InputError(
            f"sources: {given!r} is not understood; give a SkyCoord, a Table, a list of "
            "PointSource, or a number of stars to find"
        )
    found = extract_centroids(image.data, mask=image.mask, max_centroids=number)
    if len(found.centroids) == 0:
        raise InputError("sources: no star was found in the first image; give positions")
    height, width = image.image_shape
    corner = found.centroids.xy + np.array([width / 2, height / 2])
    return _listed(*to_sky(image.wcs, corner))


def to_sky(wcs: Any, pixels: Floats) -> tuple[Floats, Floats]:
    """ICRS degrees of 0-based array pixels (n, 2)."""
    if isinstance(wcs, Solution):
        height, width = wcs.image_shape
        ra, dec = wcs.pixel_to_world(pixels[:, 0] - width / 2, pixels[:, 1] - height / 2)
        return np.asarray(ra), np.asarray(dec)
    sky = wcs.pixel_to_world(pixels[:, 0], pixels[:, 1]).icrs
    return sky.ra.deg, sky.dec.deg
