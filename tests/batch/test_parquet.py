"""Parquet files: the types of columns, and what writing them imports."""

import subprocess
import sys

import numpy as np
import pytest
from astropy.table import QTable

from boresight import batch

COLUMNS = {
    "text": np.array(["", "ä", "Öl"]),
    "flag": np.array([True, False, True]),
    "number": np.arange(6)[::2],
    "swapped": np.array([1.5, np.nan, -2.0], dtype=">f8"),
    "small": np.array([1, 2, 3], dtype=np.uint8),
}

WRITES = """
import sys
import numpy as np
from astropy.table import QTable
from boresight import batch
table = QTable(dict(np.load("columns.npz")))
batch.write_parquet(table, "table.parquet")
batch.write_parquet(table, "parts", partition_by=["flag"])
assert "pandas" not in sys.modules
"""


def test_types_are_those_of_pyarrow_and_pandas_is_not_imported(tmp_path):
    pyarrow, parquet = map(pytest.importorskip, ("pyarrow", "pyarrow.parquet"))
    np.savez(tmp_path / "columns.npz", **COLUMNS)
    code = [sys.executable, "-c", WRITES]
    done = subprocess.run(code, capture_output=True, text=True, cwd=tmp_path)
    assert not done.stderr
    for file in ("table.parquet", "parts"):
        read = parquet.read_table(tmp_path / file).sort_by("number")
        assert set(read.column_names) == set(COLUMNS)
        for name in set(COLUMNS) - ({"flag"} if file == "parts" else set()):
            native = COLUMNS[name].astype(COLUMNS[name].dtype.newbyteorder("="))
            assert read[name].type == pyarrow.array(native).type
            np.testing.assert_array_equal(read[name].to_numpy(), COLUMNS[name])


def test_columns_of_no_rows(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = QTable({name: values[:0] for name, values in COLUMNS.items()})
    batch.write_parquet(table, tmp_path / "table.parquet")
    read = parquet.read_table(tmp_path / "table.parquet")
    assert read.num_rows == 0
    assert str(read.schema.field("text").type) == "string"
