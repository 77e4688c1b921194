"""`align` against simulated dithers whose true WCS is known, and against plain formulas."""

import gc
import weakref

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from aligned_skies import SCALE, SIZE, Sky, make_wcs
from boresight import Centroids, ImageCatalog, ImageGroup, InputError, align
from boresight.alignment import Reason


@pytest.fixture
def sky():
    """A sky of about 600 stars an image."""
    return Sky()


def header_of(wcs):
    return wcs.to_header(relax=True).tostring()


@pytest.mark.parametrize("kind", [{}, {"sip": True}, {"ctype": "TPV"}, {"ctype": "ZEA"}])
@pytest.mark.parametrize("roll", [0.0, 0.1, 1.0, 77.0, 180.0])
def test_images_are_aligned_to_a_catalogue(kind, roll):
    sky = Sky(3)
    image = sky.image((30, -40), shift=(12.0, -7.0), roll=roll, scale=1.0002, **kind)
    given, before = image.catalog.wcs, header_of(image.catalog.wcs)
    result = align([image.catalog], sky.table(), searchrad=30, fitgeom="rscale")
    told = result.images[0]
    assert (told.status, told.verdict, told.reason) == ("success", "good", Reason.ALIGNED)
    assert image.error_px() < 0.02
    # The object that was given is untouched.
    assert image.catalog.original_wcs is given
    assert header_of(given) == before
    assert image.catalog.wcs is not given
    true = told.matched["reference"] == image.star[told.matched["source"]]
    assert true[told.matched["fitted"]].mean() > 0.995


@pytest.mark.parametrize("fitgeom", ["shift", "rshift", "rscale", "general"])
@pytest.mark.parametrize("sip", [False, True])
def test_the_corrected_wcs_is_the_correction_exactly(fitgeom, sip):
    sky = Sky(4)
    image = sky.image(shift=(4.0, 3.0), roll=0.05, sip=sip)
    start = image.catalog.wcs
    told = align([image.catalog], sky.table(), searchrad=10, fitgeom=fitgeom).images[0]
    xy = np.random.default_rng(1).uniform(0, SIZE - 1, (200, 2))
    crpix = start.wcs.crpix - 1
    plane = start.pix2foc(xy, 0) - crpix
    moved = (plane - told.center) @ told.matrix.T + told.shift + told.center
    wanted = start.wcs_pix2world(moved + crpix, 0)
    off = (image.catalog.wcs.all_pix2world(xy, 0) - wanted) / SCALE
    assert np.abs(off).max() < 1e-6


def test_images_and_their_alignment_do_not_keep_each_other(sky):
    image = sky.image(shift=(3.0, -2.0))
    result = align([image.catalog], sky.table(), searchrad=6)
    sources = weakref.ref(image.catalog)
    gc.disable()
    try:
        del image, result
        assert sources() is None
    finally:
        gc.enable()


def test_no_more_is_matched_than_there_is():
    # Rounding takes sources on the edge of the stars out of it.
    image = Sky(5).image(shift=(3.0, -2.0), roll=0.05).catalog
    stars = Table(image.wcs.all_pix2world(image.pixels, 0), names=["RA", "DEC"])
    start = image.wcs.deepcopy()
    start.wcs.crpix = np.add(start.wcs.crpix, [3.0, -2.0])
    start = ImageCatalog(start, image.pixels)
    assert align([start], stars, searchrad=6).images[0].matched_fraction == 1.0


@pytest.mark.parametrize("sip", [False, True])
def test_a_large_turn_is_exact(sip):
    start = make_wcs(sip=sip)
    image = ImageCatalog(start, np.zeros((0, 2)))
    c, s = np.cos(2.0), np.sin(2.0)
    matrix, shift = 1.1 * np.array([[c, -s], [s, c]]), np.array([300.0, -150.0])
    after = image.mapping.corrected(matrix, shift)
    xy = np.random.default_rng(1).uniform(0, SIZE - 1, (200, 2))
    crpix = start.wcs.crpix - 1
    wanted = start.wcs_pix2world((start.pix2foc(xy, 0) - crpix) @ matrix.T + shift + crpix, 0)
    assert np.abs(after.wcs.all_pix2world(xy, 0) - wanted).max() / SCALE < 1e-6
    back = after.wcs.all_world2pix(wanted, 0)
    assert np.abs(back - xy).max() < 1e-4


