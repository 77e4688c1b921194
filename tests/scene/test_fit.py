"""Scenes that are drawn apart from the core, scipy's least squares, and the Cramer-Rao bound."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

import boresight
from boresight import InputError, UndeterminedError, scene
from boresight.scene.fit import turned
from skies import CENTRES, SCALE, draw, header, observe, rotation, sky_of

FLUXES = np.array([6000.0, 15000.0, 30000.0])
BOX = (0, 150, 20, 135)
TRUE = header()
START = sky_of(CENTRES + np.array([[0.1, -0.1], [-0.12, 0.05], [0.08, 0.1]]), TRUE)


def images(seed, *, freedom="shift", crpix=1.0, turn=0.0, box=BOX, **options):
    """The seed's r and g: the header of g is off by a pixel, and turned."""
    rng = np.random.default_rng(seed)
    pictures = [
        draw(CENTRES, flux, n, rd / SCALE)
        for flux, n, rd in ((FLUXES, 2.0, 1.0), (0.8 * FLUXES, 2.2, 1.1))
    ]
    (r, vr), (g, vg) = (observe(p, rng.integers(2**32)) for p in pictures)
    off = header((75.5 + crpix, 75.5 + crpix), turn)
    return [
        scene.Image(r, TRUE, variance=vr, window=box, name="r", **options),
        scene.Image(g, off, variance=vg, window=box, name="g", wcs_freedom=freedom, **options),
    ]


def test_the_story_of_the_seed():
    turn = np.pi / 32
    without = scene.fit(images(1, freedom="fixed"), START)
    dipoles = without.dipoles
    assert without.status == "converged"
    assert (dipoles["sigma"] > 10).all()
    # Both images are off, in opposite directions.
    assert dipoles["dx_px"][0] * dipoles["dx_px"][1] < 0
    shifted = scene.fit(images(1), START)
    assert shifted.status == "converged"
    assert shifted.num_parameters == without.num_parameters + 2 == 18
    assert (shifted.dipoles["sigma"] < 4.5).all()
    g = shifted.images[1]
    truth = SCALE * np.array([-1.0, 1.0])
    assert np.abs((g.crtan_arcsec - truth) / g.crtan_error_arcsec).max() < 4.5
    rotated = scene.fit(images(1, freedom="rshift", turn=turn), START)
    g = rotated.images[1]
    assert rotated.status == "converged"
    assert rotated.num_parameters == 19
    assert abs(g.phi_rad + turn) < 4.5 * g.phi_error_rad
    assert abs(rotated.chi2_dof - 1) < 0.05
    assert without.chi2_dof > shifted.chi2_dof + 0.03
    # The corrected WCS puts the stars where they are on r.
    places = TRUE.pixel_to_world([20.0, 130.0], [30.0, 110.0])
    there = g.wcs.world_to_pixel(places)
    np.testing.assert_allclose(there, [[20.0, 130.0], [30.0, 110.0]], atol=0.1)


def model_of(p, crpix, turn):
    """Residuals of r and g of the parameters of the seed, drawn as `skies.draw` does."""
    centres = p[:6].reshape(3, 2)
    r = draw(centres, p[6:9], p[9], p[10], order=4)
    plane = (centres - p[16:18]) if len(p) > 16 else centres
    phi = turn + (p[18] if len(p) > 18 else 0.0)
    g = draw(plane, p[11:14], p[14], p[15], crpix=(74.5 + crpix,) * 2, phi=phi, order=4)
    return np.stack([r, g])[:, BOX[2] : BOX[3], BOX[0] : BOX[1]]


