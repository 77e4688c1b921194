"""Files of movement corrections, ``.cmc``: JSON, compatible with calcam.

============================  =============================================================
key                           value
============================  =============================================================
``transform_matrix``          three rows of three numbers, or two rows: moved to reference
``im_array_shape``            rows, columns
``ref_points``                list of (x, y)
``moved_points``              list of (x, y), as many
``history``                   how it was made, in words
``boresight``                 what Boresight adds: `covariance`, `inliers`, ...; calcam ignores it
============================  =============================================================
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from boresight._utils.documents import read_json, write_json
from boresight.errors import FileFormatError

__all__ = ["SUFFIX", "read_cmc", "write_cmc"]

SUFFIX = ".cmc"

#: Keys that each file must have.
KEYS = ("transform_matrix", "im_array_shape", "ref_points", "moved_points", "history")


def write_cmc(path: str | os.PathLike[str], values: dict[str, Any]) -> None:
    """Write a file atomically; ``.cmc`` is appended to a name that does not end with it."""
    target = Path(path)
    if target.suffix.lower() != SUFFIX:
        target = target.with_name(target.name + SUFFIX)
    write_json(target, values, indent=4)


def read_cmc(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the values of a file; raise an error if it is no movement correction."""
    try:
        values = read_json(path)
    except ValueError as error:  # from JSON or from the encoding
        raise FileFormatError(
            f"{os.fspath(path)} is not a movement correction: {error}; give a whole .cmc file"
        ) from error
    missing = [key for key in KEYS if not isinstance(values, dict) or key not in values]
    if missing:
        raise FileFormatError(
            f"{os.fspath(path)} is not a movement correction: it lacks {', '.join(missing)}"
        )
    return dict(values)
