"""Figures of a calibration; public in `boresight.plot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from boresight._utils.naming import named
from boresight.calibration.result import MAP_CELLS, DetectorMap
from boresight.errors import InputError
from boresight.plot.style import (
    BLUE,
    ORANGE,
    SKY,
    VERMILION,
    figure_of,
    letters,
    new_axes,
    relative_size,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from boresight.calibration.result import CalibrationResult
    from boresight.camera.model import CameraModel

__all__ = [
    "plot_convergence", "plot_coverage", "plot_distortion", "plot_model_error",
    "plot_residual_trends", "plot_residuals",
]  # fmt: skip

Floats = NDArray[np.float64]

Trend = Literal["radius", "magnitude", "colour", "epoch"]
"""Quantities against which residuals are drawn."""

TREND_LABELS = {
    "radius": "distance from the optical centre (px)",
    "magnitude": "instrumental magnitude",
    "colour": "colour index (mag)",
    "epoch": "epoch (Julian year)",
}
"""Axis label of each quantity."""

#: Cells along the longer side over which residuals are averaged.
RESIDUAL_CELLS = 16

#: Approximate length of the key's arrow, as a fraction of the detector's longer side.
KEY_PART = 0.05

#: Length of the arrow of the median residual, as a fraction of the detector's longer side.
ARROW_PART = 0.03

#: Largest number of arrows, approximately.
MAX_ARROWS = 4000

#: Number of bins of the running median. The bins hold equal numbers of stars.
MEDIAN_BINS = 12


@named
def plot_residuals(
    result: CalibrationResult,
    *,
    cells: int | None = RESIDUAL_CELLS,
    scale: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the residuals of a calibration as arrows, with all frames on one detector.

    Means over cells reduce the noise and show the errors of the model. A pattern in the means is
    distortion that the model does not describe. Without model errors the arrows are short and have
    random directions.

    Parameters
    ----------
    result : CalibrationResult
        The calibration.
    cells : int or None
        Number of cells along the longer side, over which residuals are averaged. None: one arrow
        per star. Default 16.
    scale : float, optional
        Magnification of the arrows relative to true length. Default: the arrow of the median
        residual is 3 % of the longer side.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Axes in pixels from the image's centre, y downwards, with the key of the arrows above.

    Raises
    ------
    InputError
        If the calibration used no star, or `cells` is not above zero.

    Examples
    --------
    >>> import boresight
    >>> from boresight.plot import plot_residuals
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> views = [boresight.simulate_frame(camera, ra, 20.0, seed=1).image for ra in (10, 90)]
    >>> ax = plot_residuals(boresight.calibrate(views, model="radial"))
    >>> ax.get_xlabel()
    'x (px)'
    """
    positions, residuals, _ = _used(result)
    rms = np.sqrt(np.mean((residuals**2).sum(axis=1)))
    drawn = result.coverage(cells) if cells is not None else None
    if drawn is not None:
        positions, residuals = _cell_means(drawn, positions, residuals)
    ax = _on_detector(result, ax)
    longer = max(result.camera_model.image_shape)
    if scale is None:
        scale = float(ARROW_PART * longer / max(np.median(np.hypot(*residuals.T)), 1e-12))
    step = max(1, len(positions) // MAX_ARROWS)
    quiver = ax.quiver(
        *positions[::step].T, *(residuals[::step].T * scale), color=BLUE,
        angles="xy", scale_units="xy", scale=1.0, width=0.0035 if cells else 0.0015,
    )  # fmt: skip
    key = _round_length(KEY_PART * longer / scale)
    ax.quiverkey(
        quiver, 0.86, 1.03, key * scale, f"{key:g} px", labelpos="E",
        fontproperties={"size": letters(ax, 9)},
    )  # fmt: skip
    what = "Mean residuals" if cells else "Residuals"
    ax.set_title(f"{what}; RMS {rms:.3g} px", fontsize=letters(ax, 11), loc="left")
    return ax


@named
def plot_residual_trends(
    result: CalibrationResult,
    *,
    against: Sequence[Trend] = ("radius", "magnitude"),
    colours: Mapping[int, float] | None = None,
    axes: Sequence[Axes] | None = None,
) -> tuple[Axes, ...]:
    """Draw the length of the residuals against radius, magnitude, colour or epoch.

    Points are stars, lines are running medians. A trend with radius is distortion that the model
    does not describe. A trend with magnitude is noise at the faint end and saturation at the bright
    end. A trend with colour is refraction by the lens or the air. A trend with epoch is proper
    motion that was not corrected, or a camera that changes.

    Parameters
    ----------
    result : CalibrationResult
        The calibration; for "colour" and "epoch" a result of `boresight.calibrate`.
    against : sequence of {"radius", "magnitude", "colour", "epoch"}
        Quantities, one per panel. Default: radius and magnitude.
    colours : mapping of int to float, optional
        Colour indices by catalogue number, required for "colour".
    axes : sequence of matplotlib.axes.Axes, optional
        Axes to draw on, one per quantity. Default: a new figure.

    Returns
    -------
    tuple of matplotlib.axes.Axes
        One panel per quantity: the distance from the optical centre in pixels, the instrumental
        magnitude ``-2.5 log10(brightness)``, the colour index, or the Julian year of the frame. A
        panel is empty if its quantity is not known.

    Raises
    ------
    InputError
        If the calibration used no star, or `against` has an unknown name.

    Examples
    --------
    >>> import boresight
    >>> from boresight.plot import plot_residual_trends
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> views = [boresight.simulate_frame(camera, ra, 20.0, seed=1).image for ra in (10, 90)]
    >>> radius, magnitude = plot_residual_trends(boresight.calibrate(views, model="radial"))
    >>> magnitude.get_xlabel()
    'instrumental magnitude'
    """
    _, residuals, _ = _used(result)
    unknown = [name for name in against if name not in TREND_LABELS]
    if unknown:
        raise InputError(f"against: {unknown[0]!r} is unknown; give {', '.join(TREND_LABELS)}")
    if axes is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(5.5 * len(against), 4.0), layout="constrained")
        axes = figure.subplots(1, len(against), sharey=True, squeeze=False)[0]
    lengths = np.hypot(*residuals.T)
    for ax, name in zip(axes, against, strict=True):
        x = _trend_values(result, name, colours or {})
        known = np.isfinite(x) & (lengths > 0)
        size = relative_size(ax)
        ax.plot(x[known], lengths[known], ".", markersize=3 * size, alpha=0.35, color=SKY)
        ax.plot(*_running_median(x[known], lengths[known]), "o-", color="black",
                markersize=3.5 * size, linewidth=1.5 * size)  # fmt: skip
        ax.set_xlabel(TREND_LABELS[name])
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
    axes[0].set_ylabel("residual (px)")
    return tuple(axes)


