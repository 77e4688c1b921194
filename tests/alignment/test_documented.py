"""Behaviour that tweakwcs documents and tests, restated for `align` and `fit_wcs`."""

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from astropy.wcs import WCS

from boresight import ImageCatalog, ImageGroup, InputError, align
from boresight.alignment import Reason, fit_wcs

SHAPE = (1024, 1024)
GEOMETRIES = ["shift", "rshift", "rscale", "general"]
LEAST = {"shift": 1, "rshift": 2, "rscale": 2, "general": 3}


def plane(cd=((-1e-4, 0.0), (0.0, 1e-4)), crpix=(512.5, 512.5), crval=(82.0, 12.0)):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cd = (
        ["RA---TAN", "DEC--TAN"], crval, crpix, cd,
    )  # fmt: skip
    wcs.pixel_shape = SHAPE[::-1]
    wcs.wcs.set()
    return wcs


def matrix_of(rotations, scales):
    """Columns of two scales, turned by two angles in degrees from x towards y."""
    (x, y), (sx, sy) = np.radians(rotations), scales
    return np.array([[sx * np.cos(x), -sy * np.sin(y)], [sx * np.sin(x), sy * np.cos(y)]])


def moved(matrix, shift):
    """The WCS whose plane is that of `plane()` after a correction."""
    inverse = np.linalg.inv(matrix)
    return plane(plane().wcs.cd @ matrix, 512.5 - inverse @ np.asarray(shift))


def sources(n, seed=1):
    return np.random.default_rng(seed).uniform(0, 1023, (n, 2))


def stars(wcs, xy):
    return Table(wcs.all_pix2world(xy, 0), names=["RA", "DEC"])


CORRECTIONS = {
    "shift": ((0.0, 0.0), (1.0, 1.0)),
    "rshift": ((15.0, 15.0), (1.0, 1.0)),
    "rscale": ((15.0, 15.0), (1.012, 1.012)),
    "general": ((15.0, 17.0), (1.0123, 0.9876)),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sigma", [3.0, (3.0, "mae"), (3.0, "std"), (3.0, "mad")])
@pytest.mark.parametrize("nclip", [None, 0, 3])
@pytest.mark.parametrize("fitgeom", GEOMETRIES)
def test_noise_free_pairs_give_the_correction_exactly(fitgeom, nclip, sigma, weighted):
    matrix, shift = matrix_of(*CORRECTIONS[fitgeom]), np.array([12.0, -34.0])
    wcs, xy = moved(matrix, shift), sources(100)
    table = Table(xy, names=["x", "y"])
    if weighted:
        table["weight"] = np.random.default_rng(2).uniform(0.1, 10, len(xy))
    image = ImageCatalog(plane(), table)
    told = fit_wcs(image, stars(wcs, xy), fitgeom=fitgeom, nclip=nclip, sigma=sigma)
    assert told.verdict == "good"
    np.testing.assert_allclose(told.matrix, matrix, atol=1e-9)
    at_crpix = told.shift + told.center - told.matrix @ told.center
    np.testing.assert_allclose(at_crpix, shift, atol=1e-6)
    corner = image.wcs.all_pix2world([[0, 0], [1023, 1023]], 0)
    np.testing.assert_allclose(corner, wcs.all_pix2world([[0, 0], [1023, 1023]], 0), atol=1e-10)


@pytest.mark.parametrize("fitgeom", GEOMETRIES)
def test_the_least_number_of_pairs_is_enough(fitgeom):
    xy = np.array([[1.0, 1.0], [10.0, 20.0], [20.0, 10.0]])[: LEAST[fitgeom]]
    told = fit_wcs(ImageCatalog(plane(), xy), stars(plane(), xy), fitgeom=fitgeom)
    assert told.status == "success"
    np.testing.assert_allclose(told.matrix, np.eye(2), atol=1e-8)
    np.testing.assert_allclose(told.shift, [0, 0], atol=1e-6)


@pytest.mark.parametrize("fitgeom", GEOMETRIES[1:])
def test_one_pair_fewer_is_not(fitgeom):
    xy = sources(LEAST[fitgeom] - 1)
    image = ImageCatalog(plane(), xy)
    told = fit_wcs(image, stars(plane(), xy), fitgeom=fitgeom)
    assert told.reason is Reason.TOO_FEW_MATCHES
    assert image.wcs is image.original_wcs


@pytest.mark.parametrize("fitgeom", GEOMETRIES)
def test_pairs_on_a_line_tell_no_general_map(fitgeom):
    xy = np.column_stack([np.arange(10.0) * 50, np.arange(10.0) * 30])
    told = fit_wcs(ImageCatalog(plane(), xy), stars(plane(), xy), fitgeom=fitgeom)
    assert told.status == ("failed" if fitgeom == "general" else "success")
    if fitgeom == "general":
        assert told.reason is Reason.SINGULAR


def test_clipping_keeps_as_many_as_the_geometry_needs():
    xy = sources(6)
    noisy = xy + np.random.default_rng(4).normal(0, 5, xy.shape)
    told = fit_wcs(ImageCatalog(plane(), noisy), stars(plane(), xy), nclip=100, sigma=0.1)
    assert told.num_fitted >= 3


def test_clipped_pairs_come_back_when_the_fit_improves():
    """Each round tests all pairs anew, so only the outliers are left out at last."""
    rng = np.random.default_rng(5)
    xy = sources(200)
    measured = xy + rng.normal(0, 0.1, xy.shape)
    measured[:20] += rng.uniform(3, 30, (20, 2))
    told = fit_wcs(
        ImageCatalog(plane(), measured), stars(plane(), xy), fitgeom="shift", nclip=30, sigma=4.0
    )
    fitted = np.asarray(told.matched["fitted"])
    assert not fitted[:20].any()
    assert fitted[20:].sum() >= 178


def test_the_median_is_not_moved_by_outliers():
    rng = np.random.default_rng(6)
    xy = sources(300)
    measured = xy + rng.normal(0, 0.1, xy.shape)
    measured[:60] += 20.0
    kept = {}
    for statistic in ("rmse", "mad"):
        told = fit_wcs(
            ImageCatalog(plane(), measured), stars(plane(), xy), fitgeom="shift", nclip=1,
            sigma=(3.0, statistic),
        )  # fmt: skip
        kept[statistic] = np.asarray(told.matched["fitted"])
    assert kept["rmse"][:60].any()
    assert not kept["mad"][:60].any()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("nclip", {"nclip": -1}),
        ("nclip", {"nclip": 2.5}),
        ("sigma", {"sigma": 0.0}),
        ("sigma", {"sigma": "many"}),
        ("sigma", {"sigma": (3.0,)}),
        ("clip_statistic", {"sigma": (3.0, "unsupported")}),
        ("fitgeom", {"fitgeom": "unsupported"}),
        ("minobj", {"minobj": 2}),
    ],
)
def test_invalid_options_are_named(name, change):
    xy = sources(10)
    with pytest.raises(InputError, match=rf"^{name}:"):
        fit_wcs(ImageCatalog(plane(), xy), stars(plane(), xy), **change)


