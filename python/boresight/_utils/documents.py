"""Reading and writing of values in JSON files, and of arrays in npz files."""

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
    """Write an indented JSON file, atomically."""
    import json

    write_atomically(path, (json.dumps(document, indent=indent) + "\n").encode())


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises ``ValueError`` if the content is not JSON, is nested too deeply, or has a repeated name
    in an object; raises `InputError` for a pipe or a device.
    """
    import json

    try:
        return json.loads(read_file(path), object_pairs_hook=_with_unique_names)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _with_unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of the names and values of a JSON object; repeated names raise an error."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it repeats the name {repeated!r}")
    return values


def check_kind(data: Any, kind: str, versions: Sequence[int], words: str) -> None:
    """Check the kind and version of a document.

    Raises
    ------
    FileFormatError
        If the document has another kind, or a version that is not in `versions`.
    """
    if not isinstance(data, Mapping) or data.get("format") != kind:
        raise FileFormatError(f"this is not a Boresight {words}")
    version = data.get("version")
    if version is None:
        raise FileFormatError(f"this {words} is damaged: it has no version")
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
    """Unpack the header and the arrays that `pack_arrays` has packed.

    Raises
    ------
    Exception
        Of any class, if the data are not such a file or the header's ``format`` is not `kind`.
    """
    import json

    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        header: dict[str, Any] = json.loads(file["header"].tobytes())
        if header["format"] != kind:
            raise ValueError(header["format"])
        return header, {name: file[name] for name in file if name != "header"}


@named
class JsonDocument:
    """Base class of values that are saved to JSON files and loaded from them.

    Subclasses define `to_dict` and `from_dict`.
    """

    __slots__ = ()

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file as a dict of plain values."""

    @classmethod
    @abstractmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make the value from a dict that `to_dict` has returned."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save to an indented JSON file, exact to the last bit.

        Parameters
        ----------
        path : path-like
            File to create or replace. It is written atomically.
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
            If the path is a pipe or a device.
        OSError
            If the file cannot be read.
        """
        check_is_file(path)
        try:
            return cls.from_dict(read_json(path))
        except ValueError as error:  # not JSON, wrong encoding, or a FileFormatError
            raise FileFormatError(f"{os.fspath(path)}: {error}") from error
