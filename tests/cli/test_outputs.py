"""Files that `boresight solve` writes beside the frames."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from click.testing import CliRunner
from PIL import Image

from boresight import CameraModel, simulate_frame
from boresight.cli import main

CAMERA = CameraModel.from_fov(12.0, (400, 512))


@pytest.fixture(scope="module")
def truth():
    return simulate_frame(CAMERA, 83.8, -1.2, 30.0, seed=1)


@pytest.fixture
def frame(truth, tmp_path):
    path = tmp_path / "frame.fits"
    fits.writeto(path, truth.image)
    return path


def run(*arguments):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_a_frame_gets_its_wcs_and_returns(frame, truth):
    before = frame.read_bytes()
    assert run("solve", frame, "--fov", "12", "--write").exit_code == 0
    wcs = WCS(fits.getheader(frame))
    there = wcs.pixel_to_world(20, 30)
    x, y = truth.world_to_pixel(there.ra.deg, there.dec.deg)
    assert np.hypot(x - (20 - 256), y - (30 - 200)) < 0.1
    assert run("undo", frame).exit_code == 0
    assert frame.read_bytes() == before
    again = run("undo", frame)
    assert again.exit_code == 2
    assert "BORESIGHT-UNDO" in again.stderr


def test_all_files_of_solve_field(frame, truth, tmp_path):
    names = {"--new-fits": "%s.new", "--wcs": "%s.wcs", "--corr": "%s.corr", "--rdls": "%s.rdls",
             "--axy": "%s.axy", "--regions": "%s.reg"}  # fmt: skip
    options = [part for pair in names.items() for part in pair]
    before = frame.read_bytes()
    folder = tmp_path / "results"
    done = run("solve", frame, "--fov", "12", *options, "--dir", folder)
    assert done.exit_code == 0
    assert frame.read_bytes() == before
    corr = Table.read(folder / "frame.corr", format="fits")
    wcs = WCS(fits.getheader(folder / "frame.new"))
    sky = np.column_stack(wcs.all_pix2world(corr["field_x"], corr["field_y"], 1))
    np.testing.assert_allclose(
        sky, np.column_stack([corr["field_ra"], corr["field_dec"]]), atol=1e-6
    )
    near = np.hypot(corr["field_x"] - corr["index_x"], corr["field_y"] - corr["index_y"])
    assert np.median(near) < 0.2
    true = {number: (x, y) for number, x, y in
            zip(truth.stars.catalog_id, truth.stars.x, truth.stars.y, strict=True)}  # fmt: skip
    for row in corr[:20]:
        x, y = true[row["id"]]
        assert np.hypot(row["field_x"] - 257 - x, row["field_y"] - 201 - y) < 0.5
    axy = Table.read(folder / "frame.axy", format="fits")
    assert (np.diff(axy["FLUX"]) <= 0).all()
    assert fits.getheader(folder / "frame.axy")["IMAGEW"] == 512
    assert len(Table.read(folder / "frame.rdls", format="fits")) == len(corr)
    listed = run("solve", folder / "frame.axy", "--fov", "12", "--json")
    assert json.loads(listed.stdout)[0]["num_matches"] >= 0.9 * len(corr)
    regions = (folder / "frame.reg").read_text().splitlines()
    assert sum(line.startswith("circle") for line in regions) == len(axy)
    assert sum(line.startswith("point") for line in regions) == len(corr)
    refused = run("solve", frame, "--fov", "12", "--corr", "%s.corr", "--dir", folder)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr


def test_a_list_of_stars_gets_the_files_that_need_no_image(frame, tmp_path):
    assert run("solve", frame, "--fov", "12", "--axy", tmp_path / "list.axy").exit_code == 0
    done = run("solve", tmp_path / "list.axy", "--fov", "12", "--wcs", "%s.wcs", "--corr",
               "%s.corr", "--dir", tmp_path)  # fmt: skip
    assert done.exit_code == 0, done.output
    header = fits.getheader(tmp_path / "list.wcs")
    del header["NAXIS"]  # there is no image, of which astropy warns
    there = WCS(header).pixel_to_world(256, 200)
    assert there.dec.deg == pytest.approx(-1.2, abs=1e-3)
    assert len(Table.read(tmp_path / "list.corr", format="fits")) > 20
    for option in (["--write"], ["--new-fits", tmp_path / "new.fits"]):
        refused = run("solve", tmp_path / "list.axy", "--fov", "12", *option)
        assert refused.exit_code == 1
        assert "a list of stars has no image" in refused.stderr
    assert not (tmp_path / "new.fits").exists()


def test_points_in_names_are_kept(frame, tmp_path):
    for number in (1, 2):
        shutil.copy(frame, tmp_path / f"2019.07.{number}.fits")
    night = sorted(tmp_path.glob("2019*.fits"))
    done = run("solve", *night, "--fov", "12", "--wcs", "%s.wcs", "--dir", tmp_path)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "2019.07.1.wcs").exists()
    assert (tmp_path / "2019.07.2.wcs").exists()


def test_a_reader_that_has_enough_is_no_error(frame):
    command = [sys.executable, "-m", "boresight", "solve", str(frame), str(frame), "--fov", "12"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.close()
        assert running.stderr.read() == b""


def test_frames_do_not_share_a_file(frame, tmp_path):
    other = tmp_path / "other.fits"
    shutil.copy(frame, other)
    refused = run("solve", frame, other, "--wcs", tmp_path / "one.wcs")
    assert refused.exit_code == 2
    assert "%s" in refused.stderr
    assert run("solve", frame, "--fov", "12", "--wcs", "none").exit_code == 0
    assert not (tmp_path / "none").exists()


def test_a_picture_becomes_a_fits_file_with_its_wcs(truth, tmp_path):
    path = tmp_path / "frame.png"
    Image.fromarray(np.clip(truth.image, 0, 65535).astype(np.uint16)).save(path)
    done = run("solve", path, "--fov", "12", "--new-fits", "%s.fits", "--dir", tmp_path)
    assert done.exit_code == 0
    with fits.open(tmp_path / "frame.fits") as hdus:
        there = WCS(hdus[0].header).pixel_to_world(20, 30)
        # FITS counts rows from the first of the array, which is the picture's upper one.
        assert hdus[0].data[30, 20] == int(truth.image[30, 20])
    x, y = truth.world_to_pixel(there.ra.deg, there.dec.deg)
    assert np.hypot(x - (20 - 256), y - (30 - 200)) < 0.1
    refused = run("solve", path, "--fov", "12", "--write")
    assert refused.exit_code == 1
    assert "not a FITS file" in refused.stderr


def test_many_frames_are_drawn_on_pages(frame, tmp_path, monkeypatch):
    monkeypatch.setattr("boresight.cli.output.PAGE_FRAMES", 2)
    frames = [frame]
    for number in range(2):
        frames.append(tmp_path / f"other{number}.fits")
        shutil.copy(frame, frames[-1])
    assert run("solve", *frames, "--fov", "12", "--plot", tmp_path / "all.png").exit_code == 0
    assert (tmp_path / "all.png").exists()
    assert (tmp_path / "all-2.png").exists()
    assert not (tmp_path / "all-3.png").exists()
    assert run("solve", *frames, "--fov", "12", "--plot", tmp_path / "all.pdf").exit_code == 0
    assert (tmp_path / "all.pdf").read_bytes().count(b"/Type /Page ") == 2
