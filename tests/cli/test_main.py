"""The command line: answers, exit codes, JSON, and clear errors in one line."""

import importlib
import json

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from PIL import Image

from boresight import CameraModel, Catalog, SolverDatabase, simulate_frame
from boresight.cli import main

FOV = 12.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory, wide_database):
    """Three frames of one camera, one of noise, a text file, and a database."""
    folder = tmp_path_factory.mktemp("frames")
    camera = CameraModel.from_fov(FOV, (400, 512), optical_center=(9.0, -5.0))
    for number, ra in enumerate((80.0, 84.0, 88.0)):
        frame = simulate_frame(camera, ra, -1.2, 10.0 * number, seed=number)
        frame.write_fits(folder / f"sky{number}.fits")
    noise = np.random.default_rng(1).normal(1000.0, 30.0, (400, 512))
    Image.fromarray(noise.astype(np.uint16)).save(folder / "noise.png")
    (folder / "text.fits").write_text("no image")
    wide_database.save_to_file(folder / "wide.db")
    return folder


@pytest.fixture
def run(folder):
    def run(*arguments):
        names = [str(folder / a) if "." in a and not a[0].isdigit() else a for a in arguments]
        return CliRunner().invoke(main, names)

    return run


def test_solve_prints_a_table(run):
    result = run("solve", "sky0.fits", "sky1.fits", "--fov", "12", "--database", "wide.db")
    assert result.exit_code == 0, result.output
    assert "sky0.fits" in result.stdout
    assert result.stdout.count("sky") == 2
    assert "not solved" not in result.stdout


def test_solve_prints_json_and_nothing_else(run):
    result = run(
        "solve", "sky0.fits", "noise.png", "--fov", "12", "--database", "wide.db", "--json"
    )
    assert result.exit_code == 1
    solved, unsolved = json.loads(result.stdout)
    assert solved["solved"]
    assert not unsolved["solved"]
    assert solved["fov_deg"] == pytest.approx(FOV, abs=0.05)
    assert solved["rmse_arcsec"] < 10.0
    assert solved["num_matches"] > 20
    assert np.linalg.norm(solved["quaternion"]) == pytest.approx(1.0)


def test_the_answer_is_the_truth(run, folder):
    from astropy.coordinates import SkyCoord

    from boresight import read_frame

    result = run("solve", "sky2.fits", "--fov", "11", "--database", "wide.db", "--json")
    (record,) = json.loads(result.stdout)
    truth = read_frame(folder / "sky2.fits").wcs.pixel_to_world(256, 200)
    answer = SkyCoord(record["ra_deg"], record["dec_deg"], unit="deg")
    assert truth.separation(answer).arcsec < 10.0
    assert record["roll_deg"] == pytest.approx(20.0, abs=0.2)


def test_aberration_needs_a_time(run):
    common = ("--fov", "12", "--database", "wide.db", "--aberration")
    assert run("solve", "sky0.fits", *common).exit_code == 0
    result = run("solve", "noise.png", "sky0.fits", *common)
    assert result.exit_code == 1
    assert "gives no time" in result.stderr
    assert result.stdout.count("not read") == 1
    result = run("calibrate", "sky0.fits", "noise.png", *common)
    assert result.exit_code == 2
    assert "noise.png" in result.stderr


def test_aberration_is_allowed_for_where_the_time_is_known(run):
    common = (
        "solve",
        "sky0.fits",
        "--fov",
        "12",
        "--database",
        "wide.db",
        "--json",
        "--lens",
        "none",
    )
    default, with_it, without = (
        json.loads(run(*common, *more).stdout)[0]["quaternion"]
        for more in ((), ("--aberration",), ("--no-aberration",))
    )
    assert default == with_it
    # The Earth's motion, up to 20.5 arcsec: half the chord of the quaternions.
    apart = 2.0 * np.linalg.norm(np.subtract(default, without)) * 206265.0
    assert 0.5 < apart < 21.0


def test_calibrate_saves_the_camera(run, folder):
    result = run("calibrate", "sky0.fits", "sky1.fits", "sky2.fits", "--fov", "12", "--order", "3",
                 "--database", "wide.db", "--output", "camera.json",
                 "--plot", "matched.png")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Pass 4: 3/3 solved" in result.stdout
    assert CameraModel.load(folder / "camera.json").fov_deg == pytest.approx(FOV, abs=0.05)
    with Image.open(folder / "matched.png") as figure:
        assert figure.width > 100
    again = run("solve", "sky0.fits", "--camera", "camera.json", "--database", "wide.db", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)[0]["rmse_arcsec"] < 10.0


def test_calibrate_as_json(run):
    result = run("calibrate", "sky0.fits", "sky1.fits", "noise.png", "--fov", "12", "--order", "2",
                 "--model", "polynomial", "--database", "wide.db", "--json")  # fmt: skip
    assert result.exit_code == 1  # the noise did not solve
    document = json.loads(result.stdout)
    assert [frame["solved"] for frame in document["frames"]] == [True, True, False]
    assert CameraModel.from_dict(document["camera_model"]).image_shape == (400, 512)
    assert 0.0 < document["rmse_after_px"] < 0.1
    assert document["num_inliers"] > 100


