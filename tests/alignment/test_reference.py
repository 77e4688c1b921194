"""Reference catalogues that grow with the images."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from boresight.alignment.reference import ReferenceCatalog


def directions(rng, n, center, spread):
    sky = center + spread * rng.normal(size=(n, 3))
    return sky / np.linalg.norm(sky, axis=1, keepdims=True)


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=12),
    st.floats(1e-3, 3.0),
    st.floats(0.0, 3.2),
    st.integers(0, 99),
)
def test_stars_near_a_place_are_those_of_all_parts(sizes, spread, radius, seed):
    rng = np.random.default_rng(seed)
    parts = [directions(rng, n, rng.normal(size=3), spread) for n in sizes]
    stars = ReferenceCatalog(parts[0], weights=np.ones(len(parts[0])))
    for part in parts[1:]:
        stars = stars.expanded(part, np.full(len(part), 2.0), None)
    sky = np.concatenate(parts)
    np.testing.assert_array_equal(stars.sky, sky)
    assert len(np.unique(stars.ids)) == len(sky)
    center = directions(rng, 1, np.zeros(3), 1.0)[0]
    inside = np.flatnonzero(sky @ center >= np.cos(min(radius, np.pi)))
    np.testing.assert_array_equal(stars.near(center, radius), inside)
    weights = np.repeat([1.0, 2.0], [len(parts[0]), len(sky) - len(parts[0])])
    np.testing.assert_array_equal(stars.weights, weights)


def test_a_catalogue_that_has_grown_two_ways_stays_apart():
    rng = np.random.default_rng(1)
    base = ReferenceCatalog(directions(rng, 5, np.array([1.0, 0, 0]), 0.1))
    first = base.expanded(directions(rng, 3, np.array([0, 1.0, 0]), 0.1), None, None)
    before = first.sky.copy()
    second = base.expanded(directions(rng, 4, np.array([0, 0, 1.0]), 0.1), None, None)
    third = first.expanded(directions(rng, 9, np.array([0, 0, 1.0]), 0.1), None, None)
    assert (len(base), len(first), len(second), len(third)) == (5, 8, 9, 17)
    np.testing.assert_array_equal(first.sky, before)
    np.testing.assert_array_equal(third.sky[:8], before)
    assert second.sky[5:, 2].min() > 0.5
    assert third.sky[5:8, 1].min() > 0.5
