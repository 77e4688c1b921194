"""Frames of a command: finding them by name, reading them, and extracting their stars."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from boresight._utils.arrays import block_means
from boresight._utils.origins import Origin
from boresight._utils.threads import in_order
from boresight.batch.frames import expand
from boresight.batch.run import FRAME_ERRORS, reason_of
from boresight.errors import InputError
from boresight.extraction.centroids import Centroids
from boresight.extraction.extract import ExtractionResult, extract_centroids
from boresight.extraction.star_list import StarList
from boresight.frames.choice import HduName
from boresight.frames.frame import Frame
from boresight.frames.read import read_frame
from boresight.solver.inputs import Found, find_stars

if TYPE_CHECKING:
    from astropy.table import Table

#: Suffixes of files with lists of stars, and astropy's names of their formats.
LISTS = {
    ".csv": "ascii.csv",
    ".ecsv": "ascii.ecsv",
    ".axy": "fits",
    ".xyls": "fits",
    ".xyl": "fits",
    ".cat": "ascii.sextractor",
}

#: Cards with the height and width of the image in Astrometry.net's lists of stars.
SIZE_CARDS = ("IMAGEH", "IMAGEW")


class Reading(NamedTuple):
    """Settings for reading the frames of a command.

    Attributes
    ----------
    sigma : float or None
        Detection threshold in standard deviations.
    hdu : int or str or None
        Number or name of the HDU of a FITS file.
    image_shape : (int, int) or None
        (height, width) of the images to which lists of stars belong.
    origin : str or None
        Origin of the positions in lists of stars. None: the origin that the columns imply.
    downsample : int
        Side, in pixels, of the blocks that are averaged before stars are extracted.
    """

    sigma: float | None = None
    hdu: HduName | None = None
    image_shape: tuple[int, int] | None = None
    origin: Origin | None = None
    downsample: int = 1


class LoadedFrame(NamedTuple):
    """A frame that was read, with its stars. For a list of stars `frame` is None."""

    path: Path
    frame: Frame | None
    found: Found

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        assert self.found.image_shape is not None
        return self.found.image_shape

    @property
    def stars(self) -> Centroids:
        """The stars."""
        stars = self.found.stars
        return stars.centroids if isinstance(stars, ExtractionResult) else stars


def names_of(given: Sequence[str]) -> list[str]:
    """Return the given names, in which ``-`` is replaced by a list of names from standard input."""
    names: list[str] = []
    for name in given:
        names += [line.strip() for line in sys.stdin] if name == "-" else [name]
    return [name for name in names if name]


def paths_of(given: Sequence[str]) -> list[Path]:
    """Paths of frames from names, quoted globs, and ``-`` for a list on standard input."""
    try:
        return [Path(name) for name in expand(names_of(given))]
    except InputError as error:
        raise InputError(str(error).replace("frames:", "FRAMES:", 1)) from None


def load_frame(path: Path, reading: Reading) -> LoadedFrame:
    """Read a frame and find its stars, or read a list of stars."""
    if path.suffix.lower() in LISTS:
        return _listed(path, reading)
    try:
        frame = read_frame(path, hdu=reading.hdu)
    except InputError as error:
        if reading.hdu is None and (table := _fits_table(path)) is not None:
            return _of_table(path, table, reading)
        raise error from None
    options: dict[str, Any] = {}
    if reading.sigma is not None:
        options["sigma_threshold"] = reading.sigma
    if reading.downsample > 1:
        return LoadedFrame(path, frame, _downsampled(frame, reading.downsample, options))
    return LoadedFrame(path, frame, find_stars(frame, extraction=options))


def _downsampled(frame: Frame, step: int, options: dict[str, Any]) -> Found:
    """Extract the stars from a downsampled image; positions are pixels of the original frame."""
    image = block_means(frame.image, step)
    mask = None if frame.mask is None else block_means(frame.mask, step) > 0.0
    found = extract_centroids(image, mask=mask, luminance=True, **options)
    small, (height, width) = found.centroids, frame.image_shape
    # The centre of a block may lie between pixels; incomplete blocks at the far edges are dropped.
    rows, columns = image.shape
    x = step * small.x + (step * columns - width + step - 1) / 2
    y = step * small.y + (step * rows - height + step - 1) / 2
    stars = Centroids(
        x,
        y,
        step**2 * small.brightness,
        step**2 * small.brightness_error,
        step**2 * small.cov,
        step**2 * small.position_cov,
    )
    hints, time = frame.hints, frame.time
    return Found(stars, frame.image_shape, frame.image, frame.mask, hints, time)


def load_frames(
    paths: Sequence[Path], reading: Reading, *, pixels: bool
) -> Iterator[tuple[Path, LoadedFrame | str]]:
    """Read all frames, several at a time, and yield each, or the reason if it cannot be read.

    Without `pixels` the images are dropped, so that thousands of frames fit into the memory.
    """
    read = partial(_load_or_reason, reading=reading, pixels=pixels)
    with closing(in_order(read, paths)) as all_read:
        yield from zip(paths, all_read, strict=True)


def _load_or_reason(path: Path, reading: Reading, *, pixels: bool) -> LoadedFrame | str:
    try:
        loaded = load_frame(path, reading)
    except FRAME_ERRORS as error:
        return reason_of(error)
    if pixels or loaded.frame is None:
        return loaded
    frame = replace(loaded.frame, image=np.empty((0, 0)), mask=None)
    return LoadedFrame(path, frame, loaded.found._replace(image=None, mask=None))


def check_time(path: Path, frame: Frame | None) -> None:
    """Raise an error if the frame has no time, which the correction of aberration needs."""
    if frame is None or frame.time is None:
        raise InputError(f"--aberration: the header of {path} gives no time; leave it out")


def _listed(path: Path, reading: Reading) -> LoadedFrame:
    """Read a list of stars: a FITS table, or text of the format that the suffix implies."""
    # FITS is tried first, because SExtractor uses the same suffix for text and FITS.
    table = _fits_table(path)
    if table is None:
        table = _ascii_table(path, LISTS[path.suffix.lower()])
    return _of_table(path, table, reading)


def _ascii_table(path: Path, form: str) -> Table:
    from astropy.table import Table

    try:
        return Table.read(path, format=form)
    except Exception as error:  # errors of astropy's parsers have no common base class
        if isinstance(error, OSError) and error.errno is not None:  # a system error, with the path
            raise
        reason = reason_of(error).split(". ")[0]
        raise InputError(f"{path}: not a list of stars of the format {form}: {reason}") from None


def _fits_table(path: Path) -> Table | None:
    """First table of a FITS file; None if the file has no table or is not FITS."""
    from astropy.io import fits
    from astropy.table import Table

    if not path.is_file():
        raise FileNotFoundError(f"{path}: the file does not exist")
    try:
        with fits.open(path, memmap=False) as hdus:
            for hdu in hdus:
                if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) and len(hdu.columns) >= 2:
                    table = Table(hdu.data)
                    for card in SIZE_CARDS:
                        holder = hdu.header if card in hdu.header else hdus[0].header
                        table.meta[card] = holder.get(card)
                    return table
    except Exception:  # astropy's errors have no common base class; the file is not a table
        return None
    return None


def _of_table(path: Path, table: Table, reading: Reading) -> LoadedFrame:
    """Stars of a table, with the size of the image from the options or the table."""
    height, width = (table.meta.get(card) for card in SIZE_CARDS)
    shape = reading.image_shape
    if shape is None and height and width:
        shape = (int(height), int(width))
    if shape is None:
        raise InputError(f"{path}: a list of stars; give --size, the width and height of its image")
    try:
        stars = Centroids.from_any(table, image_shape=shape, origin=reading.origin)
        StarList.read(stars, None, shape)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return LoadedFrame(path, None, Found(stars, shape))
