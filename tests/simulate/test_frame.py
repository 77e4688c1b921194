"""Simulated frames: truth against astropy, light against the profile, noise against its formula."""

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import GCRS, SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from boresight import (
    CameraModel,
    InputError,
    RadialDistortion,
    earth_barycentric_velocity,
    read_frame,
    simulate_frame,
)
from boresight.catalog import Catalog
from boresight.simulate import TESS_SECTORS, simulate_tess_sector, tess_like_camera

CAMERA = CameraModel.from_fov(12.0, (256, 320))
SILENT = {"background": 0.0, "read_noise_e": 0.0}


@pytest.fixture(scope="module")
def one_star():
    """Catalogue of a single star of magnitude 5, somewhat off the centre of the field."""
    return Catalog(ids=[7], ra_deg=[83.0], dec_deg=[-1.0], magnitude=[5.0], epoch=2000.0)


def moments(image):
    """Sum and centroid (pixels from the image's centre) of an image."""
    height, width = image.shape
    rows, columns = np.mgrid[0:height, 0:width]
    light = image.astype(np.float64)
    total = light.sum()
    return (
        total,
        (light * columns).sum() / total - width / 2,
        (light * rows).sum() / total - height / 2,
    )


@pytest.mark.parametrize(
    "optics",
    [
        {},
        {"psf_fwhm_px": 3.3},
        {"moffat_beta": 4.5},
        {"stretch": 0.5},
        {"coma": 0.25},
        {"stretch": 0.45, "coma": 0.2, "moffat_beta": 5.0},
    ],
)
@given(ra=st.floats(82.5, 83.5), dec=st.floats(-1.5, -0.5), roll=st.floats(-180, 180))
def test_light_and_centroid_are_the_truth(one_star, optics, ra, dec, roll):
    frame = simulate_frame(CAMERA, ra, dec, roll, catalog=one_star, epoch=2000.0,
                           exposure_s=1e4, zero_point=20.0, **SILENT, **optics)  # fmt: skip
    total, x, y = moments(frame.image)
    assert len(frame.stars) == 1
    assert total == pytest.approx(frame.stars.flux[0], rel=1e-3)
    assert frame.stars.flux[0] == pytest.approx(1e4 * 10 ** (0.4 * 15.0))
    assert np.hypot(x - frame.stars.x[0], y - frame.stars.y[0]) < 5e-4


@given(st.floats(0, 360), st.floats(-90, 90), st.floats(-180, 180))
def test_a_pinhole_is_the_tangent_plane_of_astropy(ra, dec, roll):
    stars = np.random.default_rng(1).normal(size=(4000, 3))
    frame = simulate_frame(
        CAMERA, ra, dec, roll, catalog=Catalog(
            ids=np.arange(4000), ra_deg=np.degrees(np.arctan2(stars[:, 1], stars[:, 0])) % 360,
            dec_deg=np.degrees(np.arctan2(stars[:, 2], np.hypot(stars[:, 0], stars[:, 1]))),
            magnitude=np.full(4000, 12.0), epoch=2000.0))  # fmt: skip
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [161.0, 129.0]
    scale = np.degrees(1.0 / CAMERA.focal_length_px)
    # Up (-y) has position angle `roll`, and right is west of up: the sky seen from inside.
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    wcs.wcs.cd = scale * np.array([[-c, -s], [s, -c]])
    x, y = frame.stars.x, frame.stars.y
    here = np.abs(x) < 160
    expected = wcs.pixel_to_world(x[here] + 160, y[here] + 128)
    sky = SkyCoord(frame.stars.ra_deg[here], frame.stars.dec_deg[here], unit="deg")
    assert np.all(expected.separation(sky).arcsec < 1e-3)


def test_aberration_agrees_with_astropy():
    time = Time("2019-03-05T07:00:00")
    velocity = earth_barycentric_velocity(time)
    frame = simulate_frame(CAMERA, 83.0, -1.0, epoch=time.jyear, velocity_km_s=velocity)
    # GCRS is ICRS as seen from the moving Earth; stars this far away have no parallax. It includes
    # the bending of light by the Sun, below 0.02 arcsec in this field.
    sky = SkyCoord(frame.stars.ra_deg * u.deg, frame.stars.dec_deg * u.deg, distance=1 * u.Gpc)
    apparent = sky.transform_to(GCRS(obstime=time))
    still = dataclasses.replace(frame, velocity_km_s=np.zeros(3))
    x, y = still.world_to_pixel(apparent.ra.deg, apparent.dec.deg)
    miss = np.hypot(x - frame.stars.x, y - frame.stars.y) * CAMERA.pixel_scale_arcsec
    assert miss.max() < 0.02
    shift = np.hypot(
        *np.subtract(still.world_to_pixel(83.0, -1.0), frame.world_to_pixel(83.0, -1.0))
    )
    assert 5.0 < shift * CAMERA.pixel_scale_arcsec < 20.5


