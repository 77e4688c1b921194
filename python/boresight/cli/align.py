"""`boresight align`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from boresight._utils.files import replacing
from boresight.alignment.align import align as align_images
from boresight.alignment.files import read_head, write, write_head
from boresight.alignment.images import ImageCatalog
from boresight.alignment.result import AlignmentResult, Reason
from boresight.cli.options import check_drawable, clear_errors, frames_argument, report_option
from boresight.cli.output import save_report
from boresight.errors import InputError
from boresight.extraction.extract import extract_centroids
from boresight.frames.frame import Frame
from boresight.frames.read import read_frame


@click.command()
@frames_argument
@click.option(
    "--reference",
    metavar="CATALOG",
    help="hipparcos, gaia, or a table with columns RA and DEC. [default: the first image]",
)
@click.option(
    "--method",
    type=click.Choice(["sequential", "global"]),
    default="sequential",
    show_default=True,
    help="Align one image after the other, or fit all at once.",
)
@click.option(
    "--fitgeom",
    type=click.Choice(["shift", "rshift", "rscale", "general"]),
    default="rscale",
    show_default=True,
    help="Shift; shift and rotation; also scale; general linear map.",
)
@click.option(
    "--distortion-order",
    type=int,
    default=0,
    show_default=True,
    help="Order of a polynomial distortion shared by all images (fitted by --method global).",
)
@click.option(
    "--exposure-order",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    help="2: fit a separate quadratic to each image (--method global, --fitgeom general).",
)
@click.option(
    "--motion",
    type=click.Choice(["still", "proper", "parallax"]),
    default="still",
    show_default=True,
    help="Motion of the objects fitted by --method global: none, proper motions, also parallaxes.",
)
@click.option("--searchrad", type=float, default=30.0, show_default=True, help="Search radius, px.")
@click.option(
    "--tolerance",
    type=float,
    default=1.0,
    show_default=True,
    help="Largest distance of a match, px.",
)
@click.option(
    "--sources",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Table of the sources of a frame, once for each in their order. [default: extract them]",
)
@click.option("--sigma", type=float, help="Detection threshold in standard deviations.")
@click.option("--write", "in_place", is_flag=True, help="Write the WCS into the files themselves.")
@click.option("--output-dir", type=click.Path(path_type=Path), help="Folder for corrected copies.")
@click.option("--overwrite", is_flag=True, help="Replace copies that exist.")
@click.option("--head", is_flag=True, help="Write a .head file for SWarp next to each image.")
@click.option(
    "--residuals", type=click.Path(path_type=Path), help="Table of all matches (ECSV, Parquet)."
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the residuals (PNG, PDF).")
@report_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON to standard output.")
@clear_errors
def align(
    frames: tuple[Path, ...],
    reference: str | None,
    method: Any,
    fitgeom: Any,
    distortion_order: int,
    exposure_order: int,
    motion: Any,
    searchrad: float,
    tolerance: float,
    sources: tuple[Path, ...],
    sigma: float | None,
    in_place: bool,
    output_dir: Path | None,
    overwrite: bool,
    head: bool,
    residuals: Path | None,
    plot: Path | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Align FRAMES, FITS files with a WCS, by the sources in them.

    Cards in a file FRAME.ahead replace those of the header. The exit code is 0 if the verdict on
    all images is good, and 1 otherwise.
    """
    check_drawable("--report", report)
    if sources and len(sources) != len(frames):
        raise InputError(f"sources: {len(sources)} tables for {len(frames)} frames; give one each")
    tables: tuple[Path | None, ...] = sources or (None,) * len(frames)
    images = [_image(path, table, sigma) for path, table in zip(frames, tables, strict=True)]
    result = align_images(
        images,
        _reference(reference),
        method=method,
        expand_refcat=reference is None,
        fitgeom=fitgeom,
        distortion_order=distortion_order,
        exposure_order=exposure_order,
        motion=motion,
        searchrad=searchrad,
        tolerance=tolerance,
    )
    if report is not None:
        kept = {"reference": reference, "method": method, "fitgeom": fitgeom, "sigma": sigma}
        kept |= {"searchrad": searchrad, "tolerance": tolerance}
        save_report(report, result, frames, kept)
    if in_place or output_dir is not None:
        write(result, frames, output_dir=None if in_place else output_dir, overwrite=overwrite)
    if head:
        write_head(result, frames)
    if residuals is not None:
        _save_residuals(result, residuals)
    if plot is not None:
        _save_plot(result, plot)
    if as_json:
        click.echo(json.dumps([_record(image) for image in result.to_dict()["images"]], indent=2))
    else:
        _print(result)
    raise SystemExit(0 if result.ok else 1)


