"""Files are written whole or not at all, with the rights of any new file."""

import os
import signal
import subprocess
import sys

import pytest

import boresight
from boresight import InputError
from boresight._utils.files import write_atomically
from boresight.alignment import read_head
from boresight.movement import MovementCorrection
from boresight.wcs import write_wcs

KILLED = """
import sys
from boresight._utils.files import write_atomically
for k in range(10_000):
    write_atomically(sys.argv[1], bytes([k % 251]) * 1_000_000)
    print(k, flush=True)
"""


def test_replaces_what_is_there(tmp_path):
    path = tmp_path / "a"
    for content in (b"first", b"", b"second" * 1000):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="rights are those of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_rights_are_those_of_any_new_file(tmp_path, umask):
    program = (
        "import os, sys; os.umask(int(sys.argv[2])); from boresight._utils.files import "
        "write_atomically; write_atomically(sys.argv[1], b'x')"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "a", str(umask)], check=True)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "a").symlink_to(tmp_path / "victim")
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / "a").read_bytes() == b"new"
    assert not (tmp_path / "a").is_symlink()


def test_a_name_without_a_folder_is_in_the_working_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atomically("a", b"here")
    assert (tmp_path / "a").read_bytes() == b"here"


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no/a"):
        write_atomically(tmp_path / "no" / "a", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "folder", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(sys.platform != "linux", reason="files without a name exist on Linux alone")
def test_a_killed_process_leaves_the_old_or_the_new_file_and_nothing_else(tmp_path):
    path = tmp_path / "a"
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(3):
                process.stdout.readline()
            process.kill()
        content = path.read_bytes()
        assert len(content) == 1_000_000
        assert len(set(content)) == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="the size of files is limited on Unix")
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    camera = boresight.CameraModel.from_fov(10.0, (64, 64))
    camera.save(tmp_path / "camera.json")
    kept = (tmp_path / "camera.json").read_bytes()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            camera.save(tmp_path / "camera.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "camera.json").read_bytes() == kept
    assert [path.name for path in tmp_path.iterdir()] == ["camera.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are those of POSIX")
@pytest.mark.parametrize(
    "read",
    [
        boresight.read_frame,
        boresight.solve,
        boresight.CameraModel.load,
        boresight.SolverDatabase.load_from_file,
        MovementCorrection.load,
        read_head,
        lambda path: write_wcs(path, boresight.CameraModel.from_fov(10.0, (64, 64))),
    ],
)
def test_pipes_and_devices_are_refused_at_once(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises((InputError, OSError, boresight.FileFormatError), match=r"pipe|regular"):
            read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are those of POSIX")
@pytest.mark.parametrize("linked", [False, True])
def test_pipes_and_devices_are_never_replaced(tmp_path, linked):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    if linked:
        path = tmp_path / "link"
        path.symlink_to("pipe")
    before = path.lstat()
    database = boresight.SolverDatabase.generate_from_stars(
        boresight.Catalog.hipparcos()[:300], max_fov_deg=60.0, cache=False
    )
    for write in (lambda path: write_atomically(path, b"data"), database.save_to_file):
        with pytest.raises(InputError, match=r"^path: .* is a pipe or a device"):
            write(path)
    assert path.lstat() == before
    assert len(list(tmp_path.iterdir())) == 1 + linked
