"""The solution of one frame: its attitude, its camera, and the sky position of every pixel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils.arrays import east_north, unit_vector
from boresight._utils.html import html_table
from boresight._utils.naming import named
from boresight.apparent.place import ApparentPlace
from boresight.camera.model import CameraModel
from boresight.solver.exports import SkyExports
from boresight.solver.mapping import ARCSEC_PER_RADIAN, Intrinsics
from boresight.solver.matches import MatchedStars
from boresight.solver.tables import match_table

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.table import QTable
    from astropy.time import Time
    from astropy.units import Quantity

    from boresight.apparent.refraction import Refraction

__all__ = ["Solution"]

Floats = NDArray[np.float64]

#: Attributes that are numbers, in the order of `Solution.to_dict`.
_NUMBERS = (
    "ra_deg", "dec_deg", "roll_deg", "fov_deg", "parity_flip", "num_matches", "rmse_arcsec",
    "p90e_arcsec", "max_err_arcsec", "probability", "solve_time_ms",
)  # fmt: skip


@named
class Solution(SkyExports):
    """A solved frame, as returned by `boresight.solve_from_centroids`.

    Pixels are measured from the image's centre: ``x = column - width / 2`` and
    ``y = row - height / 2``.
    Sky positions are ICRS, degrees. If an observer's velocity was given to the solver, stellar
    aberration is removed, so that positions are ICRS in every case.

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
        """Make a solution from matched stars.

        Parameters
        ----------
        matches : MatchedStars
            The stars, with the camera, the attitude and the apparent place of the solution.
        covariance : array_like, shape (n, n), optional
            Covariance of the first n parameters of `Solution.covariance`, such as the attitude's
            three. Default: zero.
        probability : float
            Upper bound on the probability that such a match arises by chance. Default 0.
        solve_time_ms : float
            Time that solving took, ms. Default 0.
        intrinsics : Intrinsics, optional
            Uncertainty of the intrinsics, from a calibration.

        Returns
        -------
        Solution
        """
        cov = np.zeros((0, 0)) if covariance is None else np.asarray(covariance, np.float64)
        solved = core.Solution(matches._core, cov, float(probability))
        return cls._from_core(solved, matches.place, solve_time_ms, intrinsics, matches._magnitudes)

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

        Its lens is of the form that the argument `lens` of the solver asked for. If neither `lens`
        nor a camera model was given, and the stars show distortion (by five standard deviations),
        it has a radial term and, if significant, an optical centre.
        """
        return CameraModel._from_core(self._core.matches.camera)

    @property
    def center(self) -> SkyCoord:
        """Sky position of the image's centre, as a SkyCoord in ICRS."""
        from astropy.coordinates import SkyCoord

        return SkyCoord(self.ra_deg, self.dec_deg, unit="deg")

    @property
    def roll(self) -> Quantity:
        """`roll_deg` as a Quantity."""
        return _quantity(self.roll_deg, "deg")

    @property
    def fov(self) -> Quantity:
        """`fov_deg` as a Quantity."""
        return _quantity(self.fov_deg, "deg")

    @property
    def pixel_scale(self) -> Quantity:
        """Angular size of a pixel at the optical axis, arcsec per pixel."""
        return _quantity(self.camera_model.pixel_scale_arcsec, "arcsec / pix")

    @property
    def rmse(self) -> Quantity:
        """`rmse_arcsec` as a Quantity."""
        return _quantity(self.rmse_arcsec, "arcsec")

    @property
    def time(self) -> Time | None:
        """Time of the frame (UTC); `None` unless it was given to the solver with the `place`."""
        from astropy.time import Time

        epoch = self._place.epoch
        return None if epoch is None else Time(epoch, format="jyear", scale="tdb").utc

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
        """Rotation ICRS to camera as a (3, 3) matrix; its rows are the camera's axes in ICRS."""
        return np.array(self._core.matches.rotation_matrix)

    @property
    def attitude_cov_rad2(self) -> Floats:
        """Covariance (3, 3) of the attitude, as a rotation about the camera's x, y, z axes, rad².

        These are the first rows and columns of `covariance`. Elements (0, 0) and (1, 1) are the
        variances of the pointing along y and x, (2, 2) is the variance of the roll.
        """
        return self.covariance[:3, :3]

    @property
    def covariance(self) -> Floats:
        """Covariance (7, 7) of the fitted parameters.

        The order is: rotation about the camera's x, y, z axes (rad), focal length (px), radial
        coefficient k1 of `camera_model`, its optical centre's x and y (px). Parameters that were
        not fitted, because they were given or not significant, have rows and columns of zeros. In
        solutions of `boresight.calibrate`, whose camera has a separate covariance
        (`CalibrationResult.covariance`), and in solutions with a fitted `lens`, all parameters but
        the attitude have zeros.

        The covariance is ``s² (Jᵀ W J)⁻¹`` of the robust fit, with ``s²`` the weighted residual
        variance over ``2 n - p`` degrees of freedom for `p` parameters.
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
        """Catalogue identifier of each matched star, shape (n,)."""
        return self._core.matches.ids

    @property
    def matched_directions(self) -> Floats:
        """ICRS unit vectors of the matched stars, shape (n, 3).

        Hipparcos stars are at the epoch of the `place`. Other stars, and all stars if the `place`
        has no epoch, are at the epoch of the database.
        """
        return self._core.matches.directions

    @property
    def matched_stars(self) -> MatchedStars:
        """The matched stars: their pixels, catalogue identifiers, directions and probabilities."""
        return MatchedStars._from_core(self._core.matches, self._place, self._magnitudes)

    @property
    def star_database(self) -> str | None:
        """Description of the star database with which the frame was solved, as text.

        None for a solution that was made from matches or unpickled.

        Examples
        --------
        >>> import boresight
        >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
        >>> image = boresight.simulate_frame(camera, ra_deg=83.8, dec_deg=-1.2, seed=1).image
        >>> boresight.solve(image, 15.0).star_database
        '117959 stars, 8... patterns, epoch J2025.0, checksum ...'
        """
        database = self._magnitudes
        if not isinstance(database, core.Database):
            return None
        epoch = database.parameters()["epoch"]
        dated = "" if epoch is None else f"epoch J{epoch}, "
        return (
            f"{database.num_stars} stars, {database.num_patterns} patterns, {dated}"
            f"checksum {database.checksum:08x}"
        )

    @property
    def matches(self) -> QTable:
        """The matched stars as a table with units, one row per star.

        Columns: ``centroid`` (index in the list that was solved), ``x`` and ``y`` (measured, pixels
        from the image's centre), ``sky`` (sky position of that pixel: a SkyCoord), ``catalog_id``,
        ``catalog_sky`` (catalogue position at the epoch of the match), ``magnitude`` (of the
        catalogue; NaN where unknown), ``residual`` (angle between the two positions) and
        ``probability`` (that the match is correct).

        See Also
        --------
        matched_stars : the same as arrays, as calibration takes it.

        Examples
        --------
        >>> import boresight
        >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
        >>> image = boresight.simulate_frame(camera, ra_deg=83.8, dec_deg=-1.2, seed=1).image
        >>> matches = boresight.solve(image, 15.0).matches
        >>> matches.sort("magnitude")
        >>> print(f"{matches['catalog_id'][0]} {matches['magnitude'][0]:.1f}")  # Rigel
        24436 0.2
        """
        return match_table(self)

    @property
    def residuals_arcsec(self) -> Floats:
        """Angle between each matched centroid and its star, arcsec, shape (n,)."""
        return self._core.matches.residuals * ARCSEC_PER_RADIAN

    @property
    def rmse_arcsec(self) -> float:
        """Root mean square of the residuals, arcsec."""
        return float(np.sqrt(np.mean(self.residuals_arcsec**2)))

    @property
    def p90e_arcsec(self) -> float:
        """90th percentile of the residuals, arcsec."""
        return float(np.percentile(self.residuals_arcsec, 90.0))

    @property
    def max_err_arcsec(self) -> float:
        """Largest residual, arcsec."""
        return float(self.residuals_arcsec.max())

    @property
    def probability(self) -> float:
        """Upper bound on the probability that such a match arises by chance."""
        return self._core.probability

    @property
    def solve_time_ms(self) -> float:
        """Wall time the solver took, milliseconds."""
        return self._solve_time_ms

    @property
    def place(self) -> ApparentPlace:
        """Apparent place of the frame: aberration and refraction that were taken into account."""
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
        center = unit_vector(*self.crval_deg)
        east, north = east_north(center)
        plane = np.array([ends @ east, ends @ north]) / (ends @ center)
        per_px: Floats = np.column_stack([plane[:, 0] - plane[:, 1], plane[:, 2] - plane[:, 3]])
        return np.degrees(per_px)

    @property
    def theta_deg(self) -> float:
        """Direction of +x on the sky at the image centre, from east towards north, degrees."""
        east, north = self.cd_matrix[:, 0]
        return float(np.degrees(np.arctan2(north, east)))

    def to_dict(self) -> dict[str, Any]:
        """Return the solution as numbers, text and lists, for JSON.

        Returns
        -------
        dict
            Keys and units are those of the attributes; ``camera_model`` is as `CameraModel.to_dict`
            gives it.

        Examples
        --------
        >>> import boresight, json
        >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
        >>> image = boresight.simulate_frame(camera, ra_deg=83.8, dec_deg=-1.2, seed=1).image
        >>> solution = boresight.solve(image, 15.0)
        >>> json.loads(json.dumps(solution.to_dict()))["image_shape"]
        [512, 512]
        """
        numbers: dict[str, Any] = {name: getattr(self, name) for name in _NUMBERS}
        time = self.time
        return numbers | {
            "image_shape": list(self.image_shape),
            "quaternion": self.quaternion.tolist(),
            "covariance": self.covariance.tolist(),
            "camera_model": self.camera_model.to_dict(),
            "time": None if time is None else time.isot,
            "observer_velocity_km_s": None
            if self._place.velocity_km_s is None
            else list(self._place.velocity_km_s),
        }

    def _repr_html_(self) -> str:
        return html_table(
            "Solution",
            (
                ("Centre", self.center.to_string("hmsdms", precision=1)),
                ("", f"RA {self.ra_deg:.5f}, Dec {self.dec_deg:+.5f} deg (ICRS)"),
                ("Roll", f"{self.roll_deg:.4f} deg" + (", mirrored" if self.parity_flip else "")),
                ("Field of view", f"{self.fov_deg:.4f} deg, {self.pixel_scale:.4g}"),
                ("Stars", f"{self.num_matches}, RMSE {self.rmse_arcsec:.2f} arcsec"),
                ("False-alarm probability", f"at most {self.probability:.1e}"),
                ("Time to solve", f"{self.solve_time_ms:.1f} ms"),
            ),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        rest = {
            "covariance": self.covariance,
            "probability": self.probability,
            "solve_time_ms": self._solve_time_ms,
            "intrinsics": self._all_intrinsics,
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


def _quantity(value: float, unit: str) -> Quantity:
    from astropy.units import Quantity

    return Quantity(value, unit)
