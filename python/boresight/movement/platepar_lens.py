"""Lens of a platepar: the published formulas, and their conversion to and from a camera model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from boresight._utils.arrays import Floats
from boresight.camera.model import CameraModel, PolynomialDistortion, RadialDistortion
from boresight.errors import FileFormatError, InputError

__all__ = ["camera_of", "coefficients_of", "forward"]

ORDER = 9
"""Order of the polynomial that approximates distortions without an exact camera model."""

SIDE = 41
"""Number of points along each side of the grid on which a lens is fitted."""

CENTRE_ROUNDS = 6
"""Iterations that determine the centre of the radial terms, which equals the constant term of the
polynomial."""


def forward(values: Mapping[str, Any], points: Floats) -> Floats:
    """Return ideal points of pixels: the file's formula from pixels to an equidistant lens.

    Parameters
    ----------
    values : mapping
        The platepar.
    points : ndarray of shape (n, 2)
        Pixels from the image centre.

    Returns
    -------
    ndarray of shape (n, 2)
    """
    kind = str(values.get("distortion_type", "poly3+radial"))
    if re.fullmatch(r"poly3\+radial[35]?", kind):
        rows = [_row(values, name) for name in ("x_poly_fwd", "y_poly_fwd")]
        return points + _polynomial(kind, rows[0], rows[1], points)
    if re.fullmatch(r"radial([345]-all|[3579]-odd)", kind):
        return _radial(values, points)
    raise FileFormatError(f"distortion_type: {kind!r} is unknown")


def _row(values: Mapping[str, Any], name: str) -> Floats:
    """Return the coefficients of an axis; files of version 1 have only one direction."""
    given = values.get(name, values.get(name[:6]))
    if given is None:
        raise FileFormatError(f"it lacks {name}")
    row = np.zeros(14)
    row[: min(14, len(given))] = np.array(given, np.float64)[:14]
    return row


def _terms(kind: str, points: Floats, centre: Floats, axis: int) -> Floats:
    """Return the terms of an axis's polynomial except the constant, (n, 11 to 13)."""
    x, y = points.T
    r = np.hypot(*(points - centre).T)
    own, other = (x, y) if axis == 0 else (y, x)
    terms = [x, y, x * x, x * y, y * y, x**3, x * x * y, x * y * y, y**3, own * r, other * r]
    terms += [own * r**3] if kind[-1] in "35" else []
    terms += [own * r**5] if kind[-1] == "5" else []
    return np.column_stack(terms)


def _polynomial(kind: str, a: Floats, b: Floats, points: Floats) -> Floats:
    centre = np.array([a[0], b[0]])
    moved = []
    for axis, row in enumerate((a, b)):
        terms = _terms(kind, points, centre, axis)
        moved.append(row[0] + terms @ row[1 : 1 + terms.shape[1]])
    return np.column_stack(moved)


def _unpacked(values: Mapping[str, Any]) -> tuple[Floats, float, float, float, Floats]:
    """Return centre, aspect, asymmetry, its angle, and coefficients of a radial distortion."""
    row = list(_row(values, "x_poly_fwd"))
    half = np.array([values["X_res"], values["Y_res"]]) / 2.0
    centre = np.array([0.5, 0.5])
    if not values.get("force_distortion_centre", False):
        centre = (np.array([row.pop(0), row.pop(0)]) * half + half) % (2.0 * half) - half
    aspect = 0.0 if values.get("equal_aspect", False) else row.pop(0)
    size, angle = 0.0, 0.0
    if values.get("asymmetry_corr", False):
        size, angle = row.pop(0), 2.0 * np.pi * row.pop(0)
    return centre, aspect, size, angle, np.array(row[:4])


def _powers(kind: str) -> list[int]:
    """Return the powers of r in the relative displacement."""
    order = int(kind[6])
    return list(range(2, order, 2)) if kind.endswith("odd") else list(range(1, order))


def _radial(values: Mapping[str, Any], points: Floats) -> Floats:
    centre, aspect, size, angle, k = _unpacked(values)
    offset = (points - centre) * [1.0, 1.0 + aspect]
    r = np.hypot(*offset.T) + size * (offset[:, 1] * np.cos(angle) - offset[:, 0] * np.sin(angle))
    r = r / (float(values["X_res"]) / 2.0)
    powers = _powers(str(values["distortion_type"]))
    return np.asarray(offset * (1.0 + _stretch(r, k, powers))[:, None])


def _stretch(r: Floats, k: Floats, powers: list[int]) -> Floats:
    return np.asarray(sum(c * r**p for c, p in zip(k, powers, strict=False)))


def grid(image_shape: tuple[int, int], side: int) -> Floats:
    """Return a grid of pixels over an image, relative to its centre, (side squared, 2)."""
    height, width = image_shape
    x, y = np.meshgrid(*(np.linspace(-s / 2.0, s / 2.0, side) for s in (width, height)))
    return np.column_stack([x.ravel(), y.ravel()])


