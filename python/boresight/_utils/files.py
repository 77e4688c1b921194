"""Reading of regular files, and atomic writing."""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from boresight import _core
from boresight.errors import InputError


def check_is_file(path: str | os.PathLike[str]) -> None:
    """Raise an error for pipes and devices, which may have no end; a missing file is accepted.

    Raises
    ------
    InputError
        If the path leads to a pipe or a device, or cannot be the path of a file.
    """
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return  # opening the file raises the error
    except ValueError as error:  # a null character, or text that has no encoding
        raise InputError(f"path: {path!r} is no path ({error}); give that of a file") from None
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
        If the path leads to a pipe or a device.
    OSError
        If the file cannot be read.
    """
    check_is_file(path)
    return Path(path).read_bytes()


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` atomically: a reader sees the old file or the complete new file.

    On Linux the new file has no name before it is complete, so that a killed process leaves nothing
    behind. On other systems the temporary file has a random, unused name.

    Parameters
    ----------
    path : path-like
        File to create or replace; a symbolic link is replaced, not followed. The folder must exist.
    data : bytes
        The whole content.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written to; nothing is left behind then.
    """
    _core.write_atomically(Path(path), [data], None)


def write_chunks(
    path: str | os.PathLike[str], chunks: Iterable[bytes], *, permissions_of: Path | None = None
) -> None:
    """Write pieces of data to `path` atomically, as `write_atomically` does.

    Parameters
    ----------
    path : path-like
        File to create or replace. A symbolic link is followed.
    chunks : iterable of bytes
        The content in pieces.
    permissions_of : pathlib.Path, optional
        File whose permissions the new file gets. Default: the usual permissions of a new file.

    Raises
    ------
    OSError
        As `write_atomically`.
    """
    mode = None if permissions_of is None else permissions_of.stat().st_mode & 0o7777
    _core.write_atomically(Path(path).resolve(), chunks, mode)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Provide a temporary path of the same name, whose file then replaces `path` atomically.

    It serves writers of other packages, which need a file name and infer the format from it.

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
    """Append all of the data or nothing to a file, and flush the file to the disk.

    No other process may write to the file at the same time.

    Parameters
    ----------
    descriptor : int
        Descriptor of the file, opened for appending.
    data : bytes
        Data to append.
    path : path-like
        Name of the file, for error messages.

    Raises
    ------
    OSError
        If not all data can be written, as on a full disk; nothing is appended then.
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
    """Copy of a system error with the name of its file."""
    return OSError(error.errno, error.strerror or str(error), os.fspath(path))
