"""The cache folder, in which databases and downloaded catalogues are kept for later use.

It is the user's cache folder (on Linux `~/.cache/boresight`); the environment variable
`BORESIGHT_CACHE_DIR` names another. Everything in it can be generated again, so it may be deleted
at any time. If it grows beyond `LIMIT_BYTES`, the files unused for the longest time are removed. A
database is compared with its checksums when it is opened for the first time, and again whenever its
file has changed; a damaged one is generated again.
"""

import contextlib
import os
import time
from pathlib import Path

from boresight import _core
from boresight._utils.files import write_atomically

__all__ = ["clear", "files", "folder"]

LIMIT_BYTES = 4_000_000_000
"""Size beyond which the longest unused files are removed."""


def folder() -> Path:
    """Return the cache folder, which need not exist yet.

    Returns
    -------
    pathlib.Path
        `BORESIGHT_CACHE_DIR` if that environment variable is set, else the user's cache folder.

    Examples
    --------
    >>> import os
    >>> os.environ["BORESIGHT_CACHE_DIR"] = "/tmp/stars"
    >>> print(folder())
    /tmp/stars
    >>> del os.environ["BORESIGHT_CACHE_DIR"]
    >>> folder().name
    'boresight'
    """
    chosen = os.environ.get("BORESIGHT_CACHE_DIR")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("boresight", appauthor=False))


def files() -> list[Path]:
    """Return the files of databases and catalogues in the cache folder, sorted by name.

    Returns
    -------
    list of pathlib.Path

    Examples
    --------
    >>> from boresight import cache
    >>> sum(path.stat().st_size for path in cache.files()) >= 0
    True
    """
    return sorted(path for kind in ("database", "catalog") for path in folder().glob(f"{kind}-*"))


def clear() -> None:
    """Remove every file this package has put into the cache folder.

    Databases that are open stay usable.

    Examples
    --------
    >>> from boresight import cache
    >>> cache.clear()  # doctest: +SKIP
    """
    _core.remove_temporaries(folder())
    for path in files():
        with contextlib.suppress(OSError):
            path.unlink()


def entry(kind: str, suffix: str, *content: object) -> Path:
    """Return the path of the entry for `content` (values with a stable `repr`).

    The folder is created; raises `OSError` if that fails.
    """
    import hashlib

    digest = hashlib.sha256(repr(content).encode()).hexdigest()[:32]
    path = folder() / f"{kind}-{digest}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def touch(path: Path) -> None:
    """Mark a file as used now, so that other files are removed first."""
    with contextlib.suppress(OSError):
        # The modification time stays unchanged: it identifies the version that was verified.
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def is_verified(path: Path) -> bool:
    """Whether the file is unchanged since `note_verified` was called for it."""
    try:
        return _stamp_of(path).read_text() == _identity(path)
    except OSError:
        return False


def note_verified(path: Path) -> None:
    """Record that the content of a file was verified."""
    with contextlib.suppress(OSError):
        write_atomically(_stamp_of(path), _identity(path).encode())


def prune(keep: Path) -> None:
    """Remove the files unused for the longest time until the folder is within its limit.

    `keep`, which was just written, is not removed.
    """
    _core.remove_temporaries(folder())
    found = []
    for path in files():
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((status.st_atime, status.st_size, path))
    excess = sum(size for _, size, _ in found) - LIMIT_BYTES
    for _, size, path in sorted(found):
        if excess <= 0:
            break
        if path == keep:
            continue
        with contextlib.suppress(OSError):
            path.unlink()
            excess -= size


def _stamp_of(path: Path) -> Path:
    return path.with_suffix(".verified")


def _identity(path: Path) -> str:
    status = path.stat()
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"
