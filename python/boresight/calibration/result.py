"""Result of a calibration: the camera, the fit of each frame, and their uncertainties."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils.arrays import plain, points_of
from boresight._utils.html import html_table
from boresight._utils.naming import named
from boresight._utils.statistics import planar_scale
from boresight.camera.distortion import powers
from boresight.camera.model import CameraModel
from boresight.errors import InputError

if TYPE_CHECKING:
    from astropy.table import Table

    from boresight.solver.solution import Solution

__all__ = ["CalibrationResult", "DetectorMap", "FrameCalibration"]

Floats = NDArray[np.float64]

MAP_FRAMES = 8
"""Number of frames over which the expected error of the model is averaged; frames differ little."""

MAP_CELLS = 32
"""Number of cells along the longer side of maps of the detector."""

EXTRAPOLATED_PART = 0.02
"""Fraction of the detector above which an extrapolated model causes a warning."""

LARGE_MISFIT = 10.0
"""Ratio of the residuals to the positions' errors above which the fit is wrong."""

SHOWN_PARAMETERS = 12
"""Maximum number of parameters that a notebook lists; more are those of a polynomial."""

LARGE_CONDITION = 1e6
"""Condition number above which single parameters are uncertain."""


class DetectorMap(NamedTuple):
    """Map of a quantity over the detector.

    Attributes
    ----------
    values : ndarray of shape (rows, columns)
        One value for each cell.
    x_px, y_px : ndarray of shape (columns + 1,) and (rows + 1,)
        Edges of the cells, pixels from the image centre.

    Examples
    --------
    See `calibrate`.
    """

    values: Floats
    x_px: Floats
    y_px: Floats

    def __repr__(self) -> str:
        rows, columns = self.values.shape
        return f"<DetectorMap of {columns} x {rows} cells>"


@named
@dataclass(frozen=True, eq=False)
class FrameCalibration:
    """Result of one frame in a calibration.

    Attributes
    ----------
    quaternion : ndarray of shape (4,)
        Attitude with the calibrated camera: rotation from ICRS to the camera, scalar first. For a
        rejected frame, the attitude of its solution.
    attitude_cov_rad2 : ndarray of shape (3, 3)
        Covariance of a small rotation about the camera's x, y and z axes, including the uncertainty
        of the intrinsics; NaN for a rejected frame.
    residuals_px : ndarray of shape (n, 2)
        Measured minus modelled position of every matched star, in the order of the result's
        `matched_centroids`; NaN where the model gives no position.
    inliers : ndarray of bool, shape (n,)
        Whether the fit used each match.
    rmse_px : float or None
        RMS length of the inliers' residuals; `None` for a rejected frame.
    rejected : str or None
        Why the frame was rejected; `None` if it was not.
    cross_cov : ndarray of shape (m, 3)
        Covariance of the m intrinsics, `CalibrationResult.parameter_names`, with that small
        rotation.
    positions_px : ndarray of shape (n, 2)
        Measured position of every matched star, pixels from the image centre.
    brightness : ndarray of shape (n,)
        Brightness of every matched star, in the units of the centroids; NaN where unknown.

    Examples
    --------
    See `calibrate`.
    """

    quaternion: Floats
    attitude_cov_rad2: Floats
    residuals_px: Floats
    inliers: NDArray[np.bool_]
    rmse_px: float | None
    rejected: str | None
    cross_cov: Floats
    positions_px: Floats
    brightness: Floats

    def __repr__(self) -> str:
        if self.rejected is not None:
            return f"<FrameCalibration: rejected, {self.rejected}>"
        return (
            f"<FrameCalibration: {self.num_inliers} stars, {self.num_outliers} left out, "
            f"RMSE {self.rmse_px:.4f} px>"
        )

    @property
    def num_inliers(self) -> int:
        """Number of matches that the fit used."""
        return int(np.count_nonzero(self.inliers))

    @property
    def num_outliers(self) -> int:
        """Number of matches that the fit excluded."""
        return len(self.inliers) - self.num_inliers


