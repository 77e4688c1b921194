"""Figures of a calibration; public in `boresight.plot`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boresight.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from boresight.calibration.result import CalibrationResult, DetectorMap

__all__ = ["plot_coverage", "plot_model_error", "plot_residual_trends", "plot_residuals"]

Floats = NDArray[np.float64]

#: The median residual is drawn as long as this part of the detector's longer side.
ARROW_PART = 0.03

#: Arrows are drawn of so many stars at most.
MAX_ARROWS = 4000

#: Bins of the running median, which hold the same number of stars each.
MEDIAN_BINS = 12


def plot_residuals(
    result: CalibrationResult, *, scale: float | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the residuals of a calibration as arrows, those of all frames on one detector.

    Without pattern, they are noise; a pattern is what the model does not follow.

    Parameters
    ----------
    result : CalibrationResult
        The calibration.
    scale : float, optional
        How many times longer than true the arrows are. Default: so that the median one can be seen.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Pixels from the image's centre, y downwards.

    Raises
    ------
    InputError
        If the calibration used no star.
    """
    positions, residuals, _ = _used(result)
    ax = _on_detector(result, ax)
    if scale is None:
        median = np.median(np.hypot(*residuals.T))
        longer = max(result.camera_model.image_shape)
        scale = float(ARROW_PART * longer / max(median, 1e-12))
    step = max(1, len(positions) // MAX_ARROWS)
    ax.quiver(
        *positions[::step].T, *(residuals[::step].T * scale),
        angles="xy", scale_units="xy", scale=1.0, width=0.0015, color="tab:blue",
    )  # fmt: skip
    rms = np.sqrt(np.mean((residuals**2).sum(axis=1)))
    ax.set_title(f"Residuals, {scale:.3g} times longer; RMS {rms:.4f} px", fontsize="medium")
    return ax


def plot_residual_trends(
    result: CalibrationResult, *, axes: tuple[Axes, Axes] | None = None
) -> tuple[Axes, Axes]:
    """Draw the length of the residuals against radius and against magnitude.

    Points are stars, lines are running medians. A trend with radius is distortion that the model
    does not follow; one with magnitude is noise at the faint end and saturation at the bright one.

    Parameters
    ----------
    result : CalibrationResult
        The calibration.
    axes : (matplotlib.axes.Axes, matplotlib.axes.Axes), optional
        Where to draw. Default: a new figure.

    Returns
    -------
    (matplotlib.axes.Axes, matplotlib.axes.Axes)
        Against the distance from the optical centre in pixels, and against the instrumental
        magnitude ``-2.5 log10(brightness)`` (empty where no brightness is known).

    Raises
    ------
    InputError
        If the calibration used no star.
    """
    positions, residuals, brightness = _used(result)
    if axes is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(11.0, 4.0), layout="constrained")
        radius_ax, magnitude_ax = figure.subplots(1, 2, sharey=True)
    else:
        radius_ax, magnitude_ax = axes
    lengths = np.hypot(*residuals.T)
    radii = np.hypot(*(positions - result.camera_model.optical_center).T)
    known = brightness > 0
    magnitudes = -2.5 * np.log10(brightness[known])
    for ax, x, y, label in (
        (radius_ax, radii, lengths, "distance from the optical centre (px)"),
        (magnitude_ax, magnitudes, lengths[known], "instrumental magnitude"),
    ):
        ax.plot(x, y, ".", markersize=2, alpha=0.4)
        ax.plot(*_running_median(x, y), "-", color="black")
        ax.set_xlabel(label)
        ax.set_yscale("log")
    radius_ax.set_ylabel("residual (px)")
    return radius_ax, magnitude_ax


def plot_coverage(result: CalibrationResult, *, cells: int = 16, ax: Axes | None = None) -> Axes:
    """Draw how many stars of a calibration lie where on the detector.

    Parameters
    ----------
    result : CalibrationResult
        The calibration.
    cells : int
        Cells along the longer side. Default 16.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _on_detector(result, ax)
    _draw_map(ax, result.coverage(cells), "stars in the cell")
    ax.set_title(f"{result.num_inliers} stars", fontsize="medium")
    return ax


def plot_model_error(result: CalibrationResult, *, cells: int = 32, ax: Axes | None = None) -> Axes:
    """Draw the expected error of the model over the detector.

    Parameters
    ----------
    result : CalibrationResult
        The calibration.
    cells : int
        Cells along the longer side. Default 32.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The title says where the model is extrapolated, if it is.
    """
    ax = _on_detector(result, ax)
    _draw_map(ax, result.model_error(cells), "expected error per axis (px)")
    extrapolated = result.extrapolated
    note = f"; extrapolated over {extrapolated:.0%}" if extrapolated > 0 else ""
    ax.set_title(f"Intrinsics and attitude{note}", fontsize="medium")
    return ax


def _used(result: CalibrationResult) -> tuple[Floats, Floats, Floats]:
    """Positions, residuals and brightnesses of the stars that the fit used, of all frames."""
    frames = [frame for frame in result.frames if frame is not None and frame.num_inliers]
    if not frames:
        raise InputError("result: the calibration used no star; give one that did")
    return (
        np.concatenate([frame.positions_px[frame.inliers] for frame in frames]),
        np.concatenate([frame.residuals_px[frame.inliers] for frame in frames]),
        np.concatenate([frame.brightness[frame.inliers] for frame in frames]),
    )


def _on_detector(result: CalibrationResult, ax: Axes | None) -> Axes:
    """Axes that show the whole detector, y downwards."""
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.figure(figsize=(6.5, 6.0), layout="constrained").subplots()
    height, width = result.camera_model.image_shape
    ax.set_xlim(-width / 2, width / 2)
    ax.set_ylim(height / 2, -height / 2)
    ax.set_aspect("equal")
    ax.set_xlabel("x (px)")
    ax.set_ylabel("y (px)")
    return ax


def _draw_map(ax: Axes, drawn: DetectorMap, label: str) -> None:
    mesh = ax.pcolormesh(drawn.x_px, drawn.y_px, drawn.values, cmap="viridis")
    ax.figure.colorbar(mesh, ax=ax, label=label)


def _running_median(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Medians of `x` and `y` in bins along x that hold the same number of stars each."""
    order = np.argsort(x, kind="stable")
    bins = np.array_split(order, max(1, min(MEDIAN_BINS, len(x) // 5)))
    filled = [part for part in bins if len(part)]
    return (
        np.array([np.median(x[part]) for part in filled]),
        np.array([np.median(y[part]) for part in filled]),
    )