def test_images_are_aligned_to_each_other(sky):
    images = [sky.image()] + [
        sky.image(
            tuple(sky.rng.uniform(-200, 200, 2)), shift=tuple(sky.rng.uniform(-9, 9, 2)), roll=0.1
        )
        for _ in range(4)
    ]
    result = align([i.catalog for i in images], expand_refcat=True, searchrad=15, fitgeom="rscale")
    assert [i.status for i in result.images] == ["reference"] + 4 * ["success"]
    assert result.order == [1, 2, 3, 4]
    assert result.ok
    assert max(image.error_px() for image in images[1:]) < 0.03
    assert len(result.refcat) > len(images[0].star)
    assert len(set(result.refcat.ids.tolist())) == len(result.refcat)


def test_the_reference_does_not_grow_by_itself(sky):
    images = [sky.image(), sky.image((50, 50))]
    result = align([i.catalog for i in images], searchrad=3)
    assert len(result.refcat) == len(images[0].star)


def chain(sky):
    """Three images side by side: the third shares sky with the second alone."""
    return [sky.image((k * 800, 0), name=name) for k, name in enumerate("abc")]


def test_failed_images_are_tried_again_when_the_reference_has_grown():
    sky = Sky(5, half=2200)
    a, b, c = chain(sky)
    cats = [a.catalog, c.catalog, b.catalog]
    result = align(cats, expand_refcat=True, searchrad=3, fitgeom="rscale")
    assert [i.status for i in result.images] == ["reference", "success", "success"]
    assert result.order == [2, 1]
    # Without growth there is nothing to try again.
    again = align([image.catalog for image in chain(sky)], searchrad=3, fitgeom="rscale")
    assert again.images[2].status == "failed"
    assert again.images[2].reason == Reason.NO_OVERLAP


def test_the_order_is_by_overlap_when_asked():
    sky = Sky(6, half=2200)
    a, b, c = chain(sky)
    d = sky.image((900, 0), name="d")
    result = align(
        [a.catalog, c.catalog, d.catalog, b.catalog], enforce_user_order=False, expand_refcat=True,
        searchrad=3, fitgeom="rscale",
    )  # fmt: skip
    assert [i.status for i in result.images].count("reference") == 1
    assert result.images[3].status == "reference"  # b or d, which share most; b with all others
    assert result.order[0] == 2


def test_groups_are_moved_as_one(sky):
    whole = sky.image(shift=(6.0, -5.0), roll=0.05)
    left, right = sky.image((-300, 0)), sky.image((300, 100))
    for part in (left, right):
        wrong = part.true.deepcopy()
        wrong.wcs.crval = np.add(wrong.wcs.crval, [5e-4, -3e-4])
        part.catalog = ImageCatalog(wrong, part.catalog.pixels)
    group = ImageGroup([left.catalog, right.catalog], name="both")
    result = align([whole.catalog, group], sky.table(), searchrad=20, fitgeom="rscale")
    assert result.images[1].name == "both"
    assert result.images[1].num_matches > result.images[0].num_matches
    assert left.error_px() < 0.02
    assert right.error_px() < 0.02
    assert set(result.images[1].matched["member"]) == {0, 1}


def test_weights_are_inverse_variances():
    sky = Sky(7)
    table = sky.table()
    chi2, plain, weighted = [], [], []
    for _ in range(8):
        image = sky.image(weight=True, noise=0.1)
        bare = ImageCatalog(image.catalog.wcs, image.catalog.pixels)
        told = align([image.catalog], table, fitgeom="rscale", tolerance=0.8, separation=0).images[
            0
        ]
        align([bare], table, fitgeom="rscale", tolerance=0.8, separation=0)
        chi2.append(told.chi2_dof)
        weighted.append(image.error_px())
        plain.append(image.error_px(bare.wcs))
        expected = np.sqrt(np.trace(told.covariance[:2, :2]))
        assert 0.0005 < expected < 0.02
    assert 0.85 < np.mean(chi2) < 1.1
    assert np.mean(weighted) < np.mean(plain)


