"""The arguments of `align`, checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from boresight._utils.arguments import angles, count, number, pixels
from boresight.errors import InputError

__all__ = [
    "LEAST_MATCHES",
    "PARAMETERS",
    "ClipStatistic",
    "FitGeometry",
    "Match",
    "Options",
    "clipping_values",
]

FitGeometry = Literal["shift", "rshift", "rscale", "general"]
"""Shift; and rotation; and scale; any matrix."""

Match = Literal["auto", "histogram", "pattern"]
"""Start of the matching: the histogram and then patterns, or one of them alone."""

ClipStatistic = Literal["rmse", "mae", "std", "mad"]
"""Length in which `sigma` counts."""

LEAST_MATCHES = {"shift": 1, "rshift": 2, "rscale": 2, "general": 3}
"""Matches that determine a geometry."""

PARAMETERS = {"shift": 2, "rshift": 3, "rscale": 4, "general": 6}
"""Parameters of a geometry."""

STARTS = {
    ("auto", True): "histogram or pattern",
    ("auto", False): "given or pattern",
    ("histogram", True): "histogram",
    ("histogram", False): "given",
    ("pattern", True): "pattern",
    ("pattern", False): "pattern",
}


def known(name: str, value: Any, kind: Any) -> Any:
    """Check that a value is one of a few."""
    choices = get_args(kind)
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise InputError(f"{name}: {value!r} is none; give one of {listed}")
    return value


def _plain(name: str, value: Any, scale: Callable[[], float]) -> float:
    """Give a length in pixels: a number, or a Quantity of pixels or of an angle."""
    if getattr(getattr(value, "unit", None), "physical_type", None) == "angle":
        return math.radians(number(name, angles(name, value), "give pixels")) / scale()
    return number(name, pixels(name, value), "give pixels or an angle")


def _length(
    name: str,
    value: Any,
    scale: Callable[[], float],
    *,
    least: float = 0.0,
    open_end: bool = False,
) -> float:
    length = _plain(name, value, scale)
    if not (least < length if open_end else least <= length) or length == float("inf"):
        raise InputError(f"{name}: {length} px is out of range; give a positive number of pixels")
    return length


def clipping_values(nclip: Any, sigma: Any, statistic: Any, least_pairs: int) -> dict[str, Any]:
    """Clipping as the core takes it; `sigma` may bring its statistic, as (3.0, "mae")."""
    rounds = 0 if nclip is None else count("nclip", nclip)
    if isinstance(sigma, tuple):
        if len(sigma) != 2:
            raise InputError(f"sigma: {sigma!r} is no pair; give a limit or such as (3.0, 'rmse')")
        sigma, statistic = sigma
    limit = number("sigma", sigma, "give a positive number")
    if not limit > 0:
        raise InputError(f"sigma: {limit} is not positive; give a limit such as 3")
    return {
        "rounds": rounds,
        "sigma": limit,
        "statistic": known("clip_statistic", statistic, ClipStatistic),
        "least_pairs": least_pairs,
    }


@dataclass(frozen=True)
class Options:
    """How sources are matched and fitted."""

    minobj: int
    searchrad: float
    use2dhist: bool
    separation: float
    tolerance: float
    offset: tuple[float, float]
    fitgeom: FitGeometry
    match: Match | Callable[..., Any] | None
    clipping: dict[str, Any]

    @classmethod
    def checked(
        cls,
        *,
        minobj: Any,
        searchrad: Any,
        use2dhist: Any,
        separation: Any,
        tolerance: Any,
        xoffset: Any,
        yoffset: Any,
        fitgeom: Any,
        nclip: Any,
        sigma: Any,
        match: Any,
        clip_statistic: Any,
        scale: Callable[[], float],
    ) -> Options:
        """Check every argument; each error names its own.

        `scale` gives the radians of a pixel, for lengths that are angles.
        """
        known("fitgeom", fitgeom, FitGeometry)
        if not (match is None or callable(match)):
            known("match", match, Match)
        least = LEAST_MATCHES[fitgeom]
        wanted = least if minobj is None else count("minobj", minobj)
        if wanted < least:
            raise InputError(
                f"minobj: {wanted} is too few for fitgeom={fitgeom!r}; give at least {least}"
            )
        offset = tuple(
            _plain(name, value, scale)
            for name, value in (("xoffset", xoffset), ("yoffset", yoffset))
        )
        return cls(
            minobj=wanted,
            searchrad=_length("searchrad", searchrad, scale, open_end=True),
            use2dhist=bool(use2dhist),
            separation=_length("separation", separation, scale),
            tolerance=_length("tolerance", tolerance, scale, open_end=True),
            offset=(0.0, 0.0) if use2dhist else (offset[0], offset[1]),
            fitgeom=fitgeom,
            match=match,
            clipping=clipping_values(nclip, sigma, clip_statistic, wanted),
        )

    def core(self, *, start: str | None = None) -> dict[str, Any]:
        """Give the options as the core takes them."""
        return {
            "start": start or STARTS[str(self.match), self.use2dhist],
            "search_radius": self.searchrad,
            "offset": self.offset,
            "separation": self.separation,
            "tolerance": self.tolerance,
            "geometry": self.fitgeom,
            "clipping": self.clipping,
        }
