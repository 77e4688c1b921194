"""Matching of two star lists with unknown shift and rotation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils.arguments import count, number, pixels
from boresight._utils.naming import named
from boresight.errors import InputError

__all__ = ["ListMatch", "match_lists"]

Floats = NDArray[np.float64]


@named
@dataclass(frozen=True)
class ListMatch:
    """Stars that two lists have in common, and the transformation between the lists.

    Attributes
    ----------
    pairs : ndarray of int, shape (n, 2)
        Indices in the first and in the second list of every common star; each star occurs once.
    matrix : ndarray, shape (2, 2)
        Rotation times scale; it includes a reflection if the determinant is negative.
    shift : ndarray, shape (2,)
        Shift in ``b = a @ matrix.T + shift``, from least squares over all pairs.
    log_odds : float
        Natural logarithm of the odds against a match by chance (a lower limit).
    """

    pairs: NDArray[np.int64]
    matrix: Floats
    shift: Floats
    log_odds: float

    @property
    def scale(self) -> float:
        """Ratio of lengths in the second list to lengths in the first."""
        return float(math.hypot(self.matrix[0, 0], self.matrix[1, 0]))

    @property
    def rotation_deg(self) -> float:
        """Angle by which the x axis turns, towards +y, in degrees from -180 to 180."""
        return math.degrees(math.atan2(self.matrix[1, 0], self.matrix[0, 0]))

    @property
    def mirrored(self) -> bool:
        """True when one list is a mirror image of the other."""
        return bool(np.linalg.det(self.matrix) < 0)

    def __call__(self, points: ArrayLike) -> Floats:
        """Map points of the first list, shape (n, 2), to the coordinates of the second list."""
        return np.asarray(np.asarray(points, np.float64) @ self.matrix.T + self.shift)

    def __repr__(self) -> str:
        """Show the number of pairs and the transformation."""
        return (
            f"ListMatch({len(self.pairs)} pairs, shift {self.shift.round(2).tolist()}, "
            f"rotation {self.rotation_deg:.3f} deg, scale {self.scale:.5f})"
        )


@named
def match_lists(
    a: Any,
    b: Any,
    *,
    brightness: tuple[ArrayLike, ArrayLike] | None = None,
    radius: float = 1.0,
    scales: tuple[float, float] = (0.8, 1.25),
    mirrored: bool = False,
    max_order: int = 0,
    max_false_alarm: float = 1e-9,
) -> ListMatch | None:
    """Match the stars of two lists that differ by an unknown shift and rotation.

    Patterns of a star and three of its neighbours propose similarity transformations by the ratios
    of their distances. A proposal grows from its pattern over both lists and is refitted on the
    way. It is accepted when chance cannot explain the number of pairs. There is no limit on shift
    or rotation; a fifth or more of either list may be missing from the other. The result is the
    same in every run; time and memory grow linearly with the length of the lists.

    Parameters
    ----------
    a, b : Centroids or array_like, shape (n, 2)
        Positions in pixels. Each list may have any coordinate frame.
    brightness : (array_like, array_like), optional
        Brightness of the stars of each list, in any unit; only the order counts. It serves to match
        lists of different depth: the brightest stars of one list are matched with the brightest of
        the other, at depths that decrease by factors of two. Default: the brightness of two
        `Centroids`, else none.
    radius : float
        Largest distance between the two stars of a pair, in pixels of `b`. Choose a few times the
        error of the positions. Default 1.
    scales : (float, float)
        Smallest and largest scale of `b` relative to `a`. Default (0.8, 1.25).
    mirrored : bool
        Also try mirror images. Default False.
    max_order : int
        Order, 0 to 5, of polynomials that pair stars where a similarity does not fit over the whole
        frame, as between frames of a lens with distortion. The returned similarity is the best one
        for all pairs that the polynomials found. Default 0: no polynomials.
    max_false_alarm : float
        Largest probability that lists without a common star match by chance. Default 1e-9.

    Returns
    -------
    ListMatch or None
        `None` if every match may be chance, which includes lists of fewer than six stars.

    Raises
    ------
    InputError
        If a position is not finite, lengths differ or a number is out of range.

    Notes
    -----
    The evidence for a proposal is its likelihood ratio relative to stars at random positions. By
    Markov's inequality this bounds the probability that chance reaches the ratio; the bound is
    multiplied by the number of proposals tried. The stars of the pattern do not count.

    Examples
    --------
    >>> import numpy as np
    >>> from boresight.alignment import match_lists
    >>> rng = np.random.default_rng(1)
    >>> stars = rng.uniform(0, 1000, (100, 2))
    >>> turned = stars[20:] @ [[0.0, 1.0], [-1.0, 0.0]] + [300.0, -50.0]
    >>> found = match_lists(stars, turned)
    >>> found
    ListMatch(80 pairs, shift [300.0, -50.0], rotation 90.000 deg, scale 1.00000)
    >>> found.pairs[0]
    array([20,  0])
    >>> match_lists(stars, rng.uniform(0, 1000, (100, 2))) is None
    True
    """
    if brightness is None and all(hasattr(stars, "brightness") for stars in (a, b)):
        brightness = a.brightness, b.brightness
    first, second = _positions("a", a), _positions("b", b)
    options = {
        "radius": number("radius", radius, "give pixels"),
        "scales": _range(scales),
        "mirrored": bool(mirrored),
        "max_order": count("max_order", max_order),
        "max_false_alarm": number("max_false_alarm", max_false_alarm, "give a probability"),
    }
    light = None if brightness is None else _light(brightness, len(first), len(second))
    found = core.match_lists(first, second, light, options)
    if found is None:
        return None
    return ListMatch(found.pairs, np.array(found.matrix), np.array(found.shift), found.log_odds)


def _positions(name: str, stars: Any) -> Floats:
    """Return positions as the array of rows that the core reads."""
    try:
        array = np.asarray(pixels(name, getattr(stars, "xy", stars)), dtype=np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{name}: no positions; give Centroids or an array of shape (n, 2)"
        ) from None
    if array.size == 0:
        array = array.reshape(0, 2)
    if array.ndim != 2 or array.shape[1] != 2:
        raise InputError(f"{name}: its shape is {array.shape}; give positions of shape (n, 2)")
    return np.ascontiguousarray(array)


def _range(scales: Any) -> tuple[float, float]:
    try:
        low, high = scales
    except (TypeError, ValueError):
        raise InputError(
            f"scales: {scales!r} is not a pair of numbers; give two, such as (0.8, 1.25)"
        ) from None
    return number("scales", low, "give two numbers"), number("scales", high, "give two numbers")


def _light(brightness: Any, first: int, second: int) -> tuple[Floats, Floats]:
    """Return the brightness of both lists as the arrays that the core reads."""
    try:
        a, b = (np.ascontiguousarray(light, dtype=np.float64) for light in brightness)
    except (TypeError, ValueError):
        raise InputError("brightness: give that of either list, two arrays of numbers") from None
    if a.shape != (first,) or b.shape != (second,):
        raise InputError(
            f"brightness: shapes {a.shape} and {b.shape} for lists of {first} and {second} stars; "
            "give one number for each star"
        )
    return a, b
