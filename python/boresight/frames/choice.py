"""Chooses the HDU that holds the frame, if a FITS file has several."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from boresight.errors import InputError
from boresight.frames.cards import Cards

#: Words in the names of HDUs that hold the exposure.
SCIENCE_WORDS = {"sci", "science", "image", "data", "exposure", "intensity", "calibrated"}

#: Words in the names of HDUs that hold data about the exposure: masks, errors, lookup arrays.
AUXILIARY_WORDS = {
    "mask", "masks", "bpm", "bpix", "badpix", "bad", "dq", "quality", "flag", "flags",
    "err", "error", "errors", "errs", "sigma", "std", "stddev", "stdev", "rms", "noise",
    "uncert", "uncertainty", "var", "variance", "ivar", "invvar", "weight", "weights", "wht", "wgt",
    "expmap", "exptime", "con", "ctx", "context", "coverage", "cov", "nsample", "samp",
    "seg", "segm", "segmap", "segmentation", "psf", "lookup", "lut", "d2im", "wcsdvarr", "wcscorr",
    "wcs", "thumbnail", "preview",
}  # fmt: skip

#: Least area of an image that may be the exposure, as a fraction of the largest image's area;
#: smaller images are previews.
COMPARABLE_AREA = 0.5


#: Name of an HDU: its number, its EXTNAME, or EXTNAME and EXTVER.
HduName = int | str | tuple[str, int]

Load = Callable[[tuple[int, ...], slice, slice], NDArray[Any]]


@dataclass(frozen=True)
class Hdu:
    """An HDU of a file or of astropy, of which only the header has been read.

    `shape` is in numpy's order, and empty if there is no array. `load(leading, rows, part)` returns
    ``[*leading, rows]`` of the array, in native byte order; all further axes of a row are flattened
    to one, from which the elements `part` are taken.
    """

    index: int
    kind: str
    header: Cards
    notes: list[str]
    shape: tuple[int, ...]
    bitpix: int
    load: Load

    @property
    def name(self) -> str:
        """EXTNAME, or another card that names the HDU."""
        for card in ("EXTNAME", "HDUNAME"):
            value = str(self.header.get(card, "")).strip()
            if value and value != "COMPRESSED_IMAGE":  # a name without information
                return value
        return ""

    @property
    def words(self) -> set[str]:
        """Words of the name and of the class, in lower case."""
        cards = ("EXTTYPE", "HDUCLAS1", "HDUCLAS2")
        text = " ".join([self.name, *(str(self.header.get(card, "")) for card in cards)])
        return set(re.findall("d2im|[a-z]+", text.lower()))

    @property
    def axes(self) -> Axes | None:
        """Axes of the frame in the array; None if the array holds no frame."""
        return frame_axes(self.shape)

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        return " ".join(f"{self.index} {self.kind} {self.name} {size}".split())


@dataclass(frozen=True)
class Axes:
    """Axes of an array, in numpy's order, that are a frame's rows, columns and colours."""

    row: int
    column: int
    colour: int | None = None


def frame_axes(shape: tuple[int, ...]) -> Axes | None:
    """Find the axes of a frame: two, or three with three colours, apart from axes of length 1."""
    kept = [axis for axis, length in enumerate(shape) if length != 1]
    if 0 in shape:
        return None
    if len(kept) == 2:
        return Axes(kept[0], kept[1])
    if len(kept) == 3 and shape[kept[0]] == 3:
        return Axes(kept[1], kept[2], kept[0])
    if len(kept) == 3 and shape[kept[2]] == 3:
        return Axes(kept[0], kept[1], kept[2])
    return None


def choose(hdus: Sequence[Hdu], wanted: HduName | None, source: str) -> tuple[Hdu, Axes, list[str]]:
    """Find the requested HDU, or the one with the exposure; a note says if this is a guess."""
    if wanted is not None:
        hdu = _named(hdus, wanted, source)
        if hdu.axes is None:
            raise InputError(
                f"hdu: {wanted!r} of {source} is not a 2-D image but {hdu}; give one of "
                f"{_listed(h for h in hdus if h.axes) or 'another file'}"
            )
        return hdu, hdu.axes, []
    images = [(hdu, axes) for hdu in hdus if (axes := hdu.axes) is not None]
    frames = [(hdu, axes) for hdu, axes in images if not hdu.words & AUXILIARY_WORDS]
    if not frames:
        raise InputError(
            f"path: {source} holds no 2-D image, only the HDUs {_listed(hdus)}; "
            f"give a FITS file with one{_advice(hdus, images)}"
        )
    largest = max(_area(hdu, axes) for hdu, axes in frames)
    ranks = [_rank(hdu, axes, largest) for hdu, axes in frames]
    best = max(ranks)
    hdu, axes = frames[ranks.index(best)]
    notes = []
    if ranks.count(best) > 1:
        others = _listed(h for (h, _), rank in zip(frames, ranks, strict=True) if rank == best)
        notes.append(
            f"several images are equally suitable ({others}); HDU {hdu.index} was taken, choose "
            "another with hdu="
        )
    return hdu, axes, notes


def _advice(hdus: Sequence[Hdu], images: Sequence[Any]) -> str:
    """Return advice on reading the content of a file without a frame."""
    if images:
        return ", and masks and the like only if hdu= names them"
    if any(len(hdu.shape) > 2 for hdu in hdus):
        return ", or a plane of the cube as an array, such as astropy.io.fits.getdata(path)[0]"
    if any("TABLE" in hdu.kind.upper() for hdu in hdus):
        return ", or a list of stars as a table, which astropy.table.Table.read(path) reads"
    return ""


def _rank(hdu: Hdu, axes: Axes, largest: int) -> tuple[int, ...]:
    """Order of preference: by name, comparable size, type, celestial WCS, and size."""
    area = _area(hdu, axes)
    return (
        bool(hdu.words & SCIENCE_WORDS),
        area >= COMPARABLE_AREA * largest,
        hdu.bitpix != 8,  # masks and previews have 8 bits
        str(hdu.header.get("CTYPE1", ""))[:4].rstrip("-") in ("RA", "DEC", "GLON", "GLAT"),
        area,
    )


def _area(hdu: Hdu, axes: Axes) -> int:
    return hdu.shape[axes.row] * hdu.shape[axes.column]


def _named(hdus: Sequence[Hdu], wanted: HduName, source: str) -> Hdu:
    """Find an HDU by its number, its name, or its name and EXTVER as astropy takes them."""
    found: list[Hdu] = []
    if isinstance(wanted, str):
        name, _, version = wanted.partition(",")
        found = _of_name(hdus, wanted, None) or _of_name(hdus, name, _number(version))
        number = None if found else _number(wanted)
    elif isinstance(wanted, tuple) and len(wanted) == 2:
        number, found = None, _of_name(hdus, str(wanted[0]), _number(wanted[1]))
    else:
        number = _number(wanted)
        if number is None:
            raise InputError(
                f"hdu: {wanted!r} is neither a number nor a name; give one of the two, or a name "
                "and EXTVER, such as ('SCI', 2)"
            )
    if number is not None and -len(hdus) <= number:
        found = list(hdus[number:][:1])
    if not found:
        raise InputError(f"hdu: {source} has no HDU {wanted!r}; there are {_listed(hdus)}")
    return found[0]


def _of_name(hdus: Sequence[Hdu], name: str, version: int | None) -> list[Hdu]:
    name = name.strip().upper()
    if not name:
        return []
    if name == "PRIMARY" and version is None:
        return list(hdus[:1])
    found = [hdu for hdu in hdus if hdu.name.upper() == name]
    return [h for h in found if version in (None, h.header.get("EXTVER", 1))]


def _number(value: Any) -> int | None:
    """Return a whole number, also one of numpy or as text; None for anything else."""
    try:
        number = value if isinstance(value, str) else operator.index(value)
        return None if isinstance(value, bool) else int(number)
    except (TypeError, ValueError):
        return None


def _listed(hdus: Any) -> str:
    return ", ".join(map(str, hdus))
