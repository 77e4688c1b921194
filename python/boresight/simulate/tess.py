"""Simulated frames of a TESS-like camera, with the distortion, pointings and noise of TESS."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from boresight._utils.naming import named
from boresight.apparent.aberration import earth_barycentric_velocity
from boresight.camera.model import CameraModel, RadialDistortion
from boresight.errors import InputError
from boresight.simulate.frame import SimulatedFrame, simulate_frame

if TYPE_CHECKING:
    from boresight.catalog.catalog import Catalog

#: By sector: RA, Dec and roll of the axis of camera 1 in degrees, and middle of the frame (UTC).
TESS_SECTORS = {
    1: (324.48, -33.17, 160.01, "2018-08-09T03:38:51"),
    2: (352.01, -23.07, 155.45, "2018-09-07T02:13:51"),
    3: (17.10, -12.23, 156.35, "2018-10-05T03:48:51"),
    4: (41.74, -2.76, 161.73, "2018-11-02T01:08:51"),
    5: (66.99, 3.55, 170.50, "2018-11-29T01:08:51"),
    6: (92.75, 5.43, -178.94, "2018-12-25T14:28:51"),
    13: (283.96, -40.88, 174.12, "2019-07-04T02:48:51"),
    14: (297.83, 29.18, -16.48, "2019-08-01T20:03:51"),
    15: (316.98, 35.57, -26.35, "2019-08-29T10:23:51"),
    17: (17.45, 26.89, -23.60, "2019-10-21T05:18:51"),
}

#: A quadrant of a TESS camera: pixels per side, focal length, 0-based column and row of the optical
#: axis, and radial distortion coefficients for radii in units of half the size, fitted to the
#: published focal-plane geometry.
TESS_SIZE = 2048
TESS_FOCAL_LENGTH_PX = 9731.3
TESS_AXIS_PX = 2104.0
TESS_DISTORTION = (-2.527e-3, -3.94e-5, -1.13e-6)

#: Faintest magnitude of the random stars without binning; binned frames have a brighter limit.
TESS_FAINT_LIMIT = 11.0


@named
def tess_like_camera(*, binning: int = 1) -> CameraModel:
    """Make a camera model like a quadrant of a TESS camera: 12 degrees wide, axis off the chip.

    Parameters
    ----------
    binning : int
        Detector pixels per side of an image pixel; the detector has 2048 x 2048. Default 1.

    Returns
    -------
    CameraModel
        A square of 2048 / binning pixels per side. The optical axis meets the plane of the detector
        at the 0-based detector pixel (2104, 2104). The radial distortion reaches 3 % at the
        farthest corner.

    Examples
    --------
    >>> from boresight.simulate import tess_like_camera
    >>> camera = tess_like_camera()
    >>> round(camera.fov_deg, 1), round(camera.pixel_scale_arcsec, 1)
    (12.0, 21.2)
    """
    if binning < 1 or TESS_SIZE % binning:
        raise InputError(f"binning: {binning} does not divide {TESS_SIZE}; give a power of two")
    center = (TESS_AXIS_PX - TESS_SIZE / 2 + 0.5) / binning - 0.5
    k1, k2, k3 = TESS_DISTORTION
    return CameraModel(
        TESS_FOCAL_LENGTH_PX / binning,
        (TESS_SIZE // binning, TESS_SIZE // binning),
        optical_center=(center, center),
        distortion=RadialDistortion(k1, k2, k3, scale=TESS_SIZE / 2 / binning),
    )


@named
def simulate_tess_sector(
    sector: int, *, binning: int = 1, catalog: Catalog | None = None, seed: int = 1
) -> SimulatedFrame:
    """Simulate a calibrated full frame of a TESS-like camera, in electrons per second.

    Parameters
    ----------
    sector : int
        One of `TESS_SECTORS`. It sets the pointing, roll, date and velocity of the Earth.
    binning : int
        Detector pixels per side of an image pixel; a larger number is faster. Default 1.
    catalog : Catalog, optional
        Stars to draw. Default: Hipparcos.
    seed : int
        Seed of all random numbers, together with the sector.

    Returns
    -------
    SimulatedFrame
        Image and truth.

    Raises
    ------
    InputError
        If the sector is not in `TESS_SECTORS`, or the binning does not divide 2048.

    Examples
    --------
    >>> from boresight.simulate import simulate_tess_sector
    >>> frame = simulate_tess_sector(14, binning=8)
    >>> frame.image.shape
    (256, 256)
    """
    from astropy.time import Time

    if sector not in TESS_SECTORS:
        raise InputError(f"sector: {sector!r} is not known; give one of {list(TESS_SECTORS)}")
    ra, dec, roll, date = TESS_SECTORS[sector]
    middle = Time(date, scale="utc")
    return simulate_frame(
        tess_like_camera(binning=binning), ra, dec, roll,
        catalog=catalog, epoch=float(middle.tdb.jyear),
        velocity_km_s=earth_barycentric_velocity(middle),
        psf_fwhm_px=1.9, stretch=0.45, coma=0.2,
        zero_point=20.44, exposure_s=1425.6, gain=1425.6, read_noise_e=268.0, background=110.0,
        background_tilt=(0.2, -0.15), full_well_e=1.0e5 * 1425.6, bleeding=True,
        hot_pixels=1000, cosmic_rays=200,
        faint_limit=TESS_FAINT_LIMIT - 5.0 * math.log10(binning), seed=seed * 1000 + sector,
    )  # fmt: skip
