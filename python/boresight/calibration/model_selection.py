"""Choice of the camera model: the one that predicts held-out stars and frames best."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.statistics import planar_scale
from boresight.errors import InputError, UndeterminedError

__all__ = ["Candidate", "candidates", "choose", "rms"]

Floats = NDArray[np.float64]


class Candidate(NamedTuple):
    """Name of a model and its order (0 for models without one)."""

    model: str
    order: int


AUTO_ORDERS = range(2, 10)
"""Orders that ``order="auto"`` tries, from the lowest."""

MAX_IN_VAIN = 1
"""Orders in a row that may be no better before it stops: a lens that is nearly symmetric about the
image centre has odd terms only."""

SIGNIFICANCE = 2.0
"""Standard errors by which a model with more parameters has to be better."""

MIN_REDUNDANCY = 3.0
"""Coordinates of stars for each parameter, attitudes included, that a model needs to be chosen.
With fewer it follows single stars, and held-out stars no longer tell how well it predicts."""


class Fit(Protocol):
    """Fits a candidate, from the calibration `start` on if there is one."""

    def __call__(
        self, candidate: Candidate, start: core.CalibrationResult | None
    ) -> core.CalibrationResult:
        """Fit it, the residuals of held-out stars included."""


def candidates(model: str, order: int | str) -> list[list[Candidate]]:
    """Models to choose from, the simplest first: groups of (model, order), tried in turn."""
    if order == "auto":
        orders = AUTO_ORDERS
    elif isinstance(order, int | np.integer) and 2 <= order <= 9:
        orders = range(int(order), int(order) + 1)
    elif model in ("polynomial", "auto"):
        raise InputError(
            f"order: {order!r} is no order; give a whole number from 2 to 9, or 'auto'"
        )
    else:
        orders = range(2, 3)
    polynomials = [Candidate("polynomial", order) for order in orders]
    if model == "auto":
        return [[Candidate("pinhole", 0)], [Candidate("radial", 0)], polynomials]
    return [polynomials if model == "polynomial" else [Candidate(model, 0)]]


def choose(groups: list[list[Candidate]], fit: Fit) -> Candidate:
    """Find the candidate that predicts held-out stars best, and significantly so."""
    if len(groups) == 1 and len(groups[0]) == 1:
        return groups[0][0]
    winner: _Fitted | None = None
    problem: UndeterminedError | None = None
    for group in groups:
        best: _Fitted | None = None
        last: core.CalibrationResult | None = None
        in_vain = 0
        for candidate in group:
            try:
                last = fit(candidate, last)
            except UndeterminedError as error:
                problem = error
                break
            found = _Fitted(candidate, last)
            if best is not None and found.redundancy < MIN_REDUNDANCY:
                break
            if found.improves_on(best):
                best, in_vain = found, 0
            else:
                in_vain += 1
            if in_vain > MAX_IN_VAIN:
                break
        if best is not None and best.improves_on(winner):
            winner = best
    if winner is None:
        assert problem is not None  # there is at least one candidate
        raise problem
    return winner.candidate


def rms(calibration: core.CalibrationResult) -> float | None:
    """RMS residual of the held-out stars, if that was asked for and there are any."""
    lengths = np.concatenate(calibration.held_out or [np.empty(0)])
    lengths = lengths[np.isfinite(lengths)]
    return float(np.sqrt(np.mean(lengths**2))) if len(lengths) else None


class _Fitted(NamedTuple):
    """A candidate and its fit."""

    candidate: Candidate
    calibration: core.CalibrationResult

    @property
    def num_frames(self) -> int:
        """Number of frames that took part."""
        return self.calibration.num_frames

    @property
    def redundancy(self) -> float:
        """Coordinates of the stars used, for each parameter."""
        parameters = len(self.calibration.parameter_names) + 3 * self.num_frames
        return 2.0 * self.calibration.num_inliers / parameters

    def improves_on(self, other: _Fitted | None) -> bool:
        """Tell whether it predicts held-out stars significantly better than a simpler one.

        Judged by the stars that both kept: a model that rejects a poor frame is not worse for that,
        one that follows a poor frame not better. Where they predict these as well as each other,
        the one that keeps more frames is better.
        """
        if other is None:
            return True
        assert self.calibration.held_out is not None
        assert other.calibration.held_out is not None
        gain, uncertainty = _gain(
            np.concatenate(other.calibration.held_out), np.concatenate(self.calibration.held_out)
        )
        if gain < -SIGNIFICANCE * uncertainty:
            return False
        return gain > SIGNIFICANCE * uncertainty or self.num_frames > other.num_frames


def _gain(old: Floats, new: Floats) -> tuple[float, float]:
    """How much smaller residual lengths have become, and the standard error of that.

    Their mean Cauchy loss, which a few blended stars do not decide, on the scale of `old`.
    """
    both = np.isfinite(old) & np.isfinite(new)
    if not both.any():
        return 0.0, 0.0
    scale = core.CAUCHY_TUNING * max(planar_scale(old[both]), 1e-9)
    less = np.log1p((old[both] / scale) ** 2) - np.log1p((new[both] / scale) ** 2)
    return float(less.mean()), float(less.std() / np.sqrt(len(less)))
