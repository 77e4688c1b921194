"""Fuzz targets of the formats that Python reads: whatever the bytes are, refused in words or read.

``pip install atheris``, then ``python tests/fuzz_formats.py camera FOLDER -max_total_time=1200``
(or ``block``, ``correction``, ``platepar``) keeps what it finds in the folder. Inputs that were
kept are in ``tests/fuzzed``, and run in ``test_fuzzed_formats.py``.
"""

import copy
import functools
import json
import struct
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from boresight import BoresightError, CalibrationBlock, CameraModel, calibration_block, movement
from boresight._utils.documents import pack_arrays, unpack_arrays
from boresight.calibration.blocks import FORMAT
from boresight.movement import MovementCorrection
from helpers import RADIAL, simulate

#: What stands in place of a part of a document.
VALUES = (
    None, True, False, "", "a", "1", [], {}, [1, 2], [1.0, "a"], {"a": 1}, 0, 1, -1, 2, 512.9,
    10**30, 1e308, -1e308, 5e-324, "NaN", [0.0] * 3, np.eye(3).tolist(),
)  # fmt: skip

#: Bytes of a change: which part, what kind, a number.
CHANGE_BYTES = 11

PLATEPAR = {
    "lat": 45.3, "lon": 16.2, "elev": 120.0, "JD": 2460310.4375, "Ho": 10.0, "X_res": 1280,
    "Y_res": 720, "RA_d": 75.0, "dec_d": 32.0, "pos_angle_ref": 37.0, "F_scale": 14.7, "version": 2,
    "refraction": False, "equal_aspect": True, "asymmetry_corr": False,
    "force_distortion_centre": False, "station_code": "XX0001", "distortion_type": "radial7-odd",
    "x_poly_fwd": [0.01, -0.02, 0.03, -0.008, 0.001], "y_poly_fwd": [0.0] * 5,
}  # fmt: skip

CORRECTION = {
    "transform_matrix": np.eye(3).tolist(), "im_array_shape": [64, 64],
    "ref_points": [[1.0, 2.0], [30.0, 5.0], [-20.0, 9.0]],
    "moved_points": [[1.0, 2.0], [30.0, 5.0], [-20.0, 9.0]], "history": "by hand",
    "boresight": {
        "method": "ransac", "covariance": np.eye(3).tolist(), "inliers": [True] * 3,
        "log10_chance": -9.0,
    },
}  # fmt: skip


def changed(document, data):
    """Give a document with some of its parts replaced, as the bytes tell."""
    document = copy.deepcopy(document)
    for start in range(0, len(data) - CHANGE_BYTES + 1, CHANGE_BYTES):
        place, kind, number = struct.unpack_from("<HBd", data, start)
        parts = list(_parts(document))
        if not parts:
            break
        container, key = parts[place % len(parts)]
        if kind < 128:
            container[key] = number
        elif kind < 250:
            container[key] = copy.deepcopy(VALUES[kind % len(VALUES)])
        else:
            del container[key]
    return document


def _parts(document):
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(items):
        yield document, key
        if isinstance(value, dict | list):
            yield from _parts(value)


def _document(data, sound):
    """Give the bytes as they are, or, where they begin with a zero, a document that they change."""
    return json.dumps(changed(sound, data[1:])).encode() if data[:1] == b"\0" else data


def _read(read, document):
    """Read a file with this in it; None where it is refused in words."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzzed"
        path.write_bytes(document)
        try:
            return read(path)
        except BoresightError:
            return None


def camera(data):
    """Files of a camera; what is read is the same when it is kept again."""
    model = _read(CameraModel.load, _document(data, RADIAL.to_dict()))
    if model is not None:
        assert CameraModel.from_dict(json.loads(json.dumps(model.to_dict()))) == model
        model.pixel_to_direction([1.0, -100.0], [2.0, 300.0])
        model.direction_to_pixel([0.1, 0.2, 1.0])


def correction(data):
    """Movement corrections (.cmc)."""
    found = _read(MovementCorrection.load, _document(data, CORRECTION))
    if found is not None:
        found.moved_to_ref_coords(1.0, 2.0)


def platepar(data):
    """Platepars of RMS."""
    found = _read(movement.read_platepar, _document(data, PLATEPAR))
    if found is not None:
        found.pixel_to_world(1.0, 2.0)


def block(data):
    """Calibration blocks of which the header and the arrays are changed, or any bytes."""
    sound = _sound_block()
    if data[:1] == b"\0":
        header, arrays = unpack_arrays(sound.to_bytes(), FORMAT)
        whole = {"header": header, "arrays": {name: a.tolist() for name, a in arrays.items()}}
        try:
            parts = changed(whole, data[1:])
            given = {name: np.asarray(a) for name, a in parts["arrays"].items()}
            data = pack_arrays(parts["header"], given)
        except (KeyError, AttributeError, ValueError):
            return  # no longer a header and arrays
    try:
        found = CalibrationBlock.from_bytes(data)
        (found + sound).solve()
        found.solve()
    except BoresightError:
        return


@functools.cache
def _sound_block():
    results, centroids, _ = simulate(RADIAL, frames=2, stars=30)
    return calibration_block(results, centroids, RADIAL, noise=1.0)


#: The functions that take the bytes, by name.
TARGETS = {function.__name__: function for function in (block, camera, correction, platepar)}


if __name__ == "__main__":
    import atheris

    target = TARGETS[sys.argv.pop(1)]
    atheris.instrument_all()
    atheris.Setup(sys.argv, target)
    with warnings.catch_warnings(action="ignore"):
        atheris.Fuzz()
