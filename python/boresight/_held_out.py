"""How well a calibration foretells stars and frames that it was not fitted to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core

__all__ = ["FOLDS", "gain", "residuals"]

Floats = NDArray[np.float64]
Fit = Callable[[Sequence[Any]], core.CameraModel]

FOLDS = 5
"""Parts that are left out in turn: more come closer to what all data would do, and take longer."""

MIN_FRAMES = 3
"""From so many frames on, whole frames are left out; of fewer, stars only."""

ATTITUDE_ROUNDS = 6
"""Reweightings of the attitude of a frame that was left out."""

CAUCHY_SIGMA = 2.385
"""Residuals beyond this many standard deviations lose weight."""

RAYLEIGH_MEDIAN = 1.1774100225154747
"""Median length of a two-dimensional normal deviate of unit variance per axis."""


def residuals(frames: Sequence[Any], used: Sequence[NDArray[np.bool_]], fit: Fit) -> list[Floats]:
    """Length in pixels of the residual of every star that is `used`, when it is left out itself.

    The intrinsics come from other frames, or, where there are fewer than `MIN_FRAMES`, from other
    stars; the attitude from the frame's other stars. NaN for stars that are not used.
    """
    lengths = [np.full(len(frame.pixels), np.nan) for frame in frames]
    parts = [_parts(mask, shift) for shift, mask in enumerate(used)]
    whole = len(frames) >= MIN_FRAMES
    for fold in range(min(FOLDS, len(frames)) if whole else FOLDS):
        if whole:
            camera = fit([f for i, f in enumerate(frames) if i % FOLDS != fold])
        else:
            camera = fit([_subset(f, part != fold) for f, part in zip(frames, parts, strict=True)])
        for i, (frame, part) in enumerate(zip(frames, parts, strict=True)):
            if whole and i % FOLDS != fold:
                continue
            for left_out in range(FOLDS) if whole else (fold,):
                out = part == left_out
                kept = (part >= 0) & ~out
                if out.any() and kept.sum() >= 2:
                    lengths[i][out] = _predict(camera, frame, kept, out)
    return lengths


def gain(before: Sequence[Floats], after: Sequence[Floats]) -> tuple[float, float]:
    """How much smaller residuals have become, and the standard error of that.

    Their mean Cauchy loss, which a few blended stars do not decide, on the scale of `before`.
    """
    old, new = np.concatenate(before), np.concatenate(after)
    both = np.isfinite(old) & np.isfinite(new)
    if not both.any():
        return -np.inf, 0.0
    scale = CAUCHY_SIGMA * max(np.median(old[both]) / RAYLEIGH_MEDIAN, 1e-9)
    less = np.log1p((old[both] / scale) ** 2) - np.log1p((new[both] / scale) ** 2)
    return float(less.mean()), float(less.std() / np.sqrt(len(less)))


def _parts(used: NDArray[np.bool_], shift: int) -> NDArray[np.int64]:
    """Part to which each star belongs; -1 for stars that are not used."""
    part = np.full(len(used), -1)
    part[used] = (np.arange(np.count_nonzero(used)) + shift) % FOLDS
    return part


def _subset(frame: Any, keep: NDArray[np.bool_]) -> Any:
    covariance = None if frame.covariance is None else frame.covariance[keep]
    return frame._replace(pixels=frame.pixels[keep], sky=frame.sky[keep], covariance=covariance)


def _predict(
    camera: core.CameraModel, frame: Any, kept: NDArray[np.bool_], out: NDArray[np.bool_]
) -> Floats:
    """Distance between stars left out and where the camera puts them, by the attitude of others."""
    seen = camera.pixel_to_direction(np.ascontiguousarray(frame.pixels[kept]))
    sky = _apparent(frame.sky, frame.velocity)
    given = np.ones(len(seen))
    if frame.covariance is not None:
        given = 1.0 / (frame.covariance[kept, 0] + frame.covariance[kept, 2])
    weights = given
    for _ in range(ATTITUDE_ROUNDS):
        rotation = _rotation(sky[kept], seen, weights)
        misses = np.linalg.norm(sky[kept] @ rotation.T - seen, axis=1) * np.sqrt(given)
        scale = CAUCHY_SIGMA * max(np.median(misses) / RAYLEIGH_MEDIAN, 1e-12)
        weights = given / (1.0 + (misses / scale) ** 2)
    pixels = camera.direction_to_pixel(np.ascontiguousarray(sky[out] @ rotation.T))
    distances: Floats = np.hypot(*(pixels - frame.pixels[out]).T)
    return distances


def _rotation(sky: Floats, seen: Floats, weights: Floats) -> Floats:
    """Rotation that takes `sky` to `seen` best (Markley 1988, J. Astronaut. Sci. 38, 245)."""
    u, _, vt = np.linalg.svd((seen * weights[:, None]).T @ sky)
    turned: Floats = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    return turned


def _apparent(sky: Floats, beta: tuple[float, ...] | None) -> Floats:
    """Directions as an observer sees them who moves at `beta` times the speed of light."""
    if beta is None:
        return sky
    b = np.array(beta)
    g = np.sqrt(1.0 - b @ b)
    along = (sky @ b)[:, None]
    moved: Floats = (g * sky + (1.0 + along / (1.0 + g)) * b) / (1.0 + along)
    return moved