def test_given_offset_and_histogram():
    sky = Sky(8)

    def run(**kind):
        image = sky.image(shift=(20.0, 0.0))
        return align(
            [image.catalog], sky.table(), fitgeom="shift", match="histogram", **kind
        ).images[0]

    found = run(searchrad=25)
    x, y = -found.shift
    assert run(searchrad=5).reason == Reason.OUTSIDE_SEARCH_RADIUS
    assert run(use2dhist=False, xoffset=-x * u.pix, yoffset=-y).verdict == "good"
    assert run(use2dhist=False).status == "failed"
    # Angles are converted by the scale of the image.
    degrees = SCALE * u.deg
    assert run(searchrad=25 * degrees.to(u.arcsec), tolerance=1 * degrees).verdict == "good"
    assert run(searchrad=5 * degrees).reason == Reason.OUTSIDE_SEARCH_RADIUS
    assert run(use2dhist=False, xoffset=-x * degrees, yoffset=-y * u.pix).verdict == "good"
    # xoffset is ignored when the histogram is used
    assert run(searchrad=25, xoffset=500).verdict == "good"


def test_custom_matcher_gets_both_planes(sky):
    image = sky.image(shift=(3.0, 0.0))
    seen = {}

    def matcher(reference, sources):
        seen["shapes"] = reference.shape, sources.shape
        d = np.linalg.norm(reference[:, None] - sources[None] - found.shift, axis=-1)
        i, j = np.nonzero(d < 0.5)
        return i, j

    found = align(
        [sky.image(shift=(3.0, 0.0)).catalog], sky.table(), searchrad=5, fitgeom="shift"
    ).images[0]
    told = align([image.catalog], sky.table(), match=matcher, fitgeom="shift").images[0]
    assert told.status == "success"
    assert image.error_px() < 0.02
    assert seen["shapes"][1] == image.catalog.pixels.shape


@pytest.mark.parametrize(("fitgeom", "pairs"), [("shift", 1), ("rscale", 2), ("general", 3)])
def test_a_fit_without_a_spare_match_is_not_good(sky, fitgeom, pairs):
    """As many matches as parameters leave no residual: nothing tells that they are right."""
    image = sky.image(shift=(4.0, 3.0))

    def wrong(reference, source):
        return np.arange(pairs), np.arange(pairs)

    told = align([image.catalog], sky.table(), fitgeom=fitgeom, match=wrong).images[0]
    assert told.verdict != "good"
    if told.status == "success":
        assert told.reason is Reason.UNCERTAIN_CORNERS
        assert np.isnan(told.corner_error_px)


