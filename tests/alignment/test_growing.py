"""The reference as it grows with the images: which objects take part in matching the next."""

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from aligned_skies import SIZE, Sky
from boresight import ImageCatalog, align
from boresight.alignment.growing import MOST_MISSES, GrowingReference
from boresight.alignment.reference import ReferenceCatalog, Tracks

NONE = np.zeros(0, np.int64)


def directions(rng, n, center, spread):
    sky = center + spread * rng.normal(size=(n, 3))
    return sky / np.linalg.norm(sky, axis=1, keepdims=True)


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=12),
    st.floats(1e-3, 3.0),
    st.floats(0.0, 3.2),
    st.booleans(),
    st.integers(0, 99),
)
def test_stars_near_a_place_are_those_of_all_parts(sizes, spread, radius, of_image, seed):
    rng = np.random.default_rng(seed)
    parts = [directions(rng, n, rng.normal(size=3), spread) for n in sizes]
    first = ReferenceCatalog(parts[0], weights=np.ones(len(parts[0])))
    reference = GrowingReference(first, of_image=of_image)
    for part in parts[1:]:
        reference.grow(part, np.full(len(part), 2.0), None)
    sky, stars = np.concatenate(parts), reference.stars
    assert reference.catalogued == (0 if of_image else len(parts[0]))
    np.testing.assert_array_equal(stars.sky, sky)
    assert len(np.unique(stars.ids)) == len(sky)
    center = directions(rng, 1, np.zeros(3), 1.0)[0]
    inside = np.flatnonzero(sky @ center >= np.cos(min(radius, np.pi)))
    np.testing.assert_array_equal(reference.near(center, radius), inside)
    weights = np.repeat([1.0, 2.0], [len(parts[0]), len(sky) - len(parts[0])])
    np.testing.assert_array_equal(stars.weights, weights)


def test_what_was_given_stays_as_it_is():
    rng = np.random.default_rng(1)
    tracks = Tracks(np.ones((5, 2)), np.ones(5))
    base = ReferenceCatalog(directions(rng, 5, np.array([1.0, 0, 0]), 0.1), tracks=tracks)
    one, other = GrowingReference(base), GrowingReference(base)
    one.grow(directions(rng, 3, np.array([0, 1.0, 0]), 0.1), None, None)
    first, before = one.stars, one.stars.sky.copy()
    other.grow(directions(rng, 4, np.array([0, 0, 1.0]), 0.1), None, None)
    one.grow(directions(rng, 9, np.array([0, 0, 1.0]), 0.1), None, None, np.ones(9))
    assert (len(base), len(first), len(other.stars), len(one.stars)) == (5, 8, 9, 17)
    np.testing.assert_array_equal(first.sky, before)
    np.testing.assert_array_equal(one.stars.sky[:8], before)
    assert other.stars.sky[5:, 2].min() > 0.5
    np.testing.assert_array_equal(np.isfinite(one.stars.tracks.motion[:, 0]), np.arange(17) < 5)
    np.testing.assert_array_equal(np.isfinite(one.stars.color), np.arange(17) >= 8)


def test_objects_are_where_all_images_together_have_them():
    rng = np.random.default_rng(3)
    center = np.array([1.0, 0, 0])
    stars = directions(rng, 4, center, 0.1)
    plain = GrowingReference(ReferenceCatalog(stars.copy()), of_image=True)
    known = GrowingReference(ReferenceCatalog(stars.copy(), weights=np.ones(4)), of_image=True)
    errors = GrowingReference(ReferenceCatalog(stars.copy(), sigma=np.full(4, 1e-7)), of_image=True)
    rows, seen = np.array([0, 2]), [stars]
    for weight in (2.0, 5.0):
        seen.append(directions(rng, 4, stars, 1e-6))
        for reference in (plain, known, errors):
            reference.refine(rows, seen[-1][rows], np.full(2, weight), scale=1e-7)
            reference.note(rows, NONE)
    for reference, weights in ((plain, [1, 1, 1]), (known, [1, 2, 5]), (errors, [1, 2, 5])):
        reference.grow(directions(rng, 2, center, 0.1), np.ones(2), None)
        mean = np.average(seen, axis=0, weights=weights)[rows]
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)
        np.testing.assert_allclose(reference.stars.sky[rows], mean, atol=1e-11)
        np.testing.assert_array_equal(reference.stars.sky[[1, 3]], stars[[1, 3]])
    np.testing.assert_allclose(known.stars.weights[:4], [8.0, 1.0, 8.0, 1.0])
    np.testing.assert_allclose(errors.stars.sigma[rows], 1e-7 / np.sqrt(8.0))
    # Stars of a catalogue stay, and objects are found where the cells have them.
    catalogue = GrowingReference(ReferenceCatalog(stars.copy()))
    catalogue.refine(rows, seen[1][rows], np.ones(2))
    np.testing.assert_array_equal(catalogue.stars.sky, stars)
    for _ in range(MOST_MISSES * 3):
        plain.note(NONE, rows)
    assert len(plain.rare(stars[rows], 1e-4)) == 2


