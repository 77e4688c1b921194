"""Galaxies beside stars: astropy's Sérsic profile, convolved numerically on a fine grid."""

import numpy as np
import pytest
from astropy.modeling.models import Sersic2D
from astropy.wcs import WCS
from scipy.signal import fftconvolve

from boresight import InputError, scene
from skies import SCALE, draw, header, moffat, observe, rotation, sky_of

SHAPE, CENTER = (81, 81), 40.0
WCS_TRUE = header((CENTER + 1, CENTER + 1))
GALAXY = np.array([0.8, -0.4])
STAR = np.array([[2.1, 0.9]])
RD, N_PSF = 2.2, 2.6


def sersic(center_px, radius_px, n, ratio, theta, flux, over=8):
    """Pixels of a Sérsic profile in a Moffat PSF: both drawn `over` times finer than pixels."""
    side = SHAPE[0] * over
    at = [(c + 0.5) * over - 0.5 for c in center_px]
    y, x = np.mgrid[:side, :side].astype(float)
    model = Sersic2D(
        1.0, radius_px * over, n, at[0], at[1], ellip=1 - ratio, theta=theta
    )  # fmt: skip
    light = model(x, y)
    # The cusp of the four nearest samples, finer still.
    x0, y0 = (int(c) - 1 for c in at)
    steps = (np.arange(40) - 19.5) / 40
    for j in range(y0, y0 + 4):
        for i in range(x0, x0 + 4):
            light[j, i] = model(i + steps[None, :], j + steps[:, None]).mean()
    light *= flux / total(n, radius_px * over, ratio)
    half = 30 * over
    kernel = moffat(half, half, N_PSF, RD * over, (2 * half + 1,) * 2, order=1)
    blurred = fftconvolve(light, kernel, mode="same")
    return blurred.reshape(SHAPE[0], over, SHAPE[1], over).sum(axis=(1, 3))


def total(n, radius, ratio):
    """Flux of a Sérsic profile whose brightness at its effective radius is 1."""
    from scipy.special import gamma, gammaincinv

    b = gammaincinv(2 * n, 0.5)
    return 2 * np.pi * n * radius**2 * ratio * np.exp(b) * b ** (-2 * n) * gamma(2 * n)


def scene_of(n, *, ratio=0.6, angle=0.5, radius_px=5.0, flux=4e5, turn=0.0):
    """A star beside a galaxy on pixels that may be turned."""
    inverse = np.linalg.inv(SCALE * np.diag([-1.0, 1.0]) @ rotation(turn))
    pixel = GALAXY @ inverse.T + CENTER
    light = sersic(pixel, radius_px, n, ratio, angle, flux)
    stars = draw(STAR, [3e4], N_PSF, RD, crpix=(CENTER, CENTER), phi=turn, shape=SHAPE)
    return light, stars


def source(n, wcs=WCS_TRUE, **options):
    start = sky_of(GALAXY[None] + 0.05, wcs)[0]
    return scene.SersicSource(start.ra.deg, start.dec.deg, n=n, **options)


def star(wcs=WCS_TRUE):
    start = sky_of(STAR + 0.04, wcs)[0]
    return scene.PointSource(start.ra.deg, start.dec.deg, name="star")


def held(n, rd):
    return scene.Moffat(n=n, rd=rd, free=())


@pytest.mark.parametrize("n", [1.0, 2.5, 4.0])
def test_its_light_is_that_of_a_numerical_convolution(n):
    light, _ = scene_of(n)
    image = scene.Image(light, WCS_TRUE, variance=25.0, psf=held(N_PSF, RD))
    # Pixels from east to north: the x axis points west.
    angle = 90.0 + np.degrees(0.5)
    given = source(n, radius_arcsec=5.0 * SCALE, axis_ratio=0.6, position_angle_deg=angle - 180,
                   free=())  # fmt: skip
    found = scene.fit(image, [given])
    assert found.status == "converged"
    model = found.model(0)
    inner = np.hypot(*(np.mgrid[:81, :81] - 40)) < 30
    # Beyond 30 px the kernel of the truth ends.
    assert np.abs(model - light)[inner].max() < 2e-3 * light.max()
    assert found.images[0].flux[0] == pytest.approx(4e5, rel=4e-3 * n)


def effective(over=4, half=12):
    """Samples of the PSF of the truth, the pixel included."""
    at = np.arange(-half * over, half * over + 1) / over
    u, w = np.polynomial.legendre.leggauss(6)
    fine = (at[:, None] + u / 2).ravel()
    light = (N_PSF - 1) / (np.pi * RD**2) * (
        1 + (fine[:, None] ** 2 + fine**2) / RD**2
    ) ** -N_PSF  # fmt: skip
    shape = (len(at), 6, len(at), 6)
    samples = np.einsum("iajb,a,b->ij", light.reshape(shape), w / 2, w / 2, optimize=True)
    return scene.EffectivePSF(samples, oversampling=over)


