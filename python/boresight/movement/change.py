"""How a camera has changed, by the positions of its stars: the fit of all that may have changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from boresight._utils.arrays import Floats, rotation_about
from boresight._utils.statistics import planar_scale
from boresight.camera.model import CameraModel

__all__ = ["Change", "Seen", "fit_change", "held_out_px"]

PARAMETERS = 8

STEPS = np.array([1e-6, 1e-6, 1e-6, 1e-6, 1e-3, 1e-3, 1e-2, 1e-2])
"""Steps of the numeric derivatives, in the units of the parameters."""

EXPECTED_PX = 10.0
"""Standard deviation of how far the optical centre and the corners are expected to move. Where the
stars tell these, it has no effect; a few stars of a narrow field do not tell them from pointing and
focus, and a fit without it goes so far that its linear form holds no longer."""

EXPECTATION = np.diag([0.0] * 4 + [EXPECTED_PX**-2] * 4)
"""Information of that."""

ROUNDS = 12
"""Steps of the fit at most."""

CLIP = 3.0
"""Standard deviations beyond which a star loses weight, with the square of its distance."""

LOST = (16.0, 8.0, 4.0)
"""Standard deviations beyond which it has none, in the first rounds and from then on: a real change
is followed first, and then stars matched by chance, of which a sparse frame under clouds has a few,
have no say in it."""

EFFICIENCY = 0.98
"""Variance of the mean square length of normal residuals, over that of its estimate by `scatter`:
a verdict on few stars counts with a scatter that is known so much worse."""

FLOOR_PX = 0.01
"""Error of each position beside its own uncertainty."""

SYSTEMATIC_PX = 0.002
"""Error that all positions may have in common, as by what the camera model does not follow: however
many the stars, nothing is measured better than this."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Stars of a frame.

    Attributes
    ----------
    directions : ndarray of shape (n, 3)
        Where the unmoved camera would see them, in its own axes.
    positions_px : ndarray of shape (n, 2)
        Where they are seen, pixels from the image centre.
    sigma_px : ndarray of shape (n,) or None
        Uncertainty of that per axis.
    """

    directions: Floats
    positions_px: Floats
    sigma_px: Floats | None


@dataclass(frozen=True, eq=False)
class Change:
    """The fit of all parameters.

    Attributes
    ----------
    values : ndarray of shape (8,)
        The change of each parameter.
    information : ndarray of shape (8, 8)
        Inverse of their covariance; may be singular.
    num_stars : int
        Stars that the fit used.
    positions_px : ndarray of shape (n, 2)
        Where these are.
    rms_px : float
        Scatter of their residuals per axis.
    """

    values: Floats
    information: Floats
    num_stars: int
    positions_px: Floats
    rms_px: float

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the scatter."""
        return max(1.0, EFFICIENCY * _freedom(self.num_stars))


def changed_camera(camera: CameraModel, values: Floats) -> CameraModel:
    """Give a camera with its focal length and optical centre changed."""
    x, y = camera.optical_center
    return camera.replace(
        focal_length_px=camera.focal_length_px * float(np.exp(values[3])),
        optical_center=(x + float(values[4]), y + float(values[5])),
    )


def predicted(camera: CameraModel, directions: Floats, values: Floats) -> Floats:
    """Where a changed camera sees directions, (n, 2)."""
    changed = changed_camera(camera, values)
    x, y = changed.direction_to_pixel(directions @ rotation_about(values[:3]).T)
    points = np.column_stack([x, y])
    return points + distorted(camera, points, values[6:])


def distorted(camera: CameraModel, points: Floats, terms: Floats) -> Floats:
    """Displace points by the terms of the distortion: k r (r/R)^2 and k r (r/R)^4 over R, px.

    R is half the diagonal, so that each term is the displacement of the corners.
    """
    half = np.hypot(*camera.image_shape) / 2.0
    offset = (points - np.array(camera.optical_center)) / half
    square = (offset**2).sum(axis=1, keepdims=True)
    return np.asarray(offset * (terms[0] * square + terms[1] * square**2))


