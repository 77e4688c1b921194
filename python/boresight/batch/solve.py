"""Plate solving of thousands of frames."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from boresight._utils import arguments
from boresight._utils.naming import named
from boresight._utils.progress import Progress
from boresight.batch.command import Frames, perform
from boresight.batch.journal import Row, options_as_text
from boresight.batch.run import OnError, Work
from boresight.batch.table import SOLVED
from boresight.camera.model import CameraModel
from boresight.extraction.extract import extract_centroids
from boresight.frames.frame import Frame
from boresight.solver.diagnosis import diagnose
from boresight.solver.inputs import choose_database
from boresight.solver.options import SolveOptions
from boresight.solver.solve import solve as solve_frame
from boresight.solver_database import SolverDatabase

if TYPE_CHECKING:
    from astropy.table import QTable

    from boresight.database.database import PatternDatabase
    from boresight.solver.solution import Solution

__all__ = ["in_file", "solve", "solved_row", "solving_settings"]


@named
def solve(
    frames: Frames,
    fov_deg: float | None = None,
    *,
    output: str | os.PathLike[str],
    jobs: int | None = None,
    resume: bool = True,
    on_error: OnError = "row",
    executor: Any = None,
    database: PatternDatabase | None = None,
    camera_model: CameraModel | None = None,
    extraction: Mapping[str, Any] | None = None,
    explain: bool = True,
    partition_by: Sequence[str] = (),
    progress: Progress = None,
    **options: Unpack[SolveOptions],
) -> QTable:
    """Plate-solve thousands of frames.

    Parameters
    ----------
    frames : str, path-like or iterable of these
        Paths, globs (``"night/*.fits"``) and URLs that fsspec opens (``"s3://..."``,
        ``"https://..."``). Public buckets are read without keys. A frame that is given twice is
        processed once.
    fov_deg : float, optional
        Horizontal field of view, degrees, as in `boresight.solve`.
    output : path-like
        Output folder, created if needed. The journal (``journal.jsonl``) gets one line of JSON when
        a frame is finished. The table (``results.parquet``) is written at the end if pyarrow is
        installed.
    jobs : int, optional
        Number of processes. Default: one per processor; 1 works in the calling process. A script
        that uses more than one must keep its own code below ``if __name__ == "__main__":``.
    resume : bool, default True
        True continues the batch in `output`: frames in its journal are not processed again. False
        starts a new batch.
    on_error : {"row", "raise"}
        Treatment of a frame that cannot be read: "row" writes a row with the reason, "raise" raises
        the exception.
    executor : concurrent.futures.Executor or dask.distributed.Client, optional
        Executor to use instead of local processes. Its workers must have access to the frames and
        the database file.
    database : SolverDatabase, optional
        Default: as in `boresight.solve`. A database in a file is opened by each process, with
        shared memory. Any other database is first written to a file in `output`.
    camera_model : CameraModel, optional
        Camera of all frames.
    extraction : mapping, optional
        Arguments for `extract_centroids`, as in `boresight.solve`. ``{"fast": True}`` doubles the
        rate for frames with many stars.
    explain : bool, default True
        Run `diagnose` on each unsolved frame to find the reason, which takes up to a few seconds
        per frame.
    partition_by : sequence of str, optional
        Columns, such as ``["date", "status"]``, by which the table is divided into folders in
        ``output/results``, instead of one file: see `write_parquet`.
    progress : bool or callable, optional
        True shows a progress bar. A function is called with the finished fraction, 0 to 1.
    **options
        Further arguments of `boresight.solve_from_centroids`, equal for all frames.
        `solve_timeout_ms`, if given, limits the time for reading a frame, and then separately the
        time for extraction and solving together.

    Returns
    -------
    astropy.table.QTable
        One row per frame in the order of `frames`: ``path``, ``status`` (``"solved"``,
        ``"unsolved"``, ``"error"``), ``solved``, ``ra``, ``dec``, ``roll``, ``fov``,
        ``parity_flip``, ``num_matches``, ``rmse``, ``probability``, the quaternion ``q0`` to
        ``q3``, ``reason``, ``time``, ``width``, ``height``, ``seconds``.

    Raises
    ------
    InputError
        If an argument is not valid, `output` holds a batch with other arguments, or another process
        is writing to `output`.
    OSError
        If `output` cannot be written to, as on a full disk. The journal is kept, and the same call
        continues from there.
    KeyboardInterrupt
        On Ctrl-C. Finished frames are in the journal.

    Notes
    -----
    A kill at any moment loses or repeats no frame that is in the journal: lines are on the disk
    before the next frames are awaited, and an incomplete last line is removed. Frames are processed
    in chunks in a bounded window, so memory does not grow with their number. If a process dies, for
    example for lack of memory, its frames are tried once more, each in a separate process.

    An HTTP request is aborted if the server sends nothing for 30 s, or does not send one piece of a
    frame within 5 minutes. The row of the frame gives the reason, as for a frame that is not read
    within `solve_timeout_ms`.

    Examples
    --------
    >>> import boresight, tempfile
    >>> from astropy.io import fits
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for ra in (10.0, 90.0):
    ...         image = boresight.simulate_frame(camera, ra, 20.0, seed=1).image
    ...         fits.writeto(f"{folder}/{ra:03.0f}.fits", image)
    ...     table = boresight.batch.solve(
    ...         f"{folder}/*.fits", 15.0, output=f"{folder}/results", jobs=1
    ...     )
    >>> table["ra"].info.format = table["dec"].info.format = ".2f"
    >>> print(table["ra", "dec", "status"])
      ra   dec  status
     deg   deg
    ----- ----- ------
    10.00 20.00 solved
    90.00 20.00 solved
    """
    arguments.check_options(options, SolveOptions)
    arguments.check_keywords(dict(extraction or {}), extract_centroids, "extraction")
    timeout_ms = arguments.optional_count("solve_timeout_ms", options.get("solve_timeout_ms"))
    # Without a given database each frame chooses one; the database for this field of view is made
    # here, before the processes start.
    patterns = choose_database(database, fov_deg, camera_model, None, progress=bool(progress))
    settings = {
        "command": "solve",
        **solving_settings(fov_deg, camera_model, database),
        "extraction": options_as_text(extraction or {}),
        "options": options_as_text(options),
    }
    request = {
        "fov_deg": fov_deg,
        "database": None if database is None else in_file(patterns, Path(output)),
        "camera_model": camera_model,
        "extraction": dict(extraction or {}),
        "explain": explain,
        "options": dict(options),
    }
    return perform(
        frames, Work(solve_one, request, on_error, timeout_ms), settings, SOLVED,
        output=output, jobs=jobs, resume=resume, executor=executor, progress=progress,
        partition_by=partition_by,
    )  # fmt: skip


def solving_settings(
    fov_deg: float | None, camera_model: CameraModel | None, database: PatternDatabase | None
) -> Row:
    """Return the settings of solving, in the form in which a journal keeps them."""
    return {
        "fov_deg": None if fov_deg is None else float(fov_deg),
        "camera_model": None if camera_model is None else camera_model.to_dict(),
        "database": None if database is None else database._core.checksum,
    }


def in_file(database: PatternDatabase, output: Path) -> PatternDatabase:
    """Return the database as one in a file, which is pickled by the name of the file."""
    if database._path is not None:
        return database
    output.mkdir(parents=True, exist_ok=True)
    path = output / "database.bsdb"
    database.save_to_file(path)
    return SolverDatabase.load_from_file(path)


def solve_one(frame: Frame, name: str, request: dict[str, Any]) -> Row:
    """Solve one frame and return its row."""
    common = {
        "database": request["database"],
        "camera_model": request["camera_model"],
        "extraction": request["extraction"],
        **request["options"],
    }
    solution = solve_frame(frame, request["fov_deg"], **common)
    if solution is not None:
        return solved_row(solution)
    reason = None
    if request["explain"]:
        diagnosis = diagnose(frame, request["fov_deg"], **common)
        finding = next(iter(diagnosis.findings), None)
        reason = diagnosis.status if finding is None else f"{finding.cause}: {finding.text}"
    return {"status": "unsolved", "solved": False, "reason": reason}


def solved_row(solution: Solution) -> Row:
    """Columns of the row of a solved frame."""
    quaternion = {f"q{k}": float(q) for k, q in enumerate(solution.quaternion)}
    return {
        "status": "solved",
        "solved": True,
        "ra": solution.ra_deg,
        "dec": solution.dec_deg,
        "roll": solution.roll_deg,
        "fov": solution.fov_deg,
        "parity_flip": solution.parity_flip,
        "num_matches": solution.num_matches,
        "rmse": solution.rmse_arcsec,
        "probability": solution.probability,
        **quaternion,
    }
