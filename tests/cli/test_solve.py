"""`boresight solve`, `diagnose` and `extract`: many frames, some of them bad; lists of stars."""

import json

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from click.testing import CliRunner

import boresight
from boresight import CameraModel, batch, simulate_frame
from boresight.cli import main

SHAPE, FOV, RA, DEC = (400, 512), 12.0, 83.8, -1.2


@pytest.fixture(scope="module")
def sky():
    return simulate_frame(CameraModel.from_fov(FOV, SHAPE), RA, DEC, 30.0, seed=1)


@pytest.fixture
def folder(tmp_path, sky, wide_database, monkeypatch):
    """A frame, its stars and a database, in the current folder."""
    sky.write_fits(tmp_path / "sky.fits")
    wide_database.save_to_file(tmp_path / "wide.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments, stdin=None):
    return CliRunner().invoke(main, [str(a) for a in arguments], input=stdin)


COMMON = ("--fov", "12", "--database", "wide.db")


def test_ten_bad_files_of_many_lose_no_result(folder, sky):
    """Of each kind of badness one; each of the hundred other frames gives its result."""
    good = np.clip(sky.image, 0, 65535).astype(np.uint16)
    names = [f"good{number}.fits" for number in range(100)]
    for number, name in enumerate(names):
        # Turned by quarters, so that results cannot stand at another frame's place unseen.
        fits.writeto(name, np.rot90(good, number % 4))
    whole = (folder / "good0.fits").read_bytes()
    bad = {
        "missing.fits": None,
        "empty.fits": b"",
        "text.fits": b"no image",
        "cut.fits": whole[:2000],
        "half.fits": whole[: len(whole) // 3],
        "list.csv": b"a,b\n1,2\n",
        "broken.png": b"\x89PNG\r\n\x1a\n nothing",
    }
    for name, content in bad.items():
        if content is not None:
            (folder / name).write_bytes(content)
    fits.PrimaryHDU(np.full(SHAPE, np.nan, "f4")).writeto("nan.fits")
    fits.HDUList([fits.PrimaryHDU()]).writeto("none.fits")
    fits.PrimaryHDU(np.ones((3, 5, 20, 20), "f4")).writeto("cube.fits")
    bad |= dict.fromkeys(("nan.fits", "none.fits", "cube.fits"))
    order = [*names[:40], *bad, *names[40:]]
    result = run("solve", *order, *COMMON, "--json", "--no-explain", "--plot", "no.such.form")
    assert result.exit_code == 1
    records = json.loads(result.stdout)
    assert [record["file"] for record in records] == order
    for record in records:
        assert record["solved"] == record["file"].startswith("good")
        assert ("error" in record) != record["solved"]
    rolls = {r["file"]: r["roll_deg"] for r in records if r["solved"]}
    turned = [(rolls[name] - 30.0) % 360.0 / 90.0 for name in names]
    np.testing.assert_allclose(turned, [-number % 4 for number in range(100)], atol=1e-3)
    assert all(f"{name}" in result.stderr for name in bad)
    assert "form" in result.stderr  # the plot, which was tried at last
    result = run("batch", "solve", *order, *COMMON, "--output", "out", "--jobs", 1, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["counts"] == {"error": 10, "solved": 100}
    table = batch.read_results("out")
    assert list(table["path"]) == order
    assert {row["path"] for row in table if row["reason"]} == set(bad)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_line_is_printed_as_each_frame_ends(folder, monkeypatch, jobs):
    from boresight.cli import solve as command

    def write(outputs, taken, solution):
        if taken.path.name == "last.fits":
            raise KeyboardInterrupt

    (folder / "last.fits").write_bytes((folder / "sky.fits").read_bytes())
    monkeypatch.setattr(command, "write_outputs", write)
    result = run("solve", "sky.fits", "last.fits", *COMMON, "--jobs", jobs)
    assert "sky.fits" in result.stdout
    assert f"{RA:.3f}" in result.stdout
    assert "last.fits" not in result.stdout


def test_the_same_however_many_frames_at_a_time(folder, sky):
    names = [f"{quarter}.fits" for quarter in range(9)]
    for quarter, name in enumerate(names):
        fits.writeto(name, np.rot90(np.clip(sky.image, 0, 65535).astype(np.uint16), quarter))
    names[4:4] = ["missing.fits"]
    told = [run("solve", *names, *COMMON, "--json", "--jobs", jobs) for jobs in (1, 4)]
    alone, together = (json.loads(result.stdout) for result in told)
    for record in (*alone, *together):
        record.pop("solve_time_ms", None)
    assert together == alone
    assert [record["file"] for record in together] == names
    assert told[0].stderr == told[1].stderr


def test_long_names_are_whole(folder):
    deep = folder / ("a" * 90)
    deep.mkdir()
    path = deep / ("b" * 90 + ".fits")
    path.write_bytes((folder / "sky.fits").read_bytes())
    assert str(path) in run("solve", path, *COMMON).stdout


def test_why_a_frame_does_not_solve_is_told(folder, sky):
    fits.PrimaryHDU(60000 - np.clip(sky.image, 0, 60000)).writeto("negative.fits")
    table = run("solve", "negative.fits", *COMMON)
    assert table.exit_code == 1
    assert "negative: the stars are dark" in table.stdout
    (record,) = json.loads(run("solve", "negative.fits", *COMMON, "--json").stdout)
    finding = record["diagnosis"]["findings"][0]
    assert (finding["cause"], finding["certain"]) == ("negative", True)
    # In the names of the options.
    told = run("solve", "sky.fits", "--fov", "30", "--fov-error", "1", "--database", "wide.db")
    assert "give --fov 12.0" in told.stdout


def test_globs_and_standard_input(folder):
    (folder / "sky2.fits").write_bytes((folder / "sky.fits").read_bytes())
    for result in (
        run("solve", "sky*.fits", *COMMON, "--json"),
        run("solve", "-", *COMMON, "--json", stdin="sky.fits\nsky2.fits\n"),
    ):
        assert [r["file"] for r in json.loads(result.stdout)] == ["sky.fits", "sky2.fits"]
    nothing = run("solve", "none*.fits", *COMMON)
    assert nothing.exit_code == 2
    assert "FRAMES" in nothing.stderr


def test_the_hdu_is_named(folder, sky):
    dark = fits.ImageHDU(np.zeros((600, 600), "f4"), name="DARK")
    light = fits.ImageHDU(np.asarray(sky.image, "f4"), name="LIGHT")
    fits.HDUList([fits.PrimaryHDU(), dark, light]).writeto("two.fits")
    for hdu in ("LIGHT", "2"):
        assert run("solve", "two.fits", "--hdu", hdu, *COMMON).exit_code == 0
    assert run("solve", "two.fits", "--hdu", "9", *COMMON, "--no-explain").exit_code == 1


def test_where_it_looks(folder):
    near = run("solve", "sky.fits", *COMMON, "--ra", RA, "--dec", DEC, "--radius", "2")
    assert near.exit_code == 0
    for wrong, message in (
        (("--ra", "10"), "--ra: it needs --dec"),
        (("--radius", "3"), "--radius: it needs --ra and --dec"),
        (("--ra", "10", "--dec", "20", "--radius", "60"), "--radius: 60 is out of range"),
        (("--ra", "10", "--dec", "100"), "--ra and --dec"),
        (("--sigma", "-1"), "--sigma"),
        (("--plot", "no/such/folder.png"), "--plot: the folder"),
    ):
        result = run("solve", "sky.fits", *COMMON, *wrong)
        assert result.exit_code == 2, result.output
        assert message in result.stderr
        assert not result.stdout


@pytest.mark.parametrize("form", ["csv", "ecsv", "fits", "axy"])
def test_lists_of_stars(folder, sky, form):
    stars = boresight.extract_centroids(sky.image).centroids[:80]
    corner = stars.to_corner(SHAPE)
    columns = {"x_centroid": corner[:, 0], "y_centroid": corner[:, 1], "flux": stars.brightness}
    if form in ("fits", "axy"):  # Astrometry.net's, from 1
        columns = {"X": corner[:, 0] + 1, "Y": corner[:, 1] + 1, "FLUX": stars.brightness}
    table, name = Table(columns), f"list.{form}"
    if form == "axy":
        hdu = fits.BinTableHDU(table)
        hdu.header["IMAGEW"], hdu.header["IMAGEH"] = SHAPE[1], SHAPE[0]
        hdu.writeto(name)
    else:
        table.write(name)
    size = () if form == "axy" else ("--size", SHAPE[1], SHAPE[0])
    (record,) = json.loads(run("solve", name, *COMMON, *size, "--json").stdout)
    assert record["ra_deg"] == pytest.approx(RA, abs=0.01)
    assert record["dec_deg"] == pytest.approx(DEC, abs=0.01)
    if form != "axy":
        untold = run("solve", name, *COMMON)
        assert untold.exit_code == 1
        assert "give --size" in untold.stderr


def test_lists_that_do_not_tell_where_they_count_from(folder, sky):
    """Columns x and y may be anybody's: the error names an option that is there."""
    stars = boresight.extract_centroids(sky.image).centroids[:80]
    corner = stars.to_corner(SHAPE)
    columns = {"x": corner[:, 0], "y": corner[:, 1], "flux": stars.brightness}
    Table(columns).write("sep.csv")
    size = ("--size", SHAPE[1], SHAPE[0])
    refused = run("solve", "sep.csv", *COMMON, *size)
    assert refused.exit_code == 1
    assert "give --origin corner" in refused.stderr
    (record,) = json.loads(
        run("solve", "sep.csv", *COMMON, *size, "--origin", "corner", "--json").stdout
    )
    assert record["ra_deg"] == pytest.approx(RA, abs=0.01)
    told = run("diagnose", "sep.csv", *COMMON, *size, "--origin", "corner")
    assert told.stdout.startswith("Solved")


def test_a_list_in_fits_of_any_name(folder, sky):
    """SExtractor's catalogue of type FITS_LDAC: stars come after a table of the header."""
    stars = boresight.extract_centroids(sky.image).centroids[:80]
    corner = stars.to_corner(SHAPE)
    header = fits.BinTableHDU(Table({"Field Header Card": ["SIMPLE"]}), name="LDAC_IMHEAD")
    columns = {"X_IMAGE": corner[:, 0] + 1, "Y_IMAGE": corner[:, 1] + 1,
               "FLUX_AUTO": stars.brightness}  # fmt: skip
    objects = fits.BinTableHDU(Table(columns), name="LDAC_OBJECTS")
    fits.HDUList([fits.PrimaryHDU(), header, objects]).writeto("test.cat")
    size = ("--size", SHAPE[1], SHAPE[0])
    (record,) = json.loads(run("solve", "test.cat", *COMMON, *size, "--json").stdout)
    assert record["ra_deg"] == pytest.approx(RA, abs=0.01)


def test_any_projection(folder):
    camera = CameraModel.from_fov(180.0, (500, 500), projection="equidistant", parity_flip=True)
    simulate_frame(camera, 289.1, 40.5, 12.0, zero_point=13.0, seed=1).write_fits("allsky.fits")
    (record,) = json.loads(
        run("solve", "allsky.fits", "--projection", "auto", "--header", "ignore", "--json").stdout
    )
    assert record["fov_deg"] == pytest.approx(180.0, abs=1.0)
    refused = run("calibrate", "allsky.fits", "--projection", "auto")
    assert refused.exit_code == 2
    assert "--projection: calibrating needs one" in refused.stderr


def test_extract_writes_a_table(folder):
    result = run("extract", "sky.fits", "--output", "stars.csv")
    assert result.exit_code == 0, result.output
    table = Table.read("stars.csv")
    assert len(table) > 100
    assert run("extract", "sky.fits", "--output", "stars.csv").exit_code == 2
    again = run("solve", "stars.csv", "--size", SHAPE[1], SHAPE[0], *COMMON)
    assert again.exit_code == 0, again.output


def test_diagnose_prints_a_report(folder):
    result = run("diagnose", "sky.fits", "--fov", "30", "--database", "wide.db")
    assert result.exit_code == 1
    assert "Remedy      field of view" in result.stdout
    assert "--fov 12.0" in result.stdout
    assert run("diagnose", "sky.fits", "--fov", "12", "--database", "wide.db").exit_code == 0


@pytest.mark.parametrize("option", ["--plot", "--report"])
@pytest.mark.parametrize("command", ["solve", "calibrate"])
def test_figures_without_their_package_are_refused_before_the_work(
    folder, monkeypatch, command, option
):
    monkeypatch.setattr("boresight._utils.extras.find_spec", lambda name: None)
    refused = run(command, "sky.fits", *COMMON, option, "page.html")
    assert refused.exit_code == 2
    assert "pip install 'boresight[plot]'" in refused.stderr
    assert not refused.stdout


def test_a_quiet_calibration_prints_results_alone(folder):
    quiet = run("calibrate", "sky.fits", *COMMON, "--order", "2", "--quiet")
    assert quiet.exit_code == 0, quiet.output
    assert "Pass" not in quiet.output
    assert "CameraModel" in quiet.stdout
