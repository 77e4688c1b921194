"""The journal of a batch: one line of JSON for each finished frame, safe against a kill."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from boresight._utils.files import append_whole
from boresight.errors import FileFormatError, InputError

Row = dict[str, Any]

FORMAT = "boresight batch 1"

FILE_NAME = "journal.jsonl"


class Journal:
    """File to which the rows of finished frames are appended.

    The first line holds the settings of the batch. Rows are on the disk when `append` returns. An
    incomplete last line, left by a kill, is removed when the journal is opened again.
    """

    def __init__(self, folder: Path, settings: Row, *, resume: bool) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise InputError(f"output: {folder} is a file; give a folder") from None
        self.path = folder / FILE_NAME
        self._file: IO[bytes] = self.path.open("a+b")
        try:
            _lock(self._file, self.path)
            if not resume:
                self._file.truncate(0)
            self._begin(json.loads(json.dumps(settings)))
        except BaseException:
            self._file.close()
            raise

    def _begin(self, settings: Row) -> None:
        """Remove an incomplete last line, and compare the settings with those of the journal."""
        end = _end_of_lines(self._file)
        self._file.truncate(end)
        if end == 0:
            self._write([{"format": FORMAT, **settings}])
            return
        self._file.seek(0)
        header = _header(self._file, self.path)
        changed = [name for name, value in settings.items() if header.get(name) != value]
        if changed:
            raise InputError(
                f"output: {self.path.parent} contains a batch with another {', '.join(changed)}; "
                "give another folder, the same arguments as before, or resume=False to start again"
            )

    def append(self, rows: Iterable[Row]) -> None:
        """Append rows; they are on the disk when the method returns."""
        self._write(rows)

    def _write(self, rows: Iterable[Row]) -> None:
        lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        append_whole(self._file.fileno(), lines, self.path)

    def rows(self) -> Iterator[Row]:
        """Rows of the journal, in the order in which the frames were finished."""
        return read_rows(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


def options_as_text(options: Mapping[str, Any]) -> dict[str, str]:
    """Convert options to text, for comparison in the settings of a journal."""
    return {name: repr(value) for name, value in sorted(options.items())}


def read_settings(path: Path) -> Row:
    """Read the settings in the first line of a journal."""
    with path.open("rb") as file:
        return _header(file, path)


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of a journal, without its first line and an incomplete last line."""
    with path.open("rb") as file:
        _header(file, path)
        for line in file:
            if line.endswith(b"\n"):
                yield _parse(line, path)


def _header(file: IO[bytes], path: Path) -> Row:
    header = _parse(file.readline(), path)
    if header.get("format") != FORMAT:
        raise FileFormatError(f"{path}: no journal of a batch; give another output")
    return header


def _parse(line: bytes, path: Path) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise FileFormatError(f"{path}: damaged ({error}); remove it or the line") from None
    if not isinstance(row, dict):
        raise FileFormatError(f"{path}: a line is not a JSON object; remove it")
    return row


def _end_of_lines(file: IO[bytes]) -> int:
    """Position after the last complete line."""
    position = file.seek(0, os.SEEK_END)
    while position:
        start = max(0, position - 65536)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


def _lock(file: IO[bytes], path: Path) -> None:
    """Lock the file against other processes while it is open, if the system supports locks."""
    with contextlib.suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"output: another batch writes to {path.parent} now; wait for it, or give "
                "another folder"
            ) from None
