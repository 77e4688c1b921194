"""Verdict on a camera: the change that explains its stars at the least cost."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from boresight._utils.arrays import Floats
from boresight._utils.naming import named
from boresight._utils.statistics import chi2_quantile
from boresight.camera.model import CameraModel
from boresight.movement.change import PARAMETERS, Change

__all__ = ["KINDS", "Verdict", "judge"]

KINDS: dict[str, tuple[int, ...]] = {
    "pointing": (0, 1),
    "roll": (2,),
    "focus": (3,),
    "optical centre": (4, 5),
    "distortion": (6, 7),
}
"""Kinds of change, and the indices of their parameters."""

LEAST_STARS = 10
"""Minimum number of stars for a verdict."""

CELLS = 4
"""Number of cells along each side of the frame, to measure the coverage by stars."""

LEAST_COVERAGE = 0.4
"""Minimum fraction of cells with a star for a verdict. With less, one cause cannot be distinguished
from another."""

WELL_COVERED = 0.75
"""Fraction of cells with a star below which, as under clouds, a change must pass the stricter test
of `SURE` to be reported."""

SURE = 5e-4
"""Fraction of the false-alarm probability at which a change is certain. Two tests of each of a
thousand frames then have, in total, the requested probability."""

FAMILIES = (
    (("roll",), 0.9),
    (("focus", "distortion"), 0.06),
    (("pointing", "optical centre"), 0.04),
)
"""Groups of kinds that a few displaced stars can imitate together, and the fraction of the
false-alarm probability of each group. Roll gets the largest fraction: no other kind resembles roll,
so a roll of a few standard deviations is not more significant than these deviations say. The kinds
within the other groups resemble each other, so their standard deviations are large, and a change of
as many standard deviations is much more significant when tested alone."""

ARCSEC = math.degrees(1.0) * 3600.0


@named
@dataclass(frozen=True, eq=False)
class Verdict:
    """Result of `compare` or a `Watch`: the change of a camera, or no change.

    Attributes
    ----------
    kinds : tuple of str
        Kinds of change that were found, among "pointing", "roll", "focus", "optical centre" and
        "distortion"; empty if there is no significant change, or no decision.
    unknown : str or None
        Reason why there is no decision, or None.
    solved : bool
        Whether the frames were solved.
    values : ndarray of shape (8,)
        The change, or the suspected change, in the order of `boresight.movement.PARAMETERS`; zero
        for unchanged parameters.
    covariance : ndarray of shape (8, 8)
        Covariance of the changed parameters; zero for the others.
    suspected : tuple of str
        Kinds of a suspected change without a decision: the change is significant at `false_alarm`,
        but a stricter test is required, as `unknown` explains.
    all_values, information : ndarray of shape (8,) and (8, 8)
        Fit of all parameters, and the inverse of its covariance.
    evidence : dict of str to float
        Increase of chi square without each kind that changed.
    num_stars : int
        Number of stars used.
    coverage : float
        Fraction of the frame's cells that contain a star.
    rms_px : float
        Scatter of the stars about the fit per axis.
    held_out_px : float
        Scatter per axis of held-out stars; NaN if there is no change.
    camera_model : CameraModel
        The camera before the change.
    false_alarm : float
        Requested probability of reporting a change if there is none.
    time : str or None
        Middle of the (first) exposure, UTC. For a `Watch`, `to_dict` gives that of the last
        exposure.
    solutions : tuple
        Solutions of the frames that were solved.
    alone : Verdict or None
        For frames that a `Watch` judged together: the verdict on the last frame alone.
    """

    kinds: tuple[str, ...]
    unknown: str | None
    solved: bool
    camera_model: CameraModel
    false_alarm: float
    values: Floats = field(default_factory=lambda: np.zeros(PARAMETERS))
    covariance: Floats = field(default_factory=lambda: np.zeros((PARAMETERS, PARAMETERS)))
    all_values: Floats = field(default_factory=lambda: np.full(PARAMETERS, np.nan))
    information: Floats = field(default_factory=lambda: np.zeros((PARAMETERS, PARAMETERS)))
    evidence: dict[str, float] = field(default_factory=dict)
    num_stars: int = 0
    coverage: float = 0.0
    rms_px: float = math.nan
    held_out_px: float = math.nan
    time: str | None = None
    solutions: tuple[Any, ...] = ()
    suspected: tuple[str, ...] = ()
    alone: Verdict | None = None

    @property
    def moved(self) -> bool | None:
        """Whether the camera changed; None without a decision."""
        return None if self.unknown is not None else bool(self.kinds)

    @property
    def pointing_arcsec(self) -> tuple[float, float]:
        """Rotation about the camera's x and y axes, arcsec."""
        return float(self.values[0] * ARCSEC), float(self.values[1] * ARCSEC)

    @property
    def roll_arcsec(self) -> float:
        """Rotation about the camera's optical axis, arcsec."""
        return float(self.values[2] * ARCSEC)

    @property
    def focus(self) -> float:
        """Relative change of the focal length."""
        return float(np.expm1(self.values[3]))

    @property
    def center_px(self) -> tuple[float, float]:
        """Shift (x, y) of the optical centre, pixels."""
        return float(self.values[4]), float(self.values[5])

    @property
    def distortion_px(self) -> float:
        """Change of the distortion at the corners, pixels."""
        return float(self.values[6] + self.values[7])

    @property
    def sigma(self) -> Floats:
        """Standard deviations of `values`; zero for what did not change."""
        return np.sqrt(np.diag(self.covariance))

    def sentences(self) -> list[str]:
        """Return one sentence for each kind of change, with its size."""
        s, scale = self.sigma, self.camera_model.pixel_scale_arcsec
        x, y = self.pointing_arcsec
        texts = {
            "pointing": f"pointing changed by {math.hypot(x, y):.2f} arcsec: about the x axis "
            f"{x:+.2f} +- {s[0] * ARCSEC:.2f}, about the y axis {y:+.2f} +- {s[1] * ARCSEC:.2f}",
            "roll": f"roll changed by {self.roll_arcsec:+.2f} +- {s[2] * ARCSEC:.2f} arcsec",
            "focus": f"focal length changed by {1e6 * self.focus:+.1f} +- {1e6 * s[3]:.1f} ppm",
            "optical centre": f"optical centre shifted by ({self.center_px[0]:+.3f} +- {s[4]:.3f}, "
            f"{self.center_px[1]:+.3f} +- {s[5]:.3f}) px, {scale:.2f} arcsec each",
            "distortion": f"distortion changed by {self.distortion_px:+.3f} px "
            f"({self.distortion_px * scale:+.2f} arcsec) at the corners",
        }
        return [texts[kind] for kind in self.kinds]

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain numbers and text, for JSON."""
        return {
            "moved": self.moved,
            "kinds": list(self.kinds),
            "unknown": self.unknown,
            "suspected": list(self.suspected),
            "solved": self.solved,
            "time": (self.alone or self).time,
            "pointing_arcsec": list(self.pointing_arcsec),
            "roll_arcsec": self.roll_arcsec,
            "focus": self.focus,
            "center_px": list(self.center_px),
            "distortion_px": self.distortion_px,
            "values": self.values.tolist(),
            "sigma": self.sigma.tolist(),
            "num_stars": self.num_stars,
            "coverage": self.coverage,
            "rms_px": None if math.isnan(self.rms_px) else self.rms_px,
            "held_out_px": None if math.isnan(self.held_out_px) else self.held_out_px,
            "false_alarm": self.false_alarm,
        }

    def __str__(self) -> str:
        if self.unknown is not None:
            return f"cannot tell: {self.unknown}"
        found = "; ".join(self.sentences()) or "nothing significant changed"
        return f"{found} ({self.num_stars} stars)"

    def __repr__(self) -> str:
        return f"<Verdict: {self}>"


def covered(positions: Floats, image_shape: tuple[int, int]) -> float:
    """Return the fraction of the cells of a frame that contain a star."""
    if not len(positions):
        return 0.0
    size = np.array(image_shape[::-1], np.float64)
    cells = np.clip(((positions / size + 0.5) * CELLS).astype(int), 0, CELLS - 1)
    return len(np.unique(cells[:, 0] * CELLS + cells[:, 1])) / CELLS**2


def judge(
    camera: CameraModel,
    change: Change,
    reference_cov: Floats,
    false_alarm: float,
    known: tuple[str, ...] = tuple(KINDS),
    sure: bool = False,
) -> dict[str, Any]:
    """Select the kinds of change that explain a fit at the least cost.

    The cost of a set of kinds is chi square with only these kinds changed, plus a penalty for each
    kind. The penalty is the quantile of chi square that chance exceeds with that kind's part of the
    false-alarm probability (`FAMILIES`). Chi square is that of Box (1949, Biometrika 36, 317): the
    logarithm of the ratio of the sums of squares without and with q parameters, times the degrees
    of freedom plus q/2 - 1, where q counts the parameters of all known kinds.

    Parameters
    ----------
    camera : CameraModel
        The camera before the change.
    change : Change
        The fit of all parameters.
    reference_cov : ndarray of shape (8, 8)
        Covariance of the parameters of the camera before the change.
    false_alarm : float
        Probability of reporting a change if there is none.
    known : tuple of str
        Kinds that can be found; parameters of other kinds are free.
    sure : bool
        Whether a change must also be significant at the fraction `SURE` of the probability to be
        reported; otherwise it is suspected. This is always required if the coverage by stars is
        less than `WELL_COVERED`.

    Returns
    -------
    dict
        Attributes of a `Verdict`.
    """
    coverage = covered(change.positions_px, camera.image_shape)
    common = {
        "num_stars": change.num_stars,
        "coverage": coverage,
        "rms_px": change.rms_px,
        "all_values": change.values,
        "information": change.information,
    }
    if change.num_stars < LEAST_STARS:
        unknown = f"too few stars: {change.num_stars}, it takes {LEAST_STARS}"
        return common | {"kinds": (), "unknown": unknown}
    if coverage < LEAST_COVERAGE:
        unknown = f"too little of the frame is covered by stars: {coverage:.0%}"
        return common | {"kinds": (), "unknown": unknown}
    fitted = _Fitted(change, reference_cov, known)
    found = fitted.cheapest(false_alarm)
    needs_more = sure or coverage < WELL_COVERED
    if needs_more and found["kinds"] and not fitted.cheapest(SURE * false_alarm)["kinds"]:
        unknown = _doubt(found["kinds"], coverage)
        return common | found | {"kinds": (), "unknown": unknown, "suspected": found["kinds"]}
    return common | found | {"unknown": None}


def _doubt(suspected: tuple[str, ...], coverage: float) -> str:
    """Return the reason why a suspected change is not reported."""
    where = "" if coverage >= WELL_COVERED else f" by stars in {coverage:.0%} of the frame"
    return f"{' and '.join(suspected)} may have changed, but this is not certain{where}"


class _Fitted:
    """Fit of all parameters relative to an uncertain reference, and chi square of sets of kinds.

    Parameters
    ----------
    change, reference_cov, known
        As in `judge`.
    """

    def __init__(self, change: Change, reference_cov: Floats, known: tuple[str, ...]) -> None:
        self._known, self._freedom = known, change.freedom
        self._units = 1.0 / np.sqrt(np.maximum(np.diag(change.information), 1e-300))
        weight = _joint_information(change.information, reference_cov, self._units)
        free = [i for kind, rows in KINDS.items() if kind not in known for i in rows]
        self._weight = _marginalized(weight, free)
        scaled = change.values / self._units
        self._gradient = self._weight @ scaled
        self._whole = float(scaled @ self._gradient)
        sets = [s for n in range(len(known) + 1) for s in itertools.combinations(known, n)]
        self._left = {kinds: self._unexplained(kinds) for kinds in sets}

    def _unexplained(self, kinds: tuple[str, ...]) -> float:
        """Return the remaining chi square if some kinds have changed."""
        rows = [i for kind in kinds for i in KINDS[kind]]
        part, gradient = self._weight[np.ix_(rows, rows)], self._gradient[rows]
        drop = gradient @ np.linalg.pinv(part, hermitian=True) @ gradient if rows else 0.0
        # The scatter is measured on few stars, so chance produces a larger chi square.
        multiplier = self._freedom + sum(len(KINDS[kind]) for kind in self._known) / 2.0 - 1.0
        return multiplier * math.log1p(max(0.0, float(self._whole - drop)) / self._freedom)

    def cheapest(self, false_alarm: float) -> dict[str, Any]:
        """Return the kinds of least cost, the change with its covariance, and the evidence."""
        penalty = _penalties(false_alarm, self._known)
        costs = {s: sum(penalty[k] for k in s) + left for s, left in self._left.items()}
        best = min(costs, key=lambda s: costs[s])
        rows = [i for kind in best for i in KINDS[kind]]
        values, cov = np.zeros(PARAMETERS), np.zeros((PARAMETERS, PARAMETERS))
        if rows:
            units = self._units[rows]
            inverse = np.linalg.pinv(self._weight[np.ix_(rows, rows)], hermitian=True)
            values[rows] = units * (inverse @ self._gradient[rows])
            cov[np.ix_(rows, rows)] = units[:, None] * inverse * units
        left = self._left
        evidence = {k: left[tuple(o for o in best if o != k)] - left[best] for k in best}
        return {"kinds": best, "values": values, "covariance": cov, "evidence": evidence}


def _penalties(false_alarm: float, known: tuple[str, ...]) -> dict[str, float]:
    """Return the penalty of each kind, so that the total false-alarm probability is as asked."""
    families = [(set(kinds) & set(known), part) for kinds, part in FAMILIES]
    whole = sum(part for kinds, part in families if kinds)
    return {
        kind: chi2_quantile(false_alarm * part / whole, len(KINDS[kind]))
        for kinds, part in families
        for kind in kinds
    }


def _joint_information(information: Floats, reference_cov: Floats, units: Floats) -> Floats:
    """Return the information on the change from an uncertain reference, in scaled parameters.

    It is the inverse of the sum of both covariances, computed without inverting a matrix that may
    be singular.
    """
    scaled = units[:, None] * information * units
    cov = reference_cov / units[:, None] / units
    joint = scaled @ np.linalg.inv(np.eye(PARAMETERS) + cov @ scaled)
    return np.asarray((joint + joint.T) / 2.0)


def _marginalized(weight: Floats, rows: list[int]) -> Floats:
    """Return the information with some parameters free (Schur complement)."""
    if not rows:
        return weight
    kept = [i for i in range(len(weight)) if i not in rows]
    across = weight[np.ix_(kept, rows)]
    part = np.zeros_like(weight)
    inverse = np.linalg.pinv(weight[np.ix_(rows, rows)], hermitian=True)
    part[np.ix_(kept, kept)] = weight[np.ix_(kept, kept)] - across @ inverse @ across.T
    return part
