"""A disk that is full, or a folder that cannot be made: an error names the file, nothing is left.

Rights of folders do not keep out the superuser: files are limited in size, or stand where a folder
should be.
"""

import signal
from contextlib import contextmanager

import numpy as np
import pytest
from click.testing import CliRunner

import boresight
from boresight import CameraModel, SolverDatabase, batch, simulate_frame
from boresight.catalog import remote
from boresight.cli import main
from boresight.movement import DriftLog, Verdict
from boresight.report import report

resource = pytest.importorskip("resource")
pytestmark = [
    pytest.mark.skipif(
        not hasattr(signal, "SIGXFSZ"), reason="the size of files is limited on Unix"
    ),
    # What other packages could not write they try to write once more when they close the file.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@contextmanager
def full_disk(size):
    """No file becomes larger; outside of it pytest writes what it tells."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture(scope="module")
def made(tmp_path_factory, wide_database):
    """A frame's file, its solution, a table of a batch, and a database."""
    folder = tmp_path_factory.mktemp("made")
    camera = CameraModel.from_fov(12.0, (256, 256))
    frame = simulate_frame(camera, 83.8, -1.2, seed=1)
    frame.write_fits(folder / "a.fits")
    wide_database.save_to_file(folder / "wide.bsdb")
    solution = boresight.solve(folder / "a.fits", 12.0, database=wide_database)
    common = {"output": folder / "out", "jobs": 1, "database": wide_database}
    table = batch.solve(folder / "a.fits", 12.0, **common)
    return folder, camera, frame, solution, table


def run(*arguments):
    """Run a command; what it says of an error becomes that error."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exit_code:
        raise OSError(result.output)


WRITERS = {
    "camera.json": lambda path, _, camera, *__: camera.save(path),
    "frame.fits": lambda path, _, __, frame, *___: frame.write_fits(path),
    "wide.bsdb": lambda path, folder, *_: SolverDatabase.load_from_file(
        folder / "wide.bsdb"
    ).save_to_file(path),
    "a.wcs": lambda path, _, __, ___, solution, ____: solution.save_wcs(path),
    "copy.fits": lambda path, folder, _, __, solution, ___: solution.write_wcs(
        folder / "a.fits", copy=path, overwrite=True
    ),
    "table.parquet": lambda path, *made: batch.write_parquet(made[-1], path),
    "page.html": lambda path, _, __, ___, solution, ____: report(solution, path),
    "stars.csv": lambda path, folder, *_: run("extract", folder / "a.fits", "--output", path),
    "stars.png": lambda path, folder, *_: run("plot", folder / "a.fits", path, "--show", "stars"),
    "made.bsdb": lambda path, *_: run("database", "make", path, "--max-fov", "60"),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("is_there", [False, True])
def test_a_writer_on_a_full_disk(made, tmp_path, name, is_there):
    path = tmp_path / name
    if is_there:
        if name == "stars.csv":
            pytest.skip("a table that is there is refused")
        WRITERS[name](path, *made)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with (
        full_disk(64),
        pytest.raises(OSError, match=f"(?s)too large.*{name}|{name}: File too large"),
    ):
        WRITERS[name](path, *made)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_without_a_folder(made, tmp_path, name):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=f"file(/{name}| does not exist; make it)"):
        WRITERS[name](tmp_path / "file" / name, *made)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_header_in_place_on_a_full_disk(made, tmp_path):
    folder, *_, solution, _ = made
    path = tmp_path / "a.fits"
    path.write_bytes((folder / "a.fits").read_bytes())
    with full_disk(3000), pytest.raises(OSError, match=r"too large.*a\.fits"):
        solution.write_wcs(path)
    assert path.read_bytes() == (folder / "a.fits").read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_a_drift_log_on_a_full_disk_gets_a_record_or_none(made, tmp_path):
    log, verdict = DriftLog(tmp_path / "drift.jsonl"), Verdict((), "clouds", False, made[1], 1e-3)
    log.append(verdict, "first.fits")
    whole = log.path.read_bytes()
    with full_disk(len(whole) + 20), pytest.raises(OSError, match=r"too large.*drift\.jsonl"):
        log.append(verdict, "second.fits")
    assert log.path.read_bytes() == whole
    log.append(verdict, "third.fits")
    assert [record["frame"] for record in log.records()] == ["first.fits", "third.fits"]


@pytest.mark.parametrize("work", [batch.solve, batch.extract])
@pytest.mark.parametrize("size", [0, 40, 300, 1500])
def test_a_batch_goes_on_when_there_is_room_again(made, tmp_path, work, size):
    """Frames that ended are kept, and none is said to be bad for want of room."""
    folder = made[0]
    names = [tmp_path / f"{k}.fits" for k in range(3)]
    for name in names:
        name.write_bytes((folder / "a.fits").read_bytes())
    given = {"output": tmp_path / "out", "jobs": 1}
    if work is batch.solve:
        given |= {"fov_deg": 12.0, "database": SolverDatabase.load_from_file(folder / "wide.bsdb")}
    with full_disk(size), pytest.raises(OSError, match=r"too large.*out/"):
        work(names, **given)
    table = work(names, **given)
    assert len(table) == 3
    assert set(table["status"]) == {"solved" if work is batch.solve else "done"}
    whole = (tmp_path / "out" / "journal.jsonl").read_text()
    assert whole.endswith("\n")
    assert len(whole.splitlines()) == 4


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    def fetch():
        return {"ra": np.arange(100.0)}

    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("BORESIGHT_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert len(remote._from_cache(fetch, True, "key")["ra"]) == 100
    small = SolverDatabase.generate_from_hipparcos(max_fov_deg=60.0)
    monkeypatch.setenv("BORESIGHT_CACHE_DIR", str(tmp_path / "cache"))
    with full_disk(64):
        assert len(remote._from_cache(fetch, True, "key")["ra"]) == 100
        assert SolverDatabase.generate_from_hipparcos(max_fov_deg=60.0) == small
    assert not list((tmp_path / "cache").iterdir())
