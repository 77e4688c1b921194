"""Small HTML tables, with which notebooks show results."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

__all__ = ["html_table"]


def html_table(title: str, rows: Iterable[tuple[str, str]], notes: Iterable[str] = ()) -> str:
    """Make a table of names and values, with notes below it; all text is escaped.

    Parameters
    ----------
    title : str
        Caption.
    rows : iterable of (str, str)
        Names and values.
    notes : iterable of str
        Sentences, each on a separate line.
    """
    cells = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in rows
    )
    below = "".join(f"<div>{escape(note)}</div>" for note in notes)
    caption = f'<caption style="text-align:left;font-weight:bold">{escape(title)}</caption>'
    return f"<table>{caption}<tbody>{cells}</tbody></table>{below}"
