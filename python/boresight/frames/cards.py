"""Reads header cards as programs write them, and repairs cards that astropy cannot read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from boresight._utils.quiet import quiet

if TYPE_CHECKING:
    from astropy.io.fits import Header

#: Length of a card, in characters.
CARD = 80

_DIGITS = r"(?:\d+\.?\d*|\.\d+)(?:[DE][+-]?\d+)?"
#: Cards that astropy reads unchanged; all other cards are checked one by one.
_SOUND = re.compile(
    r"(?:COMMENT|HISTORY| {8}).*|CONTINUE  +'(?:[^']|'')*' *(?:/.*)?"
    r"|(?!CONTINUE)(?=[A-Z0-9_-]+ *=)(?P<name>[A-Z0-9_ -]{8})= +"
    rf"(?:'(?P<text>(?:[^']|'')*)'|(?P<logical>[TF])|(?P<number>[+-]?{_DIGITS}))? *"
    r"(?:/(?P<comment>.*))?"
)
#: A number with a decimal point or comma, and the text after it.
_NUMBER = re.compile(r"([+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[EeDd][+-]?\d+)?)\s*(.*)")
#: Three digits after a comma may be thousands, unless only a zero stands before it.
_THOUSANDS = re.compile(r"[+-]?0*[1-9]\d{0,2},\d{3}")
#: A unit in a comment: in brackets, as the FITS standard has it, or "in milliseconds".
_COMMENT_UNIT = re.compile(r"[\[(]\s*([A-Za-z/]+)\s*[\])]|\bin ([A-Za-z]+)")


class Cards(Mapping[str, Any]):
    """Cards of a header by their keywords; a card is parsed when its value is requested.

    This behaves like a header of astropy, to which `header` converts it, but is many times as fast.
    Cards that are not valid FITS (a decimal comma, text without quotes, control characters) become
    the number that they represent, or text.

    Parameters
    ----------
    text : str
        80 characters a card, without END.

    Attributes
    ----------
    text : str
        The text with repaired cards in place of those that astropy cannot read.
    notes : list of str
        One note for each repaired card.
    """

    def __init__(self, text: str) -> None:
        self.notes: list[str] = []
        if not (text.isascii() and text.isprintable()):
            # Non-ASCII characters mostly occur in comments; NUL is padding by C programs.
            text = re.sub(r"[^\x00-\x7e]", "?", text)
            text = re.sub(r"[\x00-\x1f]", " ", text)
        cards = [text[i : i + CARD].ljust(CARD) for i in range(0, len(text), CARD)]
        #: The first card of each keyword: matched, or as text if astropy must read it.
        self._found: dict[str, re.Match[str] | str] = {}
        last = ""
        for i, card in enumerate(cards):
            # A CONTINUE card must follow a text that ends in the continuation sign (&).
            continues = card.startswith("CONTINUE")
            match = _SOUND.fullmatch(card)
            if match is None or (continues and not (i and "&'" in cards[i - 1])):
                cards[i], match = _corrected(card, self.notes), None
            elif continues:
                self._continue(last, card)
                continue
            if match is not None:
                name = (match["name"] or "").rstrip()
            else:
                name = "" if cards[i].startswith("COMMENT") else _by_astropy(cards[i])[0]
            last = "" if name in self._found else name
            if last:
                self._found[last] = cards[i] if match is None else match
        self.text = "".join(cards)

    def _continue(self, name: str, card: str) -> None:
        """Add a card to the text that it continues."""
        if name:
            begun = self._found[name]
            self._found[name] = (begun if isinstance(begun, str) else begun.string) + card

    def header(self) -> Header:
        """Return an astropy header with these cards."""
        from astropy.io.fits import Header

        with quiet:  # suppresses warnings about odd keywords
            return Header.fromstring(self.text)

    def without(self, pattern: re.Pattern[str]) -> str:
        """Return the text of the cards whose keywords do not begin with a pattern."""
        cards = (self.text[i : i + CARD] for i in range(0, len(self.text), CARD))
        return "".join(card for card in cards if not pattern.match(card))

    def __getitem__(self, name: str) -> Any:
        found = self._found[name]
        if isinstance(found, str) or "'" in (found["text"] or ""):
            return _by_astropy(found)[1]
        if (number := found["number"]) is not None:
            return int(number) if number.lstrip("+-").isdigit() else _real(number)
        if (text := found["text"]) is not None:
            return text.rstrip()
        return None if found["logical"] is None else found["logical"] == "T"

    def comment(self, name: str) -> str:
        """Comment of a card."""
        found = self._found[name]
        if isinstance(found, str):
            return _by_astropy(found)[2]
        return (found["comment"] or "").strip()

    def get(self, name: str, default: Any = None) -> Any:
        """Value of a card, or the default where there is none."""
        return self[name] if name in self._found else default

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __reduce__(self) -> tuple[type[Cards], tuple[str]]:
        return Cards, (self.text,)


def cards_of(header: Any) -> Cards:
    """Return the cards of an astropy header."""
    if isinstance(header, Cards):
        return header
    return Cards(header.tostring(sep="", endcard=False, padding=False))


def _by_astropy(found: re.Match[str] | str) -> tuple[str, Any, str]:
    """Return keyword, value and comment of a card of an uncommon form, read by astropy."""
    from astropy.io.fits import Card

    with quiet:  # suppresses warnings about odd keywords
        card = Card.fromstring(found if isinstance(found, str) else found.string)
        value = None if type(card.value).__name__ == "Undefined" else card.value
        return str(card.keyword).upper(), value, str(card.comment)


def _real(number: str) -> float:
    return float(number.replace("D", "E"))


def _corrected(card: str, notes: list[str]) -> str:
    """Return the card if astropy reads it, else a readable card with the same content."""
    from astropy.io.fits import Card
    from astropy.io.fits.verify import VerifyError

    if card.startswith("CONTINUE"):
        notes.append(
            f"the header card {card.strip()!r} is a CONTINUE card without a text to continue"
        )
        return f"COMMENT {card}"[:CARD]
    with quiet:
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
        Unit of a number without a unit.
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
    """Return the number of a card, converted from the unit that its value or comment names."""
    if name not in header:
        return None
    for words in _COMMENT_UNIT.findall(_comment(header, name) if units else ""):
        named = "".join(words).lower()
        if units and named in units:
            unit = named
            break
    return number_of(header[name], units, unit)


def _comment(header: Any, name: str) -> str:
    if isinstance(header, Cards):
        return header.comment(name)
    return str(header.comments[name]) if hasattr(header, "comments") else ""
