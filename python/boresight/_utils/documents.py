"""Values that are kept in JSON files."""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from boresight._utils.files import check_is_file, read_file, write_atomically
from boresight._utils.naming import named
from boresight.errors import FileFormatError

__all__ = [
    "JsonDocument",
    "check_kind",
    "pack_arrays",
    "read_json",
    "unpack_arrays",
    "write_json",
]


def write_json(path: str | os.PathLike[str], document: object, indent: int = 2) -> None:
    """Write a JSON file, readable by people, whole or not at all."""
    import json

    write_atomically(path, (json.dumps(document, indent=indent) + "\n").encode())


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; a ``ValueError`` if it is none, an `InputError` of a pipe or device.

    None is also one that is nested too deeply, or tells a name twice, of which one would win.
    """
    import json

    try:
        return json.loads(read_file(path), object_pairs_hook=_told_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _told_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make the object of its names and values, no name twice."""
    told = dict(pairs)
    if len(told) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it tells {repeated!r} twice")
    return told


def check_kind(data: Any, kind: str, versions: Sequence[int], words: str) -> None:
    """Check the kind and version that a document tells.

    Raises
    ------
    FileFormatError
        If it is of another kind, or of a version that is unknown here.
    """
    if not isinstance(data, Mapping) or data.get("format") != kind:
        raise FileFormatError(f"this is not a Boresight {words}")
    version = data.get("version")
    if version is None:
        raise FileFormatError(f"this {words} is damaged: it tells no version")
    if isinstance(version, bool) or version not in versions:
        known = " and ".join(map(str, versions))
        raise FileFormatError(
            f"this {words} is of version {version!r}; this program reads {known}: update "
            "Boresight, or save it again"
        )


def pack_arrays(header: Mapping[str, Any], arrays: Mapping[str, Any]) -> bytes:
    """Pack a header, as JSON, and arrays in numpy's npz format."""
    import json

    content = io.BytesIO()
    packed: dict[str, Any] = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
    np.savez(content, **packed, **arrays)
    return content.getvalue()


def unpack_arrays(data: bytes, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Unpack the header and the arrays of `pack_arrays`.

    Raises
    ------
    Exception
        Of any class, if they are none, or the header's ``format`` is another.
    """
    import json

    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        header: dict[str, Any] = json.loads(file["header"].tobytes())
        if header["format"] != kind:
            raise ValueError(header["format"])
        return header, {name: file[name] for name in file if name != "header"}


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
        InputError
            If it is a pipe or a device.
        OSError
            If it cannot be read.
        """
        check_is_file(path)
        try:
            return cls.from_dict(read_json(path))
        except ValueError as error:  # of JSON, of the encoding, or a FileFormatError
            raise FileFormatError(f"{os.fspath(path)}: {error}") from error
