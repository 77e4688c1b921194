"""The distortion that all images of a detector share."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import ICRS
from astropy.modeling import models
from astropy.wcs import WCS

from aligned_skies import SCALE, SIZE, Sky, make_wcs
from boresight import ImageCatalog, ImageGroup, InputError, align
from boresight.alignment.result import DegeneracyKind

OPTIONS = {"method": "global", "searchrad": 25, "tolerance": 4}


def straight(image):
    """The same image with a WCS that knows of no distortion."""
    wcs = image.catalog.wcs.deepcopy()
    wcs.sip = None
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    image.catalog = ImageCatalog(wcs, image.catalog.pixels, image_shape=(SIZE, SIZE))
    return image


def dithers(sky, columns=3, rows=2, step=500, first=False):
    """Images of a distorted camera, whose WCS are straight and wrong but perhaps for the first."""
    images = []
    for k in range(columns * rows):
        at = (k % columns * step - 500, k // columns * step - 250)
        wrong = {"shift": tuple(sky.rng.uniform(-5, 5, 2)), "roll": sky.rng.uniform(-0.02, 0.02)}
        images.append(straight(sky.image(at, sip=True, **({} if first and k == 0 else wrong))))
    return images


def run(images, refcat=None, **options):
    return align([image.catalog for image in images], refcat, **(OPTIONS | options))


@pytest.mark.parametrize("fitgeom", ["rshift", "rscale", "general"])
def test_a_catalogue_tells_the_whole_distortion(fitgeom):
    sky = Sky(3, stars=500, half=1500)
    without = dithers(sky)
    run(without, sky.table(), fitgeom=fitgeom)
    images = dithers(sky)
    result = run(images, sky.table(), fitgeom=fitgeom, distortion_order=3)
    assert result.ok
    # The distortion moves stars by up to 5 px; all images together tell it to a hundredth.
    assert np.median([image.error_px() for image in without]) > 0.5
    assert max(image.error_px() for image in images) < 0.03
    assert 0.8 < result.fit.reserved_chi2_dof < 1.25
    assert [d.kind for d in result.fit.degeneracies] == [DegeneracyKind.ONE_DETECTOR]


def test_the_distortion_told_is_that_of_the_camera():
    sky = Sky(4, stars=500, half=1500)
    images = dithers(sky)
    (lens,) = run(images, sky.table(), fitgeom="general", distortion_order=3).fit.distortion
    xy = np.random.default_rng(1).uniform(0, SIZE, (200, 2))
    true = make_wcs(sip=True)
    wanted = true.pix2foc(xy, 0) - xy
    x, y = (xy - SIZE / 2).T
    found = np.column_stack(lens.undistort(x, y)) - np.column_stack([x, y])
    # Linear maps are those of the images.
    design = np.column_stack([np.ones(len(xy)), xy])

    def bent(steps):
        return steps - design @ np.linalg.lstsq(design, steps, rcond=None)[0]

    np.testing.assert_allclose(bent(found), bent(wanted), atol=0.03)


@pytest.mark.parametrize(("fitgeom", "order"), [("rscale", 3), ("general", 3)])
def test_dithers_alone_tell_what_differs_between_them(fitgeom, order):
    sky = Sky(5, stars=500, half=1500)
    without = run(dithers(sky, first=True), fitgeom=fitgeom)
    result = run(dithers(sky, first=True), fitgeom=fitgeom, distortion_order=order)
    assert without.fit.rmse_px > 0.1
    assert result.fit.rmse_px < 0.07
    kinds = [d.kind for d in result.fit.degeneracies]
    assert kinds == [DegeneracyKind.NO_REFERENCE, DegeneracyKind.ONE_DETECTOR]


def test_images_of_one_pointing_tell_no_distortion():
    sky = Sky(6, stars=300, half=1500)
    images = [straight(sky.image(sip=True)) for _ in range(3)]
    fit = run(images, distortion_order=3).fit
    assert DegeneracyKind.UNDITHERED in [d.kind for d in fit.degeneracies]
    assert fit.distortion == []


def test_each_detector_of_a_group_has_its_own():
    """Of the second detector, the place in the group is part of what is shared."""
    sky = Sky(7, stars=500, half=2500)
    groups, images = [], []
    for k in range(4):
        at = (k % 2 * 400 - 800, k // 2 * 400 - 200)
        error = sky.rng.uniform(-3, 3, 2)
        # The second detector is thought to be 2 and -1 px from where it is, in all exposures.
        one = straight(sky.image(at, sip=True, shift=tuple(error)))
        two = straight(sky.image((at[0] + 1100, at[1]), shift=(error[0] + 2.0, error[1] - 1.0)))
        images += [one, two]
        groups.append(ImageGroup([one.catalog, two.catalog]))
    result = align(groups, sky.table(), fitgeom="rscale", distortion_order=3, **OPTIONS)
    assert max(image.error_px() for image in images) < 0.03
    assert len(result.fit.distortion) == 2
    assert result.fit.degeneracies == []


def test_polynomials_are_added_to_those_of_sip():
    sky = Sky(8, stars=500, half=1500)
    images = []
    for at in ((-300, 0), (300, 0), (0, 300)):
        image = sky.image(at, sip=True)
        wcs = image.catalog.wcs.deepcopy()
        wcs.sip = type(wcs.sip)(wcs.sip.a * 0.5, wcs.sip.b * 1.5, None, None, wcs.wcs.crpix)
        image.catalog = ImageCatalog(wcs, image.catalog.pixels, image_shape=(SIZE, SIZE))
        images.append(image)
    run(images, sky.table(), fitgeom="rscale", distortion_order=4)
    assert max(image.error_px() for image in images) < 0.03


def test_a_shared_distortion_round_trips_through_a_header():
    sky = Sky(9, stars=500, half=1500)
    images = dithers(sky, 2, 2)
    run(images, sky.table(), distortion_order=3)
    wcs = images[0].catalog.wcs
    header = wcs.to_header(relax=True)
    assert header["CTYPE1"] == "RA---TAN-SIP"
    xy = np.random.default_rng(1).uniform(0, SIZE, (50, 2))
    again = WCS(header)
    sky_of = again.all_pix2world(xy, 0)
    np.testing.assert_allclose(sky_of, wcs.all_pix2world(xy, 0), atol=1e-9)
    np.testing.assert_allclose(wcs.all_world2pix(sky_of, 0), xy, atol=1e-5)


def bend(xy):
    """By how much a lens moves 0-based pixels."""
    x, y = ((xy - SIZE / 2) / (SIZE / 2)).T
    return np.column_stack([2.0 * x**2 - x * y + 0.5 * x**3, 1.5 * y**2 + x * y**2])


def gwcs_of(wcs):
    """A gwcs that sees what a TAN WCS does."""
    gwcs = pytest.importorskip("gwcs")
    pixel = gwcs.coordinate_frames.Frame2D(name="detector", unit=(u.pix, u.pix))
    sky = gwcs.coordinate_frames.CelestialFrame(reference_frame=ICRS(), name="sky")
    x, y = 1.0 - wcs.wcs.crpix
    model = models.Shift(x) & models.Shift(y) | models.AffineTransformation2D(wcs.wcs.cd)
    model = model | models.Pix2Sky_TAN()
    model = model | models.RotateNative2Celestial(*(float(c) for c in wcs.wcs.crval), 180.0)
    return gwcs.WCS([(pixel, model), (sky, None)])


@pytest.mark.parametrize("kind", ["TPV", "gwcs"])
def test_any_wcs_takes_up_a_shared_distortion(kind):
    sky = Sky(12, stars=400, half=1500)
    ctype = "TPV" if kind == "TPV" else "TAN"
    catalogs, truths = [], []
    for at in ((-300, 0), (300, 50), (0, 300), (0, -300)):
        image = sky.image(at, shift=tuple(sky.rng.uniform(-5, 5, 2)), roll=0.02, ctype=ctype)
        there = image.catalog.pixels
        xy = there.copy()
        for _ in range(10):
            xy = there - bend(xy)
        wcs = image.catalog.wcs if kind == "TPV" else gwcs_of(image.catalog.wcs)
        catalogs.append(ImageCatalog(wcs, xy, image_shape=(SIZE, SIZE)))
        truths.append(image.true)
    result = align(catalogs, sky.table(), fitgeom="rscale", distortion_order=3, **OPTIONS)
    assert result.ok
    grid = np.stack(np.meshgrid(*[np.linspace(0, SIZE - 1, 9)] * 2), -1).reshape(-1, 2)
    for catalog, true in zip(catalogs, truths, strict=True):
        found = catalog.mapping.to_sky(grid)
        wanted = ImageCatalog(true, grid).mapping.to_sky(grid + bend(grid))
        off = np.linalg.norm(found - wanted, axis=1) / np.radians(SCALE)
        assert np.sqrt((off**2).mean()) < 0.03
        if kind == "gwcs":
            world = catalog.wcs(*grid.T, with_bounding_box=False)
            back = np.column_stack(catalog.wcs.invert(*world, with_bounding_box=False))
            np.testing.assert_allclose(back, grid, atol=1e-4)
    if kind == "TPV":
        assert {c.wcs.wcs.ctype[0] for c in catalogs} == {"RA---TAN-SIP"}
    (lens,) = result.fit.distortion
    assert lens.order == 3


def test_what_cannot_hold_it_is_named():
    sky = Sky(10, stars=200)
    image = sky.image()
    table = sky.table()
    with pytest.raises(InputError, match=r"^distortion_order:.*global"):
        align([image.catalog], table, distortion_order=3)
    for order, refcat, fitgeom in (
        (1, table, "rscale"),
        (10, table, "rscale"),
        (2, None, "general"),
    ):
        with pytest.raises(InputError, match=r"^distortion_order:.*out of range"):
            run([image, sky.image()], refcat, fitgeom=fitgeom, distortion_order=order)
    for ctype, message in (("ZEA", "WCS of ZEA"), ("TPV", "terms in the radius")):
        image = sky.image(ctype=ctype)
        if ctype == "TPV":
            header = image.catalog.wcs.to_header(relax=True)
            header["PV1_3"] = 0.1
            xy = image.catalog.pixels
            image.catalog = ImageCatalog(WCS(header), xy, image_shape=(SIZE, SIZE))
        with pytest.raises(InputError, match=rf"^imcat:.*{message}"):
            run([image], table, distortion_order=3)
    wcs = make_wcs()
    wcs.pixel_shape = None
    with pytest.raises(InputError, match=r"^image_shape:"):
        align([ImageCatalog(wcs, image.catalog.pixels)], table, distortion_order=3, **OPTIONS)


def bent_by_air(sky, count, *, size=2e-6, step=400, known=straight):
    """Images of one lens, each with a quadratic of its own, whose WCS knows neither."""
    images = []
    for k in range(count):
        at = ((k % 3 - 1) * step, (k // 3 - 0.5) * step)
        image = sky.image(at, sip=True)
        own = np.zeros((2, 4, 4))
        own[:, 2, 0], own[:, 1, 1], own[:, 0, 2] = sky.rng.normal(0, size, (3, 2))
        sip = image.true.sip
        image.true.sip = type(sip)(sip.a + own[0], sip.b + own[1], None, None, sip.crpix)
        near = image.star[image.star >= 0]
        xy = image.true.all_world2pix(np.column_stack([sky.ra[near], sky.dec[near]]), 0)
        xy += sky.rng.normal(0, 0.05, xy.shape)
        image.star = near
        image.catalog = ImageCatalog(make_wcs(at, sip=True), xy, image_shape=(SIZE, SIZE))
        images.append(known(image))
    return images


def test_a_quadratic_of_each_image():
    sky = Sky(11, stars=500, half=1500)
    images = bent_by_air(sky, 6)
    run(images, sky.table(), distortion_order=3)
    assert np.median([image.error_px() for image in images]) > 0.15
    images = bent_by_air(sky, 6)
    fit = run(images, sky.table(), distortion_order=3, exposure_order=2).fit
    assert max(image.error_px() for image in images) < 0.03
    assert 0.8 < fit.reserved_chi2_dof < 1.25
    assert len(fit.exposure_distortion) == 6
    # What is common to all is shared, but for the scatter of the six.
    common = np.mean([lens.a_coeffs[3:6] for lens in fit.exposure_distortion], axis=0)
    single = np.std([lens.a_coeffs[3:6] for lens in fit.exposure_distortion], axis=0)
    assert (np.abs(common) < 0.1 * single).all()
    assert all(image.catalog.alignment.corner_error_px < 0.05 for image in images)


def test_a_quadratic_needs_matches_all_over_the_image():
    sky = Sky(12, stars=500, half=1500)
    images = bent_by_air(sky, 6, size=0.0)
    for k, keep in ((1, 30), (4, 400)):
        xy = images[k].catalog.pixels
        # Few; and many in one corner.
        xy = xy[:keep] if k == 1 else xy[(xy < SIZE / 2).all(axis=1)]
        images[k].catalog = ImageCatalog(images[k].catalog.wcs, xy, image_shape=(SIZE, SIZE))
    result = run(images, sky.table(), distortion_order=3, exposure_order=2)
    few = [d for d in result.fit.degeneracies if d.kind is DegeneracyKind.FEW_MATCHES]
    assert [d.images for d in few] == [("image 1",), ("image 4",)]
    assert [lens is None for lens in result.fit.exposure_distortion] == [
        False, True, False, False, True, False,
    ]  # fmt: skip
    # They keep the shared distortion; that of a corner is linear beyond it.
    assert images[1].error_px() < 0.1
    assert images[4].error_px() < 0.2


def test_a_quadratic_without_a_catalogue_leaves_the_reference():
    sky = Sky(13, stars=500, half=1500)
    images = bent_by_air(sky, 4, step=100, known=lambda image: image)
    first = images[0]
    first.catalog = ImageCatalog(first.true, first.catalog.pixels, image_shape=(SIZE, SIZE))
    result = run(images, exposure_order=2)
    assert result.images[0].status == "reference"
    assert result.fit.exposure_distortion[0] is None
    assert result.fit.rmse_px < 0.1
    assert np.median([image.error_px() for image in images[1:]]) < 0.1


def test_what_cannot_have_a_quadratic_is_named():
    sky = Sky(14, stars=200)
    pair, table = [sky.image(), sky.image()], sky.table()
    for options, match in (
        ({"exposure_order": 3}, "out of range"),
        ({"exposure_order": 2, "method": "sequential"}, "global"),
        ({"exposure_order": 2, "fitgeom": "rscale"}, "general"),
    ):
        with pytest.raises(InputError, match=rf"^exposure_order:.*{match}"):
            run(pair, table, **options)
    with pytest.raises(InputError, match=r"^exposure_order:.*group"):
        align([ImageGroup([image.catalog for image in pair])], table, exposure_order=2, **OPTIONS)
    with pytest.raises(InputError, match=r"^distortion_order:.*4 to 9"):
        run(pair, distortion_order=3, exposure_order=2)
