"""Conversion of a camera at an attitude to a `gwcs.WCS`, an exact compound of astropy's models.

A FITS header must approximate whatever its conventions do not define. astropy's models can be
combined, and ASDF stores them. So the mapping here is exact, and a reader of the file does not need
Boresight.

Every distortion is a pair of polynomials, every projection is one of FITS's, and every attitude is
a rotation. Aberration by an observer of the velocity β moves a star at the angle θ from the apex to
θ' with ``tan(θ'/2) = sqrt((1 - β) / (1 + β)) tan(θ/2)`` (Einstein 1905), which is a change of scale
on the stereographic plane about the apex. Refraction changes the altitude by a cubic of its
cotangent.

The polynomials and the refraction have no closed formula for the inverse. The inverse is a fixed
number of fixed-point iterations, each of them a model.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight._utils.arrays import longitude_latitude
from boresight._utils.extras import missing_extra
from boresight.apparent.aberration import SPEED_OF_LIGHT_KM_S
from boresight.apparent.place import ApparentPlace
from boresight.apparent.refraction import LOWEST_ALTITUDE_DEG, Refraction
from boresight.apparent.refraction import ROUNDS as REFRACTION_ROUNDS
from boresight.camera.distortion import PolynomialDistortion, RadialDistortion
from boresight.camera.model import CameraModel
from boresight.errors import InputError, UndeterminedError
from boresight.wcs.planes import FITS_CODES
from boresight.wcs.polynomials import (
    Polynomials,
    check_points,
    fit_nodes,
    largest,
    lowest_order,
)

if TYPE_CHECKING:
    from astropy.modeling import Model
    from gwcs import WCS


Floats = NDArray[np.float64]

LENS_ROUNDS = 8
"""Fixed-point iterations for the inverse of the distortion. Each makes the error of the starting
polynomials a hundred to a million times smaller."""

MAX_INVERSE_ORDER = 9
"""Highest order of the polynomials from which the iterations for the inverse start."""

ROUND_TRIP_PX = 1e-6
"""Largest error of pixel to direction to pixel for a pixel that is imaged one to one, pixels."""


def make_gwcs(
    camera: CameraModel, rotation: Floats, place: ApparentPlace, tolerance_px: float = 1e-6
) -> WCS:
    """Make a `gwcs.WCS` from a camera, its attitude, and the apparent place of its stars.

    Parameters
    ----------
    camera : CameraModel
        The camera.
    rotation : ndarray, shape (3, 3)
        Rotation matrix that turns apparent directions along the axes of ICRS to the camera frame.
    place : ApparentPlace
        Aberration and refraction to remove.
    tolerance_px : float
        Largest allowed error of the inverse, pixels.

    Returns
    -------
    gwcs.WCS
        The WCS that `Solution.gwcs` documents.

    Raises
    ------
    ModuleNotFoundError, InputError, UndeterminedError
        As in `Solution.gwcs`.
    """
    if not tolerance_px > 0:
        raise InputError(f"tolerance_px: {tolerance_px} is not positive; give pixels, such as 1e-6")
    try:
        import gwcs
    except ModuleNotFoundError as error:
        raise missing_extra("gwcs", "gwcs") from error
    from astropy import units
    from astropy.coordinates import ICRS
    from gwcs import coordinate_frames

    detector, ideal = (
        coordinate_frames.Frame2D(name=name, axes_order=(0, 1), unit=(units.pix, units.pix))
        for name in ("detector", "ideal")
    )
    icrs = coordinate_frames.CelestialFrame(reference_frame=ICRS(), name="icrs")
    sky = _to_sky(camera, rotation, place)
    wcs = gwcs.WCS([(detector, _lens(camera, tolerance_px)), (ideal, sky), (icrs, None)])
    height, width = camera.image_shape
    wcs.bounding_box = ((-0.5, width - 0.5), (-0.5, height - 0.5))
    wcs.pixel_shape = (width, height)
    return wcs


def asdf_bytes(wcs: WCS) -> bytes:
    """Content of an ASDF file that holds the WCS under the key "wcs"."""
    from io import BytesIO

    try:
        import asdf
    except ModuleNotFoundError as error:
        raise missing_extra("asdf", "gwcs") from error
    buffer = BytesIO()
    asdf.AsdfFile({"wcs": wcs}).write_to(buffer)
    return buffer.getvalue()


def _lens(camera: CameraModel, tolerance_px: float) -> Model:
    """Make the model from 0-based pixels to ideal points, in pixels from the optical centre."""
    height, width = camera.image_shape
    center = np.add(camera.optical_center, (width / 2, height / 2))
    distortion = camera.distortion
    if distortion is None:
        return _shift(-center)
    pixels, checks = (
        _imaged(camera, points(camera.image_shape)) for points in (fit_nodes, check_points)
    )
    return _shift(-center) | _invertible(_polynomials(distortion), pixels, checks, tolerance_px)


def bend_model(bend: Polynomials, image_shape: tuple[int, int]) -> Model:
    """Make the model that moves 0-based pixels by polynomials about the middle of an image.

    Parameters
    ----------
    bend : Polynomials
        Displacement of a pixel as a function of its position from the middle of the image, pixels.
    image_shape : (int, int)
        (height, width).

    Returns
    -------
    astropy.modeling.Model
        A model of two inputs and two outputs. It has an inverse if its error is within 1e-6 px.
    """
    middle = np.array(image_shape[::-1]) / 2
    polynomials = _whole(bend.a, bend.b)
    try:
        there = _invertible(
            polynomials, fit_nodes(image_shape), check_points(image_shape), ROUND_TRIP_PX
        )
    except UndeterminedError:
        there = _pair(polynomials)
    return _shift(-middle) | there | _shift(middle)


def _invertible(
    polynomials: Polynomials, pixels: Floats, checks: Floats, tolerance_px: float
) -> Model:
    """Make a model of polynomials with an inverse, fitted at `pixels` and checked at `checks`."""
    bend = _pair(polynomials)
    # The inverse is set on a copy: ASDF cannot read an inverse that contains its own model.
    there = bend.copy()
    there.inverse = _inverse(bend, pixels, checks, tolerance_px)
    return there


def _whole(a: Floats, b: Floats) -> Polynomials:
    """Polynomials of the new position of a pixel, from the polynomials of its displacement."""
    a, b = a.copy(), b.copy()
    a[1, 0] += 1.0
    b[0, 1] += 1.0
    return Polynomials(a, b)


def _polynomials(distortion: PolynomialDistortion | RadialDistortion) -> Polynomials:
    """Express the distortion as polynomials of pixels from the optical centre."""
    if isinstance(distortion, PolynomialDistortion):
        bend = Polynomials.of_lens(distortion)
        a, b = bend.a, bend.b
    else:
        a, b = np.zeros((2, 10, 10))
        for n in range(1, 5):
            k = getattr(distortion, f"k{n}") / distortion.scale ** (2 * n)
            for i in range(n + 1):  # R^2n = (X^2 + Y^2)^n
                a[2 * i + 1, 2 * (n - i)] = b[2 * i, 2 * (n - i) + 1] = k * math.comb(n, i)
        p1, p2 = distortion.p1 / distortion.scale, distortion.p2 / distortion.scale
        a[1, 1], a[2, 0], a[0, 2] = 2 * p1, 3 * p2, p2
        b[1, 1], b[0, 2], b[2, 0] = 2 * p2, 3 * p1, p1
    return _whole(a, b)


def _inverse(bend: Model, pixels: Floats, checks: Floats, tolerance_px: float) -> Model:
    """Make the inverse of the distortion: fitted polynomials, refined by fixed-point iterations."""
    ideal, check_ideal = np.column_stack(bend(*pixels.T)), np.column_stack(bend(*checks.T))
    middle = ideal.mean(axis=0)

    def of_order(order: int) -> tuple[float, Model]:
        back = Polynomials.fit(ideal - middle, pixels, range(order + 1))
        guess = _shift(-middle) | _pair(back)
        inverse = guess | _undone((bend | guess) - _same(2), LENS_ROUNDS)
        with np.errstate(over="ignore", invalid="ignore"):
            error = largest(np.column_stack(inverse(*check_ideal.T)) - checks)
        return (error if np.isfinite(error) else np.inf), inverse

    error, inverse = lowest_order(of_order, range(1, MAX_INVERSE_ORDER + 1), tolerance_px)
    if not error <= tolerance_px:
        raise UndeterminedError(
            f"the inverse of this distortion is missed by up to {error:.3g} px, more than "
            f"tolerance_px={tolerance_px:g}; allow more"
        )
    return inverse


def _imaged(camera: CameraModel, pixels: Floats) -> Floats:
    """Return the pixels that are imaged one to one, relative to the optical centre."""
    back = np.column_stack(camera.direction_to_pixel(camera.pixel_to_direction(*pixels.T)))
    with np.errstate(invalid="ignore"):
        kept = np.hypot(*(back - pixels).T) < ROUND_TRIP_PX
    if not kept.any():
        raise UndeterminedError("the camera model maps no pixel to a direction and back")
    there: Floats = pixels[kept] - camera.optical_center
    return there


def _to_sky(camera: CameraModel, rotation: Floats, place: ApparentPlace) -> Model:
    """Make the model from ideal points to ICRS that removes refraction and aberration."""
    from astropy.modeling import models

    degrees_per_px = math.degrees(1.0 / camera.focal_length_px)
    across = -degrees_per_px if camera.parity_flip else degrees_per_px
    projection = getattr(models, f"Pix2Sky_{FITS_CODES[camera.projection]}")()
    # FITS measures the longitude on its projection plane from -y to x.
    right, down, out = rotation
    axes = np.array([-down, right, out])
    model = models.Scale(across) & models.Scale(degrees_per_px) | projection
    # Aberration acts on the light before refraction, so refraction is removed first.
    for about in (_air(place.refraction), _motion(place.velocity_km_s, out)):
        if about is not None:
            pole, undo = about
            there = _axes_about(pole)
            model = model | _turn(axes, there) | undo
            axes = there
    return model | _turn(axes, np.eye(3))


def _air(refraction: Refraction | None) -> tuple[Floats, Model] | None:
    """Pole (the zenith), and the model that removes refraction from longitudes and altitudes."""
    if refraction is None:
        return None
    from astropy.modeling import models

    # The altitude a is limited to at least the lowest: lowest + (y + |y|) / 2, y = a - lowest.
    above = models.Shift(-LOWEST_ALTITUDE_DEG) | (
        _same(1) + models.math.AbsoluteUfunc()
        | models.Scale(0.5)
        | models.Shift(LOWEST_ALTITUDE_DEG)
    )
    cotangent = models.Tangent1D(amplitude=1.0, frequency=-1.0 / 360.0, phase=0.25)
    a, b = np.degrees([refraction.a_rad, refraction.b_rad])
    bend = above | cotangent | models.Polynomial1D(3, c1=-a, c3=-b)
    lowered = _same(1) + bend
    lowered.inverse = _undone(bend, REFRACTION_ROUNDS)
    return np.array(refraction.zenith), _same(1) & lowered


def _motion(velocity_km_s: ArrayLike | None, looking: Floats) -> tuple[Floats, Model] | None:
    """Pole (the apex or the antapex), and the model that removes aberration."""
    speed = 0.0 if velocity_km_s is None else float(np.linalg.norm(np.asarray(velocity_km_s)))
    if speed == 0.0:
        return None
    from astropy.modeling import models

    beta = speed / SPEED_OF_LIGHT_KM_S
    pole = np.asarray(velocity_km_s) / speed
    if pole @ looking < 0.0:
        # The plane cannot represent the point opposite to its pole: keep it behind the camera.
        pole, beta = -pole, -beta
    scale = models.Scale(math.sqrt((1.0 + beta) / (1.0 - beta)))
    return pole, models.Sky2Pix_STG() | scale & scale.copy() | models.Pix2Sky_STG()


def _turn(axes: Floats, there: Floats) -> Model:
    """Make the rotation of longitudes and latitudes from the axes `axes` to the axes `there`.

    The rows of both are the axes in ICRS.
    """
    from astropy.modeling import models

    turn = there @ axes.T
    lon, lat = longitude_latitude(turn[:, 2])
    # At a pole the longitude is arbitrary; `_axes_about` uses the same longitude as `lon` above.
    south = _axes_about(turn[:, 2])[0]
    lon_pole = np.arctan2(-south @ turn[:, 1], -south @ turn[:, 0])
    return models.RotateNative2Celestial(*(float(np.degrees(x)) for x in (lon, lat, lon_pole)))


def _axes_about(pole: Floats) -> Floats:
    """Axes as rows: south, east, and out, which is the pole."""
    lon, lat = longitude_latitude(pole)
    (sin_lon, sin_lat), (cos_lon, cos_lat) = np.sin([lon, lat]), np.cos([lon, lat])
    return np.array(
        [
            [sin_lat * cos_lon, sin_lat * sin_lon, -cos_lat],
            [-sin_lon, cos_lon, 0.0],
            [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
        ]
    )


def _undone(bend: Model, rounds: int) -> Model:
    """Invert y = x + bend(x) by `rounds` iterations of x = y - bend(x), starting from x = y."""
    found = _same(bend.n_inputs)
    for _ in range(rounds):
        found = _same(bend.n_inputs) - (found | bend)
    return found


def _same(n: int) -> Model:
    from astropy.modeling import models

    return models.Identity(n)


def _shift(by: Any) -> Model:
    from astropy.modeling import models

    x, y = by
    return models.Shift(float(x)) & models.Shift(float(y))


def _pair(polynomials: Polynomials) -> Model:
    from astropy.modeling import models

    both = [
        models.Polynomial2D(
            polynomials.order,
            **{
                f"c{p}_{q}": float(terms[p, q])
                for p in range(polynomials.order + 1)
                for q in range(polynomials.order + 1 - p)
            },
        )
        for terms in (polynomials.a, polynomials.b)
    ]
    return models.Mapping((0, 1, 0, 1)) | both[0] & both[1]