@pytest.mark.parametrize("n", [1.0, 4.0])
def test_it_is_convolved_with_an_effective_psf_too(n):
    light, stars = scene_of(n)
    psf = effective()
    angle = 90.0 + np.degrees(0.5)
    given = source(n, radius_arcsec=5.0 * SCALE, axis_ratio=0.6, position_angle_deg=angle - 180,
                   free=())  # fmt: skip
    found = scene.fit(scene.Image(light, WCS_TRUE, variance=25.0, psf=psf), [given])
    inner = np.hypot(*(np.mgrid[:81, :81] - 40)) < 30
    assert found.status == "converged"
    # The samples end 12 px from the star, and with them its light.
    assert np.abs(found.model(0) - light)[inner].max() < 1e-3 * light.max()
    data, variance = observe(light + stars, 2)
    image = scene.Image(data, WCS_TRUE, variance=variance, psf=psf)
    start = source(1.2 * n, radius_arcsec=1.0, axis_ratio=0.9, position_angle_deg=100.0)
    found = scene.fit(image, [star(), start])
    assert found.status == "converged"
    table = found.sources
    x, y = WCS_TRUE.world_to_pixel_values(table["ra"][:1], table["dec"][:1])
    true = STAR[0] / SCALE * [-1, 1] + CENTER
    sigma = np.array([table["ra_error"][0].value, table["dec_error"][0].value]) / SCALE
    assert np.abs((np.array([x[0], y[0]]) - true) / sigma).max() < 4
    row = found.galaxies[0]
    assert row["n"] == pytest.approx(n, rel=0.1)
    assert row["radius"].value == pytest.approx(5.0 * SCALE, rel=0.05 * n)


def test_a_star_beside_a_galaxy():
    light, stars = scene_of(1.5)
    offsets, galaxies = {"with": [], "without": []}, []
    for seed in range(6):
        data, variance = observe(light + stars, seed)
        image = scene.Image(data, WCS_TRUE, variance=variance, psf=held(N_PSF, RD))
        galaxy = source(2.0, radius_arcsec=1.0, axis_ratio=0.9, position_angle_deg=100.0)
        both = scene.fit(image, [star(), galaxy])
        points = scene.fit(image, [star()])
        assert both.status == "converged"
        assert abs(both.chi2_dof - 1) < 0.06
        for name, fit in (("with", both), ("without", points)):
            table = fit.sources
            x, y = WCS_TRUE.world_to_pixel_values(table["ra"][:1], table["dec"][:1])
            true = STAR[0] / SCALE * [-1, 1] + CENTER
            sigma = np.array([table["ra_error"][0].value, table["dec_error"][0].value]) / SCALE
            offsets[name].append([
                (x[0] - true[0]) / sigma[0], (y[0] - true[1]) / sigma[1],
                (fit.images[0].flux[0] - 3e4) / fit.images[0].flux_error[0],
            ])  # fmt: skip
        row = both.galaxies[0]
        galaxies.append([
            (row["radius"].value - 5.0 * SCALE) / row["radius_error"].value,
            (row["n"] - 1.5) / row["n_error"],
            (row["axis_ratio"] - 0.6) / row["axis_ratio_error"],
            (row["position_angle"].value - (90.0 + np.degrees(0.5))) % 180
            / row["position_angle_error"].value,
        ])  # fmt: skip
    galaxies = np.array(galaxies)
    # Angles are counted to 180 degrees.
    assert both.galaxies["position_angle"].unit == "deg"
    assert np.abs(np.mean(offsets["with"], axis=0)).max() < 3 / np.sqrt(6)
    assert np.sqrt(np.mean(np.square(offsets["with"]))) < 1.6
    assert np.abs(np.mean(offsets["without"], axis=0)).max() > 20
    assert np.sqrt(np.mean(galaxies[:, :3] ** 2)) < 1.6


def test_a_rotation_turns_galaxies_too():
    turn = 0.06
    (r, stars_r), (g, stars_g) = scene_of(1.2), scene_of(1.2, angle=0.5 - turn, turn=turn)
    pair = []
    for seed, (clean, angle, freedom) in enumerate(
        ((r + stars_r, 0.0, "fixed"), (g + stars_g, 0.0, "rshift"))
    ):
        data, variance = observe(clean, seed)
        pair.append(
            scene.Image(
                data, header((CENTER + 1, CENTER + 1), angle), variance=variance,
                psf=held(N_PSF, RD), wcs_freedom=freedom,
            )
        )  # fmt: skip
    galaxy = source(1.0, radius_arcsec=1.1, axis_ratio=0.7, position_angle_deg=120.0)
    found = scene.fit(pair, [star(), galaxy])
    image = found.images[1]
    assert found.status == "converged"
    assert abs(image.phi_rad - turn) < 4.5 * image.phi_error_rad
    assert abs(found.chi2_dof - 1) < 0.05
    assert len(found.parameter_names) == 2 * 4 + 4 + 3
    assert "source2.radius" in found.parameter_names


def test_bad_input_is_named():
    for name, value in (
        ("radius_arcsec", -1.0), ("radius_arcsec", np.nan), ("n", 0.3), ("n", 12.0),
        ("axis_ratio", 0.0), ("position_angle_deg", np.inf), ("free", ("rd",)), ("free", "n"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=name):
            scene.SersicSource(1.0, 2.0, **{name: value})
    image = scene.Image(np.zeros(SHAPE), WCS_TRUE, variance=1.0)
    with pytest.raises(InputError, match="error_arcsec"):
        scene.fit(image, [source(1.0, error_arcsec=-1.0)])
    assert isinstance(WCS_TRUE, WCS)
