"""The command line: `boresight solve`, `diagnose`, `calibrate`, `batch`, `database` and others.

Tables go to the screen, progress to standard error; with ``--json`` a document goes to standard
output and nothing else. The exit code is 0 when every frame solved, 1 when one did not (or could
not be read), 2 when the command cannot be run as given.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module

import click

__all__ = ["main"]

#: Modules of the commands, and their names there.
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


class Commands(MutableMapping[str, click.Command]):
    """Commands by name, each imported when it is asked for: most of them take long."""

    def __init__(self) -> None:
        self._found: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._found:
            module, attribute = COMMANDS[name]
            self._found[name] = getattr(import_module(f"boresight.cli.{module}"), attribute)
        return self._found[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**COMMANDS, **self._found})

    def __len__(self) -> int:
        return len({**COMMANDS, **self._found})


@click.group(commands=Commands(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="boresight", prog_name="boresight")
def main() -> None:
    """Tell where frames of the sky look, and calibrate the camera that took them."""
