"""`boresight undo`."""

from __future__ import annotations

from pathlib import Path

import click

from boresight.cli.options import clear_errors


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@clear_errors
def undo(files: tuple[Path, ...]) -> None:
    """Restore the old WCS of FITS FILES.

    Each run undoes the last WCS that was written into each file.
    """
    from boresight.wcs.undo import undo

    for file in files:
        undo(file)
        click.echo(f"{file}: restored", err=True)
