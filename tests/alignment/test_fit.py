"""Correction of a WCS by sources whose stars are known."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from boresight import ImageCatalog, ImageGroup, InputError, align
from boresight.alignment import Reason, fit_wcs

HEADER = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 10.0,
    "CRVAL2": 41.0,
    "CRPIX1": 500.5,
    "CRPIX2": 500.5,
    "CD1_1": -1e-4,
    "CD1_2": 0.0,
    "CD2_1": 0.0,
    "CD2_2": 1e-4,
}
ASSUMED = WCS(HEADER)


def true_wcs(matrix, shift):
    """The WCS whose plane is that of ASSUMED after a linear correction."""
    inverse = np.linalg.inv(matrix)
    cd = np.array([[-1e-4, 0.0], [0.0, 1e-4]]) @ matrix
    crpix = 500.5 - inverse @ shift
    cards = dict(zip(["CD1_1", "CD1_2", "CD2_1", "CD2_2"], cd.ravel(), strict=True))
    return WCS(HEADER | cards | {"CRPIX1": crpix[0], "CRPIX2": crpix[1]})


def stars(wcs, n=40, seed=1):
    xy = np.random.default_rng(seed).uniform(0, 1000, (n, 2))
    return xy, Table(wcs.all_pix2world(xy, 0), names=["RA", "DEC"])


@given(
    st.floats(-3.1, 3.1),
    st.floats(0.5, 2.0),
    st.floats(-400, 400),
    st.floats(-400, 400),
    st.booleans(),
)
def test_any_similarity_is_found(angle, scale, dx, dy, mirrored):
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = scale * np.array([[cosine, -sine], [sine, cosine]])
    if mirrored:
        matrix = matrix @ np.diag([1.0, -1.0])
    wcs = true_wcs(matrix, np.array([dx, dy]))
    xy, table = stars(wcs)
    image = ImageCatalog(ASSUMED, xy, image_shape=(1000, 1000))
    told = fit_wcs(image, table, fitgeom="rscale")
    assert told.verdict == "good"
    assert told.mirrored == mirrored
    np.testing.assert_allclose(told.matrix, matrix, atol=1e-8)
    assert told.scale == pytest.approx(scale)
    found = image.wcs.all_pix2world(xy, 0)
    np.testing.assert_allclose(found, wcs.all_pix2world(xy, 0), atol=1e-9)


def test_numbers_of_each_axis():
    matrix = np.array([[1.01, -0.02], [0.01, 0.99]])
    wcs = true_wcs(matrix, np.array([3.0, -2.0]))
    xy, table = stars(wcs)
    told = fit_wcs(ImageCatalog(ASSUMED, xy, image_shape=(1000, 1000)), table)
    assert told.axis_scales == pytest.approx((np.hypot(1.01, 0.01), np.hypot(0.02, 0.99)))
    x, y = np.degrees([np.arctan2(0.01, 1.01), np.arctan2(0.02, 0.99)])
    assert told.axis_rotations_deg == pytest.approx((x, y))
    assert told.skew_deg == pytest.approx(y - x)


def test_covariance_of_weights_is_that_of_the_scatter():
    wcs = true_wcs(np.eye(2), np.array([2.0, 1.0]))
    xy, table = stars(wcs)
    sigma = np.random.default_rng(2).uniform(0.02, 0.2, len(xy))
    shifts = []
    for seed in range(200):
        noise = np.random.default_rng(seed).normal(0, sigma[:, None], xy.shape)
        sources = Table({"x": xy[:, 0] + noise[:, 0], "y": xy[:, 1] + noise[:, 1]})
        sources["weight"] = sigma**-2
        image = ImageCatalog(ASSUMED, sources, image_shape=(1000, 1000))
        told = fit_wcs(image, table, fitgeom="shift", nclip=None)
        shifts.append((told.shift - [2.0, 1.0]) / np.sqrt(np.diag(told.covariance)[:2]))
    assert np.std(shifts) == pytest.approx(1.0, abs=0.1)
    assert told.covariance[0, 0] == pytest.approx(1 / np.sum(sigma**-2))


def test_rows_without_position_are_left_out():
    wcs = true_wcs(np.eye(2), np.array([2.0, 1.0]))
    xy, table = stars(wcs)
    xy[3], table["RA"][7] = np.nan, np.nan
    told = fit_wcs(ImageCatalog(ASSUMED, xy, image_shape=(1000, 1000)), table)
    assert told.num_matches == 38
    assert set(told.matched["source"]) == set(told.matched["reference"]) == {*range(40)} - {3, 7}
    np.testing.assert_allclose(told.shift, [2.0, 1.0], atol=1e-6)


def test_ids_of_the_table_are_told():
    wcs = true_wcs(np.eye(2), np.array([2.0, 1.0]))
    xy, table = stars(wcs)
    table["id"] = np.arange(100, 140)
    told = fit_wcs(ImageCatalog(ASSUMED, xy, image_shape=(1000, 1000)), table)
    np.testing.assert_array_equal(told.matched["reference"], told.matched["source"] + 100)


def test_sky_coordinates_are_stars():
    wcs = true_wcs(np.eye(2), np.array([2.0, 1.0]))
    xy, table = stars(wcs)
    sky = SkyCoord(table["RA"], table["DEC"], unit="deg").galactic
    told = fit_wcs(ImageCatalog(ASSUMED, xy, image_shape=(1000, 1000)), sky)
    np.testing.assert_allclose(told.shift, [2.0, 1.0], atol=1e-6)
    image = ImageCatalog(ASSUMED, xy, image_shape=(1000, 1000))
    assert align([image], sky, searchrad=5).images[0].verdict == "good"


def test_images_of_a_group_move_as_one():
    wcs = true_wcs(np.eye(2), np.array([2.0, 1.0]))
    xy, table = stars(wcs)
    halves = [ImageCatalog(ASSUMED, part, image_shape=(1000, 1000)) for part in (xy[:15], xy[15:])]
    # What is left is rounding, which is not to be clipped.
    told = fit_wcs(ImageGroup(halves), table, nclip=0)
    assert told.num_fitted == 40
    for image in halves:
        found = image.wcs.all_pix2world(xy, 0)
        np.testing.assert_allclose(found, wcs.all_pix2world(xy, 0), atol=1e-9)


def test_outliers_are_clipped_by_the_statistic_given():
    wcs = true_wcs(np.eye(2), np.array([2.0, 1.0]))
    xy, table = stars(wcs)
    xy += np.random.default_rng(3).normal(0, 0.05, xy.shape)
    xy[5] += 4.0
    told = fit_wcs(
        ImageCatalog(ASSUMED, xy, image_shape=(1000, 1000)), table, sigma=(3.0, "mae"), nclip=10
    )
    kept = np.asarray(told.matched["fitted"])
    assert not kept[5]
    assert kept.sum() >= 37
    residuals = np.column_stack([told.matched["dx"], told.matched["dy"]])[kept]
    assert told.mae_px == pytest.approx(np.linalg.norm(residuals, axis=1).mean())
    assert told.std_px == pytest.approx(np.sqrt(residuals.var(axis=0, ddof=1).sum()))


def test_pairs_that_determine_nothing_leave_the_wcs():
    xy, table = stars(ASSUMED, 3)
    image = ImageCatalog(ASSUMED, np.full((3, 2), 5.0), image_shape=(1000, 1000))
    told = fit_wcs(image, table)
    assert (told.status, told.reason) == ("failed", Reason.SINGULAR)
    assert image.wcs is image.original_wcs
    told = fit_wcs(ImageCatalog(ASSUMED, xy[:2]), table[:2])
    assert told.reason is Reason.TOO_FEW_MATCHES


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("image", lambda i, t: fit_wcs(t, t)),
        ("refcat", lambda i, t: fit_wcs(i, t[:5])),
        ("refcat", lambda i, t: fit_wcs(i, None)),
        ("sigma", lambda i, t: fit_wcs(i, t, sigma=(3.0, "rmse", 1))),
        ("clip_statistic", lambda i, t: fit_wcs(i, t, sigma=(3.0, "mean"))),
        ("fitgeom", lambda i, t: fit_wcs(i, t, fitgeom="affine")),
    ],
)
def test_wrong_arguments_are_named(name, call):
    xy, table = stars(ASSUMED)
    image = ImageCatalog(ASSUMED, xy, image_shape=(1000, 1000))
    with pytest.raises(InputError, match=rf"^{name}:"):
        call(image, table)


def test_lists_that_are_matched_need_no_matching():
    """`match=None` in `align` is `fit_wcs` for each image."""
    table = stars(ASSUMED, n=50)[1]
    images, alone = [], []
    for k in range(3):
        wcs = true_wcs((1.0 + 0.02 * k) * np.eye(2), np.array([300.0 * k, -100.0]))
        xy = wcs.all_world2pix(np.column_stack([table["RA"], table["DEC"]]), 0)
        xy[k] = np.nan
        images.append(ImageCatalog(ASSUMED, xy, image_shape=(1000, 1000)))
        alone.append(fit_wcs(ImageCatalog(ASSUMED, xy, image_shape=(1000, 1000)), table))
    result = align(images, table, match=None)
    for told, wanted in zip(result.images, alone, strict=True):
        assert told.verdict == "good"
        assert told.num_matches == 49
        np.testing.assert_allclose(told.matrix, wanted.matrix, atol=1e-12)
        np.testing.assert_array_equal(told.matched["source"], told.matched["reference"])


@pytest.mark.parametrize("method", ["sequential", "global"])
def test_images_whose_rows_are_one_object_each_align_to_the_first(method):
    """A source without position in the reference image shifts no row."""
    table = stars(ASSUMED, n=60)[1]
    radec = np.column_stack([table["RA"], table["DEC"]])
    truths = [true_wcs(np.eye(2), np.array([250.0 * k, 40.0 * k])) for k in range(3)]
    images = []
    for k, wcs in enumerate(truths):
        xy = wcs.all_world2pix(radec, 0)
        xy[5 * k + 2] = np.nan
        images.append(ImageCatalog(truths[0], xy, image_shape=(1000, 1000)))
    result = align(images, match=None, method=method, reserve=0.0)
    assert [told.verdict for told in result.images] == ["good"] * 3
    for image, wcs in zip(images, truths, strict=True):
        found = image.wcs.all_pix2world([[0, 0], [999, 999]], 0)
        np.testing.assert_allclose(found, wcs.all_pix2world([[0, 0], [999, 999]], 0), atol=1e-9)


def test_lists_of_different_length_are_not_matched():
    xy, table = stars(ASSUMED)
    images = [ImageCatalog(ASSUMED, xy, image_shape=(1000, 1000)) for _ in range(2)]
    short = ImageCatalog(ASSUMED, xy[:-1], image_shape=(1000, 1000))
    with pytest.raises(InputError, match=r"^imcat: image 2 has 39 rows and refcat has 40"):
        align([*images, short], table, match=None)
    with pytest.raises(InputError, match=r"^imcat: image 1 has 39 rows and image 0 has 40"):
        align([images[0], short], match=None)
    assert all(image.wcs is ASSUMED for image in images)
