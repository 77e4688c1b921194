"""Public names that are unsettled say so in their docstring; settled ones do not."""

import inspect

import pytest

import boresight

UNSETTLED = ("Detector", "MosaicResult", "calibrate_mosaic")


@pytest.mark.parametrize("name", UNSETTLED)
def test_the_warning_stands_between_summary_and_sections(name):
    summary, warning, *rest = inspect.getdoc(getattr(boresight, name)).split("\n\n")
    assert summary.endswith(".")
    assert warning.startswith(".. warning::\n   Unstable: ")
    assert all(line.startswith("   ") and len(line) <= 88 for line in warning.splitlines()[1:])
    assert any(part.startswith(("Parameters\n---", "Attributes\n---")) for part in rest)


def test_the_mark_changes_nothing_but_the_docstring():
    detector = boresight.Detector((1.0, 2.0), 3.0)
    assert detector == boresight.Detector((1.0, 2.0), 3.0)
    assert inspect.signature(boresight.calibrate_mosaic).parameters["order"].default == 4
    assert boresight.calibrate_mosaic.__name__ == "calibrate_mosaic"


def test_nothing_else_is_marked():
    marked = [
        name for name in dir(boresight) if "Unstable:" in (getattr(boresight, name).__doc__ or "")
    ]
    assert sorted(marked) == sorted(UNSETTLED)
