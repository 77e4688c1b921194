"""`Centroids`: structure of arrays, sequence, coercion."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from boresight import Centroid, CentroidFlags, Centroids, InputError

FINITE = st.floats(-1e6, 1e6)


@pytest.fixture
def stars() -> Centroids:
    n = 5
    return Centroids(
        x=np.arange(n),
        y=-np.arange(n),
        brightness=100.0 - np.arange(n),
        brightness_error=np.full(n, 2.0),
        cov=np.tile([[4.0, 0.0], [0.0, 1.0]], (n, 1, 1)),
        position_cov=np.tile(np.eye(2), (n, 1, 1)),
        flags=[0, 1, 5, 0, 0],
    )


def test_view_has_the_values_of_its_row(stars: Centroids) -> None:
    star = stars[2]
    assert isinstance(star, Centroid)
    assert (star.x, star.y, star.brightness, star.snr) == (2.0, -2.0, 98.0, 49.0)
    assert star.flags == CentroidFlags.SATURATED | CentroidFlags.BLENDED
    assert star.elongation == pytest.approx(2.0)
    assert star.fwhm == pytest.approx(np.sqrt(8 * np.log(2)) * np.sqrt(2))
    assert star.cov.shape == (2, 2)
    assert np.isnan(star.sharpness)
    assert star.num_pixels == 0
    assert stars[-1].x == 4.0
    assert stars[np.int64(1)].x == 1.0


def test_is_a_sequence(stars: Centroids) -> None:
    assert [s.x for s in stars] == [0, 1, 2, 3, 4]
    assert len(list(reversed(stars))) == 5
    with pytest.raises(IndexError):
        stars[5]


def test_slices_masks_and_index_arrays_give_centroids(stars: Centroids) -> None:
    for index in (slice(1, 3), [1, 2], np.array([False, True, True, False, False])):
        part = stars[index]
        assert isinstance(part, Centroids)
        assert part.x.tolist() == [1, 2]
        assert part.cov.shape == (2, 2, 2)
    assert len(stars[[]]) == 0


def test_is_frozen(stars: Centroids) -> None:
    with pytest.raises(AttributeError):
        stars.x = np.zeros(5)  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        stars.x[0] = 1.0


def test_does_not_share_the_callers_array() -> None:
    x = np.zeros(3)
    stars = Centroids(x, x)
    x[0] = 7.0
    assert stars.x[0] == 0.0


def test_pickles(stars: Centroids) -> None:
    assert pickle.loads(pickle.dumps(stars)) == stars
    star = pickle.loads(pickle.dumps(stars[3]))
    assert (star.x, star.brightness) == (3.0, 97.0)


def test_table_has_units(stars: Centroids) -> None:
    table = stars.table()
    assert table["x"].unit == "pix"
    assert table["cov"].unit == "pix2"
    assert table["snr"][0] == 50
    assert Centroids.from_any(table) == stars


@given(hnp.arrays(np.float64, st.tuples(st.integers(0, 8), st.just(3)), elements=FINITE))
def test_every_form_of_the_same_stars_is_equal(array: np.ndarray) -> None:
    stars = Centroids.from_any(array)
    assert len(stars) == len(array)
    structured = np.rec.fromarrays(array.T, names="x,y,flux")
    forms = [
        stars,
        list(stars),
        array.tolist(),
        Table(array, names=["x", "y", "flux"]),
        structured,
        {"x": array[:, 0], "y": array[:, 1], "brightness": array[:, 2]},
        [SimpleNamespace(x=x, y=y, brightness=b) for x, y, b in array],
        SimpleNamespace(centroids=stars),
    ]
    for form in forms:
        assert Centroids.from_any(form) == stars


def test_positions_alone_have_unknown_brightness() -> None:
    stars = Centroids.from_any(np.ones((4, 2)))
    assert np.isnan(stars.brightness).all()
    assert Centroids.from_any([SimpleNamespace(x=1.0, y=2.0)]).xy.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_bad_numbers_are_refused_with_their_row(bad: float, column: int) -> None:
    array = np.ones((5, 3))
    array[3, column] = bad
    with pytest.raises(InputError, match="row 3"):
        Centroids.from_any(array)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        5,
        "stars",
        np.ones(3),
        np.ones((3, 4)),
        np.ones((2, 3), complex),
        [[1, 2], [3]],
        {"ra": [1.0]},
        object(),
        [SimpleNamespace(x="a", y=1)],
        {"x": [1.0], "y": [1.0, 2.0]},
    ],
)
def test_what_holds_no_positions_is_refused(bad: object) -> None:
    with pytest.raises(InputError):
        Centroids.from_any(bad)
