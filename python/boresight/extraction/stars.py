"""One star and the columns of many: positions, fluxes, shapes and flags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self, overload

import numpy as np
import numpy.typing as npt

from boresight._utils.arguments import numbers
from boresight._utils.naming import named
from boresight._utils.origins import center_of
from boresight.errors import InputError
from boresight.extraction.flags import CentroidFlags

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["Centroid", "CentroidColumns"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@named
class Centroid:
    """One star: a view of one row of a `Centroids`, not a copy; or made from numbers.

    Attributes are those of `Centroids`, in the singular: `x`, `y`, `brightness`,
    `brightness_error`, `snr`, `peak`, `background`, `elongation`, `sharpness`, `fwhm` are floats,
    `cov` and `position_cov` are (2, 2) arrays, `num_pixels` is an int and `flags` a
    `CentroidFlags`.

    Parameters
    ----------
    x, y : float
        Position in pixels from the image's centre.
    brightness : float, optional
        Flux above the background. Default: NaN, unknown.
    **measured
        Any other attribute of `Centroids`, for one star: `brightness_error`, `cov`,
        `position_cov`, `peak`, `background`, `sharpness`, `num_pixels`, `flags`.

    Raises
    ------
    InputError
        If an argument is not a number, or the position is not finite.

    Examples
    --------
    >>> from boresight import Centroid, Centroids
    >>> star = CentroidColumns(x=[1.5], y=[-2.0], brightness=[300.0])[0]
    >>> star.x, star.y, star.brightness
    (1.5, -2.0, 300.0)
    >>> Centroid(1.5, -2.0, 300.0)
    Centroid(x=1.500, y=-2.000, brightness=300)
    """

    __slots__ = ("_index", "_stars")

    _index: int
    _stars: CentroidColumns

    def __init__(self, x: float, y: float, brightness: float = np.nan, **measured: Any) -> None:
        names = CentroidColumns._names()
        unknown = sorted(set(measured) - set(names))
        if unknown:
            raise InputError(f"{unknown[0]}: no such attribute; there are {', '.join(names)}")
        given: dict[str, Any] = {"x": x, "y": y, "brightness": brightness, **measured}
        self._stars = CentroidColumns(
            **{name: np.asarray([value]) for name, value in given.items()}
        )
        self._index = 0

    @classmethod
    def _view(cls, stars: CentroidColumns, index: int) -> Centroid:
        """Make a view of one star of many."""
        self = cls.__new__(cls)
        self._stars, self._index = stars, index
        return self

    @property
    def x(self) -> float:
        """Column minus half the width, in pixels; positive to the right."""
        return float(self._stars.x[self._index])

    @property
    def y(self) -> float:
        """Row minus half the height, in pixels; positive downwards."""
        return float(self._stars.y[self._index])

    @property
    def brightness(self) -> float:
        """Flux above the background, in units of the image."""
        return float(self._stars.brightness[self._index])

    @property
    def brightness_error(self) -> float:
        """Standard deviation of `brightness`."""
        return float(self._stars.brightness_error[self._index])

    @property
    def snr(self) -> float:
        """`brightness` divided by its error."""
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
        """Ratio of the axes of the star's image."""
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
        return Centroid._view, (self._stars[[self._index]], 0)


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


@named
@dataclass(frozen=True, eq=False, repr=False)
class CentroidColumns(Sequence[Centroid]):
    """The columns of `Centroids`, described there."""

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

    def to_corner(self, image_shape: tuple[int, int]) -> FloatArray:
        """Return the positions as columns and rows, counted from the corner, 0-based.

        Parameters
        ----------
        image_shape : (int, int)
            (height, width) in pixels.

        Returns
        -------
        ndarray, shape (n, 2)
            The centre of the first pixel is (0, 0), as in numpy, SEP and photutils.

        Examples
        --------
        >>> from boresight import Centroids
        >>> CentroidColumns(x=[0.0], y=[-384.0]).to_corner((768, 1024))
        array([[512.,   0.]])
        """
        return self.xy + center_of("corner", image_shape)

    def to_fits(self, image_shape: tuple[int, int]) -> FloatArray:
        """Return the positions as FITS counts them: from the corner, 1-based.

        Parameters
        ----------
        image_shape : (int, int)
            (height, width) in pixels.

        Returns
        -------
        ndarray, shape (n, 2)
            The centre of the first pixel is (1, 1), as in SExtractor and DS9.

        Examples
        --------
        >>> from boresight import Centroids
        >>> CentroidColumns(x=[0.0], y=[-384.0]).to_fits((768, 1024))
        array([[513.,   1.]])
        """
        return self.xy + center_of("fits", image_shape)

    @property
    def snr(self) -> FloatArray:
        """`brightness` divided by its error, shape (n,)."""
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
        """Positions in pixels from the image's centre, shape (n, 2)."""
        return np.column_stack([self.x, self.y])

    def table(self) -> Table:
        """Return all columns as an `astropy.table.Table`, with units for positions and shapes.

        Returns
        -------
        Table
            With the columns of this class and `snr`, `elongation`, `fwhm`.

        Examples
        --------
        >>> from boresight import Centroids
        >>> CentroidColumns(x=[1.5], y=[-2.0], brightness=[300.0]).table()["x"].unit
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
    def __getitem__(self, index: slice | Sequence[int] | npt.NDArray[Any]) -> Self: ...
    def __getitem__(self, index: Any) -> Centroid | Self:
        if isinstance(index, (int, np.integer)) and not isinstance(index, (bool, np.bool_)):
            i = int(index)
            if not -len(self) <= i < len(self):
                raise IndexError(f"star {i} of {len(self)}")
            return Centroid._view(self, i % len(self))
        if not isinstance(index, slice):
            index = np.asarray(index)
            index = index.astype(np.intp) if index.size == 0 else index
        return type(self)(**{name: getattr(self, name)[index] for name in self._names()})

    def __iter__(self) -> Iterator[Centroid]:
        return (Centroid._view(self, i) for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CentroidColumns):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, n), getattr(other, n), equal_nan=True)
            for n in self._names()
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} star{'' if len(self) == 1 else 's'})"


def _column(name: str, value: Any, kind: type) -> npt.NDArray[Any]:
    given = numbers(name, value) if np.dtype(kind).kind == "f" else value
    try:
        array = np.asarray(getattr(given, "value", given))
        if array.dtype.kind not in "biuf":
            raise TypeError
        return np.array(array, dtype=kind, order="C")
    except (TypeError, ValueError):
        raise InputError(
            f"{name}: not an array of real numbers; give one number per star"
        ) from None