def camera_of(values: Mapping[str, Any]) -> tuple[CameraModel, float]:
    """Return the camera model of a platepar, and its largest error in pixels.

    The model is exact for radial distortions of odd powers without aspect or asymmetry; all others
    are approximated by a polynomial.
    """
    shape = (int(values["Y_res"]), int(values["X_res"]))
    kind = str(values.get("distortion_type", "poly3+radial"))
    focal = float(np.degrees(values["F_scale"]))
    centre = np.zeros(2)
    distortion: PolynomialDistortion | RadialDistortion | None = None
    if kind.startswith("radial"):
        centre, aspect, size, _, k = _unpacked(values)
        if kind.endswith("odd") and aspect == size == 0.0:
            k = np.where(np.arange(4) < len(_powers(kind)), k, 0.0)
            distortion = RadialDistortion(*k[:3], k4=float(k[3]), scale=shape[1] / 2.0)
    if distortion is None:
        points = grid(shape, SIDE)
        scale = max(shape) / 2.0
        terms = _monomials((points - centre) / scale)
        with np.errstate(all="ignore"):
            bend = forward(values, points) - (points - centre)
        if not np.isfinite(bend).all():
            raise ValueError("its distortion is not finite within the image")
        a, b = np.linalg.lstsq(terms, bend, rcond=None)[0].T
        distortion = PolynomialDistortion(ORDER, scale, a, b)
    camera = CameraModel(
        focal, shape, optical_center=(float(centre[0]), float(centre[1])), distortion=distortion,
        projection="equidistant",
    )  # fmt: skip
    between = grid(shape, 2 * SIDE - 1)
    ideal = np.column_stack(distortion.undistort(*(between - centre).T))
    return camera, float(np.abs(ideal - forward(values, between)).max())


def _monomials(points: Floats) -> Floats:
    x, y = points.T
    degrees = [(n - q, q) for n in range(ORDER + 1) for q in range(n + 1)]
    return np.column_stack([x**p * y**q for p, q in degrees])


def coefficients_of(camera: CameraModel) -> tuple[dict[str, Any], float]:
    """Return the keys of a platepar for the lens of a camera, and their largest error in pixels.

    Equidistant lenses with a radial distortion become ``radial9-odd``; all others are fitted by
    ``poly3+radial5``.
    """
    if camera.parity_flip:
        raise InputError("camera: it shows the sky mirrored, which a platepar cannot describe")
    shape = camera.image_shape
    points = grid(shape, SIDE)
    sky = camera.pixel_to_direction(*points.T)
    across = np.hypot(sky[:, 0], sky[:, 1])
    angle = camera.focal_length_px * np.arctan2(across, sky[:, 2]) / np.maximum(across, 1e-300)
    ideal = sky[:, :2] * angle[:, None]
    lens = camera.distortion
    plain = lens is None or (isinstance(lens, RadialDistortion) and lens.p1 == lens.p2 == 0.0)
    if plain and camera.projection == "equidistant":
        keys = _radial_keys(camera, points, ideal)
    else:
        keys = _polynomial_keys(points, ideal)
    keys["x_poly"], keys["y_poly"] = keys["x_poly_fwd"], keys["y_poly_fwd"]
    size = {"X_res": shape[1], "Y_res": shape[0]}
    error = float(np.abs(forward(keys | size, points) - ideal).max())
    return keys, error


def _radial_keys(camera: CameraModel, points: Floats, ideal: Floats) -> dict[str, Any]:
    half = np.array(camera.image_shape[::-1]) / 2.0
    centre, lens = np.array(camera.optical_center), camera.distortion
    forth = np.zeros(4)
    if isinstance(lens, RadialDistortion):
        ratio = (half[0] / lens.scale) ** 2
        forth = np.array([lens.k1, lens.k2, lens.k3, lens.k4]) * ratio ** np.arange(1, 5)
    # Reverse direction: pixel = ideal (1 - k1 r^2 - ...) + centre, where r is that of the ideal
    # point.
    r = np.hypot(*ideal.T) / half[0]
    terms = np.concatenate([
        np.column_stack([ideal[:, axis] * r**p for p in (2, 4, 6, 8)]) for axis in (0, 1)
    ])  # fmt: skip
    back = np.linalg.lstsq(terms, (ideal - (points - centre)).T.ravel(), rcond=None)[0]
    return {
        "distortion_type": "radial9-odd", "equal_aspect": True, "asymmetry_corr": False,
        "force_distortion_centre": False,
        "x_poly_fwd": [*(centre / half).tolist(), *forth.tolist()], "y_poly_fwd": [0.0] * 6,
        "x_poly_rev": [*(centre / half).tolist(), *back.tolist()], "y_poly_rev": [0.0] * 6,
    }  # fmt: skip


def _polynomial_keys(points: Floats, ideal: Floats) -> dict[str, Any]:
    kind = "poly3+radial5"
    keys: dict[str, Any] = {
        "distortion_type": kind, "equal_aspect": False, "asymmetry_corr": False,
        "force_distortion_centre": False,
    }  # fmt: skip
    for way, start, shift in (("fwd", points, ideal - points), ("rev", ideal, ideal - points)):
        a = b = np.zeros(14)
        for _ in range(CENTRE_ROUNDS):
            centre = np.array([a[0], b[0]])
            a, b = (
                _scaled_fit(np.column_stack([np.ones(len(start)), _terms(kind, start, centre, n)]),
                            shift[:, n])
                for n in (0, 1)
            )  # fmt: skip
        keys |= {f"x_poly_{way}": a.tolist(), f"y_poly_{way}": b.tolist()}
    return keys


def _scaled_fit(terms: Floats, values: Floats) -> Floats:
    """Return the least-squares solution for terms of very different sizes."""
    units = np.linalg.norm(terms, axis=0)
    return np.asarray(np.linalg.lstsq(terms / units, values, rcond=None)[0] / units)
