"""Mappings that use the tangent plane at the image centre: gwcs and solutions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.arrays import east_north, longitude_latitude, quaternion_of, unit_vector
from boresight.alignment.sip import by_degree, expanded, summed
from boresight.camera.distortion import PolynomialDistortion, RadialDistortion
from boresight.camera.model import CameraModel
from boresight.errors import InputError, UndeterminedError
from boresight.solver.solution import Solution
from boresight.wcs.gwcs import bend_model
from boresight.wcs.polynomials import Polynomials, fit_nodes

__all__ = ["GwcsMapping", "SolvedMapping", "TangentPlane"]

Floats = NDArray[np.float64]

STEP_PX = 1.0
"""Step of the numerical derivative that defines the plane, in pixels. Any plane works, so the step
is not critical."""


class TangentPlane:
    """Tangent plane of the sphere at a direction, with coordinates in pixels."""

    def __init__(self, axes: Floats, matrix: Floats) -> None:
        self._axes, self._matrix = axes, matrix
        self._inverse: Floats = np.asarray(np.linalg.inv(matrix), dtype=np.float64)

    @classmethod
    def about(cls, center: Floats, along: Floats) -> TangentPlane:
        """Make the plane at a direction; `along` are the displacements for one pixel in x and y."""
        third = center / np.linalg.norm(center)
        axes = np.array([*east_north(third), third])
        steps = along @ axes.T
        return cls(axes, np.ascontiguousarray(steps[:, :2].T))

    def of_sky(self, sky: Floats) -> Floats:
        """Return plane coordinates; NaN on the far side of the sky."""
        return core.project(np.ascontiguousarray(sky), self._axes, self._inverse)

    def to_sky(self, plane: Floats) -> Floats:
        """Return unit vectors of plane coordinates."""
        flat = plane @ self._matrix.T
        v = np.column_stack([flat, np.ones(len(flat))]) @ self._axes
        return np.asarray(v / np.linalg.norm(v, axis=1, keepdims=True))


class TangentMapping(ABC):
    """A mapping without a natural plane: it uses the tangent plane at the image centre."""

    _plane: TangentPlane

    def _take_plane(self, middle: Floats) -> None:
        """Set the plane at a pixel, with its axes along those of the image."""
        near = self.to_sky(middle + STEP_PX * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]))
        if not np.isfinite(near).all():
            raise InputError("wcs: the middle of the image sees nothing; give a WCS that maps it")
        along = np.array([near[1] - near[2], near[3] - near[4]]) / (2.0 * STEP_PX)
        self._plane = TangentPlane.about(near[0], along)

    @abstractmethod
    def to_sky(self, pixels: Floats) -> Floats:
        """Return unit vectors of pixels."""

    def to_plane(self, pixels: Floats) -> Floats:
        """Return tangent plane coordinates of pixels."""
        return self._plane.of_sky(self.to_sky(pixels))

    def sky_to_plane(self, sky: Floats) -> Floats:
        """Return tangent plane coordinates of directions."""
        return self._plane.of_sky(sky)

    def plane_to_sky(self, plane: Floats) -> Floats:
        """Return directions of tangent plane coordinates."""
        return self._plane.to_sky(plane)


class GwcsMapping(TangentMapping):
    """Mapping of a `gwcs.WCS`; corrections are models appended to its transformation.

    A shared distortion is a model inserted before the transformation: `bend`, polynomials of the
    pixel relative to the image centre. `straight` is the WCS without this model.
    """

    def __init__(
        self,
        wcs: Any,
        image_shape: tuple[int, int] | None,
        straight: Any = None,
        bend: Polynomials | None = None,
    ) -> None:
        self.wcs = wcs
        self._straight, self._bend = wcs if straight is None else straight, bend
        shape = image_shape or wcs.array_shape
        self.shape = None if shape is None else (int(shape[0]), int(shape[1]))
        if self.shape is None:
            raise InputError("image_shape: the gwcs does not know it; give (height, width)")
        height, width = self.shape
        self._take_plane(np.array([(width - 1) / 2, (height - 1) / 2]))

    def to_sky(self, pixels: Floats) -> Floats:
        """Return unit vectors of pixels."""
        world = self.wcs(pixels[:, 0], pixels[:, 1], with_bounding_box=False)
        return unit_vector(np.asarray(world[0], float), np.asarray(world[1], float))

    def corrected(self, matrix: Floats, shift: Floats) -> GwcsMapping:
        """Append a step before the sky: to the plane, the correction, and back."""
        step = self._correction(matrix, shift)
        *before, (frame, last), end = _steps(self._straight)
        straight = self._made([*before, (frame, last | step), end])
        return self._with_bend(straight, self._bend)

    def distorted(self, lens: PolynomialDistortion) -> GwcsMapping:
        """Return the mapping with a first step that moves pixels by the distortion."""
        bend = Polynomials.of_lens(lens)
        if self._bend is not None:
            pairs = ((bend.a, self._bend.a), (bend.b, self._bend.b))
            bend = Polynomials(*(summed(p, q) for p, q in pairs))
        new = self._with_bend(self._straight, bend)
        new._plane = self._plane
        return new

    def _with_bend(self, straight: Any, bend: Polynomials | None) -> GwcsMapping:
        if bend is None:
            return GwcsMapping(straight, self.shape)
        import gwcs.coordinate_frames
        from astropy import units

        assert self.shape is not None, "checked when it was made"
        (frame, first), *others = _steps(straight)
        unbent = gwcs.coordinate_frames.Frame2D(
            name="undistorted", axes_order=(0, 1), unit=(units.pix, units.pix)
        )
        step = bend_model(bend, self.shape)
        wcs = self._made([(frame, step), (unbent, first), *others])
        return GwcsMapping(wcs, self.shape, straight, bend)

    def _made(self, steps: list[tuple[Any, Any]]) -> Any:
        """Return a gwcs of the given steps for the same image."""
        import gwcs

        new = gwcs.WCS(steps, name=self.wcs.name)
        new.bounding_box = self.wcs.bounding_box
        new.array_shape = self.shape
        return new

    def _correction(self, matrix: Floats, shift: Floats) -> Any:
        """Return the correction from sky to sky, made of astropy models, which ASDF can store."""
        from astropy.modeling import models

        plane = self._plane
        longitude, latitude = (np.degrees(float(a)) for a in longitude_latitude(plane._axes[2]))
        # The FITS native frame at this tangent point, and its axes expressed in the plane.
        down = models.RotateCelestial2Native(longitude, latitude, 180.0) | models.Sky2Pix_TAN()
        unit = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        sky = plane.to_sky(unit)
        x, y = down(*(np.degrees(a) for a in longitude_latitude(sky)))
        at = np.column_stack([x, y])
        axes = (at[1:] - at[0]).T
        inner = axes @ matrix @ np.linalg.inv(axes)
        affine = models.AffineTransformation2D(inner, translation=axes @ shift)
        return (
            down
            | affine
            | models.Pix2Sky_TAN()
            | models.RotateNative2Celestial(longitude, latitude, 180.0)
        )


def _steps(wcs: Any) -> list[tuple[Any, Any]]:
    """Return the frames of a gwcs, each with a copy of the model to the next frame."""
    import copy

    return [(step.frame, copy.deepcopy(step.transform)) for step in wcs.pipeline]


class SolvedMapping(TangentMapping):
    """Mapping of a `Solution`: a camera with an attitude."""

    def __init__(self, solution: Solution) -> None:
        self.wcs = solution
        camera = solution.camera_model
        self.shape: tuple[int, int] | None = solution.image_shape
        self._half = np.array([camera.image_shape[1], camera.image_shape[0]]) / 2
        self._take_plane(self._half)

    def to_sky(self, pixels: Floats) -> Floats:
        """Return unit vectors of pixels."""
        at = pixels - self._half
        return np.asarray(self.wcs.matched_stars._core.pixel_to_sky(np.ascontiguousarray(at)))

    def corrected(self, matrix: Floats, shift: Floats) -> SolvedMapping:
        """Correct attitude and focal length so that the image centre follows the correction.

        A camera has neither shear nor separate scales of its axes, so only the rotation and the
        mean scale of the matrix are used.
        """
        if np.linalg.det(matrix) < 0:
            raise UndeterminedError("wcs: a camera cannot be mirrored by its attitude")
        near = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        before, after = self.plane_to_sky(near), self.plane_to_sky(near @ matrix.T + shift)
        scale = float(np.sqrt(abs(np.linalg.det(matrix))))
        turn = _turn_between(before, after)
        solution = self.wcs
        rotation = solution.rotation_matrix_icrs_to_camera @ turn.T
        camera = solution.camera_model
        camera = camera.replace(focal_length_px=camera.focal_length_px / scale)
        return SolvedMapping(moved(solution, rotation, camera))

    def distorted(self, lens: PolynomialDistortion) -> SolvedMapping:
        """Return the camera with its distortion plus that of a lens, as a polynomial."""
        camera = self.wcs.camera_model
        old = camera.distortion
        bend = Polynomials.of_lens(lens)
        a, b = (expanded(p, np.array(camera.optical_center)) for p in (bend.a, bend.b))
        if isinstance(old, RadialDistortion):
            before = _polynomials_of(old, camera.image_shape)
        elif old is not None:
            before = Polynomials.of_lens(old)
        if old is not None:
            a, b = summed(a, before.a), summed(b, before.b)
        terms = (by_degree(p, lens.scale) for p in (a, b))
        camera = camera.replace(distortion=PolynomialDistortion(len(a) - 1, lens.scale, *terms))
        return SolvedMapping(moved(self.wcs, self.wcs.rotation_matrix_icrs_to_camera, camera))


def _polynomials_of(lens: RadialDistortion, image_shape: tuple[int, int]) -> Polynomials:
    """Return the exact polynomials of a radial distortion: odd degrees, and decentring squares."""
    highest = max(
        (k for k, c in enumerate((lens.k1, lens.k2, lens.k3, lens.k4), 1) if c), default=0
    )
    points = fit_nodes(image_shape)
    bend = np.column_stack(lens.undistort(*points.T)) - points
    return Polynomials.fit(points, bend, range(max(2 * highest + 1, 2) + 1))


def _turn_between(before: Floats, after: Floats) -> Floats:
    """Return the rotation from three directions to three others, exact for the first direction."""

    def frame(v: Floats) -> Floats:
        along = v[1] - v[0] + np.cross(v[2] - v[0], v[0])
        along -= v[0] * (along @ v[0])
        along /= np.linalg.norm(along)
        return np.array([v[0], along, np.cross(v[0], along)]).T

    return np.asarray(frame(after) @ frame(before).T)


def moved(solution: Solution, rotation: Floats, camera: CameraModel) -> Solution:
    """Return a solution with another attitude and camera."""
    matches = solution.matched_stars.replace(
        quaternion=quaternion_of(rotation), camera_model=camera
    )
    return Solution.from_matches(
        matches, covariance=solution.covariance[:3, :3], probability=solution.probability
    )
