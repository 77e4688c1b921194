"""Stars found in a frame: positions, fluxes, shapes and flags, as one structure of arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np
import numpy.typing as npt

from boresight._utils.origins import Origin, center_of
from boresight.errors import InputError
from boresight.extraction.flags import CentroidFlags

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["Centroid", "Centroids"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Centroid:
    """One star: of a `Centroids` a light view, not a copy; or made by hand.

    Attributes are those of `Centroids`, in the singular: `x`, `y`, `brightness`,
    `brightness_error`, `snr`, `peak`, `background`, `elongation`, `sharpness`, `fwhm` are floats,
    `cov` and `position_cov` are (2, 2) arrays, `num_pixels` is an int and `flags` a
    `CentroidFlags`.

    Parameters
    ----------
    x, y : float
        Position in pixels from the image's centre.
    brightness : float, optional
        Light above the background. Default: NaN, unknown.
    **measured
        Any other attribute of `Centroids`, for one star: `brightness_error`, `cov`,
        `position_cov`, `peak`, `background`, `sharpness`, `num_pixels`, `flags`.

    Raises
    ------
    InputError
        If a number is none, or the position is not finite.

    Examples
    --------
    >>> from boresight import Centroid, Centroids
    >>> star = Centroids(x=[1.5], y=[-2.0], brightness=[300.0])[0]
    >>> star.x, star.y, star.brightness
    (1.5, -2.0, 300.0)
    >>> Centroid(1.5, -2.0, 300.0)
    Centroid(x=1.500, y=-2.000, brightness=300)
    """

    __slots__ = ("_index", "_stars")

    _index: int
    _stars: Centroids

    def __init__(self, x: float, y: float, brightness: float = np.nan, **measured: Any) -> None:
        names = Centroids._names()
        unknown = sorted(set(measured) - set(names))
        if unknown:
            raise InputError(f"{unknown[0]}: no such attribute; there are {', '.join(names)}")
        given: dict[str, Any] = {"x": x, "y": y, "brightness": brightness, **measured}
        self._stars = Centroids(**{name: np.asarray([value]) for name, value in given.items()})
        self._index = 0

    @classmethod
    def _view(cls, stars: Centroids, index: int) -> Centroid:
        """One star of many."""
        self = cls.__new__(cls)
        self._stars, self._index = stars, index
        return self

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
    def from_any(
        cls,
        stars: Any,
        *,
        origin: Origin | None = None,
        image_shape: tuple[int, int] | None = None,
    ) -> Centroids:
        """Stars from whatever holds their positions.

        Parameters
        ----------
        stars : Centroids, ExtractionResult, sequence of objects, array_like or Table
            A `Centroids` (returned as it is); something with a `.centroids`; objects with `x`,
            `y` and perhaps `brightness`; an array of shape (n, 2) or (n, 3) with columns x, y[,
            brightness]; or a table, structured array, DataFrame, mapping or table HDU with columns
            ``x``, ``y`` and perhaps ``brightness`` or ``flux``, or with those of a known program.
            Positions are in pixels. Light may also be in magnitudes, in a column that is named so
            (``mag``, ``MAG_AUTO``) or has that unit.
        origin : {"center", "corner", "fits"}, optional
            Where positions are counted from: the image's centre, the centre of the first pixel as
            (0, 0), as in numpy arrays, or the same as (1, 1), as in FITS. Default: what the
            table's columns tell (SEP and photutils count from the corner, SExtractor, IRAF,
            Astrometry.net and ASTAP as FITS does), else the centre.
        image_shape : (int, int), optional
            (height, width) in pixels. Needed to convert from another origin than the centre;
            positions are checked to lie inside.

        Returns
        -------
        Centroids
            In the given order. Stars whose position or brightness is masked or NaN are left out.

        Raises
        ------
        InputError
            If `stars` is none of those; if a number is infinite (the message names the row); if
            positions have another unit than pixels, lie outside the image, or need `image_shape`.

        Examples
        --------
        >>> import numpy as np
        >>> from boresight import Centroids
        >>> Centroids.from_any(np.array([[1.0, 2.0, 50.0], [3.0, 4.0, 40.0]])).brightness
        array([50., 40.])
        >>> from astropy.table import Table
        >>> table = Table({"XWIN_IMAGE": [513.0], "YWIN_IMAGE": [1.0], "MAG_AUTO": [-7.5]})
        >>> Centroids.from_any(table, image_shape=(768, 1024))[0]
        Centroid(x=0.000, y=-384.000, brightness=1000)
        """
        from boresight.extraction.star_list import StarList

        return StarList.read(stars, origin, image_shape).stars

    @classmethod
    def from_corner(cls, stars: Any, image_shape: tuple[int, int]) -> Centroids:
        """Stars from positions that are counted from the corner, 0-based, as in numpy arrays.

        Parameters
        ----------
        stars : array_like, Table or another list
            As in `from_any`. The centre of the first pixel is (0, 0).
        image_shape : (int, int)
            (height, width) in pixels.

        Returns
        -------
        Centroids
            In the given order, counted from the image's centre.

        Raises
        ------
        InputError
            As `from_any`.

        See Also
        --------
        to_corner : The way back.
        from_any : With ``origin="fits"`` for positions counted from (1, 1).

        Examples
        --------
        >>> from boresight import Centroids
        >>> Centroids.from_corner([[512.0, 384.0]], (768, 1024)).xy
        array([[0., 0.]])
        """
        return cls.from_any(stars, origin="corner", image_shape=image_shape)

    def to_corner(self, image_shape: tuple[int, int]) -> FloatArray:
        """Columns and rows of the positions: counted from the corner, 0-based.

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
        >>> Centroids(x=[0.0], y=[-384.0]).to_corner((768, 1024))
        array([[512.,   0.]])
        """
        return self.xy + center_of("corner", image_shape)

    def to_fits(self, image_shape: tuple[int, int]) -> FloatArray:
        """Positions as FITS counts them: from the corner, 1-based.

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
        >>> Centroids(x=[0.0], y=[-384.0]).to_fits((768, 1024))
        array([[513.,   1.]])
        """
        return self.xy + center_of("fits", image_shape)

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
            return Centroid._view(self, i % len(self))
        if not isinstance(index, slice):
            index = np.asarray(index)
            index = index.astype(np.intp) if index.size == 0 else index
        return Centroids(**{name: getattr(self, name)[index] for name in self._names()})

    def __iter__(self) -> Iterator[Centroid]:
        return (Centroid._view(self, i) for i in range(len(self)))

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
