"""Calibration by pairs of pixels and 3-D points, for laboratory and terrestrial cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from boresight import _core as core
from boresight._utils.arguments import image_size
from boresight._utils.arrays import Floats
from boresight._utils.documents import JsonDocument, check_kind
from boresight._utils.naming import named
from boresight.camera.model import CameraModel
from boresight.errors import FileFormatError, InputError, UndeterminedError

__all__ = ["FREEDOMS", "PointPairCalibration"]

FORMAT, VERSION = "boresight-point-pairs", 1

FREEDOMS = ("focal_length", "center", "k1", "k2")
"""Names of the parameters that may be fitted in addition to position and attitude."""


@named
@dataclass(frozen=True, eq=False)
class PointPairCalibration(JsonDocument):
    """A camera calibrated by points with known positions.

    Pixels have array coordinates: (column, row) from the centre of the first pixel.

    Attributes
    ----------
    camera_model : CameraModel
        The optics.
    rotation : ndarray of shape (3, 3)
        Rotation from the axes of the points to the camera's.
    position : ndarray of shape (3,) or None
        Position of the camera, in units of the points; None if the points are directions.
    image_points : ndarray of shape (n, 2)
        Measured pixels of the points.
    object_points : ndarray of shape (n, 3)
        Points, or directions.
    free : tuple of str
        Parameters fitted in addition to position and attitude: of "focal_length", "center", "k1",
        "k2".
    history : tuple of str
        Steps that led to the calibration, the oldest first.
    image : ndarray or None
        The image; it is not saved.
    mask : ndarray of int or None
        Number of the part of the image that each pixel belongs to, where it shows several views.

    Examples
    --------
    >>> import numpy as np
    >>> from boresight import CameraModel
    >>> from boresight.calibration.point_pairs import PointPairCalibration
    >>> camera = CameraModel(900.0, (480, 640))
    >>> points = np.random.default_rng(1).uniform(-1, 1, (30, 3)) + [0, 0, 5]
    >>> x, y = camera.direction_to_pixel(points)
    >>> found = PointPairCalibration.fit(np.column_stack([x + 320, y + 240]), points, (480, 640))
    >>> round(found.camera_model.focal_length_px, 3), found.rms_px < 1e-6
    (900.0, True)
    """

    camera_model: CameraModel
    rotation: Floats
    position: Floats | None
    image_points: Floats
    object_points: Floats
    free: tuple[str, ...] = ("focal_length",)
    history: tuple[str, ...] = ()
    image: Any = field(default=None, repr=False)
    mask: Any = field(default=None, repr=False)

    @classmethod
    def fit(
        cls,
        image_points: ArrayLike,
        object_points: ArrayLike,
        image_shape: tuple[int, int],
        *,
        free: Sequence[str] = ("focal_length",),
        directions: bool = False,
        camera_model: CameraModel | None = None,
        start: PointPairCalibration | None = None,
        history: Sequence[str] = ("Fitted by Boresight",),
        image: Any = None,
        mask: Any = None,
    ) -> PointPairCalibration:
        """Fit a calibration to pairs of pixels and points.

        Parameters
        ----------
        image_points : array_like, shape (n, 2)
            Pixels (column, row), 0-based.
        object_points : array_like, shape (n, 3)
            Known positions: 3-D points in any unit, or directions.
        image_shape : (int, int)
            Rows and columns.
        free : sequence of str
            Parameters to fit in addition to position and attitude. Default: the focal length.
        directions : bool
            Whether `object_points` are directions (or infinitely far). Default False.
        camera_model : CameraModel, optional
            Optics to start from; parameters that are not free keep their values. Default: a
            pinhole.
        start : PointPairCalibration, optional
            Calibration to start from. Default: by the direct linear transform.
        history : sequence of str
            Steps that lead to the calibration.
        image, mask
            Stored in the result.

        Returns
        -------
        PointPairCalibration

        Raises
        ------
        InputError
            If the shapes do not match or a name is unknown.
        UndeterminedError
            If the points do not determine the calibration.
        """
        pixels, points = _pairs(image_points, object_points)
        size = image_size(image_shape)
        unknown = [name for name in free if name not in FREEDOMS]
        if unknown:
            raise InputError(f"free: {unknown[0]!r} is unknown; give some of {', '.join(FREEDOMS)}")
        centred = pixels - np.array(size) / 2.0
        wanted = tuple(name for name in FREEDOMS if name in free)
        parameters = (3 if directions else 6) + len(wanted) + ("center" in wanted)
        if 2 * len(pixels) < parameters:
            raise UndeterminedError(
                f"image_points: {len(pixels)} do not determine {parameters} numbers; give more"
            )
        camera, rotation, position = camera_model, None, None
        if start is not None:
            camera, rotation = start.camera_model, start.rotation.tolist()
            position = None if start.position is None else start.position.tolist()
        optics = None if camera is None else camera._core
        if camera is not None and camera.image_shape != (size[1], size[0]):
            raise InputError(
                f"image_shape: {size[1], size[0]} is not that of the camera, {camera.image_shape}; "
                "give the same"
            )
        found = core.fit_point_pairs(
            centred, points, directions, size, optics, rotation, position, wanted
        )
        position = found["position"]
        return cls(
            CameraModel._from_core(found["camera"]), found["rotation"],
            None if position is None else np.array(position), pixels, points, wanted,
            tuple(history), image, mask,
        )  # fmt: skip

    def project(self, object_points: ArrayLike) -> Floats:
        """Pixels at which points are seen.

        Parameters
        ----------
        object_points : array_like, shape (n, 3)
            Points, or directions if the calibration is of directions.

        Returns
        -------
        ndarray of shape (n, 2)
            Columns and rows, 0-based; NaN for points behind the camera.
        """
        points = np.asarray(object_points, np.float64).reshape(-1, 3)
        offset = points if self.position is None else points - self.position
        x, y = self.camera_model.direction_to_pixel(offset @ self.rotation.T)
        height, width = self.camera_model.image_shape
        return np.column_stack([x + width / 2.0, y + height / 2.0])

    @property
    def residuals_px(self) -> Floats:
        """Measured minus predicted pixels of the points, (n, 2)."""
        return self.image_points - self.project(self.object_points)

    @property
    def rms_px(self) -> float:
        """Root mean square length of the residuals, in pixels."""
        return float(np.sqrt(np.mean((self.residuals_px**2).sum(axis=1))))

    def with_points(
        self, image_points: ArrayLike, object_points: ArrayLike, note: str, **changes: Any
    ) -> PointPairCalibration:
        """Fit the same parameters again, to other points.

        Parameters
        ----------
        image_points, object_points : array_like
            The points.
        note : str
            Appended to the history.
        **changes
            `image` and `mask` of the new calibration.
        """
        fitted = type(self).fit(
            image_points, object_points, self.camera_model.image_shape, free=self.free,
            directions=self.position is None, camera_model=self.camera_model, start=self,
            history=(*self.history, note),
        )  # fmt: skip
        return replace(fitted, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, as in the file."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "camera_model": self.camera_model.to_dict(),
            "rotation": self.rotation.tolist(),
            "position": None if self.position is None else self.position.tolist(),
            "image_points": self.image_points.tolist(),
            "object_points": self.object_points.tolist(),
            "free": list(self.free),
            "history": list(self.history),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PointPairCalibration:
        """Make a calibration from the output of `to_dict`.

        Parameters
        ----------
        data : mapping
            As `to_dict` returns it.

        Raises
        ------
        FileFormatError
            If the data are not a point-pair calibration.
        """
        check_kind(data, FORMAT, (VERSION,), "point-pair calibration")
        try:
            position = data["position"]
            pixels, points = _pairs(data["image_points"], data["object_points"])
            return cls(
                CameraModel.from_dict(data["camera_model"]),
                np.array(data["rotation"], np.float64).reshape(3, 3),
                None if position is None else np.array(position, np.float64).reshape(3),
                pixels, points, tuple(data["free"]), tuple(data["history"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"this calibration is damaged: {error}") from error


def _pairs(image_points: ArrayLike, object_points: ArrayLike) -> tuple[Floats, Floats]:
    try:
        pixels = np.array(image_points, np.float64, order="C")
        points = np.array(object_points, np.float64, order="C")
    except (TypeError, ValueError):
        raise InputError("image_points, object_points: give arrays of numbers") from None
    if pixels.ndim != 2 or pixels.shape[1:] != (2,) or points.shape != (len(pixels), 3):
        raise InputError(
            f"image_points, object_points: their shapes are {pixels.shape} and {points.shape}; "
            "give (n, 2) and (n, 3)"
        )
    if not (np.isfinite(pixels).all() and np.isfinite(points).all()):
        raise InputError("image_points, object_points: not finite; leave such pairs out")
    return pixels, points
