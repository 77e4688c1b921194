"""The command line: `boresight solve`, `diagnose`, `calibrate`, `batch`, `database` and others.

Tables go to the screen, progress to standard error; with ``--json`` a document goes to standard
output and nothing else. The exit code is 0 when every frame solved, 1 when one did not (or could
not be read), 2 when the command cannot be run as given.
"""

from __future__ import annotations

from importlib import import_module

import click

__all__ = ["main"]

#: Modules of the commands by their names, and what they are called there.
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
    """A group whose commands are imported when they are asked for: most of them take long."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"boresight.cli.{module}"), attribute)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="boresight", prog_name="boresight")
def main() -> None:
    """Tell where frames of the sky look, and calibrate the camera that took them."""
