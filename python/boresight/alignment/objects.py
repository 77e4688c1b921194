"""Model of the objects in the global fit: their motions and colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import east_north, longitude_latitude
from boresight.alignment.covariance import information
from boresight.alignment.images import ImageCatalog, ImageGroup
from boresight.alignment.reference import ReferenceCatalog
from boresight.apparent.motion import RADIANS_PER_MAS, Motion, ProperMotion, earth_au, seen_from
from boresight.errors import InputError

if TYPE_CHECKING:
    from astropy.table import QTable
    from astropy.time import Time

__all__ = ["ObjectModel", "object_table"]

Floats = NDArray[np.float64]

PARAMETERS: dict[Motion, int] = {"still": 2, "proper": 4, "parallax": 5}

LOOSE_MAS = 100.0
"""Prior standard deviation of unknown proper motions per year and unknown parallaxes, in mas.

If no motions are known, a field that rotates or grows steadily looks like moving stars. This prior
selects the solution with the smallest motions.
"""

CATALOGUE_MAS = 0.1
"""Error of the proper motions per year and the parallaxes of a catalogue that gives no errors, in
mas."""


@dataclass
class ObjectModel:
    """Parameters of the objects of a global fit, and the time of each item."""

    motion: Motion = "still"
    chromatic: bool = False
    epoch: float | None = None
    years: Floats | None = None
    earth: Floats | None = None

    @classmethod
    def of(
        cls,
        items: list[ImageCatalog | ImageGroup],
        motion: Motion,
        chromatic: bool,
        epoch: float | Time | None,
    ) -> ObjectModel:
        """Read the times of the items. The epoch of positions is their mean, unless it is given."""
        start = None if epoch is None else float(getattr(epoch, "jyear", epoch))
        if motion == "still":
            return cls(motion, chromatic, start)
        from astropy.time import Time

        times = []
        for number, item in enumerate(items):
            if item.members[0].time is None:
                raise InputError(
                    f"imcat: image {number} has no time, which motion={motion!r} needs; "
                    "give ImageCatalog time"
                )
            times.append(item.members[0].time)
        years = np.array([time.jyear for time in times])
        start = float(years.mean()) if start is None else start
        earth = earth_au(Time(years, format="jyear", scale="tdb"))
        return cls(motion, chromatic, start, years - start, earth)

    @property
    def parameters(self) -> int:
        """Number of parameters of an object."""
        return PARAMETERS[self.motion]

    def moved(self, refcat: ReferenceCatalog, rows: NDArray[Any], item: int) -> Floats:
        """Return the directions of stars at the time of an item, using the catalogue's motions."""
        sky = np.asarray(refcat.sky[rows])
        if self.years is None or refcat.tracks is None:
            return sky
        track = refcat.tracks
        pmra, pmdec = track.motion[rows].T
        # Years are relative to the epoch of the positions.
        there = ProperMotion(pmra, pmdec, epoch=0.0).moved(sky, float(self.years[item]))
        if self.earth is not None and self.motion == "parallax":
            parallax = np.nan_to_num(track.parallax[rows])
            there = seen_from(there, parallax, self.earth[item])
        return there

    def factors(self, sky: Floats, item: int) -> Floats:
        """Return the displacement east and north per unit of parallax, shape (n, 2)."""
        if self.earth is None:
            return np.zeros((len(sky), 2))
        return -np.stack([axis @ self.earth[item] for axis in east_north(sky)], axis=-1)

    def priors(
        self,
        refcat: ReferenceCatalog,
        rows: NDArray[Any],
        catalogued: int,
        scale: float,
        surest: float,
    ) -> Floats:
        """Return the prior inverse covariances of the objects, (n, parameters, parameters).

        The first `catalogued` stars have the errors of the catalogue, converted to pixels. Objects
        of images have only a prior that their motions are small. `surest` is the inverse variance
        of the position of a star without error.
        """
        n, p = len(rows), self.parameters
        alone = np.zeros((n, p))
        stars = rows < catalogued
        given = refcat.weights_for(rows[stars], scale)
        places = np.full(int(stars.sum()), surest) if given is None else given
        alone[stars, :2] = np.where(np.isfinite(places), places, surest)[:, None]
        alone[:, 2:] = (scale / (LOOSE_MAS * RADIANS_PER_MAS)) ** 2
        if refcat.tracks is not None:
            track = refcat.tracks
            known = np.column_stack([track.motion[rows], track.parallax[rows]])
            known[:, :2] = known[:, :2].sum(axis=1, keepdims=True)
            known = np.isfinite(known)[:, : p - 2]
            alone[:, 2:][known] = (scale / (CATALOGUE_MAS * RADIANS_PER_MAS)) ** 2
        priors = np.zeros((n, p, p))
        priors[:, range(p), range(p)] = alone
        if refcat.covariance is not None:
            of_stars = refcat.covariance[rows[stars], :p, :p] * (RADIANS_PER_MAS / scale) ** 2
            priors[stars] = information(of_stars, alone[stars])
        return priors

    def colors(
        self, refcat: ReferenceCatalog, rows: NDArray[Any], of: NDArray[Any], measured: Floats
    ) -> Floats:
        """Return colours of detections, from the catalogue or the object's mean, minus the median.

        Unknown colours are taken as the median, 0.
        """
        if not self.chromatic:
            return np.zeros(0)
        known = np.isfinite(measured)
        sums = np.bincount(of[known], measured[known], len(rows))
        with np.errstate(invalid="ignore"):
            color = sums / np.bincount(of[known], minlength=len(rows))
        if refcat.color is not None:
            color = np.where(np.isfinite(refcat.color[rows]), refcat.color[rows], color)
        if not np.isfinite(color).any():
            raise InputError(
                "chromatic: no colours are known; give a column color in refcat or sources"
            )
        return np.asarray(np.nan_to_num(color - np.nanmedian(color))[of])


def object_table(
    model: ObjectModel,
    refcat: ReferenceCatalog,
    rows: NDArray[Any],
    counts: NDArray[Any],
    found: Floats,
    variances: Floats,
    scale: float,
) -> QTable:
    """Return a table of positions, proper motions and parallaxes of objects, with their errors."""
    from astropy import units as u
    from astropy.table import QTable

    sky = refcat.sky[rows]
    east, north = east_north(sky)
    there = sky + scale * (found[:, :1] * east + found[:, 1:2] * north)
    ra, dec = longitude_latitude(there)
    mas = scale / RADIANS_PER_MAS
    sigma = np.sqrt(variances) * mas
    table = QTable()
    table["id"] = refcat.ids[rows]
    table["ra"], table["dec"] = np.degrees(ra) % 360 * u.deg, np.degrees(dec) * u.deg
    table["ra_error"], table["dec_error"] = sigma[:, 0] * u.mas, sigma[:, 1] * u.mas
    table["num_detections"] = counts
    if model.motion == "still":
        return table
    track = refcat.tracks
    known = np.zeros((len(rows), 3))
    if track is not None:
        known = np.nan_to_num(np.column_stack([track.motion[rows], track.parallax[rows]]))
    total = known[:, : model.parameters - 2] + found[:, 2:] * mas
    for k, name in enumerate(("pmra", "pmdec", "parallax")[: total.shape[1]]):
        unit = u.mas if name == "parallax" else u.mas / u.yr
        table[name], table[f"{name}_error"] = total[:, k] * unit, sigma[:, 2 + k] * unit
    return table
