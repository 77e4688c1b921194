"""`SolverDatabase`: a pattern database with the methods that solve and calibrate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from boresight._utils.naming import named
from boresight.calibration.fit import calibrate_camera
from boresight.calibration.result import CalibrationResult
from boresight.database.database import PatternDatabase
from boresight.solver.solution import Solution
from boresight.solver.solve import solve_from_centroids

__all__ = ["SolverDatabase"]


@named
class SolverDatabase(PatternDatabase):
    """Database of stars, and of patterns of four stars, with which frames are solved.

    Made by `generate_from_hipparcos`, `generate_from_gaia` or `generate_from_stars`, or opened by
    `load_from_file`. It is immutable, may be used by many threads at once, and is pickled as the
    path of its file if it has one, else as its bytes.

    The file is memory-mapped: opening takes the same time whatever its size, and processes that
    open the same file share its memory.

    Attributes
    ----------
    num_stars, num_patterns : int
        Numbers of stars and of patterns.
    max_fov_deg, min_fov_deg : float
        Range of fields of view for which patterns were made, degrees.
    epoch : float
        Julian year of the stars' positions.
    parameters : DatabaseParameters
        Parameters of generation, with the values that replaced `None`.

    Examples
    --------
    >>> from boresight import SolverDatabase
    >>> database = SolverDatabase.generate_from_hipparcos(max_fov_deg=30.0)
    >>> database
    SolverDatabase(5832 stars, 109445 patterns, fields of 30 degrees, epoch J2025.0)
    >>> database.get_star(0)
    Star(id=32349, ra_deg=101.2831..., dec_deg=-16.7246..., magnitude=-1.09...)
    """

    __slots__ = ()

    # The function as a method, with the database as its first argument; its docstring applies.
    solve_from_centroids = solve_from_centroids

    def calibrate_camera(
        self, results: Sequence[Solution | None], centroids: Sequence[Any], **options: Any
    ) -> CalibrationResult:
        """Fit one camera model to many solved frames.

        This is the method form of `boresight.calibrate_camera`, which describes all arguments.

        Returns
        -------
        CalibrationResult
        """
        return calibrate_camera(results, centroids, **options)
