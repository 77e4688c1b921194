"""Errors that name the argument, for values of the wrong type.

Functions check the range of their arguments themselves. A value of the wrong type (a list instead
of a number) fails somewhere inside, with a message of numpy or Python. The decorator `named` turns
such an error into an `InputError` that names the argument, found by the annotations of the
function. It works only after a failure, so that successful calls cost nothing.
"""

from __future__ import annotations

import inspect
import numbers
import operator
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any, Literal, TypeVar, get_args, get_origin

import numpy as np

from boresight.errors import BoresightError, InputError

__all__ = ["named", "type_of"]

F = TypeVar("F", bound=Callable[..., Any] | type)

#: Functions that are already wrapped, so that none is wrapped twice.
_NAMED: set[Callable[..., Any]] = set()

#: Errors to which a value of the wrong type can lead.
FOREIGN = (ValueError, TypeError, AttributeError, OverflowError, LookupError)

#: Beginnings of the names of types that are spoken with a vowel: ndarray, HDUList.
AN = ("a", "e", "i", "o", "ndarray", "hdu")

#: Largest number of characters of a value in a message.
SHOWN = 60


def named(function: F) -> F:
    """Decorate a function or class so that its errors name an argument of the wrong type.

    Of a class, ``__init__`` and all public methods are decorated.
    """
    if inspect.isclass(function):
        for name, member in list(vars(function).items()):
            if name == "__init__" or not name.startswith("_"):
                _wrap_member(function, name, member)
        return function
    return _wrapped(function)  # type: ignore[return-value]


def _wrap_member(owner: type, name: str, member: Any) -> None:
    if isinstance(member, classmethod | staticmethod):
        setattr(owner, name, type(member)(_wrapped(member.__func__)))
    elif inspect.isfunction(member):
        setattr(owner, name, _wrapped(member))


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    if function in _NAMED:
        return function

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BoresightError:
            raise
        except FOREIGN as error:
            message = _fault(function, args, kwargs, error)
            if message is None:
                raise
            raise InputError(message) from error

    _NAMED.add(call)
    return call


