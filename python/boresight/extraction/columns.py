"""Reads star lists of other programs: the meaning of their columns and the origin of positions.

Names, origins and units are those of the programs' documentation: SEP and SExtractor (Bertin &
Arnouts 1996, Barbary 2016), photutils, IRAF's DAOPHOT tasks, Astrometry.net's lists (`axy`) and
ASTAP's (`.csv`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arguments import numbers, pixels
from boresight._utils.origins import Origin
from boresight.errors import InputError

Floats = NDArray[np.float64]


class Positions(NamedTuple):
    """A pair of columns with positions, and their origin, if it is known."""

    x: str
    y: str
    origin: Origin | None


CORNER = (
    ("x_fit", "y_fit"),
    ("x_centroid", "y_centroid"),
    ("xcentroid", "ycentroid"),
    ("x_center", "y_center"),
    ("xcenter", "ycenter"),
    ("x_peak", "y_peak"),
    ("x_init", "y_init"),
)
"""Columns of photutils, 0-based: fitted stars, detections, apertures, peaks, first guesses."""

FITS = (
    ("XPSF_IMAGE", "YPSF_IMAGE"),
    ("XWIN_IMAGE", "YWIN_IMAGE"),
    ("X_IMAGE_DBL", "Y_IMAGE_DBL"),
    ("X_IMAGE", "Y_IMAGE"),
    ("XPEAK_IMAGE", "YPEAK_IMAGE"),
    ("XCENTER", "YCENTER"),
    ("X", "Y"),
)
"""Columns of SExtractor, IRAF and Astrometry.net, 1-based, the most precise ones first."""

MARKS: tuple[tuple[frozenset[str], Origin], ...] = (
    (frozenset({"thresh", "npix", "xcpeak", "ycpeak"}), "corner"),  # SEP
    (frozenset({"hfd", "snr", "flux"}), "fits"),  # ASTAP
)
"""Further columns by which programs are known that name their positions ``x`` and ``y``."""

LIGHT = (
    "brightness",
    "flux",
    "flux_fit",
    "segment_flux",
    "kron_flux",
    "aperture_sum",
    "peak_value",
    "FLUX_PSF",
    "FLUX_AUTO",
    "FLUX_BEST",
    "FLUX_WIN",
    "FLUX_ISOCOR",
    "FLUX_ISO",
    "FLUX_APER",
    "FLUX_MAX",
    "FLUX",
    "flux_init",
)
"""Columns of a star's light; the first that a table has is taken."""

FAINTEST_MAGNITUDE = 50.0
"""Magnitudes beyond this, either way, are no measurement: SExtractor writes 99, others -99."""


@dataclass(frozen=True)
class Columns:
    """The columns of a list of stars, with the list's origin of positions, one row per star.

    Positions and brightness that are masked or missing are NaN.
    """

    values: dict[str, NDArray[Any]]
    origin: Origin | None
    source: str

    @property
    def present(self) -> NDArray[np.bool_]:
        """Mask of the stars that have a position and, if any star has one, a brightness."""
        kept: NDArray[np.bool_] = ~np.isnan(self.values["x"] + self.values["y"])
        light = self.values.get("brightness")
        if light is not None:
            known = ~np.isnan(light)
            kept = kept & known if (kept & known).any() else kept
        return kept


def read_columns(stars: Any, own: Sequence[str]) -> Columns:
    """Read a list in any form; `own` are the columns of `Centroids`, read along with x and y."""
    given, names = stars, _names(stars)
    if not names and (names := _names(getattr(stars, "data", None))):
        stars = stars.data  # of an HDU
    if names:
        return _of_table(stars, names, own)
    if isinstance(stars, Iterable) and not isinstance(stars, str | bytes | np.ndarray):
        stars = list(stars)
        if stars and all(hasattr(star, "x") and hasattr(star, "y") for star in stars):
            return _of_objects(stars)
    return _of_array(stars, type(given).__name__)


def may_hold_stars(given: Any) -> bool:
    """Whether an object is a table or a sequence, and so may be a list of stars."""
    if isinstance(given, str | bytes | bytearray | memoryview | set | frozenset):
        return False
    if _names(given) or _names(getattr(given, "data", None)) or hasattr(given, "centroids"):
        return True
    return isinstance(given, Iterable) and not hasattr(given, "read")


def _names(stars: Any) -> list[str]:
    """Names of the columns of a table, structured array or mapping; empty for anything else."""
    names = getattr(stars, "colnames", None) or getattr(
        getattr(stars, "dtype", None), "names", None
    )
    if names is None and isinstance(stars, Mapping):
        names = stars.keys()
    if names is None and hasattr(stars, "columns") and hasattr(stars, "__getitem__"):
        names = stars.columns
    return [str(name) for name in names] if names is not None else []


