"""Checks of arguments. Their error messages name the argument, the fault and the repair."""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight._core import SPEED_OF_LIGHT_KM_S
from boresight._utils.naming import type_of
from boresight.errors import InputError

Floats = NDArray[np.float64]

#: Largest accepted whole number: the largest signed one of 64 bits.
MOST = 2**63 - 1


@functools.cache  # called for every frame
def keyword_defaults(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Defaults of a function's arguments, by name."""
    parameters = inspect.signature(function).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    return MappingProxyType(defaults)


def check_options(options: Mapping[str, Any], known: type, argument: str = "") -> None:
    """Raise an error for option names that are not in the `TypedDict` `known`.

    `argument` is the name of the argument that holds `options`, for the message.
    """
    if not isinstance(options, Mapping):
        raise TypeError(f"options are {type_of(options)}, not a mapping")
    names = known.__annotations__
    for base in getattr(known, "__orig_bases__", ()):
        names = getattr(base, "__annotations__", {}) | names
    for name in options:
        if name not in names:
            raise InputError(f"{_unknown(name, argument)}; there are {', '.join(names)}")


def check_keywords(
    options: Mapping[str, Any], function: Callable[..., Any], argument: str = ""
) -> None:
    """Raise an error for names that are not optional arguments of a function.

    `argument` is the name of the argument that holds `options`, for the message.
    """
    known = keyword_defaults(function)
    for option in options:
        if option not in known:
            raise InputError(f"{_unknown(option, argument)}; there are {', '.join(known)}")


def _unknown(option: str, argument: str) -> str:
    return f"{argument}: no such option {option!r}" if argument else f"{option}: no such option"


def number(name: str, value: Any, repair: str) -> float:
    """Check a number and return it as a float; booleans are not accepted."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name}: {value!r} is not a number; {repair}") from None


def probability(name: str, value: Any) -> float:
    """Check a probability, which must be above 0 and below 1."""
    checked = number(name, value, "give a probability")
    if not 0.0 < checked < 1.0:
        raise InputError(f"{name}: {value} is not a probability; give one above 0, below 1")
    return checked


def check_names(argument: str, given: Any, known: Collection[str]) -> None:
    """Raise an error unless the argument is a list of known names."""
    names = list(given) if isinstance(given, list | tuple | set | frozenset) else None
    if names is None or not all(isinstance(name, str) and name in known for name in names):
        raise InputError(
            f"{argument}: {given!r} has unknown names; give a list of some of {list(known)}"
        )


def _in_unit(name: str, value: Any, unit: str, same: tuple[str, ...], repair: str) -> Any:
    """Return the plain numbers of a value, converted to `unit` if the value has another unit."""
    own = getattr(value, "unit", None)
    if own is None:
        return value
    plain = getattr(value, "value", value)
    if str(own) in same:
        return plain
    from astropy.units import Quantity, UnitsError

    try:
        return Quantity(plain, own).to_value(unit)
    except (UnitsError, TypeError, ValueError):
        raise InputError(f"{name}: it is in {own}; {repair}") from None


def angles(name: str, values: Any, repair: str = "give degrees") -> Any:
    """Return angles in degrees; plain numbers are degrees, values with units are converted."""
    return _in_unit(name, values, "deg", ("", "deg"), repair)


def pixels(name: str, values: Any) -> Any:
    """Return positions in pixels as plain numbers; other units raise an error."""
    same = ("", "pix", "pixel", "pixels", "px")
    return _in_unit(name, values, "pix", same, "give pixels")


def numbers(name: str, values: Any, repair: str = "give one number per star") -> Floats:
    """Return the real numbers of an array, a column or a Quantity, with NaN where masked."""
    masked = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    values = getattr(values, "value", values)
    if masked is None and hasattr(values, "unmasked"):  # astropy's Masked
        masked, values = values.mask, values.unmasked
    try:
        if hasattr(values, "isna"):  # pandas, whose missing values are not NaN
            values = values.to_numpy(dtype=np.float64, na_value=np.nan)
        array = np.ma.getdata(np.asanyarray(values))
        if array.dtype.kind not in "biuf":
            raise TypeError
        array = np.array(array, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name}: not an array of real numbers; {repair}") from None
    if masked is not None:
        array[np.broadcast_to(masked, array.shape)] = np.nan
    return array


def degrees(name: str, value: Any, repair: str = "give degrees") -> float:
    """Check an angle, a number of degrees or a Quantity, and return it in degrees."""
    if isinstance(value, float):  # nearly always
        return float(value)
    return number(name, angles(name, value, repair), repair)


def radians(name: str, value: Any) -> float | None:
    """Check an angle, a number of degrees or a Quantity or None, and return it in radians."""
    return None if value is None else math.radians(degrees(name, value))


def count(name: str, value: Any) -> int:
    """Check a whole number of at least 0; 500.0 is accepted, booleans are not."""
    if type(value) is int and 0 <= value <= MOST:  # nearly always
        return value
    try:
        if isinstance(value, bool | np.bool_ | str | bytes) or np.ndim(value):
            raise TypeError
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        whole = -1
    if whole < 0 or whole != value:
        raise InputError(f"{name}: {value!r} is not a whole number from 0 up")
    if whole > MOST:
        raise InputError(f"{name}: {value!r} is too large; give {MOST} at most")
    return whole


def optional_count(name: str, value: Any) -> int | None:
    """Check a whole number of at least 0, or None."""
    return None if value is None else count(name, value)


def whole(name: str, value: Any, least: int, most: int) -> int:
    """Check a whole number from `least` to `most`."""
    checked = count(name, value)
    if not least <= checked <= most:
        raise InputError(f"{name}: {checked} is not from {least} to {most}")
    return checked


def vector(name: str, values: ArrayLike, length: int | None = None) -> list[float]:
    """Check a one-dimensional sequence of numbers and, if `length` is given, its length."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name}: not numbers; give a sequence of numbers") from None
    if array.ndim != 1:
        raise InputError(f"{name}: its shape is {array.shape}; give a one-dimensional sequence")
    if length is not None and len(array) != length:
        raise InputError(f"{name}: it has {len(array)} numbers; give {length}")
    return [float(value) for value in array]


