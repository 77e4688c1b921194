"""The command line: `boresight solve`, `diagnose`, `calibrate`, `batch`, `database` and others.

Tables are printed to standard output, progress to standard error. With ``--json`` only a JSON
document is printed to standard output. The exit code is 0 if every frame was solved, 1 if a frame
was not solved or could not be read, and 2 if the command cannot be run as given.
"""

from __future__ import annotations

from importlib import import_module

import click

__all__ = ["main"]

#: Module, and name in the module, of each command.
COMMANDS = {
    "align": ("align", "align"),
    "batch": ("batch", "batch"),
    "calibrate": ("calibrate", "calibrate"),
    "catalog": ("catalog", "catalog"),
    "certify": ("certify", "certify"),
    "check": ("check", "check"),
    "completion": ("manual", "completion"),
    "database": ("database", "database"),
    "demo": ("demo", "demo"),
    "diagnose": ("diagnose", "diagnose"),
    "extract": ("extract", "extract"),
    "man": ("manual", "manual"),
    "movement": ("movement", "movement"),
    "plot": ("plot", "plot"),
    "report": ("plot", "report"),
    "scene": ("scene", "scene"),
    "simulate": ("simulate", "simulate"),
    "solve": ("solve", "solve"),
    "undo": ("undo", "undo"),
}


class Commands(click.Group):
    """A group whose commands are imported only when needed, because most imports are slow."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the sorted names of the commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command by its name; return None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"boresight.cli.{module}"), attribute)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="boresight", prog_name="boresight")
def main() -> None:
    """Plate-solve frames of the sky, and calibrate the camera that took them."""