@named
@dataclass(frozen=True, eq=False, repr=False)
class CalibrationResult:
    """Result of `calibrate_camera` and `calibrate`.

    Attributes
    ----------
    camera_model : CameraModel
        The calibrated camera.
    rmse_before_px : float or None
        RMS distance in pixels between the measured positions of the inliers and those modelled by
        the frames' own solutions; `None` if the solutions model no position.
    rmse_after_px : float
        RMS distance in pixels between the same measured positions and those modelled by the
        calibrated camera.
    num_inliers, num_outliers : int
        Matches that the fit used and excluded (including those of rejected frames).
    iterations : int
        Steps of the fit.
    converged : bool
        False if `max_iterations` ended the fit early, or if `misfit` is above 10. A fit with such a
        misfit has settled, but with wrong matches or with a model that does not fit the lens.
    frames : tuple of (FrameCalibration or None)
        One for each given result, in order; `None` where the result was `None`.
    noise : float
        Standard deviation of the residuals per axis: in pixels, or, if the centroids came with
        position uncertainties, in units of these (1 if they are right).
    parameter_names : tuple of str
        The fitted parameters: ``focal_length_px``, ``B_10``, ``A_20``, ..., or ``k1``,
        ``optical_center_x``, ...
    covariance : ndarray of shape (n, n)
        Covariance of these parameters, scaled to the residuals; zero for a frozen one.
    frozen : tuple of str
        Parameters that the data do not determine; they stay zero.
    condition_number : float
        Condition number of the problem with every parameter scaled to the same information. Beyond
        1e6 the single parameters are uncertain (the model as a whole may be fine where there are
        stars).
    held_out_rmse_px : float or None
        RMS distance in pixels between the measured positions of the same stars and those predicted
        when the stars are held out. The camera is then fitted to the other frames (with one or two
        frames: to the other stars), and each frame's attitude to its other stars. It is larger than
        `rmse_after_px` because a fit adapts to noise. `None` where not requested.
    solutions : tuple of (Solution or None)
        From `boresight.calibrate`: every frame's solution with the calibrated camera; `None` for a
        frame that was rejected. Empty otherwise.
    rejected : tuple of (str or None)
        Why each frame was rejected; `None` for those that were not.
    systematic_px : float
        Error per axis that all frames have in common, as included in `model_cov_px2`.
    misfit : float or None
        Ratio of the residuals to the given errors of the centroids, or to the given `noise`; about
        1 if these are right. `None` where neither is known.
    physics : tuple of str
        Effects that were removed from the catalogue's positions before the fit, in words:
        aberration, proper motion, refraction.

    Examples
    --------
    See `calibrate`.
    """

    camera_model: CameraModel
    rmse_before_px: float | None
    rmse_after_px: float
    num_inliers: int
    num_outliers: int
    iterations: int
    converged: bool
    frames: tuple[FrameCalibration | None, ...]
    noise: float
    parameter_names: tuple[str, ...]
    covariance: Floats
    frozen: tuple[str, ...]
    condition_number: float
    held_out_rmse_px: float | None
    rejected: tuple[str | None, ...]
    solutions: tuple[Solution | None, ...] = ()
    systematic_px: float = 0.0
    physics: tuple[str, ...] = ()
    misfit: float | None = None

    @property
    def n_inliers(self) -> int:
        """Another name of `num_inliers`."""
        return self.num_inliers

    @property
    def n_outliers(self) -> int:
        """Another name of `num_outliers`."""
        return self.num_outliers

    @property
    def parameters(self) -> dict[str, tuple[float, float]]:
        """Value and standard deviation of every fitted parameter, by name."""
        sigmas = np.sqrt(np.diag(self.covariance))
        values = _parameter_values(self.camera_model)
        return {
            name: (values[name], float(sigma))
            for name, sigma in zip(self.parameter_names, sigmas, strict=True)
        }

    def model_cov_px2(self, frame: int, x: ArrayLike, y: ArrayLike) -> Floats:
        """Covariance of the model at pixels of a frame, from intrinsics and attitude together.

        This is the covariance of the position at which the model images the star that a pixel sees,
        including `systematic_px`. It does not include the uncertainty of a measured position, nor
        features of the lens that the model's form cannot follow. Far from the fitted stars it grows
        without bound, as expected.

        Parameters
        ----------
        frame : int
            Index in the list of results.
        x, y : array_like
            Pixels from the image centre; scalars and arrays broadcast.

        Returns
        -------
        ndarray of shape (..., 2, 2)
            In square pixels; multiplied by ``camera_model.pixel_scale_arcsec ** 2``, it is the
            covariance on the sky, along the pixel axes.

        Raises
        ------
        InputError
            If the frame was not solved, or was rejected.
        """
        part = self.frames[frame]
        if part is None or part.rejected is not None:
            raise InputError(f"frame: frame {frame} was not fitted; give one that was")
        joint = np.block(
            [[self.covariance, part.cross_cov], [part.cross_cov.T, part.attitude_cov_rad2]]
        )
        pixels, shape = points_of(x, y)
        cov = core.model_covariance(self.camera_model._core, self.parameter_names, joint, pixels)
        common = self.systematic_px**2 * np.eye(2)
        return cov[:, [0, 1, 1, 2]].reshape(*shape, 2, 2) + common

    def coverage(self, cells: int = MAP_CELLS) -> DetectorMap:
        """Count the stars that the fit used in cells of the detector.

        Parameters
        ----------
        cells : int
            Cells along the longer side. Default 32.

        Returns
        -------
        DetectorMap
            Number of stars of all frames in each cell.

        Raises
        ------
        InputError
            If `cells` is not above zero.
        """
        x_edges, y_edges = _edges(self.camera_model.image_shape, cells)
        used = [f.positions_px[f.inliers] for f in self.frames if f is not None]
        x, y = np.concatenate([*used, np.empty((0, 2))]).T
        counts, _, _ = np.histogram2d(y, x, bins=(y_edges, x_edges))
        return DetectorMap(counts, x_edges, y_edges)

    def model_error(self, cells: int = MAP_CELLS) -> DetectorMap:
        """Map the expected error of the model over the detector.

        Parameters
        ----------
        cells : int
            Cells along the longer side. Default 32.

        Returns
        -------
        DetectorMap
            For the centre of each cell, square root of the mean variance per axis of
            `model_cov_px2` over the frames, in pixels; NaN where the distortion folds over.

        Raises
        ------
        InputError
            If `cells` is not above zero.
        """
        x_edges, y_edges = _edges(self.camera_model.image_shape, cells)
        x, y = np.meshgrid((x_edges[1:] + x_edges[:-1]) / 2, (y_edges[1:] + y_edges[:-1]) / 2)
        used = [i for i, f in enumerate(self.frames) if f is not None and f.rejected is None]
        shown = used[:: max(1, len(used) // MAP_FRAMES)]
        total = np.zeros(x.shape)
        for frame in shown:
            cov = self.model_cov_px2(frame, x, y)
            total += (cov[..., 0, 0] + cov[..., 1, 1]) / 2.0
        return DetectorMap(np.sqrt(total / len(shown)), x_edges, y_edges)

    @cached_property
    def extrapolated(self) -> float:
        """Fraction of the detector over which the model is extrapolated, 0 to 1.

        The model is extrapolated where its expected error is larger than that of a single typical
        star, both including `systematic_px`. This cannot happen among the stars that were fitted.
        """
        limit = np.hypot(self._star_sigma_px, self.systematic_px)
        return float(np.mean(~(self.model_error().values <= limit)))

    @property
    def _star_sigma_px(self) -> float:
        """Standard deviation per axis of a typical star's residual, from their median length."""
        used = [np.hypot(*f.residuals_px[f.inliers].T) for f in self.frames if f is not None]
        return planar_scale(np.concatenate(used))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about this calibration, a sentence each; empty if all is well."""
        found = []
        if self.misfit is not None and self.misfit > LARGE_MISFIT:
            found.append(
                f"the residuals are {self.misfit:.0f} times the errors of the positions: many "
                "matches are wrong, or the model is too simple; match again with this camera, or "
                "fit a higher order"
            )
        elif not self.converged:
            found.append("the fit did not converge")
        if self.frozen:
            found.append(
                f"frozen, because the data do not determine them: {', '.join(self.frozen)}"
            )
        if self.condition_number > LARGE_CONDITION:
            found.append(
                f"single parameters are uncertain (condition number {self.condition_number:.0e})"
            )
        if self.extrapolated > EXTRAPOLATED_PART:
            found.append(
                f"the model is extrapolated over {self.extrapolated:.0%} of the detector, where "
                "too few stars constrain it: see model_error() and coverage()"
            )
        return tuple(found)

    def table(self) -> Table:
        """Make a table with one row for each solved frame.

        Returns
        -------
        astropy.table.Table
            Columns ``frame`` (index in the list that was given), ``num_inliers``, ``num_outliers``,
            ``rmse_px`` (masked for a rejected frame) and ``rejected`` (the reason, or an empty
            string).
        """
        from astropy.table import Table

        used = [(i, frame) for i, frame in enumerate(self.frames) if frame is not None]
        table = Table()
        table["frame"] = [i for i, _ in used]
        table["num_inliers"] = [frame.num_inliers for _, frame in used]
        table["num_outliers"] = [frame.num_outliers for _, frame in used]
        rmse = np.array([frame.rmse_px for _, frame in used], dtype=np.float64)  # None is NaN
        table["rmse_px"] = np.ma.masked_invalid(rmse)
        table["rmse_px"].format = ".4f"
        table["rmse_px"].unit = "pix"
        table["rejected"] = [frame.rejected or "" for _, frame in used]
        return table

    def to_dict(self) -> dict[str, Any]:
        """Give the calibration as numbers, text and lists, for JSON.

        Returns
        -------
        dict
            The attributes, ``parameters`` and ``warnings``. ``frames`` has the rows of `table`, and
            ``solutions`` the results of `Solution.to_dict`.

        Examples
        --------
        >>> import boresight
        >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
        >>> views = [boresight.simulate_frame(camera, ra, 20.0, seed=1) for ra in (10, 90)]
        >>> result = boresight.calibrate([view.image for view in views], model="radial")
        >>> round(result.to_dict()["camera_model"]["focal_length_px"] / camera.focal_length_px, 3)
        1.0
        """
        document: dict[str, Any] = plain({f.name: getattr(self, f.name) for f in fields(self)})
        rows = self.table()
        document["frames"] = [plain({name: row[name] for name in rows.colnames}) for row in rows]
        document["parameters"] = plain(self.parameters)
        document["warnings"] = list(self.warnings)
        return document

    def __repr__(self) -> str:
        count = len(self.warnings)
        notes = f", {count} warning{'s' if count > 1 else ''}" if count else ""
        return f"<CalibrationResult: {self._summary()}{notes}>"

    def __str__(self) -> str:
        notes = "".join(f"\n warning: {warning}" for warning in self.warnings)
        return f"<CalibrationResult: {self._summary()}\n {self.camera_model!r}{notes}>"

    def _repr_html_(self) -> str:
        rows = [("Frames", self._summary()), ("Camera", repr(self.camera_model))]
        if len(self.parameters) <= SHOWN_PARAMETERS:
            rows += [(n, f"{v:.6g} ± {s:.2g}") for n, (v, s) in self.parameters.items()]
        rows += [("Taken out", "; ".join(self.physics) or "nothing")]
        return html_table("Calibration", rows, self.warnings)

    def _summary(self) -> str:
        used = sum(frame is not None and frame.rejected is None for frame in self.frames)
        before = "none" if self.rmse_before_px is None else f"{self.rmse_before_px:.3f}"
        rmse = f"{before} -> {self.rmse_after_px:.3f} px"
        if self.held_out_rmse_px is not None:
            rmse += f" ({self.held_out_rmse_px:.3f} held out)"
        return (
            f"{used} of {len(self.frames)} frames, {self.num_inliers} stars, "
            f"{self.num_outliers} left out, RMSE {rmse}"
        )


def _parameter_values(camera: CameraModel) -> dict[str, float]:
    """Values of all parameters of a camera, by their names in a calibration."""
    values = {
        "focal_length_px": camera.focal_length_px,
        "optical_center_x": camera.optical_center[0],
        "optical_center_y": camera.optical_center[1],
    }
    if camera.distortion is None:
        return values
    terms = camera.distortion.to_dict()
    if terms["model"] == "radial":
        return values | {name: terms[name] for name in ("k1", "k2", "k3", "k4", "p1", "p2")}
    for axis in ("a", "b"):
        for (p, q), value in zip(powers(terms["order"]), terms[f"{axis}_coeffs"], strict=True):
            values[f"{axis.upper()}_{p}{q}"] = value
    return values


def _edges(image_shape: tuple[int, int], cells: int) -> tuple[Floats, Floats]:
    """Edges in x and y of square cells over the detector, pixels from its centre."""
    if not cells > 0:
        raise InputError(f"cells: {cells} is not above zero; give the cells along the longer side")
    height, width = image_shape
    side = max(height, width) / cells
    columns, rows = max(1, round(width / side)), max(1, round(height / side))
    return (
        np.linspace(-width / 2.0, width / 2.0, columns + 1),
        np.linspace(-height / 2.0, height / 2.0, rows + 1),
    )