def _of_table(table: Any, names: list[str], own: Sequence[str]) -> Columns:
    x, y, origin = _positions(names)
    values: dict[str, Any] = {"x": _place(x, table[x]), "y": _place(y, table[y])}
    if origin is None:  # other programs use these names with other meanings
        values |= {name: table[name] for name in own if name in names and name not in values}
    brightness = _brightness(table, names)
    if brightness is not None:
        values["brightness"] = brightness
    return Columns(values, origin, f"the table's columns {x}, {y}")


def _positions(names: list[str]) -> Positions:
    """Find the columns with positions, and their origin, if it is known."""
    if {"x", "y"} <= set(names):
        marked = (origin for marks, origin in MARKS if marks <= set(names))
        return Positions("x", "y", next(marked, None))
    upper = {name.upper(): name for name in names if name.upper().endswith("_IMAGE")}
    there = {name: name for name in names} | upper
    for x, y in CORNER + FITS:
        if x in there and y in there:
            return Positions(there[x], there[y], "corner" if (x, y) in CORNER else "fits")
    raise InputError(
        f"centroids: the table has columns {', '.join(names)}; it needs x and y, or those of "
        "a known program, such as x_centroid and y_centroid or XWIN_IMAGE and YWIN_IMAGE"
    )


def _brightness(table: Any, names: list[str]) -> Floats | None:
    """Brightness of the stars, from a column of fluxes or of magnitudes."""
    upper = {name.upper(): name for name in names if name.upper().startswith("FLUX_")}
    for name in LIGHT:
        if name in names or name in upper:
            column = table[name if name in names else upper[name]]
            measured = light(column) if _in_magnitudes(column) else numbers(name, column)
            return measured[:, 0] if measured.ndim == 2 else measured  # the first aperture
    magnitudes = [name for name in names if _is_magnitude(name)]
    return light(table[magnitudes[0]]) if magnitudes else None


def _is_magnitude(name: str) -> bool:
    """Whether a column, such as mag, MAG_AUTO or daofind_mag, holds magnitudes, not errors."""
    lower = name.lower()
    words = lower.replace("-", "_").split("_")
    error = "err" in lower or words[0] in ("e", "sigma", "sig", "d") or words[-1] == "e"
    return not error and (words[0] in ("mag", "magnitude") or lower.endswith(("mag", "magnitude")))


def _in_magnitudes(column: Any) -> bool:
    return "mag" in str(getattr(column, "unit", None) or "")


def light(magnitudes: Any) -> Floats:
    """Convert magnitudes to brightness, with magnitude 0 as 1; NaN for missing magnitudes."""
    values = numbers("magnitude", magnitudes)
    values = np.where(np.abs(values) < FAINTEST_MAGNITUDE, values, np.nan)
    return np.asarray(10.0 ** (-0.4 * values), dtype=np.float64)


def _of_objects(stars: Sequence[Any]) -> Columns:
    """Columns of objects with `x`, `y` and perhaps `brightness`."""
    values = {name: _place(name, [getattr(star, name) for star in stars]) for name in ("x", "y")}
    if all(getattr(star, "brightness", None) is not None for star in stars):
        values["brightness"] = numbers("brightness", [star.brightness for star in stars])
    return Columns(values, None, "the stars' x and y")


def _of_array(stars: Any, kind: str) -> Columns:
    """Columns of rows x, y[, brightness]."""
    try:
        array = numbers("centroids", pixels("centroids", stars))
    except InputError as error:
        if "not an array" not in str(error):
            raise
        raise InputError(
            f"centroids: {kind} holds no positions; "
            "give Centroids, objects with x and y, "
            "an array of shape (n, 2) or (n, 3), or a table with columns x and y"
        ) from None
    if array.size == 0 and array.ndim <= 2:
        array = array.reshape(0, 3)
    if array.ndim != 2 or array.shape[1] not in (2, 3):
        raise InputError(
            f"centroids: its shape is {array.shape}; "
            "give (n, 2) or (n, 3) with columns x, y[, brightness]"
        )
    names = ("x", "y", "brightness")[: array.shape[1]]
    return Columns(dict(zip(names, array.T, strict=True)), None, "the array's columns x, y")


def _place(name: str, values: Any) -> Floats:
    """Return positions in pixels; other units are refused."""
    return numbers(name, pixels(name, values))
