"""A batch of frames: rows in order, continued after a kill, the same however it is worked at."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from click.testing import CliRunner

import boresight
from boresight import CameraModel, InputError, batch, simulate_frame
from boresight.batch.frames import read
from boresight.batch.run import spread
from boresight.cli import main

FIELDS = [(10.0, 20.0), (90.0, 20.0), (200.0, -40.0), (280.0, 5.0), (330.0, 60.0), (150.0, 0.0)]


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Six frames that solve, one without stars and one that is no image."""
    folder = tmp_path_factory.mktemp("frames")
    camera = CameraModel.from_fov(15.0, (256, 256))
    for k, (ra, dec) in enumerate(FIELDS):
        frame = simulate_frame(camera, ra, dec, seed=k)
        fits.writeto(folder / f"{k}.fits", frame.image)
    rng = np.random.default_rng(0)
    fits.writeto(folder / "6-dark.fits", rng.normal(100, 5, (256, 256)).astype(np.float32))
    (folder / "7-broken.fits").write_bytes(b"SIMPLE  =                    T" + b" " * 50)
    return folder


def solved(table):
    return [str(status) for status in table["status"]]


EXPECTED = ["solved"] * 6 + ["unsolved", "error"]


def test_a_row_for_each_frame_in_order(frames, tmp_path):
    table = batch.solve(f"{frames}/*.fits", 15.0, output=tmp_path / "out", jobs=1)
    assert solved(table) == EXPECTED
    assert [Path(path).name[0] for path in table["path"]] == list("01234567")
    good = table[table["solved"]]
    ra, dec = np.transpose(FIELDS)
    assert np.abs(good["dec"].value - dec).max() < 0.01
    assert np.abs((good["ra"].value - ra) * np.cos(np.radians(dec))).max() < 0.01
    assert table["reason"][6]
    assert "7-broken" in table["reason"][7]
    assert np.isnan(table["ra"][7])
    assert (table["ra"].unit, table["rmse"].unit) == ("deg", "arcsec")
    alone = boresight.solve(frames / "3.fits", 15.0)
    assert (table["ra"][3].value, table["q2"][3]) == (alone.ra_deg, alone.quaternion[2])


def test_processes_threads_and_this_one_give_the_same(frames, tmp_path):
    names = sorted(frames.iterdir())
    here = batch.solve(names, 15.0, output=tmp_path / "a", jobs=1)
    there = batch.solve(names, 15.0, output=tmp_path / "b", jobs=2)
    with ThreadPoolExecutor(2) as pool:
        given = batch.solve(names, 15.0, output=tmp_path / "c", executor=pool)
    for other in (there, given):
        for name in here.colnames:
            if name != "seconds":
                assert np.array_equal(
                    here[name], other[name], equal_nan=here[name].dtype.kind == "f"
                ), name


def test_what_is_done_is_not_done_again(frames, tmp_path):
    names = sorted(frames.iterdir())
    first = batch.solve(names[:3], 15.0, output=tmp_path, jobs=1)
    journal = tmp_path / "journal.jsonl"
    begun = journal.read_bytes()
    # A kill cut the next line short.
    journal.write_bytes(begun + b'{"path": "3.fits", "sta')
    fractions = []
    table = batch.solve(names, 15.0, output=tmp_path, jobs=1, progress=fractions.append)
    assert solved(table) == EXPECTED
    assert journal.read_bytes().startswith(begun)
    assert len(journal.read_bytes().splitlines()) == 1 + len(names)
    assert list(table["seconds"][:3]) == list(first["seconds"])
    assert fractions == [k / 8 for k in range(4, 9)]
    again = batch.solve(names, 15.0, output=tmp_path, jobs=1)
    assert list(again["seconds"]) == list(table["seconds"])
    anew = batch.solve(names[:1], 15.0, output=tmp_path, jobs=1, resume=False)
    assert len(anew) == len(batch.read_results(tmp_path)) == 1