def test_crowded_references_have_one_match_each():
    # Four references about each source make xyxymatch of tweakwcs 0.9.3 raise.
    rng = np.random.default_rng(2)
    wcs = make_wcs()
    xy = rng.uniform(50, SIZE - 50, (60, 2))
    around = np.concatenate(
        [xy + 0.7 * np.array(step) for step in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    )
    table = Table(wcs.all_pix2world(around, 0), names=["RA", "DEC"])
    told = align([ImageCatalog(wcs, xy)], table, tolerance=2.0).images[0]
    matched = told.matched
    assert len(set(matched["source"])) == len(matched) == len(set(matched["reference"]))


FORCED = {
    Reason.NO_SOURCES: lambda sky: (np.zeros((0, 2)), {}),
    Reason.NO_OVERLAP: lambda sky: (
        np.array([[5.0, 5.0]]) + np.arange(30)[:, None] * 31.3,
        {"at": 6e5},
    ),
    Reason.TOO_FEW_MATCHES: lambda sky: (None, {"minobj": 5000}),
    Reason.OUTSIDE_SEARCH_RADIUS: lambda sky: (sky.rng.uniform(0, SIZE, (400, 2)), {}),
    Reason.CHANCE: lambda sky: (
        sky.rng.uniform(0, SIZE, (400, 2)),
        {"use2dhist": False, "tolerance": 3},
    ),
    Reason.SINGULAR: lambda sky: ("line", {"separation": 0}),
    Reason.UNEXPECTED_SCALE: lambda sky: ("scaled", {}),
    Reason.FEW_MATCHED: lambda sky: ("few", {}),
    Reason.LARGE_RESIDUALS: lambda sky: ("noisy", {"separation": 0}),
    Reason.WEIGHTS_CONTRADICTED: lambda sky: ("weights", {}),
    Reason.UNCERTAIN_CORNERS: lambda sky: ("corner", {}),
}


@pytest.mark.parametrize("reason", FORCED, ids=lambda reason: reason.name)
def test_every_reason(sky, reason):
    sources, options = FORCED[reason](sky)
    image = sky.image(missing=0.0)
    wcs, xy = image.true, image.catalog.pixels
    table = sky.table()
    at = options.pop("at", None)
    if at is not None:
        wcs = make_wcs((at, 0))
    if isinstance(sources, str):
        rng = np.random.default_rng(3)
        if sources == "line":
            xy = np.add(np.column_stack([np.linspace(10, 1000, 60)] * 2), [0, 3])
            table = Table(wcs.all_pix2world(xy, 0), names=["RA", "DEC"])
        elif sources == "scaled":
            options["match"] = lambda reference, found: (np.arange(50), np.arange(50))
        elif sources == "few":
            xy = np.concatenate([xy[:60], rng.uniform(0, SIZE, (900, 2))])
        elif sources == "noisy":
            xy = xy + rng.normal(size=xy.shape)
            options["tolerance"] = 1.5
        elif sources == "weights":
            xy = {"x": xy[:, 0], "y": xy[:, 1], "weight": np.full(len(xy), 1e6)}
        elif sources == "corner":
            corner = xy[np.argsort(np.hypot(*(xy - 100).T))[:10]]
            xy = corner + rng.normal(0, 0.2, corner.shape)
    elif sources is not None:
        xy = sources
    catalog = ImageCatalog(wcs, xy)
    kind = {"match": "histogram", "searchrad": 3} | options
    told = align([catalog], table, **kind).images[0]
    assert told.reason == reason
    if told.status == "failed":
        assert told.verdict == "failed"
        assert catalog.wcs is wcs
    else:
        assert told.verdict == "poor"


def test_identical_sources_are_one():
    sky = Sky(1)
    catalog = ImageCatalog(make_wcs(), np.full((50, 2), 500.0))
    assert align([catalog], sky.table()).images[0].status == "failed"


def test_centroids_and_tables_bring_their_origin(sky):
    image = sky.image()
    wcs, xy = image.catalog.wcs, image.catalog.pixels
    centred = Centroids(*(xy - SIZE / 2).T)
    fits = Table({"XWIN_IMAGE": xy[:, 0] + 1, "YWIN_IMAGE": xy[:, 1] + 1})
    for sources in (centred, fits, Table({"x": xy[:, 0], "y": xy[:, 1]}), xy.tolist()):
        np.testing.assert_allclose(ImageCatalog(wcs, sources).pixels, xy, atol=1e-9)
    with_gap = xy.copy()
    with_gap[3] = np.nan
    assert len(ImageCatalog(wcs, with_gap)) == len(xy) - 1


def test_tables_have_a_row_an_image_and_a_row_a_match(sky, tmp_path):
    images = [sky.image(name="first"), sky.image(shift=(2, 1))]
    result = align([i.catalog for i in images], searchrad=5)
    table, residuals = result.table, result.residuals
    assert table["name"].tolist() == ["first", "image 1"]
    assert table["verdict"].tolist() == ["good", "good"]
    assert table["rmse"].unit == u.pix
    assert len(residuals) == result.images[1].num_matches
    table.write(tmp_path / "images.ecsv")
    residuals.write(tmp_path / "residuals.ecsv")
    again = Table.read(tmp_path / "residuals.ecsv")
    assert again["dx"].tolist() == residuals["dx"].tolist()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_sources_does_not_matter(seed):
    sky = Sky(seed, stars=150)
    image = sky.image(shift=(3.0, 2.0), roll=0.05)
    xy, wcs = image.catalog.pixels, image.catalog.wcs
    order = np.random.default_rng(seed).permutation(len(xy))
    table = sky.table()
    one, other = ImageCatalog(wcs, xy), ImageCatalog(wcs, xy[order])
    align([one], table, searchrad=6)
    align([other], table[np.random.default_rng(seed + 1).permutation(len(table))], searchrad=6)
    np.testing.assert_allclose(one.wcs.wcs.crpix, other.wcs.wcs.crpix, atol=1e-7)
    np.testing.assert_allclose(one.wcs.wcs.cd, other.wcs.wcs.cd, atol=1e-14)


def test_mirrored_positions_give_the_mirrored_fit():
    sky = Sky(2)
    image = sky.image(shift=(3.0, 2.0), roll=0.05)
    flipped = image.catalog.wcs.deepcopy()
    flipped.wcs.cd = flipped.wcs.cd @ np.diag([-1.0, 1.0])
    xy = image.catalog.pixels * [-1, 1] + [SIZE - 1, 0]
    mirror = ImageCatalog(flipped, xy)
    a = align([image.catalog], sky.table(), searchrad=6).images[0]
    b = align([mirror], sky.table(), searchrad=6).images[0]
    np.testing.assert_allclose(b.shift, a.shift * [-1, 1], atol=1e-6)
    np.testing.assert_allclose(b.matrix, a.matrix * [[1, -1], [-1, 1]], atol=1e-9)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"imcat": []}, "imcat"), ({"imcat": 3}, "imcat"), ({"imcat": ["a"]}, "imcat"),
        ({"imcat": "twice"}, "imcat"), ({"minobj": 1}, "minobj"), ({"searchrad": 0}, "searchrad"),
        ({"searchrad": 1 * u.s}, "searchrad"), ({"separation": -1}, "separation"),
        ({"tolerance": np.nan}, "tolerance"), ({"xoffset": "a"}, "xoffset"),
        ({"fitgeom": "affine"}, "fitgeom"),
        ({"nclip": -1}, "nclip"), ({"sigma": 0}, "sigma"), ({"method": "best"}, "method"),
        ({"match": "triangles"}, "match"), ({"clip_statistic": "median"}, "clip_statistic"),
        ({"refcat": 3}, "refcat"), ({"refcat": Table({"a": [1]})}, "refcat"),
        ({"refcat": "2mass"}, "refcat"),
        ({"refcat": Table({"RA": [1.0], "DEC": [1.0], "weight": [-1.0]})}, "refcat"),
        ({"refcat": Table({"RA": [1.0, 2], "DEC": [1.0, 2], "id": [1, 1]})}, "refcat"),
        ({"reserve": 0.7}, "reserve"), ({"without_motion": "guess"}, "without_motion"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(sky, change, name):
    image = sky.image().catalog
    arguments = {"imcat": [image, sky.image().catalog], "refcat": sky.table()} | change
    if change.get("imcat") == "twice":
        arguments["imcat"] = [image, image]
    with pytest.raises(InputError, match=rf"^{name}:"):
        align(arguments.pop("imcat"), arguments.pop("refcat"), **arguments)


@pytest.mark.parametrize(
    ("wcs", "sources", "name"),
    [
        (None, [[1.0, 2.0]], "wcs"),
        (WCS(naxis=3), [[1.0, 2.0]], "wcs"),
        (make_wcs(), [[1.0, np.inf]], "sources"),
        (make_wcs(), {"x": [1.0], "y": [1.0], "weight": [-1.0]}, "sources"),
        (make_wcs(), [1.0, 2.0, 3.0, 4.0], "centroids"),
    ],
)
def test_bad_images_are_named(wcs, sources, name):
    with pytest.raises(InputError, match=rf"^{name}:"):
        ImageCatalog(wcs, sources if not isinstance(sources, dict) else Table(sources))


def test_bad_groups_are_named(sky):
    image = sky.image().catalog
    with pytest.raises(InputError, match=r"^images: the list is empty"):
        ImageGroup([])
    with pytest.raises(InputError, match=r"^images: one occurs twice"):
        ImageGroup([image, image])
    with pytest.raises(InputError, match=r"^images: only some"):
        ImageGroup([image, sky.image(weight=True).catalog])


@settings(max_examples=20, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-np.pi, np.pi)] * 3),
    method=st.sampled_from(["sequential", "global"]),
)
def test_a_common_rotation_of_the_sky_changes_nothing(angles, method):
    """The same images and stars anywhere on the sky, at any position angle."""
    turn = Rotation.from_euler("zyx", angles).as_matrix()
    told = []
    for rotation in (np.eye(3), turn):
        sky = Sky(3, stars=200, half=900)
        image = sky.image(shift=(4.0, -3.0), roll=0.02)
        true = np.column_stack([sky.ra, sky.dec])
        table = Table(turned(true, rotation), names=["RA", "DEC"])
        wcs = turned_wcs(image.catalog.wcs, rotation)
        catalog = ImageCatalog(wcs, image.catalog.pixels)
        told.append(
            align([catalog], table, searchrad=10, fitgeom="rscale", method=method).images[0]
        )
    assert told[0].verdict == told[1].verdict == "good"
    assert told[0].num_fitted == told[1].num_fitted
    np.testing.assert_allclose(told[0].matrix, told[1].matrix, atol=1e-9)
    np.testing.assert_allclose(told[0].shift, told[1].shift, atol=1e-5)


