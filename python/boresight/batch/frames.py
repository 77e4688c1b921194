"""Finding and reading the frames of a batch by paths, globs and URLs."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from boresight._utils.deadline import after, until
from boresight.errors import BoresightError, InputError
from boresight.frames.frame import Frame
from boresight.frames.read import read_frame

__all__ = ["expand", "file_of", "matching", "read"]

#: Characters that make a name a pattern.
WILDCARDS = frozenset("*?[")


#: Seconds without a byte after which a request to a server is aborted, and time limit in seconds
#: for one piece of a file.
SILENCE_S, PIECE_S = 30.0, 300.0

#: Name endings of uncompressed FITS files, and bytes read ahead in such files, to cover a header.
PLAIN_FITS, HEADERS_BYTES = (".fits", ".fit", ".fts"), 32_768


def expand(frames: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """List the names of all frames, without repetition, in the given order.

    The names that match a pattern are in alphabetical order.

    Raises
    ------
    InputError
        If there is no frame, or an item is neither a path nor a URL.
    """
    if not isinstance(frames, str | os.PathLike | Iterable):
        raise InputError(f"frames: {frames!r} is not a path; give paths, globs or URLs")
    given = [frames] if isinstance(frames, str | os.PathLike) else list(frames)
    names: dict[str, None] = {}
    for item in given:
        if not isinstance(item, str | os.PathLike):
            raise InputError(f"frames: {item!r} is not a path; give paths, globs or URLs")
        name = os.fspath(item)
        names |= dict.fromkeys(matching(name) if WILDCARDS & set(name) else [name])
    if not names:
        listed = ", ".join(str(item) for item in given) or "an empty list"
        raise InputError(f"frames: nothing matches {listed}; give paths, globs or URLs")
    return list(names)


def matching(pattern: str) -> list[str]:
    """Names that match a pattern of paths or URLs, in alphabetical order."""
    if Path(pattern).exists():  # a file whose name contains wildcards
        return [pattern]
    if is_url(pattern):
        with _remote(pattern):
            system, path = _fsspec().core.url_to_fs(pattern, **_anonymous(pattern))
            return [system.unstrip_protocol(found) for found in sorted(system.glob(path))]
    return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - takes absolute patterns


def file_of(name: str, suffix: str) -> str:
    """Name of the output file of a frame, unique for each path or URL."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{Path(name).stem}-{digest}{suffix}"


def read(name: str, timeout_ms: int | None = None) -> Frame:
    """Read a frame by path or URL; from a URL only the bytes of the header and the image.

    Raises
    ------
    TimeLimitError
        If reading takes longer than `timeout_ms`.
    OSError
        If the frame cannot be read, or a server stops sending.
    """
    with until(after(timeout_ms)):
        if not is_url(name):
            return read_frame(name)
        with _remote(name), _open(name, timeout_ms) as file:
            return read_frame(file)


def _open(url: str, timeout_ms: int | None) -> IO[bytes]:
    system, path = _fsspec().core.url_to_fs(url, **_anonymous(url), **_patience(url, timeout_ms))
    file: IO[bytes] = system.open(path, "rb", **_caching(url))
    return file


@contextmanager
def _remote(url: str) -> Iterator[None]:
    """Turn the exceptions of network clients, which have no common base, into `OSError`."""
    try:
        yield
    except ImportError as error:
        raise InputError(f"frames: {url}: {error}; install boresight[distributed]") from None
    except TimeoutError as error:
        if isinstance(error, BoresightError):
            raise
        raise OSError(
            f"{url}: the server did not answer in time; try again later, or fetch the file first"
        ) from error
    except (BoresightError, OSError):
        raise
    except Exception as error:
        if type(error).__module__ == "builtins" and not isinstance(error, ValueError):
            raise
        raise OSError(f"{url}: {type(error).__name__}: {error}") from error


def is_url(name: str) -> bool:
    """Whether a name is a URL and not a path."""
    return "://" in name


def _anonymous(url: str) -> dict[str, Any]:
    # Buckets are public by default. Keys can be set in fsspec's configuration, which has priority.
    return {"anon": True} if url.startswith("s3://") else {}


def _patience(url: str, timeout_ms: int | None) -> dict[str, Any]:
    """Time limits for the HTTP client; clients of other protocols have their own limits."""
    if not url.startswith(("http://", "https://")):
        return {}
    from aiohttp import ClientTimeout

    total = PIECE_S if timeout_ms is None else min(PIECE_S, timeout_ms / 1e3)
    silence = min(SILENCE_S, total)
    limits = ClientTimeout(total=total, sock_connect=silence, sock_read=silence)
    return {"client_kwargs": {"timeout": limits}}


def _caching(url: str) -> dict[str, Any]:
    if url.startswith(("memory://", "file://")):
        return {}
    # Header and image are read one after the other; bytes read ahead beyond the image are wasted.
    headers = {"block_size": HEADERS_BYTES} if url.endswith(PLAIN_FITS) else {}
    return {"cache_type": "readahead", **headers}


def _fsspec() -> Any:
    try:
        import fsspec
    except ImportError:
        raise InputError(
            "frames: URLs need the package fsspec; install boresight[distributed]"
        ) from None
    return fsspec
