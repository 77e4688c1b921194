"""Commands about files: databases, catalogues, pictures, pages, the manual, completion."""

import shutil
import subprocess

import click
import matplotlib as mpl
import pytest
from astropy.io import fits
from astropy.table import QTable
from click.testing import CliRunner
from PIL import Image

from boresight import CameraModel, RadialDistortion, catalog, simulate_frame
from boresight.cli import main
from boresight.movement import DriftLog, MovementCorrection

mpl.use("Agg")

CAMERA = CameraModel.from_fov(12.0, (400, 512), distortion=RadialDistortion(-0.01, scale=512.0))


def run(*arguments, code=0):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def width_of(path):
    with Image.open(path) as picture:
        return picture.width


@pytest.fixture(scope="module")
def folder(tmp_path_factory, wide_database):
    folder = tmp_path_factory.mktemp("files")
    simulate_frame(CAMERA, 84.0, -1.2, seed=1).write_fits(folder / "sky.fits")
    fits.PrimaryHDU(simulate_frame(CAMERA, 84.0, -1.2, seed=1).image * 0).writeto(
        folder / "dark.fits"
    )
    wide_database.save_to_file(folder / "wide.db")
    CAMERA.save(folder / "camera.json")
    return folder


def test_databases_are_told_listed_and_cleared(folder, tmp_path, own_cache, wide_database):
    told = run("database", "info", folder / "wide.db", "--verify").stdout
    assert f"{wide_database.num_stars} stars, {wide_database.num_patterns} patterns" in told
    assert run("database", "list").stdout.endswith(f"0.0 MB  in {own_cache}\n")
    made = run("database", "make", tmp_path / "own.db", "--max-fov", "50").stdout
    assert "patterns" in made
    own_cache.mkdir()
    shutil.copy(folder / "wide.db", own_cache / "database-0.bsdb")
    (own_cache / "database-1.bsdb").write_bytes(b"no database")
    (own_cache / "mine.txt").write_text("not of the package")
    told = run("database", "list").stdout
    assert f"database-0.bsdb: {wide_database.num_stars} stars" in told
    assert "database-1.bsdb: damaged" in told
    assert "removed" in run("database", "clear").stdout
    assert [path.name for path in own_cache.iterdir()] == ["mine.txt"]
    assert "no such file" in run("database", "info", tmp_path / "none", code=2).stderr.lower()


def test_catalogues_are_told():
    assert "hipparcos: 117959 stars" in run("catalog", "info").stdout


def test_stars_are_fetched_into_a_table(tmp_path, monkeypatch):
    asked = {}

    def answer(cls, name, **part):
        asked.update(part, name=name)
        return cls.hipparcos()[:3]

    monkeypatch.setattr(catalog.Catalog, "from_vizier", classmethod(answer))
    target = tmp_path / "stars.ecsv"
    place = ("--ra", "04:27:00", "--dec", "15.9", "--radius", "5", "--max-magnitude", "9")
    run("catalog", "fetch", "I/259/tyc2", target, *place)
    assert asked == {
        "name": "I/259/tyc2", "center_deg": (66.75, 15.9), "radius_deg": 5.0, "max_magnitude": 9.0,
    }  # fmt: skip
    assert len(QTable.read(target)) == 3
    assert "--overwrite" in run("catalog", "fetch", "I/259/tyc2", target, code=2).stderr
    assert "--radius" in run("catalog", "fetch", "x", tmp_path / "y.ecsv", "--ra", 1, code=2).stderr


@pytest.mark.parametrize("options", [(), ("--show", "stars")])
def test_frames_are_drawn(folder, tmp_path, options):
    database = ("--database", folder / "wide.db")
    run("plot", folder / "sky.fits", tmp_path / "a.png", "--fov", 12, *database, *options)
    assert width_of(tmp_path / "a.png") > 500


def test_cameras_and_logs_are_drawn(folder, tmp_path):
    run("plot", folder / "camera.json", tmp_path / "a.png")
    assert width_of(tmp_path / "a.png") > 500
    (tmp_path / "empty.jsonl").touch()
    assert "no frame" in run("plot", tmp_path / "empty.jsonl", tmp_path / "b.png", code=2).stderr
    assert run("plot", tmp_path / "none.jsonl", tmp_path / "b.png", code=2).stderr
    common = ("--fov", 12, "--database", folder / "wide.db")
    dark = run("plot", folder / "dark.fits", tmp_path / "b.png", *common, code=1)
    assert "boresight diagnose" in dark.stderr


def test_pages_are_written_about_frames_logs_and_movements(folder, tmp_path):
    page = tmp_path / "page.html"
    common = ("--fov", 12, "--database", folder / "wide.db")
    run("report", folder / "sky.fits", page, *common)
    assert "The frame is solved" in page.read_text("utf-8")
    run("report", folder / "sky.fits", folder / "dark.fits", page, *common, code=1)
    assert "1 of 2 frames solved" in page.read_text("utf-8")
    MovementCorrection([[1, 0, 2], [0, 1, 3]], (400, 512), [], [], "by hand").save(
        tmp_path / "m.cmc"
    )
    run("report", tmp_path / "m.cmc", folder / "sky.fits", folder / "sky.fits", page)
    assert "moved by (+2.00, +3.00) px" in page.read_text("utf-8")
    DriftLog(tmp_path / "log.jsonl").path.touch()
    run("report", tmp_path / "log.jsonl", page)
    assert "The log has no frame" in page.read_text("utf-8")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_that_of_the_shell(shell):
    program = run("completion", shell).stdout
    assert "_BORESIGHT_COMPLETE" in program
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=program, text=True, check=True)


def test_the_manual_page_has_every_command_and_option():
    page = run("man").stdout
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert f".SS boresight {name}" in page
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--"):
                    assert option.replace("-", "\\-") in page
    if shutil.which("groff"):
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww"],
            input=page,
            text=True,
            capture_output=True,
            check=True,
        )
        assert not done.stderr
        assert "User Commands" in done.stdout
