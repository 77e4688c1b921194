"""Calibration of one camera in blocks of frames, on any number of machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils.documents import pack_arrays, unpack_arrays
from boresight._utils.naming import named
from boresight.calibration.fit import matched_frames
from boresight.camera.model import CameraModel
from boresight.errors import FileFormatError, InputError

if TYPE_CHECKING:
    from boresight.solver.matches import MatchedStars
    from boresight.solver.solution import Solution

__all__ = ["CalibrationBlock", "CalibrationStep", "calibration_block"]

Floats = NDArray[np.float64]

FORMAT = "boresight calibration block 2"

#: Parts of a block that are arrays in its file; the others are in the header.
ARRAYS = ("upper", "gradient")


@named
@dataclass(frozen=True, eq=False)
class CalibrationStep:
    """The next camera, from the sum of all blocks.

    Attributes
    ----------
    camera_model : CameraModel
        The camera after this step.
    change : float
        RMS distance by which the step moves the modelled stars, in the units of `noise`. When it is
        negligible, the calibration has converged.
    noise : float
        Standard deviation of the residuals per axis, measured: in pixels, or in units of the
        centroids' uncertainties.
    parameter_names : tuple of str
        The fitted parameters.
    covariance : ndarray of shape (n, n)
        Covariance of these parameters, scaled to the residuals; zero for a frozen one.
    frozen : tuple of str
        Parameters that the data do not determine; they stay as they were.
    condition_number : float
        As in `CalibrationResult`.

    Examples
    --------
    See `calibration_block`.
    """

    camera_model: CameraModel
    change: float
    noise: float
    parameter_names: tuple[str, ...]
    covariance: Floats
    frozen: tuple[str, ...]
    condition_number: float

    def __repr__(self) -> str:
        return (
            f"<CalibrationStep: {len(self.parameter_names)} parameters, change {self.change:.3g}, "
            f"noise {self.noise:.3g}, {self.camera_model!r}>"
        )


@named
class CalibrationBlock:
    """Information that some frames give about their camera, near a given camera model.

    A block holds the normal equations of the intrinsics, with the frames' attitudes eliminated: a
    few kilobytes, whatever the number of frames. Blocks about the same camera are added with ``+``,
    or all at once with `sum`, and can be sent as bytes; `solve` then gives the next camera.
    `calibration_block` makes a block.

    Attributes
    ----------
    camera_model : CameraModel
        The camera about which the equations hold.
    num_frames, num_rejected : int
        Frames that the block uses, and frames that did not fit.
    num_inliers, num_outliers : int
        Matches used, and matches excluded (including those of rejected frames).

    Examples
    --------
    See `calibration_block`.
    """

    __slots__ = ("_core",)

    def __init__(self, block: core.CalibrationBlock) -> None:
        self._core = block

    @property
    def camera_model(self) -> CameraModel:
        """The camera about which the equations hold."""
        return CameraModel._from_core(self._core.camera)

    @property
    def num_frames(self) -> int:
        """Number of frames that the block uses."""
        return self._core.num_frames

    @property
    def num_rejected(self) -> int:
        """Number of frames that did not fit the camera."""
        return self._core.num_rejected

    @property
    def num_inliers(self) -> int:
        """Number of matches used."""
        return self._core.num_inliers

    @property
    def num_outliers(self) -> int:
        """Number of matches excluded, including those of rejected frames."""
        return self._core.num_outliers

    def __add__(self, other: CalibrationBlock | int) -> CalibrationBlock:
        if isinstance(other, CalibrationBlock):
            return CalibrationBlock(self._core.add(other._core))
        return self if other == 0 else NotImplemented  # sum() starts from 0

    __radd__ = __add__

    def solve(self) -> CalibrationStep:
        """Step to the next camera.

        Returns
        -------
        CalibrationStep

        Raises
        ------
        UndeterminedError
            If there are too few stars for the parameters, or the stepped camera is not valid.
        """
        step = self._core.solve()
        return CalibrationStep(
            camera_model=CameraModel._from_core(step.camera),
            change=step.change,
            noise=step.noise,
            parameter_names=tuple(self._core.parameter_names),
            covariance=step.covariance,
            frozen=tuple(step.frozen),
            condition_number=step.condition_number,
        )

    def to_bytes(self) -> bytes:
        """Pack the block for a file or another machine.

        Returns
        -------
        bytes
            Numpy's npz format, for `from_bytes`.
        """
        values = self._core.values()
        arrays = {name: values.pop(name) for name in ARRAYS}
        header = {"format": FORMAT, "camera_model": self.camera_model.to_dict(), **values}
        return pack_arrays(header, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> CalibrationBlock:
        """Unpack a block.

        Parameters
        ----------
        data : bytes
            From `to_bytes`.

        Returns
        -------
        CalibrationBlock

        Raises
        ------
        FileFormatError
            If the data are not a block.
        """
        try:
            header, given = unpack_arrays(data, FORMAT)
            camera = CameraModel.from_dict(header.pop("camera_model"))
            arrays = {name: given[name] for name in ARRAYS}
            return cls(core.CalibrationBlock(camera._core, header | arrays))
        except Exception as error:
            raise FileFormatError(
                f"data: not a calibration block ({error}); give what to_bytes returned"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return CalibrationBlock.from_bytes, (self.to_bytes(),)

    def __repr__(self) -> str:
        return (
            f"<CalibrationBlock: {self.num_frames} frames, {self.num_inliers} stars, "
            f"{self.num_rejected} frames rejected, {len(self._core.parameter_names)} parameters>"
        )


@named
def calibration_block(
    results: Solution | MatchedStars | Sequence[Solution | MatchedStars | None] | None,
    centroids: Any,
    camera_model: CameraModel,
    *,
    noise: float,
    parameter_names: Sequence[str] | None = None,
    sigma_clip: float = 3.0,
    velocities_km_s: Sequence[ArrayLike | None] | None = None,
) -> CalibrationBlock:
    """Reduce some frames to the information that they give about their camera.

    Every machine does this for its own frames; the sum of the blocks gives the next camera. The
    first camera must be nearly right, for example calibrated from a few of the frames. About five
    rounds then lead to the result of `calibrate_camera` with the same `noise` and all frames at
    once.

    Parameters
    ----------
    results, centroids
        As for `calibrate_camera`. Either all frames have position uncertainties, or none have.
    camera_model : CameraModel
        The camera to linearise about: the same for all blocks that are to be added.
    noise : float
        Standard deviation of the residuals per axis by which matches are weighted, the same for all
        blocks: in pixels, or, for centroids with position uncertainties, in units of these.
        `CalibrationResult.noise` of a few frames is accurate enough.
    parameter_names : sequence of str, optional
        Parameters to fit: `CalibrationResult.parameter_names`, or part of them. Default: all
        parameters of the camera's form.
    sigma_clip, velocities_km_s
        As for `calibrate_camera`.

    Returns
    -------
    CalibrationBlock

    Raises
    ------
    InputError
        If an argument is out of its range, or the frames are not of this camera.

    Examples
    --------
    >>> import boresight
    >>> database = boresight.SolverDatabase.generate_from_hipparcos(max_fov_deg=20)
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> fields = [(80.0, -1.2), (95.0, 10.0), (200.0, 40.0), (280.0, 0.0)]
    >>> frames = [boresight.simulate_frame(camera, *field, seed=1) for field in fields]
    >>> stars = [boresight.extract_centroids(frame.image).centroids for frame in frames]
    >>> solutions = [
    ...     database.solve_from_centroids(s, fov_estimate_deg=15.0, image_shape=(512, 512))
    ...     for s in stars
    ... ]
    >>> first = boresight.calibrate_camera(solutions[:2], stars[:2], order=3)
    >>> model = first.camera_model
    >>> for _ in range(5):
    ...     parts = [  # each on a machine of its own
    ...         boresight.calibration_block(solutions[:2], stars[:2], model, noise=first.noise),
    ...         boresight.calibration_block(solutions[2:], stars[2:], model, noise=first.noise),
    ...     ]
    ...     step = sum(parts).solve()
    ...     model = step.camera_model
    >>> step.change < 1e-2
    True
    """
    frames, _ = matched_frames(results, centroids, velocities_km_s)
    names = None if parameter_names is None else list(parameter_names)
    if names is not None and not all(isinstance(name, str) for name in names):
        raise InputError(
            f"parameter_names: {names[:3]!r} are not names; give CalibrationResult.parameter_names"
        )
    return CalibrationBlock(
        core.calibration_block(
            [stars._core for stars in frames.stars],
            frames.places,
            camera_model._core,
            names,
            float(noise),
            float(sigma_clip),
        )
    )
