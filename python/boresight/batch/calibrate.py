"""Calibration of one camera from thousands of frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from boresight._utils import arguments
from boresight._utils.documents import read_json, write_json
from boresight._utils.naming import named
from boresight._utils.progress import Progress
from boresight.batch.command import Frames, perform
from boresight.batch.frames import expand, file_of, read
from boresight.batch.journal import Row
from boresight.batch.matched import read_matches, write_matches
from boresight.batch.run import (
    FRAME_ERRORS,
    OnError,
    Work,
    as_executor,
    in_chunks,
    num_processes,
    num_workers,
    processes,
    spread,
)
from boresight.batch.solve import in_file, solved_row, solving_settings
from boresight.batch.table import CALIBRATED
from boresight.calibration.blocks import CalibrationBlock, CalibrationStep, calibration_block
from boresight.calibration.calibrate import calibrate as calibrate_frames
from boresight.calibration.passes import FINAL_RADIUS
from boresight.calibration.places import FramePlaces, motions_of
from boresight.camera.model import CameraModel
from boresight.errors import FileFormatError, UndeterminedError
from boresight.frames.frame import Frame
from boresight.solver.inputs import choose_database, find_stars
from boresight.solver.solve import solve_many

if TYPE_CHECKING:
    from astropy.table import QTable

    from boresight.database.database import PatternDatabase

__all__ = ["BLOCK_FRAMES", "BatchCalibration", "blocks_of_a_task", "calibrate"]

MATCHES_FOLDER, FIRST_NAME, CAMERA_NAME = "matches", "first.json", "camera.json"

#: Frames per block. The number is fixed, so that the sum does not depend on the number of workers.
BLOCK_FRAMES = 100

#: Largest number of workers that the caller can keep busy with tasks of one block: a block takes a
#: worker 0.5 s, and the caller, with Dask, 3.5 ms. For more workers the tasks have more blocks.
WORKERS_SERVED = 128

#: Largest number of rounds. Starting from the camera of a few frames, about five are needed.
MAX_ROUNDS = 20

#: The rounds end after a step that moves the modelled stars by less than this part of their noise.
NEGLIGIBLE_CHANGE = 1e-3


@named
@dataclass(frozen=True, eq=False)
class BatchCalibration:
    """A camera calibrated from thousands of frames.

    Attributes
    ----------
    camera_model : CameraModel
        The camera; it is also in ``camera.json`` in the output folder.
    parameter_names : tuple of str
        Names of the fitted parameters.
    covariance : ndarray of shape (n, n)
        Covariance of the fitted parameters.
    frozen : tuple of str
        Parameters that the data do not determine.
    noise : float
        Standard deviation of the residuals per axis, as in `CalibrationStep`.
    num_frames, num_rejected : int
        Numbers of frames in the fit and of rejected frames, which did not fit.
    num_inliers, num_outliers : int
        Numbers of matches in the fit and of excluded matches.
    changes : tuple of float
        Change of the positions of the modelled stars in each round, in the units of `noise`.
    converged : bool
        Whether the last change is negligible.
    table : astropy.table.QTable
        One row per frame, as of `boresight.batch.solve`, with the file of its matched stars.

    Examples
    --------
    See `boresight.batch.calibrate`.
    """

    camera_model: CameraModel
    parameter_names: tuple[str, ...]
    covariance: NDArray[np.float64]
    frozen: tuple[str, ...]
    noise: float
    num_frames: int
    num_rejected: int
    num_inliers: int
    num_outliers: int
    changes: tuple[float, ...]
    converged: bool
    table: QTable

    def __repr__(self) -> str:
        return (
            f"<BatchCalibration: {self.num_frames} of {len(self.table)} frames, "
            f"{self.num_inliers} stars, noise {self.noise:.3g}, {self.camera_model!r}>"
        )


class _First(NamedTuple):
    """The camera from the first frames, with which the rounds start, and the fitted parameters."""

    camera: CameraModel
    noise: float
    parameter_names: tuple[str, ...]
    aberration: bool


@named
def calibrate(
    frames: Frames,
    fov_deg: float | None = None,
    *,
    output: str | os.PathLike[str],
    num_first: int = 16,
    order: int | Literal["auto"] = "auto",
    model: Literal["polynomial", "radial", "pinhole", "auto"] = "polynomial",
    jobs: int | None = None,
    resume: bool = True,
    on_error: OnError = "row",
    executor: Any = None,
    database: PatternDatabase | None = None,
    camera_model: CameraModel | None = None,
    partition_by: Sequence[str] = (),
    progress: Progress = None,
) -> BatchCalibration:
    """Calibrate one camera from thousands of frames.

    First, a few frames, spread evenly over all, are calibrated. With their camera every frame is
    solved, and its matched stars are written to a file. Then the camera is refined in rounds: each
    round reduces the frames to blocks (normal equations about the current camera), sums the blocks,
    and solves for the next camera. The rounds end when the camera no longer changes.

    Parameters
    ----------
    frames, output, jobs, resume, on_error, executor, partition_by, progress
        As in `boresight.batch.solve`. The matched stars of each frame are written to a separate
        file in ``output/matches``. Workers on other machines must be able to access this folder.
    fov_deg : float, optional
        Horizontal field of view, degrees.
    num_first : int
        Number of frames from which the first camera is calibrated. Default 16.
    order, model
        As in `boresight.calibrate`. "auto" decides from the first frames.
    database : SolverDatabase, optional
        As in `boresight.batch.solve`.
    camera_model : CameraModel, optional
        Initial camera, as in `boresight.calibrate`.

    Returns
    -------
    BatchCalibration

    Raises
    ------
    InputError
        As in `boresight.batch.solve`.
    UndeterminedError
        If none of the first frames, or too few of all frames, can be used.

    Notes
    -----
    Blocks hold a fixed number of frames. They are summed in a tree of a fixed form, whose lower
    part is computed by the workers. So the result is the same to the last bit for any number of
    workers. Aberration and proper motion are corrected if the times of all first frames are known;
    a frame of unknown time is then an error.

    Examples
    --------
    >>> import boresight, tempfile
    >>> from astropy.io import fits
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for ra in (20, 90, 140, 260):
    ...         image = boresight.simulate_frame(camera, ra, 10.0, seed=ra).image
    ...         fits.writeto(f"{folder}/{ra:03d}.fits", image)
    ...     result = boresight.batch.calibrate(
    ...         f"{folder}/*.fits", 15.0, output=f"{folder}/out", order=2, jobs=1
    ...     )
    >>> result.converged, result.num_frames, round(result.camera_model.fov_deg, 2)
    (True, 4, 15.0)
    """
    names, folder = expand(frames), Path(output)
    patterns = choose_database(database, fov_deg, camera_model, None, progress=bool(progress))
    num_first = max(1, arguments.count("num_first", num_first))
    settings = {
        "command": "calibrate",
        **solving_settings(fov_deg, camera_model, database),
        "num_first": num_first,
        "order": order,
        "model": model,
    }
    kept = folder / FIRST_NAME
    if resume and kept.exists():
        first = _read_first(kept)
    else:
        options = {"order": order, "model": model, "camera_model": camera_model}
        chosen = _spread_out(names, num_first)
        first = _calibrate_first(chosen, database, fov_deg, **options)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(kept, first._asdict() | {"camera": first.camera.to_dict()})
    matches = folder.absolute() / MATCHES_FOLDER
    matches.mkdir(exist_ok=True)
    request = {
        "folder": matches,
        "database": None if database is None else in_file(patterns, folder),
        "camera_model": first.camera,
        "aberration": first.aberration,
    }
    table = perform(
        names, Work(match_one, request, on_error), settings, CALIBRATED,
        output=folder, jobs=jobs, resume=resume, executor=executor, progress=progress,
        partition_by=partition_by,
    )  # fmt: skip
    files = [str(folder.absolute() / file) for file in table["matches"][table["solved"]]]
    result = _rounds(files, first, table, num_processes(jobs, len(files)), executor)
    result.camera_model.save(folder / CAMERA_NAME)
    return result


def _spread_out(names: Sequence[str], count: int) -> list[str]:
    """Choose `count` frames, spread evenly over all."""
    rows = np.unique(np.linspace(0, len(names) - 1, count).round().astype(int))
    return [names[row] for row in rows]


def _calibrate_first(
    names: Sequence[str], database: PatternDatabase | None, fov_deg: float | None, **options: Any
) -> _First:
    taken: list[Frame] = []
    reasons = []
    for name in names:
        try:
            taken.append(read(name))
        except FRAME_ERRORS as error:
            reasons.append(str(error))
    if not taken:
        raise UndeterminedError(f"frames: none of the first ones can be read; {reasons[0]}")
    if any(frame.time is None for frame in taken):  # see the notes of `calibrate`
        options["times"] = [None] * len(taken)
    result = calibrate_frames(taken, database, fov_estimate_deg=fov_deg, **options)
    return _First(result.camera_model, result.noise, result.parameter_names, "times" not in options)


def _read_first(path: Path) -> _First:
    try:
        data = read_json(path)
        return _First(
            CameraModel.from_dict(data["camera"]),
            float(data["noise"]),
            tuple(map(str, data["parameter_names"])),
            bool(data["aberration"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise FileFormatError(
            f"{path}: no first camera of a batch ({error}); begin anew with resume=False"
        ) from error


def match_one(frame: Frame, name: str, request: dict[str, Any]) -> Row:
    """Solve one frame, write its file of matched stars, and return its row."""
    camera, database, aberration = (
        request[key] for key in ("camera_model", "database", "aberration")
    )
    database = choose_database(database, camera.fov_deg, camera)
    catalog = motions_of(database) if aberration else None
    time = frame.time if aberration else None
    places = FramePlaces([time], aberration, None, catalog, None, None)
    solution = solve_many(
        [find_stars(frame).stars],
        camera.fov_deg,
        database=database,
        camera_model=camera,
        places=places.places,
        match_radius=FINAL_RADIUS,
    )[0]
    solution = places.moved(solution)
    if solution is None:
        return {"status": "unsolved", "solved": False, "reason": "does not solve with the camera"}
    file = request["folder"] / file_of(name, ".npz")
    write_matches(file, solution.matched_stars)
    return solved_row(solution) | {"matches": f"{MATCHES_FOLDER}/{file.name}"}


def _block_of(files: Sequence[str], camera: CameraModel, first: _First) -> CalibrationBlock:
    """Reduce frames, given by their files of matched stars, to blocks, and sum the blocks."""
    return _sum([
        calibration_block(
            [read_matches(file) for file in part],
            None,
            camera,
            noise=first.noise,
            parameter_names=first.parameter_names,
        )
        for part in in_chunks(files, BLOCK_FRAMES)
    ])  # fmt: skip


def _sum(blocks: Sequence[CalibrationBlock]) -> CalibrationBlock:
    """Sum blocks in a binary tree: neighbours first, then neighbouring sums, and so on.

    A sum of 2, 4, 8 ... blocks that begins at a multiple of this number is a node of the tree. So a
    worker can compute it without any change of the total.
    """
    while len(blocks) > 1:
        blocks = [sum(blocks[k : k + 2]) for k in range(0, len(blocks), 2)]  # type: ignore[misc]
    return blocks[0]


def blocks_of_a_task(num_blocks: int, workers: int) -> int:
    """Return the number of blocks per task, a power of two.

    The number grows until the caller can serve all workers, as long as every worker gets a task.
    """
    size = 1
    while size * WORKERS_SERVED < workers and num_blocks >= 2 * size * workers:
        size *= 2
    return size


def _rounds(
    files: Sequence[str], first: _First, table: QTable, jobs: int, executor: Any
) -> BatchCalibration:
    """Refine the camera in rounds until it no longer changes."""
    if not files:
        raise UndeterminedError("frames: none solves with the camera of the first ones")
    executor = as_executor(executor)
    num_blocks = -(-len(files) // BLOCK_FRAMES)
    jobs = min(jobs, num_blocks)
    workers = jobs if executor is None else num_workers(executor)
    chunks = in_chunks(files, BLOCK_FRAMES * blocks_of_a_task(num_blocks, workers))
    own = processes(jobs) if executor is None and jobs > 1 else nullcontext(executor)
    camera, changes, converged = first.camera, [], False
    step: CalibrationStep
    with own as pool:
        for _ in range(MAX_ROUNDS):
            function = partial(_block_of, camera=camera, first=first)
            parts = dict(spread(chunks, function, jobs=1, executor=pool))
            block = _sum([parts[k] for k in range(len(chunks))])
            step = block.solve()
            camera = step.camera_model
            changes.append(step.change)
            converged = step.change < NEGLIGIBLE_CHANGE * step.noise
            if converged:
                break
    return BatchCalibration(
        camera_model=camera,
        parameter_names=step.parameter_names,
        covariance=step.covariance,
        frozen=step.frozen,
        noise=step.noise,
        num_frames=block.num_frames,
        num_rejected=block.num_rejected,
        num_inliers=block.num_inliers,
        num_outliers=block.num_outliers,
        changes=tuple(changes),
        converged=converged,
        table=table,
    )
