"""The folder in which databases and downloaded catalogues are kept for the next time.

It is the user's cache folder (on Linux `~/.cache/boresight`); the environment variable
`BORESIGHT_CACHE_DIR` names another. Everything in it can be made again, so it may be deleted at any
time. When it grows beyond `LIMIT_BYTES`, what has not been used for longest is removed.
"""

import contextlib
import os
from pathlib import Path

__all__ = ["clear", "folder"]

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


def clear() -> None:
    """Remove every file this package has put into the cache folder.

    Databases that are open stay usable.
    """
    for path in _files():
        with contextlib.suppress(OSError):
            path.unlink()


def entry(kind: str, suffix: str, *content: object) -> Path:
    """Path of what `content` (values with a lasting `repr`) determines; its folder is made.

    Raises `OSError` where the folder cannot be made.
    """
    import hashlib

    digest = hashlib.sha256(repr(content).encode()).hexdigest()[:32]
    path = folder() / f"{kind}-{digest}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def touch(path: Path) -> None:
    """Note that a file is in use, so that others are removed first."""
    with contextlib.suppress(OSError):
        os.utime(path)


def prune() -> None:
    """Remove what has not been used for longest until the folder is within its limit."""
    found = []
    for path in _files():
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    excess = sum(size for _, size, _ in found) - LIMIT_BYTES
    for _, size, path in sorted(found):
        if excess <= 0:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            excess -= size


def _files() -> list[Path]:
    return [path for kind in ("database", "catalog") for path in folder().glob(f"{kind}-*")]
