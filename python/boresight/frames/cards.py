"""Header cards as programs write them: made sound for astropy, and read with units and commas."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astropy.io.fits import Header

#: Length of a card, in characters.
CARD = 80

_DIGITS = r"(?:\d+\.?\d*|\.\d+)(?:[DE][+-]?\d+)?"
#: Cards that astropy reads as they stand; all others are looked at one by one.
_SOUND = re.compile(
    r"(?:COMMENT|HISTORY| {8}).*|CONTINUE  +'(?:[^']|'')*' *(?:/.*)?"
    r"|(?!CONTINUE)(?=[A-Z0-9_-]+ *=)[A-Z0-9_ -]{8}= +"
    rf"(?:'(?:[^']|'')*'|[TF]|[+-]?{_DIGITS})? *(?:/.*)?"
)
#: A number with a decimal point or comma, and what follows it.
_NUMBER = re.compile(r"([+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[EeDd][+-]?\d+)?)\s*(.*)")
#: Three digits after a comma may be thousands, unless only a zero stands before it.
_THOUSANDS = re.compile(r"[+-]?0*[1-9]\d{0,2},\d{3}")
#: A unit in a comment: in brackets, as the FITS standard has it, or "in milliseconds".
_COMMENT_UNIT = re.compile(r"[\[(]\s*([A-Za-z/]+)\s*[\])]|\bin ([A-Za-z]+)")


def sound_header(text: str) -> tuple[Header, list[str]]:
    """Make a header of its text, in which every card can be read, with a note on each mended one.

    Cards that are no FITS (a decimal comma, text without quotes, control characters) become the
    number they stand for, or text.
    """
    from astropy.io.fits import Header

    notes: list[str] = []
    # A character that is no ASCII stands in comments mostly; NUL is padding of C programs.
    text = re.sub(r"[^\x00-\x7e]", "?", text)
    text = re.sub(r"[\x00-\x1f]", " ", text)
    cards = [text[i : i + CARD].ljust(CARD) for i in range(0, len(text), CARD)]
    for i, card in enumerate(cards):
        # What continues text has to follow text that ends in the sign for it.
        astray = card.startswith("CONTINUE") and not (i and "&'" in cards[i - 1])
        if astray or not _SOUND.fullmatch(card):
            cards[i] = _mended(card, notes)
    return Header.fromstring("".join(cards)), notes


def _mended(card: str, notes: list[str]) -> str:
    """Return the card if astropy reads it, else one with the same content that it does read."""
    from astropy.io.fits import Card
    from astropy.io.fits.verify import VerifyError

    if card.startswith("CONTINUE"):
        notes.append(f"the header card {card.strip()!r} continues nothing")
        return f"COMMENT {card}"[:CARD]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parsed = Card.fromstring(card)
            _ = parsed.keyword, parsed.value, parsed.comment
            if len(str(parsed)) == CARD:
                return card
        except (VerifyError, ValueError, TypeError, LookupError, ArithmeticError):
            pass
        keyword, equals, rest = card.partition("=")
        value, _, comment = rest.partition(" /")
        value, keyword = value.strip().strip("'").strip(), keyword.strip()
        number = number_of(value)
        if not equals:
            notes.append(f"the header card {card.strip()!r} cannot be read")
        else:
            taken = "read as text" if number is None else f"read as {number:g}"
            notes.append(f"the header card {keyword} = {value} is not of FITS' form; {taken}")
            try:
                mended = str(Card(keyword, value if number is None else number, comment.strip()))
            except (ValueError, VerifyError):
                mended = ""
            if len(mended) == CARD:
                return mended
    return f"COMMENT {card}"[:CARD]


def number_of(value: Any, units: Mapping[str, float] | None = None, unit: str = "") -> float | None:
    """Return a number that a card holds, or None if it holds no finite, unambiguous one.

    Parameters
    ----------
    value
        A number, or text such as ``"30,5"``, ``"1D3"`` or, with `units`, ``"500 ms"``.
    units : mapping of str to float, optional
        Units that may follow, in lower case, with their factors.
    unit : str, default ""
        Unit of a number that names none.
    """
    if isinstance(value, str):
        found = _NUMBER.fullmatch(value.strip())
        if found is None or _THOUSANDS.fullmatch(found[1]):
            return None
        value = float(re.sub("[Dd]", "e", found[1].replace(",", ".")))
        unit = found[2].strip(" []()").lower() or unit
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    factor = 1.0 if not unit else (units or {}).get(unit)
    try:
        number = math.nan if factor is None else float(value) * factor
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def card_number(
    header: Any, name: str, units: Mapping[str, float] | None = None, unit: str = ""
) -> float | None:
    """Return the number of a card, in the unit that its value or its comment names."""
    if name not in header:
        return None
    comment = str(header.comments[name]) if units and hasattr(header, "comments") else ""
    for words in _COMMENT_UNIT.findall(comment):
        named = "".join(words).lower()
        if units and named in units:
            unit = named
            break
    return number_of(header[name], units, unit)
