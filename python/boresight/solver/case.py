"""State of a diagnosis: a frame that does not solve, its arguments, and the time left."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils import arguments
from boresight.camera.model import CameraModel
from boresight.database.database import PatternDatabase
from boresight.extraction.extract import ExtractionResult
from boresight.extraction.images import pixels_of
from boresight.extraction.stars import CentroidColumns
from boresight.solver.attempts import Request
from boresight.solver.findings import Finding
from boresight.solver.inputs import Found
from boresight.solver.options import Prepared
from boresight.solver.outcome import solution_of
from boresight.solver.solution import Solution

#: Time limit of one try with other arguments, ms.
TRY_MS = 1000

#: Least time left, in ms, with which another try is made.
SHORTEST_MS = 20


@dataclass
class Case:
    """A frame that does not solve, the arguments, and the deadline of the search for the cause.

    Attributes
    ----------
    found : Found
        The stars, the image if there is one, and the data of its header.
    stars : CentroidColumns
        The stars, in the order of `rows`, which is their form for the extension module.
    request, frame : Request, Prepared
        The arguments as they were given, and checked.
    database : PatternDatabase
        The database that was used.
    bounds_deg : (float, float)
        Fields of view that were searched.
    deadline : float
        Time at which the search for the cause ends, by `time.monotonic`.
    narrow : Finding or None
        Finding that no catalogue serves the field of view from the arguments or the header, if so.
    """

    found: Found
    stars: CentroidColumns
    rows: dict[str, Any]
    request: Request
    frame: Prepared
    database: PatternDatabase
    bounds_deg: tuple[float, float]
    deadline: float
    narrow: Finding | None = None

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.frame.image_shape

    @property
    def extraction(self) -> ExtractionResult | None:
        """Result of the extraction; None if a list of stars was given."""
        return self.found.stars if isinstance(self.found.stars, ExtractionResult) else None

    @functools.cached_property
    def pixels(self) -> NDArray[np.float32] | None:
        """The image, with NaN for pixels without a value; None if no image was given."""
        if self.found.image is None:
            return None
        image, mask = pixels_of(self.found.image, luminance=True)
        pixels = image.astype(np.float32)
        for bad in (mask, self.found.mask):
            if bad is not None:
                pixels[np.asarray(bad, bool)] = np.nan
        pixels[~np.isfinite(pixels)] = np.nan
        return pixels

    def time_left_ms(self, most: int = TRY_MS) -> int:
        """Time for one more try, ms; 0 if too little is left."""
        left = 1e3 * (self.deadline - time.monotonic())
        return 0 if left < SHORTEST_MS else int(min(left, most))

    def solve(
        self,
        *,
        rows: dict[str, Any] | None = None,
        database: PatternDatabase | None = None,
        most_ms: int = TRY_MS,
        **changes: Any,
    ) -> Solution | None:
        """Solve with other arguments of the extension module; None if there is no time left."""
        left_ms = self.time_left_ms(most_ms)
        if not left_ms:
            return None
        rows = self.rows if rows is None else rows
        database = self.database if database is None else database
        values = self.frame.values | changes | {"timeout_ms": left_ms}
        outcome = core.solve(database._core, rows, values)
        return solution_of(outcome, self.frame.place, len(rows["stars"]), database)

    def default_database(self, fov_deg: float | None) -> PatternDatabase:
        """Open a default database; the time to generate it is added to the deadline."""
        start = time.monotonic()
        database = type(self.database).default(fov_deg)
        self.deadline += time.monotonic() - start
        return database

    def free(self, image_shape: tuple[int, int] | None = None) -> dict[str, Any]:
        """Arguments for a frame of which only the shape and a given field of view are known."""
        camera = CameraModel.from_fov(90.0, image_shape or self.image_shape)
        fov = arguments.radians("fov_deg", self.request.fov_deg)
        return {
            "camera": camera._core,
            "parity_known": False,
            "hint": None,
            "fov_estimate": fov,
            "fov_max_error": None if fov is None else self.frame.values["fov_max_error"],
        }
