"""Table of fitted galaxy shapes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["galaxy_table"]

#: Error of an undetermined angle, degrees.
ANY_ANGLE = 90.0


def galaxy_table(fitted: Any, names: list[str]) -> QTable:
    """Return radii, exponents, axis ratios and position angles of galaxies, with errors."""
    from astropy import units
    from astropy.table import QTable

    layout = fitted.layout
    chosen = [k for k, at in enumerate(layout["shapes"]) if at is not None]
    rows = np.array([_row(fitted, k) for k in chosen]).reshape(-1, 8)
    table = QTable({"name": np.array([names[k] for k in chosen], dtype=str)})
    unit_of = {"radius": units.arcsec, "position_angle": units.deg}
    for i, name in enumerate(("radius", "n", "axis_ratio", "position_angle")):
        unit = unit_of.get(name, 1)
        table[name], table[f"{name}_error"] = rows[:, 2 * i] * unit, rows[:, 2 * i + 1] * unit
    return table


def _row(fitted: Any, source: int) -> list[float]:
    """Return values and errors of one galaxy, alternating."""
    at = fitted.layout["shapes"][source]
    rho, e1, e2, _ = fitted.state[at : at + 4]
    n, slope = fitted.exponents[source]
    first = at - fitted.layout["sources"][source]
    covariance = fitted.own_covariance(source)[first : first + 4, first : first + 4]
    eta = math.hypot(e1, e2)
    radius, ratio = math.exp(rho + 0.5 * eta), math.exp(-eta)
    along = np.array([e1, e2]) / eta if eta > 0 else np.array([1.0, 0.0])

    def error(*by: float) -> float:
        return math.sqrt(max(float(np.array(by) @ covariance @ np.array(by)), 0.0))

    # The angle is from north to east; e1 and e2 contain twice the angle from east to north.
    angle = (90.0 - math.degrees(0.5 * math.atan2(e2, e1))) % 180.0
    turned = math.degrees(0.5 / eta) if eta > 0 else math.inf
    angle_error = error(0.0, -along[1], along[0], 0.0)
    return [
        radius, error(radius, 0.5 * radius * along[0], 0.5 * radius * along[1], 0.0),
        n, error(0.0, 0.0, 0.0, slope),
        ratio, error(0.0, ratio * along[0], ratio * along[1], 0.0),
        angle, min(turned * angle_error, ANY_ANGLE) if angle_error > 0 else 0.0,
    ]  # fmt: skip
