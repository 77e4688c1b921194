"""Options of `boresight solve` with the names and meanings of Astrometry.net's solve-field."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import click

from boresight.errors import InputError

__all__ = ["SolveField", "dec", "ra", "solve_field_options"]

Units = Literal["degwidth", "arcminwidth", "arcsecperpix", "focalmm"]

#: Units of the scale, by all names and abbreviations of solve-field.
UNITS: dict[str, Units] = {
    "degwidth": "degwidth", "degw": "degwidth", "dw": "degwidth",
    "arcminwidth": "arcminwidth", "amw": "arcminwidth", "aw": "arcminwidth",
    "arcsecperpix": "arcsecperpix", "app": "arcsecperpix",
    "focalmm": "focalmm",
}  # fmt: skip

#: Film width, in mm, to which the focal length in the unit "focalmm" refers.
FILM_MM = 36.0


def ra(text: str) -> float:
    """Read a right ascension: degrees, or hh:mm:ss."""
    return _angle(text, "hourangle", "hh:mm:ss")


def dec(text: str) -> float:
    """Read a declination: degrees, or dd:mm:ss."""
    return _angle(text, "deg", "dd:mm:ss")


def _angle(text: str, unit: str, form: str) -> float:
    """Convert text to degrees: a number of degrees, or sexagesimal with colons in the unit."""
    try:
        if ":" not in text:
            return float(text)
        from astropy.coordinates import Angle

        return float(Angle(text, unit=unit).degree)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not an angle; give degrees or {form}") from None


class SolveField(NamedTuple):
    """Values of the options of solve-field."""

    scale_low: float | None
    scale_high: float | None
    scale_units: str
    parity: Literal["pos", "neg"] | None
    cpulimit: float | None
    downsample: int
    files_on_stdin: bool
    no_plots: bool

    def check(self, fov: float | None) -> None:
        """Raise an error if the scale is not a valid range, or is given twice."""
        low, high = self.scale_low, self.scale_high
        if low is None and high is None:
            return
        if fov is not None:
            raise InputError("--scale-low: --fov gives the scale already; leave one of them out")
        if low is None or high is None:
            raise InputError("--scale-low: it needs --scale-high, and that needs it; give both")
        if not 0.0 < low <= high < math.inf:
            raise InputError(
                f"--scale-low: {low:g} to {high:g} is not a range; give numbers above 0, low first"
            )

    @property
    def is_by_pixels(self) -> bool:
        """Whether the width of the image is needed to compute the field of view from the scale."""
        return self.scale_low is not None and UNITS[self.scale_units] == "arcsecperpix"

    def field(self, width: int) -> tuple[float, float] | None:
        """Field of view of images of a width, and its largest error, degrees; None if not given."""
        if self.scale_low is None or self.scale_high is None:
            return None
        ends = [self._degrees(scale, width) for scale in (self.scale_low, self.scale_high)]
        return sum(ends) / 2.0, abs(ends[1] - ends[0]) / 2.0

    def _degrees(self, scale: float, width: int) -> float:
        units = UNITS[self.scale_units]
        if units == "degwidth":
            return scale
        if units == "arcminwidth":
            return scale / 60.0
        if units == "focalmm":
            return 2.0 * math.degrees(math.atan(FILM_MM / 2.0 / scale))
        return 2.0 * math.degrees(math.atan(width / 2.0 * math.radians(scale / 3600.0)))

    @property
    def parity_flip(self) -> bool | None:
        """Whether images of the requested parity are mirrored; None if no parity is requested.

        solve-field's parity is positive if the determinant of the WCS matrix is negative. Then east
        is left of north if rows count upwards, but Boresight's rows count downwards: such an image
        is mirrored.
        """
        return None if self.parity is None else self.parity == "pos"


def solve_field_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of solve-field; the command gets their values as `extra`."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        values = {name: kwargs.pop(name) for name in SolveField._fields}
        return command(*args, extra=SolveField(**values), **kwargs)

    options = [
        click.option("-L", "--scale-low", type=float, help="Lower bound of the image's scale, ..."),
        click.option("-H", "--scale-high", type=float, help="... and its upper bound, ..."),
        click.option(
            "-u", "--scale-units", type=click.Choice(list(UNITS)), default="degwidth",
            show_default=True, metavar="[degwidth|arcminwidth|arcsecperpix|focalmm]",
            help="... in these units: width of the image, scale of a pixel, or focal length for "
            "film 36 mm wide."
        ),
        click.option(
            "-8", "--parity", type=click.Choice(["pos", "neg"]),
            help="Search only for solutions of positive or negative parity, as solve-field names "
            "it: with a negative or positive determinant of the WCS. [default: both]"
        ),
        click.option(
            "-l", "--cpulimit", type=click.FloatRange(min=0.001),
            help="Seconds after which a frame is given up. [default: 5]"
        ),
        click.option(
            "-z", "--downsample", type=click.IntRange(1), default=1,
            help="Find the stars on an image binned by this number of pixels per side."
        ),
        click.option(
            "-f", "--files-on-stdin", is_flag=True, help="Read names on standard input, as with -."
        ),
        click.option(
            "-p", "--no-plots", is_flag=True, help="Nothing is drawn without --plot anyway."
        ),
    ]  # fmt: skip
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), run)
