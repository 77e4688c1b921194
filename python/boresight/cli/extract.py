"""`boresight extract`."""

from __future__ import annotations

from pathlib import Path

import click

from boresight._utils.files import replacing
from boresight.cli.frames import load_frame
from boresight.cli.options import check_writable, clear_errors, reading_of


@click.command()
@click.argument("frame", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="CSV, ECSV or FITS.")
@click.option("--sigma", type=float, help="Detection threshold in standard deviations.")
@click.option("--hdu", help="Number or name of the HDU of a FITS file.")
@click.option("-O", "--overwrite", is_flag=True, help="Replace a file that exists.")
@clear_errors
def extract(
    frame: Path, output: Path, sigma: float | None, hdu: str | None, overwrite: bool
) -> None:
    """Find the stars of FRAME and write a table of them.

    The columns x and y are in pixels from the image's centre.
    """
    check_writable("--output", output)
    if output.exists() and not overwrite:
        raise FileExistsError(f"--output: {output} exists; add --overwrite to replace it")
    stars = load_frame(frame, reading_of(sigma, hdu)).stars
    table = stars.table()
    scalar = [name for name in table.colnames if table[name].ndim == 1]
    with replacing(output) as draft:
        table[scalar].write(draft)
    click.echo(f"{output}: {len(stars)} stars")
