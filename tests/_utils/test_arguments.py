"""Checks of arguments name the argument and the repair."""

from typing import TypedDict

import numpy as np
import pytest

from boresight import InputError
from boresight._utils import arguments


class Few(TypedDict, total=False):
    radius: float


class More(Few, total=False):
    order: int


def test_options_of_all_bases_are_known():
    arguments.check_options({"radius": 1.0, "order": 2}, More)
    with pytest.raises(InputError, match="order: no such option; there are radius"):
        arguments.check_options({"order": 2}, Few)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: arguments.number("x", "many", "give one"), "x: 'many' is not a number; give one"),
        (lambda: arguments.radians("x", []), r"x: \[\] is not a number; give degrees"),
        (lambda: arguments.count("n", -1), "n: -1 is not a whole number from 0 up"),
        (lambda: arguments.count("n", 1.5), "n: 1.5 is not a whole number"),
        (lambda: arguments.count("n", True), "n: True is not a whole number"),
        (lambda: arguments.count("n", "5"), "n: '5' is not a whole number"),
        (lambda: arguments.count("n", np.nan), "n: nan is not a whole number"),
        (lambda: arguments.count("n", np.inf), "n: inf is not a whole number"),
        (lambda: arguments.count("n", np.array([5])), r"n: array\(\[5\]\) is not a whole number"),
        (lambda: arguments.count("n", 10**30), "n: 10{30} is too large"),
        (lambda: arguments.vector("v", [[1.0]]), r"v: its shape is \(1, 1\)"),
        (lambda: arguments.vector("v", ["a"]), "v: not numbers"),
        (lambda: arguments.cone(np.nan, 0.0, 1.0), "ra_deg: is nan"),
        (lambda: arguments.cone(0.0, 91.0, 1.0), "dec_deg: is 91.0"),
        (lambda: arguments.cone(0.0, 0.0, -1.0), "radius_deg: is -1.0"),
        (lambda: arguments.image_size((0, 5)), r"image_shape: \(0, 5\) is not an image"),
        (lambda: arguments.image_size("ab"), "image_shape: 'ab' is not a shape"),
        (
            lambda: arguments.image_size((3.5, 2)),
            r"image_shape: \(3.5, 2\) is not a shape; .* whole",
        ),
        (lambda: arguments.image_size((3, np.nan)), "image_shape: .* is not a shape"),
        (
            lambda: arguments.one_shape([("a", (1, 2)), ("b", (2, 1))]),
            r"b: \(2, 1\) contradicts a, \(1, 2\)",
        ),
    ],
)
def test_what_is_wrong_is_named(check, message):
    with pytest.raises(InputError, match=message):
        check()


def test_what_is_right_is_converted():
    assert arguments.radians("x", None) is None
    assert arguments.radians("x", 180) == pytest.approx(np.pi)
    for three in (3, 3.0, np.int8(3), np.float32(3.0), np.array(3)):
        number = arguments.count("n", three)
        assert number == 3
        assert type(number) is int
    assert arguments.image_size((480, 640)) == (640, 480)
    assert arguments.image_size(np.array([480.0, 640.0])) == (640, 480)
    assert arguments.one_shape([]) is None
    assert arguments.velocity_km_s("v", [1, 2, 3]) == (1.0, 2.0, 3.0)
