"""Other packages take the WCS of a solution as it is."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D, NDData
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_pixel
from astropy.wcs.wcsapi import HighLevelWCSWrapper, SlicedLowLevelWCS
from matplotlib import pyplot as plt

import boresight
from boresight import CameraModel, RadialDistortion, simulate_frame

LENS = RadialDistortion(0.02, scale=256)
CAMERA = CameraModel.from_fov(12.0, (400, 480), distortion=LENS)


@pytest.fixture(scope="module")
def truth():
    return simulate_frame(CAMERA, 83.8, -1.2, 30.0, seed=1)


@pytest.fixture(scope="module")
def wcs(truth, wide_database):
    return boresight.solve(truth.image, 12.0, database=wide_database).wcs()


def test_astropy_cuts_out_and_keeps_the_sky(truth, wcs):
    data = CCDData(truth.image, unit="adu", wcs=wcs)
    cut = Cutout2D(data.data, (300, 100), (50, 60), wcs=data.wcs)
    there = cut.wcs.pixel_to_world(0, 0)
    x, y = wcs.world_to_pixel(there)
    assert (x, y) == pytest.approx(cut.origin_original, abs=1e-3)


def test_axes_of_astropy_show_it(truth, wcs):
    figure = plt.figure()
    ax = figure.add_subplot(projection=wcs)
    ax.imshow(truth.image)
    ax.coords.grid()
    figure.canvas.draw()
    assert ax.coords[0].coord_type == "longitude"
    plt.close(figure)


def test_reproject_puts_stars_where_they_belong(truth, wcs):
    reproject = pytest.importorskip("reproject")
    north_up = WCS(naxis=2)
    north_up.wcs.ctype, north_up.wcs.crval = ["RA---TAN", "DEC--TAN"], [83.8, -1.2]
    north_up.wcs.crpix, north_up.wcs.cdelt = [300.5, 300.5], [-0.025, 0.025]
    header = wcs.to_header(relax=True)
    image, footprint = reproject.reproject_interp(
        fits.PrimaryHDU(truth.image, header), north_up, shape_out=(600, 600)
    )
    inside = np.hypot(truth.stars.x, truth.stars.y) < 150
    ra, dec = truth.stars.ra_deg[inside][:5], truth.stars.dec_deg[inside][:5]
    columns, rows = north_up.all_world2pix(ra, dec, 0)
    for column, row in zip(columns, rows, strict=True):
        x, y = round(float(column)), round(float(row))
        near = image[y - 6 : y + 7, x - 6 : x + 7] - np.nanmedian(image)
        grid = np.mgrid[y - 6 : y + 7, x - 6 : x + 7]
        light = np.clip(near, 0.3 * near.max(), None) - 0.3 * near.max()
        center = (grid * light).sum(axis=(1, 2)) / light.sum()
        assert np.hypot(center[1] - column, center[0] - row) < 0.5
    assert footprint.max() == 1.0


def test_regions_of_ds9_are_on_the_stars(truth, wcs, wide_database, tmp_path):
    regions = pytest.importorskip("regions")
    from boresight.solver.products import write_regions

    stars = boresight.extract_centroids(truth.image).centroids
    solution = boresight.solve(truth.image, 12.0, database=wide_database)
    path = write_regions(tmp_path / "stars.reg", solution, stars)
    read = regions.Regions.read(path, format="ds9")
    assert len(read) >= solution.num_matches
    sky = regions.CircleSkyRegion(wcs.pixel_to_world(100.0, 80.0), 0.1 * u.deg)
    circle = sky.to_pixel(wcs)
    assert (circle.center.x, circle.center.y) == pytest.approx((100.0, 80.0), abs=1e-4)
    assert circle.radius == pytest.approx(360.0 / CAMERA.pixel_scale_arcsec, rel=0.02)


def test_ccdproc_projects_and_combines_it(truth, wcs):
    ccdproc = pytest.importorskip("ccdproc")
    pytest.importorskip("reproject")
    frame = CCDData(truth.image.astype(float), unit="adu", wcs=wcs)
    moved = wcs.deepcopy()
    moved.wcs.crpix += [7.0, -5.0]
    shifted = ccdproc.wcs_project(frame, moved)
    there = shifted.data[50:350, 50:430]
    here = truth.image[55:355, 43:423]
    # Interpolation smooths the noise; the stars fall on each other.
    assert np.corrcoef(there.ravel(), here.ravel())[0, 1] > 0.9


def test_photutils_measures_at_sky_positions(truth, wcs):
    aperture = pytest.importorskip("photutils.aperture")
    inside = np.flatnonzero(np.hypot(truth.stars.x, truth.stars.y) < 180)
    bright = inside[np.argsort(truth.stars.magnitude[inside])[:5]]
    stars = SkyCoord(truth.stars.ra_deg[bright], truth.stars.dec_deg[bright], unit="deg")
    circles = aperture.SkyCircularAperture(stars, 4 * CAMERA.pixel_scale_arcsec * u.arcsec)
    table = aperture.aperture_photometry(truth.image - 20.0, circles, wcs=wcs)
    height, width = CAMERA.image_shape
    x, y = (circles.to_pixel(wcs).positions - np.array([width, height]) / 2).T
    x, y = x - truth.stars.x[bright], y - truth.stars.y[bright]
    assert np.hypot(x, y).max() < 0.1
    # One electron for a star of magnitude 20.
    light = np.asarray(table["aperture_sum"]) / 10 ** (0.4 * (20.0 - truth.stars.magnitude[bright]))
    assert np.median(light) == pytest.approx(1.0, abs=0.1)


def test_columns_are_named_as_those_of_photutils(truth):
    detection = pytest.importorskip("photutils.detection")
    finder = detection.DAOStarFinder(threshold=200.0, fwhm=2.0)
    found = finder(truth.image - np.median(truth.image))
    stars = boresight.Centroids.from_any(found, image_shape=CAMERA.image_shape)
    own = boresight.extract_centroids(truth.image).centroids
    for name in ("sharpness", "peak"):
        assert name in found.colnames
        assert hasattr(own, name)
    near = np.hypot(stars.x[:, None] - own.x, stars.y[:, None] - own.y).min(axis=1)
    assert np.median(near) < 0.1


def test_viewers_find_what_they_ask_a_wcs(truth, wcs):
    """glue and jdaviz take an NDData and use the shared interface of WCS (APE 14)."""
    data = NDData(truth.image, wcs=wcs)
    low = data.wcs.low_level_wcs
    assert low.pixel_n_dim == low.world_n_dim == 2
    assert low.world_axis_physical_types == ["pos.eq.ra", "pos.eq.dec"]
    assert low.array_shape == truth.image.shape
    high = HighLevelWCSWrapper(SlicedLowLevelWCS(low, (slice(50, 250), slice(100, 300))))
    assert high.array_shape == (200, 200)
    there = high.pixel_to_world(10, 20)
    assert there.separation(wcs.pixel_to_world(110, 70)).arcsec < 1e-6
    # glue links two images by their WCS: the pixels of one in the other, and back.
    other = WCS(naxis=2)
    other.wcs.ctype, other.wcs.crval = ["RA---TAN", "DEC--TAN"], [83.8, -1.2]
    other.wcs.crpix, other.wcs.cdelt = [300.5, 300.5], [-0.025, 0.025]
    pixels = np.array([[100.0, 300.0], [50.0, 200.0]])
    x, y = pixel_to_pixel(wcs, other, *pixels)
    back = pixel_to_pixel(other, wcs, x, y)
    np.testing.assert_allclose(back, pixels, atol=1e-3)