@given(st.floats(-150, 150), st.floats(-120, 120))
def test_pixels_round_trip_with_distortion_and_aberration(x, y):
    frame = crooked_frame()
    back = frame.world_to_pixel(*frame.pixel_to_world(x, y))
    assert np.hypot(back[0] - x, back[1] - y) < 1e-8


def crooked_frame():
    """Truth of a small frame with everything that bends rays."""
    camera = CameraModel(1500.0, (256, 320), optical_center=(200.0, -150.0), parity_flip=True,
                         distortion=RadialDistortion(k1=-0.02, k2=0.003, scale=160.0))  # fmt: skip
    nothing = Catalog(ids=[1], ra_deg=[0.0], dec_deg=[0.0], magnitude=[5.0], epoch=2000.0)
    return simulate_frame(
        camera, 200.0, 60.0, 77.0, catalog=nothing, velocity_km_s=[20.0, -15.0, 9.0]
    )


def test_proper_motion_moves_the_star():
    barnard = Catalog(
        ids=[87937], ra_deg=[269.452075], dec_deg=[4.693391], magnitude=[9.5],
        pmra_mas_yr=[-798.58], pmdec_mas_yr=[10328.12], epoch=1991.25)  # fmt: skip
    camera = CameraModel.from_fov(0.5, (256, 256))
    for year, seconds in ((1991.25, 0.0), (2091.25, 1032.8)):
        frame = simulate_frame(camera, 269.452075, 4.693391, catalog=barnard, epoch=year)
        assert -frame.stars.y[0] * camera.pixel_scale_arcsec == pytest.approx(seconds, abs=0.5)


def test_noise_is_photons_and_reading(one_star):
    frame = simulate_frame(CAMERA, 263.0, 1.0, catalog=one_star, background=400.0,
                           read_noise_e=15.0, exposure_s=2.0, gain=4.0)  # fmt: skip
    assert len(frame.stars) == 0
    assert frame.image.dtype == np.float32
    assert frame.image.mean() == pytest.approx(800.0 / 4.0, rel=1e-3)
    assert frame.image.std() == pytest.approx(np.sqrt(800.0 + 225.0) / 4.0, rel=0.02)


def test_the_background_tilts(one_star):
    frame = simulate_frame(CAMERA, 263.0, 1.0, catalog=one_star, background=1e4,
                           background_tilt=(0.5, -0.2))  # fmt: skip
    assert frame.image[:, :16].mean() == pytest.approx(1e4 * (1 - 0.24), rel=0.01)
    assert frame.image[:, -16:].mean() == pytest.approx(1e4 * (1 + 0.24), rel=0.01)
    assert frame.image[:16].mean() == pytest.approx(1e4 * (1 + 0.09), rel=0.01)


def test_charge_above_the_full_well_is_lost_or_bleeds(one_star):
    common = {"catalog": one_star, "epoch": 2000.0, "exposure_s": 1.0, **SILENT}
    whole = simulate_frame(CAMERA, 83.0, -1.0, **common)
    lost = simulate_frame(CAMERA, 83.0, -1.0, full_well_e=2e4, **common)
    bled = simulate_frame(CAMERA, 83.0, -1.0, full_well_e=2e4, bleeding=True, **common)
    assert whole.image.max() > 4e4
    assert lost.image.max() == bled.image.max() == 2e4
    assert lost.image.sum() < 0.9 * whole.image.sum()
    assert bled.image.sum() == pytest.approx(whole.image.sum(), rel=1e-5)
    rows = np.flatnonzero((bled.image == 2e4).any(axis=1))
    columns = np.flatnonzero((bled.image == 2e4).any(axis=0))
    assert np.ptp(rows) > np.ptp(columns)


def test_hot_pixels_stay_and_cosmic_rays_do_not(one_star):
    def bright(seed, **defects):
        frame = simulate_frame(CAMERA, 263.0, 1.0, catalog=one_star, seed=seed, **defects)
        return set(np.flatnonzero(frame.image > 250.0))

    assert not bright(1)
    assert len(bright(1, hot_pixels=100) & bright(2, hot_pixels=100)) > 50
    hits = bright(1, cosmic_rays=100)
    assert len(hits) > 50
    assert len(hits & bright(2, cosmic_rays=100)) < 5