def test_the_minimum_and_errors_are_those_of_scipy():
    turn = 0.03
    pair = images(5, freedom="rshift", turn=turn)
    found = scene.fit(pair, START)
    data = np.stack([image.data for image in pair])[:, BOX[2] : BOX[3], BOX[0] : BOX[1]]
    sigma = np.sqrt(
        np.stack([image.variance for image in pair])[:, BOX[2] : BOX[3], BOX[0] : BOX[1]]
    )

    def residual(p):
        return ((model_of(p, 1.0, turn) - data) / sigma).ravel()

    start = np.concatenate(
        [CENTRES.ravel(), FLUXES, [2.0, 3.8], 0.8 * FLUXES, [2.2, 4.2], [-SCALE, SCALE, -turn]]
    )
    fit = least_squares(residual, start, x_scale="jac", xtol=1e-10, ftol=1e-10)
    chi2 = found.chi2_dof * (found.num_pixels - found.num_parameters)
    assert found.num_pixels == residual(start).size == 34500
    assert chi2 == pytest.approx(2 * fit.cost, abs=0.2)
    g = found.images[1]
    errors = np.sqrt(np.diag(np.linalg.inv(fit.jac.T @ fit.jac)))[16:]
    mine = np.array([*g.crtan_error_arcsec, g.phi_error_rad])
    np.testing.assert_allclose(mine, errors, rtol=0.01)
    np.testing.assert_allclose([*g.crtan_arcsec, g.phi_rad], fit.x[16:], atol=0.02 * errors.max())
    assert g.psf.n == pytest.approx(fit.x[14], abs=2e-3)
    assert g.psf.rd == pytest.approx(fit.x[15], abs=5e-3)
    names = found.parameter_names
    assert len(names) == len(set(names)) == 19 == len(found.covariance)
    at = names.index("g.phi")
    assert np.sqrt(found.covariance[at, at]) == pytest.approx(g.phi_error_rad)


def test_errors_follow_the_bound():
    z = []
    for seed in range(12):
        found = scene.fit(images(100 + seed), START)
        g = found.images[1]
        assert found.status == "converged"
        z.append((g.crtan_arcsec - SCALE * np.array([-1.0, 1.0])) / g.crtan_error_arcsec)
    assert 0.65 < np.sqrt(np.mean(np.square(z))) < 1.35


@pytest.mark.parametrize("seed", range(4))
def test_a_cold_rotation_is_never_lost(seed):
    found = scene.fit(images(200 + seed, freedom="rshift", turn=np.pi / 32, box=None), START)
    g = found.images[1]
    assert found.status == "converged"
    assert abs(g.phi_rad + np.pi / 32) < 5 * g.phi_error_rad


def test_order_of_images_and_sources_changes_nothing():
    r, g = images(7)
    one = scene.fit([r, g], START)
    other = scene.fit([g, r], START[[2, 0, 1]])
    np.testing.assert_allclose(
        other.images[0].crtan_arcsec, one.images[1].crtan_arcsec, atol=1e-3 * SCALE
    )
    np.testing.assert_allclose(other.images[1].flux, one.images[0].flux[[2, 0, 1]], rtol=1e-4)


@settings(max_examples=5, deadline=None)
@given(factor=st.floats(1e-3, 1e3))
def test_flux_scaling(factor):
    pair = images(8)
    plain = scene.fit(pair, START)
    scaled = [
        scene.Image(
            i.data * factor, i.wcs, variance=i.variance * factor**2, window=BOX,
            wcs_freedom=i.wcs_freedom,
        )
        for i in pair
    ]  # fmt: skip
    found = scene.fit(scaled, START)
    np.testing.assert_allclose(found.images[0].flux, factor * plain.images[0].flux, rtol=1e-4)
    np.testing.assert_allclose(
        found.images[1].crtan_arcsec, plain.images[1].crtan_arcsec, atol=1e-4 * SCALE
    )


@settings(max_examples=5, deadline=None)
@given(dx=st.integers(-8, 8), dy=st.integers(-8, 8))
def test_translation_equivariance(dx, dy):
    r, g = images(9, box=(10, 140, 20, 135))
    plain = scene.fit([r, g], START)
    moved = []
    for image, freedom in ((r, "fixed"), (g, "shift")):
        wcs = image.wcs.deepcopy()
        wcs.wcs.crpix += (dx, dy)
        data, variance = (np.roll(a, (dy, dx), (0, 1)) for a in (image.data, image.variance))
        box = (10 + dx, 140 + dx, 20 + dy, 135 + dy)
        moved.append(scene.Image(data, wcs, variance=variance, window=box, wcs_freedom=freedom))
    found = scene.fit(moved, START)
    np.testing.assert_allclose(
        found.images[1].crtan_arcsec, plain.images[1].crtan_arcsec, atol=1e-3 * SCALE
    )


