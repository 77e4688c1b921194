"""Models of the point-spread function."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

from boresight._utils.arguments import number
from boresight._utils.naming import named
from boresight.errors import InputError

__all__ = ["Gaussian", "Moffat"]


@dataclasses.dataclass(frozen=True)
class _Profile:
    """Shape of an elliptical profile, and which of its parameters are free."""

    parameters: ClassVar[tuple[str, ...]] = ()
    """Names that `free` may hold; "shape" is the axis ratio and the angle together."""

    def _check(self) -> None:
        ratio = number("axis_ratio", self.axis_ratio, "give 0 to 1")  # type: ignore[attr-defined]
        if not 0.05 <= ratio <= 1.0:
            raise InputError(f"axis_ratio: {ratio:g} is out of range; give 0.05 to 1")
        angle = number("angle_deg", self.angle_deg, "give degrees")  # type: ignore[attr-defined]
        if not math.isfinite(angle):
            raise InputError(f"angle_deg: {angle} is no angle; give degrees")
        free = self.free  # type: ignore[attr-defined]
        names = [] if isinstance(free, str) else list(free)
        if isinstance(free, str) or not all(
            isinstance(name, str) and name in self.parameters for name in names
        ):
            raise InputError(
                f"free: {free!r} has names that are none; give some of {self.parameters}"
            )

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
    """Moffat's profile: ``(1 + u²/rd²)**-n``, integrated over every pixel.

    Parameters
    ----------
    n : float
        Exponent, above 1 (else the light has no end). Default 2.
    rd : float
        Radius in pixels; of an ellipse the geometric mean of the half axes. Default 1.
    axis_ratio : float
        Of the ellipse, 0.05 to 1. Default 1, round.
    angle_deg : float
        From the x axis of pixels to the major axis, towards +y, degrees. Default 0.
    free : tuple of str
        Parameters that are fitted: of "n", "rd" and "shape" (axis ratio and angle together). The
        others keep their value. Default ("n", "rd").
    shared : bool
        Whether images that are given this very object have one PSF in common. Default: each has
        its own.

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
        """Full width at half maximum, pixels, before the light is integrated over them."""
        return 2.0 * self.rd * math.sqrt(2.0 ** (1.0 / self.n) - 1.0)


@named
@dataclasses.dataclass(frozen=True)
class Gaussian(_Profile):
    """A Gaussian profile, integrated over every pixel.

    Parameters
    ----------
    sigma : float
        Standard deviation in pixels; of an ellipse the geometric mean of the axes. Default 1.5.
    axis_ratio, angle_deg, shared
        As of `Moffat`.
    free : tuple of str
        Parameters that are fitted: of "sigma" and "shape". Default ("sigma",).

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
        """Full width at half maximum, pixels, before the light is integrated over them."""
        return self.sigma * math.sqrt(8.0 * math.log(2.0))
