"""Matching of lists of stars without a start, against simulated skies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boresight import Centroids, InputError
from boresight.alignment import match_lists

SIZE = 2048


def rotation(angle_deg, scale=1.0):
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return scale * np.array([[c, -s], [s, c]])


def sky_and_image(seed, stars=500, *, angle=None, shift=1000.0, missing=0.2, spurious=0.2):
    """A sky, an image of a part of it, the star of every source (-1 of a spurious one), the map."""
    rng = np.random.default_rng(seed)
    half = SIZE / 2 + shift
    sky = rng.uniform(-half, half, (int(stars * (2 * half / SIZE) ** 2), 2))
    direction = rng.uniform(0, 2 * np.pi)
    center = shift * rng.random() * np.array([np.cos(direction), np.sin(direction)])
    angle = rng.uniform(-180, 180) if angle is None else angle
    matrix = rotation(angle, 1 + rng.uniform(-0.05, 0.05))
    at = (sky - center) @ matrix.T
    seen = np.flatnonzero((abs(at) < SIZE / 2).all(axis=1) & (rng.random(len(sky)) > missing))
    noise = rng.normal(0, 0.05, (len(seen), 2))
    false = rng.uniform(-SIZE / 2, SIZE / 2, (int(stars * spurious), 2))
    image = np.concatenate([at[seen] + noise, false])
    star = np.concatenate([seen, np.full(len(false), -1)])
    order = rng.permutation(len(image))
    return sky, image[order], star[order], matrix


@pytest.mark.parametrize("seed", range(20))
def test_any_rotation_and_shift(seed):
    sky, image, star, matrix = sky_and_image(seed)
    found = match_lists(sky, image)
    assert np.mean(star[found.pairs[:, 1]] == found.pairs[:, 0]) > 0.99
    assert len(found.pairs) > 0.8 * np.count_nonzero(star >= 0)
    np.testing.assert_allclose(found.matrix, matrix, atol=2e-5)
    assert len(set(found.pairs[:, 0])) == len(set(found.pairs[:, 1])) == len(found.pairs)


def test_the_other_way_round_is_the_inverse():
    sky, image, _, _ = sky_and_image(3)
    there, back = match_lists(sky, image), match_lists(image, sky)
    assert abs(there.scale * back.scale - 1) < 1e-6
    np.testing.assert_allclose(back(there(image)), image, atol=0.02)


def test_lists_without_common_stars_do_not_match():
    rng = np.random.default_rng(8)
    for n in (4, 10, 50, 300):
        for _ in range(50):
            assert match_lists(rng.uniform(0, 1e3, (n, 2)), rng.uniform(0, 1e3, (n, 2))) is None


def test_crowds_do_not_match_by_chance():
    # Both lists are crowded in the same places, as by clusters, without a star in common.
    rng = np.random.default_rng(9)
    clumps = rng.uniform(0, 2000, (20, 2))
    lists = [np.repeat(clumps, 30, axis=0) + rng.normal(0, 15, (600, 2)) for _ in range(2)]
    assert match_lists(*lists) is None


def test_half_missing_and_as_many_spurious():
    sky, image, star, _ = sky_and_image(5, missing=0.5, spurious=0.5)
    found = match_lists(sky, image)
    assert np.mean(star[found.pairs[:, 1]] == found.pairs[:, 0]) > 0.98


def test_brightness_matches_lists_of_different_depth():
    rng = np.random.default_rng(2)
    sky = rng.uniform(0, 2000, (6000, 2))
    light = rng.pareto(1.0, 6000)
    bright = np.argsort(-light)[:300]
    image = sky[bright] @ rotation(77.0).T + rng.normal(0, 0.1, (300, 2))
    seen = light[bright] * rng.normal(1, 0.1, 300)
    found = match_lists(image, sky, brightness=(seen, light))
    assert np.mean(bright[found.pairs[:, 0]] == found.pairs[:, 1]) > 0.99
    assert abs(found.rotation_deg + 77) < 0.01


def test_brightness_of_centroids_is_used():
    rng = np.random.default_rng(2)
    sky, light = rng.uniform(-500, 500, (2000, 2)), rng.pareto(1.0, 2000)
    bright = np.argsort(-light)[:80]
    lists = (
        Centroids(*sky[bright].T, brightness=light[bright]),
        Centroids(*sky.T, brightness=light),
    )
    assert len(match_lists(*lists, radius=0.3).pairs) == 80


def test_polynomials_follow_a_distorted_lens():
    # A wide-field camera turned by 6 degrees: a similarity fits near the centre alone.
    rng = np.random.default_rng(4)
    focal, angle = 900.0, np.radians(6.0)
    rays = np.column_stack([rng.uniform(-0.8, 0.8, (800, 2)), np.ones(800)])
    c, s = np.cos(angle), np.sin(angle)
    turned = rays @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]).T
    before, after = (focal * v[:, :2] / v[:, 2:] for v in (rays, turned))
    alone = match_lists(before, after)
    assert alone is None or len(alone.pairs) < 300
    found = match_lists(before, after, max_order=4)
    assert (found.pairs[:, 0] == found.pairs[:, 1]).mean() > 0.99
    assert len(found.pairs) > 750


def test_mirror_images_match_when_they_may():
    sky, image, star, _ = sky_and_image(6)
    mirrored = image * [1, -1]
    assert match_lists(sky, mirrored) is None
    found = match_lists(sky, mirrored, mirrored=True)
    assert found.mirrored
    assert np.mean(star[found.pairs[:, 1]] == found.pairs[:, 0]) > 0.99


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), angle=st.floats(-180, 180))
def test_pairs_do_not_depend_on_rotation_and_order(seed, angle):
    sky, image, _, _ = sky_and_image(seed, 100, angle=0.0, shift=200.0)
    shuffle = np.random.default_rng(seed).permutation(len(image))
    one = match_lists(sky, image)
    other = match_lists(sky, (image @ rotation(angle).T)[shuffle])
    ours = {(i, j) for i, j in one.pairs}
    theirs = {(i, shuffle[j]) for i, j in other.pairs}
    assert len(ours ^ theirs) <= 0.02 * len(ours)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=30),
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), max_size=30),
)
def test_any_lists_have_an_answer(a, b):
    for first, second in ((a, b), (a, a), (b, b)):
        found = match_lists(np.array(first), np.array(second))
        assert found is None or found.log_odds > 20


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"a": [[np.nan, 1.0]]}, "a"),
        ({"b": [1.0, 2.0]}, "b"),
        ({"a": "stars"}, "a"),
        ({"radius": 0}, "radius"),
        ({"scales": (2, 1)}, "scales"),
        ({"scales": 1}, "scales"),
        ({"max_order": 9}, "max_order"),
        ({"max_false_alarm": 2}, "max_false_alarm"),
        ({"brightness": ([1.0], [1.0])}, "brightness"),
    ],
)
def test_bad_input_is_named(change, name):
    arguments = {"a": np.zeros((9, 2)), "b": np.zeros((9, 2))} | change
    with pytest.raises(InputError, match=rf"^{name}:"):
        match_lists(arguments.pop("a"), arguments.pop("b"), **arguments)
