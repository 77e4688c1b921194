"""The solution of one frame: where every pixel looks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils.files import write_atomically
from boresight.apparent.place import ApparentPlace
from boresight.camera.model import CameraModel
from boresight.solver.mapping import ARCSEC_PER_RADIAN, Intrinsics, SkyMapping
from boresight.solver.matches import MatchedStars
from boresight.wcs.camera import fit_camera_wcs

if TYPE_CHECKING:
    import os

    from astropy.wcs import WCS
    from gwcs import WCS as GWCS

    from boresight.apparent.refraction import Refraction

__all__ = ["Solution"]

Floats = NDArray[np.float64]


class Solution(SkyMapping):
    """A solved frame, as returned by `boresight.solve_from_centroids`.

    Pixels are measured from the image's centre: ``x = column - width / 2`` and
    ``y = row - height / 2``.
    Sky positions are ICRS, degrees; if an observer's velocity was given to the solver, stellar
    aberration is removed again, so that they are ICRS in every case.

    Solutions are immutable and can be pickled.

    Examples
    --------
    >>> import boresight
    >>> database = boresight.SolverDatabase.generate_from_hipparcos(max_fov_deg=20)
    >>> camera = boresight.CameraModel.from_fov(15.0, (1024, 1024))
    >>> frame = boresight.simulate_frame(camera, ra_deg=83.8, dec_deg=-1.2, roll_deg=30.0, seed=1)
    >>> stars = boresight.extract_centroids(frame.image)
    >>> solution = database.solve_from_centroids(
    ...     stars.centroids, fov_estimate_deg=14.5, image_shape=(1024, 1024)
    ... )
    >>> print(f"{solution.ra_deg:.2f} {solution.dec_deg:.2f} {solution.roll_deg:.1f}")
    83.80 -1.20 30.0
    >>> ra, dec = solution.pixel_to_world(100.0, -50.0)
    >>> x, y = solution.world_to_pixel(ra, dec)
    >>> print(f"{x:.3f} {y:.3f}")
    100.000 -50.000
    """

    __slots__ = ()

    @classmethod
    def from_matches(
        cls,
        matches: MatchedStars,
        *,
        covariance: ArrayLike | None = None,
        probability: float = 0.0,
        solve_time_ms: float = 0.0,
        intrinsics: Intrinsics | None = None,
    ) -> Solution:
        """Make a solution of matched stars and how they were matched.

        Parameters
        ----------
        matches : MatchedStars
            The stars, with the camera, the attitude and the apparent place of the solution.
        covariance : array_like, shape (n, n), optional
            Covariance of the first n parameters of `covariance`, such as the attitude's three.
            Default: zero.
        probability : float
            Bound on the probability that chance gives such a match. Default 0.
        solve_time_ms : float
            Time that solving took. Default 0.
        intrinsics : Intrinsics, optional
            Uncertainty of the intrinsics, from a calibration.

        Returns
        -------
        Solution
        """
        cov = np.zeros((0, 0)) if covariance is None else np.asarray(covariance, np.float64)
        solved = core.Solution(matches._core, cov, float(probability))
        return cls(solved, matches.place, solve_time_ms, intrinsics)

    @property
    def ra_deg(self) -> float:
        """Right ascension of the image centre, pixel (0, 0), degrees from 0 to 360."""
        return math.degrees(self._core.pointing.ra)

    @property
    def dec_deg(self) -> float:
        """Declination of the image centre, pixel (0, 0), degrees."""
        return math.degrees(self._core.pointing.dec)

    @property
    def roll_deg(self) -> float:
        """Position angle of the image's up (-y) at its centre, from north through east, degrees."""
        return math.degrees(self._core.pointing.roll)

    @property
    def fov_deg(self) -> float:
        """Horizontal field of view of the pinhole camera with the fitted focal length, degrees."""
        return math.degrees(self._core.matches.camera.fov)

    @property
    def camera_model(self) -> CameraModel:
        """The camera, with the focal length and parity found on this frame.

        If none was given to the solver, and the stars show distortion (by five standard
        deviations), it has a radial term and, as significant, an optical centre.
        """
        return CameraModel._from_core(self._core.matches.camera)

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.camera_model.image_shape

    @property
    def parity_flip(self) -> bool:
        """True when the image shows the sky mirrored."""
        return self._core.matches.camera.parity_flip

    @property
    def quaternion(self) -> Floats:
        """Attitude: unit quaternion (w, x, y, z), w >= 0, of the rotation ICRS to camera."""
        return np.array(self._core.matches.quaternion)

    @property
    def rotation_matrix_icrs_to_camera(self) -> Floats:
        """The same rotation as a (3, 3) matrix; its rows are the camera's axes in ICRS."""
        return np.array(self._core.matches.rotation_matrix)

    @property
    def attitude_cov_rad2(self) -> Floats:
        """Covariance (3, 3) of the attitude, as a rotation about the camera's x, y, z axes, rad².

        The first rows and columns of `covariance`. Elements (0, 0) and (1, 1) are the pointing
        errors along y and x, (2, 2) that of the roll.
        """
        return self.covariance[:3, :3]

    @property
    def covariance(self) -> Floats:
        """Covariance (7, 7) of all that was fitted.

        In this order: rotation about the camera's x, y, z axes (rad), focal length (px), radial
        coefficient k1 of `camera_model`, its optical centre's x and y (px). What was not fitted,
        because it was given or the frame did not ask for it, has rows and columns of zeros; in the
        solutions of `boresight.calibrate`, whose camera has a covariance of its own
        (`CalibrationResult.covariance`), all but the attitude's.

        ``s² (Jᵀ W J)⁻¹`` of the robust fit, with ``s²`` the weighted residual variance over
        ``2 n - p`` degrees of freedom for `p` parameters.
        """
        return self._core.covariance

    @property
    def num_matches(self) -> int:
        """Number of matched stars."""
        return len(self._core.matches)

    @property
    def matched_centroids(self) -> NDArray[np.uint64]:
        """Indices of the matched centroids in the list that was solved, shape (n,)."""
        return self._core.matches.detections

    @property
    def matched_catalog_ids(self) -> NDArray[np.int64]:
        """Catalogue number of each matched centroid's star, shape (n,)."""
        return self._core.matches.ids

    @property
    def matched_directions(self) -> Floats:
        """ICRS unit vectors of the matched stars at the database's epoch, shape (n, 3)."""
        return self._core.matches.directions

    @property
    def matched_stars(self) -> MatchedStars:
        """The matched stars: their pixels, catalogue numbers and directions, and probabilities."""
        return MatchedStars._from_core(self._core.matches, self._place)

    @property
    def residuals_arcsec(self) -> Floats:
        """Angle between each matched centroid and its star, shape (n,)."""
        return self._core.matches.residuals * ARCSEC_PER_RADIAN

    @property
    def rmse_arcsec(self) -> float:
        """Root mean square of the residuals."""
        return float(np.sqrt(np.mean(self.residuals_arcsec**2)))

    @property
    def p90e_arcsec(self) -> float:
        """90th percentile of the residuals."""
        return float(np.percentile(self.residuals_arcsec, 90.0))

    @property
    def max_err_arcsec(self) -> float:
        """Largest residual."""
        return float(self.residuals_arcsec.max())

    @property
    def probability(self) -> float:
        """Upper bound on the probability that chance gives such a match."""
        return self._core.probability

    @property
    def solve_time_ms(self) -> float:
        """Wall time the solver took, milliseconds."""
        return self._solve_time_ms

    @property
    def place(self) -> ApparentPlace:
        """How the stars are displaced in this frame: what was taken into account."""
        return self._place

    @property
    def observer_velocity_km_s(self) -> Floats | None:
        """Barycentric velocity taken into account, km/s, or `None`."""
        velocity = self._place.velocity_km_s
        return None if velocity is None else np.array(velocity)

    @property
    def refraction(self) -> Refraction | None:
        """Refraction by the atmosphere taken into account, or `None`."""
        return self._place.refraction

    @property
    def crval_deg(self) -> tuple[float, float]:
        """Sky position of the reference pixel `crpix`: right ascension and declination, degrees."""
        return self.ra_deg, self.dec_deg

    @property
    def crpix(self) -> tuple[float, float]:
        """Reference pixel: the image centre, (0, 0) in pixels from the image centre."""
        return 0.0, 0.0

    @property
    def cd_matrix(self) -> Floats:
        """Derivatives (2, 2) of the tangent plane (east, north) by (x, y) at `crpix`, deg/px."""
        step = 0.5
        ends = self._sky(np.array([[step, 0], [-step, 0], [0, step], [0, -step]], float))
        ra, dec = np.radians(self.crval_deg)
        east = np.array([-np.sin(ra), np.cos(ra), 0.0])
        north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
        center = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
        plane = np.array([ends @ east, ends @ north]) / (ends @ center)
        per_px: Floats = np.column_stack([plane[:, 0] - plane[:, 1], plane[:, 2] - plane[:, 3]])
        return np.degrees(per_px)

    @property
    def theta_deg(self) -> float:
        """Direction of +x on the sky at the image centre, from east towards north, degrees."""
        east, north = self.cd_matrix[:, 0]
        return float(np.degrees(np.arctan2(north, east)))

    def wcs(self, tolerance_px: float = 0.01) -> WCS:
        """Make an `astropy.wcs.WCS` for 0-based array pixels (column, row).

        A pinhole camera gives TAN, exactly; any other TAN-SIP, of the lowest order that keeps the
        largest error over the image below the tolerance. A fisheye gives ARC, ZEA, STG or SIN about
        its optical axis, by its projection, with SIP for its distortion; the image counts as far
        from the axis as it has matched stars.

        Parameters
        ----------
        tolerance_px : float
            Largest error allowed, pixels.

        Returns
        -------
        astropy.wcs.WCS
            Its header is ``solution.wcs().to_header(relax=True)``.

        Raises
        ------
        UndeterminedError
            If the image reaches farther than the projection can show, or SIP does not represent the
            distortion of a fisheye within the tolerance.

        See Also
        --------
        gwcs : the camera model itself, not fitted.
        boresight.wcs.fit_wcs : also tells the accuracy reached.
        """
        stars = self.matched_directions @ self.rotation_matrix_icrs_to_camera.T
        return fit_camera_wcs(self.camera_model, self._sky, stars, tolerance_px)

    def gwcs(self, tolerance_px: float = 1e-6) -> GWCS:
        """Make a `gwcs.WCS` for 0-based array pixels (column, row), exact.

        It is the camera model itself and not a fit to it: distortion of either kind, any
        projection, and aberration and refraction if the solution took them out, put together from
        astropy's models. So it needs no Boresight once it is saved. Only the inverse of the
        distortion is fitted, and made exact by iteration.

        Parameters
        ----------
        tolerance_px : float
            Largest error allowed of the inverse, pixels, wherever pixels are imaged one to one.
            Default 1e-6.

        Returns
        -------
        gwcs.WCS
            With the frames "detector" (pixels), "ideal" (pixels from the optical centre, where the
            projection alone would image a star) and "icrs", and the image as its bounding box.

        Raises
        ------
        ModuleNotFoundError
            If the package gwcs is not installed: ``pip install boresight[gwcs]``.
        InputError
            If the tolerance is not positive.
        UndeterminedError
            If the inverse misses by more than the tolerance.

        See Also
        --------
        save_gwcs : writes it to a file.

        Notes
        -----
        With a bounding box, gwcs's inverse gives NaN for stars outside of the right ascensions and
        declinations that the corners of the image span, though they may be in it: near its edges,
        or at the poles. ``wcs.bounding_box = None`` gives all of them.

        Examples
        --------
        >>> import boresight
        >>> database = boresight.SolverDatabase.generate_from_hipparcos(max_fov_deg=20)
        >>> camera = boresight.CameraModel.from_fov(12.0, (512, 512))
        >>> frame = boresight.simulate_frame(camera, 83.8, -1.2, 30.0, seed=1)
        >>> stars = boresight.extract_centroids(frame.image).centroids
        >>> solution = database.solve_from_centroids(stars, 12.0, image_shape=(512, 512))
        >>> wcs = solution.gwcs()
        >>> wcs.pixel_to_world(256, 256).to_string(precision=1)
        '83.8 -1.2'
        """
        from boresight.wcs.gwcs import make_gwcs

        rotation = self.rotation_matrix_icrs_to_camera
        return make_gwcs(self.camera_model, rotation, self._place, tolerance_px)

    def save_gwcs(self, path: str | os.PathLike[str], tolerance_px: float = 1e-6) -> None:
        """Save `gwcs` as an ASDF file, for programs without Boresight.

        Parameters
        ----------
        path : path-like
            File to create or replace. It is written whole or not at all.
        tolerance_px : float
            As for `gwcs`.

        Raises
        ------
        ModuleNotFoundError, InputError, UndeterminedError
            As `gwcs`.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import asdf, boresight, pathlib, tempfile
        >>> database = boresight.SolverDatabase.generate_from_hipparcos(max_fov_deg=20)
        >>> camera = boresight.CameraModel.from_fov(12.0, (512, 512))
        >>> frame = boresight.simulate_frame(camera, 83.8, -1.2, 30.0, seed=1)
        >>> stars = boresight.extract_centroids(frame.image).centroids
        >>> solution = database.solve_from_centroids(stars, 12.0, image_shape=(512, 512))
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name) / "frame.asdf"
        >>> solution.save_gwcs(path)
        >>> with asdf.open(path) as file:
        ...     print(file["wcs"].available_frames)
        ['detector', 'ideal', 'icrs']
        >>> folder.cleanup()
        """
        from boresight.wcs.gwcs import asdf_bytes

        write_atomically(path, asdf_bytes(self.gwcs(tolerance_px)))

    def __reduce__(self) -> tuple[Any, ...]:
        rest = {
            "covariance": self.covariance,
            "probability": self.probability,
            "solve_time_ms": self._solve_time_ms,
            "intrinsics": self._intrinsics,
        }
        return _restore, (self.matched_stars, rest)

    def __repr__(self) -> str:
        return (
            f"<Solution RA {self.ra_deg:.4f} Dec {self.dec_deg:+.4f} roll {self.roll_deg:.3f} "
            f"FOV {self.fov_deg:.4f} deg: {self.num_matches} stars, RMSE "
            f"{self.rmse_arcsec:.2f} arcsec, false-alarm probability <= {self.probability:.1e}>"
        )


def _restore(matches: MatchedStars, rest: dict[str, Any]) -> Solution:
    return Solution.from_matches(matches, **rest)
