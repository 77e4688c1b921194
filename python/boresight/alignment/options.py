"""Checks of the arguments of `align`."""

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
"""Shift; shift and rotation; shift, rotation and scale; shift and any matrix."""

Match = Literal["auto", "histogram", "pattern"]
"""Search for the first matches: the histogram and then patterns, or only one of the two."""

ClipStatistic = Literal["rmse", "mae", "std", "mad"]
"""Statistic of the residuals that is the unit of `sigma`."""

LEAST_MATCHES = {"shift": 1, "rshift": 2, "rscale": 2, "general": 3}
"""Smallest number of matches that determines each geometry."""

PARAMETERS = {"shift": 2, "rshift": 3, "rscale": 4, "general": 6}
"""Number of parameters of each geometry."""

STARTS = {
    ("auto", True): "histogram or pattern",
    ("auto", False): "given or pattern",
    ("histogram", True): "histogram",
    ("histogram", False): "given",
    ("pattern", True): "pattern",
    ("pattern", False): "pattern",
}


def known(name: str, value: Any, kind: Any) -> Any:
    """Return a value after checking that it is one of the choices of a `Literal`."""
    choices = get_args(kind)
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise InputError(f"{name}: {value!r} is unknown; give one of {listed}")
    return value


def _plain(name: str, value: Any, scale: Callable[[], float]) -> float:
    """Return a length in pixels from a number or a Quantity of pixels or of an angle."""
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
    """Return the clipping options for the core; `sigma` may include its statistic: (3.0, "mae")."""
    rounds = 0 if nclip is None else count("nclip", nclip)
    if isinstance(sigma, tuple):
        if len(sigma) != 2:
            raise InputError(
                f"sigma: {sigma!r} does not have two elements; give a number or a pair "
                "such as (3.0, 'rmse')"
            )
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
    """Options for the matching and fitting of sources."""

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
        """Check every argument; each error names the argument.

        `scale` returns the pixel scale in radians, to convert lengths given as angles.
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
        """Return the options in the form that the core takes."""
        return {
            "start": start or STARTS[str(self.match), self.use2dhist],
            "search_radius": self.searchrad,
            "offset": self.offset,
            "separation": self.separation,
            "tolerance": self.tolerance,
            "geometry": self.fitgeom,
            "clipping": self.clipping,
        }
