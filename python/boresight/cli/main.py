"""The command line: `boresight solve`, `diagnose`, `calibrate`, `batch`, `database` and others.

Tables go to the screen, progress to standard error; with ``--json`` a document goes to standard
output and nothing else. The exit code is 0 when every frame solved, 1 when one did not (or could
not be read), 2 when the command cannot be run as given.
"""

from __future__ import annotations

import click

from boresight.cli.align import align
from boresight.cli.batch import batch
from boresight.cli.calibrate import calibrate
from boresight.cli.catalog import catalog
from boresight.cli.certify import certify
from boresight.cli.check import check
from boresight.cli.database import database
from boresight.cli.demo import demo
from boresight.cli.diagnose import diagnose
from boresight.cli.extract import extract
from boresight.cli.manual import completion, manual
from boresight.cli.movement import movement
from boresight.cli.plot import plot, report
from boresight.cli.scene import scene
from boresight.cli.simulate import simulate
from boresight.cli.solve import solve
from boresight.cli.undo import undo

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="boresight", prog_name="boresight")
def main() -> None:
    """Tell where frames of the sky look, and calibrate the camera that took them."""


for command in (
    solve,
    diagnose,
    certify,
    extract,
    align,
    undo,
    calibrate,
    check,
    movement,
    batch,
    database,
    catalog,
    scene,
    simulate,
    plot,
    report,
    demo,
    completion,
    manual,
):
    main.add_command(command)
