"""`boresight scene`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from boresight.cli.options import check_drawable, clear_errors, report_option
from boresight.cli.output import save_report

#: Choices for the transformation of a FITS WCS that is fitted.
FREEDOMS = ("shift", "rshift", "rscale", "general")


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--free",
    type=click.Choice(FREEDOMS),
    default="shift",
    show_default=True,
    help="Movement of the WCS that is fitted, of all images but the first.",
)
@click.option(
    "--sources",
    type=click.Path(path_type=Path),
    help="Table with the columns ra and dec in degrees. [default: stars of the first image]",
)
@click.option(
    "--num-sources", type=int, default=50, show_default=True, help="Stars to find at most."
)
@click.option(
    "--sky",
    type=click.Choice(("none", "constant", "plane")),
    default="constant",
    show_default=True,
    help="Light below the sources that is fitted.",
)
@click.option(
    "--motion",
    type=click.Choice(("still", "proper", "parallax")),
    default="still",
    show_default=True,
    help="Proper motions, and parallaxes, that are fitted; from the times of the files.",
)
@click.option(
    "--chromatic",
    is_flag=True,
    help="Fit a shift by colour for each band (FILTER); --sources needs the column color.",
)
@click.option("--write", is_flag=True, help="Write the corrected WCS into the files (see undo).")
@report_option
@click.option("--json", "as_json", is_flag=True, help="Write one JSON document.")
@click.pass_context
@clear_errors
def scene(
    context: click.Context,
    images: tuple[Path, ...],
    free: str,
    sources: Path | None,
    num_sources: int,
    sky: str,
    motion: Any,
    chromatic: bool,
    write: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """Align FITS IMAGES by one fit of all their pixels.

    The stars are fitted at the same time. The first image is the reference. The exit code is 1 if
    the fit does not converge.
    """
    from boresight import scene as package

    check_drawable("--report", report)
    given: Any = num_sources
    if sources is not None:
        from astropy.table import Table

        given = Table.read(sources)
    frames = [
        package.Image(
            path,
            sky=sky,  # type: ignore[arg-type]
            wcs_freedom=free if k else "fixed",  # type: ignore[arg-type]
            name=f"{k + 1}:{path.name}",
            chromatic=chromatic,
        )
        for k, path in enumerate(images)
    ]
    result = package.fit(frames, given, motion=motion)
    document = result.to_dict()
    records = [
        {"file": str(path), **{name: value for name, value in image.items() if name != "name"}}
        for path, image in zip(images, document["images"], strict=True)
    ]
    if report is not None:
        kept = {
            "free": free, "sources": sources, "num_sources": num_sources, "sky": sky,
            "motion": motion, "chromatic": chromatic,
        }  # fmt: skip
        save_report(report, result, images, kept)
    if as_json:
        click.echo(json.dumps({**document, "images": records}))
    else:
        click.echo(f"{result.message}; chi2/dof {result.chi2_dof:.4f}")
        for record in records:
            (x, y), (dx, dy) = record["crtan_arcsec"], record["crtan_error_arcsec"]
            click.echo(
                f"{record['file']}: crtan {x:+.4f} +- {dx:.4f}, {y:+.4f} +- {dy:.4f} arcsec, "
                f"phi {record['phi_rad']:+.6f} +- {record['phi_error_rad']:.6f} rad, "
                f"FWHM {record['fwhm_px']:.2f} px" + _color_shift(record, chromatic)
            )
        if motion != "still":
            for row in document["sources"]:
                moves = (name for name in ("pmra", "pmdec", "parallax") if name in row)
                motions = (f"{n} {row[n]:+.2f} +- {row[f'{n}_error']:.2f}" for n in moves)
                click.echo(f"{row['name']}: {', '.join(motions)} (mas, years)")
    if result.status != "converged":
        context.exit(1)
    if write:
        from boresight.wcs import write_wcs

        for path, image in list(zip(images, result.images, strict=True))[1:]:
            write_wcs(path, image.wcs)


def _color_shift(record: dict[str, Any], chromatic: bool) -> str:
    """Text with the shift by colour of an image; empty without `chromatic`."""
    if not chromatic:
        return ""
    x, y = record["chromatic_arcsec_per_mag"]
    dx, dy = record["chromatic_error_arcsec_per_mag"]
    return f", by colour {x:+.4f} +- {dx:.4f}, {y:+.4f} +- {dy:.4f} arcsec/mag"
