"""The licences of all crates that the extension is linked with come with the package."""

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTICES = "THIRD-PARTY-NOTICES"


def test_the_notices_are_those_of_the_crates_that_are_locked():
    if shutil.which("cargo") is None:
        pytest.skip("needs cargo")
    command = [sys.executable, ROOT / "rust" / "py" / "notices.py"]
    made = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=ROOT)
    if made.returncode and "offline" in made.stderr + made.stdout:
        pytest.skip("needs the sources of the crates")
    assert made.returncode == 0, made.stderr[-2000:]
    told = (ROOT / NOTICES).read_text(encoding="utf-8")
    assert made.stdout == told, f"python rust/py/notices.py > {NOTICES}"


def test_what_is_installed_has_the_notices():
    found = [file for file in metadata.files("boresight") or () if file.name == NOTICES]
    assert found
    # Of an editable installation the list may be older than the sources.
    text = found[0].locate().read_text(encoding="utf-8")
    assert text.startswith("Boresight contains these crates of Rust, under their licences.")
    assert "pyo3" in text
