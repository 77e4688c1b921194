"""Lens distortion: from pixels about the optical centre to ideal (pinhole) points.

Only this mapping has a formula, as in FITS SIP. The inverse is computed by Newton's method, to
1e-10 px.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils.arguments import vector
from boresight._utils.arrays import map_points
from boresight._utils.naming import named
from boresight.errors import FileFormatError, InputError

__all__ = ["PolynomialDistortion", "RadialDistortion", "powers"]

Floats = NDArray[np.float64]


def powers(order: int) -> list[tuple[int, int]]:
    """Powers of x and y by rising degree: 1, x, y, x², xy, y², ..."""
    return [(d - q, q) for d in range(order + 1) for q in range(d + 1)]


@named
class _Distortion(ABC):
    """Common part of all distortion models."""

    __slots__ = ("_core",)
    _core: core.Distortion

    @classmethod
    def _from_core(cls, model: core.Distortion) -> Self:
        self = cls.__new__(cls)
        self._core = model
        return self

    def undistort(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Ideal points of pixels.

        Parameters
        ----------
        x, y : array_like
            Pixels from the optical centre; scalars and arrays broadcast.

        Returns
        -------
        u, v : float or ndarray
            Ideal pixels from the optical centre, of the broadcast shape.
        """
        return map_points(self._core.undistort, x, y)

    def distort(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Pixels of ideal points, the inverse of `undistort` by Newton's method.

        Parameters
        ----------
        x, y : array_like
            Ideal pixels from the optical centre; scalars and arrays broadcast.

        Returns
        -------
        x, y : float or ndarray
            Pixels from the optical centre, of the broadcast shape; NaN where the model folds over,
            so that no pixel sees the point.
        """
        return map_points(self._core.distort, x, y)

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain Python numbers, as in the JSON file."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(as_json(self.to_dict()))


@named
class PolynomialDistortion(_Distortion):
    """Polynomial distortion, from the pixel to the ideal (pinhole) point.

    With ``X = x / scale`` and ``Y = y / scale``::

        u = x + sum A_pq X^p Y^q        v = y + sum B_pq X^p Y^q        0 <= p + q <= order

    which is FITS SIP (Shupe et al. 2005, ADASS XIV, 491) with normalised coordinates and with the
    terms of degree 0 and 1 included.

    Parameters
    ----------
    order : int
        Highest total degree, 0 to 9.
    scale : float
        Length in pixels by which the coordinates are divided, usually half the image width.
    a_coeffs, b_coeffs : array_like of shape ((order + 1) * (order + 2) / 2,)
        Coefficients of u and v in pixels, by rising degree: 1, x, y, x², xy, y², x³, ... `None`:
        zeros.

    Raises
    ------
    InputError
        For an order outside 0 to 9, a scale that is not positive, or the wrong number of
        coefficients.

    Examples
    --------
    >>> from boresight.camera.model import PolynomialDistortion
    >>> lens = PolynomialDistortion(2, 512.0, [0, 0, 0, 3.0, 0, 0], [0, 0, 0, 0, 2.0, 0])
    >>> lens.undistort(256.0, 128.0)
    (256.75, 128.25)
    >>> lens.distort(*lens.undistort(256.0, 128.0))
    (256.0, 128.0)
    """

    __slots__ = ()

    def __init__(
        self,
        order: int,
        scale: float,
        a_coeffs: ArrayLike | None = None,
        b_coeffs: ArrayLike | None = None,
    ) -> None:
        # The core checks the real limit; here the order must only be a small whole number.
        if not isinstance(order, int | np.integer) or not 0 <= order < 100:
            raise InputError(f"order: {order!r} is not an order; give a whole number from 0 to 9")
        zeros = np.zeros((order + 1) * (order + 2) // 2)
        a, b = (
            vector(name, zeros if given is None else given)
            for name, given in (("a_coeffs", a_coeffs), ("b_coeffs", b_coeffs))
        )
        self._core = core.Distortion.polynomial(order, float(scale), a, b)

    @property
    def order(self) -> int:
        """Highest total degree of the polynomial."""
        return self._core.order

    @property
    def scale(self) -> float:
        """Length in pixels by which the coordinates are divided."""
        return self._core.scale

    @property
    def a_coeffs(self) -> Floats:
        """Coefficients of u in pixels, by rising degree: 1, x, y, x², xy, y², ..."""
        return np.array(self._core.a)

    @property
    def b_coeffs(self) -> Floats:
        """Coefficients of v in pixels, in the same order."""
        return np.array(self._core.b)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python numbers, as in the JSON file."""
        return {
            "model": "polynomial",
            "order": self.order,
            "scale": self.scale,
            "a_coeffs": self._core.a,
            "b_coeffs": self._core.b,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return distortion_from_dict, (self.to_dict(),)

    def __repr__(self) -> str:
        largest = max(np.abs(self.a_coeffs).max(), np.abs(self.b_coeffs).max())
        terms = f"order={self.order}, scale={self.scale:g}, largest={largest:.4g} px"
        return f"PolynomialDistortion({terms})"


@named
class RadialDistortion(_Distortion):
    """Radial and decentring distortion about the optical centre, from the pixel to the ideal point.

    Brown (1966, Photogrammetric Engineering 32, 444). With ``X = x / scale``, ``Y = y / scale`` and
    ``R² = X² + Y²``::

        u = x (1 + k1 R² + k2 R⁴ + k3 R⁶ + k4 R⁸) + scale (2 p1 X Y + p2 (R² + 2 X²))
        v = y (1 + k1 R² + k2 R⁴ + k3 R⁶ + k4 R⁸) + scale (p1 (R² + 2 Y²) + 2 p2 X Y)

    OpenCV uses the same terms in the other direction (ideal to pixel) and with ``scale`` the focal
    length.

    Parameters
    ----------
    k1, k2, k3, k4 : float
        Radial coefficients. Default 0. The fourth serves optical axes far off the detector.
    p1, p2 : float
        Decentring (tangential) coefficients. Default 0.
    scale : float
        Length in pixels by which the coordinates are divided, usually half the image width.

    Raises
    ------
    InputError
        For a coefficient that is not finite or a scale that is not positive.

    Examples
    --------
    >>> from boresight.camera.model import RadialDistortion
    >>> lens = RadialDistortion(k1=-0.1, scale=500.0)
    >>> lens.undistort(500.0, 0.0)
    (450.0, 0.0)
    """

    __slots__ = ()

    def __init__(
        self,
        k1: float = 0.0,
        k2: float = 0.0,
        k3: float = 0.0,
        p1: float = 0.0,
        p2: float = 0.0,
        *,
        k4: float = 0.0,
        scale: float,
    ) -> None:
        k, p = (float(k1), float(k2), float(k3), float(k4)), (float(p1), float(p2))
        self._core = core.Distortion.radial(k, p, float(scale))

    @property
    def k1(self) -> float:
        """Coefficient of R²."""
        return self._core.k[0]

    @property
    def k2(self) -> float:
        """Coefficient of R⁴."""
        return self._core.k[1]

    @property
    def k3(self) -> float:
        """Coefficient of R⁶."""
        return self._core.k[2]

    @property
    def k4(self) -> float:
        """Coefficient of R⁸."""
        return self._core.k[3]

    @property
    def p1(self) -> float:
        """First decentring coefficient."""
        return self._core.p[0]

    @property
    def p2(self) -> float:
        """Second decentring coefficient."""
        return self._core.p[1]

    @property
    def scale(self) -> float:
        """Length in pixels by which the coordinates are divided."""
        return self._core.scale

    def to_dict(self) -> dict[str, Any]:
        """Plain Python numbers, as in the JSON file."""
        names = ("k1", "k2", "k3", "k4", "p1", "p2", "scale")
        return {"model": "radial"} | {name: getattr(self, name) for name in names}

    def __reduce__(self) -> tuple[Any, ...]:
        return distortion_from_dict, (self.to_dict(),)

    def __repr__(self) -> str:
        terms = ", ".join(
            f"{n}={getattr(self, n):.6g}" for n in ("k1", "k2", "k3", "k4", "p1", "p2")
        )
        return f"RadialDistortion({terms}, scale={self.scale:g})"


def distortion_from_dict(
    data: Mapping[str, Any] | None,
) -> PolynomialDistortion | RadialDistortion | None:
    """Make the model that `to_dict` wrote; `None` stays `None`."""
    if data is None:
        return None
    parameters = dict(data)
    model = parameters.pop("model", None)
    if model == "polynomial":
        return PolynomialDistortion(**parameters)
    if model == "radial":
        return RadialDistortion(**parameters)
    raise FileFormatError(f"distortion: the model {model!r} is unknown")


def as_json(data: Mapping[str, Any]) -> str:
    """Give the same text for the same content, so that models can be hashed."""
    import json

    return json.dumps(data, sort_keys=True)
