"""`boresight man` and `boresight completion`: manual page and shell completion."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import click

from boresight.cli.options import clear_errors

#: Shells for which click supports completion.
SHELLS = ("bash", "zsh", "fish")

#: Environment variable with which the shell requests completions.
COMPLETE = "_BORESIGHT_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
@clear_errors
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    In bash: eval "$(boresight completion bash)"
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "the choice has shells alone that click knows"
    root = context.find_root().command
    # click's own method would run bash to check its version, but bash may not be installed. So the
    # script is made from click's template directly.
    source = kind(root, {}, "boresight", COMPLETE)
    click.echo(source.source_template % source.source_vars())


@click.command("man")
@click.pass_context
@clear_errors
def manual(context: click.Context) -> None:
    """Print the manual page.

    To read the page: boresight man | man -l -. To install the page, write it to boresight.1 in a
    folder man1.
    """
    root = click.Context(context.find_root().command, info_name="boresight")
    click.echo("\n".join(_page(root)))


def _page(root: click.Context) -> Iterator[str]:
    """Yield the lines of the manual page in roff format."""
    yield f'.TH BORESIGHT 1 "" "boresight {version("boresight")}" "User Commands"'
    yield ".SH NAME"
    yield f"boresight \\- {_plain(_first_line(root.command))}"
    yield ".SH SYNOPSIS"
    yield ".B boresight"
    yield "COMMAND [OPTIONS] [ARGUMENTS]"
    yield ".SH COMMANDS"
    yield from _commands(root)
    yield ".SH EXIT STATUS"
    for code, words in EXIT_CODES.items():
        yield ".TP"
        yield f".B {code}"
        yield _plain(words)
    yield ".SH ENVIRONMENT"
    for name, words in ENVIRONMENT.items():
        yield ".TP"
        yield f".B {name}"
        yield _plain(words)


#: Meanings of the exit codes.
EXIT_CODES = {
    "0": "All went well; of check: the camera has not moved.",
    "1": "A frame did not solve, could not be read, or is not aligned; a fit did not converge.",
    "2": "The command cannot be run as given, or an error ended it.",
    "3": "Of check: the camera has moved.",
    "4": "Of check: a frame did not solve.",
    "5": "Of check and movement: no verdict is possible.",
}

ENVIRONMENT = {
    "BORESIGHT_CACHE_DIR": "Folder for databases and catalogues, instead of the user's cache.",
    "BORESIGHT_NUM_THREADS": "Number of threads. Default: all processors.",
}


def _commands(context: click.Context) -> Iterator[str]:
    """Yield the lines about the commands of a group, including nested groups."""
    group = context.command
    assert isinstance(group, click.Group), "only groups have commands"
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, "the group has listed it"
        below = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands(below)
            continue
        usage = " ".join(command.collect_usage_pieces(below))
        yield f".SS {_plain(below.command_path)} {_plain(usage)}"
        for paragraph in (command.help or "").split("\n\n"):
            yield _plain(" ".join(paragraph.split()))
            yield ".PP"
        for parameter in command.params:
            record = parameter.get_help_record(below)
            if record is not None and record[1]:
                yield ".TP"
                yield f".B {_plain(record[0])}"
                yield _plain(record[1])


def _first_line(command: click.Command) -> str:
    return (command.help or "").split("\n")[0]


def _plain(text: str) -> str:
    """Escape text so that man finds no requests and no escape sequences in the text."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text