def test_rotation_equivariance():
    r, g = images(10, box=None)
    plain = scene.fit([r, g], START)
    quartered = []
    for image, freedom in ((r, "fixed"), (g, "shift")):
        wcs = image.wcs.deepcopy()
        # A quarter turn of the array: (column, row) goes to (row, 149 - column).
        quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
        wcs.wcs.cd = image.wcs.wcs.cd @ quarter.T
        x, y = image.wcs.wcs.crpix - 1
        wcs.wcs.crpix = np.array([y, 149 - x]) + 1
        quartered.append(
            scene.Image(
                np.rot90(image.data), wcs, variance=np.rot90(image.variance), wcs_freedom=freedom
            )
        )
    found = scene.fit(quartered, START)
    np.testing.assert_allclose(
        found.images[1].crtan_arcsec, plain.images[1].crtan_arcsec, atol=5e-3 * SCALE
    )


def test_undersampled_stars_have_no_pixel_phase_bias():
    rng = np.random.default_rng(3)
    centres = rng.uniform(-8, 8, (6, 2))
    rd = 1.2 / 2 / np.sqrt(2**0.5 - 1)
    flux = np.full(6, 50000.0)
    shifts = rng.uniform(-1, 1, (4, 2))
    dithers = []
    for shift in shifts:
        data = draw(
            centres, flux, 2.0, rd, crpix=np.array([40.0, 40.0]) + shift, shape=(80, 80), order=12
        )
        wcs = header(np.array([41.0, 41.0]) + shift)
        dithers.append(scene.Image(data, wcs, variance=25.0))
    found = scene.fit(dithers, sky_of(centres + 0.05, header((41.0, 41.0))))
    true = sky_of(centres, header((41.0, 41.0)))
    off = np.hypot(
        (found.sources["ra"].to_value("deg") - true.ra.deg) * np.cos(true.dec.rad),
        found.sources["dec"].to_value("deg") - true.dec.deg,
    )
    assert off.max() * 3600 / SCALE < 1e-4


def test_a_sky_that_is_fitted():
    pair = images(11, sky="plane", box=None)
    y, x = np.mgrid[:150, :150]
    for image in pair:
        image.data = image.data + 40.0 + 0.2 * (x - 74.5) - 0.1 * (y - 74.5)
    found = scene.fit(pair, START)
    assert found.status == "converged"
    np.testing.assert_allclose(found.images[0].sky, [40.0, 30.0, -15.0], atol=3.0)
    # Its plane is part of the model of every pixel.
    assert abs(np.median(found.residual("r"))) < 3.0


def test_outliers_hardly_pull_with_a_robust_loss():
    pair = images(12)
    pair[1].data[60:62, 60:66] += 4000.0
    pair[1].data[40, 70] = np.nan
    pair[1].mask[40, 70] = True
    pair[1].variance[40, 70] = np.inf
    squares, robust = (scene.fit(pair, START, loss=loss) for loss in ("linear", "cauchy"))
    truth = SCALE * np.array([-1.0, 1.0])
    assert robust.status == "converged"
    assert np.hypot(*(robust.images[1].crtan_arcsec - truth)) < 0.02
    assert robust.chi2_dof < squares.chi2_dof


def test_a_psf_in_common_and_given_errors():
    psf = scene.Moffat(n=2.0, rd=3.8, shared=True)
    data = [observe(draw(CENTRES, FLUXES, 2.0, 1 / SCALE), seed) for seed in (1, 2)]
    pair = [scene.Image(d, TRUE, variance=v, psf=psf, window=BOX) for d, v in data]
    found = scene.fit(pair, START)
    assert found.images[0].psf == found.images[1].psf
    assert found.num_parameters == 6 + 6 + 2
    # One image with known positions tells its WCS.
    known = [
        scene.PointSource(s.ra.deg, s.dec.deg, error_arcsec=0.01) for s in sky_of(CENTRES, TRUE)
    ]
    alone = images(3)[1]
    result = scene.fit(alone, known)
    np.testing.assert_allclose(result.images[0].crtan_arcsec, SCALE * np.array([-1, 1]), atol=0.05)


def test_one_image_whose_wcs_is_free_is_named():
    result = scene.fit(images(4)[1:], START)
    assert result.status == "converged"
    assert "'g' is held as the reference" in result.message
    assert result.images[0].crtan_arcsec.tolist() == [0.0, 0.0]


