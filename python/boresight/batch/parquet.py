"""Writing tables to Parquet: one file, or folders by the values of some columns."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from boresight._utils.files import write_atomically
from boresight._utils.naming import named
from boresight.errors import InputError

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["write_parquet"]

#: Name of the file in each folder, and name of the file with the fields of all columns.
PART_NAME, FIELDS_NAME = "part-0.parquet", "_common_metadata"

#: Folder name for rows without a value: pyarrow cannot combine Hive's null with other values.
NO_VALUE = "unknown"

#: Largest number of folders: more small files would be slower to read than one file.
MOST_FOLDERS = 10_000


@named
def write_parquet(
    table: QTable, path: str | os.PathLike[str], *, partition_by: Sequence[str] = ()
) -> None:
    """Write a table to Parquet, atomically; units, UCDs and descriptions are kept.

    Parameters
    ----------
    table : astropy.table.QTable
        The table, such as `boresight.batch.solve` returns.
    path : path-like
        File to create or replace. The unit, UCD and description of each column are in the metadata
        of its Arrow field.
    partition_by : sequence of str, optional
        Columns of strings, whole numbers or booleans. If given, `path` is a folder with one
        subfolder for each value of these columns, such as ``status=solved/part-0.parquet``, in the
        form that Hive, Spark, Dask and pyarrow read. ``"date"`` is the day of the column ``time``.
        The fields of all columns are in the file ``_common_metadata``. Files of an earlier table
        for values that no longer occur are removed.

    Raises
    ------
    InputError
        If pyarrow is not installed, or a column cannot be used to partition the table.
    OSError
        If `path` cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import pyarrow.parquet
    >>> from astropy.table import QTable
    >>> from boresight import batch
    >>> table = QTable({"status": ["solved", "error"], "ra": [10.0, float("nan")]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     batch.write_parquet(table, f"{folder}/results", partition_by=["status"])
    ...     rows = pyarrow.parquet.read_table(
    ...         f"{folder}/results", filters=[("status", "=", "solved")]
    ...     )
    >>> rows["ra"].to_pylist()
    [10.0]
    """
    whole = _to_arrow(table)
    if not partition_by:
        write_atomically(path, _bytes_of(whole))
        return
    folder, written = Path(path), set()
    rest, keys, fields = _parted(whole, partition_by)
    for names, rows in _groups(partition_by, keys):
        file = folder.joinpath(*names, PART_NAME)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, _bytes_of(rest.take(_array(np.array(rows)))))
        written.add(file)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FIELDS_NAME, _bytes_of(fields))
    _remove_others(folder, written)


def _to_arrow(table: QTable) -> Any:
    """Convert to a table of pyarrow, with unit, UCD and description in the fields' metadata."""
    try:
        import pyarrow as pa
    except ImportError:
        raise InputError(
            "path: Parquet files need the package pyarrow; install boresight[batch]"
        ) from None
    fields, arrays = [], []
    for name in table.colnames:
        column = table[name]
        array = _array(np.asarray(getattr(column, "value", column)))
        meta = {
            "unit": str(column.unit) if column.unit is not None else "",
            "ucd": (column.info.meta or {}).get("ucd", ""),
            "description": column.info.description or "",
        }
        fields.append(pa.field(name, array.type, metadata={k: v for k, v in meta.items() if v}))
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _array(values: NDArray[Any]) -> Any:
    """Convert to an array of pyarrow, directly from buffers for plain types.

    `pyarrow.array` is avoided because it imports pandas.
    """
    import pyarrow as pa

    if values.ndim == 1 and values.dtype.kind == "U":
        texts = [text.encode() for text in values.tolist()]
        ends = np.cumsum([0, *map(len, texts)])
        if ends[-1] <= np.iinfo(np.int32).max:
            parts = [pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(texts))]
            return pa.Array.from_buffers(pa.string(), len(texts), [None, *parts])
    elif values.ndim == 1 and values.dtype.kind in "biuf":
        plain = np.packbits(values, bitorder="little") if values.dtype.kind == "b" else values
        plain = np.ascontiguousarray(plain, dtype=plain.dtype.newbyteorder("="))
        kind = pa.from_numpy_dtype(values.dtype.newbyteorder("="))
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(plain)])
    return pa.array(values.tolist() if values.dtype.kind == "U" else values)


def _bytes_of(table: Any) -> bytes:
    import pyarrow.parquet as pq

    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


def _parted(whole: Any, partition_by: Sequence[str]) -> tuple[Any, list[list[Any]], Any]:
    """Split a table for partitioning by some columns.

    Returns the table without these columns, the values of these columns, and an empty table that
    has all fields.
    """
    import pyarrow as pa

    if isinstance(partition_by, str):
        raise InputError(f"partition_by: {partition_by!r} is one name; give a list of names")
    if "date" in partition_by and "date" not in whole.column_names and "time" in whole.column_names:
        times = whole["time"].to_pylist()
        days = _array(np.array([(time or "")[:10] for time in times], dtype="U10"))
        field = pa.field("date", pa.string(), metadata={"description": "day of the exposure (UTC)"})
        whole = whole.append_column(field, days)
    keys = []
    for name in partition_by:
        if name not in whole.column_names:
            raise InputError(
                f"partition_by: no such column {name!r}; give some of "
                f"{', '.join(whole.column_names)}"
            )
        kind = whole.schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
            raise InputError(
                f"partition_by: {name!r} has numbers that are not whole; give columns of strings, "
                "whole numbers or booleans"
            )
        keys.append(whole[name].to_pylist())
    rest = whole.drop_columns(list(partition_by))
    return rest, keys, whole.slice(0, 0)


def _groups(
    partition_by: Sequence[str], keys: list[list[Any]]
) -> Iterator[tuple[list[str], list[int]]]:
    """Yield the path components of each folder and the rows of its file."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row, values in enumerate(zip(*keys, strict=True)):
        groups.setdefault(values, []).append(row)
    if len(groups) > MOST_FOLDERS:
        raise InputError(
            f"partition_by: {', '.join(partition_by)} would make {len(groups)} folders; give "
            f"columns with at most {MOST_FOLDERS} values"
        )
    for values, rows in groups.items():
        pairs = zip(partition_by, values, strict=True)
        yield [f"{quote(name)}={_folder_value(value)}" for name, value in pairs], rows


def _folder_value(value: Any) -> str:
    if value is None or value == "":
        return NO_VALUE
    return str(value).lower() if isinstance(value, bool) else quote(str(value), safe="")


def _remove_others(folder: Path, written: set[Path]) -> None:
    """Remove files of an earlier table that were not written now, and folders left empty."""
    for file in sorted(folder.rglob(PART_NAME)):
        if file not in written and "=" in file.parent.name:
            file.unlink()
            for parent in file.parents:
                if parent == folder or any(parent.iterdir()):
                    break
                parent.rmdir()