def test_pairs_without_weight_determine_nothing():
    xy = sources(10)
    table = Table(xy, names=["x", "y"])
    table["weight"] = np.zeros(10)
    told = fit_wcs(ImageCatalog(plane(), table), stars(plane(), xy))
    assert told.status == "failed"
    table["weight"][3] = -1.0
    with pytest.raises(InputError, match=r"^sources:.*row 3"):
        ImageCatalog(plane(), table)


def test_images_without_sources_are_left_out_of_the_reference():
    xy = sources(60)
    empty = ImageCatalog(plane(), np.zeros((0, 2)), image_shape=SHAPE)
    first, second = (ImageCatalog(plane(), xy) for _ in range(2))
    result = align([empty, first, second], searchrad=3)
    assert [image.status for image in result.images] == ["failed", "reference", "success"]
    assert result.images[0].reason is Reason.NO_SOURCES


def test_too_many_matches_asked_for_is_a_failure_of_the_image_alone():
    xy = sources(100)
    images = [ImageCatalog(plane(), xy) for _ in range(2)]
    result = align(images, minobj=200, searchrad=3)
    assert [image.status for image in result.images] == ["reference", "failed"]
    assert result.images[1].reason is Reason.TOO_FEW_MATCHES


@pytest.mark.parametrize("enforce", [True, False])
def test_the_reference_is_the_first_image_where_the_order_counts(enforce):
    images = [ImageCatalog(plane(), sources(200)[: 100 + 50 * k]) for k in range(3)]
    result = align(images, enforce_user_order=enforce, expand_refcat=True, searchrad=3)
    statuses = [image.status for image in result.images]
    assert sorted(statuses) == ["reference", "success", "success"]
    if enforce:
        assert statuses[0] == "reference"


def test_chips_of_a_camera_keep_their_distance():
    """Two chips side by side, moved as one: each is right, also the one with few stars."""
    matrix, shift = matrix_of((0.05, 0.05), (1.0003, 1.0003)), np.array([7.0, -4.0])
    true_left = moved(matrix, shift)
    all_xy = np.random.default_rng(7).uniform([0, 0], [2100, 1023], (150, 2))
    sky = stars(true_left, all_xy)
    right = plane(crpix=(512.5 - 1076.0, 512.5))
    left_xy = all_xy[all_xy[:, 0] < 1024]
    right_xy = all_xy[all_xy[:, 0] > 1076][:5] - [1076.0, 0.0]
    chips = [ImageCatalog(plane(), left_xy), ImageCatalog(right, right_xy)]
    result = align([ImageGroup(chips)], sky, searchrad=20, fitgeom="rscale")
    assert result.images[0].verdict == "good"
    for chip, xy, offset in ((chips[0], left_xy, 0.0), (chips[1], right_xy, 1076.0)):
        found = chip.wcs.all_pix2world(xy, 0)
        wanted = true_left.all_pix2world(np.add(xy, [offset, 0.0]), 0)
        np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_masked_rows_are_not_sources():
    xy = sources(50)
    mask = np.zeros(50, bool)
    mask[[3, 8]] = True
    table = Table({"x": MaskedColumn(xy[:, 0], mask=mask), "y": MaskedColumn(xy[:, 1])})
    image = ImageCatalog(plane(), table)
    assert len(image) == 48
    told = align([image], stars(plane(), xy), searchrad=3).images[0]
    assert told.num_matches == 48
    assert not set(told.matched["source"]) & {3, 8}


def test_a_reference_whose_rows_are_all_invalid_matches_nothing():
    xy = sources(50)
    table = Table({"RA": np.full(50, np.nan), "DEC": np.full(50, np.nan)})
    told = align([ImageCatalog(plane(), xy)], table).images[0]
    assert (told.status, told.reason) == ("failed", Reason.NO_OVERLAP)


@pytest.mark.parametrize("reference", [5, "unsupported", Table({"x": [1.0], "y": [2.0]}), [1, 2]])
def test_what_is_no_reference_is_named(reference):
    with pytest.raises(InputError, match=r"^refcat:"):
        align([ImageCatalog(plane(), sources(10))], reference)


def test_one_image_alone_has_nothing_to_align_to():
    with pytest.raises(InputError, match=r"^imcat:"):
        align([ImageCatalog(plane(), sources(10))])
