"""Sections of the page about a fitted scene."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from boresight._utils.arrays import plain
from boresight.frames.frame import Frame
from boresight.report.downloads import File, ecsv, links, stem_of, wcs_file
from boresight.report.figures import figure_section, scene_figures
from boresight.report.panels import panel, panel_section
from boresight.report.pictures import levels_of, linear_picture, signed_picture
from boresight.report.tables import row, table
from boresight.report.verdict import box
from boresight.scene.result import FittedImage, SceneResult

__all__ = ["scene_sections"]

#: Largest chi2/dof without a note that the model does not describe the pixels to their noise.
WORST_CHI2 = 1.5

#: Largest remaining shift in the residuals, in standard errors, without a note about the WCS.
WORST_DIPOLE = 5.0

#: Largest residual of the colour scale, in standard errors.
PULL_RANGE = 5.0

#: Largest number of rows in the table of sources; the file to download has all sources.
SHOWN_SOURCES = 50

_IMAGES = (
    "Image", 'crtan x (")', "error", 'crtan y (")', "error", "phi (deg)", "error", "FWHM (px)",
    "Sky", "chi2/dof", "Shift left (sigma)",
)  # fmt: skip


def scene_sections(
    result: SceneResult,
    frames: Sequence[Frame | None],
    names: Sequence[str],
    heading: str,
) -> Iterator[str]:
    """Yield the sections of the page from the top."""
    left = [float(sigma) for sigma in result.dipoles["sigma"]]
    yield f"<header><h1>{escape(heading)}</h1>{_verdict(result, left)}</header>"
    rows = [row(i.name, _cells(i, sigma)) for i, sigma in zip(result.images, left, strict=True)]
    yield f"<main><section><h2>Images</h2>{table(_IMAGES, rows)}</section>"
    yield panel_section((_panel(result, k) for k in range(len(result.images))), "Pixels and model")
    yield f"<section><h2>Sources</h2>{_sources(result)}</section>"
    yield figure_section(scene_figures(result))
    yield f"<section><h2>Files</h2>{links(_files(result))}</section>"


def _verdict(result: SceneResult, left: Sequence[float]) -> str:
    images, sources = len(result.images), len(result.sources)
    text = (
        f"The fit of {sources} source{'s' * (sources != 1)} in {images} image{'s' * (images != 1)} "
        f"has {result.message}. chi2/dof is {result.chi2_dof:.3f} over {result.num_pixels} pixels."
    )
    notes = [
        f"{image.name}: chi2/dof {image.chi2_dof:.2f}; the model does not describe the pixels to "
        "their noise"
        for image in result.images
        if image.chi2_dof > WORST_CHI2
    ]
    notes += [
        f"{image.name}: the residuals show a shift of {sigma:.1f} standard errors; its WCS needs "
        "more freedom"
        for image, sigma in zip(result.images, left, strict=True)
        if sigma > WORST_DIPOLE
    ]
    doubtful = notes or result.frozen or result.status == "stalled"
    kind = "bad" if result.status == "failed" else "check" if doubtful else "good"
    return box(kind, text, notes)


def _cells(image: FittedImage, left: float) -> list[str]:
    """Table cells of one image; a parameter that was not fitted has "held" instead of an error."""
    x, y = image.crtan_arcsec
    dx, dy = image.crtan_error_arcsec
    phi, dphi = np.degrees([image.phi_rad, image.phi_error_rad])
    level = f"{image.sky[0]:.5g}" if len(image.sky) else "none"
    return [
        f"{x:+.4f}", _error(dx), f"{y:+.4f}", _error(dy), f"{phi:+.5f}", _error(dphi),
        f"{image.psf.fwhm_px:.3f}", level, f"{image.chi2_dof:.3f}", f"{left:.1f}",
    ]  # fmt: skip


def _error(value: float) -> str:
    return f"{value:.2g}" if value else "held"


def _panel(result: SceneResult, number: int) -> str:
    """Make the panel of an image: its pixels, its model and the residuals."""
    image, model = result.images[number], result.model(number)
    pixels = model + result.residual(number)
    levels = levels_of(pixels)
    layers = {
        "Image": linear_picture(pixels, levels),
        "Model": linear_picture(model, levels),
        "Residual": signed_picture(result.pull(number), PULL_RANGE),
    }
    words = f"residual from -{PULL_RANGE:g} (blue) to {PULL_RANGE:g} (red) standard errors"
    shape = model.shape[0], model.shape[1]
    boxes = _windows(result, image, shape)
    return panel(image.name, words, shape, layers, boxes, marked="Sources")


def _windows(result: SceneResult, image: FittedImage, shape: tuple[int, int]) -> str:
    """Make the boxes in which the sources are modelled, with the source names as tooltips."""
    height, width = shape
    marks = []
    for name, flux, window in zip(result.sources["name"], image.flux, image.windows, strict=True):
        if window is None:
            continue
        x0, x1, y0, y1 = window
        marks.append(
            f'<rect x="{x0 - 0.5 - width / 2:g}" y="{y0 - 0.5 - height / 2:g}" '
            f'width="{x1 - x0}" height="{y1 - y0}"><title>{escape(str(name))}, flux {flux:.5g}'
            "</title></rect>"
        )
    return "".join(marks)


def _sources(result: SceneResult) -> str:
    fluxes = [f"Flux in {image.name}" for image in result.images]
    columns = ("Source", "RA (deg)", "Dec (deg)", 'RA error (")', 'Dec error (")', *fluxes, "Flags")
    rows = []
    for k, source in enumerate(result.sources[:SHOWN_SOURCES]):
        cells = [
            f"{source['ra'].value:.7f}", f"{source['dec'].value:+.7f}",
            _error(source["ra_error"].value), _error(source["dec_error"].value),
            *(_flux(image.flux[k], image.flux_error[k]) for image in result.images),
            str(source["flags"]),
        ]  # fmt: skip
        rows.append(row(str(source["name"]), cells))
    left = len(result.sources) - len(rows)
    note = f"<p>{left} more are in the file below.</p>" if left else ""
    return table(columns, rows) + note


def _flux(value: float, error: float) -> str:
    """Format a flux to two digits of its error; empty if the source is not in the image."""
    if not math.isfinite(error):
        return ""
    if not error > 0.0:
        return f"{value:.5g}, held"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _files(result: SceneResult) -> Iterator[File]:
    yield "sources.ecsv", "text/plain", ecsv(result.sources), "the sources"
    yield "history.ecsv", "text/plain", ecsv(result.history), "the steps of the fit"
    errors = np.sqrt(np.diag(result.covariance))
    parameters = {
        name: float(error) for name, error in zip(result.parameter_names, errors, strict=True)
    }
    document = {"errors": parameters, "covariance": plain(result.covariance)}
    yield (
        "covariance.json", "application/json", json.dumps(document),
        "standard errors and covariance of the parameters",
    )  # fmt: skip
    for image in result.images:
        yield from wcs_file(stem_of(image.name), image.wcs)