def test_a_sip_wcs_is_followed():
    from astropy.wcs import Sip

    a = np.zeros((3, 3))
    a[2, 0], a[0, 2] = 4e-5, -3e-5
    wcs = header()
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    wcs.sip = Sip(a, a.T.copy(), None, None, wcs.wcs.crpix)
    stars = sky_of(CENTRES, TRUE)
    x, y = wcs.world_to_pixel(stars)
    flat = (np.column_stack([x, y]) - 74.5) @ (SCALE * np.diag([-1.0, 1.0])).T
    image = draw(flat, FLUXES, 2.0, 1 / SCALE)
    data, variance = observe(image, 3)
    reference, rv = observe(draw(CENTRES, FLUXES, 2.0, 1 / SCALE), 4)
    found = scene.fit(
        [
            scene.Image(reference, TRUE, variance=rv, window=BOX),
            scene.Image(data, wcs, variance=variance, window=BOX, wcs_freedom="rshift"),
        ],
        START,
    )
    g = found.images[1]
    assert np.abs(g.crtan_arcsec / g.crtan_error_arcsec).max() < 4.5
    assert abs(g.phi_rad) < 4.5 * g.phi_error_rad
    there = np.array(g.wcs.world_to_pixel(stars))
    np.testing.assert_allclose(there, [x, y], atol=0.15)


def test_images_of_every_kind(tmp_path):
    r, g = images(6, box=None)
    path = tmp_path / "r.fits"
    fits.PrimaryHDU(r.data, TRUE.to_header()).writeto(path)
    ccd = CCDData(
        g.data, unit="electron", wcs=g.wcs, uncertainty=StdDevUncertainty(np.sqrt(g.variance))
    )
    table = Table({"ra": START.ra.deg, "dec": START.dec.deg})
    found = scene.fit([scene.Image(path), scene.Image(ccd, wcs_freedom="shift")], table)
    assert found.status == "converged"
    np.testing.assert_allclose(found.images[1].crtan_arcsec, SCALE * np.array([-1, 1]), atol=0.03)
    # The measured noise is the true one.
    assert abs(found.images[0].chi2_dof - 1) < 0.15
    looked_for = scene.fit([r, g], 3)
    assert len(looked_for.sources) == 3
    assert found.model(0).shape == found.residual("image1").shape == (150, 150)
    assert np.nanstd(found.pull(1)) == pytest.approx(1.0, abs=0.1)


def test_bad_input_is_named():
    r, g = images(2)
    bad = np.ones((150, 150))
    bad[3, 4] = 0
    with pytest.raises(InputError, match="variance: it is 0 in row 3, column 4"):
        scene.Image(r.data, TRUE, variance=bad)
    for value in (-1.0, np.nan):
        with pytest.raises(InputError, match="variance: it is"):
            scene.Image(r.data, TRUE, variance=value)
    huge = r.data.copy()
    huge[5, 6] = 1e300
    for variance in ("auto", r.variance):
        with pytest.raises(InputError, match="row 5, column 6 is 1e\\+300"):
            scene.Image(huge, TRUE, variance=variance)
    with pytest.raises(InputError, match="all pixels are masked"):
        scene.Image(r.data, TRUE, mask=np.ones((150, 150)))
    with pytest.raises(InputError, match="wcs_freedom: 'attitude' needs a camera"):
        scene.Image(r.data, TRUE, wcs_freedom="attitude")
    with pytest.raises(InputError, match="wcs_freedom: 'turn'"):
        scene.Image(r.data, TRUE, wcs_freedom="turn")
    with pytest.raises(InputError, match="sources: none is on any image"):
        scene.fit([r, g], sky_of(CENTRES + 500.0, TRUE))
    with pytest.raises(InputError, match="numbers 0 and 3 are at one place"):
        scene.fit([r, g], sky_of([*CENTRES, CENTRES[0]], TRUE))
    with pytest.raises(InputError, match="window: there are 2"):
        scene.fit([scene.Image(r.data, TRUE, window=[BOX, BOX])], START)
    with pytest.raises(InputError, match="schedule"):
        scene.fit([r, g], START, schedule="later")
    with pytest.raises(InputError, match="loss"):
        scene.fit([r, g], START, loss="l1")
    with pytest.raises(InputError, match="sources: 'all'"):
        scene.fit([r, g], "all")
    hole = np.zeros((150, 150), bool)
    hole[20:135] = True
    with pytest.raises(UndeterminedError, match="none has a good pixel"):
        scene.fit(scene.Image(r.data, TRUE, mask=hole, window=BOX), START)
    with pytest.raises(UndeterminedError, match="none has a good pixel"):
        scene.fit(scene.Image(r.data, TRUE, variance=r.variance, window=(0, 9, 0, 9)), START)


