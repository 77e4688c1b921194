"""WCS export against astropy, both ways, everywhere on the sky."""

import warnings

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from boresight import (
    CameraModel,
    InputError,
    PolynomialDistortion,
    RadialDistortion,
    UndeterminedError,
)
from boresight.wcs import fit_tpv, fit_wcs, from_fits_pixel, to_fits_pixel

SHAPE = (768, 1024)
RADIAL = RadialDistortion(-0.03, 0.004, scale=512.0)


def polynomial(order):
    rng = np.random.default_rng(order)
    n = (order + 1) * (order + 2) // 2
    return PolynomialDistortion(order, 512.0, *rng.uniform(-3, 3, (2, n)))


def looking(camera, ra_deg, dec_deg, roll_deg):
    """Pixel to ICRS of a camera at a pointing."""
    ra, dec, roll = np.radians([ra_deg, dec_deg, roll_deg])
    z = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.cross(z, east)
    up = north * np.cos(roll) + east * np.sin(roll)
    axes = np.array([np.cross(-up, z), -up, z])
    return lambda pixels: camera.pixel_to_direction(pixels[:, 0], pixels[:, 1]) @ axes


def grid(n=23):
    """0-based columns and rows over the image, and the same from its centre."""
    col, row = np.meshgrid(np.linspace(0, SHAPE[1] - 1, n), np.linspace(0, SHAPE[0] - 1, n))
    col, row = col.ravel(), row.ravel()
    return col, row, np.column_stack([col - SHAPE[1] / 2, row - SHAPE[0] / 2])


def errors_px(wcs, look, focal):
    """Largest errors of astropy's two directions against the mapping, in pixels."""
    col, row, pixels = grid()
    true = look(pixels)
    sky = wcs.pixel_to_world(col, row)
    forward = np.linalg.norm(sky.icrs.cartesian.xyz.value.T - true, axis=1) * focal
    target = SkyCoord(*true.T, representation_type="cartesian", frame="icrs")
    back = np.hypot(*(np.array(wcs.world_to_pixel(target)) - (col, row)))
    return forward.max(), back.max()


CAMERAS = {
    "pinhole": (CameraModel(2500.0, SHAPE), 1),
    "mirrored": (CameraModel(2500.0, SHAPE, parity_flip=True), 1),
    "polynomial": (CameraModel(2500.0, SHAPE, distortion=polynomial(4)), 4),
    "mirrored polynomial": (
        CameraModel(2500.0, SHAPE, parity_flip=True, distortion=polynomial(3)),
        3,
    ),
    "radial": (CameraModel(2500.0, SHAPE, distortion=RADIAL), None),
    "off axis": (
        CameraModel(
            9700.0,
            SHAPE,
            optical_center=(800.0, -700.0),
            distortion=RadialDistortion(-0.01, scale=512.0),
        ),
        None,
    ),
}
POINTINGS = [(83.0, -1.0, 20.0), (359.9, 89.0, 200.0), (10.0, 90.0, 0.0), (123.0, -90.0, 77.0)]


@pytest.mark.parametrize(("camera", "order"), CAMERAS.values(), ids=CAMERAS.keys())
@pytest.mark.parametrize("pointing", POINTINGS, ids=str)
def test_astropy_agrees(camera, order, pointing):
    look = looking(camera, *pointing)
    wcs, accuracy = fit_wcs(look, SHAPE)
    assert accuracy.reached
    if order is not None:
        # Exact but for rounding, and no higher than needed.
        assert accuracy.order <= order
    forward, back = errors_px(wcs, look, camera.focal_length_px)
    assert forward < 0.012
    assert back < 0.012
    assert forward < 1.3 * accuracy.max_error_px + 1e-6


