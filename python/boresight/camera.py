"""The camera model: what every pixel sees.

A pixel is measured from the image's centre: ``x = column - width / 2`` and ``y = row - height / 2``
with 0-based columns and rows whose whole numbers are pixel centres; +x points right, +y to larger
rows.

A pixel goes through the optical centre, the distortion and the focal length to a direction::

    (x, y) - optical_center  ->  distortion  ->  ideal (u, v)  ->  direction ~ (±u / f, v / f, 1)

Directions are unit vectors in the camera frame: +z out of the lens, +x and +y along the pixel axes.
Only the fitted direction, pixel to ideal, has a formula (as in FITS SIP); the other is Newton's
method, to 1e-10 px.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._files import write_atomically
from boresight.errors import FileFormatError, InputError

__all__ = ["CameraModel", "PolynomialDistortion", "RadialDistortion"]

Floats = NDArray[np.float64]

FILE_FORMAT = "boresight camera model"
FILE_VERSION = 1


class PolynomialDistortion:
    """Polynomial distortion, from the pixel to the ideal (pinhole) point.

    With ``X = x / scale`` and ``Y = y / scale``::

        u = x + sum A_pq X^p Y^q        v = y + sum B_pq X^p Y^q        0 <= p + q <= order

    which is FITS SIP (Shupe et al. 2005, ADASS XIV, 491) with normalised coordinates and with the
    terms of degree 0 and 1 included.

    Parameters
    ----------
    order : int
        Highest total degree, 0 to 9.
    scale : float
        Length in pixels by which the coordinates are divided, usually half the image width.
    a_coeffs, b_coeffs : array_like of shape ((order + 1) * (order + 2) / 2,)
        Coefficients of u and v in pixels, by rising degree: 1, x, y, x², xy, y², x³, ... `None`:
        zeros.

    Raises
    ------
    InputError
        For an order outside 0 to 9, a scale that is not positive, or the wrong number of
        coefficients.

    Examples
    --------
    >>> from boresight.camera import PolynomialDistortion
    >>> lens = PolynomialDistortion(2, 512.0, [0, 0, 0, 3.0, 0, 0], [0, 0, 0, 0, 2.0, 0])
    >>> lens.undistort(256.0, 128.0)
    (256.75, 128.25)
    >>> lens.distort(*lens.undistort(256.0, 128.0))
    (256.0, 128.0)
    """

    __slots__ = ("_core",)
    _core: core.Distortion

    def __init__(
        self,
        order: int,
        scale: float,
        a_coeffs: ArrayLike | None = None,
        b_coeffs: ArrayLike | None = None,
    ) -> None:
        # The core knows the real limit; here the order only has to be a small whole number.
        if not isinstance(order, int | np.integer) or not 0 <= order < 100:
            raise InputError(f"order: {order!r} is no order; give a whole number from 0 to 9")
        zeros = np.zeros((order + 1) * (order + 2) // 2)
        a, b = (
            _vector(name, zeros if given is None else given)
            for name, given in (("a_coeffs", a_coeffs), ("b_coeffs", b_coeffs))
        )
        self._core = core.Distortion.polynomial(order, float(scale), a, b)

    @classmethod
    def _from_core(cls, model: core.Distortion) -> PolynomialDistortion:
        self = cls.__new__(cls)
        self._core = model
        return self

    @property
    def order(self) -> int:
        """Highest total degree of the polynomial."""
        return self._parameters[0]

    @property
    def scale(self) -> float:
        """Length in pixels by which the coordinates are divided."""
        return self._parameters[1]

    @property
    def a_coeffs(self) -> Floats:
        """Coefficients of u in pixels, by rising degree: 1, x, y, x², xy, y², ..."""
        return np.array(self._parameters[2])

    @property
    def b_coeffs(self) -> Floats:
        """Coefficients of v in pixels, in the same order."""
        return np.array(self._parameters[3])

    @property
    def _parameters(self) -> tuple[int, float, list[float], list[float]]:
        parameters = self._core.as_polynomial
        assert parameters is not None  # the constructors only keep polynomials
        return parameters

    def undistort(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Ideal points of pixels.

        Parameters
        ----------
        x, y : array_like
            Pixels from the optical centre; scalars and arrays broadcast.

        Returns
        -------
        u, v : float or ndarray
            Ideal pixels from the optical centre, of the broadcast shape.
        """
        return _map_points(self._core.undistort, x, y)

    def distort(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Pixels of ideal points, the inverse of `undistort` by Newton's method.

        Parameters
        ----------
        x, y : array_like
            Ideal pixels from the optical centre; scalars and arrays broadcast.

        Returns
        -------
        x, y : float or ndarray
            Pixels from the optical centre, of the broadcast shape; NaN where the model folds over,
            so that no pixel sees the point.
        """
        return _map_points(self._core.distort, x, y)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python numbers, as in the JSON file."""
        order, scale, a, b = self._parameters
        return {"model": "polynomial", "order": order, "scale": scale, "a_coeffs": a, "b_coeffs": b}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(_json(self.to_dict()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._parameters

    def __repr__(self) -> str:
        largest = max(np.abs(self.a_coeffs).max(), np.abs(self.b_coeffs).max())
        terms = f"order={self.order}, scale={self.scale:g}, largest={largest:.4g} px"
        return f"PolynomialDistortion({terms})"


class RadialDistortion:
    """Radial and decentring distortion about the optical centre, from the pixel to the ideal point.

    Brown (1966, Photogrammetric Engineering 32, 444). With ``X = x / scale``, ``Y = y / scale`` and
    ``R² = X² + Y²``::

        u = x (1 + k1 R² + k2 R⁴ + k3 R⁶ + k4 R⁸) + scale (2 p1 X Y + p2 (R² + 2 X²))
        v = y (1 + k1 R² + k2 R⁴ + k3 R⁶ + k4 R⁸) + scale (p1 (R² + 2 Y²) + 2 p2 X Y)

    OpenCV uses the same terms in the other direction (ideal to pixel) and with ``scale`` the focal
    length.

    Parameters
    ----------
    k1, k2, k3, k4 : float
        Radial coefficients. Default 0. The fourth serves optical axes far off the detector.
    p1, p2 : float
        Decentring (tangential) coefficients. Default 0.
    scale : float
        Length in pixels by which the coordinates are divided, usually half the image width.

    Raises
    ------
    InputError
        For a coefficient that is not finite or a scale that is not positive.

    Examples
    --------
    >>> from boresight.camera import RadialDistortion
    >>> lens = RadialDistortion(k1=-0.1, scale=500.0)
    >>> lens.undistort(500.0, 0.0)
    (450.0, 0.0)
    """

    __slots__ = ("_core",)
    _core: core.Distortion

    def __init__(
        self,
        k1: float = 0.0,
        k2: float = 0.0,
        k3: float = 0.0,
        p1: float = 0.0,
        p2: float = 0.0,
        *,
        k4: float = 0.0,
        scale: float,
    ) -> None:
        k, p = (float(k1), float(k2), float(k3), float(k4)), (float(p1), float(p2))
        self._core = core.Distortion.radial(k, p, float(scale))

    @classmethod
    def _from_core(cls, model: core.Distortion) -> RadialDistortion:
        self = cls.__new__(cls)
        self._core = model
        return self

    @property
    def k1(self) -> float:
        """Coefficient of R²."""
        return self._parameters[0][0]

    @property
    def k2(self) -> float:
        """Coefficient of R⁴."""
        return self._parameters[0][1]

    @property
    def k3(self) -> float:
        """Coefficient of R⁶."""
        return self._parameters[0][2]

    @property
    def k4(self) -> float:
        """Coefficient of R⁸."""
        return self._parameters[0][3]

    @property
    def p1(self) -> float:
        """First decentring coefficient."""
        return self._parameters[1][0]

    @property
    def p2(self) -> float:
        """Second decentring coefficient."""
        return self._parameters[1][1]

    @property
    def scale(self) -> float:
        """Length in pixels by which the coordinates are divided."""
        return self._parameters[2]

    @property
    def _parameters(self) -> tuple[list[float], list[float], float]:
        parameters = self._core.as_radial
        assert parameters is not None  # the constructors only keep radial models
        return parameters

    def undistort(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Ideal points of pixels.

        Parameters
        ----------
        x, y : array_like
            Pixels from the optical centre; scalars and arrays broadcast.

        Returns
        -------
        u, v : float or ndarray
            Ideal pixels from the optical centre, of the broadcast shape.
        """
        return _map_points(self._core.undistort, x, y)

    def distort(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Pixels of ideal points, the inverse of `undistort` by Newton's method.

        Parameters
        ----------
        x, y : array_like
            Ideal pixels from the optical centre; scalars and arrays broadcast.

        Returns
        -------
        x, y : float or ndarray
            Pixels from the optical centre, of the broadcast shape; NaN where the model folds over,
            so that no pixel sees the point.
        """
        return _map_points(self._core.distort, x, y)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python numbers, as in the JSON file."""
        names = ("k1", "k2", "k3", "k4", "p1", "p2", "scale")
        return {"model": "radial"} | {name: getattr(self, name) for name in names}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(_json(self.to_dict()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _distortion_from_dict, (self.to_dict(),)

    def __repr__(self) -> str:
        terms = ", ".join(
            f"{n}={getattr(self, n):.6g}" for n in ("k1", "k2", "k3", "k4", "p1", "p2")
        )
        return f"RadialDistortion({terms}, scale={self.scale:g})"


class CameraModel:
    """Focal length, optical centre, parity and distortion of one camera.

    The object cannot be changed; it can be compared, hashed, pickled, and saved as JSON.

    Parameters
    ----------
    focal_length_px : float
        Focal length in pixels.
    image_shape : (int, int)
        Height and width of the image in pixels, as ``image.shape``.
    optical_center : (float, float)
        Where the optical axis meets the detector, in pixels from the image centre. It may lie off
        the detector. Default (0, 0).
    parity_flip : bool
        True when the image shows the sky mirrored. Default False.
    distortion : PolynomialDistortion or RadialDistortion or None
        Lens distortion about the optical centre. Default `None`, a pinhole.

    Raises
    ------
    InputError
        For a focal length that is not positive, an empty image, or an optical centre that is not
        finite.

    See Also
    --------
    CameraModel.from_fov : the same from a field of view.

    Examples
    --------
    >>> from boresight.camera import CameraModel
    >>> camera = CameraModel(focal_length_px=2500.0, image_shape=(768, 1024))
    >>> camera
    CameraModel(focal_length_px=2500.0, image_shape=(768, 1024), fov_deg=23.15)
    >>> camera.pixel_to_direction(0.0, 0.0)
    array([0., 0., 1.])
    >>> camera.direction_to_pixel([0.1, 0.0, 1.0])
    (250.0, 0.0)
    """

    __slots__ = ("_core",)
    _core: core.CameraModel

    def __init__(
        self,
        focal_length_px: float,
        image_shape: tuple[int, int],
        *,
        optical_center: tuple[float, float] = (0.0, 0.0),
        parity_flip: bool = False,
        distortion: PolynomialDistortion | RadialDistortion | None = None,
    ) -> None:
        if distortion is not None and not isinstance(
            distortion, PolynomialDistortion | RadialDistortion
        ):
            raise InputError(
                f"distortion: a {type(distortion).__name__} is no distortion model; "
                "give a PolynomialDistortion, a RadialDistortion or None"
            )
        center = _vector("optical_center", optical_center)
        if len(center) != 2:
            raise InputError(f"optical_center: it has {len(center)} numbers; give (x, y) in pixels")
        self._core = core.CameraModel(
            float(focal_length_px),
            _image_size(image_shape),
            (center[0], center[1]),
            bool(parity_flip),
            None if distortion is None else distortion._core,
        )

    @classmethod
    def from_fov(
        cls,
        fov_deg: float,
        image_shape: tuple[int, int],
        *,
        optical_center: tuple[float, float] = (0.0, 0.0),
        parity_flip: bool = False,
        distortion: PolynomialDistortion | RadialDistortion | None = None,
    ) -> CameraModel:
        """Camera with a given horizontal field of view.

        ``focal_length_px = (width / 2) / tan(fov / 2)``

        Parameters
        ----------
        fov_deg : float
            Horizontal field of view in degrees from edge to edge, above 0 and below 180.
        image_shape : (int, int)
            Height and width of the image in pixels.
        optical_center, parity_flip, distortion
            As in the constructor.

        Returns
        -------
        CameraModel

        Raises
        ------
        InputError
            For a field of view that is not above 0 and below 180 degrees, or as the constructor.

        Examples
        --------
        >>> from boresight.camera import CameraModel
        >>> CameraModel.from_fov(90.0, (512, 512)).focal_length_px
        256.0
        """
        try:
            fov = float(np.radians(float(fov_deg)))
        except (TypeError, ValueError):
            raise InputError(f"fov_deg: {fov_deg!r} is not a number; give degrees") from None
        focal = core.CameraModel.focal_length_of_fov(fov, _image_size(image_shape))
        return cls(
            focal,
            image_shape,
            optical_center=optical_center,
            parity_flip=parity_flip,
            distortion=distortion,
        )

    @classmethod
    def _from_core(cls, model: core.CameraModel) -> CameraModel:
        self = cls.__new__(cls)
        self._core = model
        return self

    @property
    def focal_length_px(self) -> float:
        """Focal length in pixels."""
        return self._core.focal_length_px

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        width, height = self._core.image_size
        return height, width

    @property
    def optical_center(self) -> tuple[float, float]:
        """Where the optical axis meets the detector, in pixels from the image centre."""
        return self._core.optical_center

    @property
    def parity_flip(self) -> bool:
        """True when the image shows the sky mirrored."""
        return self._core.mirrored

    @property
    def distortion(self) -> PolynomialDistortion | RadialDistortion | None:
        """Lens distortion about the optical centre, `None` for a pinhole."""
        model = self._core.distortion
        if model is None:
            return None
        kind = PolynomialDistortion if model.name == "polynomial" else RadialDistortion
        return kind._from_core(model)

    @property
    def fov_deg(self) -> float:
        """Horizontal field of view in degrees of the pinhole with this focal length."""
        return float(np.degrees(self._core.fov))

    @property
    def pixel_scale_arcsec(self) -> float:
        """Angle of one pixel at the optical centre in arcsec (without distortion)."""
        return float(np.degrees(self._core.pixel_scale) * 3600.0)

    def pixel_to_direction(self, x: ArrayLike, y: ArrayLike) -> Floats:
        """Directions that pixels see.

        Parameters
        ----------
        x, y : array_like
            Pixels from the image centre; scalars and arrays broadcast.

        Returns
        -------
        ndarray of shape (..., 3)
            Unit vectors in the camera frame; NaN where x or y is.
        """
        points, shape = _points(x, y)
        return self._core.pixel_to_direction(points).reshape(*shape, 3)

    def direction_to_pixel(self, direction: ArrayLike) -> tuple[Floats, Floats]:
        """Pixels that see directions.

        Parameters
        ----------
        direction : array_like of shape (..., 3)
            Directions in the camera frame, of any length.

        Returns
        -------
        x, y : float or ndarray
            Pixels from the image centre, not limited to the detector. NaN where no pixel sees the
            direction: behind the camera, where the distortion folds over, or, with distortion,
            farther out than one and a half times the image's half-diagonal, where the model says
            nothing.
        """
        v = np.asarray(direction, dtype=np.float64)
        if v.ndim == 0 or v.shape[-1] != 3:
            raise InputError(
                f"direction: its shape is {v.shape}; give unit vectors of shape (..., 3)"
            )
        rows = np.ascontiguousarray(v).reshape(-1, 3)
        return _split(self._core.direction_to_pixel(rows), v.shape[:-1])

    def pixel_to_ideal(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Ideal (pinhole) points of pixels.

        Parameters
        ----------
        x, y : array_like
            Pixels from the image centre; scalars and arrays broadcast.

        Returns
        -------
        u, v : float or ndarray
            Where a pinhole of this focal length would have imaged the same star: pixels from the
            optical centre, along the pixel axes.
        """
        return _map_points(self._core.pixel_to_ideal, x, y)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python numbers, as in the JSON file.

        Returns
        -------
        dict
        """
        return {
            "format": FILE_FORMAT,
            "version": FILE_VERSION,
            "focal_length_px": self.focal_length_px,
            "image_shape": list(self.image_shape),
            "optical_center": list(self.optical_center),
            "parity_flip": self.parity_flip,
            "distortion": None if self.distortion is None else self.distortion.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CameraModel:
        """Camera from `to_dict`.

        Parameters
        ----------
        data : mapping
            As `to_dict` returns it.

        Returns
        -------
        CameraModel

        Raises
        ------
        FileFormatError
            If it is no camera model, or of a version this program does not know.
        """
        if not isinstance(data, Mapping) or data.get("format") != FILE_FORMAT:
            raise FileFormatError("this is not a Boresight camera model")
        if data.get("version") != FILE_VERSION:
            raise FileFormatError(
                f"this camera model is of version {data.get('version')!r}; this program reads "
                f"version {FILE_VERSION}: update Boresight, or save the model again"
            )
        try:
            return cls(
                data["focal_length_px"],
                tuple(data["image_shape"]),
                optical_center=tuple(data["optical_center"]),
                parity_flip=data["parity_flip"],
                distortion=_distortion_from_dict(data["distortion"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"this camera model is damaged: {error}") from error

    def to_opencv(self, tolerance_px: float = 0.01) -> tuple[Floats, Floats, float]:
        """Camera matrix and distortion coefficients as OpenCV has them.

        Parameters
        ----------
        tolerance_px : float
            Largest error allowed, pixels. Default 0.01.

        Returns
        -------
        camera_matrix : ndarray of shape (3, 3)
            For 0-based pixels (column, row).
        dist_coeffs : ndarray of shape (5,)
            k1, k2, p1, p2, k3.
        max_error_px : float
            Largest distance over the image between where OpenCV and this model put a star.

        Raises
        ------
        InputError
            For a mirrored camera, which OpenCV does not know.
        UndeterminedError
            If the error is larger than the tolerance.

        Notes
        -----
        OpenCV's distortion goes from the ideal point to the pixel, so its coefficients are not
        those of `RadialDistortion`; they are fitted on a grid over the image, and the error is
        measured on another.

        Examples
        --------
        >>> from boresight.camera import CameraModel, RadialDistortion
        >>> lens = RadialDistortion(k1=-0.02, scale=512.0)
        >>> camera = CameraModel(2500.0, (768, 1024), distortion=lens)
        >>> matrix, coefficients, error = camera.to_opencv()
        >>> print(f"{coefficients[0]:.2f}", error < 0.001)
        0.48 True
        """
        from boresight._opencv import fit

        return fit(self, float(tolerance_px))

    @classmethod
    def from_opencv(
        cls,
        camera_matrix: ArrayLike,
        dist_coeffs: ArrayLike,
        image_shape: tuple[int, int],
        tolerance_px: float = 0.01,
    ) -> tuple[CameraModel, float]:
        """Camera from OpenCV's matrix and distortion coefficients.

        Parameters
        ----------
        camera_matrix : array_like of shape (3, 3)
            For 0-based pixels (column, row).
        dist_coeffs : array_like of shape (4,) or (5,)
            k1, k2, p1, p2 and perhaps k3.
        image_shape : (int, int)
            Height and width of the image in pixels.
        tolerance_px : float
            Largest error allowed, pixels. Default 0.01.

        Returns
        -------
        camera : CameraModel
            With `RadialDistortion` where that reaches the tolerance, else (or where fx and fy
            differ) with `PolynomialDistortion` of the lowest order that does.
        max_error_px : float
            Largest distance over the image between where OpenCV and the model put a star.

        Raises
        ------
        InputError
            If the arrays are none of OpenCV's.
        UndeterminedError
            If the distortion folds over within the image, or the error is larger than the
            tolerance.

        Examples
        --------
        >>> from boresight.camera import CameraModel
        >>> matrix = [[900.0, 0.0, 320.0], [0.0, 900.0, 240.0], [0.0, 0.0, 1.0]]
        >>> camera, error = CameraModel.from_opencv(matrix, [-0.1, 0.01, 0.0, 0.0], (480, 640))
        >>> camera.focal_length_px, error < 0.001
        (900.0, True)
        """
        from boresight._opencv import camera_of

        width, height = _image_size(image_shape)
        matrix = np.array(camera_matrix, dtype=np.float64)
        lower = np.array([matrix[1, 0], *matrix[2]]) if matrix.shape == (3, 3) else None
        if (
            lower is None
            or not np.array_equal(lower, [0.0, 0.0, 0.0, 1.0])
            or not (np.isfinite(matrix).all() and min(matrix[0, 0], matrix[1, 1]) > 0.0)
        ):
            raise InputError(
                "camera_matrix: it is not [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with fx and fy "
                "positive; give the matrix that OpenCV's calibrateCamera returns"
            )
        coefficients = np.array(dist_coeffs, dtype=np.float64).ravel()
        if len(coefficients) not in (4, 5) or not np.isfinite(coefficients).all():
            raise InputError(
                f"dist_coeffs: {coefficients.tolist()} are not k1, k2, p1, p2 and perhaps k3; "
                "calibrate without OpenCV's rational, thin-prism and tilted models"
            )
        five = np.append(coefficients, np.zeros(5 - len(coefficients)))
        return camera_of(matrix, five, (height, width), float(tolerance_px))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save as a JSON file, readable by people and exact to the last bit.

        Parameters
        ----------
        path : path-like
            File to create or replace. It is written whole or not at all.
        """
        import json

        write_atomically(path, (json.dumps(self.to_dict(), indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CameraModel:
        """Load a file made by `save`.

        Parameters
        ----------
        path : path-like
            The JSON file.

        Returns
        -------
        CameraModel

        Raises
        ------
        FileFormatError
            If the file is damaged, of another version, or no camera model.
        OSError
            If it cannot be read.
        """
        import json

        try:
            return cls.from_dict(json.loads(Path(path).read_bytes()))
        except (FileFormatError, ValueError) as error:
            raise FileFormatError(f"{os.fspath(path)}: {error}") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CameraModel) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(_json(self.to_dict()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)

    def __repr__(self) -> str:
        parts = [
            f"focal_length_px={self.focal_length_px!r}",
            f"image_shape={self.image_shape}",
            f"fov_deg={self.fov_deg:.4g}",
        ]
        if self.optical_center != (0.0, 0.0):
            parts.append("optical_center=({:.2f}, {:.2f})".format(*self.optical_center))
        if self.parity_flip:
            parts.append("parity_flip=True")
        if self.distortion is not None:
            parts.append(f"distortion={self.distortion!r}")
        return f"CameraModel({', '.join(parts)})"


def _image_size(image_shape: tuple[int, int]) -> tuple[int, int]:
    """(width, height) from (height, width), checked."""
    try:
        height, width = (int(side) for side in image_shape)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"image_shape: {image_shape!r} is no shape; give (height, width)"
        ) from None
    if not (0 < height < 2**32 and 0 < width < 2**32):
        raise InputError(
            f"image_shape: {image_shape!r} is no image; give (height, width), both positive"
        )
    return width, height


def _distortion_from_dict(
    data: Mapping[str, Any] | None,
) -> PolynomialDistortion | RadialDistortion | None:
    if data is None:
        return None
    parameters = dict(data)
    model = parameters.pop("model", None)
    if model == "polynomial":
        return PolynomialDistortion(**parameters)
    if model == "radial":
        return RadialDistortion(**parameters)
    raise FileFormatError(f"distortion: the model {model!r} is unknown")


def _vector(name: str, values: ArrayLike) -> list[float]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name}: not numbers; give a sequence of numbers") from None
    if array.ndim != 1:
        raise InputError(f"{name}: its shape is {array.shape}; give a one-dimensional sequence")
    return [float(value) for value in array]


def _points(x: ArrayLike, y: ArrayLike) -> tuple[Floats, tuple[int, ...]]:
    """Broadcast x and y to (n, 2) rows, and their shape."""
    try:
        xs, ys = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
    except (TypeError, ValueError) as error:
        raise InputError(f"x, y: {error}; give numbers or arrays that broadcast") from None
    return np.stack([xs.ravel(), ys.ravel()], axis=-1), xs.shape


def _split(points: Floats, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Columns of (n, 2) rows in the caller's shape; plain floats for a single point."""
    x, y = points[:, 0].reshape(shape), points[:, 1].reshape(shape)
    return (x, y) if shape else (x.item(), y.item())


def _map_points(function: Any, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    points, shape = _points(x, y)
    return _split(function(points), shape)


def _json(data: Mapping[str, Any]) -> str:
    import json

    return json.dumps(data, sort_keys=True)