def test_what_cannot_be_told_is_flagged_and_finite():
    r, g = images(13, box=None)
    r = scene.Image(r.data - 3 * draw(CENTRES[:1], FLUXES[:1], 2.0, 1 / SCALE), TRUE,
                    variance=r.variance, name="r")  # fmt: skip
    outside = [*CENTRES, [80.0, 80.0]]
    found = scene.fit([r, g], sky_of(outside, TRUE))
    assert found.sources["flags"].tolist()[0] == "negative"
    assert found.sources["flags"].tolist()[3] == "unseen"
    assert np.isfinite(found.covariance).all()
    assert np.isfinite(found.sources["ra"].value).all()
    # A PSF that is wider than the window is no crash either.
    tight = scene.Image(g.data, g.wcs, variance=g.variance, psf=scene.Moffat(rd=30.0), window=5)
    assert scene.fit(tight, START).status in ("converged", "stalled")


@pytest.mark.parametrize("psf", [scene.Moffat(), scene.Moffat(n=2.0, rd=60.0)])
def test_a_moffat_becomes_a_gaussian_where_stars_have_no_wings(psf):
    y, x = np.mgrid[:80, :80]
    places = np.array([[25.0, 30.0], [50.0, 22.0], [44.0, 60.0]])
    rng = np.random.default_rng(5)
    image = sum(500 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 8) for a, b in places)
    image += rng.normal(0, 2, image.shape)
    wcs = header((40.5, 40.5))
    start = SkyCoord(wcs.pixel_to_world(*places.T))
    found, expected = (
        scene.fit(scene.Image(image, wcs, variance=4.0, psf=given), start)
        for given in (psf, scene.Gaussian())
    )
    assert (found.status, expected.status) == ("converged", "converged")
    # It stays there, and is named.
    assert found.images[0].psf.n > 100
    assert found.frozen == ["image1.psf.n"]
    assert len(found.history) < 40
    # A Gaussian to one part in 150.
    assert found.chi2_dof < expected.chi2_dof + 0.01
    np.testing.assert_allclose(found.images[0].flux, expected.images[0].flux, rtol=5e-3)
    np.testing.assert_allclose(found.sources["ra_error"], expected.sources["ra_error"], rtol=0.01)


def test_a_source_that_one_image_does_not_see():
    r, g = images(15, box=None)
    half = scene.Image(
        r.data[:, :70], TRUE, variance=r.variance[:, :70], name="half"
    )  # fmt: skip
    found = scene.fit([half, g], START)
    # The first two are beyond its edge or not: x of the stars is 29, 63, 132.
    seen = np.array([True, True, False])
    table = found.sources
    assert table["flags"].tolist() == ["", "", "partly"]
    assert (~table["flux_half"].mask).tolist() == seen.tolist()
    assert np.isfinite(found.images[0].flux).all()
    assert np.isinf(found.images[0].flux_error).tolist() == (~seen).tolist()
    assert np.isfinite(found.images[1].flux_error).all()
    assert not any(np.isnan(np.ma.filled(table[name], 0.0)).any()
                   for name in ("flux_half", "flux_error_half", "flux_g"))  # fmt: skip


def test_progress_can_stop_it():
    def stop(fraction):
        raise KeyboardInterrupt

    rng = np.random.default_rng(0)
    data = rng.normal(0, 1, (1500, 1500))
    image = scene.Image(data, header((750, 750)), variance=1.0, window=(0, 1500, 0, 1500))
    with pytest.raises(KeyboardInterrupt):
        scene.fit([image] * 2, sky_of(rng.uniform(-150, 150, (300, 2)), header()), progress=stop)


