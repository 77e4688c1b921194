"""The mapping between pixels and the sky of a solved frame, with its uncertainty."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils import arguments
from boresight._utils.arrays import longitude_latitude, points_of, unit_vector
from boresight._utils.naming import named
from boresight.apparent.place import ApparentPlace
from boresight.errors import InputError
from boresight.solver.matches import Magnitudes
from boresight.solver.support import surrounded

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord

Floats = NDArray[np.float64]

ARCSEC_PER_RADIAN = 180.0 * 3600.0 / np.pi

# Parameters of the camera in `Solution.covariance`, after the attitude's three.
FITTED_INTRINSICS = ("focal_length_px", "k1", "optical_center_x", "optical_center_y")


class Intrinsics(NamedTuple):
    """Uncertainty of the intrinsics that the frames of a calibration share.

    Attributes
    ----------
    names : tuple of str
        Names of the m parameters.
    cov : ndarray of shape (m, m)
        Their covariance.
    cross_cov : ndarray of shape (m, 3)
        Their covariance with the attitude of one frame.
    systematic_px : float
        Position error per axis that all frames have in common, px.
    """

    names: tuple[str, ...]
    cov: Floats
    cross_cov: Floats
    systematic_px: float

    @classmethod
    def of_frame(cls, solved: core.Solution) -> Intrinsics | None:
        """Return the intrinsics of a lens that was fitted to one frame; None without one."""
        if solved.lens is None:
            return None
        names, joint = solved.lens
        n = len(names)
        return cls(tuple(names), joint[:n, :n], joint[:n, n:], 0.0)


@named
class SkyMapping:
    """Base class of `Solution` that converts pixels to sky positions and back."""

    __slots__ = ("_core", "_intrinsics", "_magnitudes", "_place", "_solve_time_ms")

    _core: core.Solution
    _intrinsics: Intrinsics | None
    _magnitudes: Magnitudes
    _place: ApparentPlace
    _solve_time_ms: float

    @classmethod
    def _from_core(
        cls,
        solved: core.Solution,
        place: ApparentPlace,
        solve_time_ms: float,
        intrinsics: Intrinsics | None = None,
        magnitudes: Magnitudes = None,
    ) -> Self:
        self = cls.__new__(cls)
        self._core = solved
        self._intrinsics = intrinsics
        self._magnitudes = magnitudes
        self._place = place
        self._solve_time_ms = solve_time_ms
        return self

    @property
    def _all_intrinsics(self) -> Intrinsics | None:
        """Intrinsics from a calibration, or of the lens that was fitted to the frame."""
        if self._intrinsics is not None:
            return self._intrinsics
        return Intrinsics.of_frame(self._core)

    @overload
    def pixel_to_world(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        position_cov: ArrayLike | None = None,
        return_cov: Literal[False] = False,
        source: Literal["star", "near"] = "star",
    ) -> tuple[Floats, Floats]: ...
    @overload
    def pixel_to_world(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        position_cov: ArrayLike | None = None,
        return_cov: Literal[True],
        source: Literal["star", "near"] = "star",
    ) -> tuple[Floats, Floats, Floats]: ...
    def pixel_to_world(
        self,
        x: float | ArrayLike,
        y: float | ArrayLike,
        *,
        position_cov: ArrayLike | None = None,
        return_cov: bool = False,
        source: Literal["star", "near"] = "star",
    ) -> tuple[Any, ...]:
        """Convert pixels to sky positions.

        Parameters
        ----------
        x, y : array_like
            Pixels from the image centre; scalars and arrays broadcast. NaN gives NaN.
        position_cov : array_like, shape (..., 2, 2), optional
            Covariance of the pixel positions in square pixels, such as a centroid's
            `position_cov`. Default: they are exact.
        return_cov : bool
            Also return the covariance of the sky positions. Default False.
        source : {"star", "near"}
            "star": the position of a star, corrected for the aberration that the solver took into
            account. "near": the direction of a meteor, a satellite or an aircraft, which moves with
            the observer and has no stellar aberration. Both are corrected for refraction. Default
            "star".

        Returns
        -------
        ra_deg, dec_deg : float or ndarray
            ICRS, degrees, of the broadcast shape.
        cov_arcsec2 : ndarray, shape (..., 2, 2)
            Only with `return_cov`: covariance in square arcsec along east (right ascension times
            cos(dec)) and north.

        Raises
        ------
        InputError
            If the shapes do not broadcast, or `source` is unknown.

        Notes
        -----
        The covariance includes the uncertainty of the positions, of the attitude and of the fitted
        camera parameters. In solutions of `boresight.calibrate` it includes all intrinsics, and the
        error that the positions of all frames have in common (`CalibrationResult.systematic_px`). A
        solution by the solver alone assumes that the parameters it did not fit are exact:
        distortion that the camera model lacks is not included.
        """
        if source not in ("star", "near"):
            raise InputError(f"source: {source!r} is unknown; give 'star' or 'near'")
        plain = not return_cov and source == "star"
        if plain and isinstance(x, float | int) and isinstance(y, float | int):
            return self._core.pixel_to_world(x, y)  # without the cost of arrays
        pixels, shape = points_of(x, y)
        sky = self._sky(pixels)
        if source == "near" and self._place.velocity_km_s is not None:
            still = dataclasses.replace(self._place, velocity_km_s=None)
            sky = still.icrs(self._place.apparent(sky))
        ra, dec = np.degrees(longitude_latitude(sky)).reshape(2, *shape)
        position = (ra % 360.0)[()], dec[()]
        if not return_cov:
            return position
        cov = self._pixel_cov(pixels)
        if position_cov is not None:
            try:
                given = np.broadcast_to(np.asarray(position_cov, float), (*shape, 2, 2))
            except ValueError:
                raise InputError(
                    f"position_cov: its shape is {np.shape(position_cov)}, that of x and y "
                    f"{shape}; give (..., 2, 2)"
                ) from None
            cov = cov + given.reshape(-1, 2, 2)
        per_px = self._tangent_per_px(pixels, sky)
        on_sky = per_px @ cov @ per_px.swapaxes(1, 2)
        return *position, on_sky.reshape(*shape, 2, 2)

    def _pixel_cov(self, pixels: Floats) -> Floats:
        """Covariance (n, 2, 2) of the model's positions of stars seen at these pixels, px²."""
        intrinsics = self._all_intrinsics
        if intrinsics is not None:
            names, cov, cross, common = intrinsics
            joint = np.block([[cov, cross], [cross.T, self._core.covariance[:3, :3]]])
        else:
            radial = _is_radial(self._core.matches.camera)
            names, common = FITTED_INTRINSICS if radial else FITTED_INTRINSICS[:1], 0.0
            order = [*range(3, 3 + len(names)), 0, 1, 2]
            joint = self._core.covariance[np.ix_(order, order)]
        columns = core.model_covariance(
            self._core.matches.camera, names, joint, np.ascontiguousarray(pixels)
        )
        return columns[:, [0, 1, 1, 2]].reshape(-1, 2, 2) + common**2 * np.eye(2)

    def _tangent_per_px(self, pixels: Floats, sky: Floats) -> Floats:
        """Find the derivatives (n, 2, 2) of east and north by x and y, arcsec/px."""
        steps = 0.5 * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        ends = self._sky((pixels[:, None] + steps).reshape(-1, 2)).reshape(-1, 4, 3)
        per_px = np.stack([ends[:, 0] - ends[:, 1], ends[:, 2] - ends[:, 3]], axis=-1)
        flat = np.hypot(sky[:, 0], sky[:, 1])
        with np.errstate(invalid="ignore", divide="ignore"):
            # At the pole, east is defined as at right ascension 0.
            cos, sin = np.where(flat > 0, sky[:, :2].T / flat, [[1.0], [0.0]])
        zero = np.zeros_like(flat)
        east = np.stack([-sin, cos, zero], axis=-1)
        north = np.stack([-sky[:, 2] * cos, -sky[:, 2] * sin, flat], axis=-1)
        return np.stack([east, north], axis=1) @ per_px * ARCSEC_PER_RADIAN

    def world_to_pixel(
        self, ra: ArrayLike | SkyCoord, dec: ArrayLike | None = None
    ) -> tuple[Floats, Floats]:
        """Convert sky positions to pixels.

        Parameters
        ----------
        ra, dec : array_like
            ICRS, degrees; scalars and arrays broadcast. Or `ra` alone: a
            `~astropy.coordinates.SkyCoord`.

        Returns
        -------
        x, y : float or ndarray
            Pixels from the image centre, also beyond the detector's edge; NaN for positions behind
            the camera, or so far off-axis that its distortion is not known.
        """
        if dec is None:
            try:
                sky: Any = ra
                ra, dec = sky.icrs.ra.deg, sky.icrs.dec.deg
            except AttributeError:
                raise InputError(
                    "dec: missing; give ra and dec in degrees, or one SkyCoord"
                ) from None
        ra = arguments.numbers("ra", arguments.angles("ra", ra), "give degrees")
        dec = arguments.numbers("dec", arguments.angles("dec", dec), "give degrees")
        ra, dec = np.broadcast_arrays(ra, dec)
        directions = unit_vector(ra.ravel(), dec.ravel())
        pixels = self._core.matches.sky_to_pixel(directions)
        return pixels[:, 0].reshape(ra.shape)[()], pixels[:, 1].reshape(ra.shape)[()]

    def lens_holds(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.bool_] | np.bool_:
        """Test whether pixels lie where the matched stars determine the lens.

        Parameters
        ----------
        x, y : array_like
            Pixels from the image centre; scalars and arrays broadcast.

        Returns
        -------
        bool or ndarray of bool
            True if the pixel is among the matched stars: in their convex hull, or no farther
            outside than the mean distance between them. Elsewhere a fitted lens is extrapolated,
            and `pixel_to_world` with `return_cov` gives the growth of its uncertainty.

        Examples
        --------
        >>> import boresight
        >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
        >>> frame = boresight.simulate_frame(camera, 83.8, -1.2, seed=1)
        >>> solution = boresight.solve(frame.image)
        >>> solution.lens_holds([0.0, 900.0], 0.0)
        array([ True, False])
        """
        points, shape = points_of(x, y)
        return surrounded(points, self._core.matches.pixels).reshape(shape)[()]

    def _sky(self, pixels: Floats) -> Floats:
        return self._core.matches.pixel_to_sky(np.ascontiguousarray(pixels))


def _is_radial(camera: core.CameraModel) -> bool:
    return camera.distortion is not None and camera.distortion.name == "radial"
