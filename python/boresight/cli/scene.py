"""`boresight scene`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from boresight.cli.options import check_drawable, clear_errors, report_option
from boresight.cli.output import save_report

#: Freedoms of a FITS WCS.
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
    write: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """Align FITS IMAGES by their pixels: sources, PSF and WCS in one fit.

    The first image is the reference. Exit code 1 if the fit does not converge.
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
        )
        for k, path in enumerate(images)
    ]
    result = package.fit(frames, given)
    records = [
        {
            "file": str(path),
            "crtan_arcsec": image.crtan_arcsec.tolist(),
            "crtan_error_arcsec": image.crtan_error_arcsec.tolist(),
            "phi_rad": image.phi_rad,
            "phi_error_rad": image.phi_error_rad,
            "chi2_dof": image.chi2_dof,
            "fwhm_px": image.psf.fwhm_px,
        }
        for path, image in zip(images, result.images, strict=True)
    ]
    if report is not None:
        kept = {"free": free, "sources": sources, "num_sources": num_sources, "sky": sky}
        save_report(report, result, images, kept)
    if as_json:
        document = {"status": result.status, "chi2_dof": result.chi2_dof, "images": records}
        click.echo(json.dumps(document))
    else:
        click.echo(f"{result.message}; chi2/dof {result.chi2_dof:.4f}")
        for record in records:
            (x, y), (dx, dy) = record["crtan_arcsec"], record["crtan_error_arcsec"]
            click.echo(
                f"{record['file']}: crtan {x:+.4f} +- {dx:.4f}, {y:+.4f} +- {dy:.4f} arcsec, "
                f"phi {record['phi_rad']:+.6f} +- {record['phi_error_rad']:.6f} rad, "
                f"FWHM {record['fwhm_px']:.2f} px"
            )
    if result.status != "converged":
        context.exit(1)
    if write:
        from boresight.wcs import write_wcs

        for path, image in list(zip(images, result.images, strict=True))[1:]:
            write_wcs(path, image.wcs)
