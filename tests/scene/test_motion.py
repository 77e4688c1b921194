"""Sources that move between images: astropy's motions, and parallaxes by vectors."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import Distance, SkyCoord, get_body_barycentric
from astropy.time import Time

from boresight import InputError, scene
from skies import SCALE, draw, header, observe, sky_of

SHAPE = (90, 90)
WCS = header((45.5, 45.5))
PLANE = np.array([[-4.0, 3.0], [5.0, 6.0], [2.0, -7.0]])
FLUXES = np.array([2e4, 3e4, 4e4])
TIMES = ("2016-07-02T12:00:00", "2019-01-11T00:00:00", "2021-03-20T00:00:00")
#: Of Barnard's star, about; and none.
MOTIONS = np.array([[-800.0, 1030.0, 547.0], [0.0, 0.0, 0.0], [300.0, -200.0, 0.0]])
EPOCH = 2016.0


def seen(time):
    """Places on the tangent plane, arcsec, at a time."""
    stars = sky_of(PLANE, WCS)
    moved = SkyCoord(
        stars.ra, stars.dec, distance=Distance(100 * u.pc),
        pm_ra_cosdec=MOTIONS[:, 0] * u.mas / u.yr, pm_dec=MOTIONS[:, 1] * u.mas / u.yr,
        obstime=Time(EPOCH, format="jyear", scale="tdb"),
    ).apply_space_motion(new_obstime=Time(time))  # fmt: skip
    u_vectors = np.stack(
        [np.cos(moved.dec) * np.cos(moved.ra), np.cos(moved.dec) * np.sin(moved.ra),
         np.sin(moved.dec)], axis=-1
    ).value  # fmt: skip
    earth = get_body_barycentric("earth", Time(time)).xyz.to_value("au")
    shifted = u_vectors - np.radians(MOTIONS[:, 2:] / 3.6e6) * earth
    at = SkyCoord(*shifted.T, representation_type="cartesian").spherical
    pixels = np.array(WCS.world_to_pixel(SkyCoord(at.lon, at.lat))).T
    return (pixels - 44.5) * SCALE * [-1.0, 1.0]


def images():
    """One image a time."""
    made = []
    for k, time in enumerate(TIMES):
        clean = draw(seen(time), FLUXES, 2.5, 2.8, crpix=(44.5, 44.5), shape=SHAPE)
        data, variance = observe(clean, 20 + k)
        made.append(scene.Image(data, WCS, variance=variance, psf=scene.Moffat(), time=time))
    return made


def sources(motions):
    """Stars that start a little off."""
    start = sky_of(PLANE + 0.05, WCS)
    return [
        scene.PointSource(
            star.ra.deg, star.dec.deg, pmra_mas_yr=a, pmdec_mas_yr=b, parallax_mas=c, epoch=EPOCH
        )
        for star, (a, b, c) in zip(start, motions, strict=True)
    ]


def test_positions_are_those_of_the_epoch():
    pictures = images()
    found = scene.fit(pictures, sources(MOTIONS))
    still = scene.fit(pictures, sources(0 * MOTIONS))
    assert found.status == "converged"
    assert abs(found.chi2_dof - 1) < 0.05
    assert still.chi2_dof > found.chi2_dof + 0.1
    true, table = sky_of(PLANE, WCS), found.sources
    off = np.array([
        (table["ra"].to_value("deg") - true.ra.deg) * np.cos(true.dec.rad) * 3600,
        (table["dec"].to_value("deg") - true.dec.deg) * 3600,
    ])  # fmt: skip
    errors = np.array([table["ra_error"].value, table["dec_error"].value])
    assert np.abs(off / errors).max() < 4.5
    # Far less than what they moved.
    assert errors.max() < 0.05


def test_what_is_missing_is_named():
    image = images()[0]
    timeless = scene.Image(image.data, WCS, variance=image.variance)
    with pytest.raises(InputError, match="time: sources move, and image 1 has none"):
        scene.fit(timeless, sources(MOTIONS))
    assert scene.fit(timeless, sources(0 * MOTIONS)).status == "converged"
    star = sky_of(PLANE[:1], WCS)[0]
    with pytest.raises(InputError, match="no epoch"):
        scene.fit(image, [scene.PointSource(star.ra.deg, star.dec.deg, pmra_mas_yr=5.0)])
    with pytest.raises(InputError, match="negative"):
        scene.fit(image, [scene.PointSource(star.ra.deg, star.dec.deg, parallax_mas=-1.0)])
    with pytest.raises(InputError, match="time"):
        scene.Image(image.data, WCS, variance=image.variance, time=58000.0)
