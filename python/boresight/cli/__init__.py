"""The command line: `boresight solve`, `calibrate`, `database`, `simulate` and `demo`."""

from boresight.cli.main import main as main
