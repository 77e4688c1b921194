"""Sky that images share, against areas known otherwise and the documented order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligned_skies import SCALE, SIZE, make_wcs
from boresight import ImageCatalog, ImageGroup, InputError
from boresight.alignment import max_overlap_image, max_overlap_pair, overlap_matrix
from boresight.alignment.reference import ReferenceCatalog

PIXEL = np.radians(SCALE) ** 2


def image(at=(0.0, 0.0), *, crval=None, size=SIZE, name=None):
    wcs = make_wcs(at, size=size)
    if crval is not None:
        wcs.wcs.crval = crval
    return ImageCatalog(wcs, np.zeros((0, 2)), name=name)


def shifted(step):
    """An image whose pixels are those of another, moved on the same tangent plane."""
    wcs = make_wcs()
    wcs.wcs.crpix = wcs.wcs.crpix - step
    return ImageCatalog(wcs, np.zeros((0, 2)))


@pytest.mark.parametrize("dither", [0.0, 1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 100.0])
def test_dithers_of_any_size(dither):
    rng = np.random.default_rng(1)
    steps = [dither * np.array([np.cos(a), np.sin(a)]) for a in rng.uniform(0, 2 * np.pi, 12)]
    areas = overlap_matrix([shifted(np.zeros(2)), *[shifted(step) for step in steps]])[0, 1:]
    wanted = np.array([np.prod(SIZE - abs(step)) for step in steps]) * PIXEL
    # The field is 0.1 degrees wide: its plane is the sky to a millionth.
    np.testing.assert_allclose(areas, wanted, rtol=3e-6)


@settings(max_examples=30, deadline=None)
@given(
    ra=st.floats(0, 360), dec=st.floats(-90, 90), x=st.floats(-1200, 1200), y=st.floats(-1200, 1200)
)
def test_anywhere_on_the_sky(ra, dec, x, y):
    one, other = make_wcs(), make_wcs()
    for wcs in (one, other):
        wcs.wcs.crval = [ra, dec]
    other.wcs.crpix = other.wcs.crpix - [x, y]
    shared = overlap_matrix([ImageCatalog(wcs, np.zeros((0, 2))) for wcs in (one, other)])
    wanted = max(SIZE - abs(x), 0) * max(SIZE - abs(y), 0) * PIXEL
    assert abs(shared[0, 1] - wanted) < 1e-5 * SIZE**2 * PIXEL
    assert shared[0, 1] == shared[1, 0]
    assert shared[0, 0] == 0.0


def test_nested_far_and_touching():
    outer, inner = image(), image(size=100)
    assert overlap_matrix([outer, inner])[0, 1] == pytest.approx(1e4 * PIXEL, rel=1e-5)
    opposite = image(crval=[330.0, -30.0])
    assert overlap_matrix([outer, opposite])[0, 1] == 0.0
    assert (
        overlap_matrix([shifted(np.zeros(2)), shifted(np.array([SIZE, 0.0]))])[0, 1] < 1e-6 * PIXEL
    )


def test_groups_are_unions():
    # Two members that overlap by half count their common part once.
    group = ImageGroup([shifted(np.zeros(2)), shifted(np.array([SIZE / 2, 0.0]))])
    whole = shifted(np.array([SIZE / 4, 0.0]))
    assert overlap_matrix([group, whole])[0, 1] == pytest.approx(SIZE**2 * PIXEL, rel=1e-5)
    assert group.footprint().area == pytest.approx(1.5 * SIZE**2 * PIXEL, rel=1e-5)


def test_footprints_without_a_shape_are_hulls():
    wcs = make_wcs()
    wcs.pixel_shape = None
    corners = [[0.0, 0.0], [100, 0], [100, 100], [0, 100], [50, 50], [20, 30]]
    area = ImageCatalog(wcs, corners).footprint().area
    assert area == pytest.approx(1e4 * PIXEL, rel=1e-6)
    with pytest.raises(InputError, match=r"^image_shape:"):
        ImageCatalog(wcs, corners[:2]).footprint()
    # One or two stars of a catalogue cover nothing (tweakwcs 0.9.3: a fifth of a steradian).
    assert ReferenceCatalog(np.eye(3)[:2]).footprint().area == 0.0


@pytest.mark.parametrize(
    ("columns", "pair", "rest"),
    [
        # (columns of the images, pair by name, order of the rest)
        ({"a": 0, "b": 100, "c": 400}, "ba", "c"),
        ({"a": 0, "b": 600, "c": 500}, "cb", "a"),
        ({"a": 300, "b": 900, "c": 310, "d": 500}, "ca", "db"),
    ],
)
def test_the_pair_with_the_largest_overlap(columns, pair, rest):
    images = [image((x, 0), name=name) for name, x in columns.items()]
    first, second = max_overlap_pair(images, False)
    assert {first.name, second.name} == set(pair)
    shared = overlap_matrix([image((x, 0)) for x in columns.values()])
    names = list(columns)
    assert shared[names.index(first.name)].sum() >= shared[names.index(second.name)].sum()
    assert "".join(i.name for i in images) == rest


def test_pairs_by_user_order_and_short_lists():
    images = [image((x, 0), name=n) for n, x in (("a", 0), ("b", 900), ("c", 10))]
    first, second = max_overlap_pair(images, True)
    assert (first.name, second.name, [i.name for i in images]) == ("a", "b", ["c"])
    assert max_overlap_pair(images, False) == (images[0], None)
    assert len(images) == 1
    assert max_overlap_pair([], True) == (None, None)


def test_the_image_with_the_largest_overlap():
    reference = image()
    images = [image((x, 0), name=n) for n, x in (("a", 900), ("b", 10), ("c", 300))]
    assert max_overlap_image(reference, images, False).name == "b"
    assert max_overlap_image(reference, images, True).name == "a"
    assert [i.name for i in images] == ["c"]
    assert max_overlap_image(reference, [], False) is None
    with pytest.raises(InputError, match=r"^images:"):
        overlap_matrix([reference, 3])
