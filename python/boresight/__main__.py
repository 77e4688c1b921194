"""`python -m boresight` is the command `boresight`."""

from boresight.cli import main

main(prog_name="boresight")
