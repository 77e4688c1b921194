"""Files of the matched stars of a frame, with the data that a calibration needs."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from boresight._utils.documents import pack_arrays, unpack_arrays
from boresight._utils.files import read_file, write_atomically
from boresight.apparent.place import ApparentPlace
from boresight.apparent.refraction import Refraction
from boresight.camera.model import CameraModel
from boresight.errors import FileFormatError
from boresight.solver.matches import MatchedStars

__all__ = ["read_matches", "write_matches"]

FORMAT = "boresight matched stars 1"


def write_matches(path: str | os.PathLike[str], stars: MatchedStars) -> None:
    """Write positions and directions of matched stars, atomically, in numpy's npz format."""
    place = stars.place
    header = {
        "format": FORMAT,
        "camera_model": stars.camera_model.to_dict(),
        "quaternion": stars.quaternion.tolist(),
        "velocity_km_s": place.velocity_km_s,
        "refraction": None if place.refraction is None else dataclasses.asdict(place.refraction),
    }
    columns: dict[str, Any] = {"positions_px": stars.positions_px, "directions": stars.directions}
    if stars.has_position_cov:
        columns["position_cov"] = stars.position_cov
    write_atomically(path, pack_arrays(header, columns))


def read_matches(path: str | os.PathLike[str]) -> MatchedStars:
    """Read a file of matched stars that `write_matches` has written.

    Raises
    ------
    FileFormatError
        If the file is damaged or of another kind.
    OSError
        If the file cannot be read.
    """
    data = read_file(path)
    try:
        header, columns = unpack_arrays(data, FORMAT)
        return MatchedStars(
            camera_model=CameraModel.from_dict(header["camera_model"]),
            quaternion=header["quaternion"],
            place=_place(header["velocity_km_s"], header["refraction"]),
            **columns,
        )
    except Exception as error:
        raise FileFormatError(
            f"{path}: no matched stars of a batch ({error}); begin anew with resume=False"
        ) from error


def _place(velocity: list[float] | None, air: dict[str, Any] | None) -> ApparentPlace:
    vx, vy, vz = velocity or (0.0, 0.0, 0.0)
    return ApparentPlace(
        velocity_km_s=None if velocity is None else (vx, vy, vz),
        refraction=None if air is None else Refraction(**air | {"zenith": tuple(air["zenith"])}),
    )