def _image(path: Path, table: Path | None, sigma: float | None) -> ImageCatalog:
    """Read a frame, and read its table of sources or extract its stars."""
    from astropy.table import Table

    frame = read_frame(path)
    options: dict[str, Any] = {} if sigma is None else {"sigma_threshold": sigma}
    if table is None:
        stars: Any = extract_centroids(frame.image, mask=frame.mask, **options).centroids
    else:
        stars = Table.read(table)
    wcs = _wcs(path, frame)
    shape = frame.image_shape
    return ImageCatalog(wcs, stars, image_shape=shape, name=str(path), time=frame.time)


def _wcs(path: Path, frame: Frame) -> Any:
    """WCS of a frame's header, in which cards of the frame's .ahead file replace the originals."""
    from astropy.wcs import WCS

    override = path.with_suffix(".ahead")
    if override.exists() and frame.header is not None:
        header = frame.header.copy()
        header.update(read_head(override)[0])
        wcs = WCS(header).celestial
        wcs.pixel_shape = frame.image_shape[::-1]
        return wcs
    if frame.wcs is None:
        raise InputError(
            f"{path}: it has no WCS on the sky; write one with `boresight solve --write`"
        )
    return frame.wcs


def _reference(name: str | None) -> Any:
    """Return the name of a catalogue unchanged, or else read the table in the file."""
    if name is None or name in ("hipparcos", "gaia"):
        return name
    from astropy.table import Table

    return Table.read(name)


def _record(image: dict[str, Any]) -> dict[str, Any]:
    """Record of an image with the name of its file first."""
    return {"file": image.pop("name"), **image}


def _print(result: AlignmentResult) -> None:
    """Print a line for each image: verdict, numbers, name and the reason if it is not good."""
    headings = ("Matches", "RMSE px", "Shift x px", "Shift y px", "Rotation deg", "  Scale")
    click.echo(f"{'Verdict':8}" + "".join(f"{h:>{len(h) + 2}}" for h in headings) + "  Image")
    for image in result.images:
        numbers = [""] * len(headings)
        if image.status == "success":
            x, y = image.shift
            numbers = [
                str(image.num_fitted), f"{image.rmse_px:.3f}", f"{x:.3f}", f"{y:.3f}",
                f"{image.rotation_deg:.4f}", f"{image.scale:.5f}",
            ]  # fmt: skip
        columns = (f"{n:>{len(h) + 2}}" for n, h in zip(numbers, headings, strict=True))
        why = "" if image.reason is Reason.ALIGNED else f": {image.reason.value}"
        click.echo(f"{image.verdict:8}" + "".join(columns) + f"  {image.name}{why}")
    if result.fit is not None:
        click.echo(repr(result.fit))
        for degeneracy in result.fit.degeneracies:
            click.echo(str(degeneracy))


def _save_residuals(result: AlignmentResult, path: Path) -> None:
    if path.suffix == ".parquet":
        from boresight.batch.parquet import write_parquet

        write_parquet(result.residuals, path)
        return
    with replacing(path) as draft:
        result.residuals.write(draft)


def _save_plot(result: AlignmentResult, path: Path) -> None:
    from boresight.plot.alignment import plot_alignment_residuals
    from boresight.plot.style import figure_of

    with replacing(path) as draft:
        figure_of(plot_alignment_residuals(result)).savefig(draft)
