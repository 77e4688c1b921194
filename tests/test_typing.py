"""A type checker finds the mistakes of a user's script."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

ROOT = Path(__file__).resolve().parents[1]

#: A script without mistakes, and lines that have one, with what mypy calls it.
SOUND = """
import boresight

solution = boresight.solve("frame.fits", fov_deg=12.0, match_radius=0.02)
if solution is not None:
    solution.write_wcs("frame.fits", copy="solved.fits", sip="none")
print(boresight.__version__, boresight.plot.plot_solution, boresight.simulate.SimulatedFrame)
"""
MISTAKES = {
    'boresight.slove("frame.fits")': "attr-defined",
    'boresight.solve("frame.fits", match_radios=0.02)': "call-arg",
    'boresight.solve("frame.fits", match_radius="wide")': "arg-type",
    'boresight.solve("frame.fits").center': "union-attr",
    "boresight.extract_centroids([], sigma=3.0)": "call-arg",
    "boresight.calibrate([], ordr=3)": "call-arg",
    "boresight.diagnose([], strict_hnt=True)": "call-arg",
    "boresight.plot.plot_soluton": "attr-defined",
    "boresight.wcs.undo(3)": "arg-type",
}


def test_mistakes_are_found_and_nothing_else(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SOUND + "\n".join(MISTAKES) + "\n")
    first = SOUND.count("\n") + 1
    options = ["--strict", "--config-file", ROOT / "pyproject.toml"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, script],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    found = {}
    for line in done.stdout.splitlines():
        # Its folder may be that of an earlier run, from the cache of mypy.
        if Path(line.split(":")[0]).name == script.name and ": error:" in line:
            found.setdefault(int(line.split(":")[1]), []).append(line)
    assert sorted(found) == list(range(first, first + len(MISTAKES))), done.stdout
    for number, code in enumerate(MISTAKES.values(), first):
        assert f"[{code}]" in found[number][0], found[number]