def fit_change(camera: CameraModel, frames: Sequence[Seen]) -> Change:
    """Fit all parameters to the stars of some frames, robustly.

    Parameters
    ----------
    camera : CameraModel
        The unmoved camera.
    frames : sequence of Seen
        Frames that have all parameters in common.
    """
    directions = np.concatenate([frame.directions for frame in frames])
    positions = np.concatenate([frame.positions_px for frame in frames])
    sigma = np.concatenate([
        np.ones(len(frame.positions_px)) if frame.sigma_px is None
        else np.hypot(frame.sigma_px, FLOOR_PX)
        for frame in frames
    ])  # fmt: skip
    values = np.zeros(PARAMETERS)
    normal, weights, scale = np.zeros((PARAMETERS, PARAMETERS)), np.ones(len(sigma)), 1.0
    for number in range(ROUNDS):
        slopes, residuals = _linearised(camera, directions, positions, values)
        seen = np.isfinite(residuals).all(axis=1) & np.isfinite(slopes).all(axis=(1, 2))
        lengths = np.where(seen, np.linalg.norm(residuals, axis=1) / sigma, np.inf)
        if not seen.any():
            break
        scale = max(scatter(lengths[seen]), 1e-9)
        with np.errstate(divide="ignore"):
            weights = np.minimum(1.0, (CLIP * scale / np.maximum(lengths, 1e-30)) ** 2)
        weights[lengths > LOST[min(number, len(LOST) - 1)] * scale] = 0.0
        share = (weights / (sigma * scale) ** 2)[:, None]
        # What is not finite has no weight.
        slopes, residuals = np.nan_to_num(slopes), np.nan_to_num(residuals)
        normal = np.einsum("nki,nkj->ij", slopes * share[..., None], slopes) + EXPECTATION
        gradient = np.einsum("nki,nk->i", slopes * share[..., None], residuals)
        gradient -= EXPECTATION @ values
        step = np.linalg.pinv(_scaled(normal), rcond=1e-12, hermitian=True)
        units = _units(normal)
        delta = units * (step @ (units * gradient))
        values = values + delta
        if number >= len(LOST) and (delta**2 @ np.diag(normal)) < 1e-6:
            break
    used = weights > 0
    number = int(used.sum())
    # Residuals are smaller than the noise, by what the parameters have taken up.
    taken = 2.0 * number / _freedom(number)
    noise = float(np.median(sigma[used])) * scale * taken**0.5 if number else np.nan
    # So many stars never average away what they have in common.
    common = 1.0 + number * (SYSTEMATIC_PX / noise) ** 2 if number else 1.0
    return Change(values, normal / (common * taken or 1.0), number, positions[used], noise)


def scatter(lengths: Floats) -> float:
    """Give the standard deviation per axis of residuals, robustly.

    From the median length, one step of Huber's (1964) second proposal: the mean square of lengths
    that are clipped at `CLIP`, over what it is for normal residuals. The median alone tells half of
    what the residuals do, and a change would have to be larger to be significant.
    """
    first = planar_scale(lengths)
    kept = lengths[lengths <= LOST[-1] * first]
    square = np.minimum(kept, CLIP * first) ** 2
    return float(np.sqrt(square.mean() / (2.0 * -np.expm1(-(CLIP**2) / 2.0))))


def _freedom(number: int) -> int:
    """Degrees of freedom of the residuals of some stars."""
    return max(1, 2 * number - PARAMETERS)


def held_out_px(camera: CameraModel, frames: Sequence[Seen]) -> float:
    """Scatter per axis of stars about the fit to the others: each half is predicted by the other.

    NaN for fewer than two stars in a half.
    """
    lengths = []
    for half in (0, 1):
        fitted = [_rows(frame, slice(half, None, 2)) for frame in frames]
        change = fit_change(camera, fitted)
        for frame in (_rows(frame, slice(1 - half, None, 2)) for frame in frames):
            misses = frame.positions_px - predicted(camera, frame.directions, change.values)
            lengths.append(np.linalg.norm(misses, axis=1))
    every = np.concatenate(lengths)
    every = every[np.isfinite(every)]
    return planar_scale(every) if len(every) >= 4 else np.nan


def _rows(frame: Seen, rows: slice) -> Seen:
    sigma = None if frame.sigma_px is None else frame.sigma_px[rows]
    directions = np.ascontiguousarray(frame.directions[rows])
    return Seen(directions, np.ascontiguousarray(frame.positions_px[rows]), sigma)


def _units(normal: Floats) -> Floats:
    """Units in which every parameter has the same information."""
    diagonal = np.diag(normal)
    return np.where(diagonal > 0, 1.0 / np.sqrt(np.maximum(diagonal, 1e-300)), 0.0)


def _scaled(normal: Floats) -> Floats:
    units = _units(normal)
    return units[:, None] * normal * units


def _linearised(
    camera: CameraModel, directions: Floats, positions: Floats, values: Floats
) -> tuple[Floats, Floats]:
    """Give derivatives (n, 2, 8) of where stars are predicted, and the residuals (n, 2)."""
    slopes = np.empty((len(positions), 2, PARAMETERS))
    for k, step in enumerate(STEPS):
        ends = []
        for sign in (1.0, -1.0):
            moved = values.copy()
            moved[k] += sign * step
            ends.append(predicted(camera, directions, moved))
        slopes[..., k] = (ends[0] - ends[1]) / (2.0 * step)
    return slopes, positions - predicted(camera, directions, values)
