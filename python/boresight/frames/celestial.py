"""The celestial WCS of a header, for the pixels of the image that was read."""

from __future__ import annotations

import re
import warnings
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS, Sip

#: Cards of a WCS that hold numbers. A parser that cannot read one takes its default, mostly 0.
_NUMBERS = re.compile(
    r"(CRVAL|CRPIX|CDELT|CROTA)\d|(CD|PC)\d_\d|[AB]P?_\d_\d|PV\d_\d+|LONPOLE|LATPOLE"
)
#: Polynomials of the SIP convention: to the tangent plane, and back.
SIP = ("A", "B", "AP", "BP")
_SIP_CARD = re.compile(r"([AB]P?)_(ORDER|DMAX|(\d)_(\d))")


def celestial_wcs(
    header: Header, axes: tuple[int, int], origin: tuple[int, int], shape: tuple[int, int]
) -> WCS | None:
    """Give the WCS for 0-based pixels of an image cut from the file's; None without a usable one.

    Parameters
    ----------
    header : astropy.io.fits.Header
    axes : (int, int)
        FITS axes of the image's columns and rows.
    origin : (int, int)
        Row and column of the file's array at which the image begins.
    shape : (int, int)
        (height, width) in pixels.
    """
    if not _has_wcs(header, axes):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _read(header, axes, origin, shape)
        except Exception:  # astropy's and wcslib's have no common base, and headers no limit
            return None


def _has_wcs(header: Header, axes: tuple[int, int]) -> bool:
    """Whether there are the cards of a WCS of the image's axes, and all are of their type."""
    types = [header.get(f"CTYPE{axis}") for axis in axes]
    numbers = [header[name] for name in header if _NUMBERS.fullmatch(name)]
    return (
        all(isinstance(kind, str) and kind.strip() for kind in types)
        and all(f"CRVAL{axis}" in header for axis in axes)
        and all(isinstance(n, Real) and not isinstance(n, bool) for n in numbers)
    )


def _read(
    header: Header, axes: tuple[int, int], origin: tuple[int, int], shape: tuple[int, int]
) -> WCS | None:
    from astropy.wcs import WCS
    from astropy.wcs.utils import wcs_to_celestial_frame

    if axes == (1, 2):
        linear, sip = _without_sip(header)
        wcs = WCS(linear, naxis=2)
        if sip is not None:
            wcs.sip = sip
    else:
        wcs = WCS(header).sub(list(axes))
    if not wcs.has_celestial:
        return None
    wcs_to_celestial_frame(wcs)  # raises for a reference system that nobody knows
    row, column = origin
    wcs = wcs[row:, column:]
    height, width = shape
    center = wcs.all_pix2world([[width / 2, height / 2]], 0)
    return wcs if np.isfinite(center).all() else None


def _without_sip(header: Header) -> tuple[Header, Sip | None]:
    """Take the SIP polynomials out of a header that follows the convention; leave it else as it is.

    Astropy takes each coefficient out of the header by itself, which is most of its time.
    """
    from astropy.io.fits import Header
    from astropy.wcs import Sip

    follows = all(str(header[f"CTYPE{axis}"]).rstrip().endswith("-TAN-SIP") for axis in (1, 2))
    orders = [header.get(f"{name}_ORDER") for name in SIP]
    stated = orders if orders[2:] != [None, None] else orders[:2]
    if not (follows and all(type(order) is int and 1 < order < 10 for order in stated)):
        return header, None
    if any(f"CRPIX{axis}" not in header for axis in (1, 2)):
        return header, None
    polynomials: dict[str, NDArray[Any]] = {
        name: np.zeros((order + 1, order + 1)) for name, order in zip(SIP, stated, strict=False)
    }
    kept = []
    for card in header.cards:
        found = _SIP_CARD.fullmatch(card.keyword)
        if card.keyword.startswith("PV"):  # those of SCAMP, which astropy tells from others
            return header, None
        if found is None:
            kept.append(card)
        elif found[3] is not None and found[1] in polynomials:
            i, j, polynomial = int(found[3]), int(found[4]), polynomials[found[1]]
            if i + j < len(polynomial):
                polynomial[i, j] = card.value
    places = header["CRPIX1"], header["CRPIX2"]
    return Header(kept), Sip(*(polynomials.get(name) for name in SIP), places)
