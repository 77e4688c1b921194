"""Fit of the change of a camera, with all parameters, to the positions of stars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from boresight import _core as core
from boresight._utils.arrays import Floats
from boresight.camera.model import CameraModel

__all__ = ["Change", "FrameStars", "fit_change", "held_out_px"]

PARAMETERS = 8


@dataclass(frozen=True, eq=False)
class FrameStars:
    """Stars of a frame, predicted and measured.

    Attributes
    ----------
    directions : ndarray of shape (n, 3)
        Directions of the stars in the axes of the unmoved camera.
    positions_px : ndarray of shape (n, 2)
        Measured positions, pixels from the image centre.
    sigma_px : ndarray of shape (n,) or None
        Standard deviations of the positions per axis.
    """

    directions: Floats
    positions_px: Floats
    sigma_px: Floats | None


@dataclass(frozen=True, eq=False)
class Change:
    """Result of the fit of all parameters.

    Attributes
    ----------
    values : ndarray of shape (8,)
        The change of each parameter.
    information : ndarray of shape (8, 8)
        Inverse of the covariance of the values; may be singular.
    num_stars : int
        Number of stars that the fit used.
    positions_px : ndarray of shape (n, 2)
        Measured positions of these stars.
    rms_px : float
        Scatter of the residuals per axis.
    freedom : float
        Degrees of freedom of `rms_px`.
    """

    values: Floats
    information: Floats
    num_stars: int
    positions_px: Floats
    rms_px: float
    freedom: float


def changed_camera(camera: CameraModel, values: Floats) -> CameraModel:
    """Return a camera with the changes of focal length and optical centre applied."""
    x, y = camera.optical_center
    return camera.replace(
        focal_length_px=camera.focal_length_px * float(np.exp(values[3])),
        optical_center=(x + float(values[4]), y + float(values[5])),
    )


def predicted(camera: CameraModel, directions: Floats, values: ArrayLike) -> Floats:
    """Return pixels (n, 2) of a changed camera, for directions in the unmoved camera's axes."""
    rows = np.ascontiguousarray(directions, np.float64)
    return core.changed_pixels(camera._core, rows, np.asarray(values, np.float64).tolist())


def fit_change(camera: CameraModel, frames: Sequence[FrameStars]) -> Change:
    """Fit all parameters robustly to the stars of one or more frames.

    Parameters
    ----------
    camera : CameraModel
        The unmoved camera.
    frames : sequence of FrameStars
        Frames that share all parameters.
    """
    directions, positions, sigma = _joined(frames)
    found = core.fit_change(camera._core, directions, positions, sigma)
    used = found["used"]
    return Change(
        found["values"], found["information"], int(used.sum()), positions[used],
        found["rms_px"], found["freedom"],
    )  # fmt: skip


def held_out_px(camera: CameraModel, frames: Sequence[FrameStars]) -> float:
    """Return the scatter per axis of held-out stars: each half is predicted from the other half.

    NaN for fewer than two stars in a half.
    """
    return core.held_out_change_px(camera._core, *_joined(frames))


def _joined(frames: Sequence[FrameStars]) -> tuple[Floats, Floats, Floats]:
    """Return the directions, positions and errors (NaN if unknown) of all stars."""
    sigma = [
        np.full(len(f.positions_px), np.nan) if f.sigma_px is None else f.sigma_px for f in frames
    ]
    return (
        np.concatenate([frame.directions for frame in frames]),
        np.concatenate([frame.positions_px for frame in frames]),
        np.concatenate(sigma),
    )
