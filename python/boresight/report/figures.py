"""Figures of results as SVG drawings embedded in the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from boresight.alignment.result import AlignmentResult
from boresight.calibration.result import CalibrationResult
from boresight.movement import DriftLog
from boresight.plot import (
    plot_alignment_residuals,
    plot_closure,
    plot_coverage,
    plot_distortion,
    plot_drift,
    plot_model_error,
    plot_overlap,
    plot_parameter_correlations,
    plot_pulls,
    plot_residual_trends,
    plot_residuals,
)
from boresight.scene.result import SceneResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "alignment_figures",
    "calibration_figures",
    "drift_figure",
    "figure_section",
    "scene_figures",
]

#: Resolution, in dots per inch, of the rasterized parts: clouds of points and maps.
RASTER_DPI = 130

#: Largest number of scene parameters whose correlations are drawn: their names must be legible.
MOST_CORRELATIONS = 40


def calibration_figures(result: CalibrationResult) -> str:
    """Make all figures of a calibration."""
    drawn: list[tuple[str, Callable[[Any], object]]] = [
        ("Mean residuals over the detector: noise has no pattern.",
         lambda figure: plot_residuals(result, ax=figure.subplots())),
        ("Distortion: from where a pinhole would image a star to where it is.",
         lambda figure: plot_distortion(result.camera_model, ax=figure.subplots())),
        ("Stars in the fit: where there are none, the model is extrapolated.",
         lambda figure: plot_coverage(result, ax=figure.subplots())),
        ("Expected error of the model.",
         lambda figure: plot_model_error(result, ax=figure.subplots())),
        ("Residuals against the distance from the optical centre, and against magnitude.",
         lambda figure: plot_residual_trends(result, axes=figure.subplots(1, 2, sharey=True))),
    ]  # fmt: skip
    return "".join(_figure(words, draw) for words, draw in drawn)


def alignment_figures(result: AlignmentResult) -> str:
    """Make all figures of an alignment: residuals, footprints, closure and pulls (global fit)."""
    drawn: list[tuple[str, Callable[[Any], object]]] = [
        ("Footprints of the images on the sky.",
         lambda figure: plot_overlap(result.catalogs, ax=figure.subplots())),
    ]  # fmt: skip
    if any(image.num_fitted for image in result.images):
        drawn.insert(
            0,
            (
                "Residuals of the fitted matches, of all images on one detector.",
                lambda figure: plot_alignment_residuals(result, ax=figure.subplots()),
            ),
        )
    if result.fit is not None:
        drawn.append(
            (
                "Closure: what is left between each two images, in standard errors.",
                lambda figure: plot_closure(result, ax=figure.subplots()),
            )
        )
        if len(result.fit.pulls):
            drawn.append(
                (
                    "Pulls: residuals over their expected errors, and the normal curve.",
                    lambda figure: plot_pulls(result, ax=figure.subplots()),
                )
            )
    return "".join(_figure(words, draw) for words, draw in drawn)


def scene_figures(result: SceneResult) -> str:
    """Make the figure of a scene's correlations, unless it has too few or too many parameters."""
    if not 1 < len(result.parameter_names) <= MOST_CORRELATIONS:
        return ""
    words = "Correlations of the parameters: those with a correlation near 1 cannot be separated."
    return _figure(words, lambda figure: plot_parameter_correlations(result, figure.subplots()))


def figure_section(figures: str) -> str:
    """Make the section of figures; empty without figures."""
    if not figures:
        return ""
    return f'<section><h2>Figures</h2><div class="figures">{figures}</div></section>'


def drift_figure(log: DriftLog) -> str:
    """Make the figure of a drift log."""
    words = "Rotation of the camera against time; dashed: sudden changes."
    return _figure(words, lambda figure: plot_drift(log, ax=figure.subplots()))


def _figure(words: str, draw: Callable[[Any], object]) -> str:
    from matplotlib.figure import Figure

    wide = "against" in words
    figure = Figure(figsize=(12.0, 4.2) if wide else (6.0, 4.6), layout="constrained")
    draw(figure)
    for ax in figure.axes:
        for line in ax.lines[:1]:
            line.set_rasterized(True)  # thousands of points
    kind = ' class="wide"' if wide else ""
    return f"<figure{kind}>{_svg(figure)}<figcaption>{words}</figcaption></figure>"


def _svg(figure: Figure) -> str:
    """Convert a figure to an SVG element that scales to the width of its container."""
    import matplotlib as mpl

    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": str(id(figure))}):
        figure.savefig(file, format="svg", dpi=RASTER_DPI, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    # The page sets the width. The metadata is removed, because its URLs look like network requests.
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
