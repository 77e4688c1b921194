"""Inputs that fuzzing kept, one for each way through the code that it found."""

from pathlib import Path

import pytest

from fuzz_formats import TARGETS

INPUTS = Path(__file__).parent / "fuzzed"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_inputs_of_fuzzing_are_refused_or_read(name):
    inputs = sorted((INPUTS / name).iterdir())
    assert inputs
    for path in inputs:
        TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_not_changed_is_read(name):
    TARGETS[name](b"\0")
