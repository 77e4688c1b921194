"""Refraction against astropy's own way through ERFA, and through a calibration."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import GCRS, ICRS, AltAz, EarthLocation, SkyCoord
from astropy.time import Time

import boresight
from boresight import InputError, Refraction
from helpers import aberrate

SITE = EarthLocation.from_geodetic(-70.4, -24.6, 2600.0)
TIME = Time("2020-03-01T05:00:00")


def sky_of(altaz):
    """GCRS unit vectors of places in the sky over the site, aberration by the Earth left in."""
    xyz = altaz.transform_to(GCRS(obstime=TIME)).cartesian.xyz.value
    return (xyz / np.linalg.norm(xyz, axis=0)).T


@pytest.fixture(scope="module")
def air():
    return Refraction.at(SITE, TIME, pressure_hpa=745.0, temperature_c=8.0, relative_humidity=0.3)


def test_it_is_what_astropy_finds(air):
    alt, az = (g.ravel() for g in np.meshgrid([15.0, 30.0, 50.0, 70.0, 89.0], [10.0, 130.0, 290.0]))
    weather = {"pressure": 745 * u.hPa, "temperature": 8 * u.deg_C, "relative_humidity": 0.3,
               "obswl": 0.6 * u.um}  # fmt: skip
    through = AltAz(az=az * u.deg, alt=alt * u.deg, obstime=TIME, location=SITE, **weather)
    stars = through.transform_to(ICRS())
    outside = stars.transform_to(AltAz(obstime=TIME, location=SITE))
    lifted = np.radians(alt - outside.alt.deg)
    zenith = np.array(air.zenith)
    # The same star, by its place without refraction.
    bare = sky_of(outside)
    found = air.refracted(bare)
    up = np.arctan2(np.linalg.norm(np.cross(zenith, found), axis=1), found @ zenith)
    before = np.arctan2(np.linalg.norm(np.cross(zenith, bare), axis=1), bare @ zenith)
    np.testing.assert_allclose(before - up, lifted, atol=np.radians(0.03 / 3600))
    # Towards the zenith and nowhere else.
    assert np.abs(np.einsum("ij,ij->i", found, np.cross(zenith, bare))).max() < 1e-15


def test_undoing_it_is_exact(air):
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(300, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions = np.vstack([directions, air.zenith])
    back = air.unrefracted(air.refracted(directions))
    assert np.abs(back - directions).max() < 1e-12


def test_the_standard_atmosphere_is_thinner_higher_up():
    low = Refraction.at(EarthLocation.from_geodetic(0.0, 0.0, 0.0), TIME)
    high = Refraction.at(EarthLocation.from_geodetic(0.0, 0.0, 5000.0), TIME)
    assert high.a_rad / low.a_rad == pytest.approx(np.exp(-5000 / 8434), rel=0.01)
    assert Refraction.at(SITE, TIME, pressure_hpa=0.0).a_rad == 0.0


def test_bad_input():
    with pytest.raises(InputError, match="site: 3 is not a location"):
        Refraction.at(3, TIME)
    with pytest.raises(InputError, match="time: 'noon' is not a time"):
        Refraction.at(SITE, "noon")
    with pytest.raises(InputError, match="temperature_c: 400"):
        Refraction.at(SITE, TIME, temperature_c=400)


SHAPE = (400, 512)
CAMERA = boresight.CameraModel.from_fov(14.0, SHAPE)


@pytest.fixture(scope="module")
def database():
    return boresight.SolverDatabase.generate_from_hipparcos(
        max_fov_deg=18.0, min_fov_deg=12.0, epoch_proper_motion_year=2000.0
    )


def frames_through(air, velocity, catalog, rng):
    """Stars of fields at 20 to 60 degrees altitude as a camera on the ground sees them."""
    bright = catalog[np.flatnonzero(catalog.magnitude < 7.2)]
    ra, dec = np.radians(bright.ra_deg), np.radians(bright.dec_deg)
    sky = np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    seen = air.refracted(aberrate(sky, velocity / 299792.458))
    fields = []
    for alt, az in ((20.0, 30.0), (35.0, 150.0), (60.0, 270.0)):
        place = AltAz(az=az * u.deg, alt=alt * u.deg, obstime=TIME, location=SITE)
        z = sky_of(place)
        x = np.cross(air.zenith, z)
        x /= np.linalg.norm(x)
        rotation = np.array([x, np.cross(z, x), z])
        px, py = CAMERA.direction_to_pixel(seen @ rotation.T)
        on = (np.abs(px) < 255) & (np.abs(py) < 199)
        positions = np.column_stack([px[on], py[on]]) + rng.normal(0, 0.005, (on.sum(), 2))
        fields.append((np.column_stack([positions, 10 ** (-0.4 * bright.magnitude[on])]), rotation))
    return fields


def test_calibration_takes_everything_out(air, database):
    """Refraction, aberration and proper motion at once, each of which would be seen alone."""
    velocity = boresight.earth_barycentric_velocity(TIME)
    stars = boresight.Catalog.hipparcos()
    fields = frames_through(air, velocity, stars.at_epoch(TIME), np.random.default_rng(3))
    centroids = [field for field, _ in fields]
    options = {"image_shape": SHAPE, "fov_estimate_deg": 14.0, "model": "pinhole", "order": 2}
    weather = {"pressure_hpa": 745.0, "temperature_c": 8.0, "relative_humidity": 0.3}
    full = boresight.calibrate(
        centroids, database, times=[TIME] * 3, aberration=True, catalog=stars, site=SITE,
        weather=weather, **options,
    )  # fmt: skip
    assert full.rejected == (None,) * 3
    assert full.rmse_after_px < 0.009  # two axes of 0.005 px
    assert full.camera_model.focal_length_px == pytest.approx(CAMERA.focal_length_px, rel=2e-6)
    assert len(full.physics) == 3
    # ICRS: where the catalogue's stars are.
    for solution, (field, _) in zip(full.solutions, fields, strict=True):
        ids = solution.matched_catalog_ids
        truth = stars.at_epoch(TIME).get(ids)
        x, y = field[solution.matched_centroids, :2].T
        ra, dec, cov = solution.pixel_to_world(x, y, return_cov=True)
        apart = SkyCoord(ra, dec, unit="deg").separation(
            SkyCoord(truth.ra_deg, truth.dec_deg, unit="deg")
        )
        assert np.sqrt(np.mean(apart.arcsec**2)) < 1.0  # 0.005 px of 99 arcsec on two axes
        np.testing.assert_allclose(solution.world_to_pixel(ra, dec), [x, y], atol=1e-8)
        assert np.isfinite(cov).all()
    # Each of them matters.
    unmoved = stars.at_epoch(2000.0)
    unmoved = boresight.Catalog(unmoved.ids, unmoved.ra_deg, unmoved.dec_deg, unmoved.magnitude)
    for given in ({"catalog": stars}, {"site": SITE, "weather": weather, "catalog": unmoved}):
        less = boresight.calibrate(
            centroids, database, times=[TIME] * 3, aberration=True, **given, **options
        )
        assert less.rmse_after_px > 1.2 * full.rmse_after_px, list(given)
    # Motions of Hipparcos are known without being given.
    same = boresight.calibrate(
        centroids,
        database,
        times=[TIME] * 3,
        aberration=True,
        site=SITE,
        weather=weather,
        **options,
    )
    assert same.physics == full.physics
    assert same.rmse_after_px == pytest.approx(full.rmse_after_px, rel=1e-6)


def test_what_is_needed_is_asked_for(database):
    stars = [np.zeros((5, 3))]
    for name, value in (("catalog", boresight.Catalog.hipparcos()), ("site", SITE)):
        with pytest.raises(InputError, match=rf"{name}: the time of frames\[0\] is unknown"):
            boresight.calibrate(stars, database, image_shape=SHAPE, **{name: value})
    with pytest.raises(InputError, match="times: 2 for 1 frames"):
        boresight.calibrate(stars, database, image_shape=SHAPE, times=[TIME, TIME])
    with pytest.raises(InputError, match="weather: of no effect without a site"):
        boresight.calibrate(stars, database, image_shape=SHAPE, weather={"temperature_c": 3.0})
