"""Images aligned to each other, each once more to all others, and the fit of the true matches."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import boresight.alignment.sweeps as sweeps
from aligned_skies import DEC, RA, SCALE, SIZE, Sky, make_wcs
from boresight import ImageGroup, align
from boresight.alignment.growing import GrowingReference
from boresight.alignment.reference import ReferenceCatalog

COUNT = 10


def dither(seed, **kind):
    """Images of one field, whose WCS are wrong but for the first."""
    sky = Sky(seed, stars=300, half=900)
    at = sky.rng.uniform(-250, 250, (COUNT, 2))
    wrong = sky.rng.uniform(-10, 10, (COUNT, 2)), sky.rng.uniform(-0.5, 0.5, COUNT)
    first = sky.image(at[0], **kind)
    return [first] + [
        sky.image(at[k], shift=wrong[0][k], roll=wrong[1][k], **kind) for k in range(1, COUNT)
    ]


def run(images, **options):
    options = {"expand_refcat": True, "searchrad": 15, "fitgeom": "rscale"} | options
    return align([image.catalog for image in images], **options)


def errors(images):
    return np.array([image.error_px() for image in images[1:]])


def flat(sky):
    """Directions as complex numbers in pixels of the plane of the middle of the sky."""
    return make_wcs().all_world2pix(sky, 0) @ [1, 1j] - SIZE / 2 * (1 + 1j)


def limit(images):
    """Errors of the least squares of all similarities and objects, the true matches known."""
    at, star, image = [], [], []
    for k, one in enumerate(images):
        true = one.star >= 0
        at.append(flat(one.catalog.original_wcs.all_pix2world(one.catalog.pixels[true], 0)))
        star.append(one.star[true])
        image.append(np.full(true.sum(), k))
    at, image = np.concatenate(at), np.concatenate(image)
    _, star = np.unique(np.concatenate(star), return_inverse=True)
    terms = np.zeros((len(at), 2 * len(images)), complex)
    terms[np.arange(len(at)), 2 * image], terms[np.arange(len(at)), 2 * image + 1] = at, 1
    means = np.zeros((star.max() + 1, terms.shape[1]), complex)
    np.add.at(means, star, terms)
    left = terms - (means / np.bincount(star)[:, None])[star]
    # The first image stays: its factor is 1 and its shift 0.
    fit = np.linalg.lstsq(left[:, 2:], -left[:, 0], rcond=None)[0].reshape(-1, 2)
    grid = np.stack(np.meshgrid(*[np.linspace(0, SIZE - 1, 9)] * 2), -1).reshape(-1, 2)
    off = [
        fit[k, 0] * flat(one.catalog.original_wcs.all_pix2world(grid, 0)) + fit[k, 1]
        - flat(one.true.all_pix2world(grid, 0))
        for k, one in enumerate(images[1:])
    ]  # fmt: skip
    return np.sqrt((np.abs(off) ** 2).mean(axis=1))


def test_images_are_where_the_fit_of_the_true_matches_has_them(monkeypatch):
    after, before = [], []
    for seed in range(10):
        images = dither(seed)
        best = np.median(limit(images))
        given = images[0].catalog.wcs
        result = run(images)
        assert result.ok
        assert images[0].catalog.wcs is given
        after.append(np.median(errors(images)) / best)
        with monkeypatch.context() as patch:
            patch.setattr(sweeps, "MOST_SWEEPS", 0)
            images = dither(seed)
            run(images)
            before.append(np.median(errors(images)) / best)
    assert np.median(after) < 1.1
    assert np.median(after) < 0.9 * np.median(before)
    assert np.max(after) < np.max(before)


@pytest.mark.parametrize("weight", [False, True])
def test_the_result_is_that_of_the_last_fit(weight):
    images = dither(3, weight=weight)
    result = run(images)
    for image, told in zip(images[1:], result.images[1:], strict=True):
        assert image.catalog.alignment is told
        assert told.verdict == "good"
        assert told.log_odds > 10
        assert 0.5 < told.matched_fraction <= 1.0
        # Residuals are stars less sources, both where the result has them.
        matched = told.matched
        assert told.num_matches == len(matched)
        assert told.num_fitted == matched["fitted"].sum()
        at = image.catalog.wcs.all_world2pix(matched["ra"], matched["dec"], 0)
        off = np.column_stack(at) - image.catalog.pixels[matched["source"]]
        own = np.column_stack([matched["dx"], matched["dy"]])
        # Others have moved since its last fit by less than this, and it is part of the mean now.
        lengths = [np.hypot(*of[matched["fitted"]].T) for of in (off, own)]
        assert (lengths[0] <= lengths[1] + 0.01).all()
        if weight:
            assert 0.8 < told.chi2_dof < 1.25
        else:
            assert told.rmse_px == pytest.approx(np.sqrt((lengths[1] ** 2).mean()), rel=1e-5)
    # Objects of images that came later are matched as well.
    assert result.images[1].num_matches > 0.75 * (images[1].star >= 0).sum()


def test_images_that_failed_or_have_a_catalogue_are_untouched(monkeypatch):
    images = dither(5)
    sky = Sky(99, stars=300, half=900)
    images[4] = sky.image()
    given = images[4].catalog.wcs
    result = run(images)
    assert result.images[4].status == "failed"
    assert images[4].catalog.wcs is given
    assert errors(images)[[0, 1, 2, 4, 5, 6, 7, 8]].max() < 0.03

    def fail(*_):
        raise AssertionError("swept")

    monkeypatch.setattr(sweeps.Joined, "fit_again", fail)
    images = dither(5)
    table = Sky(5, stars=300, half=900).table()
    assert align([i.catalog for i in images], table, searchrad=15, fitgeom="rscale").ok
    run(dither(5), expand_refcat=False)
    run(dither(5), method="global")


def test_stars_of_a_catalogue_stay_while_what_has_grown_is_fitted():
    sky = Sky(7, stars=300, half=2000)
    images = [
        sky.image((300 * k, 0), shift=tuple(sky.rng.uniform(-9, 9, 2)), roll=0.05)
        for k in range(5)
    ]  # fmt: skip
    table = sky.table()
    table = table[(table["RA"] - RA) * np.cos(np.radians(DEC)) < 400 * SCALE]
    given = ReferenceCatalog.from_any(table).sky
    result = align(
        [i.catalog for i in images], table, expand_refcat=True, searchrad=15, fitgeom="rscale"
    )
    assert result.ok
    assert len(result.refcat) > len(table)
    np.testing.assert_array_equal(result.refcat.sky[: len(table)], given)
    assert max(image.error_px() for image in images) < 0.03


@pytest.mark.parametrize("kind", [{}, {"sip": True}, {"ctype": "TPV"}, {"ctype": "ZEA"}])
def test_groups_of_all_projections_are_where_images_are(kind):
    images, others = dither(8, **kind), dither(8, **kind)
    groups = [ImageGroup([image.catalog]) for image in others]
    run(images)
    assert align(groups, expand_refcat=True, searchrad=15, fitgeom="rscale").ok
    np.testing.assert_allclose(errors(others), errors(images), rtol=1e-9)
    assert np.median(errors(images)) < 1.2 * np.median(limit(images))


def test_an_image_is_taken_out_of_the_mean_it_is_in():
    rng = np.random.default_rng(1)

    def near(sky):
        sky = sky + 1e-6 * rng.normal(size=sky.shape)
        return sky / np.linalg.norm(sky, axis=1, keepdims=True)

    sky = near(np.tile([1.0, 0, 0], (4, 1)))
    for errors in ({}, {"weights": np.full(4, 2.0)}, {"sigma": np.full(4, 5e-8)}):
        first = ReferenceCatalog(sky.copy(), **errors)
        reference = GrowingReference(first, of_image=True)
        rows, second, weights = np.array([0, 2]), near(sky[[0, 2]]), np.array([3.0, 5.0])
        reference.refine(rows, second, weights, scale=1e-7)
        assert np.abs(reference.stars.sky[rows] - sky[rows]).max() > 1e-8
        reference.refine(rows, second, weights, scale=1e-7, out=True)
        np.testing.assert_allclose(reference.stars.sky, sky, atol=1e-13)
        for name, value in errors.items():
            np.testing.assert_allclose(getattr(reference.stars, name), np.full(4, value[0]))
        # The image that alone has an object takes it along.
        reference.refine(np.arange(4), sky, np.full(4, 2.0), out=True)
        assert not reference.is_placed(np.arange(4)).any()
        np.testing.assert_allclose(reference.stars.sky, sky, atol=1e-13)
        moved = near(sky)
        reference.refine(np.arange(4), moved, np.full(4, 2.0))
        np.testing.assert_allclose(reference.stars.sky, moved, atol=1e-13)


def digest():
    """Digest of the corrected WCS and of the places of the objects."""
    images = dither(2)
    result = run(images)
    text = "".join(image.catalog.wcs.to_header_string(relax=True) for image in images)
    return hashlib.sha256(text.encode() + result.refcat.sky.tobytes()).hexdigest()


def test_threads_change_nothing():
    script = "import test_sweeps; print(test_sweeps.digest())"
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, (here, here.parent, *sys.path)))
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONPATH": path, "RAYON_NUM_THREADS": threads},
            capture_output=True, text=True, check=True,
        ).stdout.strip()
        for threads in ("1", "3")
    }  # fmt: skip
    assert found == {digest()}
