"""A frame: an image with the data that its file has about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import plain
from boresight._utils.html import html_table
from boresight._utils.naming import named
from boresight.frames.cards import Cards
from boresight.frames.celestial import celestial_wcs
from boresight.frames.hints import HeaderHints

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.time import Time
    from astropy.wcs import WCS

__all__ = ["Frame"]


class _Header:
    """Header of a frame, stored as cards; it is converted to an astropy header when it is read."""

    def __set__(self, frame: Frame, header: Header | Cards | None) -> None:
        vars(frame)["header"] = header

    def __get__(self, frame: Frame | None, owner: type[Frame]) -> Header | None:
        if frame is None:
            return None  # the default of the attribute
        header = vars(frame)["header"]
        if isinstance(header, Cards):
            header = vars(frame)["header"] = header.header()
        return cast("Header | None", header)


@named
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Frame:
    """An image with the data that its file has about it: header, time, mask, EXIF.

    Attributes
    ----------
    image : numpy.ndarray
        Pixels, shape (height, width), in the file's own numeric type (native byte order); colours
        are converted to luminance.
    path : pathlib.Path or None
        The file; None if the frame came from an object in memory.
    header : astropy.io.fits.Header or None
        Header of the image's HDU, in which cards that are not valid FITS are repaired (see
        `notes`); None for pictures.
    time : astropy.time.Time or None
        Middle of the exposure, if the header gives it.
    mask : numpy.ndarray or None
        True for pixels without a value (NaN or infinite); None if there are none.
    origin : tuple of int
        0-based (row, column) in the file's image of the pixel ``image[0, 0]``.
    axes : tuple of int
        Numbers of the header's axes (from 1, as in NAXIS1) along the columns and the rows of
        `image`: (1, 2), unless axes of length 1 or of colours come first.
    exif : mapping of str to object
        EXIF tags of a picture by their names, such as ``FocalLength``; empty for FITS.
    notes : tuple of str
        Notes from reading, one sentence each: unreadable cards, a missing time, a choice between
        several images.

    See Also
    --------
    read_frame : Reads a frame from a file.

    Examples
    --------
    See `read_frame`.
    """

    image: NDArray[Any]
    path: Path | None = None
    header: _Header = _Header()
    time: Time | None = None
    mask: NDArray[np.bool_] | None = None
    origin: tuple[int, int] = (0, 0)
    axes: tuple[int, int] = (1, 2)
    exif: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the frame's data without its pixels, for JSON.

        Returns
        -------
        dict
            ``path``, ``image_shape``, ``dtype``, ``time`` (UTC, ISO 8601), ``origin``, ``hints``
            (the known ones) and ``notes``.

        Examples
        --------
        >>> import numpy as np
        >>> from boresight import Frame
        >>> Frame(np.zeros((3, 4))).to_dict()["image_shape"]
        [3, 4]
        """
        hints = dataclasses.asdict(self.hints)
        return {
            "path": None if self.path is None else str(self.path),
            "image_shape": list(self.image_shape),
            "dtype": str(self.image.dtype),
            "time": None if self.time is None else self.time.utc.isot,
            "origin": list(self.origin),
            "hints": {name: plain(value) for name, value in hints.items() if value is not None},
            "notes": list(self.notes),
        }

    @property
    def _header_or_cards(self) -> Header | Cards | None:
        """The header, or its cards as long as the header has not been read."""
        return cast("Header | Cards | None", vars(self)["header"])

    def __repr__(self) -> str:
        height, width = self.image_shape
        name = "in memory" if self.path is None else self.path.name
        when = "" if self.time is None else f", {self.time.isot}"
        notes = f", {len(self.notes)} notes" if self.notes else ""
        return f"<Frame {name}: {width} x {height} {self.image.dtype}{when}{notes}>"

    def _repr_html_(self) -> str:
        height, width = self.image_shape
        rows = [("Image", f"{width} x {height} pixels, {self.image.dtype}")]
        if self.time is not None:
            rows.append(("Middle of the exposure", f"{self.time.isot} {self.time.scale.upper()}"))
        rows += [(name, str(value)) for name, value in self.to_dict()["hints"].items()]
        title = "Frame" if self.path is None else f"Frame {self.path.name}"
        return html_table(title, rows, self.notes)

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.image.shape
        return height, width

    @property
    def wcs(self) -> WCS | None:
        """The header's celestial WCS for 0-based pixels of `image`, or None if it has none.

        Also None if it is unusable, or needs tables of the file in addition to the header.
        """
        if self._header_or_cards is None:
            return None
        return celestial_wcs(self._header_or_cards, self.axes, self.origin, self.image_shape)

    @property
    def hints(self) -> HeaderHints:
        """Position, scale and rotation of the frame according to its header or EXIF."""
        if self._header_or_cards is None:
            return HeaderHints.from_exif(self.exif, self.image_shape)
        return HeaderHints.from_header(self._header_or_cards, self.image_shape, wcs=self.wcs)