def _trend_values(result: CalibrationResult, name: str, colours: Mapping[int, float]) -> Floats:
    """Values of a quantity for the stars that `_used` returns."""
    positions, _, brightness = _used(result)
    if name == "radius":
        x, y = (positions - result.camera_model.optical_center).T
        return np.asarray(np.hypot(x, y))
    if name == "magnitude":
        with np.errstate(invalid="ignore", divide="ignore"):
            return -2.5 * np.log10(np.where(brightness > 0, brightness, np.nan))
    values = []
    for index, frame in enumerate(result.frames):
        if frame is None or not frame.num_inliers:
            continue
        solution = result.solutions[index] if result.solutions else None
        if solution is None:
            values.append(np.full(frame.num_inliers, np.nan))
        elif name == "epoch":
            values.append(np.full(frame.num_inliers, solution.place.epoch or np.nan))
        else:
            numbers = solution.matched_catalog_ids.tolist()
            values.append(np.array([colours.get(number, np.nan) for number in numbers]))
    return np.concatenate(values)


def _cell_means(cells: DetectorMap, positions: Floats, residuals: Floats) -> tuple[Floats, Floats]:
    """Centres of the cells that contain stars, and the mean residuals of these cells."""
    shape = cells.values.shape
    column = np.clip(np.digitize(positions[:, 0], cells.x_px) - 1, 0, shape[1] - 1)
    row = np.clip(np.digitize(positions[:, 1], cells.y_px) - 1, 0, shape[0] - 1)
    cell = row * shape[1] + column
    counts = np.bincount(cell, minlength=shape[0] * shape[1])
    used = np.flatnonzero(counts)
    sums = [np.bincount(cell, weights=values, minlength=len(counts)) for values in residuals.T]
    rows, columns = np.divmod(used, shape[1])
    x, y = (edges[:-1] + np.diff(edges) / 2 for edges in (cells.x_px, cells.y_px))
    means: Floats = np.stack(sums, axis=-1)[used] / counts[used, None]
    return np.column_stack([x[columns], y[rows]]), means


