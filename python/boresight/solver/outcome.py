"""Converts the outcome of a search to a solution, or logs why there is none."""

from __future__ import annotations

from typing import Any

from boresight import _core as core
from boresight.apparent.place import ApparentPlace
from boresight.database.database import PatternDatabase
from boresight.solver.solution import Solution

__all__ = ["log", "solution_of"]


def solution_of(
    outcome: core.Outcome, place: ApparentPlace, num_stars: int, database: PatternDatabase
) -> Solution | None:
    """Return the solution of an outcome; if there is none, log the reason."""
    solved = outcome.solution
    if solved is None:
        log(
            "not solved (%s): %d centroids, %d patterns, %d candidates, best log ratio %.1f",
            outcome.status,
            num_stars,
            outcome.patterns_checked,
            outcome.candidates_checked,
            outcome.best_log_ratio,
        )
        return None
    return Solution._from_core(solved, place, outcome.seconds * 1e3, None, database._core)


def log(message: str, *values: Any) -> None:
    """Log a message. `logging` is imported only here, because the import takes time."""
    import logging

    logging.getLogger("boresight").info(message, *values)
