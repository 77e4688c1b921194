"""The command line interface of Boresight."""

from boresight.cli.main import main as main
