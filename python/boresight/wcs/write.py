"""Writing a WCS into FITS files: replaces the old WCS and keeps all other bytes."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boresight._utils.naming import named
from boresight.errors import InputError
from boresight.frames.cards import card_number
from boresight.frames.choice import Axes, Hdu, choose
from boresight.frames.region import Region, resolve
from boresight.wcs.cards import new_cards, replace_wcs, sky_alternates
from boresight.wcs.files import FitsFile, card_name
from boresight.wcs.undo import KEPT, Change, kept_hdu, next_version

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS

__all__ = ["header_cards", "write_header", "write_wcs"]

#: Cards that identify a detector of a mosaic.
DETECTOR_CARDS = ("EXTVER", "DETSEC", "CCDSEC", "DETECTOR", "CCDNAME", "CCDCHIP", "CHIP", "IMAGEID")

#: Characters of text in a HISTORY card.
HISTORY_COLUMNS = 72

#: Largest difference of CRVAL (degrees) and CRPIX (pixels) between images of the same geometry.
SAME_CARD = 1e-6


@named
def write_wcs(
    path: str | os.PathLike[str],
    wcs: WCS | Mapping[int, WCS],
    *,
    copy: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    extensions: str | int | Sequence[str | int] = "all",
    region: Region | str | None = None,
    error_deg: float | None = None,
    history: Iterable[str] = (),
) -> Path:
    """Write a WCS into a FITS file.

    All cards of the old WCS are removed: the reference point, matrix, scale and rotation, the
    distortion, and alternate descriptions on the sky, which would contradict the new WCS. The new
    cards take the place of the old ones. All other cards and the data are copied byte for byte;
    checksums are updated. The old cards are kept in an extension BORESIGHT-UNDO, from which `undo`
    restores them. The file is replaced as a whole; on any error it is not changed.

    Parameters
    ----------
    path : path-like
        FITS file: plain, with compressed images, or compressed as a whole with gzip, bzip2 or xz.
    wcs : astropy.wcs.WCS, or mapping of int to WCS
        The WCS of the frame in the file, as `read_frame` reads it. A mapping gives the WCS of each
        HDU by its number, for all pixels of the HDU.
    copy : path-like, optional
        File to write instead, without a change of `path`. Default: `path` is changed in place.
    overwrite : bool
        Replace `copy` if it exists. Default False.
    extensions : "all", int, str or sequence of them
        Numbers or names of the HDUs that get the WCS. Default: the frame and all images of the same
        geometry, such as its mask and its errors. An image has the same geometry if it has the same
        shape and, as far as the headers have these cards, the same detector and the same old WCS.
    region : (slice, slice) or "full", optional
        The part of the image to which the WCS applies, as for `read_frame`.
    error_deg : float, optional
        Random error of the sky positions per axis in degrees, for the cards CRDER.
    history : iterable of str
        Lines of text for HISTORY cards.

    Returns
    -------
    pathlib.Path
        The file that was written.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileExistsError
        If `copy` exists and `overwrite` is False.
    InputError
        If the file is not a FITS file, an extension is missing or has another shape, or the WCS
        cannot be written in cards.
    FileFormatError
        If the file is damaged.

    See Also
    --------
    boresight.Solution.write_wcs : writes the WCS of a solution.
    boresight.wcs.undo : restores the old WCS.

    Examples
    --------
    >>> import pathlib, tempfile, numpy as np
    >>> from astropy.io import fits
    >>> from astropy.wcs import WCS
    >>> from boresight.wcs import undo, write_wcs
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name) / "frame.fits"
    >>> fits.writeto(path, np.zeros((100, 200)), fits.Header({"OBJECT": "M42", "CRVAL1": 1.0}))
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 83.8, "CRVAL2": -5.4,
    ...            "CRPIX1": 100.5, "CRPIX2": 50.5, "CDELT1": -0.001, "CDELT2": 0.001})
    >>> _ = write_wcs(path, wcs)
    >>> fits.getheader(path)["CRVAL1"], fits.getheader(path)["OBJECT"]
    (83.8, 'M42')
    >>> _ = undo(path)
    >>> fits.getheader(path)["CRVAL1"]
    1.0
    >>> folder.cleanup()
    """
    target = Path(path if copy is None else copy)
    if copy is not None and not overwrite and target.exists():
        raise FileExistsError(f"copy: {target} exists; give overwrite=True to replace it")
    with FitsFile(path) as file:
        own = _own_wcs(file, wcs, extensions, region)
        version = next_version(file)
        lines = [*history, f"The old WCS cards are in the extension {KEPT} {version}"]
        headers: dict[int, Sequence[str]] = {}
        changes: list[Change] = []
        for index, (its, offset) in own.items():
            new = [] if its is None else new_cards(its, offset=offset, error_deg=error_deg)
            text = [str(card) for card in new] + (_history(lines) if new else [])
            headers[index] = _changed(file, index, text, changes)
        file.write(target, headers, appended=kept_hdu(changes, version))
    return target


Placed = dict[int, tuple[Any, tuple[float, float]]]


def _own_wcs(
    file: FitsFile,
    wcs: WCS | Mapping[int, WCS],
    extensions: str | int | Sequence[str | int],
    region: Region | str | None,
) -> Placed:
    """WCS and pixel offset of each HDU to change; a WCS of None only removes the old one."""
    hdus = file.images()
    if isinstance(wcs, Mapping):
        for index in wcs:
            if not 0 <= index < len(hdus):
                raise InputError(f"wcs: {file.path} has no HDU {index}; it has {len(hdus)}")
        return {index: (its, (0.0, 0.0)) for index, its in wcs.items()}
    source = str(file.path)
    if isinstance(extensions, str) and extensions == "all":
        frame, _, _ = choose(hdus, None, source)
        images = [frame, *(hdu for hdu in hdus if hdu is not frame and _shares(hdu, frame))]
        empty = [hdu for hdu in hdus if not hdu.shape and hdu.kind == "PRIMARY"]
    else:
        named = [extensions] if isinstance(extensions, str | int) else list(extensions)
        images, empty = [choose(hdus, name, source)[0] for name in named], []
    placed: Placed = {}
    for hdu in images:
        axes = hdu.axes
        assert axes is not None, "only images are chosen"
        placed[hdu.index] = wcs, _offset(hdu, axes, wcs, region)
    # An old WCS in a primary header without data would contradict the new WCS: it is removed.
    stale = {hdu.index: (None, (0.0, 0.0)) for hdu in empty if sky_alternates(hdu.header)}
    return stale | placed


def _offset(hdu: Hdu, axes: Axes, wcs: WCS, region: Region | str | None) -> tuple[float, float]:
    """Return the number of columns and rows before the first pixel of the WCS."""
    dimensions = len(hdu.shape)
    if (dimensions - axes.column, dimensions - axes.row) != (1, 2):
        raise InputError(
            f"path: rows and columns of HDU {hdu} are not its first axes; write the WCS to a "
            "separate file"
        )
    shape = hdu.shape[axes.row], hdu.shape[axes.column]
    (rows, columns), _ = resolve(region, shape, hdu.header)
    read = (columns.stop - columns.start, rows.stop - rows.start)
    if wcs.pixel_shape is not None and tuple(wcs.pixel_shape) != read:
        raise InputError(
            f"path: HDU {hdu} has {read[0]} columns and {read[1]} rows where the solution has "
            f"{wcs.pixel_shape[0]} and {wcs.pixel_shape[1]}; give the file that was solved, and "
            "the region if one was read"
        )
    return float(columns.start), float(rows.start)


def _shares(hdu: Hdu, frame: Hdu) -> bool:
    """Whether an image has the geometry of the frame."""
    if hdu.shape != frame.shape:
        return False
    ours, theirs = frame.header, hdu.header
    for name in DETECTOR_CARDS:
        if name in ours and name in theirs and ours[name] != theirs[name]:
            return False
    numbers = [re.sub(r"\D+", " ", h.name).strip() for h in (frame, hdu)]
    words = [re.sub(r"\d+", "", h.name) for h in (frame, hdu)]
    if words[0] == words[1] and numbers[0] != numbers[1]:
        return False
    if "" not in sky_alternates(ours) or "" not in sky_alternates(theirs):
        return True
    return all(
        abs((card_number(ours, name) or 0.0) - (card_number(theirs, name) or 0.0)) < SAME_CARD
        for name in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
    )


def _changed(
    file: FitsFile, index: int, new: Sequence[str], changes: list[Change]
) -> Sequence[str]:
    """Cards of an HDU with the new WCS cards; the changed cards are appended to `changes`."""
    raw = file.hdus[index]
    cards, removed = replace_wcs(raw.cards, raw.header, new)
    updated = file.with_checksum(index, cards)
    changes += [Change(index, row, "-", raw.cards[row]) for row in removed]
    changes += [Change(index, 0, "+", card) for card in new]
    for before, after in zip(cards, updated, strict=True):
        if before != after:
            changes.append(Change(index, raw.cards.index(before), "-", before))
            changes.append(Change(index, 0, "+", after))
    return updated


def _history(lines: Iterable[str]) -> list[str]:
    cards = []
    for line in lines:
        plain = line.encode("ascii", "replace").decode()
        cards += [f"HISTORY {part}".ljust(80) for part in textwrap.wrap(plain, HISTORY_COLUMNS)]
    return cards


@named
def header_cards(
    wcs: WCS, *, error_deg: float | None = None, history: Iterable[str] = ()
) -> Header:
    """Make a header without data that holds a WCS and the size of its image.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        The WCS; its `pixel_shape` gives the size of the image.
    error_deg, history
        As for `write_wcs`.

    Returns
    -------
    astropy.io.fits.Header
        The header, with IMAGEW and IMAGEH as in the ``.wcs`` files of Astrometry.net.

    Examples
    --------
    See `write_header`.
    """
    from astropy.io.fits import Header, PrimaryHDU

    header = PrimaryHDU().header
    header.extend(new_cards(wcs, error_deg=error_deg))
    if wcs.pixel_shape is not None:
        header["IMAGEW"] = (wcs.pixel_shape[0], "[pix] width of the image")
        header["IMAGEH"] = (wcs.pixel_shape[1], "[pix] height of the image")
    text = header.tostring(sep="", endcard=False, padding=False) + "".join(_history(history))
    return Header.fromstring(text)


@named
def write_header(
    path: str | os.PathLike[str],
    wcs: WCS,
    *,
    error_deg: float | None = None,
    history: Iterable[str] = (),
) -> Path:
    """Write a WCS as a FITS file without data, like the ``.wcs`` files of `solve-field`.

    Parameters
    ----------
    path : path-like
        File to create or replace.
    wcs, error_deg, history
        As for `header_cards`.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError
        If the WCS cannot be written in cards.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from astropy.io import fits
    >>> from astropy.wcs import WCS
    >>> from boresight.wcs import write_header
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 83.8, "CRVAL2": -5.4,
    ...            "CRPIX1": 100.5, "CRPIX2": 50.5, "CDELT1": -0.001, "CDELT2": 0.001})
    >>> wcs.pixel_shape = (200, 100)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_header(pathlib.Path(folder) / "frame.wcs", wcs)
    ...     print(fits.getheader(path)["IMAGEW"])
    200
    """
    from boresight._utils.files import write_atomically
    from boresight.wcs.files import fits_block

    header = header_cards(wcs, error_deg=error_deg, history=history)
    text = header.tostring(sep="", endcard=False, padding=False)
    cards = [text[i : i + 80] for i in range(0, len(text), 80)]
    write_atomically(path, fits_block([card for card in cards if card_name(card)]))
    return Path(path)