@pytest.mark.parametrize("camera", [c for c, _ in CAMERAS.values()], ids=CAMERAS.keys())
def test_the_header_says_the_same(camera):
    wcs, _ = fit_wcs(looking(camera, 83.0, -1.0, 20.0), SHAPE)
    header = wcs.to_header(relax=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = WCS(fits.Header.fromstring(header.tostring()))
    col, row, _ = grid()
    np.testing.assert_allclose(
        back.all_pix2world(col, row, 0), wcs.all_pix2world(col, row, 0), atol=1e-9
    )


def test_the_inverse_polynomials_are_the_inverse():
    """AP and BP, which astropy's own inverse ignores, by the definition in the SIP paper."""
    camera = CAMERAS["radial"][0]
    look = looking(camera, 83.0, -1.0, 20.0)
    wcs, accuracy = fit_wcs(look, SHAPE, tolerance_px=1e-3)
    col, row, pixels = grid()
    focal = wcs.wcs_world2pix(wcs.all_pix2world(np.column_stack([col, row]), 0), 0)
    u, v = (focal - (wcs.wcs.crpix - 1)).T
    header = wcs.to_header(relax=True)
    x, y = u.copy(), v.copy()
    for p in range(header["AP_ORDER"] + 1):
        for q in range(header["AP_ORDER"] + 1 - p):
            x += header.get(f"AP_{p}_{q}", 0.0) * u**p * v**q
            y += header.get(f"BP_{p}_{q}", 0.0) * u**p * v**q
    miss = np.hypot(*(np.column_stack([x, y]) - pixels).T)
    assert miss.max() < 2e-3
    assert accuracy.max_inverse_error_px < 1e-3


def test_the_tolerance_decides_the_order():
    look = looking(CAMERAS["radial"][0], 83.0, -1.0, 20.0)
    orders = [fit_wcs(look, SHAPE, tolerance_px=t)[1].order for t in (30.0, 1.0, 0.1, 1e-3, 1e-5)]
    assert orders[0] == 1
    assert orders == sorted(orders)
    assert orders[-1] > 3
    _, limited = fit_wcs(look, SHAPE, tolerance_px=1e-5, max_order=2)
    assert not limited.reached
    assert limited.max_error_px > 0.01


def test_the_center_is_the_reference_pixel():
    wcs, _ = fit_wcs(looking(CAMERAS["pinhole"][0], 83.0, -1.0, 0.0), SHAPE)
    assert wcs.pixel_shape == (1024, 768)
    sky = wcs.pixel_to_world(512, 384)
    assert sky.ra.deg == pytest.approx(83.0, abs=1e-12)
    assert sky.dec.deg == pytest.approx(-1.0, abs=1e-12)
    # North up and east left, as on the sky seen from inside.
    assert wcs.pixel_to_world(512, 383).dec > sky.dec
    assert wcs.pixel_to_world(511, 384).ra > sky.ra


@given(
    st.floats(-1e5, 1e5),
    st.floats(-1e5, 1e5),
    st.tuples(st.integers(1, 9999), st.integers(1, 9999)),
)
def test_fits_pixels_round_trip(x, y, shape):
    np.testing.assert_allclose(
        from_fits_pixel(*to_fits_pixel(x, y, shape), shape), (x, y), atol=1e-9
    )
    np.testing.assert_allclose(to_fits_pixel(-shape[1] / 2, -shape[0] / 2, shape), (1, 1))


def test_pixels_that_see_nothing_are_left_out():
    camera = CAMERAS["radial"][0]
    look = looking(camera, 83.0, -1.0, 20.0)

    def vignetted(pixels):
        return np.where(np.hypot(*pixels.T)[:, None] < 500, look(pixels), np.nan)

    wcs, accuracy = fit_wcs(vignetted, SHAPE)
    assert accuracy.reached
    true = look(np.array([[300.0, 100.0]]))[0]
    sky = wcs.pixel_to_world(812, 484).cartesian.xyz.value
    assert np.linalg.norm(true - sky) * 2500 < 0.01


def test_bad_input_is_refused_by_name():
    look = looking(CAMERAS["pinhole"][0], 0, 0, 0)
    for options, name in (
        ({"tolerance_px": 0.0}, "tolerance_px"),
        ({"tolerance_px": np.nan}, "tolerance_px"),
        ({"max_order": 10}, "max_order"),
        ({"max_order": 0}, "max_order"),
    ):
        with pytest.raises(InputError, match=name):
            fit_wcs(look, SHAPE, **options)
    with pytest.raises(InputError, match="image_shape"):
        fit_wcs(look, (0, 10))
    with pytest.raises(UndeterminedError, match="centre sees"):
        fit_wcs(lambda pixels: np.full((len(pixels), 3), np.nan), SHAPE)

    def fisheye(pixels):
        return Rotation.from_rotvec(np.pad(pixels, ((0, 0), (0, 1))) / 200).apply([0, 0, 1.0])

    with pytest.raises(UndeterminedError, match="87 degrees"):
        fit_wcs(fisheye, SHAPE)


@pytest.mark.parametrize("name", CAMERAS)
@pytest.mark.parametrize("pointing", [(10.0, 20.0, 30.0), (359.9, -89.0, 200.0)])
def test_tpv_agrees_with_astropy_through_a_header(name, pointing):
    camera = CAMERAS[name][0]
    look = looking(camera, *pointing)
    header, accuracy = fit_tpv(look, SHAPE)
    assert accuracy.reached
    assert header["CTYPE1"] == "RA---TPV"
    read = WCS(fits.Header.fromstring(header.tostring()))
    col, row, pixels = grid()
    sky = read.pixel_to_world(col, row).icrs.cartesian.xyz.value.T
    forward = np.linalg.norm(sky - look(pixels), axis=1) * camera.focal_length_px
    # A header has 14 digits or so, and the error is measured at other points.
    assert forward.max() < 1.2 * accuracy.max_error_px + 1e-6


def test_tpv_tells_when_it_does_not_reach():
    camera = CameraModel(2500.0, SHAPE, distortion=polynomial(5))
    _, accuracy = fit_tpv(looking(camera, 10.0, 20.0, 30.0), SHAPE, max_order=3)
    assert not accuracy.reached
    assert accuracy.max_error_px > 0.01
    with pytest.raises(InputError, match="max_order: 8"):
        fit_tpv(looking(camera, 0.0, 0.0, 0.0), SHAPE, max_order=8)