def turned(radec, rotation):
    """Directions in degrees after a rotation of the sky."""
    ra, dec = np.radians(np.atleast_2d(radec)).T
    x, y, z = rotation @ np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    return np.degrees(
        np.column_stack([np.arctan2(y, x) % (2 * np.pi), np.arcsin(np.clip(z, -1, 1))])
    )


def turned_wcs(wcs, rotation):
    """A tangential WCS that sees the sky after a rotation."""
    new = wcs.deepcopy()
    center = turned(wcs.wcs.crval, rotation)[0]

    def frame(radec):
        """Unit vectors to the east and north."""
        (sr, sd), (cr, cd) = np.sin(np.radians(radec)), np.cos(np.radians(radec))
        return np.array([[-sr, cr, 0.0], [-sd * cr, -sd * sr, cd]])

    new.wcs.crval = center
    new.wcs.cd = frame(center) @ rotation @ frame(wcs.wcs.crval).T @ wcs.wcs.cd
    new.wcs.set()
    return new


@pytest.mark.parametrize("ctype", [("RA---TAN", "DEC--TAN"), ("GLAT-TAN", "GLON-TAN")])
def test_the_plane_of_a_projection_is_that_of_wcslib(ctype):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.lonpole = list(ctype), 30.0
    wcs.wcs.crval = [150.0, 89.9] if ctype[0][0] == "R" else [-30.0, 20.0]
    wcs.wcs.crpix, wcs.wcs.cd = [300.0, 700.0], 1e-3 * np.array([[-1.0, 0.2], [0.1, 1.1]])
    wcs.wcs.set()
    xy = np.random.default_rng(1).uniform(0, 1000, (200, 2))
    mapping = ImageCatalog(wcs, xy, image_shape=(1000, 1000)).mapping
    sky = mapping.to_sky(xy)
    np.testing.assert_allclose(mapping.sky_to_plane(sky), mapping.to_plane(xy), atol=1e-8)
    assert np.isnan(mapping.sky_to_plane(-sky)).all()
