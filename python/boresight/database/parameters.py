"""Parameters of pattern databases, and presets of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np

from boresight._utils.arguments import check_options, degrees
from boresight._utils.naming import named
from boresight._utils.progress import Progress
from boresight.errors import InputError

__all__ = ["PRESETS", "DatabaseParameters", "GenerationOptions", "SizeEstimate"]

# Largest integer of the core, which states the ranges within it.
_MOST = 2**32 - 1


@named
@dataclass(frozen=True, kw_only=True)
class DatabaseParameters:
    """Parameters of the generation of a pattern database.

    Attributes
    ----------
    max_fov_deg : float
        Largest field of view to be solved, degrees.
    min_fov_deg : float or None
        Smallest field of view to be solved, degrees; None: equal to `max_fov_deg`.
    star_max_magnitude : float or None
        Magnitude of the faintest stars used; None: set by `verification_stars_per_fov`.
    pattern_max_error : float
        Default tolerance of a look-up: difference of the edge ratios of a pattern. At least 2e-5,
        the resolution of the stored ratios.
    lattice_field_oversampling : int
        Number of fields in the lattice over the sky, relative to the number that covers it once.
    patterns_per_lattice_field : int
        Number of patterns made from the brightest stars in each lattice field. With more, frames in
        which bright stars are missing solve more often, but the file is larger.
    verification_stars_per_fov : int
        Number of stars kept per smallest field of view: the brightest, nowhere denser.
    multiscale_step : float
        Largest ratio between successive scales of the patterns, from `min_fov_deg` to
        `max_fov_deg`.
    epoch_proper_motion_year : float or None
        Julian year to which the stars are moved; None: their catalogue's own epoch.

    Examples
    --------
    >>> DatabaseParameters(max_fov_deg=20.0).patterns_per_lattice_field
    75
    """

    max_fov_deg: float = 30.0
    min_fov_deg: float | None = None
    star_max_magnitude: float | None = None
    pattern_max_error: float = 0.001
    lattice_field_oversampling: int = 100
    patterns_per_lattice_field: int = 75
    verification_stars_per_fov: int = 150
    multiscale_step: float = 1.5
    epoch_proper_motion_year: float | None = 2025.0


class ParameterChanges(TypedDict, total=False):
    """Some of `DatabaseParameters`, by name."""

    max_fov_deg: float
    min_fov_deg: float | None
    star_max_magnitude: float | None
    pattern_max_error: float
    lattice_field_oversampling: int
    patterns_per_lattice_field: int
    verification_stars_per_fov: int
    multiscale_step: float
    epoch_proper_motion_year: float | None


class GenerationOptions(ParameterChanges, total=False):
    """Options of `SolverDatabase.generate_from_gaia` and `generate_from_stars`.

    They are described in `SolverDatabase.generate_from_hipparcos`.
    """

    progress: Progress
    cache: bool


#: Presets by name, see `SolverDatabase.preset`. If scales follow each other closely, fewer lattice
#: fields (`lattice_field_oversampling`) and fewer patterns per field than the defaults are
#: sufficient to solve the same frames.
PRESETS = {
    "default": DatabaseParameters(
        max_fov_deg=40.0,
        min_fov_deg=3.0,
        lattice_field_oversampling=30,
        patterns_per_lattice_field=50,
    ),
    "narrow": DatabaseParameters(
        max_fov_deg=4.0,
        min_fov_deg=1.0,
        lattice_field_oversampling=8,
        patterns_per_lattice_field=12,
        verification_stars_per_fov=60,
    ),
    "tracker": DatabaseParameters(
        max_fov_deg=25.0,
        min_fov_deg=8.0,
        lattice_field_oversampling=30,
        patterns_per_lattice_field=50,
        verification_stars_per_fov=60,
    ),
    "wide": DatabaseParameters(
        max_fov_deg=120.0,
        min_fov_deg=20.0,
        lattice_field_oversampling=50,
        patterns_per_lattice_field=50,
    ),
    "calibration": DatabaseParameters(
        max_fov_deg=24.0,
        min_fov_deg=8.0,
        pattern_max_error=0.003,
        lattice_field_oversampling=30,
        patterns_per_lattice_field=100,
        verification_stars_per_fov=3000,
    ),
}


def preset_parameters(name: str | None, changes: ParameterChanges) -> DatabaseParameters:
    """Return the parameters of a preset, or the defaults, with some of them changed."""
    if name is not None and name not in PRESETS:
        raise InputError(f"name: {name!r} is not a preset; give one of {', '.join(PRESETS)}")
    check_options(changes, ParameterChanges)
    start = DatabaseParameters() if name is None else PRESETS[name]
    if "max_fov_deg" in changes and "min_fov_deg" not in changes:
        start = replace(start, min_fov_deg=None)
    return replace(start, **changes)


@dataclass(frozen=True)
class SizeEstimate:
    """Estimated size of a database, see `SolverDatabase.estimate_size`.

    Attributes
    ----------
    num_stars : int
        Number of stars; exact.
    num_patterns : int
        Number of patterns, usually within 10 %.
    num_bytes : int
        Size in bytes, of the file and in memory.

    Examples
    --------
    >>> print(SizeEstimate(5832, 75543, 3_200_000))
    5832 stars, 75543 patterns, 3.2 MB
    """

    num_stars: int
    num_patterns: int
    num_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.num_stars} stars, {self.num_patterns} patterns, {self.num_bytes / 1e6:.3g} MB"
        )


def core_arguments(parameters: DatabaseParameters) -> dict[str, Any]:
    """Return the parameters for the core, with angles in radians."""

    def number(name: str) -> float:
        value = getattr(parameters, name)
        if name.endswith("_deg"):
            return degrees(name, value)
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name}: is {value!r}; give a number") from error

    def optional(name: str) -> float | None:
        return None if getattr(parameters, name) is None else number(name)

    def count(name: str) -> int:
        value = getattr(parameters, name)
        if isinstance(value, bool) or number(name) != value or not float(value).is_integer():
            raise InputError(f"{name}: is {value!r}; give a whole number")
        if not 0 <= value <= _MOST:
            usual = getattr(DatabaseParameters, name)
            raise InputError(f"{name}: {value!r} is out of range; give a number such as {usual}")
        return int(value)

    min_fov_deg = optional("min_fov_deg")
    return {
        "max_fov": float(np.radians(number("max_fov_deg"))),
        "min_fov": None if min_fov_deg is None else float(np.radians(min_fov_deg)),
        "star_max_magnitude": optional("star_max_magnitude"),
        "pattern_max_error": number("pattern_max_error"),
        "lattice_field_oversampling": count("lattice_field_oversampling"),
        "patterns_per_lattice_field": count("patterns_per_lattice_field"),
        "verification_stars_per_fov": count("verification_stars_per_fov"),
        "multiscale_step": number("multiscale_step"),
        "epoch": optional("epoch_proper_motion_year"),
    }
