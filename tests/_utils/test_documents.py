"""Files that are no sound JSON document are refused with their names."""

import json

import pytest

from boresight import CameraModel, FileFormatError, movement
from helpers import RADIAL

READERS = [CameraModel.load, movement.MovementCorrection.load, movement.read_platepar]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"a": 1, "a": 1}', "[", ""])
def test_damaged_json_is_refused(read, text, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=str(path)):
        read(path)


def test_a_name_that_is_told_twice_is_named(tmp_path):
    path = tmp_path / "camera.json"
    RADIAL.save(path)
    assert CameraModel.load(path) == RADIAL
    text = json.dumps(RADIAL.to_dict())
    path.write_text(text.replace("{", '{"focal_length_px": 5.0, ', 1))
    with pytest.raises(FileFormatError, match="repeats the name 'focal_length_px'"):
        CameraModel.load(path)


def test_a_drift_log_skips_a_line_that_is_nested_deeply(tmp_path):
    path = tmp_path / "drift.jsonl"
    path.write_text("[" * 100_000 + "\n")
    with pytest.raises(FileFormatError, match="not a drift log"):
        movement.DriftLog(path).records()
