"""Solving and calibrating in turn, matching more narrowly and with more distortion each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boresight.errors import InputError, UndeterminedError

if TYPE_CHECKING:
    from boresight.calibrate import CalibrateResult
    from boresight.camera import CameraModel
    from boresight.database import SolverDatabase
    from boresight.solution import Solution

__all__ = ["PASSES", "PassResult", "calibrate_in_passes"]

#: Match radius (fraction of the field of view) and order of the polynomial of each pass. Raising
#: the order before the matches are right makes it follow the wrong ones.
PASSES = ((0.01, 3), (0.005, 4), (0.003, 5), (0.002, 6))


@dataclass(frozen=True, eq=False)
class PassResult:
    """What came out of one pass.

    Attributes
    ----------
    number : int
        1 for the first.
    solutions : list of Solution or None
        One per frame, None where it did not solve.
    calibration : CalibrateResult
        The camera fitted to all of them.
    """

    number: int
    solutions: list[Solution | None]
    calibration: CalibrateResult

    @property
    def num_solved(self) -> int:
        """Number of frames that solved."""
        return sum(solution is not None for solution in self.solutions)


def calibrate_in_passes(
    database: SolverDatabase,
    centroids: Sequence[Any],
    image_shape: tuple[int, int],
    *,
    fov_estimate_deg: float | None = None,
    fov_max_error_deg: float | None = None,
    order: int = 6,
    model: str = "polynomial",
    camera_model: CameraModel | None = None,
    passes: Sequence[tuple[float, int]] = PASSES,
    on_pass: Callable[[PassResult], None] | None = None,
) -> PassResult:
    """Solve all frames of one camera and calibrate it, several times in turn.

    Parameters
    ----------
    database : SolverDatabase
        Patterns for this field of view.
    centroids : sequence
        The centroids of each frame, as `solve_from_centroids` takes them.
    image_shape : (int, int)
        (height, width) in pixels, the same for all frames.
    fov_estimate_deg : float, optional
        Horizontal field of view for the first pass. Default: all that the database is made for.
    fov_max_error_deg : float, optional
        Largest error of the field of view, in every pass. Default: the solver's.
    order : int
        Highest order of the polynomial, of which lower passes take less. Default 6.
    model : str
        Distortion model, as `calibrate_camera` takes it.
    camera_model : CameraModel, optional
        Camera to start from.
    passes : sequence of (float, int)
        Match radius and order of each pass. Default: `PASSES`.
    on_pass : callable, optional
        Called with the result of each pass.

    Returns
    -------
    PassResult
        That of the last pass.

    Raises
    ------
    UndeterminedError
        If no frame solves, or too few stars match to fit the camera.

    Examples
    --------
    >>> from boresight import CameraModel, SolverDatabase, extract_centroids, simulate_frame
    >>> from boresight.passes import calibrate_in_passes
    >>> database = SolverDatabase.generate_from_hipparcos(max_fov_deg=20.0)
    >>> camera = CameraModel.from_fov(15.0, (512, 512), optical_center=(20.0, -10.0))
    >>> frames = [simulate_frame(camera, ra, 10.0, seed=ra) for ra in (20, 140, 260)]
    >>> stars = [extract_centroids(frame.image).centroids for frame in frames]
    >>> last = calibrate_in_passes(database, stars, (512, 512), fov_estimate_deg=15.0, order=3)
    >>> last.num_solved, round(last.calibration.camera_model.fov_deg, 2)
    (3, 15.00)
    """
    if not passes:
        raise InputError("passes: there are none; give at least one (match radius, order)")
    camera = camera_model
    for number, (match_radius, pass_order) in enumerate(passes, 1):
        solutions = [
            database.solve_from_centroids(
                stars,
                fov_estimate_deg=camera.fov_deg if camera else fov_estimate_deg,
                fov_max_error_deg=fov_max_error_deg,
                image_shape=image_shape,
                match_radius=match_radius,
                camera_model=camera,
            )
            for stars in centroids
        ]
        if all(solution is None for solution in solutions):
            raise UndeterminedError(
                f"none of the {len(solutions)} frames solves in pass {number}; "
                "check the field of view and look at the frames"
            )
        calibration = database.calibrate_camera(
            solutions, centroids, image_shape=image_shape, order=min(pass_order, order), model=model
        )
        camera = calibration.camera_model
        result = PassResult(number, solutions, calibration)
        if on_pass is not None:
            on_pass(result)
    return result