def test_stars_move_to_the_time_of_the_frames_where_their_catalogue_is_known(
    run, monkeypatch, tmp_path
):
    stars = Catalog.hipparcos().at_epoch(2000.0)
    still = Catalog(stars.ids, stars.ra_deg, stars.dec_deg, stars.magnitude)
    own = SolverDatabase.generate_from_stars(still, max_fov_deg=20.0, min_fov_deg=8.0)
    own.save_to_file(tmp_path / "still.db")
    calibrating = importlib.import_module("boresight.calibration.calibrate")

    found, calibrate = [], calibrating.calibrate
    monkeypatch.setattr(
        calibrating,
        "calibrate",
        lambda *args, **kw: found.append(calibrate(*args, **kw)) or found[-1],
    )
    common = ("calibrate", "sky0.fits", "sky1.fits", "--fov", "12", "--order", "2", "--json")
    still_db = str(tmp_path / "still.db")
    for database, moved in ((None, True), ("wide.db", True), (still_db, False)):
        given = () if database is None else ("--database", database)
        assert run(*common, *given).exit_code == 0
        assert any("proper motion" in word for word in found[-1].physics) == moved


def test_a_broken_file_does_not_stop_the_others(run):
    result = run(
        "solve", "text.fits", "sky0.fits", "--fov", "12", "--database", "wide.db", "--json"
    )
    assert result.exit_code == 1
    broken, solved = json.loads(result.stdout)
    assert "text.fits" in broken["error"]
    assert solved["solved"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("solve",), "Missing argument"),
        (("solve", "sky0.fits", "--fov", "wide"), "not a valid float"),
        (("solve", "sky0.fits", "--fov", "0"), "--fov: 0.0 is not a field of view"),
        (("solve", "sky0.fits", "--fov", "180"), "--fov: 180.0 is not a field of view"),
        (("solve", "sky0.fits", "--database", "none.db"), "none.db"),
        (("solve", "sky0.fits", "--database", "text.fits"), "not a Boresight database"),
        (("solve", "sky0.fits", "--camera", "text.fits"), "text.fits"),
        (("calibrate", "none.fits", "--database", "wide.db"), "none of them can be read"),
        (("calibrate", "noise.png", "--database", "wide.db"), "none of the 1 frames solves"),
        (("simulate", "out.fits", "--ra", "nan", "--dec", "0"), "--ra: "),
        (("nonsense",), "No such command"),
    ],
)
def test_what_cannot_be_run_is_one_clear_line(run, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not result.stdout


def test_a_frame_of_another_camera_is_named_and_left_out(run, folder):
    simulate_frame(CameraModel.from_fov(FOV, (100, 100)), 0.0, 0.0).write_fits(
        folder / "small.fits"
    )
    result = run("calibrate", "sky0.fits", "small.fits", "--fov", "12", "--database", "wide.db")
    assert result.exit_code == 1
    assert "small.fits: (100, 100) pixels, but most frames have (400, 512)" in result.stderr
    assert "CameraModel" in result.stdout


def test_simulate_and_database_write_files(run, folder):
    result = run("simulate", "made.fits", "--ra", "10", "--dec", "20", "--size", "128")
    assert result.exit_code == 0, result.output
    assert (folder / "made.fits").exists()
    result = run("database", "make", "made.db", "--max-fov", "30")
    assert result.exit_code == 0, result.output
    assert SolverDatabase.load_from_file(folder / "made.db").num_patterns > 1000


def test_help_and_version(run):
    assert "calibrate" in run("--help").stdout
    assert run("--version").stdout.startswith("boresight")


@pytest.mark.parametrize("group", [(), ("batch",), ("catalog",), ("database",)])
def test_commands_are_told_in_whole_sentences(run, group):
    listed = run(*group, "--help").stdout.partition("Commands:")[2]
    assert listed
    assert "..." not in listed


def test_messages_have_the_numbers_and_files_that_were_given(tmp_path):
    for name, pixels in (("flat", np.ones((90, 90))), ("nan", np.full((90, 90), np.nan))):
        fits.PrimaryHDU(pixels.astype("f4")).writeto(tmp_path / f"{name}.fits")
    files = [str(tmp_path / f"{name}.fits") for name in ("flat", "nan")]
    result = CliRunner().invoke(main, ["solve", files[0], "--fov", "15", "--fov-error", "-1"])
    assert result.exit_code == 2
    assert " -1 is not positive" in result.output
    result = CliRunner().invoke(main, ["solve", *files, "--fov", "15"])
    assert result.exit_code == 1
    assert f"{files[1]}: image: no pixel is finite" in result.output
    result = CliRunner().invoke(
        main, ["simulate", str(tmp_path / "s.fits"), "--ra", "10", "--dec", "95"]
    )
    assert result.exit_code == 2
    assert "--dec: 95.0 is not a declination" in result.output
    assert not (tmp_path / "s.fits").exists()


def test_certify_prints_rates_and_json(run):
    given = ("certify", "--fov", "12", "--database", "wide.db", "--size", "512", "512")
    result = run(*given, "--fields", "3", "--kind", "sky", "--kind", "random", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [one["kind"] for one in found["kinds"]] == ["sky", "random"]
    assert found["total"]["num_fields"] == 6
    assert found["holds"]
    result = run(*given, "--fields", "2", "--kind", "random", "--threshold", "0.01")
    assert "agrees with the threshold asked for, 0.01" in result.stdout
    result = run(*given, "--fields", "0")
    assert result.exit_code == 2
    assert "--fields" in result.stderr


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("database make a.db --max-fov -5", "--max-fov: is -5 degrees"),
        ("database make a.db --max-fov 5 --min-fov 9", "--min-fov: is 9 degrees, more than --max"),
        ("database info none.db", "none.db: No such file or directory"),
        ("undo none.fits", "none.fits: No such file or directory"),
        ("simulate a.fits --ra 10 --dec 5 --seed -1", "--seed: -1 is not a whole number"),
    ],
)
def test_messages_name_the_options_and_the_files(run, command, told):
    result = run(*command.split())
    assert result.exit_code == 2
    assert told in result.output