def _round_length(length: float) -> float:
    """Nearest number of the form 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(power * min((1.0, 2.0, 5.0, 10.0), key=lambda step: abs(step - length / power)))


@named
def plot_distortion(camera_model: CameraModel, *, cells: int = 16, ax: Axes | None = None) -> Axes:
    """Draw the displacement of stars by the lens, relative to a pinhole camera.

    Parameters
    ----------
    camera_model : CameraModel
        The camera.
    cells : int
        Number of arrows along the longer side. Default 16.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The colour gives the displacement in pixels, the arrows give its direction. A cross marks
        the optical centre, if it is on the detector. Parts where the distortion is not known are
        empty.

    Examples
    --------
    >>> import boresight
    >>> from boresight.plot import plot_distortion
    >>> lens = boresight.RadialDistortion(-0.02, scale=256)
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512), distortion=lens)
    >>> plot_distortion(camera).get_title(loc="left")
    'Distortion, 13.2 px at most'
    """
    ax = _detector_axes(camera_model.image_shape, ax)
    height, width = camera_model.image_shape
    step = max(height, width) / MAP_CELLS
    x_edges = np.linspace(-width / 2, width / 2, max(2, round(width / step)) + 1)
    y_edges = np.linspace(-height / 2, height / 2, max(2, round(height / step)) + 1)
    dx, dy = _displacement(camera_model, *np.meshgrid(*(e[:-1] + np.diff(e) / 2
                                                        for e in (x_edges, y_edges))))  # fmt: skip
    lengths = np.hypot(dx, dy)
    _draw_map(ax, DetectorMap(lengths, x_edges, y_edges), "displacement (px)")
    step = max(height, width) / cells
    x, y = np.meshgrid(
        np.arange(-width / 2 + step / 2, width / 2, step),
        np.arange(-height / 2 + step / 2, height / 2, step),
    )
    dx, dy = _displacement(camera_model, x, y)
    longest = np.nanmax(np.hypot(dx, dy), initial=1e-12)
    longer = 1.5 * step / longest
    ax.quiver(
        x, y, dx * longer, dy * longer, color="white", width=0.003,
        angles="xy", scale_units="xy", scale=1.0,
    )  # fmt: skip
    cx, cy = camera_model.optical_center
    if abs(cx) < width / 2 and abs(cy) < height / 2:
        ax.plot(cx, cy, "+", color=VERMILION, markersize=14 * relative_size(ax), markeredgewidth=2)
    most = np.nanmax(lengths, initial=0.0)
    ax.set_title(f"Distortion, {most:.3g} px at most", fontsize=letters(ax, 11), loc="left")
    return ax


def _displacement(camera_model: CameraModel, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Displacement by the lens, in pixels, of stars that are imaged at the given pixels."""
    ideal_x, ideal_y = camera_model.pixel_to_ideal(x, y)
    cx, cy = camera_model.optical_center
    return x - cx - ideal_x, y - cy - ideal_y


@named
def plot_convergence(results: Sequence[CalibrationResult], *, ax: Axes | None = None) -> Axes:
    """Draw how a calibration converged, pass by pass.

    Parameters
    ----------
    results : sequence of CalibrationResult
        Results of the passes, which ``boresight.calibrate(..., on_pass=...)`` passes to its
        callback.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        RMS residuals before and after each pass, and the number of stars that the pass used.

    Raises
    ------
    InputError
        If `results` is empty.

    Examples
    --------
    >>> import boresight
    >>> from boresight.plot import plot_convergence
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> views = [boresight.simulate_frame(camera, ra, 20.0, seed=1).image for ra in (10, 90)]
    >>> passes = []
    >>> _ = boresight.calibrate(views, model="radial", on_pass=lambda _, now: passes.append(now))
    >>> plot_convergence(passes).get_ylabel()
    'RMS residual (px)'
    """
    if not results:
        raise InputError("results: the list is empty; collect the results that on_pass receives")
    ax = new_axes(ax, (6.5, 4.0))
    size = relative_size(ax)
    numbers = np.arange(1, len(results) + 1)
    before = np.array([result.rmse_before_px for result in results], float)
    after = np.array([result.rmse_after_px for result in results], float)
    for values, marker, colour, label in (
        (before, "o--", ORANGE, "before the fit"), (after, "s-", BLUE, "after the fit"),
    ):  # fmt: skip
        ax.plot(numbers, values, marker, color=colour, label=label, markersize=6 * size)
    ax.set_yscale("log")
    ax.margins(x=0.1, y=0.2)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}")
    ticks = [f"{n}\n{result.num_inliers}" for n, result in zip(numbers, results, strict=True)]
    ax.set_xticks(numbers, ticks)
    ax.tick_params(which="both", labelsize=letters(ax, 9))
    ax.set_xlabel("pass, and its number of stars", fontsize=letters(ax, 10))
    ax.set_ylabel("RMS residual (px)", fontsize=letters(ax, 10))
    ax.legend(fontsize=letters(ax, 9))
    return ax


