"""Exceptions raised by Boresight.

A frame that does not solve is not an error: the solver returns `None` for it.
"""

__all__ = ["BoresightError", "FileFormatError", "InputError", "NarrowFieldError",
           "TimeLimitError", "UndeterminedError"]  # fmt: skip


class BoresightError(Exception):
    """Base class of every exception of this package."""


class InputError(BoresightError, ValueError):
    """An argument is invalid; the message names the argument, the fault and the correction."""


class FileFormatError(BoresightError, ValueError):
    """A file is damaged, of another version, or of another program."""


class NarrowFieldError(InputError):
    """A field of view is too narrow for the stars of the catalogues that are installed."""


class TimeLimitError(BoresightError, TimeoutError):
    """Work did not end within its time limit."""


class UndeterminedError(BoresightError, ValueError):
    """The data do not determine the requested quantities."""
