"""Reads the celestial WCS of a header, for the pixels of the image that was read."""

from __future__ import annotations

import re
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.quiet import quiet
from boresight.frames.cards import Cards, cards_of

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS, Sip

#: Cards of a WCS that hold numbers. If a parser cannot read one of them, it uses its default,
#: mostly 0.
_NUMBERS = re.compile(
    r"(CRVAL|CRPIX|CDELT|CROTA)\d|(CD|PC)\d_\d|[AB]P?_\d_\d|PV\d_\d+|LONPOLE|LATPOLE"
)
#: Cards of distortion other than SIP: tables, and the terms of SCAMP.
_FURTHER = re.compile(r"PV\d|CPDIS|CPERR|D[PQ]\d|D2IM|AXISCORR")
#: Polynomials of the SIP convention: to the tangent plane, and back.
SIP = ("A", "B", "AP", "BP")
_SIP_CARD = re.compile(r"([AB]P?)_(ORDER|DMAX|(\d)_(\d))")


def celestial_wcs(
    header: Header | Cards, axes: tuple[int, int], origin: tuple[int, int], shape: tuple[int, int]
) -> WCS | None:
    """Return the WCS for 0-based pixels of the image that was read; None without a usable WCS.

    Parameters
    ----------
    header : astropy.io.fits.Header or Cards
    axes : (int, int)
        FITS axes of the image's columns and rows.
    origin : (int, int)
        Row and column of the file's array at which the image begins.
    shape : (int, int)
        (height, width) in pixels.
    """
    with quiet:
        try:
            cards = cards_of(header)
            return _read(cards, axes, origin, shape) if _has_wcs(cards, axes) else None
        except Exception:  # errors of astropy and wcslib have no common base
            return None


def _has_wcs(cards: Cards, axes: tuple[int, int]) -> bool:
    """Whether the cards of a WCS for the image's axes exist and have the right types."""
    types = [cards.get(f"CTYPE{axis}") for axis in axes]
    numbers = [cards[name] for name in cards if _NUMBERS.fullmatch(name)]
    return (
        all(isinstance(kind, str) and kind.strip() for kind in types)
        and all(f"CRVAL{axis}" in cards for axis in axes)
        and all(isinstance(n, Real) and not isinstance(n, bool) for n in numbers)
    )


def _read(
    cards: Cards, axes: tuple[int, int], origin: tuple[int, int], shape: tuple[int, int]
) -> WCS | None:
    from astropy.wcs import WCS
    from astropy.wcs.utils import wcs_to_celestial_frame

    if axes != (1, 2):
        wcs = WCS(cards.header()).sub(list(axes))
    else:
        wcs = _plain(cards) or WCS(cards.header(), naxis=2)
    if not wcs.has_celestial:
        return None
    wcs_to_celestial_frame(wcs)  # raises an error for an unknown reference system
    row, column = origin
    wcs = wcs[row:, column:]
    height, width = shape
    center = wcs.all_pix2world([[width / 2, height / 2]], 0)
    return wcs if np.isfinite(center).all() else None


def _plain(cards: Cards) -> WCS | None:
    """Make the WCS of cards that wcslib reads, with SIP polynomials that follow the convention.

    None for other cards. Astropy would give the same WCS, but takes ten times as long: it reads all
    cards several times, and extracts each coefficient separately.
    """
    from astropy.wcs import WCS, Wcsprm

    if any(_FURTHER.match(name) for name in cards):
        return None
    has_sip = any(f"{name}_ORDER" in cards for name in SIP)
    sip = _sip(cards)
    if has_sip and sip is None:
        return None
    wcs = WCS(naxis=2)
    linear = Wcsprm(header=cards.without(_SIP_CARD).encode("ascii"), relax=True)
    wcs.wcs, wcs.sip = linear.sub(2), sip
    wcs.fix()
    wcs.wcs.set()
    sides = [cards.get(f"NAXIS{axis}") for axis in (1, 2)]
    if all(type(side) is int for side in sides):
        wcs.pixel_shape = sides
    return wcs


def _sip(cards: Cards) -> Sip | None:
    """Return the SIP polynomials of cards that follow the convention, else None."""
    from astropy.wcs import Sip

    follows = all(str(cards[f"CTYPE{axis}"]).rstrip().endswith("-TAN-SIP") for axis in (1, 2))
    orders = [cards.get(f"{name}_ORDER") for name in SIP]
    stated = orders if orders[2:] != [None, None] else orders[:2]
    if not (follows and all(type(order) is int and 1 < order < 10 for order in stated)):
        return None
    if any(f"CRPIX{axis}" not in cards for axis in (1, 2)):
        return None
    polynomials: dict[str, NDArray[Any]] = {
        name: np.zeros((order + 1, order + 1)) for name, order in zip(SIP, stated, strict=False)
    }
    for card in cards:
        found = _SIP_CARD.fullmatch(card)
        if found is not None and found[3] is not None and found[1] in polynomials:
            i, j, polynomial = int(found[3]), int(found[4]), polynomials[found[1]]
            if i + j < len(polynomial):
                polynomial[i, j] = cards[card]
    places = cards["CRPIX1"], cards["CRPIX2"]
    return Sip(*(polynomials.get(name) for name in SIP), places)
