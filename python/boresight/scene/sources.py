"""Sources of a scene: from objects, from a table, or detected in an image."""

from __future__ import annotations

import dataclasses
import math
import operator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arguments import check_names, number
from boresight._utils.naming import named
from boresight.errors import InputError
from boresight.extraction.extract import extract_centroids
from boresight.solver.solution import Solution

if TYPE_CHECKING:
    from boresight.scene.images import Image

__all__ = ["PointSource", "SersicSource", "Source"]

Floats = NDArray[np.float64]


#: Optional numeric arguments of sources.
NUMBERS = (
    "pmra_mas_yr", "pmdec_mas_yr", "parallax_mas", "epoch", "pm_error_mas_yr",
    "parallax_error_mas", "color",
)  # fmt: skip

#: Optional columns of a star table, named as arguments of `PointSource`, and their units.
COLUMNS = {
    "error_arcsec": "arcsec", "pmra_mas_yr": "mas/yr", "pmdec_mas_yr": "mas/yr",
    "parallax_mas": "mas", "epoch": "yr", "pm_error_mas_yr": "mas/yr", "parallax_error_mas": "mas",
    "color": "mag",
}  # fmt: skip

#: Smallest and largest Sérsic exponent of a fit.
EXPONENTS = (0.6, 8.0)


@dataclasses.dataclass(frozen=True)
class _Source:
    """A position on the sky, with an optional error."""

    ra_deg: float
    dec_deg: float

    @property
    def prior(self) -> tuple[float, float] | None:
        """Standard errors of the position along both axes, arcsec, or None."""
        error = self.error_arcsec  # type: ignore[attr-defined]
        if error is None:
            return None
        try:
            along, up = np.broadcast_to(np.asarray(error, dtype=np.float64), (2,)).tolist()
        except (TypeError, ValueError):
            along = up = math.nan
        if not (math.isfinite(along) and math.isfinite(up) and min(along, up) >= 0):
            raise InputError(
                f"error_arcsec: {error} is not a standard error; give arcsec from 0 up"
            )
        return along, up

    def check(self) -> None:
        """Raise an error if the name is no string or an argument is no number."""
        given = self.name  # type: ignore[attr-defined]
        if not (given is None or isinstance(given, str)):
            raise InputError(f"name: {given!r} is not a name; give a str, or leave it out")
        for name in NUMBERS:
            value = getattr(self, name, None)
            if value is not None:
                number(name, value, "give one, or leave it out")


@named
@dataclasses.dataclass(frozen=True)
class PointSource(_Source):
    """A star of a scene.

    Parameters
    ----------
    ra_deg, dec_deg : float
        Start position, ICRS.
    error_arcsec : float or (float, float), optional
        Standard error of the position along right ascension and declination, such as that of a
        catalogue. It is a prior of the fit. 0 holds the position. Default: unknown.
    name : str, optional
        Name in the table of sources.
    pmra_mas_yr, pmdec_mas_yr : float, optional
        Proper motion in right ascension, times cos(declination), and in declination, mas per Julian
        year. Images need their ``time``. Default 0.
    parallax_mas : float, optional
        Parallax as observed from the Earth. Default 0.
    epoch : float, optional
        Julian year of the position; needed with a proper motion.
    pm_error_mas_yr, parallax_error_mas : float, optional
        Standard errors of proper motion and parallax: priors if `fit` fits motions. 0 holds the
        value. Default: unknown.
    color : float, optional
        Colour in magnitudes, for ``chromatic`` images.

    Examples
    --------
    >>> from boresight import scene
    >>> star = scene.PointSource(329.27, 13.65, error_arcsec=0.01, pmra_mas_yr=30.0, epoch=2016.0)
    >>> star.prior
    (0.01, 0.01)
    """

    error_arcsec: float | tuple[float, float] | None = None
    name: str | None = None
    pmra_mas_yr: float = 0.0
    pmdec_mas_yr: float = 0.0
    parallax_mas: float = 0.0
    epoch: float | None = None
    pm_error_mas_yr: float | None = None
    parallax_error_mas: float | None = None
    color: float | None = None


