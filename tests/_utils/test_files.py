"""Files are written whole or not at all, with the rights of any new file."""

import os
import subprocess
import sys

import pytest

from boresight._utils.files import write_atomically

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
