"""How a camera has changed, by the positions of its stars: the fit of all that may have changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from boresight import _core as core
from boresight._utils.arrays import Floats
from boresight.camera.model import CameraModel

__all__ = ["Change", "Seen", "fit_change", "held_out_px"]

PARAMETERS = 8


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
    freedom : float
        Degrees of freedom of that.
    """

    values: Floats
    information: Floats
    num_stars: int
    positions_px: Floats
    rms_px: float
    freedom: float


def changed_camera(camera: CameraModel, values: Floats) -> CameraModel:
    """Give a camera with its focal length and optical centre changed."""
    x, y = camera.optical_center
    return camera.replace(
        focal_length_px=camera.focal_length_px * float(np.exp(values[3])),
        optical_center=(x + float(values[4]), y + float(values[5])),
    )


def predicted(camera: CameraModel, directions: Floats, values: ArrayLike) -> Floats:
    """Where a changed camera sees directions of the unmoved one's axes, (n, 2)."""
    rows = np.ascontiguousarray(directions, np.float64)
    return core.changed_pixels(camera._core, rows, np.asarray(values, np.float64).tolist())


def fit_change(camera: CameraModel, frames: Sequence[Seen]) -> Change:
    """Fit all parameters to the stars of some frames, robustly.

    Parameters
    ----------
    camera : CameraModel
        The unmoved camera.
    frames : sequence of Seen
        Frames that have all parameters in common.
    """
    directions, positions, sigma = _joined(frames)
    found = core.fit_change(camera._core, directions, positions, sigma)
    used = found["used"]
    return Change(
        found["values"], found["information"], int(used.sum()), positions[used],
        found["rms_px"], found["freedom"],
    )  # fmt: skip


def held_out_px(camera: CameraModel, frames: Sequence[Seen]) -> float:
    """Scatter per axis of stars about the fit to the others: each half is predicted by the other.

    NaN for fewer than two stars in a half.
    """
    return core.held_out_change_px(camera._core, *_joined(frames))


def _joined(frames: Sequence[Seen]) -> tuple[Floats, Floats, Floats]:
    """Give the directions, positions and uncertainties (NaN where not known) of all stars."""
    sigma = [
        np.full(len(f.positions_px), np.nan) if f.sigma_px is None else f.sigma_px for f in frames
    ]
    return (
        np.concatenate([frame.directions for frame in frames]),
        np.concatenate([frame.positions_px for frame in frames]),
        np.concatenate(sigma),
    )