@named
@dataclasses.dataclass(frozen=True)
class SersicSource(_Source):
    """A galaxy of a scene: Sérsic profile ``exp(-b (r/re)**(1/n))`` with half the light within re.

    The profile is convolved with the point-spread function of every image, so that the flux of a
    nearby star does not contain light of the galaxy. The shape is the same in all images; the flux
    of each image is separate.

    Parameters
    ----------
    ra_deg, dec_deg : float
        Start position of the centre, ICRS.
    radius_arcsec : float
        Start value of the effective radius re along the major axis. Default 1.
    n : float
        Start value of the Sérsic exponent: 1 is an exponential disk, 4 is de Vaucouleurs' law. The
        fit is limited to 0.6 to 8. Default 1.
    axis_ratio : float
        Axis ratio of the isophotes, 0.05 to 1. Default 1, round.
    position_angle_deg : float
        Position angle of the major axis, from north to east. Default 0.
    free : tuple of str
        Parameters that are fitted, among "radius", "n" and "shape" (axis ratio and position angle
        together). Default: all.
    error_arcsec, name, color
        As in `PointSource`.

    Raises
    ------
    InputError
        If a value is out of range, or `free` has an unknown name.

    Notes
    -----
    Sérsic and Moffat profiles are integrals over Gaussians, whose convolution is exact. The
    integrals are approximated by sums, to about 3e-4 of the light. With an `EffectivePSF` the
    convolution uses Fourier transforms on the grid of its samples, which takes longer.

    Examples
    --------
    >>> from boresight import scene
    >>> galaxy = scene.SersicSource(329.27, 13.65, radius_arcsec=2.0, n=1.0, axis_ratio=0.6)
    >>> galaxy.free
    ('radius', 'n', 'shape')
    """

    parameters: ClassVar[tuple[str, ...]] = ("radius", "n", "shape")
    """Allowed names in `free`."""

    radius_arcsec: float = 1.0
    n: float = 1.0
    axis_ratio: float = 1.0
    position_angle_deg: float = 0.0
    free: tuple[str, ...] = ("radius", "n", "shape")
    error_arcsec: float | tuple[float, float] | None = None
    name: str | None = None
    color: float | None = None

    def __post_init__(self) -> None:
        radius = number("radius_arcsec", self.radius_arcsec, "give arcsec")
        if not 1e-3 <= radius <= 1e4:
            raise InputError(f"radius_arcsec: {radius:g} is out of range; give 0.001 to 10000")
        n = number("n", self.n, "give an exponent")
        if not EXPONENTS[0] <= n <= EXPONENTS[1]:
            raise InputError(f"n: {n:g} is out of range; give {EXPONENTS[0]} to {EXPONENTS[1]}")
        ratio = number("axis_ratio", self.axis_ratio, "give 0 to 1")
        if not 0.05 <= ratio <= 1.0:
            raise InputError(f"axis_ratio: {ratio:g} is out of range; give 0.05 to 1")
        angle = number("position_angle_deg", self.position_angle_deg, "give degrees")
        if not math.isfinite(angle):
            raise InputError(f"position_angle_deg: {angle} is not an angle; give degrees")
        check_names("free", self.free, self.parameters)

    @property
    def start(self) -> tuple[list[float], list[bool]]:
        """Start values of ln(radius) (mean of both axes), e1, e2 and n; and which are free."""
        eta = -math.log(self.axis_ratio)
        # Angle from x (east) to y (north).
        angle = 2.0 * math.radians(90.0 - self.position_angle_deg)
        values = [
            math.log(self.radius_arcsec) - 0.5 * eta,
            eta * math.cos(angle), eta * math.sin(angle), self.n,
        ]  # fmt: skip
        shape = "shape" in self.free
        return values, ["radius" in self.free, shape, shape, "n" in self.free]


Source = PointSource | SersicSource


