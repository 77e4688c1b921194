"""`boresight movement`: measures the movement between two images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from boresight._utils.files import replacing
from boresight.cli.options import check_drawable, clear_errors, report_option
from boresight.cli.output import save_report

UNDETERMINED = 5
"""Exit code if no movement can be determined."""

image_path = click.Path(path_type=Path)


@click.command()
@click.argument("ref", type=image_path)
@click.argument("moved", type=image_path)
@click.option(
    "--method",
    type=click.Choice(["auto", "stars", "features", "phase"]),
    default="auto",
    show_default=True,
    help="Detector; features needs OpenCV.",
)
@click.option(
    "--transform",
    type=click.Choice(["shift", "similarity", "affine", "projective"]),
    default="similarity",
    show_default=True,
    help="Type of transformation.",
)
@click.option("--output", type=image_path, help="Save the correction (.cmc).")
@click.option("--warp", type=image_path, help="Save MOVED aligned with REF (FITS).")
@click.option("--manual", is_flag=True, help="Match points by hand, on a local page.")
@click.option("--no-browser", is_flag=True, help="Only print the address of the page.")
@report_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON to standard output.")
@clear_errors
def movement(
    ref: Path,
    moved: Path,
    method: Any,
    transform: Any,
    output: Path | None,
    warp: Path | None,
    manual: bool,
    no_browser: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """Measure the movement from MOVED to REF.

    Both are images of the same camera. The exit code is 0 if the movement was determined, and 5 if
    not.
    """
    from boresight.movement import DetectionFailedError, detect_movement, manual_movement
    from boresight.movement.images import image_of

    check_drawable("--report", report)
    first, second = image_of(ref, "ref"), image_of(moved, "moved")
    try:
        if manual:
            found = manual_movement(first, second, open_browser=not no_browser)
            if found is None:
                click.echo("boresight: no movement was accepted", err=True)
                raise SystemExit(UNDETERMINED)
        else:
            found = detect_movement(first, second, method=method, transform=transform)
    except DetectionFailedError as error:
        click.echo(json.dumps({"found": False, "error": str(error)}) if as_json else str(error))
        raise SystemExit(UNDETERMINED) from None
    if output is not None:
        found.save(output)
    if warp is not None:
        _save_warped(warp, found, second)
    if report is not None:
        save_report(report, found, [ref, moved], {"method": method, "transform": transform})
    score = found.get_ddscore(first, second)
    if as_json:
        record = {"found": True, **found.to_dict(), "ddscore": score}
        click.echo(json.dumps(record, indent=2))
    else:
        click.echo(f"{found!r}"[1:-1] + f", DDScore {score:+.2f}")


def _save_warped(path: Path, found: Any, image: Any) -> None:
    from astropy.io import fits

    warped, mask = found.warp_moved_to_ref(image)
    if warped.ndim == 3:
        warped = np.moveaxis(warped, 2, 0)
    mask_hdu = fits.ImageHDU(mask.astype(np.uint8), name="MASK")
    with replacing(path) as draft:
        fits.HDUList([fits.PrimaryHDU(warped), mask_hdu]).writeto(draft)
