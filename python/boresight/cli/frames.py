"""Frames of a command: read, their stars extracted, and their times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from boresight._utils.progress import progress_callback
from boresight.cli.output import Record
from boresight.errors import BoresightError, InputError
from boresight.extraction.centroids import Centroids
from boresight.extraction.extract import extract_centroids
from boresight.frames.frame import Frame
from boresight.frames.read import read_frame


class Taken(NamedTuple):
    """A frame that was read, and its stars."""

    path: Path
    frame: Frame
    stars: Centroids


def extracted(
    paths: Sequence[Path], sigma: float | None, failed: list[Record], *, quiet: bool
) -> Iterator[Taken]:
    """Read each frame and find its stars; what cannot be read goes to `failed`."""
    options: dict[str, Any] = {} if sigma is None else {"sigma_threshold": sigma}
    with progress_callback(not quiet, "Frames") as progress:
        for done, path in enumerate(paths):
            try:
                frame = read_frame(path)
                stars = extract_centroids(frame.image, mask=frame.mask, **options).centroids
            except (BoresightError, OSError) as error:
                failed.append({"file": str(path), "solved": False, "error": str(error)})
            else:
                yield Taken(path, frame, stars)
            if progress is not None:
                progress((done + 1) / len(paths))


def check_time(path: Path, frame: Frame) -> None:
    """Refuse a frame whose time aberration needs and its header does not tell."""
    if frame.time is None:
        raise InputError(f"--aberration: the header of {path} tells no time; leave it out")