def sources_of(given: Any, image: Image) -> list[Source]:
    """Return the sources of an argument of `fit`; a number of stars is searched for in `image`."""
    if isinstance(given, PointSource | SersicSource):
        given = [given]
    sources: list[Source]
    if isinstance(given, list | tuple) and all(
        isinstance(s, PointSource | SersicSource) for s in given
    ):
        sources = list(given)
    elif hasattr(given, "ra") and hasattr(given, "dec"):
        sky = given.icrs if hasattr(given, "icrs") else given
        sources = _listed(sky.ra.deg, sky.dec.deg)
    elif hasattr(given, "colnames"):
        sources = _of_table(given)
    else:
        sources = _found(given, image)
    if not sources:
        raise InputError("sources: no sources; give positions, or a number to find")
    for source in sources:
        source.check()
    bad = [k for k, s in enumerate(sources) if not np.isfinite([s.ra_deg, s.dec_deg]).all()]
    if bad:
        raise InputError(f"sources: the position of number {bad[0]} is not finite; leave it out")
    return sources


def _listed(ra: Any, dec: Any, optional: dict[str, Floats] | None = None) -> list[Source]:
    """Return stars at these positions, with the known values of optional columns."""

    def known(k: int) -> dict[str, Any]:
        values = {name: float(column[k]) for name, column in (optional or {}).items()}
        return {name: value for name, value in values.items() if not math.isnan(value)}

    places = zip(np.ravel(ra), np.ravel(dec), strict=True)
    return [PointSource(float(a), float(d), **known(k)) for k, (a, d) in enumerate(places)]


def _of_table(table: Any) -> list[Source]:
    names = {name.lower(): name for name in table.colnames}
    if "sky" in names:
        return sources_of(table[names["sky"]], None)  # type: ignore[arg-type]
    pairs = (("ra", "dec"), ("ra_deg", "dec_deg"), ("raj2000", "dej2000"))
    for ra, dec in pairs:
        if ra in names and dec in names:
            optional = {
                name: _column(table[names[name]], unit)
                for name, unit in COLUMNS.items()
                if name in names
            }
            degrees = [_column(table[names[name]], "deg") for name in (ra, dec)]
            return _listed(degrees[0], degrees[1], optional)
    raise InputError(
        f"sources: the table has the columns {table.colnames}; give 'ra' and 'dec' in degrees, "
        "or a 'sky' of SkyCoord"
    )


def _column(column: Any, unit: str) -> Floats:
    """Return the values of a column in a unit; missing values are NaN."""
    from astropy.units import Quantity

    given = getattr(column, "unit", None)
    values = np.ma.asarray(Quantity(column).to_value(unit) if given else column, dtype=np.float64)
    values.mask |= np.ma.getmaskarray(np.ma.asarray(column))
    return np.asarray(np.ma.filled(values, np.nan))


def _found(given: Any, image: Image) -> list[Source]:
    try:
        number = operator.index(given)
    except TypeError:
        number = 0
    if number < 1:
        raise InputError(
            f"sources: {given!r} is not understood; give a SkyCoord, a Table, a list of "
            "PointSource and SersicSource, or a number of stars to find"
        )
    found = extract_centroids(image.data, mask=image.mask, max_centroids=number)
    if len(found.centroids) == 0:
        raise InputError("sources: no star was found in the first image; give positions")
    height, width = image.image_shape
    corner = found.centroids.xy + np.array([width / 2, height / 2])
    return _listed(*to_sky(image.wcs, corner))


def to_sky(wcs: Any, pixels: Floats) -> tuple[Floats, Floats]:
    """Return ICRS coordinates, in degrees, of 0-based array pixels (n, 2)."""
    if isinstance(wcs, Solution):
        height, width = wcs.image_shape
        ra, dec = wcs.pixel_to_world(pixels[:, 0] - width / 2, pixels[:, 1] - height / 2)
        return np.asarray(ra), np.asarray(dec)
    sky = wcs.pixel_to_world(pixels[:, 0], pixels[:, 1]).icrs
    return sky.ra.deg, sky.dec.deg
