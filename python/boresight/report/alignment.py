"""Sections of the page about an alignment."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boresight.alignment.images import ImageCatalog
from boresight.alignment.result import AlignmentResult, DegeneracyKind, ImageAlignment
from boresight.frames.frame import Frame
from boresight.report.downloads import File, ecsv, links, stem_of, wcs_file
from boresight.report.figures import alignment_figures, figure_section
from boresight.report.panels import circles_by_inlier, panel, panel_section
from boresight.report.pictures import star_picture
from boresight.report.tables import row, table
from boresight.report.verdict import box

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["alignment_sections", "members"]

_COLUMNS = (
    "Image", "Verdict", "Sources", "Matches", "Fitted", "RMSE (px)", "Shift x (px)",
    "Shift y (px)", "Rotation (deg)", "Scale", "Corner error (px)",
)  # fmt: skip


def members(result: AlignmentResult) -> list[tuple[int, int, ImageCatalog]]:
    """List all images: the number of the item, the number of the image in the item, the image."""
    return [
        (k, m, member)
        for k, item in enumerate(result.catalogs)
        for m, member in enumerate(item.members)
    ]


def alignment_sections(
    result: AlignmentResult,
    frames: Sequence[Frame | None],
    names: Sequence[str],
    heading: str,
) -> Iterator[str]:
    """Yield the sections of the page from the top."""
    images = _named(result, frames)
    yield f"<header><h1>{escape(heading)}</h1>{_verdict(images, result)}</header>"
    rows = [row(image.name, _cells(image)) for image in images]
    yield f"<main><section><h2>Results</h2>{table(_COLUMNS, rows)}</section>"
    shown = [
        _panel(images[k], m, member, frame)
        for (k, m, member), frame in zip(members(result), frames, strict=True)
    ]
    yield panel_section(shown)
    yield figure_section(alignment_figures(result))
    yield f"<section><h2>Files</h2>{links(_files(result, images))}</section>"


def _named(result: AlignmentResult, frames: Sequence[Frame | None]) -> list[ImageAlignment]:
    """Images renamed to the names of their files; a group of several images keeps its name."""
    images = list(result.images)
    for (k, _, _), frame in zip(members(result), frames, strict=True):
        if frame is not None and frame.path is not None and len(result.catalogs[k].members) == 1:
            images[k] = dataclasses.replace(images[k], name=frame.path.name)
    return images


def _verdict(images: Sequence[ImageAlignment], result: AlignmentResult) -> str:
    counts = {v: sum(image.verdict == v for image in images) for v in ("good", "poor", "failed")}
    listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    text = f"Of {len(images)} images: {listed}"
    aligned = [image.rmse_px for image in images if image.status == "success"]
    if aligned:
        text += f"; RMS residuals of up to {max(aligned):.2g} px"
    fit, notes = result.fit, list(_doubts(images))
    if fit is None:
        return box(_kind(counts), f"{text}.", notes)
    text += (
        f". The fit of all at once has {fit.num_detections} detections of {fit.num_objects} "
        f"objects, chi2/dof {fit.chi2_dof:.2f}"
    )
    if np.isfinite(fit.reserved_chi2_dof):
        text += f" and {fit.reserved_chi2_dof:.2f} for held-out objects"
    for degeneracy in fit.degeneracies:
        message = str(degeneracy)
        for before, image in zip(result.images, images, strict=True):
            message = message.replace(before.name, image.name)
        notes.append(message)
    # A missing reference catalogue is not a fault: the relative positions of the images are known.
    faults = any(d.kind is not DegeneracyKind.NO_REFERENCE for d in fit.degeneracies)
    return box(_kind(counts, doubtful=faults), f"{text}.", notes)


def _kind(counts: Mapping[str, int], *, doubtful: bool = False) -> str:
    """Kind of the box at the top of the page."""
    if not counts["good"] and not counts["poor"]:
        return "bad"
    return "check" if doubtful or counts["poor"] or counts["failed"] else "good"


def _doubts(images: Sequence[ImageAlignment]) -> Iterator[str]:
    """Yield a note per verdict and reason about the images whose verdict is not good."""
    named: dict[tuple[str, str], list[str]] = {}
    for image in images:
        if image.verdict != "good":
            named.setdefault((image.verdict, image.reason.value), []).append(image.name)
    for (verdict, reason), names in named.items():
        yield f"{verdict}, {reason}: {', '.join(names)}"


def _cells(image: ImageAlignment) -> list[str]:
    """Table cells of one image; cells without a value are empty."""
    head = [image.verdict, str(image.num_sources), str(image.num_matches), str(image.num_fitted)]
    if image.status != "success":
        head[0] = "reference" if image.status == "reference" else "failed"
        return [*head, *[""] * 6]
    x, y = image.shift
    return [
        *head, f"{image.rmse_px:.3f}", f"{x:+.3f}", f"{y:+.3f}", f"{image.rotation_deg:+.5f}",
        f"{image.scale:.6f}", f"{image.corner_error_px:.3f}",
    ]  # fmt: skip


def _panel(image: ImageAlignment, number: int, member: ImageCatalog, frame: Frame | None) -> str:
    """Make the panel of an image with its matched sources."""
    shape = frame.image_shape if frame is not None else member.image_shape
    if shape is None:
        return ""
    table = image.matched
    table = table[table["member"] == number]
    name = image.name if member.name is None or not number else member.name
    layers = {} if frame is None else {"Frame": star_picture(frame.image)}
    left = int(np.count_nonzero(~table["fitted"]))
    words = f"{len(table) - left} matches" + (f", {left} left out" if left else "")
    return panel(name, words, shape, layers, _matched(table, shape), marked="Matches")


def _matched(matches: Table, shape: tuple[int, int]) -> str:
    """Make circles around the matched sources."""

    def tooltip(row: int) -> str:
        star, dx, dy = matches["reference", "dx", "dy"][row]
        return f"reference {star}, residual ({dx:+.3f}, {dy:+.3f}) px"

    xy: NDArray[np.float64] = np.column_stack([matches["x"], matches["y"]])
    fitted = np.asarray(matches["fitted"])
    return circles_by_inlier(xy - np.array(shape[::-1]) / 2, fitted, tooltip, shape)


def _files(result: AlignmentResult, images: Sequence[ImageAlignment]) -> Iterator[File]:
    yield "images.ecsv", "text/plain", ecsv(result.table), "the table of images"
    yield "residuals.ecsv", "text/plain", ecsv(result.residuals), "all matches"
    for k, number, member in members(result):
        stem = stem_of(images[k].name) + (f"_{number}" if number else "")
        yield from wcs_file(stem, member.wcs)
