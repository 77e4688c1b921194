"""Values that are kept in JSON files."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from boresight._utils.files import write_atomically
from boresight._utils.naming import named
from boresight.errors import FileFormatError

__all__ = ["JsonDocument", "read_json", "write_json"]


def write_json(path: str | os.PathLike[str], document: object, indent: int = 2) -> None:
    """Write a JSON file, readable by people, whole or not at all."""
    import json

    write_atomically(path, (json.dumps(document, indent=indent) + "\n").encode())


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; a ``ValueError`` if it is none."""
    import json

    return json.loads(Path(path).read_bytes())


@named
class JsonDocument:
    """A value that is saved as a JSON file and loaded again, by `to_dict` and `from_dict`."""

    __slots__ = ()

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Give the plain numbers of the file."""

    @classmethod
    @abstractmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make it of `to_dict`."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save as a JSON file, readable by people and exact to the last bit.

        Parameters
        ----------
        path : path-like
            File to create or replace. It is written whole or not at all.
        """
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load a file made by `save`.

        Parameters
        ----------
        path : path-like
            The JSON file.

        Raises
        ------
        FileFormatError
            If the file is damaged, of another version, or of another kind.
        OSError
            If it cannot be read.
        """
        try:
            return cls.from_dict(read_json(path))
        except ValueError as error:  # of JSON, of the encoding, or a FileFormatError
            raise FileFormatError(f"{os.fspath(path)}: {error}") from error
