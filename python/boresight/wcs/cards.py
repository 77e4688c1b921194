"""Header cards of a WCS: finding them in a header, replacing them, and making new ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from boresight.errors import InputError

if TYPE_CHECKING:
    from astropy.io.fits import Card
    from astropy.wcs import WCS

__all__ = ["is_wcs_card", "new_cards", "replace_wcs", "sky_alternates"]

#: Cards that belong to one axis: those of the FITS standard, of older conventions for rotation and
#: distortion, and of distortion tables. A letter at the end names an alternate description.
_OF_AXES = re.compile(
    r"(?:CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA|CNAME|CRDER|CSYER)(?P<axis>\d)(?P<alt>[A-Z]?)"
    r"|(?:CD|PC)(?P<axis2>\d)_\d+(?P<alt2>[A-Z]?)|(?:PV|PS)(?P<axis3>\d)_\d+(?P<alt3>[A-Z]?)"
    r"|PC00(?P<axis4>\d)00\d|(?:CPDIS|CQDIS|CPERR|CQERR|D2IMDIS|D2IMERR|DP|DQ)(?P<axis5>\d).*"
)
#: Cards that belong to a description as a whole and not to one axis.
_OF_ALL = re.compile(
    r"(?:WCSAXES|WCSNAME|LONPOLE|LATPOLE|RADESYS|EQUINOX)(?P<alt>[A-Z]?)|RADECSYS|AXISCORR"
    r"|D2IMEXT|D2IM\d.*|DVERR\d|[AB]P?_(?:ORDER|DMAX|\d+_\d+)|WAT\d_\d+|WCSDIM"
    # The plate solution of the Digitized Sky Survey, which some programs prefer to the WCS cards.
    r"|AMD(?:X|Y|REX|REY)\d+|PPO\d|PLTRA[HMS]|PLTDEC(?:SN|[DMS])"
)
#: CTYPE of an axis on the sky, such as RA---TAN and GLON-CAR, or of the old form without a
#: projection, such as "DEC".
_ON_SKY = re.compile(r"(?:RA|DEC|[A-Z]LON|[A-Z]LAT|[A-Z]{2}L[NT])(?:-.*)?\s*")

#: Comments of the cards; `{0}` stands for the number of the axis.
_COMMENTS = {
    "CTYPE": "projection of axis {0}",
    "CUNIT": "unit of CRVAL{0} and CD{0}_j",
    "CRVAL": "[deg] axis {0} at the reference pixel",
    "CRPIX": "[pix] reference pixel, 1-based",
    "CRDER": "[deg] random error along axis {0}",
}


def sky_alternates(header: Mapping[str, Any]) -> set[str]:
    """Letters of the descriptions whose axes are on the sky; "" is the primary description."""
    letters = set()
    for name, value in header.items():
        found = re.fullmatch(r"CTYPE\d([A-Z]?)", name)
        if found and isinstance(value, str) and _ON_SKY.fullmatch(value.upper()):
            letters.add(found[1])
    return letters


def is_wcs_card(name: str, letters: set[str]) -> bool:
    """Whether a card of axis 1 or 2 belongs to the primary description or one of the `letters`.

    Cards of alternates that are not on the sky, such as detector pixels, and of further axes, such
    as a wavelength, do not count.
    """
    found = _OF_AXES.fullmatch(name) or _OF_ALL.fullmatch(name)
    if found is None:
        return False
    groups = found.groupdict()
    alternate = next((v for k, v in groups.items() if k.startswith("alt") and v), "")
    axis = next((v for k, v in groups.items() if k.startswith("axis") and v), "1")
    return alternate in letters | {""} and axis in "12"


def new_cards(
    wcs: WCS, *, offset: tuple[float, float] = (0.0, 0.0), error_deg: float | None = None
) -> list[Card]:
    """Make the header cards of a celestial WCS of two axes, each with its comment.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        TAN, TAN-SIP, TPV or another projection whose parameters fit in cards.
    offset : (float, float)
        Number of (columns, rows) of the file before the first of the image, which is added to the
        reference pixel.
    error_deg : float, optional
        Random error per axis in degrees, for CRDER.

    Raises
    ------
    InputError
        If the WCS is not celestial with two axes, or needs distortion tables.
    """
    if wcs.naxis != 2 or not wcs.has_celestial:
        raise InputError("wcs: it is not that of two axes on the sky; give wcs.celestial")
    tables = (wcs.cpdis1, wcs.cpdis2, wcs.det2im1, wcs.det2im2)
    if any(table is not None for table in tables):
        raise InputError(
            "wcs: header cards cannot store its distortion tables; fit SIP polynomials"
        )
    return [_card(*triple) for triple in _triples(wcs, offset, error_deg)]


def _triples(
    wcs: WCS, offset: tuple[float, float], error_deg: float | None
) -> Iterator[tuple[str, Any, str]]:
    """Yield the name, value and comment of each card."""
    own = wcs.wcs
    yield "WCSAXES", 2, "axes of the coordinate system"
    # WCSLIB splits TPV into TAN and a distortion; the header that it writes joins them again.
    whole = wcs.to_header(relax=True)
    names = [whole["CTYPE1"], whole["CTYPE2"]]
    if wcs.sip is not None:
        names = [name if name.endswith("-SIP") else f"{name}-SIP" for name in names]
    crpix = np.asarray(own.crpix) + offset
    columns: list[tuple[str, Sequence[Any]]] = [
        ("CTYPE", names),
        ("CUNIT", ["deg", "deg"]),
        ("CRVAL", list(own.crval)),
        ("CRPIX", list(crpix)),
    ]
    if error_deg is not None:
        columns.append(("CRDER", [error_deg, error_deg]))
    for name, values in columns:
        for axis, value in enumerate(values, 1):
            yield f"{name}{axis}", _plain(value), _COMMENTS[name].format(axis)
    for (i, j), value in np.ndenumerate(np.asarray(wcs.pixel_scale_matrix)):
        yield f"CD{i + 1}_{j + 1}", float(value), f"[deg/pix] axis {i + 1} by pixel axis {j + 1}"
    for name, value in (("LONPOLE", own.lonpole), ("LATPOLE", own.latpole)):
        if np.isfinite(value):
            yield name, float(value), "[deg] of the pole of the projection"
    system = str(own.radesys) or "ICRS"
    yield "RADESYS", system, "reference system of the coordinates"
    if system in ("ICRS", "FK5"):
        equinox = float(own.equinox) if np.isfinite(own.equinox) else 2000.0
        yield "EQUINOX", equinox, "[yr] of the equator"
    for name, value in whole.items():
        if re.fullmatch(r"PV[12]_\d+", name):
            yield name, float(value), "parameter of the projection"
    if wcs.sip is not None:
        yield from _sip_triples(wcs.sip)


def _sip_triples(sip: Any) -> Iterator[tuple[str, Any, str]]:
    says = {"A": "x, pixel to ideal", "B": "y, pixel to ideal", "AP": "x, back", "BP": "y, back"}
    for name, words in says.items():
        terms = getattr(sip, name.lower())
        if terms is None:
            continue
        yield f"{name}_ORDER", len(terms) - 1, f"SIP distortion of {words}"
        for (p, q), value in np.ndenumerate(terms):
            if value:
                yield f"{name}_{p}_{q}", float(value), f"SIP term x^{p} y^{q}"


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else float(value)


def _card(name: str, value: Any, comment: str) -> Card:
    from astropy.io.fits import Card

    return Card(name, value, comment)


def replace_wcs(
    cards: Sequence[str], header: Mapping[str, Any], new: Sequence[str]
) -> tuple[list[str], list[int]]:
    """Replace the WCS cards of a header by new ones.

    Parameters
    ----------
    cards : sequence of str
        Cards of the header, 80 characters each, without END.
    header : mapping of str to object
        The same header as keywords and values.
    new : sequence of str
        New cards. If empty, the old WCS is only removed.

    Returns
    -------
    cards : list of str
        Cards with the new ones at the place of the first old WCS card, or at the end if there was
        no old WCS.
    removed : list of int
        Indices of the removed cards in the given `cards`.
    """
    letters = sky_alternates(header)
    removed: list[int] = []
    for index, card in enumerate(cards):
        continues = card.startswith("CONTINUE") and removed[-1:] == [index - 1]
        # Cards without the blank that FITS requires after "=" must be removed, too, because
        # readers accept them.
        name, equals, _ = card[:10].partition("=")
        if continues or (equals and is_wcs_card(name.strip().upper(), letters)):
            removed.append(index)
    gone = set(removed)
    kept = [card for index, card in enumerate(cards) if index not in gone]
    place = removed[0] if removed else len(_without_blanks(cards))
    return [*kept[:place], *new, *kept[place:]], removed


def _without_blanks(cards: Sequence[str]) -> Sequence[str]:
    """Cards without the blank cards at the end, which programs keep as reserved space."""
    end = len(cards)
    while end and not cards[end - 1].strip():
        end -= 1
    return cards[:end]