def _fault(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception
) -> str | None:
    """Message about the first argument whose type does not fit its annotation, or None."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return None  # Python's own message names the argument.
    for name, value, annotation in _annotated(function, bound):
        kinds = [_resolved(kind, function.__globals__) for kind in _alternatives(annotation)]
        if not any(_fits(kind, value) for kind in kinds):
            return f"{name}: {_short(value)}; give {_described(kinds)}"
    if "broadcast" in str(error):
        shapes = {name: np.shape(v) for name, v in bound.arguments.items() if _is_array(v)}
        sizes = ", ".join(f"{shape}" for shape in shapes.values())
        return f"{', '.join(shapes)}: shapes {sizes} do not match; give arrays of one shape"
    return None


def _resolved(kind: str, names: dict[str, Any]) -> str:
    """Replace the name of a Literal type, such as that of all projections, by its values."""
    found = names.get(kind)
    if get_origin(found) is Literal:
        return f"Literal[{', '.join(map(repr, get_args(found)))}]"
    return kind


def _annotated(
    function: Callable[..., Any], bound: inspect.BoundArguments
) -> Iterator[tuple[str, Any, str]]:
    """Yield the names, values and annotations of the arguments, including typed options."""
    for name, value in bound.arguments.items():
        parameter = bound.signature.parameters[name]
        annotation = str(parameter.annotation)
        if parameter.kind is parameter.VAR_KEYWORD:
            options = re.fullmatch(r"Unpack\[(\w+)\]", annotation)
            kind = function.__globals__.get(options[1]) if options else None
            known = getattr(kind, "__annotations__", {})
            for option, given in value.items():
                if option in known:
                    hint = known[option]
                    yield option, given, getattr(hint, "__forward_arg__", str(hint))
        elif parameter.kind is not parameter.VAR_POSITIONAL and value is not parameter.default:
            yield name, value, annotation


def _alternatives(annotation: str) -> Iterator[str]:
    """Yield the members of a union."""
    depth, start = 0, 0
    for k, character in enumerate(annotation):
        depth += (character == "[") - (character == "]")
        if character == "|" and depth == 0:
            yield annotation[start:k].strip()
            start = k + 1
    yield annotation[start:].strip()


def _is_number(value: Any) -> bool:
    if isinstance(value, str | bytes | bool) or np.iscomplexobj(value):
        return False
    if isinstance(value, numbers.Real):
        return True
    try:
        return np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf"
    except (ValueError, TypeError):
        return False


def _is_whole(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)


def _is_array(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return False
    try:
        return np.asarray(value).dtype.kind in "biuf"
    except (ValueError, TypeError):
        return False


def _is_pair(value: Any) -> bool:
    try:
        return len(value) == 2 and all(_is_whole(item) for item in value)
    except TypeError:
        return False


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _is_iterable(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes)


def _is_sequence(value: Any) -> bool:
    return _is_iterable(value) and hasattr(value, "__len__") and hasattr(value, "__getitem__")


#: For each annotation, the check of a value and the words of the message.
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "None": (lambda value: value is None, "None"),
    "float": (_is_number, "a number"),
    "int": (_is_whole, "a whole number"),
    "bool": (_is_flag, "True or False"),
    "str": (lambda value: isinstance(value, str), "a string"),
    "bytes": (lambda value: isinstance(value, bytes), "bytes"),
    "ArrayLike": (_is_array, "an array of real numbers"),
    "Floats": (_is_array, "an array of real numbers"),
    "PathLike": (lambda value: isinstance(value, str | os.PathLike), "a path"),
    "tuple[int, int]": (_is_pair, "two whole numbers"),
    "os.PathLike[str]": (lambda value: isinstance(value, os.PathLike), "a path"),
    "Projection": (lambda value: isinstance(value, str), "the name of a projection"),
    "SolveOptions": (lambda value: isinstance(value, Mapping), "a mapping"),
    "Progress": (
        lambda value: value is None or _is_flag(value) or callable(value),
        "True, False or a function",
    ),
}
CONTAINERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "Sequence": (_is_sequence, "a sequence"),
    "Iterable": (_is_iterable, "an iterable"),
    "Mapping": (lambda value: isinstance(value, Mapping), "a mapping"),
    "tuple": (_is_sequence, "a sequence"),
    "NDArray": (_is_array, "an array of real numbers"),
    "list": (lambda value: isinstance(value, list), "a list"),
    "dict": (lambda value: isinstance(value, dict), "a dict"),
    "Callable": (callable, "a function"),
}

#: Names of classes in annotations, most of which are imported only for type checkers.
CLASSES = frozenset(
    {
        "AlignmentResult", "ApparentPlace", "CalibrationBlock", "CalibrationResult", "CameraModel",
        "Catalog", "Centroids", "Detector", "ExtractionResult", "Frame", "Image", "ImageCatalog",
        "ImageGroup",
        "MatchedStars", "MosaicResult", "MountedCamera", "PatternDatabase", "Platepar", "QTable",
        "Quantity", "Refraction", "Registration", "SceneResult", "SkyCoord", "Solution",
        "SolverDatabase", "StarColumns", "Table", "Time", "Verdict", "WCS",
    }
)  # fmt: skip

#: Annotations that every value fits.
OPEN = frozenset({"Any", "object"})


def _fits(kind: str, value: Any) -> bool:
    if kind in OPEN or kind.startswith(("inspect.", "<class", "Self", "'")):
        return True
    if kind in KINDS:
        return KINDS[kind][0](value)
    if kind.startswith("Literal["):
        return isinstance(value, str | int) and repr(value) in kind.replace('"', "'")
    if kind.partition("[")[0] in CONTAINERS:
        return CONTAINERS[kind.partition("[")[0]][0](value)
    if re.fullmatch(r"[A-Z]\w+", kind):
        return kind not in CLASSES or kind in {base.__name__ for base in type(value).__mro__}
    return True


def _described(kinds: list[str]) -> str:
    """Words of the message for the accepted types of an argument."""
    words = []
    for kind in kinds:
        if kind in KINDS:
            words.append(KINDS[kind][1])
        elif kind.startswith("Literal["):
            words.append("one of " + kind[len("Literal[") : -1])
        else:
            container = CONTAINERS.get(kind.partition("[")[0])
            words.append(container[1] if container else f"a {kind}")
    return " or ".join(dict.fromkeys(words))


def _short(value: Any) -> str:
    shown = " ".join(repr(value).split())
    if len(shown) > SHOWN:
        shown = f"{shown[: SHOWN - 3]}..."
    return shown if value is None else f"{shown} is {type_of(value)}"


def type_of(value: Any) -> str:
    """Name of the type of a value with its article, such as "an int"; "None" for None."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name.lower().startswith(AN) else 'a'} {name}"
