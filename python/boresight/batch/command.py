"""Steps that all batch functions share: continue the journal, process frames, make the table."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boresight._utils import arguments
from boresight._utils.progress import Progress, progress_callback
from boresight.batch.frames import expand
from boresight.batch.journal import Journal, Row
from boresight.batch.parquet import write_parquet
from boresight.batch.run import Work, run
from boresight.batch.table import Column, table_of
from boresight.errors import InputError

if TYPE_CHECKING:
    from astropy.table import QTable

Frames = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

#: Names of the table in the output folder, if pyarrow is installed: a file, or a folder of files.
PARQUET_NAME, PARQUET_FOLDER = "results.parquet", "results"


def perform(
    frames: Frames,
    work: Work,
    settings: Row,
    schema: Sequence[Column],
    *,
    output: str | os.PathLike[str],
    jobs: int | None,
    resume: bool,
    executor: Any,
    progress: Progress,
    partition_by: Sequence[str] = (),
) -> QTable:
    """Process every frame that is not in the journal yet, and return the table of all frames."""
    if work.on_error not in ("row", "raise"):
        raise InputError(f"on_error: {work.on_error!r} is unknown; give 'row' or 'raise'")
    known = {"date", *(column.name for column in schema)}
    arguments.check_names("partition_by", partition_by, sorted(known))
    names, folder = expand(frames), Path(output)
    with Journal(folder, settings, resume=resume) as journal:
        done = {row["path"] for row in journal.rows()}
        missing = [name for name in names if name not in done]
        working = contextlib.closing(run(missing, work, jobs=jobs, executor=executor))
        with progress_callback(progress, "Frames") as callback, working as chunks:
            ended = len(names) - len(missing)
            for rows in chunks:
                journal.append(rows)
                ended += len(rows)
                if callback is not None:
                    callback(ended / len(names))
        table = table_of(journal.path, schema, {name: k for k, name in enumerate(names)})
    if partition_by:
        write_parquet(table, folder / PARQUET_FOLDER, partition_by=partition_by)
    else:
        # Without pyarrow only the journal is written; the table is returned in any case.
        with contextlib.suppress(InputError):
            write_parquet(table, folder / PARQUET_NAME)
    return table
