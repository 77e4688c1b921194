"""Passes of a calibration: solve all frames, fit the camera, and repeat with that camera."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight.calibration.fit import FitOptions, calibrate_camera
from boresight.calibration.places import FramePlaces
from boresight.calibration.result import CalibrationResult
from boresight.camera.distortion import PolynomialDistortion
from boresight.camera.model import CameraModel
from boresight.database.database import PatternDatabase
from boresight.errors import UndeterminedError
from boresight.extraction.star_list import StarList
from boresight.solver.mapping import Intrinsics
from boresight.solver.solution import Solution
from boresight.solver.solve import solve_many

Floats = NDArray[np.float64]

PASSES = ((0.01, 3), (0.005, 4), (0.003, 5))
"""Match radius (fraction of the field of view) and highest order of the first passes. A higher
order would follow wrong matches before the match radius is small."""

FINAL_RADIUS = 0.002
"""Match radius of all further passes (fraction of the field of view), which fit the whole model."""

MAX_FINAL_PASSES = 12
"""Maximum number of further passes; the matches usually stay the same from the second one on."""


class Passes:
    """Runs the passes, and keeps the result of the last one."""

    result: CalibrationResult

    def __init__(
        self,
        database: PatternDatabase,
        centroids: list[StarList],
        places: FramePlaces,
        solve_options: dict[str, Any],
        fit_options: FitOptions,
        camera: CameraModel | None,
        on_pass: Callable[[int, CalibrationResult], object] | None,
    ) -> None:
        self._database = database
        self._centroids = centroids
        self._places = places
        self._solve_options = solve_options
        self._fit_options = fit_options
        self._camera = camera
        self._on_pass = on_pass
        self._number = 0

    def narrow(self, order: int | str, model: str) -> None:
        """Run the first passes, which narrow the matches before the order rises.

        A high order would otherwise follow wrong matches.
        """
        for match_radius, limit in PASSES:
            pass_order = limit if isinstance(order, str) else min(limit, order)
            pass_model = "polynomial" if model == "auto" else model
            self.calibrate(self.solve(match_radius), order=pass_order, model=pass_model)

    def solve(self, match_radius: float) -> list[Solution | None]:
        """Solve all frames with the last camera."""
        # No lens is fitted to a single frame: the passes fit it to all frames together.
        options = {"lens": None} | self._solve_options | {"match_radius": match_radius}
        if self._camera is not None:
            options |= {"camera_model": self._camera, "fov_deg": self._camera.fov_deg}
        solutions = solve_many(
            self._centroids, database=self._database, places=self._places.places, **options
        )
        if all(solution is None for solution in solutions):
            raise UndeterminedError(
                f"none of the {len(solutions)} frames solves in pass {self._number + 1}; "
                "check the field of view and look at the frames"
            )
        return [self._places.moved(solution) for solution in solutions]

    def calibrate(self, solutions: list[Solution | None], **model: Any) -> CalibrationResult:
        """Fit the camera to the solutions, for the next pass to start from."""
        fitted = calibrate_camera(solutions, self._centroids, **self._fit_options, **model)
        self._camera = fitted.camera_model
        self._number += 1
        self.result = dataclasses.replace(
            fitted, solutions=_solutions(fitted, solutions), physics=self._places.words
        )
        if self._on_pass is not None:
            self._on_pass(self._number, self.result)
        return self.result


def settle(loop: Passes, order: int | str, model: str) -> CalibrationResult:
    """Repeat solving and fitting until the matches and the choice of the model stay the same.

    The model is chosen at least twice: first, and again for the final matches of the first choice.
    Among equally good models, each may be the choice for the final matches of another, in a cycle.
    In this case, the model of the cycle with the fewest parameters is taken, wherever the cycle was
    entered.
    """
    requested = {"order": order, "model": model}
    choice: dict[str, Any] = {}
    ended: list[tuple[dict[str, Any], CalibrationResult]] = []
    chosen_for_these = False
    last: list[Solution | None] = []
    for _ in range(MAX_FINAL_PASSES):
        solutions = loop.solve(FINAL_RADIUS)
        same = _same_matches(solutions, last)
        if same and chosen_for_these:
            return loop.result
        if same or not choice:
            if same:
                ended.append((choice, loop.result))
            choice = _choice(loop.calibrate(solutions, **requested), requested)
            chosen_for_these = True
            before = [earlier for earlier, _ in ended]
            if choice in before:
                circle = [result for _, result in ended[before.index(choice) :]]
                return min(circle, key=lambda result: len(result.parameter_names))
        else:
            loop.calibrate(solutions, **choice)
            chosen_for_these = choice == requested
        last = solutions
    return dataclasses.replace(loop.result, converged=False)


def _choice(result: CalibrationResult, requested: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a fit with the chosen order and model."""
    if "auto" not in (requested["order"], requested["model"]):
        return requested
    distortion = result.camera_model.distortion
    # `held_out` as in the fit that chose the model.
    found: dict[str, Any] = {"order": 2, "model": "radial", "held_out": True}
    if distortion is None:
        found["model"] = "pinhole"
    elif isinstance(distortion, PolynomialDistortion):
        found |= {"order": distortion.order, "model": "polynomial"}
    return found


def _same_matches(new: Sequence[Solution | None], old: Sequence[Solution | None]) -> bool:
    """Return whether the same stars are matched in the same frames."""

    def same(a: Solution | None, b: Solution | None) -> bool:
        if a is None or b is None:
            return a is b
        return np.array_equal(a.matched_centroids, b.matched_centroids) and np.array_equal(
            a.matched_catalog_ids, b.matched_catalog_ids
        )

    return len(new) == len(old) and all(map(same, new, old))


def _solutions(
    fitted: CalibrationResult, solutions: Sequence[Solution | None]
) -> tuple[Solution | None, ...]:
    """Put the common camera and the attitudes of the joint fit into the frames' solutions."""

    def joint(index: int, solution: Solution | None) -> Solution | None:
        part = fitted.frames[index]
        if solution is None or part is None or part.rejected is not None:
            return None
        stars = solution.matched_stars.select(part.inliers)
        return Solution.from_matches(
            stars.replace(camera_model=fitted.camera_model, quaternion=part.quaternion),
            covariance=part.attitude_cov_rad2,
            probability=solution.probability,
            solve_time_ms=solution.solve_time_ms,
            intrinsics=Intrinsics(
                fitted.parameter_names, fitted.covariance, part.cross_cov, fitted.systematic_px
            ),
        )

    return tuple(joint(i, solution) for i, solution in enumerate(solutions))
