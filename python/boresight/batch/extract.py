"""Extraction of the stars of thousands of frames."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boresight._utils import arguments
from boresight._utils.files import write_atomically
from boresight._utils.naming import named
from boresight._utils.progress import Progress
from boresight.batch.command import Frames, perform
from boresight.batch.frames import file_of
from boresight.batch.journal import Row, options_as_text
from boresight.batch.run import OnError, Work
from boresight.batch.table import EXTRACTED
from boresight.extraction.extract import extract_centroids
from boresight.frames.frame import Frame

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["extract"]

#: Name of the folder of the star lists, in the output folder.
STARS_FOLDER = "stars"


@named
def extract(
    frames: Frames,
    *,
    output: str | os.PathLike[str],
    jobs: int | None = None,
    resume: bool = True,
    on_error: OnError = "row",
    executor: Any = None,
    partition_by: Sequence[str] = (),
    progress: Progress = None,
    **options: Any,
) -> QTable:
    """Find the stars of thousands of frames.

    Parameters
    ----------
    frames, output, jobs, resume, on_error, executor, partition_by, progress
        As in `boresight.batch.solve`. The stars of each frame are written to a separate ECSV file
        in ``output/stars``.
    **options
        Arguments of `boresight.extract_centroids`. `timeout_ms` also limits the time for reading a
        frame.

    Returns
    -------
    astropy.table.QTable
        One row per frame: ``path``, ``status`` (``"done"``, ``"error"``), ``reason``, ``time``,
        ``width``, ``height``, ``seconds``, ``num_stars``, ``stars`` (path of its file of stars,
        relative to `output`), ``fwhm``, ``background``, ``noise``.

    Raises
    ------
    InputError
        As in `boresight.batch.solve`.

    Examples
    --------
    >>> import boresight, tempfile
    >>> from astropy.io import fits
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     image = boresight.simulate_frame(camera, 83.8, -1.2, seed=1).image
    ...     fits.writeto(f"{folder}/orion.fits", image)
    ...     table = boresight.batch.extract(f"{folder}/*.fits", output=f"{folder}/out", jobs=1)
    >>> bool(table["num_stars"][0] > 50)
    True
    """
    timeout_ms = arguments.optional_count("timeout_ms", options.get("timeout_ms"))
    settings = {"command": "extract", "options": options_as_text(options)}
    folder = Path(output).absolute() / STARS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return perform(
        frames, Work(extract_one, (folder, options), on_error, timeout_ms), settings, EXTRACTED,
        output=output, jobs=jobs, resume=resume, executor=executor, progress=progress,
        partition_by=partition_by,
    )  # fmt: skip


def extract_one(frame: Frame, name: str, request: tuple[Path, dict[str, Any]]) -> Row:
    """Extract the stars of one frame, write its file of stars, and return its row."""
    folder, options = request
    result = extract_centroids(frame.image, mask=frame.mask, **options)
    file = folder / file_of(name, ".ecsv")
    content = io.StringIO()
    result.centroids.table().write(content, format="ascii.ecsv")
    write_atomically(file, content.getvalue().encode())
    fwhm = result.centroids.fwhm
    return {
        "status": "done",
        "num_stars": len(result.centroids),
        "stars": f"{STARS_FOLDER}/{file.name}",
        "fwhm": float(np.nanmedian(fwhm)) if np.isfinite(fwhm).any() else None,
        "background": result.background,
        "noise": result.noise,
    }
