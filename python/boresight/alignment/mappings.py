"""The WCS of an image, of whatever kind, as alignment needs it: to the sky, to a plane, corrected.

Every kind has a plane in pixels of the image in which a linear correction ``M u + t`` is meant:

- of a FITS WCS the plane after distortion and before the CD matrix, about CRPIX, as in tweakwcs;
- of a gwcs and of a solution the tangent plane at the middle of the image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.arrays import east_north, longitude_latitude, quaternion_of, unit_vector
from boresight.alignment.sip import by_degree, expanded, move_sip, summed
from boresight.camera.distortion import PolynomialDistortion, RadialDistortion
from boresight.camera.model import CameraModel
from boresight.errors import InputError, UndeterminedError
from boresight.solver.solution import Solution
from boresight.wcs.polynomials import Polynomials, fit_nodes

if TYPE_CHECKING:
    from astropy.wcs import WCS

__all__ = ["Mapping", "mapping_of"]

Floats = NDArray[np.float64]

EXACT_PX = 1e-5
"""A corrected FITS WCS that misses the correction by more than this, in pixels, is refused."""

FAR_RAD = 0.1
"""Distance of the places by which a FITS WCS gets its plane: far beyond rounding."""

STEP_PX = 1.0
"""Step of the numerical derivative by which a gwcs gets its plane; the plane may be any."""


class Mapping(Protocol):
    """The parts of a WCS that alignment uses; pixels are 0-based array pixels, (n, 2)."""

    wcs: Any
    shape: tuple[int, int] | None

    def to_sky(self, pixels: Floats) -> Floats:
        """Give unit vectors (n, 3) that pixels see."""

    def to_plane(self, pixels: Floats) -> Floats:
        """Plane coordinates (n, 2) of pixels."""

    def sky_to_plane(self, sky: Floats) -> Floats:
        """Plane coordinates (n, 2) of unit vectors; NaN where there are none."""

    def plane_to_sky(self, plane: Floats) -> Floats:
        """Give unit vectors (n, 3) of plane coordinates."""

    def corrected(self, matrix: Floats, shift: Floats) -> Mapping:
        """Give the mapping whose plane is that of this one after ``matrix @ u + shift``."""

    def distorted(self, lens: PolynomialDistortion) -> Mapping:
        """Give the mapping with more distortion, a polynomial of the pixel from the middle."""


def mapping_of(wcs: Any, image_shape: tuple[int, int] | None) -> Mapping:
    """Give the mapping of a WCS, which itself is never changed."""
    if isinstance(wcs, Solution):
        return SolvedMapping(wcs)
    from astropy.wcs import WCS

    if isinstance(wcs, WCS):
        return FitsMapping(wcs, image_shape)
    if hasattr(wcs, "forward_transform") and hasattr(wcs, "available_frames"):
        return GwcsMapping(wcs, image_shape)
    raise InputError(
        f"wcs: {type(wcs).__name__} is none; give an astropy.wcs.WCS, a gwcs.WCS or a Solution"
    )


class FitsMapping:
    """An `astropy.wcs.WCS`."""

    def __init__(self, wcs: WCS, image_shape: tuple[int, int] | None) -> None:
        if wcs.naxis != 2 or not wcs.has_celestial:
            raise InputError(
                "wcs: it has not two axes on the sky; give the celestial part, wcs.celestial"
            )
        self.wcs = wcs
        shape = wcs.pixel_shape
        self.shape = image_shape or (None if shape is None else (int(shape[1]), int(shape[0])))
        self._crpix = np.array(wcs.wcs.crpix) - 1.0
        self._tangent: TangentPlane | None = None
        frame = wcs.wcs.radesys.strip().upper()
        self._icrs = frame in ("", "ICRS", "FK5") and wcs.wcs.lngtyp == "RA"
        if not np.isfinite(wcs.pixel_scale_matrix).all() or not np.linalg.det(
            wcs.pixel_scale_matrix
        ):
            raise InputError("wcs: its CD matrix has no inverse; give one that maps to the sky")

    def _vectors(self, world: Floats) -> Floats:
        longitude, latitude = (0, 1) if self.wcs.wcs.lng == 0 else (1, 0)
        if self._icrs:
            return unit_vector(world[:, longitude], world[:, latitude])
        from astropy.coordinates import SkyCoord
        from astropy.wcs.utils import wcs_to_celestial_frame

        frame = wcs_to_celestial_frame(self.wcs)
        sky = SkyCoord(world[:, longitude], world[:, latitude], unit="deg", frame=frame).icrs
        return unit_vector(sky.ra.deg, sky.dec.deg)

    def _world(self, sky: Floats) -> Floats:
        longitude, latitude = longitude_latitude(sky)
        pair = np.degrees([longitude % (2 * np.pi), latitude])
        if not self._icrs:
            from astropy.coordinates import SkyCoord
            from astropy.wcs.utils import wcs_to_celestial_frame

            frame = wcs_to_celestial_frame(self.wcs)
            there = SkyCoord(*pair, unit="deg").transform_to(frame).spherical
            pair = np.array([there.lon.deg, there.lat.deg])
        return np.asarray(pair.T if self.wcs.wcs.lng == 0 else pair[::-1].T)

    def to_sky(self, pixels: Floats) -> Floats:
        """Give unit vectors that pixels see."""
        return self._vectors(self.wcs.all_pix2world(pixels, 0))

    def to_plane(self, pixels: Floats) -> Floats:
        """Pixels after distortion, from CRPIX."""
        return np.asarray(self.wcs.pix2foc(pixels, 0) - self._crpix)

    def sky_to_plane(self, sky: Floats) -> Floats:
        """Undistorted pixels of directions, NaN on the far side of the sky."""
        if len(sky) == 0:
            return np.zeros((0, 2))
        if self._tangent is None and self.projection in ("TAN", "TAN-SIP"):
            self._tangent = self._tangent_plane()
        if self._tangent is not None:
            return self._tangent.of_sky(sky)
        return np.asarray(self.wcs.wcs_world2pix(self._world(sky), 0) - self._crpix)

    @property
    def projection(self) -> str:
        """Its letters in the header, with "-SIP" of one that has such polynomials."""
        # WCSLIB takes TPV apart into TAN and a distortion; its header tells.
        if "TPV" in self.wcs.wcs.to_header():
            return "TPV"
        return str(self.wcs.wcs.ctype[0])[5:]

    def _tangent_plane(self) -> TangentPlane:
        """Give the plane of a TAN projection, from three of its places: it is linear there."""
        length = FAR_RAD / np.sqrt(abs(np.linalg.det(np.radians(self.wcs.pixel_scale_matrix))))
        center, *ends = self.plane_to_sky(length * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        steps = [end / (end @ center) - center for end in ends]
        return TangentPlane.about(center, np.array(steps) / length)

    def plane_to_sky(self, plane: Floats) -> Floats:
        """Directions of undistorted pixels."""
        return self._vectors(self.wcs.wcs_pix2world(plane + self._crpix, 0))

    def corrected(self, matrix: Floats, shift: Floats) -> FitsMapping:
        """Give the same with a new CD matrix, CRPIX and, where there is distortion, polynomials.

        CRVAL stays, and CRPIX becomes the pixel that sees it. The polynomials are expanded about
        it, which is exact.
        """
        wcs = self.wcs.deepcopy()
        inverse = np.linalg.inv(matrix)
        target = -inverse @ shift
        linear = matrix
        if wcs.sip is None:
            wcs.wcs.crpix = wcs.wcs.crpix + target
        else:
            linear = matrix @ move_sip(wcs, target)
        _turn_matrix(wcs, self.wcs.pixel_scale_matrix @ linear)
        wcs.wcs.set()
        new = FitsMapping(wcs, self.shape)
        self._check(new, matrix, shift)
        return new

    def distorted(self, lens: PolynomialDistortion) -> FitsMapping:
        """Give the same with SIP polynomials to which those of a lens are added.

        Its plane stays that about CRPIX, so the polynomials have terms of degree 0 and 1: a
        correction puts these into CRPIX and the CD matrix.
        """
        from astropy.wcs import Sip

        if self.shape is None:
            raise InputError("image_shape: needed for a shared distortion; give (height, width)")
        wcs = self.wcs.deepcopy()
        if self.projection not in ("TAN", "TAN-SIP"):
            raise InputError(
                f"imcat: a WCS of {self.projection} holds no shared distortion; give TAN or "
                "TAN-SIP, or Solutions"
            )
        half = np.array(self.shape[::-1]) / 2
        bend = Polynomials.of_lens(lens)
        a, b = (expanded(p, self._crpix - half) for p in (bend.a, bend.b))
        inverse = (np.zeros((len(a) + 1, len(a) + 1)),) * 2
        if wcs.sip is not None:
            a = a if wcs.sip.a is None else summed(a, wcs.sip.a)
            b = b if wcs.sip.b is None else summed(b, wcs.sip.b)
            inverse = wcs.sip.ap, wcs.sip.bp
        wcs.wcs.ctype = [f"{kind[:5]}TAN-SIP" for kind in wcs.wcs.ctype]
        wcs.pixel_shape = self.shape[::-1]
        wcs.sip = Sip(a, b, *inverse, wcs.wcs.crpix)
        wcs.wcs.set()
        return FitsMapping(wcs, self.shape)

    def _check(self, new: FitsMapping, matrix: Floats, shift: Floats) -> None:
        height, width = self.shape or (2 * abs(self._crpix[::-1]) + 1)
        corners = np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]])
        wanted = self.plane_to_sky(self.to_plane(corners) @ matrix.T + shift)
        scale = np.sqrt(abs(np.linalg.det(np.radians(self.wcs.pixel_scale_matrix))))
        miss = np.linalg.norm(new.to_sky(corners) - wanted, axis=1).max() / scale
        if not miss <= EXACT_PX:
            raise UndeterminedError(
                f"wcs: a correction of it misses by {miss:.3g} px; give one of TAN, TAN-SIP or TPV"
            )


def _turn_matrix(wcs: WCS, matrix: Floats) -> None:
    """Give a WCS another matrix, in degrees a pixel, in the cards that it has."""
    inner = wcs.wcs
    if inner.has_cd():
        inner.cd = matrix
        return
    scales = np.array(inner.cdelt)
    if inner.has_crota():
        inner.crota = [0.0, 0.0]
    inner.pc = matrix / scales[:, None]


class TangentPlane:
    """The plane that touches the sphere at a direction, in pixels."""

    def __init__(self, axes: Floats, matrix: Floats) -> None:
        self._axes, self._matrix = axes, matrix
        self._inverse: Floats = np.asarray(np.linalg.inv(matrix), dtype=np.float64)

    @classmethod
    def about(cls, center: Floats, along: Floats) -> TangentPlane:
        """At a direction, with the steps of a pixel along x and y as its unit vectors."""
        third = center / np.linalg.norm(center)
        axes = np.array([*east_north(third), third])
        steps = along @ axes.T
        return cls(axes, np.ascontiguousarray(steps[:, :2].T))

    def of_sky(self, sky: Floats) -> Floats:
        """Plane coordinates; NaN on the far side."""
        return core.project(np.ascontiguousarray(sky), self._axes, self._inverse)

    def to_sky(self, plane: Floats) -> Floats:
        """Give unit vectors."""
        flat = plane @ self._matrix.T
        v = np.column_stack([flat, np.ones(len(flat))]) @ self._axes
        return np.asarray(v / np.linalg.norm(v, axis=1, keepdims=True))


class TangentMapping(ABC):
    """A mapping that has no plane of its own: it takes the tangent plane of its middle."""

    _plane: TangentPlane

    def _take_plane(self, middle: Floats) -> None:
        """Take the plane about a pixel, its axes along those of the image."""
        near = self.to_sky(middle + STEP_PX * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]))
        if not np.isfinite(near).all():
            raise InputError("wcs: the middle of the image sees nothing; give a WCS that maps it")
        along = np.array([near[1] - near[2], near[3] - near[4]]) / (2.0 * STEP_PX)
        self._plane = TangentPlane.about(near[0], along)

    @abstractmethod
    def to_sky(self, pixels: Floats) -> Floats:
        """Give unit vectors that pixels see."""

    def to_plane(self, pixels: Floats) -> Floats:
        """Tangent plane of pixels."""
        return self._plane.of_sky(self.to_sky(pixels))

    def sky_to_plane(self, sky: Floats) -> Floats:
        """Tangent plane of directions."""
        return self._plane.of_sky(sky)

    def plane_to_sky(self, plane: Floats) -> Floats:
        """Directions of the tangent plane."""
        return self._plane.to_sky(plane)


class GwcsMapping(TangentMapping):
    """A `gwcs.WCS`; corrections are models that are put behind its transformation."""

    def __init__(self, wcs: Any, image_shape: tuple[int, int] | None) -> None:
        self.wcs = wcs
        shape = image_shape or wcs.array_shape
        self.shape = None if shape is None else (int(shape[0]), int(shape[1]))
        if self.shape is None:
            raise InputError("image_shape: the gwcs does not know it; give (height, width)")
        height, width = self.shape
        self._take_plane(np.array([(width - 1) / 2, (height - 1) / 2]))

    def to_sky(self, pixels: Floats) -> Floats:
        """Give unit vectors that pixels see."""
        world = self.wcs(pixels[:, 0], pixels[:, 1], with_bounding_box=False)
        return unit_vector(np.asarray(world[0], float), np.asarray(world[1], float))

    def corrected(self, matrix: Floats, shift: Floats) -> GwcsMapping:
        """Give the same with a step more before the sky: to the plane, the correction, and back."""
        import copy

        import gwcs

        step = self._correction(matrix, shift)
        pipeline = [(s.frame, copy.deepcopy(s.transform)) for s in self.wcs.pipeline]
        frame, last = pipeline[-2]
        pipeline[-2] = (frame, last | step)
        new = gwcs.WCS(pipeline, name=self.wcs.name)
        new.bounding_box = self.wcs.bounding_box
        new.array_shape = self.shape
        return GwcsMapping(new, self.shape)

    def distorted(self, lens: PolynomialDistortion) -> GwcsMapping:
        """Refuse: a gwcs has no polynomials of its own that could take them up."""
        raise InputError(
            "imcat: a gwcs holds no shared distortion; give a TAN or TAN-SIP WCS, or Solutions"
        )

    def _correction(self, matrix: Floats, shift: Floats) -> Any:
        """From the sky to the sky, by astropy's models, which ASDF stores."""
        from astropy.modeling import models

        plane = self._plane
        longitude, latitude = (np.degrees(float(a)) for a in longitude_latitude(plane._axes[2]))
        # The native frame of FITS at this tangent point, and its axes in those of the plane.
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


