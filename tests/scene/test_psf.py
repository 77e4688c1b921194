"""Point-spread functions given by samples, against photutils, and measured on the frame."""

import numpy as np
import pytest

from boresight import InputError, scene
from skies import SCALE, draw, header, observe, sky_of

SIZE = 120
MIDDLE = (SIZE - 1) / 2


def samples(sigma, over=4, half=9.0):
    """Pixel-integrated Gaussian, `over` samples per pixel."""
    from scipy.special import erf

    at = np.arange(-half * over, half * over + 1) / over
    edges = 0.5 * (erf((at + 0.5) / (sigma * np.sqrt(2))) - erf((at - 0.5) / (sigma * np.sqrt(2))))
    return edges[:, None] * edges


def stars(count, seed):
    """Pixels (x, y) and fluxes."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(count)))
    cells = np.stack(np.meshgrid(*[np.arange(side)] * 2), axis=-1).reshape(-1, 2)[:count]
    places = 14 + cells * (SIZE - 28) / (side - 1) + rng.uniform(-2, 2, (count, 2))
    return places, rng.uniform(5e3, 5e4, count)


def plane_of(places):
    """Places on the tangent plane, arcsec."""
    return (places - MIDDLE) * SCALE * [-1.0, 1.0]


def fitted(data, variance, places, psf):
    """Fit stars that start a little off; with pixels and fluxes found."""
    wcs = header((MIDDLE + 1, MIDDLE + 1))
    off = np.random.default_rng(9).normal(0, 0.1, places.shape)
    found = scene.fit(
        scene.Image(data, wcs, variance=variance, psf=psf, name="a"),
        sky_of(plane_of(places + off), wcs),
    )
    assert found.status == "converged"
    table = found.sources
    pixels = np.array(wcs.world_to_pixel_values(table["ra"], table["dec"])).T
    return found, pixels, table["flux_a"], table["flux_error_a"]


def test_a_psf_of_photutils_is_drawn_as_there():
    photutils = pytest.importorskip("photutils.psf")
    psf = photutils.ImagePSF(samples(1.1), oversampling=4)
    places, fluxes = stars(9, 1)
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    clean = sum(psf.evaluate(x, y, f, *p) for p, f in zip(places, fluxes, strict=True))
    found, pixels, flux, _ = fitted(clean, 100.0, places, psf)
    np.testing.assert_allclose(pixels, places, atol=1e-4)
    np.testing.assert_allclose(flux, fluxes, rtol=1e-5)
    np.testing.assert_allclose(found.model(0), clean, atol=1e-5 * clean.max())
    data, variance = observe(clean, 3)
    _, pixels, flux, error = fitted(data, variance, places, psf)
    assert np.abs((flux - fluxes) / error).max() < 4.5
    assert found.images[0].psf.fwhm_px == pytest.approx(2.7, abs=0.1)


def test_a_psf_that_varies_over_the_image():
    photutils = pytest.importorskip("photutils.psf")
    from astropy.nddata import NDData

    corners = [(0.0, 0.0), (SIZE - 1.0, 0.0), (0.0, SIZE - 1.0), (SIZE - 1.0, SIZE - 1.0)]
    grids = np.array([samples(sigma) for sigma in (1.0, 1.3, 1.2, 1.6)])
    # In an order that is not that of rows.
    order = [2, 0, 3, 1]
    meta = {"grid_xypos": [corners[k] for k in order], "oversampling": 4}
    psf = photutils.GriddedPSFModel(NDData(grids[order], meta=meta))
    places, fluxes = stars(9, 2)
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    clean = sum(psf.evaluate(x, y, f, *p) for p, f in zip(places, fluxes, strict=True))
    data, variance = observe(clean, 4)
    for given in (psf, scene.EffectivePSF(grids, 4, grid_xypos=corners)):
        found, pixels, flux, error = fitted(data, variance, places, given)
        assert np.abs((flux - fluxes) / error).max() < 4.5
        assert np.abs(pixels - places).max() < 0.1
        assert abs(found.chi2_dof - 1) < 0.06


def test_the_psf_of_the_frame_itself():
    """Of two frames the shift between them, with a shape that no analytic profile has."""
    places, fluxes = stars(36, 5)
    images = []
    for k, shift in enumerate(([0.0, 0.0], [0.37, -0.21])):
        plane = plane_of(places + shift)
        crpix = (MIDDLE, MIDDLE)
        clean = draw(plane, 0.6 * fluxes, 3.0, 2.6, crpix=crpix, shape=(SIZE, SIZE))
        beside = plane + np.array([0.15, 0])
        clean += draw(beside, 0.4 * fluxes, 2.5, 3.6, crpix=crpix, shape=(SIZE, SIZE))
        data, variance = observe(clean, 10 + k)
        images.append(
            scene.Image(
                data, header((MIDDLE + 1, MIDDLE + 1)), variance=variance, psf="measured",
                wcs_freedom="shift" if k else "fixed",
            )
        )  # fmt: skip
    assert isinstance(images[0].psf, scene.EffectivePSF)
    found = scene.fit(images, sky_of(plane_of(places), images[0].wcs))
    assert found.status == "converged"
    image = found.images[1]
    off = image.crtan_arcsec + np.array([0.37, -0.21]) * SCALE * [-1.0, 1.0]
    assert np.abs(off).max() < 0.006 * SCALE + 4.5 * image.crtan_error_arcsec.max()
    # Wings beyond the stamp of the measured function are left out of both fluxes alike.
    a, b = (found.sources[f"flux_{image.name}"] for image in found.images)
    assert np.median(b / a) == pytest.approx(1.0, abs=0.01)
    assert np.median(a / fluxes) == pytest.approx(0.9, abs=0.06)


def test_samples_that_are_none():
    good = samples(1.1)
    for arguments, match in (
        ((good[0],), "shape"),
        ((np.where(good > 0.1, np.nan, good),), "finite"),
        ((np.stack([good, good]),), "places"),
        ((np.stack([good] * 3), 4, None, [(0, 0), (9, 0), (0, 9)]), "grid"),
        ((0 * good,), "no light"),
        ((good, 0), "oversampling"),
        ((good, 4, (-5, 0)), "no light"),
        ((good, 4, (1, 2, 3)), "origin"),
    ):
        with pytest.raises(InputError, match=match):
            scene.EffectivePSF(*arguments)
    with pytest.raises(InputError, match="psf: 'moffat'"):
        scene.Image(np.ones((50, 50)), header((25, 25)), variance=1.0, psf="moffat")
    noise = np.random.default_rng(1).normal(0, 1, (60, 60))
    with pytest.raises(InputError, match="no star"):
        scene.Image(noise, header((30, 30)), variance=1.0, psf="measured")
