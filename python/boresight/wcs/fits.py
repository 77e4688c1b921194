"""World coordinate systems: what every pixel sees, as FITS and astropy know it.

This is the one place where FITS's 1-based pixels occur: `to_fits_pixel` and `from_fits_pixel`
convert.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import longitude_latitude
from boresight.errors import InputError, UndeterminedError

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    from boresight.camera.model import Projection

__all__ = ["WcsAccuracy", "fit_tpv", "fit_wcs", "from_fits_pixel", "to_fits_pixel"]

Floats = NDArray[np.float64]
Fit = TypeVar("Fit")

SIP_MAX_ORDER = 9
"""Highest order of the SIP convention."""

TPV_MAX_ORDER = 7
"""Highest order of the TPV convention."""

FIT_POINTS_PER_SIDE = 33
"""Nodes per side for the fit: twice what the highest order needs."""

CHECK_POINTS_PER_SIDE = 41
"""Points per side, edges included, at which the largest error is looked for."""

MIN_COS_FROM_CENTER = 0.05
"""Directions more than 87 degrees from the image centre have no place on its tangent plane."""


FITS_CODES: dict[str, str] = {
    "gnomonic": "TAN",
    "equidistant": "ARC",
    "equisolid": "ZEA",
    "stereographic": "STG",
    "orthographic": "SIN",
}
"""What FITS calls a camera's projections."""


@dataclass(frozen=True)
class WcsAccuracy:
    """How well a WCS represents the mapping it was fitted to.

    Attributes
    ----------
    order : int
        Order of the SIP polynomials A and B; 1 for a plain TAN, which has none.
    inverse_order : int
        Order of AP and BP.
    max_error_px : float
        Largest error from pixel to sky over the image, in pixels.
    max_inverse_error_px : float
        Largest error of the inverse polynomials AP and BP (which astropy does not use: it inverts A
        and B by iteration); for TAN equal to `max_error_px`.
    tolerance_px : float
        What was asked for.
    """

    order: int
    inverse_order: int
    max_error_px: float
    max_inverse_error_px: float
    tolerance_px: float

    @property
    def reached(self) -> bool:
        """True when both errors are within the tolerance."""
        return max(self.max_error_px, self.max_inverse_error_px) <= self.tolerance_px


