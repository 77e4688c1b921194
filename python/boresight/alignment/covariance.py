"""Covariances of the positions, proper motions and parallaxes of a catalogue."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight.errors import InputError

__all__ = ["at_other_epochs", "information", "place_error", "read_covariance", "widened"]

Floats = NDArray[np.float64]

ERRORS = {"ra": "mas", "dec": "mas", "pmra": "mas / yr", "pmdec": "mas / yr", "parallax": "mas"}
"""Parameters of a star, in the order of the covariance, and the units of their errors."""

LEAST_EIGENVALUE = 1e-6
"""Smallest eigenvalue of a valid correlation matrix. With a smaller one the correlations contradict
each other. Rounding of columns in single precision, as in Gaia, has a smaller effect."""


def read_covariance(
    column: Callable[..., Floats | None], known: NDArray[np.bool_]
) -> Floats | None:
    """Read errors and correlations, named as in Gaia: ``ra_error``, ``ra_dec_corr``.

    `column` returns the values of a column, or None if it does not exist. `known` marks which
    parameters are known, shape (n, 5). The returned covariances have shape (n, 5, 5), in mas and
    years. Variances are NaN where the parameter or its error is unknown. Unknown correlations are
    0. Returns None if there are no errors at all.
    """
    errors = {name: column(f"{name}_error", unit=unit) for name, unit in ERRORS.items()}
    if all(values is None for values in errors.values()):
        return None
    sigma = np.full(known.shape, np.nan)
    for k, (name, values) in enumerate(errors.items()):
        if values is None:
            continue
        if (values < 0).any():
            row = int(np.flatnonzero(values < 0)[0])
            raise InputError(
                f"refcat: {name}_error of row {row} is {values[row]}; give errors from 0 up"
            )
        sigma[:, k] = values
    sigma[~(np.isfinite(sigma) & known)] = np.nan
    covariance = _correlations(column, len(sigma)) * sigma[:, :, None] * sigma[:, None, :]
    beside = ~np.eye(len(ERRORS), dtype=bool)
    covariance[:, beside] = np.nan_to_num(covariance[:, beside])
    return np.asarray(covariance)


def at_other_epochs(covariance: Floats, years: Floats) -> Floats:
    """Propagate covariances over some years: errors of proper motions add to the positions.

    If no position error is known for any star, the errors of the motions are used alone.
    """
    known = np.nan_to_num(covariance)
    step = np.tile(np.eye(len(ERRORS)), (len(known), 1, 1))
    step[:, 0, 2] = step[:, 1, 3] = years
    moved = step @ known @ step.transpose(0, 2, 1)
    unknown = np.isnan(_variances(covariance))
    unknown[:, :2] &= ~unknown[:, :2].all(axis=0)
    star, parameter = np.nonzero(unknown)
    moved[star, parameter, parameter] = np.nan
    return np.asarray(moved)


def widened(covariance: Floats | None, mas: NDArray[Any]) -> Floats:
    """Add position errors along both axes to covariances; None stands for no position errors."""
    if covariance is None:
        covariance = np.zeros((len(mas), len(ERRORS), len(ERRORS)))
        covariance[:, range(2, len(ERRORS)), range(2, len(ERRORS))] = np.nan
    covariance[:, range(2), range(2)] += mas[:, None] ** 2
    return covariance


def place_error(covariance: Floats) -> Floats | None:
    """Return the position error of each star per axis, in mas; None if there is none."""
    sigma = np.sqrt(_variances(covariance)[:, :2].mean(axis=1))
    return sigma if (sigma > 0).any() else None


def information(covariance: Floats, otherwise: Floats) -> Floats:
    """Return the inverses of covariances (n, p, p).

    Parameters without an error get the inverse variances `otherwise`, shape (n, p).
    """
    variance = _variances(covariance)
    known = variance > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        roots = np.where(known, 1.0 / np.sqrt(variance), np.sqrt(otherwise))
        correlation = covariance * roots[:, :, None] * roots[:, None, :]
    correlation[~(known[:, :, None] & known[:, None, :])] = 0.0
    every = range(covariance.shape[1])
    correlation[:, every, every] = 1.0
    return np.asarray(np.linalg.inv(correlation) * roots[:, :, None] * roots[:, None, :])


def _variances(covariance: Floats) -> Floats:
    return np.diagonal(covariance, axis1=1, axis2=2)


def _correlations(column: Callable[..., Floats | None], count: int) -> Floats:
    """Read the correlations, shape (n, 5, 5)."""
    found = np.tile(np.eye(len(ERRORS)), (count, 1, 1))
    names = []
    for i, j in combinations(range(len(ERRORS)), 2):
        a, b = list(ERRORS)[i], list(ERRORS)[j]
        for name in (f"{a}_{b}_corr", f"{b}_{a}_corr"):
            if (values := column(name)) is not None:
                if (np.abs(values) > 1).any():
                    row = int(np.flatnonzero(np.abs(values) > 1)[0])
                    raise InputError(
                        f"refcat: {name} of row {row} is {values[row]}; give correlations from -1 "
                        "to 1"
                    )
                found[:, i, j] = found[:, j, i] = np.nan_to_num(values)
                names.append(name)
    try:
        np.linalg.cholesky(found - LEAST_EIGENVALUE * np.eye(len(ERRORS)))
    except np.linalg.LinAlgError:
        row = int(np.argmin(np.linalg.eigvalsh(found)[:, 0]))
        raise InputError(
            f"refcat: {', '.join(names)} of row {row} contradict each other (correlations "
            "that are not given are 0): the matrix is not positive definite; give all correlations "
            "of the catalogue"
        ) from None
    return found
