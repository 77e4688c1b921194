"""A database in its file: kept, pickled, damaged, and its stars looked up."""

import contextlib
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from boresight import (
    Catalog,
    FileFormatError,
    InputError,
    SolverDatabase,
)
from helpers import SMALL_DATABASE as SMALL

HIPPARCOS = Catalog.hipparcos()

ENDED = """
import os, sys, threading, time
import numpy as np
from boresight import FileFormatError, SolverDatabase, solve_many
database = SolverDatabase.load_from_file(sys.argv[1])
fields = [np.random.default_rng(k).uniform(-400, 400, (30, 2)) for k in range(int(sys.argv[2]))]
threading.Timer(float(sys.argv[3]), os.truncate, (sys.argv[1], 4096)).start()
time.sleep(0.2 - min(float(sys.argv[3]), 0.1))
try:
    solve_many(fields, 30.0, database=database, image_shape=(1024, 1024))
except FileFormatError as error:
    sys.exit("cut short" not in str(error))
sys.exit(2)
"""


class TestFile:
    # Before a call, and in the middle of one that takes a second or so.
    @pytest.mark.skipif(sys.platform == "win32", reason="mapped files cannot be cut short")
    @pytest.mark.parametrize(("fields", "delay"), [(3, 0.0), (300, 0.3)])
    def test_a_file_cut_short_while_it_is_open_is_an_error(self, database, tmp_path, fields, delay):
        path = tmp_path / "a.bsdb"
        database.save_to_file(path)
        command = [sys.executable, "-c", ENDED, path, str(fields), str(delay)]
        assert subprocess.run(command, timeout=60).returncode == 0

    def test_a_link_is_replaced_and_not_followed(self, database, tmp_path):
        (tmp_path / "victim").write_text("precious")
        (tmp_path / "a.bsdb").symlink_to(tmp_path / "victim")
        database.save_to_file(tmp_path / "a.bsdb")
        assert (tmp_path / "victim").read_text() == "precious"
        assert not (tmp_path / "a.bsdb").is_symlink()

    def test_comes_back_whole(self, database, content, tmp_path):
        path = tmp_path / "a.bsdb"
        database.save_to_file(path)
        assert path.read_bytes() == content
        again = SolverDatabase.load_from_file(str(path), verify=True)
        assert again == database
        assert hash(again) == hash(database)
        assert again.parameters == database.parameters
        assert [file.name for file in tmp_path.iterdir()] == ["a.bsdb"]

    def test_replaces_and_leaves_open_ones_alone(self, database, tmp_path):
        path = tmp_path / "a.bsdb"
        other = SolverDatabase.generate_from_stars(HIPPARCOS[:100], **SMALL, cache=False)
        other.save_to_file(path)
        opened = SolverDatabase.load_from_file(path)
        database.save_to_file(path)
        opened.verify()
        assert opened == other != SolverDatabase.load_from_file(path) == database

    def test_failed_writing_leaves_nothing(self, database, tmp_path):
        with pytest.raises(FileNotFoundError):
            database.save_to_file(tmp_path / "no" / "a.bsdb")
        with pytest.raises(IsADirectoryError):
            database.save_to_file(tmp_path)
        assert not list(tmp_path.iterdir())

    def test_missing_and_wrong_paths(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none\.bsdb"):
            SolverDatabase.load_from_file(tmp_path / "none.bsdb")
        with pytest.raises(IsADirectoryError):
            SolverDatabase.load_from_file(tmp_path)

    def test_other_programs_files(self, tmp_path):
        for name, data in (
            ("empty", b""),
            ("short", b"BSIGHTDB"),
            ("text", b"Boresight? no.\n" * 100),
            ("zip", b"PK\x03\x04" + bytes(1000)),
        ):
            path = tmp_path / name
            path.write_bytes(data)
            with pytest.raises(FileFormatError, match=name):
                SolverDatabase.load_from_file(path)

    def test_other_version_is_named(self, content, tmp_path):
        path = tmp_path / "a.bsdb"
        path.write_bytes(content[:8] + b"\x07\0\0\0" + content[12:])
        with pytest.raises(FileFormatError, match=r"a\.bsdb.*format 7"):
            SolverDatabase.load_from_file(path)

    @given(data=st.data())
    def test_truncated_anywhere(self, data, content, tmp_path):
        end = data.draw(st.one_of(st.integers(0, 400), st.integers(0, len(content) - 1)))
        path = tmp_path / "a.bsdb"
        path.write_bytes(content[:end])
        with pytest.raises(FileFormatError):
            SolverDatabase.load_from_file(path)
        path.write_bytes(content + bytes(end + 1))
        with pytest.raises(FileFormatError):
            SolverDatabase.load_from_file(path)

    @given(data=st.data())
    def test_flipped_bit(self, data, content, tmp_path):
        place = data.draw(st.one_of(st.integers(0, 400), st.integers(0, len(content) - 1)))
        damaged = bytearray(content)
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
        path = tmp_path / "a.bsdb"
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError):
            SolverDatabase.load_from_file(path, verify=True)
        try:
            opened = SolverDatabase.load_from_file(path)
        except FileFormatError:
            return
        # Unharmed: wrong stars perhaps, but no others than there are, and no crash.
        assert place >= 280
        rng = np.random.default_rng(place)
        opened.solve_from_centroids(
            rng.uniform(-500, 500, (12, 2)), fov_estimate_deg=60.0, image_shape=(1000, 1000)
        )
        for ask in (
            lambda: opened.cone_search(10.0, 20.0, 40.0),
            lambda: opened.get_star(opened.num_stars // 2),
            lambda: opened.get_star_by_id(32349),
        ):
            with contextlib.suppress(KeyError, InputError):
                ask()

    @given(data=st.binary(max_size=2000), magic=st.booleans())
    def test_random_bytes(self, data, magic, tmp_path):
        path = tmp_path / "a.bsdb"
        path.write_bytes(b"BSIGHTDB\x01\0\0\0" + data if magic else data)
        with pytest.raises(FileFormatError):
            SolverDatabase.load_from_file(path)

    def test_opening_reads_only_what_it_needs(self, tmp_path):
        database = SolverDatabase.generate_from_hipparcos(max_fov_deg=10.0, cache=False)
        path = tmp_path / "a.bsdb"
        database.save_to_file(path)
        shared = SolverDatabase.load_from_file(path)
        program = (
            "import sys; from boresight import SolverDatabase;"
            "import resource; rss = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
            "before = rss(); d = SolverDatabase.load_from_file(sys.argv[1]);"
            "d.get_star(5); print(rss() - before)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, path], capture_output=True, check=True, text=True
        )
        assert int(done.stdout) < 4000 < shared._core.num_bytes / 1024


class TestPickle:
    def test_by_bytes(self, database):
        assert pickle.loads(pickle.dumps(database)) == database

    def test_by_path(self, database, tmp_path):
        path = tmp_path / "a.bsdb"
        database.save_to_file(path)
        data = pickle.dumps(SolverDatabase.load_from_file(path))
        assert len(data) < 1000
        assert pickle.loads(data) == database

    def test_a_replaced_file_is_noticed(self, database, tmp_path):
        path = tmp_path / "a.bsdb"
        database.save_to_file(path)
        data = pickle.dumps(SolverDatabase.load_from_file(path))
        SolverDatabase.generate_from_stars(HIPPARCOS[:100], **SMALL, cache=False).save_to_file(path)
        with pytest.raises(FileFormatError, match="replaced"):
            pickle.loads(data)


class TestSearch:
    @given(
        ra=st.floats(-400, 400),
        dec=st.one_of(st.sampled_from([-90.0, 0.0, 90.0]), st.floats(-90, 90)),
        radius=st.one_of(st.just(0.0), st.floats(0, 180)),
    )
    def test_cone_equals_brute_force(self, ra, dec, radius, database):
        stars = database.cone_search(0.0, 0.0, 180.0)
        separation = (
            SkyCoord(stars.ra_deg, stars.dec_deg, unit="deg")
            .separation(SkyCoord(ra, dec, unit="deg"))
            .deg
        )
        found = database.cone_search(ra, dec, radius)
        assert set(found.ids) >= set(stars.ids[separation < radius - 1e-9])
        assert set(found.ids) <= set(stars.ids[separation < radius + 1e-9])
        assert (np.diff(found.magnitude) >= 0).all()

    def test_stars_by_number_and_identifier(self, database):
        stars = database.cone_search(0.0, 0.0, 180.0)
        for row in (0, 17, database.num_stars - 1):
            assert database.get_star(row) == stars[row]
            assert database.get_star_by_id(stars[row].id) == stars[row]
        assert database.get_star(-1) == stars[-1]
        some = np.random.default_rng(3).permutation(database.num_stars)[:500]
        assert database.get_stars_by_id(stars.ids[some]) == stars[some]
        assert len(database.get_stars_by_id(np.array([], dtype=int))) == 0

    def test_absent_ones_are_named(self, database):
        with pytest.raises(IndexError, match=str(database.num_stars)):
            database.get_star(database.num_stars)
        with pytest.raises(KeyError, match="424242424"):
            database.get_star_by_id(424242424)
        with pytest.raises(KeyError, match="-7"):
            database.get_stars_by_id([32349, -7])
        with pytest.raises(InputError, match="ids"):
            database.get_stars_by_id([1.5])
        with pytest.raises(InputError, match="radius_deg"):
            database.cone_search(0, 0, np.inf)

    def test_many_threads_get_the_same_answers(self, database):
        places = np.random.default_rng(4).uniform(-80, 80, (200, 2))

        def ask(place):
            return database.cone_search(*place, 10.0).ids.tolist()

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, places)) == [ask(place) for place in places]
