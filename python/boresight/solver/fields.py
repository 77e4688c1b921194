"""Makes simulated star fields that have one known right solution, or none."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import longitude_latitude, rotation_of, unit_vector
from boresight.camera.model import CameraModel
from boresight.database.database import PatternDatabase

__all__ = ["KINDS", "Field", "FieldKind", "FieldMaker"]

Floats = NDArray[np.float64]

FieldKind = Literal["sky", "random", "scrambled", "mirrored", "structured"]

KINDS: tuple[FieldKind, ...] = ("sky", "random", "scrambled", "mirrored", "structured")

#: Standard deviation of a star's position per axis, pixels, and fraction of the stars that are not
#: detected.
POSITION_ERROR_PX, MISSED = 0.3, 0.1

#: Standard deviation of the positions in a structure, such as a row of hot pixels, pixels.
STRUCTURE_ERROR_PX = 0.5

#: Number of times that each position occurs in a repeated list.
REPEATS = 4

#: Largest radius of a ring, as a fraction of the image's shorter side.
RING_RADIUS = 0.4


class Field(NamedTuple):
    """Detections of one field.

    Attributes
    ----------
    detections : ndarray of shape (n, 3)
        x, y from the image's centre, and brightness.
    truth : CameraModel or None
        Camera that sees this field, for a field of the sky, mirrored or not. None if no solution is
        right.
    center : ndarray of shape (3,)
        ICRS direction of the image's centre, if there is a `truth`.
    is_mirrored : bool
        Whether the field is the mirror image of the camera's view.
    """

    detections: Floats
    truth: CameraModel | None = None
    center: Floats = np.zeros(3)
    is_mirrored: bool = False


class FieldMaker:
    """Makes fields for one setting from a database's stars; equal numbers give equal fields."""

    def __init__(
        self,
        database: PatternDatabase,
        fov_deg: float | None,
        camera_model: CameraModel | None,
        image_shape: tuple[int, int],
        num_detections: int,
        seed: int,
    ) -> None:
        self.database, self.fov_deg, self.camera_model = database, fov_deg, camera_model
        self.image_shape, self.num_detections, self.seed = image_shape, num_detections, seed

    def make(self, kind: FieldKind, number: int) -> Field:
        """Make one field of a kind."""
        rng = np.random.default_rng((self.seed, KINDS.index(kind), number))
        if kind == "random":
            return Field(self._random(rng, self.num_detections))
        if kind == "structured":
            return Field(self._structured(rng, number))
        camera = self._camera(rng)
        stars, center = self._sky(rng, camera)
        if kind == "scrambled":
            # This keeps the density and brightness of the stars, but no pattern of the sky.
            stars[:, 1] = stars[rng.permutation(len(stars)), 1]
            return Field(stars)
        if kind == "mirrored":
            stars[:, 0] *= -1.0
            camera = camera.replace(parity_flip=not camera.parity_flip)
        return Field(stars, camera, center, kind == "mirrored")

    def _camera(self, rng: np.random.Generator) -> CameraModel:
        """Return the given camera, or one with the given field of view or a random one."""
        if self.camera_model is not None:
            return self.camera_model
        low, high = self.database.min_fov_deg, self.database.max_fov_deg
        fov_deg = self.fov_deg or float(np.exp(rng.uniform(np.log(low), np.log(high))))
        return CameraModel.from_fov(fov_deg, self.image_shape)

    def _uniform(self, rng: np.random.Generator, count: int) -> Floats:
        height, width = self.image_shape
        return rng.uniform(-0.5, 0.5, (count, 2)) * (width - 1, height - 1)

    def _random(self, rng: np.random.Generator, count: int) -> Floats:
        return np.column_stack([self._uniform(rng, count), _brightness(rng, count)])

    def _sky(self, rng: np.random.Generator, camera: CameraModel) -> tuple[Floats, Floats]:
        """Return detections of a camera at a random attitude, and the image centre's direction."""
        quaternion = rng.normal(size=4)
        to_camera = rotation_of(quaternion / np.linalg.norm(quaternion))
        height, width = self.image_shape
        corners = camera.pixel_to_direction(
            np.array([-1, -1, 1, 1]) * width / 2, np.array([-1, 1, -1, 1]) * height / 2
        )
        # The corners of a fisheye image may see nothing (NaN): then the whole sky is taken.
        radius_deg = np.degrees(np.arccos(np.clip(np.nan_to_num(corners[:, 2], nan=-1.0), -1, 1)))
        ra_deg, dec_deg = np.degrees(longitude_latitude(to_camera[2]))
        stars = self.database.cone_search(
            float(ra_deg) % 360.0, float(dec_deg), float(radius_deg.max())
        )
        x, y = camera.direction_to_pixel(unit_vector(stars.ra_deg, stars.dec_deg) @ to_camera.T)
        positions = np.column_stack([x, y]) + rng.normal(0, POSITION_ERROR_PX, (len(stars), 2))
        seen = np.all(np.abs(positions) < np.array([width - 1, height - 1]) / 2, axis=1)
        seen &= rng.random(len(stars)) >= MISSED
        brightness = 10.0 ** (-0.4 * stars.magnitude.astype(np.float64))
        rows = np.flatnonzero(seen)
        rows = rows[np.argsort(-brightness[rows], kind="stable")][: self.num_detections]
        detected = np.column_stack([positions[rows], brightness[rows]])
        false = self._random(rng, self.num_detections - len(rows))
        false[:, 2] *= 0.5 * (brightness[rows].min() if len(rows) else 1.0)
        center = camera.pixel_to_direction(0.0, 0.0) @ to_camera
        return np.concatenate([detected, false]), center

    def _structured(self, rng: np.random.Generator, number: int) -> Floats:
        """Make a grid, a line, a ring, or a list in which every position is repeated."""
        count = self.num_detections
        height, width = self.image_shape
        at = rng.uniform(-0.25, 0.25, 2) * (width, height)
        along = np.arange(count)
        structure = ("grid", "line", "ring", "repeated")[number % 4]
        if structure == "grid":
            side = int(np.ceil(np.sqrt(count)))
            step = np.array([width, height]) / (side + 1)
            positions = (np.column_stack([along % side, along // side]) - (side - 1) / 2) * step
        elif structure == "line":
            ends = self._uniform(rng, 2)
            positions = ends[0] + (ends[1] - ends[0]) * along[:, None] / max(count - 1, 1)
        elif structure == "ring":
            angle = 2 * np.pi * along / count
            ring = RING_RADIUS * rng.uniform(0.3, 1.0) * min(height, width)
            positions = at / 4 + ring * np.column_stack([np.cos(angle), np.sin(angle)])
        else:
            few = self._uniform(rng, -(-count // REPEATS))
            positions = np.repeat(few, REPEATS, axis=0)[:count]
        positions = positions + rng.normal(0, STRUCTURE_ERROR_PX, positions.shape)
        most = np.array([width - 1, height - 1]) / 2
        return np.column_stack([np.clip(positions, -most, most), _brightness(rng, count)])


def _brightness(rng: np.random.Generator, count: int) -> Floats:
    """Random brightness with the slope of star counts: 3.5 times as many stars per magnitude."""
    magnitude = -np.log(rng.uniform(1e-9, 1.0, count)) / np.log(3.5)
    return np.asarray(10.0 ** (0.4 * magnitude))
