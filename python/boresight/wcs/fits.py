"""Fits of FITS world coordinate systems (TAN, TAN-SIP, TPV, fisheyes) to a pixel-to-sky mapping.

FITS headers count pixels from 1; `to_fits_pixel` and `from_fits_pixel` convert.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boresight._utils.naming import named
from boresight._utils.origins import center_of
from boresight.errors import InputError
from boresight.wcs.planes import Plane, Reference
from boresight.wcs.polynomials import (
    Polynomials,
    check_points,
    fit_nodes,
    largest,
    lowest_order,
)

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    from boresight.camera.model import Projection

__all__ = ["WcsAccuracy", "fit_tpv", "fit_wcs", "from_fits_pixel", "to_fits_pixel"]

Floats = NDArray[np.float64]

SIP_MAX_ORDER = 9
"""Highest order of the SIP convention."""

TPV_MAX_ORDER = 7
"""Highest order of the TPV convention."""


@named
@dataclass(frozen=True)
class WcsAccuracy:
    """Accuracy with which a WCS represents the mapping to which it was fitted.

    Attributes
    ----------
    order : int
        Order of the SIP polynomials A and B; 1 for a plain TAN, which has no such polynomials.
    inverse_order : int
        Order of the SIP polynomials AP and BP.
    max_error_px : float
        Largest error from pixel to sky over the image, in pixels.
    max_inverse_error_px : float
        Largest error of the inverse polynomials AP and BP, in pixels; for TAN equal to
        `max_error_px`. (astropy does not use AP and BP: it inverts A and B by iteration.)
    tolerance_px : float
        The tolerance that was requested, in pixels.

    Examples
    --------
    See `fit_wcs`.
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