def to_fits_pixel(x: Floats, y: Floats, image_shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """FITS pixels (1-based) of pixels from the image centre.

    Parameters
    ----------
    x, y : ndarray or float
        Pixels from the image centre.
    image_shape : (int, int)
        Height and width.

    Returns
    -------
    x, y : ndarray or float
        FITS pixels: the first is at (1, 1).

    Examples
    --------
    >>> from boresight.wcs.fits import to_fits_pixel
    >>> to_fits_pixel(-512.0, -384.0, (768, 1024))
    (1.0, 1.0)
    """
    height, width = image_shape
    return x + width / 2 + 1, y + height / 2 + 1


def from_fits_pixel(x: Floats, y: Floats, image_shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Pixels from the image centre of FITS pixels (1-based): the inverse of `to_fits_pixel`.

    Parameters
    ----------
    x, y : ndarray or float
        FITS pixels.
    image_shape : (int, int)
        Height and width.

    Returns
    -------
    x, y : ndarray or float
        Pixels from the image centre.

    Examples
    --------
    >>> from boresight.wcs.fits import from_fits_pixel
    >>> from_fits_pixel(513.0, 385.0, (768, 1024))
    (0.0, 0.0)
    """
    height, width = image_shape
    return x - width / 2 - 1, y - height / 2 - 1


def fit_wcs(
    pixel_to_direction: Callable[[Floats], Floats],
    image_shape: tuple[int, int],
    *,
    tolerance_px: float = 0.01,
    max_order: int = SIP_MAX_ORDER,
    projection: Projection = "gnomonic",
    center: tuple[float, float] = (0.0, 0.0),
    reach_px: float = np.inf,
) -> tuple[WCS, WcsAccuracy]:
    """Represent a mapping from pixels to the sky as a FITS WCS, TAN or TAN-SIP.

    The reference pixel is the image centre. A gnomonic mapping about it (a pinhole camera with its
    optical centre there) is TAN exactly. Any other is fitted on a grid over the image by TAN-SIP
    (Shupe et al. 2005, ADASS XIV, 491), the order of either direction raised until its largest
    error, measured at other points than those of the fit, is within the tolerance.

    A fisheye has the projection ARC (equidistant), ZEA (equisolid), STG (stereographic) or SIN
    (orthographic) about its optical axis instead of TAN, and its distortion is SIP as well: the
    polynomials do not care, nor does astropy, but not every program reads it.

    Parameters
    ----------
    pixel_to_direction : callable
        Given pixels from the image centre, shape (n, 2), returns ICRS unit vectors, shape (n, 3).
        Pixels that see nothing may give NaN and are left out.
    image_shape : (int, int)
        Height and width.
    tolerance_px : float
        Largest error allowed, in pixels. Default 0.01.
    max_order : int
        Highest order to try, 1 (TAN only) to 9. Default 9.
    projection : str
        That of the `CameraModel`. Default "gnomonic".
    center : (float, float)
        Reference pixel, from the image centre: where the optical axis is, for a fisheye. Default
        (0, 0).
    reach_px : float
        Pixels farther than this from the reference pixel do not count, such as those outside the
        circle of a fisheye. Default: all count.

    Returns
    -------
    wcs : astropy.wcs.WCS
        For 0-based array pixels: ``wcs.pixel_to_world(column, row)``. Its header is
        ``wcs.to_header(relax=True)``.
    accuracy : WcsAccuracy
        The errors measured. If no order reaches the tolerance this is the best, and
        ``accuracy.reached`` is False.

    Raises
    ------
    InputError
        For a shape, tolerance or order out of range.
    UndeterminedError
        If the reference pixel sees nothing, or the image reaches farther than 87 degrees from it,
        which no tangent plane holds (an orthographic one: 90 degrees).

    Notes
    -----
    SIP's A and B map pixels to the ideal plane, the direction in which Boresight's own distortion
    polynomials go as well; AP and BP are fitted separately as their inverse.

    Examples
    --------
    >>> import numpy as np
    >>> from boresight import CameraModel, RadialDistortion
    >>> from boresight.wcs.fits import fit_wcs
    >>> lens = RadialDistortion(k1=-0.02, scale=512.0)
    >>> camera = CameraModel(2500.0, (768, 1024), distortion=lens)
    >>> def look(pixels):  # a camera that looks at RA 0, Dec 0 with north up
    ...     x, y, z = camera.pixel_to_direction(pixels[:, 0], pixels[:, 1]).T
    ...     return np.column_stack([z, -x, -y])
    >>> wcs, accuracy = fit_wcs(look, (768, 1024))
    >>> accuracy.order, accuracy.reached
    (3, True)
    >>> wcs.pixel_to_world(512, 384).to_string(precision=3)
    '0.000 0.000'
    """
    about = _Reference(projection, center, reach_px)
    plane, samples, checks = _sampled(
        pixel_to_direction, image_shape, tolerance_px, max_order, SIP_MAX_ORDER, about
    )
    (pixels, sky), (check_pixels, check_sky) = samples, checks

    def forward(order: int) -> tuple[float, _Forward]:
        fit = _Forward.fit(pixels, sky, order)
        return largest(fit.ideal(check_pixels) - fit.flat(check_sky)), fit

    def inverse(order: int) -> tuple[float, Polynomials]:
        ideal = there.flat(sky)
        back = Polynomials.fit(ideal, pixels - ideal, range(1, order + 1))
        ideal = there.flat(check_sky)
        return largest(ideal + back(ideal) - check_pixels), back

    error, there = lowest_order(forward, range(1, max_order + 1), tolerance_px)
    if there.order == 1:
        accuracy = WcsAccuracy(1, 1, error, error, tolerance_px)
        return _build(plane, there, None, image_shape), accuracy
    inverse_error, back = lowest_order(inverse, range(2, max_order + 1), tolerance_px)
    accuracy = WcsAccuracy(there.order, back.order, error, inverse_error, tolerance_px)
    return _build(plane, there, back, image_shape), accuracy


def fit_tpv(
    pixel_to_direction: Callable[[Floats], Floats],
    image_shape: tuple[int, int],
    *,
    tolerance_px: float = 0.01,
    max_order: int = TPV_MAX_ORDER,
) -> tuple[Header, WcsAccuracy]:
    """Represent a mapping from pixels to the sky as a FITS header with the TPV projection.

    As `fit_wcs`, in the convention of SCAMP and SExtractor (polynomials of degrees on the sky in
    the PV cards, up to order 7), for programs that do not read SIP.

    Parameters
    ----------
    pixel_to_direction, image_shape, tolerance_px, max_order
        As for `fit_wcs`; the order is 1 to 7.

    Returns
    -------
    header : astropy.io.fits.Header
        The WCS cards; ``astropy.wcs.WCS(header)`` reads them.
    accuracy : WcsAccuracy
        The error measured. TPV has no inverse polynomials (readers iterate), so both errors are the
        same. If no order reaches the tolerance this is the best, and ``accuracy.reached`` is False.

    Raises
    ------
    InputError, UndeterminedError
        As `fit_wcs`.

    Examples
    --------
    >>> import numpy as np
    >>> from boresight import CameraModel, RadialDistortion
    >>> from boresight.wcs.fits import fit_tpv
    >>> lens = RadialDistortion(k1=-0.02, scale=512.0)
    >>> camera = CameraModel(2500.0, (768, 1024), distortion=lens)
    >>> def look(pixels):  # a camera that looks at RA 0, Dec 0 with north up
    ...     x, y, z = camera.pixel_to_direction(pixels[:, 0], pixels[:, 1]).T
    ...     return np.column_stack([z, -x, -y])
    >>> header, accuracy = fit_tpv(look, (768, 1024))
    >>> header["CTYPE1"], accuracy.order, accuracy.reached
    ('RA---TPV', 3, True)
    """
    from astropy.io.fits import Header

    plane, samples, checks = _sampled(
        pixel_to_direction, image_shape, tolerance_px, max_order, TPV_MAX_ORDER
    )
    (pixels, sky), (check_pixels, check_sky) = samples, checks
    cd = _Forward.fit(pixels, sky, 1).cd
    intermediate, check_intermediate = pixels @ cd.T, check_pixels @ cd.T

    def forward(order: int) -> tuple[float, Polynomials]:
        fit = Polynomials.fit(intermediate, sky, range(1, order + 1))
        misses = (fit(check_intermediate) - check_sky) @ np.linalg.inv(cd).T
        return largest(misses), fit

    error, fit = lowest_order(forward, range(1, max_order + 1), tolerance_px)
    header = Header({"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"})
    header.update({"CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "ICRS", "LONPOLE": 180.0})
    crpix = to_fits_pixel(np.array(0.0), np.array(0.0), image_shape)
    for axis, value in enumerate((np.degrees(plane.ra) % 360.0, np.degrees(plane.dec)), 1):
        header[f"CRPIX{axis}"] = float(crpix[axis - 1])
        header[f"CRVAL{axis}"] = float(value)
        for along in (1, 2):
            header[f"CD{axis}_{along}"] = float(cd[axis - 1, along - 1])
    for axis, number, value in _pv_cards(fit):
        header[f"PV{axis}_{number}"] = value
    return header, WcsAccuracy(fit.order, fit.order, error, error, tolerance_px)


def _pv_cards(fit: Polynomials) -> list[tuple[int, int, float]]:
    """(axis, number, value) of the PV cards: the terms of each degree, with odd r after 1, 3, 5."""
    cards = []
    for axis, terms in ((1, fit.a), (2, fit.b)):
        number = 0
        for degree in range(fit.order + 1):
            for q in range(degree + 1):
                # Axis 2 counts with the roles of its own and the other coordinate exchanged.
                value = terms[degree - q, q] if axis == 1 else terms[q, degree - q]
                cards.append((axis, number, float(value)))
                number += 1
            if degree % 2:
                number += 1  # the term in r, which a polynomial does without
    return cards


def _sampled(
    pixel_to_direction: Callable[[Floats], Floats],
    image_shape: tuple[int, int],
    tolerance_px: float,
    max_order: int,
    limit: int,
    about: _Reference | None = None,
) -> tuple[_Plane, tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Check the arguments; pixels and sky on the plane, for the fit and for the check."""
    height, width = image_shape
    if not (height > 0 and width > 0):
        raise InputError(f"image_shape: {image_shape} is no image; give (height, width)")
    if not tolerance_px > 0:
        raise InputError(f"tolerance_px: {tolerance_px} is not positive; give pixels, such as 0.01")
    if not 1 <= max_order <= limit:
        raise InputError(f"max_order: {max_order} is out of range; give 1 to {limit}")
    plane = _Plane.around(pixel_to_direction, about or _Reference())
    samples = plane.sample(pixel_to_direction, fit_nodes(image_shape))
    return plane, samples, plane.sample(pixel_to_direction, check_points(image_shape))


def fit_nodes(image_shape: tuple[int, int]) -> Floats:
    """Chebyshev nodes over the image: a fit there is nearly the best in the largest error."""
    height, width = image_shape
    t = np.cos(np.pi * (np.arange(FIT_POINTS_PER_SIDE) + 0.5) / FIT_POINTS_PER_SIDE)
    x, y = np.meshgrid(t * width / 2 - 0.5, t * height / 2 - 0.5)
    return np.column_stack([x.ravel(), y.ravel()])


def check_points(image_shape: tuple[int, int]) -> Floats:
    """Even points from edge to edge of the image."""
    height, width = image_shape
    t = np.linspace(-1.0, 1.0, CHECK_POINTS_PER_SIDE)
    x, y = np.meshgrid(t * width / 2 - 0.5, t * height / 2 - 0.5)
    return np.column_stack([x.ravel(), y.ravel()])


@dataclass(frozen=True)
class _Reference:
    """Projection, reference pixel (from the image centre), and how far from it pixels count."""

    projection: Projection = "gnomonic"
    center: tuple[float, float] = (0.0, 0.0)
    reach_px: float = np.inf

    @property
    def code(self) -> str:
        """Name of the projection in FITS."""
        if self.projection not in FITS_CODES:
            raise InputError(
                f"projection: {self.projection!r} is unknown; give one of {', '.join(FITS_CODES)}"
            )
        return FITS_CODES[self.projection]


@dataclass(frozen=True)
class _Plane:
    """Plane about the direction of the reference pixel; rows of `axes`: east, north, out."""

    ra: float
    dec: float
    axes: Floats
    about: _Reference

    @classmethod
    def around(cls, pixel_to_direction: Callable[[Floats], Floats], about: _Reference) -> _Plane:
        center = np.array([about.center], np.float64)
        seen = np.asarray(pixel_to_direction(center), np.float64).reshape(3)
        if not np.isfinite(seen).all():
            raise UndeterminedError(
                "the image centre sees no direction, so there is no WCS about it"
            )
        ra, dec = longitude_latitude(seen)
        sa, ca, sd, cd = np.sin(ra), np.cos(ra), np.sin(dec), np.cos(dec)
        axes = np.array([[-sa, ca, 0.0], [-sd * ca, -sd * sa, cd], [cd * ca, cd * sa, sd]])
        return cls(float(ra), float(dec), axes, about)

    def sample(
        self, pixel_to_direction: Callable[[Floats], Floats], pixels: Floats
    ) -> tuple[Floats, Floats]:
        """Pixels from the reference pixel and their coordinates (east, north) in degrees."""
        directions = np.asarray(pixel_to_direction(pixels), np.float64)
        pixels = pixels - self.about.center
        seen = np.isfinite(directions).all(axis=1) & (np.hypot(*pixels.T) <= self.about.reach_px)
        pixels, (east, north, out) = pixels[seen], self.axes @ directions[seen].T
        lowest = {"TAN": MIN_COS_FROM_CENTER, "SIN": 0.0}.get(self.about.code, -1.0)
        if len(pixels) == 0 or out.min() < lowest:
            raise UndeterminedError(
                f"the image reaches {np.degrees(np.arccos(lowest)):.0f} degrees from its reference "
                "pixel, which no such plane holds; make a WCS of a smaller part of it"
            )
        # FITS's zenithal projections (Calabretta & Greisen 2002, A&A 395, 1077, section 5.1).
        rho = np.hypot(east, north)
        angle = np.arctan2(rho, out)
        with np.errstate(divide="ignore", invalid="ignore"):
            stretch = {
                "TAN": 1.0 / out,
                "ARC": angle / rho,
                "ZEA": 2.0 * np.sin(angle / 2.0) / rho,
                "STG": 2.0 * np.tan(angle / 2.0) / rho,
                "SIN": np.ones_like(rho),
            }[self.about.code]
        stretch = np.where(rho > 0.0, stretch, 1.0)
        return pixels, np.degrees(np.column_stack([east * stretch, north * stretch]))


@dataclass(frozen=True)
class Polynomials:
    """A pair of polynomials as SIP writes them: a[p, q] is the coefficient of x^p y^q."""

    a: Floats
    b: Floats

    @property
    def order(self) -> int:
        return len(self.a) - 1

    @classmethod
    def fit(cls, points: Floats, values: Floats, degrees: range) -> Polynomials:
        """Least-squares fit to values (n, 2) with the terms of these degrees."""
        terms = [(d - q, q) for d in degrees for q in range(d + 1)]
        scale = np.abs(points).max()
        x, y = (points / scale).T
        design = np.column_stack([x**p * y**q for p, q in terms])
        solution = np.linalg.lstsq(design, values, rcond=None)[0]
        a, b = np.zeros((2, degrees.stop, degrees.stop))
        for (p, q), (u, v) in zip(terms, solution, strict=True):
            a[p, q], b[p, q] = u / scale ** (p + q), v / scale ** (p + q)
        return cls(a, b)

    def __call__(self, points: Floats) -> Floats:
        x, y = points.T
        polyval2d = np.polynomial.polynomial.polyval2d
        return np.column_stack([polyval2d(x, y, self.a), polyval2d(x, y, self.b)])


@dataclass(frozen=True)
class _Forward:
    """From pixels to the tangent plane: A and B, then CD."""

    cd: Floats
    bend: Polynomials

    @property
    def order(self) -> int:
        return self.bend.order

    @classmethod
    def fit(cls, pixels: Floats, sky: Floats, order: int) -> _Forward:
        # The reference pixel maps to the reference point, so there is no degree 0.
        whole = Polynomials.fit(pixels, sky, range(1, order + 1))
        cd = np.array([[whole.a[1, 0], whole.a[0, 1]], [whole.b[1, 0], whole.b[0, 1]]])
        a, b = np.tensordot(np.linalg.inv(cd), np.stack([whole.a, whole.b]), axes=1)
        a[1, 0] = a[0, 1] = b[1, 0] = b[0, 1] = 0.0
        return cls(cd, Polynomials(a, b))

    def ideal(self, pixels: Floats) -> Floats:
        """Pixels with the distortion taken out."""
        return pixels + self.bend(pixels)

    def flat(self, sky: Floats) -> Floats:
        """Take points of the tangent plane back to such pixels."""
        return sky @ np.linalg.inv(self.cd).T


def largest(misses: Floats) -> float:
    return float(np.hypot(*misses.T).max())


def lowest_order(
    fit: Callable[[int], tuple[float, Fit]], orders: range, tolerance: float
) -> tuple[float, Fit]:
    """Return the first fit within the tolerance, or else the best of all."""
    best = fit(orders[0])
    for order in orders[1:]:
        if best[0] <= tolerance:
            break
        best = min(best, fit(order), key=lambda candidate: candidate[0])
    return best


def _build(
    plane: _Plane, there: _Forward, back: Polynomials | None, image_shape: tuple[int, int]
) -> WCS:
    from astropy.wcs import WCS, Sip

    height, width = image_shape
    code = plane.about.code + ("-SIP" if back else "")
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"RA---{code}", f"DEC--{code}"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.crpix = to_fits_pixel(*plane.about.center, image_shape)  # type: ignore[arg-type]
    wcs.wcs.crval = [np.degrees(plane.ra) % 360.0, np.degrees(plane.dec)]
    # The default differs at the pole itself; said, it is the same everywhere.
    wcs.wcs.lonpole = 180.0
    wcs.wcs.cd = there.cd
    if back:
        wcs.sip = Sip(there.bend.a, there.bend.b, back.a, back.b, wcs.wcs.crpix)
    wcs.pixel_shape = (width, height)
    wcs.wcs.set()
    return wcs