def test_the_attitude_of_a_camera():
    camera = boresight.CameraModel.from_fov(
        4.0, (200, 200), distortion=boresight.RadialDistortion(k1=-0.02, scale=100.0)
    )
    quaternion = np.array([0.5, 0.5, -0.5, 0.5])
    rng = np.random.default_rng(2)
    pixels = rng.uniform(-85, 85, (12, 2))
    stars = boresight.MatchedStars(pixels, np.tile([0.0, 0, 1], (12, 1)), camera, quaternion)
    true = boresight.Solution.from_matches(stars)
    ra, dec = true.pixel_to_world(*pixels.T)
    light = sum(5000.0 * moffat_at(x + 100, y + 100) for x, y in pixels)
    data, variance = observe(light, 1)
    off = turned(true, np.array([40.0, -30.0, 300.0, 0.0]))
    known = [
        scene.PointSource(a, d, error_arcsec=0.1)
        for a, d in zip(np.ravel(ra), np.ravel(dec), strict=True)
    ]
    image = scene.Image(data, off, variance=variance, wcs_freedom="attitude")
    found = scene.fit(image, known)
    assert found.status == "converged"
    x, y = found.images[0].wcs.world_to_pixel(ra, dec)
    assert np.hypot(x - pixels[:, 0], y - pixels[:, 1]).max() < 0.05
    assert np.hypot(*np.subtract(off.world_to_pixel(ra, dec), pixels.T)).max() > 0.5


def moffat_at(x, y):
    from skies import moffat

    return moffat(x, y, 2.2, 1.5, (200, 200))


def test_rotations_are_the_convention_of_the_seed():
    # plane = CD0 R(phi) (p - crpix) + crtan, as AstroPhot has it.
    _, g = images(14, freedom="rshift", turn=0.05)
    found = scene.fit(images(14, freedom="rshift", turn=0.05), START).images[1]
    cd = g.wcs.wcs.cd * 3600
    pixel = np.array([100.0, 60.0])
    plane = cd @ rotation(found.phi_rad) @ (pixel - (g.wcs.wcs.crpix - 1)) + found.crtan_arcsec
    there = found.wcs.wcs.cd * 3600 @ (pixel - (found.wcs.wcs.crpix - 1))
    np.testing.assert_allclose(there, plane, atol=1e-9)


def test_blends_do_not_keep_a_crowd_from_its_minimum():
    """Pairs nearer than a fifth of the PSF's width take many steps; all others do not wait."""
    rng, n, rd, size = np.random.default_rng(17), 3.0, 2.2, 120
    places = rng.uniform(10, size - 10, (70, 2))
    near = np.array([[0.5, 0.2], [-0.4, 0.1], [0.1, 0.45], [0.3, -0.3]])
    places[-4:] = places[:4] + near
    fluxes = 10 ** rng.uniform(3.5, 4.7, len(places))
    wcs = header((size / 2 + 0.5,) * 2)
    plane = (places - (size / 2 - 0.5)) * SCALE * [-1.0, 1.0]
    picture = draw(plane, fluxes, n, rd, crpix=(size / 2 - 0.5,) * 2, shape=(size, size))
    data, variance = observe(picture, 3)
    start = sky_of(plane + rng.normal(0, 0.01, plane.shape), wcs)
    image = scene.Image(data, wcs, variance=variance, psf=scene.Moffat(n=2.8, rd=2.1))
    found = scene.fit(image, start)
    assert found.status == "converged"
    assert abs(found.chi2_dof - 1) < 0.05
    assert len(found.history) <= 25
    again = scene.fit(image, found.sources["ra", "dec"])
    gained = (found.chi2_dof - again.chi2_dof) * (found.num_pixels - found.num_parameters)
    assert gained < 0.5
    isolated = np.array([np.sort(np.hypot(*(places - place).T))[1] > 3 * rd for place in places])
    there = np.array(wcs.world_to_pixel_values(found.sources["ra"], found.sources["dec"])).T
    errors = np.array([found.sources["ra_error"], found.sources["dec_error"]]).T / SCALE
    pulls = ((there - places) / errors)[isolated]
    assert 0.7 < np.sqrt((pulls**2).mean()) < 1.35
