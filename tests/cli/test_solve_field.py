"""Options of `boresight solve` that mean what they mean in solve-field."""

import json

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from click.testing import CliRunner

from boresight import CameraModel, simulate_frame
from boresight.cli import main

#: Binned by two, the stars of this field are still told from each other.
CAMERA = CameraModel.from_fov(12.0, (601, 800))
SCALE = 3600 * np.degrees(1 / CAMERA.focal_length_px)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, wide_database):
    """A frame without a WCS as the camera has it, and the same mirrored, and a database."""
    folder = tmp_path_factory.mktemp("solve_field")
    view = simulate_frame(CAMERA, 84.0, -1.2, 20.0, psf_fwhm_px=3.5, seed=2)
    fits.PrimaryHDU(view.image).writeto(folder / "sky.fits")
    fits.PrimaryHDU(view.image[::-1]).writeto(folder / "mirrored.fits")
    wide_database.save_to_file(folder / "wide.db")
    return folder


@pytest.fixture
def solve(folder):
    def solve(name, *options, fov=("--fov", "12"), stdin=None):
        names = [str(folder / name)] if name else []
        common = ["--database", str(folder / "wide.db"), "--json", "--no-explain", *fov]
        return CliRunner().invoke(main, ["solve", *names, *common, *options], input=stdin)

    return solve


def told(result):
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)
    return record


@pytest.mark.parametrize(
    ("units", "low", "high"),
    [
        ("degwidth", 11.0, 13.0),
        ("dw", 11.0, 13.0),
        ("arcminwidth", 660.0, 780.0),
        ("arcsecperpix", 0.9 * SCALE, 1.1 * SCALE),
        ("app", 0.9 * SCALE, 1.1 * SCALE),
        ("focalmm", 150.0, 200.0),
    ],
)
def test_the_scale_bounds_the_field_of_view(solve, units, low, high):
    options = ("--scale-low", str(low), "--scale-high", str(high), "--scale-units", units)
    record = told(solve("sky.fits", *options, fov=()))
    assert record["fov_deg"] == pytest.approx(CAMERA.fov_deg, abs=0.01)
    half = ("-L", str(low / 2), "-H", str(high / 2), "-u", units)
    assert solve("sky.fits", *half, fov=()).exit_code == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scale-low", "3"), "--scale-high"),
        (("--scale-low", "3", "--scale-high", "2"), "not a range"),
        (("--scale-low", "0", "--scale-high", "2"), "not a range"),
        (("--ra", "x", "--dec", "1"), "not an angle; give degrees or hh:mm:ss"),
        (("--skip-solved",), "needs an option that names an output file"),
    ],
)
def test_wrong_options_are_named(solve, options, message):
    result = solve("sky.fits", *options, fov=())
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_scale_is_told_once(solve):
    result = solve("sky.fits", "--scale-low", "11", "--scale-high", "13")
    assert result.exit_code == 2
    assert "--fov gives the scale already" in result.stderr


def test_positions_are_degrees_or_sexagesimal(solve):
    near = ("--radius", "3")
    assert told(solve("sky.fits", "--ra", "05:36:00", "--dec", "-01:12:00", *near))["solved"]
    assert told(solve("sky.fits", "-3", "84", "-4", "-1.2", "-5", "3"))["solved"]


@pytest.mark.parametrize(("name", "parity", "other"), [
    ("sky.fits", "neg", "pos"), ("mirrored.fits", "pos", "neg"),
])  # fmt: skip
def test_parity_is_the_sign_of_minus_the_determinant(solve, tmp_path, name, parity, other):
    copy = tmp_path / "copy.fits"
    told(solve(name, "--parity", parity, "--new-fits", str(copy)))
    determinant = np.linalg.det(WCS(fits.getheader(copy)).pixel_scale_matrix)
    assert (determinant < 0) == (parity == "pos")
    result = solve(name, "--parity", other, "--explain")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["diagnosis"]["findings"][0]["cause"] == "parity"


@pytest.mark.parametrize("step", ["2", "3"])
def test_positions_on_means_of_pixels_are_those_of_the_frame(solve, step):
    plain, binned = told(solve("sky.fits")), told(solve("sky.fits", "--downsample", step))
    away = np.hypot(
        (binned["ra_deg"] - plain["ra_deg"]) * np.cos(np.radians(1.2)),
        binned["dec_deg"] - plain["dec_deg"],
    )
    assert away * 3600 < 0.1 * SCALE
    assert binned["fov_deg"] == pytest.approx(plain["fov_deg"], rel=2e-4)


def test_a_frame_is_given_up_in_time(solve, folder):
    noise = np.random.default_rng(1).normal(100.0, 5.0, (400, 500))
    noise[np.random.default_rng(2).integers(5, 395, 60), 7 * np.arange(60) + 5] += 500.0
    fits.PrimaryHDU(noise).writeto(folder / "noise.fits", overwrite=True)
    result = solve("noise.fits", "--cpulimit", "0.001", fov=())
    assert result.exit_code == 1
    assert told(solve("sky.fits", "--cpulimit", "30"))["solved"]


def test_names_come_on_standard_input(solve, folder):
    result = solve(None, "--files-on-stdin", "--no-plots", stdin=f"{folder / 'sky.fits'}\n")
    assert told(result)["solved"]
    assert solve(None).exit_code == 2


def test_files_that_exist_are_kept_or_their_frames_passed_over(solve, tmp_path):
    wcs, corr = tmp_path / "sky.wcs", tmp_path / "sky.corr"
    asked = ("--wcs", str(wcs), "--corr", str(corr))
    wcs.write_text("mine")
    assert solve("sky.fits", *asked).exit_code == 2
    assert json.loads(solve("sky.fits", "--wcs", str(wcs), "--skip-solved").stdout) == []
    assert told(solve("sky.fits", *asked, "--skip-solved", "--continue"))["solved"]
    assert wcs.read_text() == "mine"
    assert corr.is_file()
    told(solve("sky.fits", *asked, "--overwrite"))
    assert fits.getheader(wcs)["CTYPE1"].startswith("RA---TAN")
