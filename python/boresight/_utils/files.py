"""Writing files atomically."""

import os
from collections.abc import Iterable
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`: a reader sees the old file or the whole new one, whatever happens.

    Parameters
    ----------
    path : path-like
        File to create or replace. Its folder has to exist.
    data : bytes
        The whole content.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written to; nothing is left behind then.
    """
    write_chunks(path, [data])


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
    target = Path(path).resolve()
    import tempfile

    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(_rights(like))
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _rights(like: Path | None) -> int:
    if like is not None:
        return like.stat().st_mode & 0o7777
    # mkstemp's files are private; give the rights any new file would have got.
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
