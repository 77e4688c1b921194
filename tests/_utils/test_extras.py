"""Errors about packages that are not installed name the extra that brings them."""

import subprocess
import sys

import pytest

from boresight._utils.extras import check_extra


def test_a_package_that_is_missing_is_named_with_its_extra():
    check_extra("numpy", "plot")
    with pytest.raises(ModuleNotFoundError, match=r"no_such .*pip install 'boresight\[plot\]'"):
        check_extra("no_such", "plot")


def test_without_matplotlib_all_but_figures_works():
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import importlib.util as util; util.find_spec = lambda name: None\n"
        "import boresight; boresight.CameraModel.from_fov(15.0, (512, 512))\n"
        "try: boresight.plot\n"
        "except ModuleNotFoundError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "'boresight[plot]'" in done.stdout, done.stderr
