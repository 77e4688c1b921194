"""Stars found in a frame: positions, fluxes, shapes and flags, as one structure of arrays."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np
import numpy.typing as npt

from boresight.errors import InputError

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["Centroid", "CentroidFlags", "Centroids"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class CentroidFlags(enum.IntFlag):
    """Flags of a star: properties of its image that a user should know.

    Examples
    --------
    >>> from boresight import CentroidFlags
    >>> CentroidFlags(5)
    <CentroidFlags.SATURATED|BLENDED: 5>
    """

    SATURATED = 1
    """A pixel of it is saturated: flux and position are worse than their noise tells."""
    EDGE = 2
    """So near the edge of the frame that a part of it is missing."""
    BLENDED = 4
    """Another star's light reaches into it."""
    MASKED = 8
    """A bad pixel lies within it."""
    TRAILED = 16
    """The stars of its frame are elongated by half or more, all in one direction: the frame moved
    while it was exposed. Positions are those of the middle of the trail."""
    HOT_PIXEL = 32
    """Sharper than the frame's stars can be (a Gaussian of 0.7 of their width, in the middle of a
    pixel) by twice its noise: a hot pixel, or the hit of a cosmic ray. Few have this flag while
    `max_sharpness` leaves the sharpest out."""
    COSMIC_RAY = 32
    """The same as `HOT_PIXEL`: one frame does not tell the two apart."""


class Centroid:
    """One star of a `Centroids`: a light view, not a copy.

    Attributes are those of `Centroids`, in the singular: `x`, `y`, `brightness`,
    `brightness_error`, `snr`, `peak`, `background`, `elongation`, `sharpness`, `fwhm` are floats,
    `cov` and `position_cov` are (2, 2) arrays, `num_pixels` is an int and `flags` a
    `CentroidFlags`.

    Examples
    --------
    >>> from boresight import Centroids
    >>> star = Centroids(x=[1.5], y=[-2.0], brightness=[300.0])[0]
    >>> star.x, star.y, star.brightness
    (1.5, -2.0, 300.0)
    """

    __slots__ = ("_index", "_stars")

    def __init__(self, stars: Centroids, index: int) -> None:
        self._stars = stars
        self._index = index

    @property
    def x(self) -> float:
        """Column less half the width, in pixels; + is right."""
        return float(self._stars.x[self._index])

    @property
    def y(self) -> float:
        """Row less half the height, in pixels; + is down."""
        return float(self._stars.y[self._index])

    @property
    def brightness(self) -> float:
        """Light above the background, in units of the image."""
        return float(self._stars.brightness[self._index])

    @property
    def brightness_error(self) -> float:
        """Standard deviation of `brightness`."""
        return float(self._stars.brightness_error[self._index])

    @property
    def snr(self) -> float:
        """`brightness` over its error."""
        return self.brightness / self.brightness_error

    @property
    def cov(self) -> FloatArray:
        """Second moments of the star's image, shape (2, 2), in square pixels."""
        cov: FloatArray = self._stars.cov[self._index]
        return cov

    @property
    def position_cov(self) -> FloatArray:
        """Covariance of the position, shape (2, 2), in square pixels."""
        cov: FloatArray = self._stars.position_cov[self._index]
        return cov

    @property
    def peak(self) -> float:
        """Highest pixel above the background."""
        return float(self._stars.peak[self._index])

    @property
    def background(self) -> float:
        """Background at the star."""
        return float(self._stars.background[self._index])

    @property
    def sharpness(self) -> float:
        """(peak - mean of its eight neighbours) / peak."""
        return float(self._stars.sharpness[self._index])

    @property
    def elongation(self) -> float:
        """Ratio of the axes of the image."""
        return float(_elongation(self.cov))

    @property
    def fwhm(self) -> float:
        """Full width at half maximum, in pixels, of a Gaussian with the moments `cov`."""
        return float(_fwhm(self.cov))

    @property
    def num_pixels(self) -> int:
        """Number of pixels of the blob the star belongs to."""
        return int(self._stars.num_pixels[self._index])

    @property
    def flags(self) -> CentroidFlags:
        """Flags of the star."""
        return CentroidFlags(int(self._stars.flags[self._index]))

    def __repr__(self) -> str:
        flags = f", flags={self.flags.name or int(self.flags)}" if self.flags else ""
        return f"Centroid(x={self.x:.3f}, y={self.y:.3f}, brightness={self.brightness:.6g}{flags})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Centroid, (self._stars[[self._index]], 0)


