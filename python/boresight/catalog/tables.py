"""Columns of star tables, found by the usual column names of catalogues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from boresight.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Usual names of each column in lower case, in order of preference: positions at the catalogue's
# own epoch before those computed for J2000, Gaia's G and Hipparcos's Hp before V.
_USUAL_NAMES = {
    "id": ("id", "ids", "source_id", "source", "hip", "hr", "star_id", "recno"),
    "ra": (
        "ra", "ra_deg", "ra_icrs", "raicrs", "rarad", "radeg", "_ra.icrs", "ramdeg", "raj2000",
        "ra_j2000", "_raj2000", "_ra", "alpha", "alpha_j2000", "right_ascension",
    ),
    "dec": (
        "dec", "dec_deg", "de_icrs", "dec_icrs", "deicrs", "derad", "decrad", "dedeg", "decdeg",
        "_de.icrs", "demdeg", "dej2000", "dec_j2000", "decj2000", "_dej2000", "_de", "de", "delta",
        "delta_j2000", "declination",
    ),
    "magnitude": (
        "magnitude", "mag", "phot_g_mean_mag", "gmag", "hpmag", "vmag", "vtmag", "v", "g",
        "johnson_mag",
    ),
    "pmra": ("pmra", "pm_ra", "pmra_mas_yr", "pm_ra_cosdec", "pmra_cosdec"),
    "pmdec": ("pmdec", "pmde", "pm_dec", "pm_de", "pmdec_mas_yr"),
    "parallax": ("parallax", "plx", "parallax_mas"),
}  # fmt: skip

#: Column names given by the user, if the user gives none.
NO_NAMES: Mapping[str, str | None] = dict.fromkeys(_USUAL_NAMES)

_EPOCH_COLUMN = "ref_epoch"
_J2000 = 2000.0


def columns(table: Any, names: Mapping[str, str | None], epoch: float | None) -> dict[str, Any]:
    """Return the arguments of `Catalog` for the stars of a table."""
    from astropy import units as u
    from astropy.table import Table

    if not isinstance(table, Table):
        table = _as_table(table)
    found = {kind: _find(table, kind, name) for kind, name in names.items()}
    degrees = {kind: _angle(table, _needed(table, found, kind), kind) for kind in ("ra", "dec")}
    magnitude = _values(table, _needed(table, found, "magnitude"), u.mag, u.mag)
    there = np.isfinite(degrees["ra"]) & np.isfinite(degrees["dec"]) & np.isfinite(magnitude)

    def optional(kind: str, unit: Any) -> NDArray[np.float64] | None:
        name = found[kind]
        return None if name is None else _values(table, name, unit, unit)[there]

    pmra, pmdec = optional("pmra", u.mas / u.yr), optional("pmdec", u.mas / u.yr)
    return {
        "ids": _ids(table, found["id"])[there],
        "ra_deg": degrees["ra"][there],
        "dec_deg": degrees["dec"][there],
        "magnitude": magnitude[there],
        "pmra_mas_yr": pmra,
        "pmdec_mas_yr": pmdec,
        "parallax_mas": optional("parallax", u.mas),
        "epoch": _epoch(table, epoch, moving=pmra is not None or pmdec is not None),
    }


def _as_table(stars: Any) -> Any:
    from astropy.table import Table

    try:
        return Table(dict(stars)) if hasattr(stars, "keys") else Table(stars)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"table: cannot be read as one ({error}); give columns of equal length"
        ) from error


def _listed(table: Any) -> str:
    return ", ".join(table.colnames) or "a column (the table has none)"


def _find(table: Any, kind: str, name: str | None) -> str | None:
    if name is not None:
        if name not in table.colnames:
            raise InputError(
                f"{kind}: the table has no column {name!r}; name one of {_listed(table)}"
            )
        return name
    by_lower_case = {column.lower(): column for column in reversed(table.colnames)}
    return next((by_lower_case[n] for n in _USUAL_NAMES[kind] if n in by_lower_case), None)


def _needed(table: Any, found: dict[str, str | None], kind: str) -> str:
    name = found[kind]
    if name is None:
        raise InputError(f"{kind}: no column has a name usual for it; name one of {_listed(table)}")
    return name


def _values(table: Any, name: str, unit: Any, default: Any) -> NDArray[np.float64]:
    """Values of a column in the given unit; masked values are NaN."""
    from astropy import units as u

    column = table[name]
    own = getattr(column, "unit", None) or default
    try:
        numbers = np.ma.filled(
            np.ma.asarray(getattr(column, "value", column), dtype=np.float64), np.nan
        )
        factor = 1.0 if own in (None, "") or u.Unit(own) == unit else u.Unit(own).to(unit)
    except (TypeError, ValueError, u.UnitConversionError) as error:
        raise InputError(
            f"{name}: values in {own} cannot be brought to {unit}; set the column's unit"
        ) from error
    return numbers * factor


def _angle(table: Any, name: str, kind: str) -> NDArray[np.float64]:
    """Right ascensions or declinations of a column, in degrees."""
    from astropy import units as u
    from astropy.coordinates import Angle

    column = table[name]
    if getattr(column, "dtype", np.dtype(float)).kind in "USO":
        missing = np.ma.getmaskarray(np.ma.asarray(column)) | (np.asarray(column).astype(str) == "")
        text = np.where(missing, "0", np.asarray(column).astype(str))
        try:
            angles = Angle(text, unit=u.hourangle if kind == "ra" else u.deg).degree
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{name}: not all is sexagesimal text; give numbers instead"
            ) from error
        return np.where(missing, np.nan, angles)
    return _values(table, name, u.deg, u.rad if "rad" in name.lower() else u.deg)


def _ids(table: Any, name: str | None) -> NDArray[np.int64]:
    if name is None:
        return np.arange(len(table))
    column = np.ma.asarray(table[name])
    if np.ma.getmaskarray(column).any() or column.dtype.kind not in "iu":
        try:
            return np.ma.filled(column, -1).astype(np.int64)
        except ValueError as error:
            raise InputError(f"id: {name} is not of whole numbers; name another column") from error
    return np.asarray(column, dtype=np.int64)


def _epoch(table: Any, epoch: float | None, *, moving: bool) -> float:
    if epoch is not None:
        return float(epoch)
    if isinstance(table.meta.get("epoch"), (int, float)):
        return float(table.meta["epoch"])
    if _EPOCH_COLUMN in table.colnames and len(table):
        years = np.unique(np.ma.compressed(np.ma.asarray(table[_EPOCH_COLUMN], dtype=np.float64)))
        if len(years) == 1:
            return float(years[0])
    if moving:
        raise InputError(
            "epoch: not known, but the stars have proper motions; give its Julian year"
        )
    return _J2000
