"""A mark for public functions and classes whose interface may still change."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

Subject = TypeVar("Subject", bound=Callable[..., Any])

WIDTH = 88
"""Columns of the warning, so that with the indentation of `help` it fits into 100."""


def unstable(change: str) -> Callable[[Subject], Subject]:
    """Add a warning to the docstring of a class or function that its interface may still change.

    The warning is below the summary line, where `help` and the reference show it.

    Parameters
    ----------
    change : str
        The expected change, as a sentence without initial capital letter and full stop.

    Examples
    --------
    >>> @unstable("the result will be a table")
    ... def count_stars():
    ...     '''Count the stars.'''
    >>> print(inspect.getdoc(count_stars))
    Count the stars.
    <BLANKLINE>
    .. warning::
       Unstable: the result will be a table. A minor version may change this interface
       without keeping the old one.
    """
    text = (
        f"Unstable: {change}. A minor version may change this interface without keeping the old "
        "one."
    )
    warning = ".. warning::\n" + textwrap.indent(textwrap.fill(text, WIDTH - 3), "   ")

    def mark(subject: Subject) -> Subject:
        summary, _, rest = (inspect.getdoc(subject) or "").partition("\n\n")
        subject.__doc__ = "\n\n".join(part for part in (summary, warning, rest) if part)
        return subject

    return mark
