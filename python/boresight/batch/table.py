"""The result table of a batch: its columns, their units, and reading it from the journal."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from boresight._utils.naming import named
from boresight.batch.journal import FILE_NAME, Row, read_rows, read_settings

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = [
    "CALIBRATED",
    "EXTRACTED",
    "SOLVED",
    "Column",
    "read_results",
    "table_of",
]

#: Rows that are read from a journal before they are converted to arrays, to limit the memory.
ROWS_AT_ONCE = 20_000


class Column(NamedTuple):
    """A column: type, unit, UCD of the Virtual Observatory, description and print format."""

    name: str
    kind: type
    unit: str | None
    ucd: str
    description: str
    format: str | None = None


COMMON = (
    Column("path", str, None, "meta.ref.url", "path or URL of the frame"),
    Column("status", str, None, "meta.code.status", "solved, unsolved, done or error"),
    Column("reason", str, None, "meta.note", "why there is no solution"),
    Column("time", str, None, "time.epoch", "middle of the exposure (UTC, ISO 8601)"),
    Column("width", int, "pix", "meta.number", "columns of the image"),
    Column("height", int, "pix", "meta.number", "rows of the image"),
    Column("seconds", float, "s", "time.duration", "time that the frame took"),
)

SOLVED = (
    *COMMON[:2],
    Column("solved", bool, None, "meta.code", "whether the frame solved"),
    Column("ra", float, "deg", "pos.eq.ra;meta.main", "centre of the image (ICRS)", ".5f"),
    Column("dec", float, "deg", "pos.eq.dec;meta.main", "centre of the image (ICRS)", ".5f"),
    Column("roll", float, "deg", "pos.posAng", "roll angle about the boresight", ".4f"),
    Column("fov", float, "deg", "instr.fov", "horizontal field of view", ".4f"),
    Column("parity_flip", bool, None, "meta.code", "whether the image is a mirror image"),
    Column("num_matches", int, None, "meta.number", "stars matched with the catalogue"),
    Column("rmse", float, "arcsec", "stat.rmse", "RMS residual of the matches", ".3f"),
    Column("probability", float, None, "stat.probability", "that the solution is false"),
    *(Column(f"q{k}", float, None, "pos", "quaternion, ICRS to camera") for k in range(4)),
    *COMMON[2:],
)  # fmt: skip

EXTRACTED = (
    *COMMON,
    Column("num_stars", int, None, "meta.number", "detected stars"),
    Column("stars", str, None, "meta.ref.url", "file of the stars, below the output"),
    Column("fwhm", float, "pix", "phys.angSize;instr.det.psf", "median width of the stars"),
    Column("background", float, None, "phot.count;instr.background", "median background level"),
    Column("noise", float, None, "instr.det.noise", "median noise of a pixel"),
)

CALIBRATED = (
    *SOLVED,
    Column("matches", str, None, "meta.ref.url", "file of the matched stars, below the output"),
)

SCHEMAS = {"calibrate": CALIBRATED, "solve": SOLVED, "extract": EXTRACTED}

EMPTY: dict[type, Any] = {str: "", int: -1, bool: False, float: np.nan}


def columns_of(rows: Iterable[Row], schema: Sequence[Column]) -> list[np.ndarray[Any, Any]]:
    """Convert rows to arrays; missing values are "", -1, False or NaN."""
    rows = list(rows)
    columns: list[np.ndarray[Any, Any]] = []
    for column in schema:
        empty = EMPTY[column.kind]
        values = [row.get(column.name) for row in rows]
        kind = object if column.kind is str else column.kind
        columns.append(np.array([empty if v is None else v for v in values], dtype=kind))
    return columns


def table_of(path: Path, schema: Sequence[Column], order: dict[str, int] | None = None) -> QTable:
    """Make the table of all frames of a journal, or of the frames in `order`, in this order."""
    from astropy.table import Column as TableColumn
    from astropy.table import QTable

    parts: list[list[np.ndarray[Any, Any]]] = []
    places: list[int] = []
    batch: list[Row] = []

    def reduce() -> None:
        parts.append(columns_of(batch, schema))
        batch.clear()

    for row in read_rows(path):
        place = len(places) if order is None else order.get(row["path"])
        if place is not None:
            places.append(place)
            batch.append(row)
            if len(batch) == ROWS_AT_ONCE:
                reduce()
    reduce()
    sort = np.argsort(places, kind="stable")
    table = QTable()
    for k, column in enumerate(schema):
        values = np.concatenate([part[k] for part in parts])[sort]
        if column.kind is str:
            values = values.astype(str)
        described = TableColumn(values, unit=column.unit, description=column.description)
        table[column.name] = described
        table[column.name].info.meta = {"ucd": column.ucd}
        table[column.name].info.format = column.format
    return table


@named
def read_results(output: str | os.PathLike[str]) -> QTable:
    """Read the results of a batch so far, while it runs or afterwards.

    Parameters
    ----------
    output : path-like
        The output folder that was given to `boresight.batch.solve` or another batch function.

    Returns
    -------
    astropy.table.QTable
        One row per frame, in the order in which the frames were finished.

    Raises
    ------
    FileNotFoundError
        If there is no batch in the folder.
    FileFormatError
        If its journal is damaged.

    Examples
    --------
    See `boresight.batch.solve`.
    """
    path = Path(output) / FILE_NAME
    return table_of(path, SCHEMAS[read_settings(path)["command"]])