def test_faint_stars_fill_up_what_the_catalogue_lacks():
    frame = simulate_frame(CAMERA, 83.0, -1.0, faint_limit=12.0)
    made_up = frame.stars[frame.stars.catalog_id == 0]
    assert made_up.magnitude.min() > 8.0
    assert made_up.magnitude.max() <= 12.0
    # The whole sky has 2.4 million stars to magnitude 12: some 6,700 on these 115 square degrees.
    assert 2_000 < len(frame.stars) < 25_000
    assert np.all(np.diff(frame.stars.flux) <= 0)
    assert np.all(made_up.flux > 0)


def test_the_seed_decides_everything():
    def make(seed):
        return simulate_frame(CAMERA, 83.0, -1.0, faint_limit=10.0, cosmic_rays=20, seed=seed)

    np.testing.assert_array_equal(make(5).image, make(5).image)
    assert (make(5).image != make(6).image).mean() > 0.99


@pytest.mark.parametrize("sip_order", [0, 4, 6])
def test_the_header_is_the_truth(tmp_path, sip_order):
    frame = simulate_tess_sector(14, binning=8)
    wcs = frame.wcs(sip_order=sip_order)
    x, y = np.random.default_rng(1).uniform(-127, 127, (2, 200))
    ra, dec = frame.pixel_to_world(x, y)
    miss = wcs.pixel_to_world(x + 128, y + 128).separation(SkyCoord(ra, dec, unit="deg")).arcsec
    assert miss.max() < {0: 60.0 * 60.0, 4: 2.0, 6: 0.02}[sip_order]
    centre = wcs.pixel_to_world(128, 128)
    assert centre.separation(SkyCoord(*frame.pixel_to_world(0.0, 0.0), unit="deg")).arcsec < 1e-6


def test_a_written_file_is_read_back(tmp_path):
    frame = simulate_tess_sector(1, binning=8)
    frame.write_fits(tmp_path / "a.fits")
    again = read_frame(tmp_path / "a.fits")
    np.testing.assert_array_equal(again.image, frame.image)
    assert abs((again.time - Time(frame.epoch, format="jyear", scale="tdb")).sec) < 1e-2
    sky = again.wcs.pixel_to_world(10.0, 20.0)
    truth = SkyCoord(*frame.pixel_to_world(10.0 - 128, 20.0 - 128), unit="deg")
    assert sky.separation(truth).arcsec < 0.05
    assert fits.getheader(tmp_path / "a.fits")["SIMULATE"]


@pytest.mark.parametrize("binning", [1, 4])
def test_the_tess_like_camera_is_the_same_binned_or_not(binning):
    camera = tess_like_camera(binning=binning)
    assert camera.image_shape == (2048 // binning, 2048 // binning)
    # Corner of the detector farthest from the axis: by the published optics, whatever the binning.
    corner = -0.5 - camera.image_shape[0] / 2
    direction = camera.pixel_to_direction(corner, corner)
    assert np.degrees(np.arccos(direction[2])) == pytest.approx(16.605, abs=0.005)
    x, _ = camera.direction_to_pixel([0.0, 0.0, 1.0])
    assert (x + camera.image_shape[1] / 2 + 0.5) * binning - 0.5 == pytest.approx(2104.0)
    assert len(TESS_SECTORS) == 10


@pytest.mark.parametrize(
    "bad",
    [
        {"ra_deg": np.nan}, {"dec_deg": np.inf}, {"roll_deg": np.nan}, {"epoch": np.inf},
        {"psf_fwhm_px": 0.0}, {"gain": -1.0}, {"exposure_s": np.nan}, {"read_noise_e": -1.0},
        {"background": np.inf}, {"moffat_beta": 1.0}, {"velocity_km_s": [1.0, 2.0]},
        {"velocity_km_s": [4e5, 0, 0]}, {"velocity_km_s": [np.nan, 0, 0]}, {"coma": -0.1},
        {"full_well_e": 0.0}, {"hot_pixels": -1}, {"faint_limit": np.nan}, {"stretch": np.nan},
        {"psf_fwhm_px": 1e-6}, {"seed": -1}, {"hot_pixels": 10**12}, {"cosmic_rays": 10**12},
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_by_name(bad, one_star):
    arguments = {"ra_deg": 83.0, "dec_deg": -1.0, "roll_deg": 0.0, "catalog": one_star} | bad
    with pytest.raises(InputError, match=f"^{next(iter(bad))}: "):
        simulate_frame(CAMERA, **arguments)
    with pytest.raises(InputError, match=r"^sector: "):
        simulate_tess_sector(7)
    with pytest.raises(InputError, match=r"^binning: "):
        tess_like_camera(binning=3)
