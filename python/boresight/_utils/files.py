"""Writing files atomically."""

import os
from collections.abc import Iterable
from pathlib import Path

from boresight import _core


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`: a reader sees the old file or the whole new one, whatever happens.

    On Linux the new file has no name before it is complete, so that a process that is killed leaves
    nothing behind. Elsewhere its name is random, and never one that is there already.

    Parameters
    ----------
    path : path-like
        File to create or replace; a symbolic link is replaced, not followed. Its folder has to
        exist.
    data : bytes
        The whole content.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written to; nothing is left behind then.
    """
    _core.write_atomically(Path(path), [data], None)


def write_chunks(
    path: str | os.PathLike[str], chunks: Iterable[bytes], *, like: Path | None = None
) -> None:
    """Write pieces to `path` one after the other, as `write_atomically`.

    Parameters
    ----------
    path : path-like
        File to create or replace. Where it is a link, the file that it leads to.
    chunks : iterable of bytes
        The content.
    like : pathlib.Path, optional
        The file gets the rights of this one. Default: those of any new file.

    Raises
    ------
    OSError
        As `write_atomically`.
    """
    mode = None if like is None else like.stat().st_mode & 0o7777
    _core.write_atomically(Path(path).resolve(), chunks, mode)
