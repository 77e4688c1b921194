"""The columns of a star catalogue, and the methods that select stars from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, overload

import numpy as np

from boresight._core import Catalog as CoreCatalog
from boresight._utils import arguments
from boresight._utils.naming import named
from boresight.apparent.motion import RADIANS_PER_MAS, ProperMotion
from boresight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from astropy.table import QTable
    from astropy.time import Time
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Star", "StarColumns"]

# Name of each angle in the core, and the size of its unit in radians.
_UNITS = {
    "ra_deg": ("ra", np.pi / 180),
    "dec_deg": ("dec", np.pi / 180),
    "pmra_mas_yr": ("pm_ra", RADIANS_PER_MAS),
    "pmdec_mas_yr": ("pm_dec", RADIANS_PER_MAS),
    "parallax_mas": ("parallax", RADIANS_PER_MAS),
}


Stars = TypeVar("Stars", bound="StarColumns")


class Star(NamedTuple):
    """One star of a catalogue or database.

    Attributes
    ----------
    id : int
        Identifier in the catalogue, such as the Hipparcos number.
    ra_deg, dec_deg : float
        ICRS right ascension and declination in degrees, at the epoch of the catalogue or database.
    magnitude : float
        Magnitude in the catalogue's band.

    Examples
    --------
    >>> from boresight import Catalog
    >>> Catalog.hipparcos().get(91262)
    Star(id=91262, ra_deg=279.23410..., dec_deg=38.78299..., magnitude=0.08...)
    """

    id: int
    ra_deg: float
    dec_deg: float
    magnitude: float


@named
class StarColumns:
    """Base class of `Catalog`, which documents the columns."""

    __slots__ = (
        "_by_id",
        "_core",
        "dec_deg",
        "epoch",
        "ids",
        "magnitude",
        "parallax_mas",
        "pmdec_mas_yr",
        "pmra_mas_yr",
        "ra_deg",
    )

    _core: CoreCatalog
    _by_id: NDArray[np.intp]
    ids: NDArray[np.int64]
    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    pmra_mas_yr: NDArray[np.float64]
    pmdec_mas_yr: NDArray[np.float64]
    parallax_mas: NDArray[np.float64]
    magnitude: NDArray[np.float32]
    epoch: float

    def __init__(
        self,
        ids: ArrayLike,
        ra_deg: ArrayLike,
        dec_deg: ArrayLike,
        magnitude: ArrayLike,
        *,
        pmra_mas_yr: ArrayLike | None = None,
        pmdec_mas_yr: ArrayLike | None = None,
        parallax_mas: ArrayLike | None = None,
        epoch: float = 2000.0,
    ) -> None:
        number = _column("ids", ids, np.int64)

        def optional(name: str, values: ArrayLike | None) -> NDArray[np.float64]:
            unknown = np.full(len(number), np.nan)
            return unknown if values is None else _column(name, values, np.float64)

        columns = {
            "ids": number,
            "ra_deg": _column("ra_deg", arguments.angles("ra_deg", ra_deg), np.float64),
            "dec_deg": _column("dec_deg", arguments.angles("dec_deg", dec_deg), np.float64),
            "pmra_mas_yr": optional("pmra_mas_yr", pmra_mas_yr),
            "pmdec_mas_yr": optional("pmdec_mas_yr", pmdec_mas_yr),
            "parallax_mas": optional("parallax_mas", parallax_mas),
            "magnitude": _column("magnitude", magnitude, np.float32),
        }
        radians = {theirs: columns[name] * unit for name, (theirs, unit) in _UNITS.items()}
        given = {"ids": number, "magnitude": columns["magnitude"], **radians}
        self._fill(CoreCatalog(given, float(epoch)), columns)

    @classmethod
    def _from_core(cls, core: CoreCatalog) -> Self:
        given = core.columns()
        columns = {"ids": given["ids"], "magnitude": given["magnitude"]}
        columns |= {name: given[theirs] / unit for name, (theirs, unit) in _UNITS.items()}
        catalog = cls.__new__(cls)
        catalog._fill(core, columns)
        return catalog

    def _fill(self, core: CoreCatalog, columns: dict[str, NDArray[Any]]) -> None:
        for name, column in columns.items():
            view = column.view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)
        object.__setattr__(self, "_core", core)
        object.__setattr__(self, "epoch", core.epoch)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a catalogue does not change; make a new one to set {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a catalogue does not change; {name} stays")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._columns(), self.epoch)

    def _order(self) -> NDArray[np.intp]:
        """Row numbers by ascending identifier; sorted at the first call."""
        if not hasattr(self, "_by_id"):
            object.__setattr__(self, "_by_id", np.argsort(self.ids, kind="stable"))
        return self._by_id

    def _columns(self) -> dict[str, NDArray[Any]]:
        names = ("ids", "ra_deg", "dec_deg", "magnitude", "pmra_mas_yr", "pmdec_mas_yr")
        return {name: getattr(self, name) for name in (*names, "parallax_mas")}

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> Star: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> Self: ...

    def __getitem__(self, index: Any) -> Star | Self:
        if isinstance(index, (int, np.integer)):
            return Star(
                int(self.ids[index]),
                float(self.ra_deg[index]),
                float(self.dec_deg[index]),
                float(self.magnitude[index]),
            )
        return _rebuild(
            type(self),
            {name: column[index] for name, column in self._columns().items()},
            self.epoch,
        )

    def __iter__(self) -> Iterator[Star]:
        columns = (self.ids, self.ra_deg, self.dec_deg, self.magnitude)
        return map(Star, *(column.tolist() for column in columns))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StarColumns):
            return NotImplemented
        ours, theirs = self._columns().values(), other._columns().values()
        return self.epoch == other.epoch and all(
            np.array_equal(a, b, equal_nan=True) for a, b in zip(ours, theirs, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        stars = f"{len(self)} stars, epoch J{self.epoch}"
        if len(self):
            stars += f", magnitude {self.magnitude.min():.2f} to {self.magnitude.max():.2f}"
        return f"{type(self).__name__}({stars})"

    @overload
    def get(self, ids: int | np.integer[Any]) -> Star: ...

    @overload
    def get(self, ids: Sequence[int] | NDArray[Any]) -> Self: ...

    def get(self, ids: int | ArrayLike) -> Star | Self:
        """Return the stars of given identifiers.

        Parameters
        ----------
        ids : int or array_like of int, shape (n,)
            One identifier or several.

        Returns
        -------
        Star or Catalog
            A `Star` for one identifier; for an array, a `Catalog` of n stars in the order of the
            array. If several stars have the same identifier, the first is returned.

        Raises
        ------
        KeyError
            If an identifier is not in the catalogue; the message names it.

        Examples
        --------
        >>> from boresight import Catalog
        >>> stars = Catalog.hipparcos()
        >>> stars.get([32349, 91262]).magnitude.round(2)
        array([-1.1 ,  0.08], dtype=float32)
        """
        wanted = np.atleast_1d(np.asarray(ids))
        order = self._order()
        place = np.searchsorted(self.ids, wanted, sorter=order)
        rows = (
            order[np.minimum(place, max(len(order) - 1, 0))] if len(order) else np.zeros_like(place)
        )
        missing = wanted[self.ids[rows] != wanted] if len(order) else wanted
        if missing.size:
            raise KeyError(f"no star of identifier {missing[0]} in this catalogue")
        return self[int(rows[0])] if np.ndim(ids) == 0 else self[rows]

    def at_epoch(self, year: float | Time) -> Self:
        """Return the catalogue with its stars moved to another epoch.

        Stars move uniformly on straight lines in space. The change of distance (parallax, radial
        velocity) is neglected: an error below 1 mas in 50 years except for the very nearest stars.
        Stars without proper motion are not moved.

        Parameters
        ----------
        year : float or astropy.time.Time
            Julian year, such as 2026.5.

        Returns
        -------
        Catalog

        Examples
        --------
        >>> from boresight import Catalog
        >>> barnard = Catalog.hipparcos().get([87937])  # 10 arcsec a year
        >>> moved = barnard.at_epoch(2026.25)
        >>> print(f"{3600 * (moved.dec_deg - barnard.dec_deg)[0]:.1f}")
        361.5
        """
        julian_year = float(getattr(year, "jyear", year))
        if not np.isfinite(julian_year):
            raise InputError(f"year: is {julian_year}; give a Julian year, such as 2026.5")
        return self._from_core(self._core.at_epoch(julian_year))

    @property
    def proper_motion(self) -> ProperMotion:
        """Proper motions of the stars, with the epoch of the positions."""
        return ProperMotion(self.pmra_mas_yr, self.pmdec_mas_yr, self.epoch)

    def cone_search(self, ra_deg: float, dec_deg: float, radius_deg: float) -> Self:
        """Return the stars within a radius of a sky position.

        Parameters
        ----------
        ra_deg, dec_deg : float
            Centre of the cone, ICRS, degrees.
        radius_deg : float
            Radius in degrees, 0 to 180.

        Returns
        -------
        Catalog
            The stars in the order of this catalogue.

        Raises
        ------
        InputError
            If an argument is not finite, or the declination or the radius is out of range.

        Examples
        --------
        >>> from boresight import Catalog
        >>> Catalog.hipparcos().cone_search(56.75, 24.12, 1.0)[:3].ids  # the Pleiades
        array([17702, 17847, 17499])
        """
        cone = arguments.cone(ra_deg, dec_deg, radius_deg)
        return self[self._core.cone(*cone)]

    def match(self, others: StarColumns, radius_arcsec: float) -> NDArray[np.int64]:
        """Find for every star the nearest star of another catalogue.

        Positions are compared without moving them: bring both catalogues to one epoch first.

        Parameters
        ----------
        others : Catalog
            The catalogue to search.
        radius_arcsec : float
            Largest distance, arcsec.

        Returns
        -------
        ndarray of int64, shape (n,)
            Row in `others` for every star of this catalogue; -1 if no star is within the radius.

        Examples
        --------
        >>> from boresight import Catalog
        >>> stars = Catalog.hipparcos()
        >>> stars[5:8].match(stars, 1.0)
        array([5, 6, 7])
        """
        if not radius_arcsec >= 0:
            raise InputError(f"radius_arcsec: is {radius_arcsec}; give a distance of 0 or more")
        return self._core.cross_match(others._core, float(radius_arcsec) * 1000 * RADIANS_PER_MAS)

    def table(self) -> QTable:
        """Return the stars as an astropy table with units and the epoch in `meta`.

        Returns
        -------
        astropy.table.QTable
            Columns `id`, `ra`, `dec`, `pmra`, `pmdec`, `parallax`, `mag`.

        Examples
        --------
        >>> from boresight import Catalog
        >>> table = Catalog.hipparcos()[:2].table()
        >>> print(table["ra"].unit, table["pmra"].unit, table.meta["epoch"])
        deg mas / yr 1991.25
        """
        from astropy import units as u
        from astropy.table import QTable

        columns = {
            "id": self.ids,
            "ra": self.ra_deg * u.deg,
            "dec": self.dec_deg * u.deg,
            "pmra": self.pmra_mas_yr * (u.mas / u.yr),
            "pmdec": self.pmdec_mas_yr * (u.mas / u.yr),
            "parallax": self.parallax_mas * u.mas,
            "mag": self.magnitude * u.mag,
        }
        return QTable(columns, meta={"epoch": self.epoch})

    def checksum(self) -> str:
        """Return a SHA-256 digest of the columns and the epoch, which identifies the catalogue.

        Returns
        -------
        str
            Hexadecimal digits.

        Examples
        --------
        >>> from boresight import Catalog
        >>> stars = Catalog.hipparcos()
        >>> stars.checksum() == stars[:].checksum() != stars[1:].checksum()
        True
        """
        import hashlib

        digest = hashlib.sha256(repr(self.epoch).encode())
        for column in self._columns().values():
            digest.update(column.tobytes())
        return digest.hexdigest()


def _rebuild(kind: type[Stars], columns: dict[str, NDArray[Any]], epoch: float) -> Stars:
    return kind(**columns, epoch=epoch)


def _column(name: str, values: ArrayLike, dtype: type) -> NDArray[Any]:
    if dtype is not np.int64:
        values = arguments.numbers(name, values, "give a one-dimensional array of them")
    try:
        given = np.asarray(values)
        if dtype is np.int64 and given.dtype.kind not in "iu" and given.size:
            whole = given.astype(np.int64)
            if not np.array_equal(whole, given):
                raise ValueError
            given = whole
        column: NDArray[Any] = np.array(given, dtype=dtype, order="C")
    except (TypeError, ValueError, OverflowError) as error:
        kind = "whole numbers" if dtype is np.int64 else "numbers"
        raise InputError(
            f"{name}: not all are {kind}; give a one-dimensional array of them"
        ) from error
    if column.ndim != 1:
        raise InputError(f"{name}: its shape is {column.shape}; give a one-dimensional array")
    return column
