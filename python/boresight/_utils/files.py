"""Files: read where they are files, and written atomically."""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from boresight import _core
from boresight.errors import InputError


def check_is_file(path: str | os.PathLike[str]) -> None:
    """Refuse pipes and devices, of which the end may never come; what is missing is none.

    Raises
    ------
    InputError
        If the path leads to one.
    """
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return  # told by whoever opens it
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(
            f"path: {os.fspath(path)} is a pipe or a device; give the path of a file, or the "
            "content of the pipe as a file"
        )


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Read a whole file.

    Raises
    ------
    InputError
        As `check_is_file`.
    OSError
        If it cannot be read.
    """
    check_is_file(path)
    return Path(path).read_bytes()


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


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path of the same name elsewhere; what is written there becomes `path`, atomically.

    For writers of other packages, which take a name and tell the format by it.

    Raises
    ------
    OSError
        As `write_atomically`.
    """
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="boresight-") as folder:
        draft = Path(folder) / Path(path).name
        try:
            yield draft
        except OSError as error:
            raise _named(error, path) from None
        write_atomically(path, draft.read_bytes())


def append_whole(descriptor: int, data: bytes, path: str | os.PathLike[str]) -> None:
    """Append to a file that nobody else writes to now: all or nothing, on the disk afterwards.

    Parameters
    ----------
    descriptor : int
        The file, opened for appending.
    data : bytes
        What is added.
    path : path-like
        Its name, for errors.

    Raises
    ------
    OSError
        If there is no room for all of it; nothing is added then.
    """
    end = os.fstat(descriptor).st_size
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, end)
        raise _named(error, path) from None


def _named(error: OSError, path: str | os.PathLike[str]) -> OSError:
    """Give the error of the system with the name of the file that it is about."""
    return OSError(error.errno, error.strerror or str(error), os.fspath(path))