@named
def plot_coverage(result: CalibrationResult, *, cells: int = 16, ax: Axes | None = None) -> Axes:
    """Draw the number of stars of a calibration per cell of the detector.

    Parameters
    ----------
    result : CalibrationResult
        The calibration.
    cells : int
        Number of cells along the longer side. Default 16.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import boresight
    >>> from boresight.plot import plot_coverage
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> views = [boresight.simulate_frame(camera, ra, 20.0, seed=1).image for ra in (10, 90)]
    >>> ax = plot_coverage(boresight.calibrate(views, model="radial"))
    >>> ax.get_ylabel()
    'y (px)'
    """
    ax = _on_detector(result, ax)
    _draw_map(ax, result.coverage(cells), "stars in the cell")
    ax.set_title(f"{result.num_inliers} stars", fontsize=letters(ax, 11))
    return ax


@named
def plot_model_error(result: CalibrationResult, *, cells: int = 32, ax: Axes | None = None) -> Axes:
    """Draw the expected error of the model over the detector.

    Parameters
    ----------
    result : CalibrationResult
        The calibration.
    cells : int
        Number of cells along the longer side. Default 32.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        A map of the expected error per axis in pixels. The title gives the fraction of the detector
        over which the model is extrapolated, if there is any.

    Examples
    --------
    >>> import boresight
    >>> from boresight.plot import plot_model_error
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> views = [boresight.simulate_frame(camera, ra, 20.0, seed=1).image for ra in (10, 90)]
    >>> ax = plot_model_error(boresight.calibrate(views, model="radial"))
    >>> ax.get_ylabel()
    'y (px)'
    """
    ax = _on_detector(result, ax)
    _draw_map(ax, result.model_error(cells), "expected error per axis (px)")
    extrapolated = result.extrapolated
    note = f"; extrapolated over {extrapolated:.0%}" if extrapolated > 0 else ""
    ax.set_title(f"Intrinsics and attitude{note}", fontsize=letters(ax, 11))
    return ax


def _used(result: CalibrationResult) -> tuple[Floats, Floats, Floats]:
    """Positions, residuals and brightnesses of all stars of all frames that the fit used."""
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
    return _detector_axes(result.camera_model.image_shape, ax)


def _detector_axes(image_shape: tuple[int, int], ax: Axes | None) -> Axes:
    ax = new_axes(ax, (6.5, 6.0))
    height, width = image_shape
    ax.set_xlim(-width / 2, width / 2)
    ax.set_ylim(height / 2, -height / 2)
    ax.set_aspect("equal")
    ax.set_xlabel("x (px)", fontsize=letters(ax, 10))
    ax.set_ylabel("y (px)", fontsize=letters(ax, 10))
    ax.tick_params(labelsize=letters(ax, 9))
    return ax


def _draw_map(ax: Axes, drawn: DetectorMap, label: str) -> None:
    mesh = ax.pcolormesh(drawn.x_px, drawn.y_px, drawn.values, cmap="cividis", rasterized=True)
    beside = ax.inset_axes((1.02, 0.0, 0.04, 1.0))  # as high as the map, whatever its shape
    bar = figure_of(ax).colorbar(mesh, cax=beside)
    bar.set_label(label, size=letters(ax, 10))
    beside.tick_params(labelsize=letters(ax, 9))


def _running_median(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Medians of `x` and `y` in bins along x that hold equal numbers of stars."""
    order = np.argsort(x, kind="stable")
    bins = np.array_split(order, max(1, min(MEDIAN_BINS, len(x) // 5)))
    filled = [part for part in bins if len(part)]
    return (
        np.array([np.median(x[part]) for part in filled]),
        np.array([np.median(y[part]) for part in filled]),
    )