def velocity_km_s(name: str, velocity: ArrayLike | None) -> tuple[float, float, float] | None:
    """Check a velocity along the axes of ICRS in km/s, or None."""
    if velocity is None:
        return None
    components = vector(name, velocity)
    if len(components) != 3:
        raise InputError(
            f"{name}: its shape is ({len(components)},); give the three ICRS components in km/s"
        )
    if not np.linalg.norm(components) < SPEED_OF_LIGHT_KM_S:
        raise InputError(
            f"{name}: it is not finite or not below the speed of light; "
            "give the barycentric velocity in km/s, see earth_barycentric_velocity"
        )
    x, y, z = components
    return x, y, z


def cone(ra_deg: Any, dec_deg: Any, radius_deg: Any) -> tuple[float, float, float]:
    """Check a cone on the sky; return right ascension, declination and radius in radians."""
    ra_deg, dec_deg = degrees("ra_deg", ra_deg), degrees("dec_deg", dec_deg)
    radius_deg = degrees("radius_deg", radius_deg)
    if not np.isfinite(ra_deg):
        raise InputError(f"ra_deg: is {ra_deg}; give a right ascension in degrees")
    if not -90 <= dec_deg <= 90:
        raise InputError(f"dec_deg: is {dec_deg}; give a declination from -90 to 90 degrees")
    if not 0 <= radius_deg <= 180:
        raise InputError(f"radius_deg: is {radius_deg}; give a radius from 0 to 180 degrees")
    return math.radians(ra_deg), math.radians(dec_deg), math.radians(radius_deg)


def per_frame(name: str, given: Any) -> list[Any]:
    """Return the list of what is given for each frame; a single frame raises an error."""
    named = any(hasattr(given, attribute) for attribute in ("centroids", "colnames", "x"))
    flat = getattr(given, "dtype", None) is not None and np.ndim(given) == 2
    if named or flat or isinstance(given, str | bytes | os.PathLike):
        raise InputError(f"{name}: {type_of(given)} is one frame; give a list of frames")
    try:
        return list(given)
    except TypeError:
        raise InputError(f"{name}: {type_of(given)} is no list; give a list of frames") from None


def image_size(image_shape: Any) -> tuple[int, int]:
    """Check the (height, width) of an image and return (width, height)."""
    try:
        height, width = (_whole_pixels(side) for side in image_shape)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"image_shape: {image_shape!r} is not a shape; give (height, width) in whole pixels"
        ) from None
    if not (0 < height < 2**32 and 0 < width < 2**32):
        raise InputError(
            f"image_shape: {image_shape!r} is not an image; give (height, width), both positive"
        )
    return width, height


def _whole_pixels(side: Any) -> int:
    """Convert 512 and 512.0 to int; raise ValueError for 512.5."""
    whole = int(side)
    if whole != side:
        raise ValueError
    return whole


def one_shape(named: list[tuple[str, Any]]) -> tuple[int, int] | None:
    """Check that all (name, shape) pairs have the same shape, and return it; None if empty."""
    for name, shape in named[1:]:
        if tuple(shape) != tuple(named[0][1]):
            raise InputError(
                f"{name}: {tuple(shape)} contradicts {named[0][0]}, {tuple(named[0][1])}; "
                "give frames of one camera, all of the same (height, width)"
            )
    if not named:
        return None
    height, width = named[0][1]
    return height, width
