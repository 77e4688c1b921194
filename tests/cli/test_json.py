"""The documents of --json are those that the documentation tells."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner

from boresight import CameraModel, simulate_frame
from boresight.cli import main
from boresight.movement import Verdict
from skies import CENTRES, SCALE, draw, header, observe

PAGE = Path(__file__).resolve().parents[2] / "docs" / "command-line.md"

CAMERA = CameraModel.from_fov(12.0, (400, 512))


def documented(command):
    """Names in the row of a command in the table."""
    row = re.search(rf"^\| `{command}` \|.*$", PAGE.read_text("utf-8"), re.MULTILINE)
    return set(re.findall(r"`(\w+)`", row[0]))


def output(*arguments):
    done = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert done.exit_code in (0, 1), done.output
    return json.loads(done.stdout)


def test_of_align(tmp_path):
    for number, ra in enumerate((83.0, 84.0)):
        simulate_frame(CAMERA, ra, -1.2, seed=number).write_fits(tmp_path / f"{number}.fits")
    for record in output("align", *sorted(tmp_path.glob("*.fits"))):
        assert set(record) == documented("align") - {"align", "ImageAlignment"}


def test_of_diagnose(tmp_path):
    simulate_frame(CAMERA, 83.0, -1.2).write_fits(tmp_path / "a.fits")
    # A busy machine needs longer for as much work.
    told = output("diagnose", tmp_path / "a.fits", "--fov", 25, "--seconds", 200)
    assert set(told) == documented("diagnose") - {"diagnose", "Diagnosis"}
    assert told["solution"] is not None or told["remedy"]["cause"] == "field of view"


def test_of_scene(tmp_path):
    for k, name in enumerate("rg"):
        data, _ = observe(draw(CENTRES, [6e3, 15e3, 30e3], 2.2, 1 / SCALE), k)
        off = header((75.5 + k, 75.5 + k)).to_header()
        fits.PrimaryHDU(data + 100.0, off).writeto(tmp_path / f"{name}.fits")
    told = output("scene", *sorted(tmp_path.glob("*.fits")), "--num-sources", 3)
    keys = set(told) | set(told["images"][0])
    assert keys == documented("scene") - {"scene", "FittedImage"}


def test_of_movement(tmp_path):
    image = simulate_frame(CAMERA, 83.0, -1.2).image
    for name, shift in (("a", 0), ("b", 3)):
        fits.PrimaryHDU(np.roll(image, shift, axis=1)).writeto(tmp_path / f"{name}.fits")
    told = output("movement", tmp_path / "a.fits", tmp_path / "b.fits")
    assert set(told) == documented("movement") - {"movement", "MovementCorrection", "error"}


def test_of_check():
    told = Verdict((), "clouds", False, CAMERA, 1e-3).to_dict()
    assert set(told) | {"file", "note"} == documented("check") - {"check", "Verdict"}


@pytest.mark.parametrize("code", range(6))
def test_exit_codes_are_those_of_the_manual(code):
    assert re.search(rf"^\| {code} \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert f".B {code}\n" in CliRunner().invoke(main, ["man"]).stdout
