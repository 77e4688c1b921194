"""The FITS WCS of a camera at an attitude."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boresight.camera.model import CameraModel
from boresight.errors import InputError, UndeterminedError
from boresight.wcs.fits import SIP_MAX_ORDER, fit_tpv, fit_wcs

if TYPE_CHECKING:
    from astropy.wcs import WCS

Floats = NDArray[np.float64]


def fit_camera_wcs(
    camera: CameraModel,
    pixel_to_direction: Callable[[Floats], Floats],
    star_directions: Floats,
    tolerance_px: float,
    sip: str = "auto",
) -> WCS:
    """Fit an `astropy.wcs.WCS` to the pixel-to-sky mapping of a camera.

    Parameters
    ----------
    camera : CameraModel
        The camera.
    pixel_to_direction : callable
        Maps pixels (n, 2) from the image centre to ICRS unit vectors (n, 3).
    star_directions : ndarray, shape (n, 3)
        Directions of the matched stars in the camera frame. The WCS of a fisheye is fitted out to
        the star farthest from the axis.
    tolerance_px : float
        Largest allowed error over the image, pixels.
    sip : {"auto", "none", "tpv"}
        Form of the distortion, as for `Solution.wcs`.

    Returns
    -------
    astropy.wcs.WCS
        The WCS that `Solution.wcs` documents.

    Raises
    ------
    UndeterminedError
        As in `Solution.wcs`.
    """
    if sip not in ("auto", "none", "tpv"):
        raise InputError(f"sip: {sip!r} is unknown; give 'auto', 'none' or 'tpv'")
    max_order = 1 if sip == "none" else SIP_MAX_ORDER
    if sip == "tpv":
        return _tpv(camera, pixel_to_direction, tolerance_px)
    if camera.projection == "gnomonic":
        return fit_wcs(
            pixel_to_direction, camera.image_shape, tolerance_px=tolerance_px, max_order=max_order
        )[0]
    x, y = camera.direction_to_pixel([0.0, 0.0, 1.0])
    if not np.isfinite([x, y]).all():
        raise UndeterminedError("no pixel sees the optical axis, so no WCS can be centred on it")
    stars = camera.direction_to_pixel(star_directions)
    wcs, accuracy = fit_wcs(
        pixel_to_direction,
        camera.image_shape,
        tolerance_px=tolerance_px,
        max_order=max_order,
        projection=camera.projection,
        center=(float(x), float(y)),
        reach_px=float(np.nanmax(np.hypot(stars[0] - x, stars[1] - y))),
    )
    if not accuracy.reached and sip == "auto":
        raise UndeterminedError(
            f"SIP misses this fisheye's distortion by up to {accuracy.max_error_px:.3g} px "
            f"(its inverse by {accuracy.max_inverse_error_px:.3g}), more than "
            f"tolerance_px={tolerance_px:g}; allow more"
        )
    return wcs


def _tpv(
    camera: CameraModel, pixel_to_direction: Callable[[Floats], Floats], tolerance_px: float
) -> WCS:
    from astropy.wcs import WCS

    if camera.projection != "gnomonic":
        raise InputError("sip: TPV is for tangent planes, and this is a fisheye; give 'auto'")
    header, _ = fit_tpv(pixel_to_direction, camera.image_shape, tolerance_px=tolerance_px)
    wcs = WCS(header)
    height, width = camera.image_shape
    wcs.pixel_shape = (width, height)
    return wcs
