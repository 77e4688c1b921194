"""Importing the package is quick, for what is slow to import waits until it is needed."""

import subprocess
import sys

import pytest

import boresight

SLOW = (
    "astropy", "matplotlib", "rich", "click", "PIL", "scipy", "hashlib", "tempfile", "logging",
    "json", "boresight.simulate", "boresight.solver.diagnosis", "boresight.calibration.blocks",
    "boresight.calibration.rig",
)  # fmt: skip


def test_nothing_slow_is_imported():
    # What the interpreter, its site packages or numpy import themselves does not count.
    program = (
        "import sys, numpy; before = set(sys.modules); import boresight;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not set(SLOW) & set(done.stdout.split())


def test_all_names_are_there():
    for name in dir(boresight):
        assert getattr(boresight, name) is not None
    assert callable(boresight.diagnose)
    assert boresight.simulate.simulate_frame is boresight.simulate_frame
    with pytest.raises(AttributeError, match="stars"):
        boresight.stars  # noqa: B018