def test_errors_of_stars_stay_beside_those_of_objects():
    rng = np.random.default_rng(2)
    sigma = np.array([1e-8, 2e-8, np.inf])
    base = ReferenceCatalog(directions(rng, 3, np.array([1.0, 0, 0]), 0.1), sigma=sigma)
    reference = GrowingReference(base)
    sky = directions(rng, 2, np.array([1.0, 0, 0]), 0.1)
    reference.grow(sky, np.array([4.0, 0.0]), None, scale=1e-6)
    np.testing.assert_allclose(reference.stars.sigma, [*sigma, 5e-7, np.inf])
    # In pixels of twice the angle.
    weights = reference.stars.weights_for(np.arange(5), 2e-6)
    np.testing.assert_allclose(weights, [4e4, 1e4, 0.0, 16.0, 0.0])


@pytest.mark.parametrize("catalogued", [0, 3])
def test_objects_that_images_miss_are_rare_until_they_are_seen(catalogued):
    rng = np.random.default_rng(2)
    center = np.array([1.0, 0, 0])
    reference = GrowingReference(ReferenceCatalog(directions(rng, catalogued, center, 0.01)))
    reference.grow(directions(rng, 4, center, 0.01), None, None)
    faint, spurious = catalogued, catalogued + 1
    others = np.setdiff1d(np.arange(catalogued + 4), [faint, spurious])
    for _ in range(MOST_MISSES):
        assert len(reference.near(center, 0.2)) == catalogued + 4
        reference.note(others, np.array([faint, spurious]))
    np.testing.assert_array_equal(reference.near(center, 0.2), others)
    sky = reference.stars.sky
    assert reference.has_rare()
    np.testing.assert_array_equal(reference.rare(sky[[faint]], 1e-6), [faint])
    assert len(reference.rare(-sky, 1e-6)) == 0
    # Another miss is none: nobody has looked for it.
    reference.note(NONE, np.array([faint]))
    reference.note(np.array([faint]), NONE)
    np.testing.assert_array_equal(reference.near(center, 0.2), np.sort([*others, faint]))
    np.testing.assert_array_equal(reference.rare(sky, 1e-6), [spurious])


def images_of_one_field(number, *, deep=(0, 11), faint=40):
    """Images of a field with spurious sources, of which some alone show faint stars as well."""
    sky = Sky(5, stars=300, half=600)
    at = sky.rng.uniform(100, SIZE - 100, (faint, 2))
    images = []
    for k in range(number):
        wrong = {"shift": tuple(sky.rng.uniform(-5, 5, 2))} if k else {}
        image = sky.image((0.0, 0.0), spurious=0.5, **wrong)
        if k in deep:
            there = image.true.all_world2pix(images[0].true.all_pix2world(at, 0), 0) if k else at
            xy = np.concatenate([image.catalog.pixels, there + sky.rng.normal(0, 0.02, at.shape)])
            image.catalog = ImageCatalog(image.catalog.wcs, xy, image_shape=(SIZE, SIZE))
        images.append(image)
    return images, images[0].true.all_pix2world(at, 0)


@pytest.mark.parametrize("method", ["global", "sequential"])
def test_a_faint_star_that_few_images_show_is_one_object(method):
    images, faint = images_of_one_field(12)
    result = align(
        [image.catalog for image in images], method=method, expand_refcat=True, searchrad=15
    )
    assert result.ok
    assert max(image.error_px() for image in images[1:]) < 0.05
    matched = result.images[11].matched
    off = np.hypot(
        (np.asarray(matched["ra"])[:, None] - faint[:, 0]) * np.cos(np.radians(30.0)),
        np.asarray(matched["dec"])[:, None] - faint[:, 1],
    )
    assert (off.min(axis=0) < 1e-4 * 0.3).sum() >= 38


def test_stars_of_a_catalogue_are_never_rare():
    images, _ = images_of_one_field(6)
    sky = Sky(5, stars=300, half=600)
    stars = sky.table()
    more = Table({"RA": stars["RA"] + 3e-3, "DEC": stars["DEC"]})
    both = Table({k: np.concatenate([stars[k], more[k]]) for k in ("RA", "DEC")})
    result = align([image.catalog for image in images], both, expand_refcat=True, searchrad=15)
    assert result.ok
    assert max(image.error_px() for image in images) < 0.05
