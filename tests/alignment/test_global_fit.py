"""The fit of all images at once, against the simultaneous fit with the true matches."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligned_skies import Sky
from boresight import ImageCatalog, align
from boresight import _core as core
from boresight.alignment import Reason
from boresight.alignment.result import DegeneracyKind

STEP = 800


def mosaic(sky, columns=4, rows=3, **kind):
    """A mosaic in serpentine order, whose WCS are wrong but for the first."""
    images = []
    for row in range(rows):
        for k in range(columns):
            column = k if row % 2 == 0 else columns - 1 - k
            at = (column * STEP - 1200, row * STEP - 800)
            wrong = {} if not images else {
                "shift": tuple(sky.rng.uniform(-10, 10, 2)), "roll": sky.rng.uniform(-0.02, 0.02),
            }  # fmt: skip
            images.append(sky.image(at, **wrong, **kind))
    return images


def run(images, refcat=None, **options):
    options = {"method": "global", "fitgeom": "rscale", "searchrad": 25} | options
    return align([image.catalog for image in images], refcat, **options)


def errors(images):
    return np.array([image.error_px() for image in images[1:]])


def test_a_mosaic_is_better_than_one_after_the_other():
    at_once, in_turn, reserved = [], [], []
    for seed in range(6):
        one, other = (mosaic(Sky(seed, stars=300, half=2200)) for _ in range(2))
        result = run(one)
        assert result.ok
        assert result.images[0].status == "reference"
        run(other, method="sequential", expand_refcat=True)
        at_once.append(errors(one))
        in_turn.append(errors(other))
        reserved.append(result.fit.reserved_chi2_dof)
    assert np.mean(at_once) < 0.95 * np.mean(in_turn)
    assert 0.8 < np.median(reserved) < 1.2
    fit = result.fit
    assert [d.kind for d in fit.degeneracies] == [DegeneracyKind.NO_REFERENCE]
    assert result.images[0].name in str(fit.degeneracies[0])


def test_known_errors_are_confirmed():
    images = mosaic(Sky(4, stars=400, half=2200), weight=True)
    fit = run(images).fit
    assert 0.9 < fit.reserved_chi2_dof < 1.12
    assert 0.93 < fit.pulls.std() < 1.07
    assert fit.floor_px < 0.02
    # Loops close: the differences that are left are those of the errors.
    closure = fit.closure
    assert len(closure) > len(images)
    off = np.hypot(closure["dx"], closure["dy"]) / closure["error"]
    assert np.median(off) < 2.0


def test_errors_that_need_no_floor_are_known_at_once(monkeypatch):
    calls = []

    def counted(values, report):
        calls.append(values["covariances"])
        return core.solve_joint(values, report)

    module = importlib.import_module("boresight.alignment.joint")
    monkeypatch.setattr(module, "core", SimpleNamespace(solve_joint=counted))
    images = mosaic(Sky(3, stars=300, half=2200), 2, 2, noise=0.03, weight=True)
    for image in images:
        image.catalog._weights /= 4.0
    result = run(images)
    assert result.fit.floor_px == 0.0
    assert len(result.images[1].covariance) == 6
    # Covariances are asked for when the detections are those that stay.
    assert calls.count(True) == 1
    assert len(calls) <= 6


def test_the_floor_of_the_errors_is_found():
    sky = Sky(5, stars=400, half=2200)
    images = mosaic(sky, weight=True)
    for image in images:
        image.catalog._xy += sky.rng.normal(0, 0.1, image.catalog._xy.shape)
    fit = run(images, sigma=5).fit
    assert 0.08 < fit.floor_px < 0.12
    assert fit.chi2_dof == pytest.approx(1.0, abs=0.05)


def test_a_catalogue_fixes_what_images_leave_open():
    sky = Sky(6, stars=300, half=2200)
    images = mosaic(sky, 2, 2)
    result = run(images, sky.table())
    assert result.fit.degeneracies == []
    assert all(image.status == "success" for image in result.images)
    assert max(image.error_px() for image in images) < 0.02
    alone = run(images[:1], sky.table())
    assert [d.kind for d in alone.fit.degeneracies] == [DegeneracyKind.ONE_IMAGE]


def test_images_without_connection_are_named():
    sky = Sky(7, stars=300, half=2200)
    images = [sky.image((-1200, 0)), sky.image((-1000, 0)), sky.image((1500, 0), name="far")]
    given = images[2].catalog.wcs
    result = run(images, searchrad=3)
    kinds = {d.kind: d for d in result.fit.degeneracies}
    assert kinds[DegeneracyKind.DISCONNECTED].images == ("far",)
    assert result.images[2].status == "failed"
    assert images[2].catalog.wcs is given


def test_a_poisoned_image_is_not_good():
    poisons = {
        "random": lambda xy, rng: rng.uniform(0, 1023, xy.shape),
        "noisy": lambda xy, rng: xy + rng.normal(0, 0.8, xy.shape),
        "half": lambda xy, rng: np.where(
            rng.random((len(xy), 1)) < 0.8, rng.uniform(0, 1023, xy.shape), xy
        ),
        "bent": lambda xy, rng: xy + np.column_stack([((xy[:, 1] - 512) / 100) ** 2, 0 * xy[:, 0]]),
    }
    for seed, (name, poison) in enumerate(poisons.items()):
        sky = Sky(seed + 20, stars=300, half=2200)
        images = mosaic(sky, 3, 2)
        bad = images[3]
        bad.catalog = ImageCatalog(bad.catalog.wcs, poison(bad.catalog.pixels, sky.rng))
        for method in ("global", "sequential"):
            result = run(images, method=method, expand_refcat=True)
            assert result.images[3].verdict != "good", name
            others = [i for k, i in enumerate(images) if k not in (0, 3)]
            assert max(i.error_px() for i in others) < 1.0, name


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 100))
def test_the_order_of_the_images_does_not_matter(seed):
    table, found = None, []
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        sky = Sky(seed, stars=200, half=2200)
        images = mosaic(sky, 2, 2)
        table = sky.table()
        run([images[k] for k in order], table)
        found.append([image.catalog.wcs.wcs.crpix for image in images])
    np.testing.assert_allclose(found[0], found[1], atol=2e-3)


def test_the_result_is_the_same_each_time():
    found = []
    for _ in range(2):
        images = mosaic(Sky(9, stars=200, half=2200), 3, 2)
        run(images)
        found.append([image.catalog.wcs.wcs.crpix.tolist() for image in images])
    assert found[0] == found[1]


def test_a_few_pairs_that_agree_by_chance_are_not_good():
    """Sources with errors as large as the tolerance: most of the pairs are clipped."""
    for seed in (0, 16, 17, 19, 25, 33):
        sky = Sky(seed, stars=100, half=2200)
        images = mosaic(sky, 3, 2)
        bad = images[3]
        xy = bad.catalog.pixels + sky.rng.normal(0, 0.8, bad.catalog.pixels.shape)
        bad.catalog = ImageCatalog(bad.catalog.wcs, xy)
        told = run(images).images[3]
        assert told.verdict != "good" or bad.error_px() < 0.3


def test_an_image_that_scatters_more_has_larger_errors():
    errors = []
    for noise in (0.05, 0.2):
        sky = Sky(5, stars=400, half=2200)
        images = [sky.image((200 * k, 0), noise=noise if k == 2 else 0.05) for k in range(5)]
        errors.append(np.sqrt(np.trace(run(images, sky.table()).images[2].covariance[:2, :2])))
    assert 2.5 < errors[1] / errors[0] < 5.5


def test_objects_that_move_are_left_out_as_a_whole():
    sky = Sky(13, stars=300, half=700)
    images = [sky.image(missing=0.0, spurious=0.0, weight=True) for _ in range(24)]
    at = images[0].true.all_world2pix(sky.ra, sky.dec, 0)
    inside = np.flatnonzero(np.all(np.abs(np.array(at) - 512) < 450, axis=0))
    movers = inside[::30]
    for k, image in enumerate(images):
        (x, y), weight = image.catalog.pixels.T.copy(), image.catalog._weights
        mine = np.isin(image.star, movers)
        # Few of the detections are clipped for themselves.
        x[mine] += 3.5 * weight[mine] ** -0.5 * (k - 11.5) / 11.5
        image.catalog = ImageCatalog(image.catalog.wcs, {"x": x, "y": y, "weight": weight})
    result = run(images, sky.table(), reserve=0.0)
    rows = [image.matched for image in result.images]
    star = [image.star[m["source"]] for image, m in zip(images, rows, strict=True)]
    fitted = [np.asarray(m["fitted"]) for m in rows]
    of_mover = np.array([f[np.isin(s, movers)].mean() for s, f in zip(star, fitted, strict=True)])
    others = np.array([f[~np.isin(s, movers)].mean() for s, f in zip(star, fitted, strict=True)])
    assert of_mover.mean() < 0.2
    assert others.mean() > 0.995


def test_reserved_objects_contradict_wrong_weights():
    images = mosaic(Sky(11, stars=900, half=2200), 2, 2, weight=True)
    for image in images:
        image.catalog._weights /= 25.0
    result = run(images)
    assert result.fit.reserved_chi2_dof < 0.1
    assert {image.reason for image in result.images[1:]} == {Reason.RESERVED_CONTRADICT}


def test_a_matcher_may_give_an_object_two_sources():
    sky = Sky(12, stars=200, half=700)
    images = [sky.image((0, 0), spurious=0.0) for _ in range(3)]
    # Every source of the last image is there twice.
    xy = np.repeat(images[2].catalog.pixels, 2, axis=0)
    images[2].catalog = ImageCatalog(images[2].catalog.wcs, xy)

    def nearest(stars, sources):
        far = np.linalg.norm(stars[:, None] - sources, axis=2)
        mine = np.flatnonzero(far.min(axis=0) < 1.0)
        return far.argmin(axis=0)[mine], mine

    run(images, sky.table(), match=nearest)
    # Each is a detection, and none is the rest of another.
    assert images[2].catalog.alignment.num_matches == len(images[2].catalog)
    assert np.abs(images[2].catalog.alignment.matches.residuals).max() < 1.0
    assert max(image.error_px() for image in images) < 0.02