class SolvedMapping(TangentMapping):
    """A solution: a camera at an attitude."""

    def __init__(self, solution: Solution) -> None:
        self.wcs = solution
        camera = solution.camera_model
        self.shape: tuple[int, int] | None = solution.image_shape
        self._half = np.array([camera.image_shape[1], camera.image_shape[0]]) / 2
        self._take_plane(self._half)

    def to_sky(self, pixels: Floats) -> Floats:
        """Give unit vectors that pixels see."""
        at = pixels - self._half
        return np.asarray(self.wcs.matched_stars._core.pixel_to_sky(np.ascontiguousarray(at)))

    def corrected(self, matrix: Floats, shift: Floats) -> SolvedMapping:
        """Give the camera turned, and of the focal length, so that the middle of the image follows.

        A camera has no shear and no scale of its own along either axis: of the matrix its rotation
        and its mean scale are taken.
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
        """Give the camera with a polynomial distortion to which that of a lens is added."""
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
    """Give the polynomials that a radial distortion is: of odd degree, with decentring squares."""
    highest = max(
        (k for k, c in enumerate((lens.k1, lens.k2, lens.k3, lens.k4), 1) if c), default=0
    )
    points = fit_nodes(image_shape)
    bend = np.column_stack(lens.undistort(*points.T)) - points
    return Polynomials.fit(points, bend, range(max(2 * highest + 1, 2) + 1))


def _turn_between(before: Floats, after: Floats) -> Floats:
    """Give the rotation that takes three directions to three others, exact for the first."""

    def frame(v: Floats) -> Floats:
        along = v[1] - v[0] + np.cross(v[2] - v[0], v[0])
        along -= v[0] * (along @ v[0])
        along /= np.linalg.norm(along)
        return np.array([v[0], along, np.cross(v[0], along)]).T

    return np.asarray(frame(after) @ frame(before).T)


def moved(solution: Solution, rotation: Floats, camera: CameraModel) -> Solution:
    """Give a solution at another attitude."""
    matches = solution.matched_stars.replace(
        quaternion=quaternion_of(rotation), camera_model=camera
    )
    return Solution.from_matches(
        matches, covariance=solution.covariance[:3, :3], probability=solution.probability
    )
