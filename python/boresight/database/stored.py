"""Opens and saves a pattern database, and looks up its stars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from boresight import _core
from boresight._utils import arguments
from boresight._utils.naming import named
from boresight.catalog.catalog import Catalog
from boresight.catalog.columns import Star
from boresight.database.parameters import DatabaseParameters
from boresight.errors import FileFormatError, InputError

if TYPE_CHECKING:
    import os

    from numpy.typing import ArrayLike

__all__ = ["StoredDatabase"]


@named
class StoredDatabase:
    """Base class of `PatternDatabase`: patterns and stars of an existing database.

    The file is memory-mapped: opening takes the same time whatever its size, and processes that
    open the same file share its memory. See `PatternDatabase` for the attributes.
    """

    __slots__ = ("_core", "_path")

    def __init__(self, core: _core.Database, path: Path | None = None) -> None:
        self._core = core
        self._path = path

    @classmethod
    def load_from_file(cls, path: str | os.PathLike[str], verify: bool = False) -> Self:
        """Open a database file by memory map.

        Parameters
        ----------
        path : path-like
            The file.
        verify : bool
            Read and check every byte, which takes about 0.1 ms per MB. Otherwise only the header
            and the bounds of its parts are checked, in the same time for any size.

        Returns
        -------
        SolverDatabase

        Raises
        ------
        FileNotFoundError, IsADirectoryError, PermissionError
            If the file cannot be opened.
        FileFormatError
            If the file is damaged, of another version, or not a database.

        Examples
        --------
        >>> from boresight import SolverDatabase
        >>> import tempfile
        >>> database = SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     database.save_to_file(f"{folder}/wide.bsdb")
        ...     again = SolverDatabase.load_from_file(f"{folder}/wide.bsdb", verify=True)
        >>> again == database
        True
        """
        file = Path(path)
        try:
            database = cls(_core.Database.open(file), file.absolute())
            if verify:
                database.verify()
        except FileFormatError as error:
            raise FileFormatError(f"{file}: {error}") from None
        return database

    def save_to_file(self, path: str | os.PathLike[str]) -> None:
        """Write the database to a file, completely or not at all.

        Parameters
        ----------
        path : path-like
            The file. An existing file is replaced; programs that have it open keep the old one.

        Raises
        ------
        FileNotFoundError, IsADirectoryError, PermissionError, OSError
            If the file cannot be written.

        Examples
        --------
        >>> from boresight import SolverDatabase
        >>> database = SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0)
        >>> database.save_to_file("/tmp/no/such/folder/wide.bsdb")
        Traceback (most recent call last):
        FileNotFoundError: ...
        """
        self._core.write(Path(path))

    def verify(self) -> None:
        """Check every byte against the checksums.

        Raises
        ------
        FileFormatError
            If anything has changed since the database was made.

        Examples
        --------
        >>> from boresight import SolverDatabase
        >>> SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0).verify()
        """
        self._core.verify()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._path is not None and self._path.is_file():
            return _reopen, (type(self), str(self._path), self._core.checksum)
        return _from_bytes, (type(self), self._core.to_bytes())

    @property
    def num_stars(self) -> int:
        """Number of stars."""
        return self._core.num_stars

    @property
    def num_patterns(self) -> int:
        """Number of patterns."""
        return self._core.num_patterns

    @property
    def parameters(self) -> DatabaseParameters:
        """Parameters of generation, with the values that replaced `None`."""
        values = self._core.parameters()
        return DatabaseParameters(
            max_fov_deg=_degrees(values.pop("max_fov")),
            min_fov_deg=_degrees(values.pop("min_fov")),
            epoch_proper_motion_year=values.pop("epoch"),
            star_max_magnitude=_single(values.pop("star_max_magnitude")),
            pattern_max_error=_single(values.pop("pattern_max_error")),
            **values,
        )

    @property
    def max_fov_deg(self) -> float:
        """Largest field of view for which patterns were made, degrees."""
        return _degrees(self._core.parameters()["max_fov"])

    @property
    def min_fov_deg(self) -> float:
        """Smallest field of view for which patterns were made, degrees."""
        return _degrees(self._core.parameters()["min_fov"])

    @property
    def epoch(self) -> float:
        """Julian year of the stars' positions."""
        return float(self._core.parameters()["epoch"])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StoredDatabase):
            return NotImplemented
        ours, theirs = self._core, other._core
        return (ours.checksum, ours.num_bytes) == (theirs.checksum, theirs.num_bytes)

    def __hash__(self) -> int:
        return self._core.checksum

    def __repr__(self) -> str:
        low, high = self.min_fov_deg, self.max_fov_deg
        fields = f"{low:g} to {high:g}" if low < high else f"{high:g}"
        return (
            f"{type(self).__name__}({self.num_stars} stars, {self.num_patterns} patterns, "
            f"fields of {fields} degrees, epoch J{self.epoch})"
        )

    def get_star(self, index: int) -> Star:
        """Return a star by its number.

        Parameters
        ----------
        index : int
            0 is the brightest; negative numbers count from the faintest.

        Returns
        -------
        Star
            Its position is at the database's epoch.

        Raises
        ------
        IndexError
            If there is no star of that number.

        Examples
        --------
        >>> from boresight import SolverDatabase
        >>> SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0).get_star(1).id
        30438
        """
        row = index + self.num_stars if index < 0 else index
        if not 0 <= row < self.num_stars:
            raise IndexError(f"index: {index} is not among the {self.num_stars} stars")
        return self._stars(np.array([row]))[0]

    def get_star_by_id(self, id: int) -> Star:  # noqa: A002 - as identifiers are called everywhere
        """Return a star by its identifier.

        Parameters
        ----------
        id : int
            Identifier in the catalogue the database was made of, such as the Hipparcos number.

        Returns
        -------
        Star
            Its position is at the database's epoch.

        Raises
        ------
        KeyError
            If the database has no such star; the message names it.

        Examples
        --------
        >>> from boresight import SolverDatabase
        >>> database = SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0)
        >>> print(f"{database.get_star_by_id(91262).dec_deg:.4f}")
        38.7857
        """
        return self.get_stars_by_id(np.array([id]))[0]

    def get_stars_by_id(self, ids: ArrayLike) -> Catalog:
        """Return the stars of many identifiers.

        Parameters
        ----------
        ids : array_like of int, shape (n,)
            Identifiers in the catalogue the database was made of.

        Returns
        -------
        Catalog
            n stars in the given order, at the database's epoch, without proper motions.

        Raises
        ------
        KeyError
            If the database lacks one of them; the message names the first missing one.

        Examples
        --------
        >>> from boresight import SolverDatabase
        >>> database = SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0)
        >>> database.get_stars_by_id([32349, 91262]).ra_deg.round(3)
        array([101.283, 279.237])
        """
        wanted = np.ascontiguousarray(ids)
        if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise InputError(
                f"ids: {wanted.dtype} of shape {wanted.shape}; give a one-dimensional array of "
                "integers"
            )
        rows = self._core.rows_of_ids(wanted.astype(np.int64))
        if (rows < 0).any():
            raise KeyError(f"no star of identifier {wanted[rows < 0][0]} in this database")
        return self._stars(rows)

    def cone_search(self, ra_deg: float, dec_deg: float, radius_deg: float) -> Catalog:
        """Return the stars within a radius of a position on the sky.

        Parameters
        ----------
        ra_deg, dec_deg : float
            The position, ICRS, degrees.
        radius_deg : float
            Radius in degrees, 0 to 180.

        Returns
        -------
        Catalog
            Brightest first, at the database's epoch, without proper motions.

        Raises
        ------
        InputError
            If an argument is not finite, or the declination or the radius out of range.

        Examples
        --------
        >>> from boresight import SolverDatabase
        >>> database = SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0)
        >>> database.cone_search(83.8, -1.2, 3.0)[:3].ids  # Orion's belt
        array([26311, 26727, 25930])
        """
        return self._stars(self._core.cone(*arguments.cone(ra_deg, dec_deg, radius_deg)))

    def _stars(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Catalog:
        stars = self._core.stars(rows)
        return Catalog(
            stars.ids,
            np.degrees(stars.ra),
            np.degrees(stars.dec),
            stars.magnitude,
            epoch=self.epoch,
        )


def _degrees(radians: float) -> float:
    # The radians were converted from degrees: rounding restores the given number.
    return float(np.round(np.degrees(radians), 12))


def _single(number: float) -> float:
    # Restores a number stored in single precision: 0.005 and not 0.004999999888.
    return float(f"{number:.7g}")


def _from_bytes(kind: type[StoredDatabase], data: bytes) -> StoredDatabase:
    return kind(_core.Database.from_bytes(data))


def _reopen(kind: type[StoredDatabase], path: str, checksum: int) -> StoredDatabase:
    database = kind.load_from_file(path)
    if database._core.checksum != checksum:
        raise FileFormatError(
            f"{path}: not the database that was pickled; it has been replaced since"
        )
    return database
