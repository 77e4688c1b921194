"""Models of the point-spread function."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils.arguments import check_names, number
from boresight._utils.naming import named
from boresight.errors import InputError

__all__ = ["PSF", "EffectivePSF", "Gaussian", "Moffat", "psf_of"]

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class _Profile:
    """Common part of the elliptical profiles: shape and free parameters."""

    parameters: ClassVar[tuple[str, ...]] = ()
    """Allowed names in `free`; "shape" means the axis ratio and the angle together."""

    def _check(self) -> None:
        ratio = number("axis_ratio", self.axis_ratio, "give 0 to 1")  # type: ignore[attr-defined]
        if not 0.05 <= ratio <= 1.0:
            raise InputError(f"axis_ratio: {ratio:g} is out of range; give 0.05 to 1")
        angle = number("angle_deg", self.angle_deg, "give degrees")  # type: ignore[attr-defined]
        if not math.isfinite(angle):
            raise InputError(f"angle_deg: {angle} is not an angle; give degrees")
        check_names("free", self.free, self.parameters)  # type: ignore[attr-defined]
        shared = self.shared  # type: ignore[attr-defined]
        if not isinstance(shared, bool):
            raise InputError(f"shared: {shared!r} is neither True nor False")

    @property
    def e1(self) -> float:
        """-ln(axis ratio) times cos(2 angle)."""
        ratio, angle = self.axis_ratio, self.angle_deg  # type: ignore[attr-defined]
        return -math.log(ratio) * math.cos(2.0 * math.radians(angle))

    @property
    def e2(self) -> float:
        """-ln(axis ratio) times sin(2 angle)."""
        ratio, angle = self.axis_ratio, self.angle_deg  # type: ignore[attr-defined]
        return -math.log(ratio) * math.sin(2.0 * math.radians(angle))


@named
@dataclasses.dataclass(frozen=True)
class Moffat(_Profile):
    """Moffat profile ``(1 + u²/rd²)**-n``, integrated over every pixel.

    Parameters
    ----------
    n : float
        Exponent, above 1 (otherwise the total flux is infinite). Default 2.
    rd : float
        Radius in pixels; for an ellipse the geometric mean of the half axes. Default 1.
    axis_ratio : float
        Axis ratio of the ellipse, 0.05 to 1. Default 1, round.
    angle_deg : float
        Angle from the x axis of pixels to the major axis, towards +y, degrees. Default 0.
    free : tuple of str
        Parameters that are fitted, among "n", "rd" and "shape" (axis ratio and angle together). The
        others keep their value. Default ("n", "rd").
    shared : bool
        Whether all images with this same object share one PSF. Default: each image has a separate
        PSF.

    Examples
    --------
    >>> from boresight import scene
    >>> f"{scene.Moffat(n=2.0, rd=3.8).fwhm_px:.2f} px"
    '4.89 px'
    """

    parameters: ClassVar[tuple[str, ...]] = ("n", "rd", "shape")

    n: float = 2.0
    rd: float = 1.0
    axis_ratio: float = 1.0
    angle_deg: float = 0.0
    free: tuple[str, ...] = ("n", "rd")
    shared: bool = False

    def __post_init__(self) -> None:
        n, rd = number("n", self.n, "give an exponent"), number("rd", self.rd, "give pixels")
        if not 1.0 < n < 1e3:
            raise InputError(f"n: {n:g} is out of range; give an exponent above 1, such as 2")
        if not 0.0 < rd < 1e4:
            raise InputError(f"rd: {rd:g} is out of range; give a radius in pixels, such as 1")
        self._check()

    @property
    def fwhm_px(self) -> float:
        """Full width at half maximum, pixels, before the integration over pixels."""
        return 2.0 * self.rd * math.sqrt(2.0 ** (1.0 / self.n) - 1.0)


@named
@dataclasses.dataclass(frozen=True)
class Gaussian(_Profile):
    """A Gaussian profile, integrated over every pixel.

    Parameters
    ----------
    sigma : float
        Standard deviation in pixels; for an ellipse the geometric mean of both axes. Default 1.5.
    axis_ratio, angle_deg, shared
        As in `Moffat`.
    free : tuple of str
        Parameters that are fitted, among "sigma" and "shape". Default ("sigma",).

    Examples
    --------
    >>> from boresight import scene
    >>> f"{scene.Gaussian(sigma=1.0).fwhm_px:.3f} px"
    '2.355 px'
    """

    parameters: ClassVar[tuple[str, ...]] = ("sigma", "shape")

    sigma: float = 1.5
    axis_ratio: float = 1.0
    angle_deg: float = 0.0
    free: tuple[str, ...] = ("sigma",)
    shared: bool = False

    def __post_init__(self) -> None:
        sigma = number("sigma", self.sigma, "give pixels")
        if not 0.0 < sigma < 1e4:
            raise InputError(f"sigma: {sigma:g} is out of range; give pixels, such as 1.5")
        self._check()

    @property
    def fwhm_px(self) -> float:
        """Full width at half maximum, pixels, before the integration over pixels."""
        return self.sigma * math.sqrt(8.0 * math.log(2.0))


@named
class EffectivePSF:
    """Point-spread function given by samples of the light in a pixel.

    Between samples the function is a cubic spline, between the positions of grids it is
    interpolated linearly, and outside the samples it is 0. The samples include the integration over
    the pixel (Anderson & King 2000, PASP 112, 1360), as in photutils' `ImagePSF` and
    `GriddedPSFModel`, which `Image` also accepts.

    Parameters
    ----------
    data : array_like
        Samples, shape (rows, columns), or (n, rows, columns) for n grids. The sum of a grid must be
        the product of both samplings if a flux is to be the total light.
    oversampling : int or (int, int)
        Samples per pixel along y and x. Default 1.
    origin : (float, float), optional
        Sample (x, y) at the position of the star. Default: the central sample.
    grid_xypos : array_like, optional
        Positions (x, y) of the n grids, 0-based pixels: all combinations of some columns and rows.

    Attributes
    ----------
    data : ndarray
        Samples, shape (n, rows, columns), with the grids in row order.
    fwhm_px : float
        Full width at half maximum, pixels, of the Gaussian with the same peak, including the pixel.
    free : tuple
        Empty, because an effective PSF is not fitted.

    Raises
    ------
    InputError
        If the samples are not finite, or the positions are no grid.

    Examples
    --------
    >>> import numpy as np
    >>> from boresight import scene
    >>> y, x = np.mgrid[-20:21, -20:21] / 4
    >>> samples = np.exp(-(x**2 + y**2) / 2) / (2 * np.pi)
    >>> f"{scene.EffectivePSF(samples, oversampling=4).fwhm_px:.3f} px"
    '2.355 px'
    """

    free: ClassVar[tuple[str, ...]] = ()
    shared: ClassVar[bool] = False

    def __init__(
        self,
        data: ArrayLike,
        oversampling: int | tuple[int, int] = 1,
        origin: tuple[float, float] | None = None,
        grid_xypos: ArrayLike | None = None,
    ) -> None:
        samples = np.asarray(data, dtype=np.float64)
        samples = samples[None] if samples.ndim == 2 else samples
        if samples.ndim != 3 or min(samples.shape[1:], default=0) < 4:
            raise InputError(
                f"psf: its samples have the shape {np.shape(data)}; give (rows, columns) or "
                "(n, rows, columns), at least 4 each way"
            )
        if not np.isfinite(samples).all():
            raise InputError("psf: some samples are not finite; give finite ones")
        over = np.broadcast_to(np.asarray(oversampling, dtype=np.float64), (2,))
        if not (np.isfinite(over).all() and (over > 0).all()):
            raise InputError(f"oversampling: {oversampling} is too small; give 1 or more")
        self.oversampling: tuple[float, float] = (float(over[0]), float(over[1]))
        middle = ((samples.shape[2] - 1) / 2, (samples.shape[1] - 1) / 2)
        try:
            x, y = (float(value) for value in (middle if origin is None else origin))
        except (TypeError, ValueError):
            raise InputError(
                f"origin: {origin!r} is not a pair of numbers; give the (x, y) of a sample"
            ) from None
        self.origin: tuple[float, float] = (x, y)
        order, self.columns, self.rows = _lattice(grid_xypos, len(samples))
        self.data: Floats = np.ascontiguousarray(samples[order])
        inside = 0 <= self.origin[0] <= 2 * middle[0] and 0 <= self.origin[1] <= 2 * middle[1]
        if not inside or not (self._peaks() > 0).all():
            raise InputError("psf: no light at its origin; give the sample of the star")

    @classmethod
    def measured(cls, data: ArrayLike, mask: ArrayLike | None = None) -> EffectivePSF:
        """Measure the PSF on the stars of a frame, as the extraction of stars does.

        Parameters
        ----------
        data : array_like
            Pixels, shape (height, width).
        mask : array_like of bool, optional
            True for bad pixels.

        Returns
        -------
        EffectivePSF
            One PSF for the whole frame, or a grid of them, depending on the number of stars; a
            Gaussian with the width of the stars if there are few. Fluxes are those within the
            samples: wings that extend further are excluded.

        Raises
        ------
        InputError
            If there is no star to measure.

        Examples
        --------
        >>> import numpy as np
        >>> from boresight import scene
        >>> y, x = np.mgrid[:200, :200]
        >>> rng = np.random.default_rng(1)
        >>> pixels = rng.normal(0.0, 5.0, (200, 200))
        >>> for a, b in rng.uniform(15, 185, (40, 2)):
        ...     pixels += 3000.0 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 4.5)
        >>> f"{scene.EffectivePSF.measured(pixels).fwhm_px:.1f} px"
        '3.5 px'
        """
        pixels = np.ascontiguousarray(data, dtype=np.float64)
        bad = ~np.isfinite(pixels)
        if mask is not None:
            bad |= np.asarray(mask, dtype=bool)
        found = core.scene_measure_psf(pixels, bad)
        if found is None:
            raise InputError("psf: no star to measure it; give scene.Moffat() or scene.Gaussian()")
        samples, oversampling, columns, rows = found
        places = [(x, y) for y in rows for x in columns]
        return cls(samples, oversampling, grid_xypos=places)

    def _peaks(self) -> Floats:
        x, y = round(self.origin[0]), round(self.origin[1])
        return np.asarray(self.data[:, y, x])

    @property
    def fwhm_px(self) -> float:
        """Full width at half maximum, pixels, of the Gaussian with the same peak."""
        peak = float(self._peaks()[len(self.data) // 2])
        return math.sqrt(8.0 * math.log(2.0) / (2.0 * math.pi * peak))

    def __repr__(self) -> str:
        n, height, width = self.data.shape
        return f"EffectivePSF({n} of {height} x {width} samples, {self.fwhm_px:.2f} px wide)"


PSF = Moffat | Gaussian | EffectivePSF


def _lattice(positions: Any, grids: int) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Return the row order of the grids, and the columns and rows of their positions."""
    if positions is None:
        if grids != 1:
            raise InputError(f"grid_xypos: there are {grids} grids; give their places")
        return np.zeros(1, dtype=np.intp), np.zeros(1), np.zeros(1)
    xy = np.asarray(positions, dtype=np.float64)
    if xy.shape != (grids, 2) or not np.isfinite(xy).all():
        raise InputError(
            f"grid_xypos: its shape is {xy.shape}; give ({grids}, 2) finite places x, y"
        )
    order = np.lexsort((xy[:, 0], xy[:, 1]))
    columns, rows = np.unique(xy[:, 0]), np.unique(xy[:, 1])
    lattice = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    if lattice.shape != xy.shape or not (lattice == xy[order]).all():
        raise InputError("grid_xypos: the places are no grid; give all of some columns and rows")
    return order, columns, rows


def psf_of(given: Any, data: Floats, mask: NDArray[np.bool_]) -> PSF:
    """Return the PSF of the argument `psf` of an image."""
    if isinstance(given, Moffat | Gaussian | EffectivePSF):
        return given
    if isinstance(given, str) and given == "measured":
        return EffectivePSF.measured(data, mask)
    if all(hasattr(given, name) for name in ("data", "oversampling", "origin")):
        # photutils models: only the samples are used, the model's flux is a factor on them.
        return EffectivePSF(
            given.data, tuple(given.oversampling), tuple(given.origin[:2]),
            getattr(given, "grid_xypos", None),
        )  # fmt: skip
    raise InputError(
        f"psf: {given!r} is not understood; give scene.Moffat(), scene.Gaussian(), "
        "scene.EffectivePSF(), 'measured', or an ImagePSF or GriddedPSFModel of photutils"
    )