def _elongation(cov: FloatArray) -> FloatArray:
    mean = 0.5 * (cov[..., 0, 0] + cov[..., 1, 1])
    spread = np.hypot(0.5 * (cov[..., 0, 0] - cov[..., 1, 1]), cov[..., 0, 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: FloatArray = np.sqrt((mean + spread) / (mean - spread))
    return ratio


def _fwhm(cov: FloatArray) -> FloatArray:
    determinant = cov[..., 0, 0] * cov[..., 1, 1] - cov[..., 0, 1] ** 2
    width: FloatArray = np.sqrt(8 * np.log(2)) * np.maximum(determinant, 0.0) ** 0.25
    return width


def _unknown(shape: tuple[int, ...]) -> FloatArray:
    return np.full(shape, np.nan)


@dataclass(frozen=True, eq=False, repr=False)
class Centroids(Sequence[Centroid]):
    """Stars of a frame, as a structure of arrays and as a sequence of `Centroid`.

    Positions are in pixels from the image's centre: ``x = column - width / 2``, ``y = row -
    height / 2``, columns and rows 0-based at pixel centres, +x right and +y down. What extraction
    did not measure (stars made from an array, say) is NaN, and 0 for `num_pixels` and `flags`.
    The arrays are read-only.

    Parameters
    ----------
    x, y : array_like, shape (n,)
        Position in pixels.
    brightness : array_like, shape (n,), optional
        Light above the background, in units of the image. Default: NaN, which stands for the
        order of the stars, brightest first.
    brightness_error : array_like, shape (n,), optional
        Standard deviation of `brightness`.
    cov : array_like, shape (n, 2, 2), optional
        Second moments of each star's image in square pixels: its axes are those of the ellipse to
        draw.
    position_cov : array_like, shape (n, 2, 2), optional
        Covariance of the position in square pixels.
    peak, background, sharpness : array_like, shape (n,), optional
        Highest pixel above the background, background, and (peak - mean of the eight neighbours)
        / peak.
    num_pixels, flags : array_like of int, shape (n,), optional
        Pixels of the blob, and bits of `CentroidFlags`.

    Raises
    ------
    InputError
        If a position is NaN or infinite, or arrays differ in length.

    Examples
    --------
    >>> from boresight import Centroids
    >>> stars = Centroids(x=[1.5, -20.0], y=[-2.0, 7.0], brightness=[300.0, 120.0])
    >>> len(stars), stars.x
    (2, array([  1.5, -20. ]))
    >>> stars[0]
    Centroid(x=1.500, y=-2.000, brightness=300)
    >>> stars[stars.brightness > 200]
    Centroids(1 star)
    """

    x: FloatArray
    y: FloatArray
    brightness: FloatArray = None  # type: ignore[assignment]
    brightness_error: FloatArray = None  # type: ignore[assignment]
    cov: FloatArray = None  # type: ignore[assignment]
    position_cov: FloatArray = None  # type: ignore[assignment]
    peak: FloatArray = None  # type: ignore[assignment]
    background: FloatArray = None  # type: ignore[assignment]
    sharpness: FloatArray = None  # type: ignore[assignment]
    num_pixels: IntArray = None  # type: ignore[assignment]
    flags: IntArray = None  # type: ignore[assignment]

    _MATRICES: ClassVar[tuple[str, ...]] = ("cov", "position_cov")
    _INTEGERS: ClassVar[tuple[str, ...]] = ("num_pixels", "flags")

    def __post_init__(self) -> None:
        n = int(np.size(self.x))
        for name in self._names():
            tail = (2, 2) if name in self._MATRICES else ()
            kind = np.int64 if name in self._INTEGERS else np.float64
            value = getattr(self, name)
            if value is None:
                empty = np.zeros(n, np.int64) if name in self._INTEGERS else _unknown((n, *tail))
                array: npt.NDArray[Any] = empty
            else:
                array = _column(name, value, kind)
            if array.shape != (n, *tail):
                raise InputError(
                    f"{name}: its shape is {array.shape}; give {(n, *tail)}, one entry per star"
                )
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        for name in ("x", "y"):
            bad = np.flatnonzero(~np.isfinite(getattr(self, name)))
            if bad.size:
                raise InputError(
                    f"centroids: {name} of row {bad[0]} is {getattr(self, name)[bad[0]]}; "
                    "leave such stars out before passing them"
                )

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls))

    @classmethod
    def from_any(cls, stars: Any) -> Centroids:
        """Stars from whatever holds their positions.

        Parameters
        ----------
        stars : Centroids, ExtractionResult, sequence of objects, array_like or Table
            A `Centroids` (returned as it is); something with a `.centroids`; objects with `x`,
            `y` and perhaps `brightness`; an array of shape (n, 2) or (n, 3) with columns x, y[,
            brightness]; or a table, structured array or mapping with columns ``x``, ``y`` and
            perhaps ``brightness`` or ``flux``. All in pixels from the image's centre.

        Returns
        -------
        Centroids
            In the given order.

        Raises
        ------
        InputError
            If `stars` is none of those, or a position (or a brightness, but for one that is
            missing) is NaN or infinite; the message names the row.

        Examples
        --------
        >>> import numpy as np
        >>> from boresight import Centroids
        >>> Centroids.from_any(np.array([[1.0, 2.0, 50.0], [3.0, 4.0, 40.0]])).brightness
        array([50., 40.])
        """
        if isinstance(stars, cls):
            return stars
        if isinstance(getattr(stars, "centroids", None), cls):
            return stars.centroids  # type: ignore[no-any-return]
        names = _column_names(stars)
        if names:
            return cls._from_columns(stars, names)
        if isinstance(stars, Iterable) and not isinstance(stars, (str, bytes, np.ndarray)):
            stars = list(stars)
            if stars and all(hasattr(star, "x") and hasattr(star, "y") for star in stars):
                return cls._from_objects(stars)
        return cls._from_array(stars)

    @classmethod
    def _from_columns(cls, table: Any, names: Sequence[str]) -> Centroids:
        if not {"x", "y"} <= set(names):
            raise InputError(
                f"centroids: the table has columns {', '.join(names)}; it needs x and y"
            )
        columns = {name: table[name] for name in cls._names() if name in names}
        if "brightness" not in columns and "flux" in names:
            columns["brightness"] = table["flux"]
        return cls(**columns)._with_known_brightness()

    @classmethod
    def _from_objects(cls, stars: list[Any]) -> Centroids:
        if all(isinstance(star, Centroid) for star in stars):
            return _gather(stars)
        columns = {"x": [star.x for star in stars], "y": [star.y for star in stars]}
        if all(getattr(star, "brightness", None) is not None for star in stars):
            columns["brightness"] = [star.brightness for star in stars]
        return cls(**columns)._with_known_brightness()  # type: ignore[arg-type]

    @classmethod
    def _from_array(cls, stars: Any) -> Centroids:
        try:
            array = np.asarray(stars)
            if array.dtype.kind not in "biuf":
                raise TypeError
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            raise InputError(
                f"centroids: {type(stars).__name__} holds no positions; "
                "give Centroids, objects with x and y, "
                "an array of shape (n, 2) or (n, 3), or a table with columns x and y"
            ) from None
        if array.size == 0 and array.ndim <= 2:
            array = array.reshape(0, 3)
        if array.ndim != 2 or array.shape[1] not in (2, 3):
            raise InputError(
                f"centroids: its shape is {array.shape}; "
                "give (n, 2) or (n, 3) with columns x, y[, brightness]"
            )
        if array.shape[1] == 2:
            return cls(array[:, 0], array[:, 1])
        return cls(array[:, 0], array[:, 1], array[:, 2])._with_known_brightness()

    def _with_known_brightness(self) -> Centroids:
        unknown = np.isnan(self.brightness)
        bad = np.flatnonzero(~np.isfinite(self.brightness))
        if bad.size and not unknown.all():
            raise InputError(
                f"centroids: brightness of row {bad[0]} is {self.brightness[bad[0]]}; "
                "leave such stars out, or give positions alone, brightest first"
            )
        return self

    @property
    def snr(self) -> FloatArray:
        """`brightness` over its error, shape (n,)."""
        return self.brightness / self.brightness_error

    @property
    def elongation(self) -> FloatArray:
        """Ratio of the axes of each star's image, shape (n,)."""
        return _elongation(self.cov)

    @property
    def fwhm(self) -> FloatArray:
        """Full width at half maximum of Gaussians with the moments `cov`, in pixels, shape (n,)."""
        return _fwhm(self.cov)

    @property
    def xy(self) -> FloatArray:
        """Positions, shape (n, 2)."""
        return np.column_stack([self.x, self.y])

    def table(self) -> Table:
        """All columns as an `astropy.table.Table`, positions and shapes with their units.

        Returns
        -------
        Table
            With the columns of this class and `snr`, `elongation`, `fwhm`.

        Examples
        --------
        >>> from boresight import Centroids
        >>> Centroids(x=[1.5], y=[-2.0], brightness=[300.0]).table()["x"].unit
        Unit("pix")
        """
        from astropy import units as u
        from astropy.table import Table

        pixel = {"x": u.pix, "y": u.pix, "cov": u.pix**2, "position_cov": u.pix**2, "fwhm": u.pix}
        table = Table()
        for name in (*self._names(), "snr", "elongation", "fwhm"):
            table[name] = getattr(self, name)
            if name in pixel:
                table[name].unit = pixel[name]
        return table

    def __len__(self) -> int:
        return self.x.size

    @overload
    def __getitem__(self, index: int) -> Centroid: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | npt.NDArray[Any]) -> Centroids: ...
    def __getitem__(self, index: Any) -> Centroid | Centroids:
        if isinstance(index, (int, np.integer)) and not isinstance(index, (bool, np.bool_)):
            i = int(index)
            if not -len(self) <= i < len(self):
                raise IndexError(f"star {i} of {len(self)}")
            return Centroid(self, i % len(self))
        if not isinstance(index, slice):
            index = np.asarray(index)
            index = index.astype(np.intp) if index.size == 0 else index
        return Centroids(**{name: getattr(self, name)[index] for name in self._names()})

    def __iter__(self) -> Iterator[Centroid]:
        return (Centroid(self, i) for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Centroids):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, n), getattr(other, n), equal_nan=True)
            for n in self._names()
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Centroids({len(self)} star{'' if len(self) == 1 else 's'})"


def _column(name: str, value: Any, kind: type) -> npt.NDArray[Any]:
    try:
        array = np.asarray(getattr(value, "value", value))
        if array.dtype.kind not in "biuf":
            raise TypeError
        return np.array(array, dtype=kind, order="C")
    except (TypeError, ValueError):
        raise InputError(
            f"{name}: not an array of real numbers; give one number per star"
        ) from None


def _column_names(stars: Any) -> list[str]:
    """Names of the columns of a table, structured array or mapping; empty for anything else."""
    names = getattr(stars, "colnames", None) or getattr(
        getattr(stars, "dtype", None), "names", None
    )
    if names is None and isinstance(stars, Mapping):
        names = stars.keys()
    if names is None and hasattr(stars, "columns") and hasattr(stars, "__getitem__"):
        names = stars.columns
    return [str(name) for name in names] if names is not None else []


def _gather(stars: list[Centroid]) -> Centroids:
    """`Centroids` of views, which may be of different frames."""
    return Centroids(
        **{
            name: np.array([getattr(star._stars, name)[star._index] for star in stars])
            for name in Centroids._names()
        }
    )
