"""`boresight catalog`: describes the installed catalogues, and fetches stars from archives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from boresight._utils.files import replacing
from boresight.catalog.catalog import Catalog
from boresight.catalog.gaia import is_gaia_installed
from boresight.cli.options import check_writable, clear_errors
from boresight.cli.solve_field import dec as dec_of
from boresight.cli.solve_field import ra as ra_of
from boresight.errors import InputError


@click.group()
def catalog() -> None:
    """Describe star catalogues; fetch stars from archives."""


@catalog.command("info")
@clear_errors
def info() -> None:
    """Describe the catalogues on this machine."""
    click.echo(f"hipparcos: {_description(Catalog.hipparcos())}")
    if is_gaia_installed():
        click.echo(f"gaia: {_description(Catalog.gaia())}")
    else:
        click.echo('gaia: not installed; pip install "boresight[gaia]"')


def _description(stars: Catalog) -> str:
    """Size, epoch and magnitude range of a catalogue as text."""
    return repr(stars).removeprefix("Catalog(").removesuffix(")")


@catalog.command("fetch")
@click.argument("name")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--ra", type=ra_of, metavar="ANGLE", help="Right ascension of the centre, ...")
@click.option("--dec", type=dec_of, metavar="ANGLE", help="... its declination, ...")
@click.option("--radius", type=float, help="... and degrees about it. [default: all the sky]")
@click.option("--max-magnitude", type=float, help="Faintest magnitude.")
@click.option("-O", "--overwrite", is_flag=True, help="Replace a file that exists.")
@clear_errors
def fetch(
    name: str,
    output: Path,
    ra: float | None,
    dec: float | None,
    radius: float | None,
    max_magnitude: float | None,
    overwrite: bool,
) -> None:
    """Fetch stars from the archive NAME into the table OUTPUT.

    NAME is gaia, for Gaia DR3 in ESA's archive, or a VizieR table such as I/259/tyc2. The answer is
    also kept in the cache folder.
    """
    check_writable("OUTPUT", output)
    if output.exists() and not overwrite:
        raise FileExistsError(f"OUTPUT: {output} exists; add --overwrite to replace it")
    if (ra is None) != (dec is None) or (ra is None) != (radius is None):
        raise InputError("--ra: it needs --dec and --radius; give all three or none")
    part: dict[str, Any] = {}
    if max_magnitude is not None:
        part["max_magnitude"] = max_magnitude
    if ra is not None:
        part |= {"center_deg": (ra, dec), "radius_deg": radius}
    if name.lower() == "gaia":
        stars = Catalog.from_gaia_archive(**part)
    else:
        stars = Catalog.from_vizier(name, **part)
    with replacing(output) as draft:
        stars.table().write(draft)
    click.echo(f"{output}: {_description(stars)}")
