"""Where files that can be made or fetched again are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """Folder for cached files: ``BORESIGHT_CACHE_DIR`` if set, else the user's cache folder.

    It need not exist yet, and everything in it may be deleted at any time.

    Examples
    --------
    >>> from boresight.cache import cache_folder
    >>> cache_folder().is_absolute()
    True
    """
    named = os.environ.get("BORESIGHT_CACHE_DIR")
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("boresight", appauthor=False))
