"""Other packages take the WCS of a solution as it is."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D
from astropy.wcs import WCS
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
