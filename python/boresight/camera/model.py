"""The camera model: the direction that every pixel sees.

A pixel is measured from the image's centre: ``x = column - width / 2`` and ``y = row - height / 2``
with 0-based columns and rows whose whole numbers are pixel centres; +x points right, +y to larger
rows.

A pixel goes through the optical centre, the distortion and the projection to a direction::

    (x, y) - optical_center  ->  distortion  ->  ideal (u, v)  ->  projection  ->  direction

The projection gives the distance ``r = hypot(u, v)`` from the optical centre at which a star is
imaged that is at an angle θ from the optical axis. Ordinary lenses are gnomonic, ``r = f tan θ``,
which makes the direction ``(±u, v, f)``; fisheyes are designed for one of the other projections::

    gnomonic r = f tan θ       equidistant r = f θ           equisolid r = 2 f sin(θ / 2)
                               orthographic r = f sin θ      stereographic r = 2 f tan(θ / 2)

Directions are unit vectors in the camera frame: +z out of the lens, +x and +y along the pixel axes.
Only the fitted mapping, from pixel to ideal point, has a formula (as in FITS SIP). The inverse is
computed by Newton's method, to 1e-10 px.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils.arguments import degrees, image_size, numbers, vector
from boresight._utils.arrays import map_points, points_of, split
from boresight._utils.documents import JsonDocument, check_kind
from boresight._utils.naming import named, type_of
from boresight.camera.distortion import (
    PolynomialDistortion,
    RadialDistortion,
    as_json,
    distortion_from_dict,
)
from boresight.camera.opencv import from_opencv, to_opencv
from boresight.camera.opencv_lenses import OpenCVModel
from boresight.errors import FileFormatError, InputError

__all__ = ["CameraModel", "PolynomialDistortion", "RadialDistortion"]

Floats = NDArray[np.float64]

Projection = Literal["gnomonic", "equidistant", "equisolid", "stereographic", "orthographic"]
"""Names of the projections."""

FILE_FORMAT = "boresight camera model"
FILE_VERSION = 2
"""Version 1 has only the gnomonic projection; gnomonic cameras are still written as version 1."""


#: Arguments of `CameraModel`, each of which is also an attribute.
_ARGUMENTS = (
    "focal_length_px", "image_shape", "optical_center", "parity_flip", "distortion", "projection",
)  # fmt: skip


@named
class CameraModel(JsonDocument):
    """Focal length, optical centre, parity, projection and distortion of one camera.

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
        Lens distortion about the optical centre. Default `None`.
    projection : {"gnomonic", "equidistant", "equisolid", "stereographic", "orthographic"}
        Function that gives the distance from the optical centre for an angle to the optical axis.
        Default "gnomonic", a pinhole. The others are those of fisheyes, whose `distortion` is their
        deviation from the projection. `RadialDistortion` on top of "equidistant" makes θ an odd
        polynomial of that distance: the family of Kannala and Brandt (2006, IEEE Trans. PAMI 28,
        1335), in the direction from the pixel to the sky.

    Raises
    ------
    InputError
        For a focal length that is not positive, an empty image, an optical centre that is not
        finite, or an unknown projection.

    See Also
    --------
    CameraModel.from_fov : the same from a field of view.

    Examples
    --------
    >>> from boresight.camera.model import CameraModel
    >>> camera = CameraModel(focal_length_px=2500.0, image_shape=(768, 1024))
    >>> camera
    CameraModel(focal_length_px=2500.0, image_shape=(768, 1024), fov_deg=23.15)
    >>> camera.pixel_to_direction(0.0, 0.0)
    array([0., 0., 1.])
    >>> camera.direction_to_pixel([0.1, 0.0, 1.0])
    (250.0, 0.0)

    A fisheye that sees a hemisphere, and stars on the horizon:

    >>> fisheye = CameraModel.from_fov(180.0, (1500, 1500), projection="equidistant")
    >>> fisheye.direction_to_pixel([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    (array([750.,   0.]), array([   0., -750.]))
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
        projection: Projection = "gnomonic",
    ) -> None:
        if distortion is not None and not isinstance(
            distortion, PolynomialDistortion | RadialDistortion
        ):
            raise InputError(
                f"distortion: {type_of(distortion)} is not a distortion model; "
                "give a PolynomialDistortion, a RadialDistortion or None"
            )
        center = vector("optical_center", optical_center)
        if len(center) != 2:
            raise InputError(f"optical_center: it has {len(center)} numbers; give (x, y) in pixels")
        self._core = core.CameraModel(
            float(focal_length_px),
            image_size(image_shape),
            (center[0], center[1]),
            bool(parity_flip),
            _projection_name(projection),
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
        projection: Projection = "gnomonic",
    ) -> CameraModel:
        """Camera with a given horizontal field of view.

        ``focal_length_px = (width / 2) / tan(fov / 2)``, and likewise with the other projections.

        Parameters
        ----------
        fov_deg : float or Quantity
            Horizontal field of view in degrees from edge to edge, without distortion: above 0 and
            below 180 (gnomonic), up to 180 (orthographic), below 360 (stereographic) or up to 360
            (equidistant, equisolid).
        image_shape : (int, int)
            Height and width of the image in pixels.
        optical_center, parity_flip, distortion, projection
            As in the constructor.

        Returns
        -------
        CameraModel

        Raises
        ------
        InputError
            For a field of view that the projection cannot show, and in the same cases as the
            constructor.

        Examples
        --------
        >>> from boresight.camera.model import CameraModel
        >>> CameraModel.from_fov(90.0, (512, 512)).focal_length_px
        256.0
        >>> CameraModel.from_fov(180.0, (512, 512), projection="stereographic").focal_length_px
        128.0
        """
        fov = np.radians(degrees("fov_deg", fov_deg))
        focal = core.CameraModel.focal_length_of_fov(
            float(fov), image_size(image_shape), _projection_name(projection)
        )
        return cls(
            focal,
            image_shape,
            optical_center=optical_center,
            parity_flip=parity_flip,
            distortion=distortion,
            projection=projection,
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
        return self._core.parity_flip

    @property
    def projection(self) -> Projection:
        """Name of the projection of the lens without its distortion; "gnomonic" for a pinhole."""
        return cast(Projection, self._core.projection)

    @property
    def distortion(self) -> PolynomialDistortion | RadialDistortion | None:
        """Lens distortion about the optical centre, or `None`."""
        model = self._core.distortion
        if model is None:
            return None
        kind = PolynomialDistortion if model.name == "polynomial" else RadialDistortion
        return kind._from_core(model)

    @property
    def fov_deg(self) -> float:
        """Horizontal field of view in degrees by focal length and projection, without distortion.

        If the image is wider than the projection can show, this is the largest field of view of the
        projection, such as 180 for an orthographic one.
        """
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
            Unit vectors in the camera frame; NaN where x or y is NaN, and where a fisheye has no
            image, because its projection does not reach so far out.
        """
        points, shape = points_of(x, y)
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
            direction: where the projection has no image (behind a pinhole or an orthographic
            fisheye, opposite to the other fisheyes), where the distortion folds over, or, with
            distortion, farther out than one and a half times the image's half-diagonal, where the
            model is not valid.
        """
        v = numbers("direction", direction, "give unit vectors of shape (..., 3)")
        if v.ndim == 0 or v.shape[-1] != 3:
            raise InputError(
                f"direction: its shape is {v.shape}; give unit vectors of shape (..., 3)"
            )
        rows = np.ascontiguousarray(v).reshape(-1, 3)
        return split(self._core.direction_to_pixel(rows), v.shape[:-1])

    def pixel_to_ideal(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Ideal points of pixels, without the distortion.

        Parameters
        ----------
        x, y : array_like
            Pixels from the image centre; scalars and arrays broadcast.

        Returns
        -------
        u, v : float or ndarray
            Where the projection alone, with this focal length, would have imaged the same star:
            pixels from the optical centre, along the pixel axes.
        """
        return map_points(self._core.pixel_to_ideal, x, y)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python numbers, as in the JSON file.

        Returns
        -------
        dict
        """
        gnomonic = self.projection == "gnomonic"
        return {
            "format": FILE_FORMAT,
            "version": 1 if gnomonic else FILE_VERSION,
            "focal_length_px": self.focal_length_px,
            "image_shape": list(self.image_shape),
            "optical_center": list(self.optical_center),
            "parity_flip": self.parity_flip,
            **({} if gnomonic else {"projection": self.projection}),
            "distortion": None if self.distortion is None else self.distortion.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CameraModel:
        """Make a camera from the output of `to_dict`.

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
            If the data are not a camera model, or have a version that this program does not know.
        """
        check_kind(data, FILE_FORMAT, (1, FILE_VERSION), "camera model")
        try:
            return cls(
                data["focal_length_px"],
                tuple(data["image_shape"]),
                optical_center=tuple(data["optical_center"]),
                parity_flip=data["parity_flip"],
                distortion=distortion_from_dict(data["distortion"]),
                projection=data["projection"] if data["version"] > 1 else "gnomonic",
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"this camera model is damaged: {error}") from error

    def to_opencv(
        self,
        tolerance_px: float = 0.01,
        model: OpenCVModel = "pinhole",
    ) -> tuple[Floats, Floats, float]:
        """Camera matrix and distortion coefficients in OpenCV's convention.

        `boresight.camera.opencv.to_opencv` explains the arguments and the result.

        Parameters
        ----------
        tolerance_px : float
            Largest error allowed, pixels. Default 0.01.
        model : {"pinhole", "rational", "fisheye"}
            OpenCV's model. Default "pinhole".
        """
        return to_opencv(self, tolerance_px, model)

    @classmethod
    def from_opencv(
        cls,
        camera_matrix: ArrayLike,
        dist_coeffs: ArrayLike,
        image_shape: tuple[int, int],
        tolerance_px: float = 0.01,
        model: OpenCVModel = "pinhole",
    ) -> tuple[CameraModel, float]:
        """Camera from OpenCV's matrix and distortion coefficients.

        `boresight.camera.opencv.from_opencv` explains the arguments.

        Parameters
        ----------
        camera_matrix, dist_coeffs, image_shape, tolerance_px, model
            OpenCV's matrix and coefficients, the image size, and how to interpret them.

        Returns
        -------
        camera : CameraModel
        max_error_px : float
            Largest distance over the image between the positions of a star by OpenCV and the model.

        Examples
        --------
        >>> from boresight import CameraModel
        >>> matrix = [[900.0, 0.0, 320.0], [0.0, 900.0, 240.0], [0.0, 0.0, 1.0]]
        >>> camera, error = CameraModel.from_opencv(matrix, [-0.1, 0.01, 0.0, 0.0], (480, 640))
        >>> camera.focal_length_px, error < 0.001
        (900.0, True)
        """
        arguments, error = from_opencv(camera_matrix, dist_coeffs, image_shape, tolerance_px, model)
        return cls(**arguments), error

    def replace(self, **changes: Any) -> CameraModel:
        """Make the same camera with some of its numbers changed.

        Parameters
        ----------
        **changes
            Any arguments of the constructor, by name.

        Returns
        -------
        CameraModel

        Examples
        --------
        >>> from boresight import CameraModel
        >>> camera = CameraModel(2500.0, (768, 1024), optical_center=(3.0, -1.0))
        >>> camera.replace(focal_length_px=2600.0).optical_center
        (3.0, -1.0)
        """
        return CameraModel(**({name: getattr(self, name) for name in _ARGUMENTS} | changes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CameraModel) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(as_json(self.to_dict()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)

    def __repr__(self) -> str:
        parts = [
            f"focal_length_px={self.focal_length_px!r}",
            f"image_shape={self.image_shape}",
            f"fov_deg={self.fov_deg:.4g}",
        ]
        if self.projection != "gnomonic":
            parts.append(f"projection={self.projection!r}")
        if self.optical_center != (0.0, 0.0):
            parts.append("optical_center=({:.2f}, {:.2f})".format(*self.optical_center))
        if self.parity_flip:
            parts.append("parity_flip=True")
        if self.distortion is not None:
            parts.append(f"distortion={self.distortion!r}")
        return f"CameraModel({', '.join(parts)})"


def _projection_name(projection: str) -> str:
    if projection not in get_args(Projection):
        raise InputError(
            f"projection: {projection!r} is unknown; give one of {', '.join(get_args(Projection))}"
        )
    return projection