@named
def to_fits_pixel(x: Floats, y: Floats, image_shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Convert pixels from the image centre to FITS pixels (1-based).

    Parameters
    ----------
    x, y : ndarray or float
        Pixels from the image centre.
    image_shape : (int, int)
        Height and width.

    Returns
    -------
    x, y : ndarray or float
        FITS pixels: the centre of the first pixel is at (1, 1).

    Examples
    --------
    >>> from boresight.wcs.fits import to_fits_pixel
    >>> to_fits_pixel(-512.0, -384.0, (768, 1024))
    (1.0, 1.0)
    """
    column, row = center_of("fits", image_shape)
    return x + column, y + row


@named
def from_fits_pixel(x: Floats, y: Floats, image_shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Convert FITS pixels (1-based) to pixels from the image centre: inverse of `to_fits_pixel`.

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
    column, row = center_of("fits", image_shape)
    return x - column, y - row


@named
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

    By default the reference pixel is the image centre. A gnomonic mapping about the reference pixel
    (a pinhole camera whose optical centre is there) is TAN exactly. Any other mapping is fitted by
    TAN-SIP (Shupe et al. 2005, ADASS XIV, 491) on a grid over the image. The order of each
    direction is raised until the largest error, measured at points that are not in the fit, is
    within the tolerance.

    A fisheye has the projection ARC (equidistant), ZEA (equisolid), STG (stereographic) or SIN
    (orthographic) about its optical axis instead of TAN, with SIP for its distortion. astropy reads
    this combination, but not every program does.

    Parameters
    ----------
    pixel_to_direction : callable
        Maps pixels from the image centre, shape (n, 2), to ICRS unit vectors, shape (n, 3). Pixels
        without a direction on the sky may give NaN and are excluded.
    image_shape : (int, int)
        Height and width.
    tolerance_px : float
        Largest allowed error, in pixels. Default 0.01.
    max_order : int
        Highest order to try, 1 (TAN only) to 9. Default 9.
    projection : str
        Projection of the `CameraModel`. Default "gnomonic".
    center : (float, float)
        Reference pixel, from the image centre. For a fisheye, give the pixel of the optical axis.
        Default (0, 0).
    reach_px : float
        Radius about the reference pixel, in pixels. Pixels farther away are excluded, such as those
        outside the circle of a fisheye. Default: all pixels count.

    Returns
    -------
    wcs : astropy.wcs.WCS
        For 0-based array pixels: ``wcs.pixel_to_world(column, row)``. Its header is
        ``wcs.to_header(relax=True)``.
    accuracy : WcsAccuracy
        Orders and measured errors. If no order reaches the tolerance, the order with the smallest
        error is used, and ``accuracy.reached`` is False.

    Raises
    ------
    InputError
        If the shape, tolerance or order is out of range.
    UndeterminedError
        If the reference pixel has no direction on the sky, or the image reaches farther from it
        than the projection can represent: 87 degrees on a tangent plane, 90 degrees in an
        orthographic projection.

    Notes
    -----
    SIP's A and B map pixels to the ideal plane, as Boresight's own distortion polynomials do. AP
    and BP are fitted separately as the inverse.

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
    about = Reference(projection, center, reach_px)
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


@named
def fit_tpv(
    pixel_to_direction: Callable[[Floats], Floats],
    image_shape: tuple[int, int],
    *,
    tolerance_px: float = 0.01,
    max_order: int = TPV_MAX_ORDER,
) -> tuple[Header, WcsAccuracy]:
    """Represent a mapping from pixels to the sky as a FITS header with the TPV projection.

    TPV is the convention of SCAMP and SExtractor: polynomials of sky coordinates in degrees, up to
    order 7, in the PV cards. It serves programs that do not read SIP. Otherwise the fit is that of
    `fit_wcs`.

    Parameters
    ----------
    pixel_to_direction, image_shape, tolerance_px, max_order
        As for `fit_wcs`, except that the order is 1 to 7.

    Returns
    -------
    header : astropy.io.fits.Header
        The WCS cards; ``astropy.wcs.WCS(header)`` reads them.
    accuracy : WcsAccuracy
        Order and measured error. TPV has no inverse polynomials (readers iterate), so both errors
        are equal. If no order reaches the tolerance, the order with the smallest error is used, and
        ``accuracy.reached`` is False.

    Raises
    ------
    InputError, UndeterminedError
        As in `fit_wcs`.

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
    """(axis, number, value) of the PV cards; the numbers of the terms in r are skipped."""
    cards = []
    for axis, terms in ((1, fit.a), (2, fit.b)):
        number = 0
        for degree in range(fit.order + 1):
            for q in range(degree + 1):
                # The terms of axis 2 are ordered with the two coordinates exchanged.
                value = terms[degree - q, q] if axis == 1 else terms[q, degree - q]
                cards.append((axis, number, float(value)))
                number += 1
            if degree % 2:
                number += 1  # the term in r, which is not fitted
    return cards


def _sampled(
    pixel_to_direction: Callable[[Floats], Floats],
    image_shape: tuple[int, int],
    tolerance_px: float,
    max_order: int,
    limit: int,
    about: Reference | None = None,
) -> tuple[Plane, tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Check the arguments; return the plane and its points (pixels, sky) for the fit and check."""
    height, width = image_shape
    if not (height > 0 and width > 0):
        raise InputError(f"image_shape: {image_shape} is not an image; give (height, width)")
    if not tolerance_px > 0:
        raise InputError(f"tolerance_px: {tolerance_px} is not positive; give pixels, such as 0.01")
    if not 1 <= max_order <= limit:
        raise InputError(f"max_order: {max_order} is out of range; give 1 to {limit}")
    plane = Plane.around(pixel_to_direction, about or Reference())
    samples = plane.sample(pixel_to_direction, fit_nodes(image_shape))
    return plane, samples, plane.sample(pixel_to_direction, check_points(image_shape))


@dataclass(frozen=True)
class _Forward:
    """Mapping from pixels to the projection plane: first A and B (`bend`), then the CD matrix."""

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
        """Pixels with the distortion removed."""
        return pixels + self.bend(pixels)

    def flat(self, sky: Floats) -> Floats:
        """Convert points of the plane to pixels without distortion, by the inverse of CD."""
        return sky @ np.linalg.inv(self.cd).T


def _build(
    plane: Plane, there: _Forward, back: Polynomials | None, image_shape: tuple[int, int]
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
    # The default of LONPOLE differs for a reference point at the pole; an explicit value does not.
    wcs.wcs.lonpole = 180.0
    wcs.wcs.cd = there.cd
    if back:
        wcs.sip = Sip(there.bend.a, there.bend.b, back.a, back.b, wcs.wcs.crpix)
    wcs.pixel_shape = (width, height)
    wcs.wcs.set()
    return wcs
