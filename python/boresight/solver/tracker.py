"""Solves the frames of a sequence one after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from boresight._utils import arguments
from boresight._utils.naming import named
from boresight.extraction.extract import extract_centroids
from boresight.solver.inputs import choose_database, find_stars
from boresight.solver.options import SearchOptions, SolveOptions
from boresight.solver.solve import solve_from_centroids

if TYPE_CHECKING:
    from boresight.camera.model import CameraModel
    from boresight.database.database import PatternDatabase
    from boresight.solver.solution import Solution

__all__ = ["Tracker"]

#: Largest relative error of the field of view of a camera that has been solved: more than the
#: change by temperature and focus, less than the change by zooming.
KNOWN_FOV_ERROR = 0.01


@named
class Tracker:
    """Solves a sequence of frames of one camera, each with the previous solution as a hint.

    The first frame is searched for in the whole sky. From then on the attitude of the last solved
    frame is the hint, so that three stars suffice, and its camera, with the focal length and parity
    found, is the starting camera. A frame that does not solve near the hint is searched for in the
    whole sky, first with that camera, then without any knowledge from earlier frames.

    Parameters
    ----------
    database : SolverDatabase, optional
        Default: `SolverDatabase.default`.
    fov_deg, image_shape, camera_model : optional
        Known properties of the camera, as in `boresight.solve`.
    hint_uncertainty_deg : float
        Largest rotation of the camera from frame to frame, up to 45 degrees. Smaller values are
        faster.
    extraction : mapping, optional
        Arguments for `extract_centroids`, for images.
    **options
        Further arguments of `solve_from_centroids`.

    Attributes
    ----------
    last_solution : Solution or None
        Solution of the last frame that solved.
    num_hinted, num_blind, num_unsolved : int
        Number of frames solved near the hint, solved in the whole sky, and not solved.

    Examples
    --------
    >>> import boresight
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> tracker = boresight.Tracker(hint_uncertainty_deg=1.0)
    >>> for ra in (83.0, 83.5, 84.0):
    ...     frame = boresight.simulate_frame(camera, ra, 5.0, seed=1)
    ...     print(round(tracker.solve(frame.image).ra_deg, 1))
    83.0
    83.5
    84.0
    >>> tracker
    Tracker(1 frame solved blind, 2 hinted, 0 unsolved)
    """

    def __init__(
        self,
        database: PatternDatabase | None = None,
        *,
        fov_deg: float | None = None,
        image_shape: tuple[int, int] | None = None,
        camera_model: CameraModel | None = None,
        hint_uncertainty_deg: float = 2.0,
        extraction: Mapping[str, Any] | None = None,
        **options: Unpack[SearchOptions],
    ) -> None:
        arguments.check_options(options, SearchOptions)
        arguments.check_keywords(extraction or {}, extract_centroids, "extraction")
        self._database = choose_database(database, fov_deg, camera_model)
        self._fov_deg = fov_deg
        self._image_shape = image_shape
        self._camera_model = camera_model
        self._hint_uncertainty_deg = arguments.degrees("hint_uncertainty_deg", hint_uncertainty_deg)
        self._extraction = extraction
        self._options = options
        self.reset()

    def reset(self) -> None:
        """Forget all frames: the next frame is searched for in the whole sky."""
        self.last_solution: Solution | None = None
        self.num_hinted = self.num_blind = self.num_unsolved = 0

    @property
    def camera_model(self) -> CameraModel | None:
        """The camera of the last solved frame; before the first solution, the given camera."""
        return self.last_solution.camera_model if self.last_solution else self._camera_model

    def solve(self, image_or_centroids: Any, **options: Unpack[SearchOptions]) -> Solution | None:
        """Solve the next frame.

        Parameters
        ----------
        image_or_centroids : array_like, NDData, Frame, path, Centroids, ExtractionResult or Table
            As in `boresight.solve`.
        **options
            Arguments of `solve_from_centroids` for this frame, such as `observer_velocity_km_s`.

        Returns
        -------
        Solution or None
            None if the frame does not solve; the next frame is tried with the earlier knowledge.

        Raises
        ------
        InputError
            If an argument is invalid.
        """
        found = find_stars(image_or_centroids, self._image_shape, self._extraction)
        stars, shape = found.stars, found.image_shape
        arguments.check_options(options, SearchOptions)
        merged: SearchOptions = {**self._options, **options}
        solution = None
        if self.last_solution is not None:
            solution = self._solve_as_before(self.last_solution, stars, shape, merged)
        if solution is None:
            solution = solve_from_centroids(
                self._database,
                stars,
                self._fov_deg,
                image_shape=shape,
                camera_model=self._camera_model,
                **merged,
            )
            self.num_blind += solution is not None
        if solution is None:
            self.num_unsolved += 1
        else:
            self.last_solution = solution
        return solution

    def _solve_as_before(
        self,
        last: Solution,
        stars: Any,
        shape: tuple[int, int] | None,
        options: SearchOptions,
    ) -> Solution | None:
        """Solve with the camera of the last frame: near its attitude, then in the whole sky."""
        camera = last.camera_model
        options = {"fov_max_error_deg": KNOWN_FOV_ERROR * camera.fov_deg, **options}
        near: SolveOptions = {
            "attitude_hint": last,
            "hint_uncertainty_deg": self._hint_uncertainty_deg,
            "strict_hint": True,
            "lens": None,
            "parity_flip": None,
            **options,
        }
        hinted = solve_from_centroids(
            self._database, stars, image_shape=shape, camera_model=camera, **near
        )
        if hinted is not None:
            self.num_hinted += 1
            return hinted
        blind = solve_from_centroids(
            self._database, stars, image_shape=shape, camera_model=camera, **options
        )
        self.num_blind += blind is not None
        return blind

    def __repr__(self) -> str:
        plural = "" if self.num_blind == 1 else "s"
        return (
            f"Tracker({self.num_blind} frame{plural} solved blind, {self.num_hinted} hinted, "
            f"{self.num_unsolved} unsolved)"
        )