def test_other_arguments_are_not_mixed_in(frames, tmp_path):
    batch.solve(frames / "0.fits", 15.0, output=tmp_path, jobs=1)
    with pytest.raises(InputError, match=r"output: .* another fov_deg"):
        batch.solve(frames / "1.fits", 14.0, output=tmp_path, jobs=1)
    with pytest.raises(InputError, match=r"output: .* another options"):
        batch.solve(frames / "1.fits", 15.0, output=tmp_path, jobs=1, match_radius=0.02)
    with pytest.raises(InputError, match=r"output: .* another extraction"):
        batch.solve(frames / "1.fits", 15.0, output=tmp_path, jobs=1, extraction={"fast": True})


def test_stars_are_extracted_as_asked(frames, tmp_path):
    names = [frames / "0.fits", frames / "1.fits"]
    fast = batch.solve(names, 15.0, output=tmp_path, jobs=1, extraction={"fast": True})
    for name, row in zip(names, fast, strict=True):
        expected = boresight.solve(name, 15.0, extraction={"fast": True})
        assert row["ra"].to_value("deg") == expected.ra_deg != boresight.solve(name, 15.0).ra_deg


KILLED = """
import sys
from boresight import batch
if __name__ == "__main__":
    batch.solve(sys.argv[2:], 15.0, output=sys.argv[1], jobs=2, explain=False)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_kills_lose_and_repeat_nothing(frames, tmp_path):
    program, output = tmp_path / "work.py", tmp_path / "out"
    program.write_text(KILLED)
    names = [str(name) for name in sorted(frames.iterdir())]
    for delay in (1.5, 2.5, 4.0):
        with subprocess.Popen(
            [sys.executable, program, output, *names], start_new_session=True
        ) as process:
            time.sleep(delay)
            os.killpg(process.pid, signal.SIGKILL)
    subprocess.run([sys.executable, program, output, *names], check=True, timeout=100)
    lines = (output / "journal.jsonl").read_text().splitlines()[1:]
    assert sorted(json.loads(line)["path"] for line in lines) == names
    assert solved(batch.solve(names, 15.0, output=output, explain=False)) == EXPECTED
    assert {file.name for file in output.iterdir()} == {"journal.jsonl", "results.parquet"}


def test_processes_end_at_once_when_nobody_waits_for_them():
    with closing(spread([0.0, 600.0, 600.0], time.sleep, jobs=2, executor=None)) as results:
        assert next(results) == (0, None)


def test_the_time_of_a_frame_has_its_extraction(frames, tmp_path, monkeypatch):
    monkeypatch.setattr("boresight.batch.run.read", lambda name, _: read(name))
    table = batch.solve(
        f"{frames}/[01].fits", 15.0, output=tmp_path / "out", jobs=1, solve_timeout_ms=0
    )
    assert solved(table) == ["unsolved"] * 2
    assert all(reason.startswith("time: ") for reason in table["reason"])


def test_one_writer_at_a_time(frames, tmp_path):
    pytest.importorskip("fcntl")
    started, go_on = threading.Event(), threading.Event()

    def wait(_):
        started.set()
        go_on.wait(60)

    names = [frames / "0.fits"]
    thread = threading.Thread(
        target=batch.solve,
        args=(names, 15.0),
        kwargs={"output": tmp_path, "jobs": 1, "progress": wait},
    )
    thread.start()
    started.wait(60)
    try:
        with pytest.raises(InputError, match="output: another batch writes"):
            batch.solve(names, 15.0, output=tmp_path, jobs=1)
    finally:
        go_on.set()
        thread.join()


def test_a_process_that_dies_costs_one_frame(frames, tmp_path, monkeypatch):
    """The second frame ends the process, as the system does where the memory is short."""
    from boresight.batch import run

    names = [str(name) for name in sorted(frames.iterdir())[:3]]
    work = run.Work(dies_at_the_second, None, "row")
    rows = [row for part in run.run(names, work, jobs=2, executor=None) for row in part]
    by_name = {Path(row["path"]).name: row for row in rows}
    assert len(rows) == 3
    assert by_name["1.fits"]["status"] == "error"
    assert "its process died" in by_name["1.fits"]["reason"]
    assert by_name["0.fits"]["status"] == by_name["2.fits"]["status"] == "done"


def dies_at_the_second(frame, name, settings):
    if name.endswith("1.fits"):
        os._exit(1)
    return {"status": "done"}


def test_urls_are_read(frames, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for k in (0, 1):
        memory.pipe(f"/night/{k}.fits", (frames / f"{k}.fits").read_bytes())
    try:
        table = batch.solve("memory://night/*.fits", 15.0, output=tmp_path, jobs=1)
    finally:
        memory.rm("/night", recursive=True)
    assert solved(table) == ["solved", "solved"]
    assert list(table["path"]) == ["memory:///night/0.fits", "memory:///night/1.fits"]


def test_of_a_url_only_the_image_is_fetched(tmp_path):
    """Of a file with an image, its errors and a table, read in ranges as from a server."""
    fsspec = pytest.importorskip("fsspec")
    from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

    fetched = []

    class Ranges(AbstractBufferedFile):
        def _fetch_range(self, start, end):
            fetched.append(end - start)
            return Path(self.path).read_bytes()[start:end]

    class Server(AbstractFileSystem):
        protocol = "ranges"

        def info(self, path, **_):
            path = self._strip_protocol(path)
            return {"name": path, "size": Path(path).stat().st_size, "type": "file"}

        def _open(self, path, mode="rb", **how):
            return Ranges(self, path, mode, **how)

    fsspec.register_implementation("ranges", Server, clobber=True)
    image = np.random.default_rng(0).normal(100, 5, (1500, 2000)).astype(np.float32)
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(image), fits.ImageHDU(image, name="UNCERTAINTY")]
    path = tmp_path / "a_ffic.fits"
    fits.HDUList(hdus).writeto(path)
    frame = read(f"ranges://{path}")
    np.testing.assert_array_equal(frame.image, image)
    assert image.nbytes < sum(fetched) < 1.02 * image.nbytes


def test_dask_works_too(frames, tmp_path):
    distributed = pytest.importorskip("distributed")
    names = sorted(frames.iterdir())
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        table = batch.solve(names, 15.0, output=tmp_path, executor=client)
    assert solved(table) == EXPECTED


def test_parquet_keeps_units(frames, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = batch.solve(f"{frames}/[01].fits", 15.0, output=tmp_path, jobs=1)
    kept = parquet.read_table(tmp_path / "results.parquet")
    assert kept.column_names == table.colnames
    assert kept["ra"].to_pylist() == list(table["ra"].value)
    assert kept.schema.field("ra").metadata[b"unit"] == b"deg"
    assert kept.schema.field("ra").metadata[b"ucd"] == b"pos.eq.ra;meta.main"


def test_folders_by_columns(frames, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    how = {"output": tmp_path, "jobs": 1, "explain": False, "partition_by": ["date", "solved"]}
    names = sorted(frames.iterdir())
    table = batch.solve(names, 15.0, **how)
    none = "date=unknown"
    found = {str(f.relative_to(tmp_path / "results")) for f in tmp_path.rglob("*.parquet")}
    assert found == {f"{none}/solved={flag}/part-0.parquet" for flag in ("true", "false")}
    read = parquet.read_table(tmp_path / "results")
    assert sorted(read["path"].to_pylist()) == sorted(table["path"])
    assert sorted(map(str, read["solved"].to_pylist())) == ["false"] * 2 + ["true"] * 6
    assert read.schema.field("ra").metadata[b"unit"] == b"deg"
    fields = parquet.read_schema(tmp_path / "results" / "_common_metadata")
    assert fields.names == [*table.colnames, "date"]
    assert fields.field("solved").metadata[b"ucd"] == b"meta.code"
    # A table without unsolved frames has no folder of them.
    batch.solve(names[:2], 15.0, **how)
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_folders_of_other_tables(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = QTable({"night": ["a/b", "c d", "a/b"], "number": [1, 2, 3], "x": [1.0, 2.0, 3.0]})
    table["time"] = ["2026-11-29T01:00:00", "2026-11-30T01:00:00", ""]
    batch.write_parquet(table, tmp_path / "t", partition_by=["night", "date"])
    read = parquet.read_table(tmp_path / "t").sort_by("number").to_pydict()
    assert read["night"] == ["a/b", "c d", "a/b"]
    assert read["date"] == ["2026-11-29", "2026-11-30", "unknown"]
    for given, message in [
        (["x"], "not whole"),
        (["y"], "no such column 'y'"),
        ("night", "one name"),
    ]:
        with pytest.raises(InputError, match=f"partition_by: .*{message}"):
            batch.write_parquet(table, tmp_path / "t", partition_by=given)


def test_images_of_tess_are_listed():
    memory = pytest.importorskip("fsspec").filesystem("memory")
    name = "/ffi/s0012/2019/{day}/{dir}/tess2019{day}115932-s0012-{dir}-0144-s_{kind}.fits"
    for day in ("142", "141"):
        for detector in ("1-2", "1-3", "2-1"):
            for kind in ("ffic", "ffir"):
                memory.pipe(name.format(day=day, dir=detector, kind=kind), b"")
    try:
        found = batch.tess_ffi(12, 1, 2, root="memory://ffi/")
        assert found == [
            "memory://" + name.format(day=day, dir="1-2", kind="ffic") for day in ("141", "142")
        ]
        every = batch.tess_ffi(12, root="memory://ffi")
        assert len(every) == 6
        assert all("2019141" in one for one in every[:3])
        assert len(batch.tess_ffi(12, camera=1, root="memory://ffi")) == 4
        with pytest.raises(InputError, match="sector: there are no images of sector 13"):
            batch.tess_ffi(13, root="memory://ffi")
    finally:
        memory.rm("/ffi", recursive=True)
    for given, named in [((0,), "sector"), ((1, 5), "camera"), ((1, 1, 0), "ccd")]:
        with pytest.raises(InputError, match=f"{named}: "):
            batch.tess_ffi(*given)


def test_errors_of_the_network_are_rows(tmp_path, monkeypatch):
    """Clients of object stores raise classes of their own."""
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.pipe("/night/0.fits", b"")

    class ClientError(Exception):
        pass

    ClientError.__module__ = "botocore.exceptions"

    def fail(*_, **__):
        raise ClientError("slow down")

    monkeypatch.setattr(type(memory), "_open", fail)
    try:
        table = batch.solve(["memory://night/0.fits"], 15.0, output=tmp_path, jobs=1)
    finally:
        memory.rm("/night", recursive=True)
    assert list(table["status"]) == ["error"]
    assert "memory://night/0.fits: ClientError: slow down" in table["reason"][0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"frames": []}, "frames: nothing"),
        ({"partition_by": ["night"]}, "partition_by: "),
        ({"partition_by": np.zeros((2, 2))}, "partition_by: "),
        ({"frames": "/nowhere/*.fits"}, "frames: nothing"),
        ({"frames": [3]}, "frames: 3 is not a path"),
        ({"jobs": -1}, "jobs: -1"),
        ({"executor": 3}, "executor: an int"),
        ({"on_error": "ignore"}, "on_error: 'ignore'"),
        ({"match_radios": 0.1}, "match_radios"),
        ({"output": __file__}, "output: .* is a file; give a folder"),
        ({"extraction": {"sigma": 3.0}}, "extraction: .*sigma"),
    ],
)
def test_bad_arguments_are_named(frames, tmp_path, given, message):
    arguments = {"frames": [frames / "0.fits"], "fov_deg": 15.0, "output": tmp_path / "out"} | given
    with pytest.raises(InputError, match=message):
        batch.solve(**arguments)


def test_an_error_is_raised_if_asked(frames, tmp_path):
    with pytest.raises(boresight.FileFormatError, match="7-broken"):
        batch.solve(frames / "7-broken.fits", 15.0, output=tmp_path, jobs=1, on_error="raise")


def test_the_command(frames, tmp_path):
    arguments = ["batch", "solve", f"{frames}/*.fits", "--fov", "15", "--output", str(tmp_path)]
    outcome = CliRunner().invoke(main, [*arguments, "--jobs", "1"])
    assert outcome.exit_code == 1
    assert "8 frames: 1 error, 6 solved, 1 unsolved" in outcome.output
    assert "7-broken" in outcome.output
    again = CliRunner().invoke(main, [*arguments, "--json"])
    assert json.loads(again.stdout)["counts"] == {"error": 1, "solved": 6, "unsolved": 1}
    names = "\n".join(f"{frames}/{k}.fits" for k in range(2))
    listed = CliRunner().invoke(
        main,
        ["batch", "solve", "-", "--fov", "15", "--jobs", "1", "--output", f"{tmp_path}/b"],
        input=names,
    )
    assert listed.exit_code == 0, listed.output
