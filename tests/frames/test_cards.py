"""Cards of a header, beside what astropy makes of them."""

import pickle
import warnings

import pytest
from astropy.io.fits import Card, Header
from hypothesis import given
from hypothesis import strategies as st

from boresight.frames.cards import CARD, Cards, cards_of

KEYWORDS = ["EXPTIME", "DATE-OBS", "A_1_2", "X", "HIERARCH ESO DET X", "HISTORY", "COMMENT"]
VALUES = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=90),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**30), 10**30),
    st.booleans(),
    st.none(),
    st.complex_numbers(allow_nan=False, allow_infinity=False),
)
FORMS = [
    "X       = 1.D3", "X       =   'a''b  ' / c", "X       = -.5E-2/d", "X       =", "x       = 3",
    "X       = 007", "X       = 'open", "X       = 1,5 / m", "X         3", "X       = (1, 2)",
    "X       = 'a'  'b'", "X       = 1e400", "X       = T / [s] in ms", "CONTINUE  'b'",
]  # fmt: skip


def expected(text):
    """Values and comments that astropy reads of a header's text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = Header.fromstring(text)
        names = {name for name in header if name not in ("", "COMMENT", "HISTORY")}
        return {name: (header[name], header.comments[name]) for name in names}


def read(cards):
    return {name: (cards[name], cards.comment(name)) for name in cards}


@given(
    st.lists(st.tuples(st.sampled_from(KEYWORDS), VALUES, st.sampled_from(["", "[s] time"]))),
    st.lists(st.sampled_from(FORMS)),
)
def test_cards_are_read_as_astropy_reads_them(given, forms):
    header = Header()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value, comment in given:
            try:
                header.append(Card(name, value, comment), end=True)
            except ValueError:  # text that is too long
                continue
        text = header.tostring(sep="", endcard=False, padding=False)
    cards = Cards(text + "".join(form.ljust(CARD) for form in forms))
    assert read(cards) == expected(cards.text)
    assert len(cards) == len(read(cards))
    assert read(pickle.loads(pickle.dumps(cards))) == read(cards)


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("X       = 1,5 / metres", 1.5),
        ("X       = 2021-03-04", "2021-03-04"),
        ("X       = 'open", "open"),
        ("X       = 12\0\0\0", 12),
    ],
)
def test_cards_that_are_no_fits_are_what_they_stand_for(card, value):
    cards = Cards(card)
    assert cards["X"] == cards.header()["X"] == value
    assert ["X = " in note for note in cards.notes] == [True] * ("\0" not in card)


def test_cards_of_a_header():
    header = Header({"A": 1, "B": "two"})
    cards = cards_of(header)
    assert dict(cards) == {"A": 1, "B": "two"}
    assert cards_of(cards) is cards
    assert cards.get("C") is None
    assert "C" not in cards
    assert cards.header() == header
