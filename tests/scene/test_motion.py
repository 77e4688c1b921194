"""Sources that move between images: astropy's motions, and parallaxes by vectors."""

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import Distance, SkyCoord, get_body_barycentric
from astropy.table import Table
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


def images(times=TIMES):
    """One image a time."""
    made = []
    for k, time in enumerate(times):
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
    for name in ("pmra_mas_yr", "epoch", "pm_error_mas_yr", "color", "error_arcsec"):
        with pytest.raises(InputError, match=name):
            scene.fit(image, [scene.PointSource(star.ra.deg, star.dec.deg, **{name: "x"})])
    with pytest.raises(InputError, match="motion"):
        scene.fit(image, sources(MOTIONS), motion="all")
    with pytest.raises(InputError, match="time"):
        scene.Image(image.data, WCS, variance=image.variance, time=58000.0)


EPOCHS = (
    "2016-01-05T00:00:00", "2016-07-02T12:00:00", "2017-10-01T00:00:00",
    "2019-01-11T00:00:00", "2020-04-02T00:00:00", "2021-03-20T00:00:00",
)  # fmt: skip


def test_fitted_motions_are_the_true_ones():
    known = MOTIONS + np.array([[40.0, -30.0, -100.0], [25.0, 10.0, 0.0], [-30.0, 20.0, 0.0]])
    pictures = images(EPOCHS)
    found = scene.fit(pictures, sources(known), motion="parallax")
    assert found.status == "converged"
    assert abs(found.chi2_dof - 1) < 0.05
    assert found.frozen == []
    table = found.sources
    for k, name in enumerate(("pmra", "pmdec", "parallax")):
        error = table[f"{name}_error"].value
        assert (error > 0).all()
        assert np.abs((table[name].value - MOTIONS[:, k]) / error).max() < 4.5
    assert table["pmra"].unit == u.mas / u.yr
    assert "source1.parallax" in found.parameter_names
    # What is known is not looked for: the errors of the places are those of one parameter less.
    held = scene.fit(
        pictures,
        [
            dataclasses.replace(star, pm_error_mas_yr=0.0, parallax_error_mas=5.0)
            for star in sources(MOTIONS)
        ],
        motion="parallax",
    )
    assert (held.sources["pmra_error"] == 0).all()
    np.testing.assert_allclose(held.sources["pmra"].value, MOTIONS[:, 0])
    assert (held.sources["parallax_error"].value < 5.0).all()
    assert len(held.parameter_names) == len(found.parameter_names) - 6


def test_motions_that_the_epochs_do_not_tell_are_named():
    found = scene.fit(images(EPOCHS[:1] * 2), sources(0 * MOTIONS), motion="proper")
    assert found.status == "converged"
    assert "source1.pmra" in found.frozen
    assert (found.sources["flags"] == "undetermined").all()
    assert "not determined by the pixels" in found.message
    assert np.isfinite(found.covariance).all()
    assert "parallax" not in found.sources.colnames


def observed_again(places, seed):
    """Pixels, variance and freedom of another image."""
    clean = draw(places, FLUXES, 2.5, 2.8, crpix=(44.5, 44.5), shape=SHAPE)
    return *observe(clean, seed), "shift"


def test_a_table_tells_all_that_a_star_does():
    start = sky_of(PLANE + 0.05, WCS)
    table = Table({"ra": start.ra.deg, "dec": start.dec.deg})
    table["pmra_mas_yr"] = MOTIONS[:, 0] * u.mas / u.yr
    table["pmdec_mas_yr"] = np.ma.array(MOTIONS[:, 1], mask=[False, True, False])
    table["parallax_mas"], table["epoch"] = MOTIONS[:, 2] / 1e3 * u.arcsec, [EPOCH] * 3
    found, told = scene.fit(images(), table), scene.fit(images(), sources(MOTIONS))
    np.testing.assert_allclose(found.sources["ra"], told.sources["ra"], rtol=0, atol=1e-9 * u.deg)


def test_shifts_by_colour():
    colors = np.array([0.2, 1.6, 0.9])
    by_color = np.array([0.06, -0.04])
    places = (PLANE, PLANE + (colors - 0.9)[:, None] * by_color + [0.1, 0.05])
    pictures = []
    for k, (at, freedom) in enumerate(zip(places, ("fixed", "shift"), strict=True)):
        data, variance = observe(
            draw(at, FLUXES, 2.5, 2.8, crpix=(44.5, 44.5), shape=SHAPE), 40 + k
        )
        pictures.append((data, variance, freedom))

    def fit(chromatic, given):
        return scene.fit(
            [
                scene.Image(d, WCS, variance=v, psf=scene.Moffat(), wcs_freedom=f, chromatic=c)
                for (d, v, f), c in zip(pictures, chromatic, strict=True)
            ],
            given,
        )

    start = sky_of(PLANE + 0.05, WCS)
    table = Table({"ra": start.ra.deg, "dec": start.dec.deg, "color": colors})
    with_color, without = fit((False, True), table), fit((False, False), table)
    image = with_color.images[1]
    assert with_color.status == "converged"
    assert np.abs((image.chromatic - by_color) / image.chromatic_error).max() < 4.5
    off = image.crtan_arcsec + np.array([0.1, 0.05])
    assert np.abs(off / image.crtan_error_arcsec).max() < 4.5
    assert with_color.chi2_dof < without.chi2_dof
    assert "image2.chromatic_x" in with_color.parameter_names
    # Both: one is the reference, and the message says so.
    both = fit((True, True), table)
    assert "the shift by colour of 'image1' is held" in both.message
    assert both.images[0].chromatic.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(both.images[1].chromatic, image.chromatic, atol=1e-4)
    # Two images of a band share it, with errors of both.
    shared = scene.fit(
        [
            scene.Image(d, WCS, variance=v, psf=scene.Moffat(), wcs_freedom=f, chromatic=c, band=b)
            for (d, v, f), c, b in zip(
                [*pictures, observed_again(places[1], 42)], (False, True, True), "rgg", strict=True
            )
        ],
        table,
    )
    first, second = shared.images[1:]
    np.testing.assert_array_equal(first.chromatic, second.chromatic)
    assert np.abs((first.chromatic - by_color) / first.chromatic_error).max() < 4.5
    assert (first.chromatic_error < 0.95 * image.chromatic_error).all()
    assert [n for n in shared.parameter_names if "chromatic" in n] == [
        "g.chromatic_x", "g.chromatic_y",
    ]  # fmt: skip
    with pytest.raises(InputError, match="band: 3 is not a name"):
        scene.Image(np.ones(SHAPE), WCS, variance=1.0, band=3)
    with pytest.raises(InputError, match="chromatic: no colours are known"):
        fit((False, True), start)
