"""Reads the stars of a database from their source, and makes the catalogue's key in the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boresight.catalog.catalog import Catalog
from boresight.catalog.gaia import gaia_path
from boresight.errors import InputError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable


def stars_of(catalog: object, cached: bool) -> tuple[Callable[[], Catalog], str]:
    """Return a function that reads the catalogue, and the catalogue's key in the cache."""
    if isinstance(catalog, str):
        if catalog == "hipparcos":
            return Catalog.hipparcos, "hipparcos"
        if catalog == "gaia":
            return of_gaia(None, cached)
        raise InputError(f"catalog: {catalog!r} is unknown; give 'hipparcos', 'gaia' or stars")
    return of_stars(catalog, cached)


def of_gaia(path: str | os.PathLike[str] | None, cached: bool) -> tuple[Callable[[], Catalog], str]:
    """Return a function that reads the Gaia file, and the file's key in the cache."""
    import hashlib

    file = gaia_path(path)
    key = f"gaia {hashlib.sha256(file.read_bytes()).hexdigest()}" if cached else ""
    return lambda: Catalog.gaia(file), key


def of_stars(stars: object, cached: bool) -> tuple[Callable[[], Catalog], str]:
    """Return a function that returns the given stars, and their key in the cache."""
    catalog = Catalog.from_any(stars)
    return lambda: catalog, f"stars {catalog.checksum()}" if cached else ""
