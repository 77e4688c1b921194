"""Converts times in any accepted form to astropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from boresight._utils.quiet import quiet
from boresight.errors import InputError

if TYPE_CHECKING:
    from astropy.time import Time

REPAIR = (
    "give a datetime (UTC unless it knows its time zone), an ISO 8601 string, a numpy datetime64, "
    "an astropy Time, or a sequence of one of these"
)


def as_time(time: Any) -> Time:
    """Convert any accepted form to an astropy Time."""
    from astropy.time import Time

    if isinstance(time, Time):
        return time
    values: Any = np.asarray(time)
    if values.size == 0 or values.dtype.kind not in "OUM":
        raise InputError(f"time: {time!r} is not a time; {REPAIR}")
    try:
        with quiet:
            if values.dtype.kind == "U":
                # The trailing Z of ISO 8601 means UTC, which is assumed anyway.
                when = Time(np.char.rstrip(values, "Z"), scale="utc")
            else:
                when = Time(values if values.ndim else values[()], scale="utc")
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise InputError(f"time: {time!r} is not a time; {REPAIR}") from error
    if np.any(when.mask) or not np.all(np.isfinite(when.jd)):
        raise InputError(f"time: {time!r} contains a missing time; {REPAIR}")
    return when
