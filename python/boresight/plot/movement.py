"""Figure of the drift of a camera."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from boresight._utils.naming import named
from boresight.errors import InputError
from boresight.movement.drift import DriftLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_drift"]

LINES = ("about_x", "about_y", "roll")


@named
def plot_drift(log: DriftLog, ax: Axes | None = None, **kwargs: Any) -> Axes:
    """Draw the drift of a camera: its rotation against time, and its sudden changes.

    Parameters
    ----------
    log : DriftLog
        The log of the drift.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on. Default: a new figure.
    **kwargs
        Further arguments of `Axes.errorbar`.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If the log has no frame with a time and a measured rotation.

    Examples
    --------
    >>> from boresight.movement import DriftLog
    >>> from boresight.plot import plot_drift
    >>> plot_drift(DriftLog("no such log.jsonl"))
    Traceback (most recent call last):
    boresight.errors.InputError: log: no frame has a measured rotation; give a log that has some
    """
    table = log.table()
    measured = (table["unknown"] == "") | (table["suspected"] != "")
    known = measured & (table["time"] != "") if len(table) else np.zeros(0, bool)
    if not np.any(known):
        raise InputError("log: no frame has a measured rotation; give a log that has some")
    import matplotlib.pyplot as plt

    table = table[known]
    when = np.array(table["time"], "datetime64[ms]")
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    style: dict[str, Any] = {"fmt": "o", "ms": 3, "lw": 1} | kwargs
    for name in LINES:
        label = name.replace("_", " ")
        ax.errorbar(when, table[name], table[f"{name}_sigma"], label=label, **style)
    for point in log.change_points():
        ax.axvline(np.datetime64(point.time), color="0.5", ls="--", lw=1)  # type: ignore[arg-type]
    ax.set_ylabel("rotation (arcsec)")
    ax.tick_params(axis="x", rotation=30)
    ax.legend()
    return ax
