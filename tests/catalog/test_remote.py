"""Catalogues from VizieR and the Gaia archive, answered by doubles."""

import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, Table

from boresight import Catalog, InputError, cache
from helpers import serving

pytestmark = pytest.mark.usefixtures("own_cache")

ROOT = Path(__file__).parents[2]
HIPPARCOS = Catalog.hipparcos()


class FakeVizier:
    """Answers as astroquery does, from a table; notes what was asked."""

    asked: ClassVar[list] = []
    answer: ClassVar[list] = []

    def __init__(self, columns, row_limit, timeout):
        assert row_limit == -1
        self.columns = columns

    def query_constraints(self, **constraints):
        self.asked.append((self.columns, constraints))
        return self.answer

    def query_region(self, center, **constraints):
        self.asked.append((self.columns, center, constraints))
        return self.answer


@pytest.fixture
def vizier(monkeypatch):
    table = Table(
        {
            "HIP": [1, 2],
            "RArad": [0.1, 0.2] * u.rad,
            "DErad": [0.3, 0.4] * u.rad,
            "Hpmag": [5.0, 6.0] * u.mag,
            "pmRA": [10.0, 20.0] * u.mas / u.yr,
            "pmDE": [30.0, 40.0] * u.mas / u.yr,
            "Plx": [1.0, 2.0] * u.mas,
        }
    )
    monkeypatch.setattr("astroquery.vizier.Vizier", FakeVizier)
    monkeypatch.setattr(FakeVizier, "asked", [])
    monkeypatch.setattr(FakeVizier, "answer", [table])
    return FakeVizier


class TestVizier:
    def test_is_asked_once(self, vizier):
        stars = Catalog.from_vizier(max_magnitude=7)
        assert stars.epoch == 1991.25
        assert stars.pmdec_mas_yr.tolist() == [30, 40]
        assert Catalog.from_vizier(max_magnitude=7) == stars
        [(columns, constraints)] = vizier.asked
        assert set(columns) == {"HIP", "RArad", "DErad", "Hpmag", "pmRA", "pmDE", "Plx"}
        assert constraints == {"catalog": "I/311/hip2", "Hpmag": "<=7"}
        Catalog.from_vizier(max_magnitude=8)
        Catalog.from_vizier(max_magnitude=7, cache=False)
        assert len(vizier.asked) == 3

    def test_region(self, vizier):
        Catalog.from_vizier("I/311/hip2", center_deg=(10.0, 20.0), radius_deg=3.0)
        [(_, center, constraints)] = vizier.asked
        assert center.ra.deg == pytest.approx(10)
        assert constraints["radius"] == 3 * u.deg

    def test_damaged_cache_is_no_obstacle(self, vizier, tmp_path):
        stars = Catalog.from_vizier()
        [kept] = (tmp_path / "cache").iterdir()
        kept.write_bytes(b"nothing")
        assert Catalog.from_vizier() == stars

    def test_unusable_cache_is_no_obstacle(self, vizier, tmp_path, monkeypatch):
        (tmp_path / "file").write_bytes(b"")
        monkeypatch.setenv("BORESIGHT_CACHE_DIR", str(tmp_path / "file"))
        assert len(Catalog.from_vizier()) == 2

    def test_bad_input_is_named(self, vizier, monkeypatch):
        with pytest.raises(InputError, match=r"^max_magnitude: "):
            Catalog.from_vizier("J/unknown", max_magnitude=5)
        with pytest.raises(InputError, match=r"^radius_deg: "):
            Catalog.from_vizier(center_deg=(1.0, 2.0))
        for wrong in ((1.0, 2.0, 3.0), 5.0, ("a", 2.0), [[1.0, 2.0], [3.0, 4.0]]):
            with pytest.raises(InputError, match=r"^center_deg: "):
                Catalog.from_gaia_archive(center_deg=wrong, radius_deg=1.0)
        monkeypatch.setattr(vizier, "answer", [])
        with pytest.raises(InputError, match=r"^catalog: "):
            Catalog.from_vizier()


#: A network that is down, slow, or answers nonsense, as astroquery and what it stands on tell it.
TROUBLE = [
    ConnectionError("Max retries exceeded with url: /viz-bin/votable " + "x" * 9000),
    TimeoutError(),
    ValueError("not well-formed (invalid token): line 1, column 0"),
    IndexError("list index out of range"),
]


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("cone", [{}, {"center_deg": (10.0, 20.0), "radius_deg": 1.0}])
def test_trouble_with_vizier_is_told_and_leaves_nothing(vizier, monkeypatch, trouble, cone):
    def fail(*_, **__):
        raise trouble

    monkeypatch.setattr(vizier, "query_constraints", fail)
    monkeypatch.setattr(vizier, "query_region", fail)
    with pytest.raises(
        OSError, match=r"^VizieR did not answer correctly.*Catalog\.from_table$"
    ) as raised:
        Catalog.from_vizier(**cone)
    assert len(str(raised.value)) < 500
    assert not cache.files()


@pytest.mark.parametrize("answer", [None, [None], ["<html>"], [5.0], "<html>"])
def test_an_answer_of_vizier_that_is_no_table_is_told(vizier, monkeypatch, answer):
    monkeypatch.setattr(vizier, "answer", answer)
    with pytest.raises((OSError, InputError), match=r"VizieR|^stars: |^catalog: "):
        Catalog.from_vizier()
    assert not cache.files()


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_with_the_gaia_archive_is_told(monkeypatch, trouble):
    def launch_job_async(_):
        raise trouble

    fake = types.SimpleNamespace(Gaia=types.SimpleNamespace(launch_job_async=launch_job_async))
    monkeypatch.setitem(sys.modules, "astroquery.gaia", fake)
    with pytest.raises(OSError, match=r"^the Gaia archive did not answer correctly"):
        Catalog.from_gaia_archive(9.5)
    assert not cache.files()


def test_a_service_that_goes_on_for_ever_is_left_in_time(vizier, monkeypatch):
    asked = threading.Event()
    monkeypatch.setattr(vizier, "query_constraints", lambda *_, **__: asked.wait())
    try:
        with pytest.raises(OSError, match=r"^VizieR did not answer correctly.*more than 0\.05 s"):
            Catalog.from_vizier(timeout_s=0.05)
        assert not cache.files()
    finally:
        asked.set()
    for wrong in (0.0, -1.0, np.nan, "a", None):
        with pytest.raises(InputError, match=r"^timeout_s: "):
            Catalog.from_vizier(timeout_s=wrong)
        with pytest.raises(InputError, match=r"^timeout_s: "):
            Catalog.from_gaia_archive(timeout_s=wrong)


def test_a_server_that_sends_byte_after_byte_is_left_in_time(monkeypatch):
    """Every byte comes soon enough for the client, which would wait for all of them."""
    core = pytest.importorskip("astroquery.vizier.core")
    with serving(b"<VOTABLE>" * 10_000, pause=0.1) as (url, _):
        monkeypatch.setattr(core.VizierClass, "_server_to_url", lambda *_, **__: url)
        with pytest.raises(OSError, match=r"^VizieR did not answer correctly.*more than 1 s"):
            Catalog.from_vizier(timeout_s=1.0)
    assert not cache.files()


def test_gaia_archive(monkeypatch):
    asked = []
    table = Table(
        {
            "source_id": np.array([5, 6]),
            "ra": [1.0, 2.0] * u.deg,
            "dec": [3.0, 4.0] * u.deg,
            "pmra": MaskedColumn([5.0, 6.0], mask=[False, True], unit=u.mas / u.yr),
            "pmdec": MaskedColumn([5.0, 6.0], mask=[False, True], unit=u.mas / u.yr),
            "parallax": [7.0, 8.0] * u.mas,
            "phot_g_mean_mag": [9.0, 9.5] * u.mag,
            "ref_epoch": [2016.0, 2016.0] * u.yr,
        }
    )

    def launch_job_async(query):
        asked.append(query)
        return types.SimpleNamespace(get_results=lambda: table)

    fake = types.SimpleNamespace(Gaia=types.SimpleNamespace(launch_job_async=launch_job_async))
    monkeypatch.setitem(sys.modules, "astroquery.gaia", fake)
    stars = Catalog.from_gaia_archive(9.5, center_deg=(1.0, 3.0), radius_deg=2.0)
    assert (stars.epoch, stars.ids.tolist()) == (2016.0, [5, 6])
    assert np.isnan(stars.pmra_mas_yr).tolist() == [False, True]
    assert "phot_g_mean_mag <= 9.5" in asked[0]
    assert "CIRCLE(1.0, 3.0, 2.0)" in asked[0]
    assert Catalog.from_gaia_archive(9.5, center_deg=(1.0, 3.0), radius_deg=2.0) == stars
    assert len(asked) == 1
    with pytest.raises(InputError, match=r"^max_magnitude"):
        Catalog.from_gaia_archive(np.nan)


@pytest.mark.network
def test_vizier_has_the_embedded_catalogue(tmp_path):
    pytest.importorskip("astroquery")
    script = ROOT / "data" / "rebuild_hipparcos.py"
    command = [sys.executable, script, "--source", "vizier", "--output", tmp_path / "packed"]
    subprocess.run(command, check=True)
    assert len((tmp_path / "packed").read_bytes()) == 26 * len(HIPPARCOS)


@pytest.mark.network
def test_gaia_archive_answers():
    stars = Catalog.from_gaia_archive(8, center_deg=(56.75, 24.12), radius_deg=1, cache=False)
    assert 5 < len(stars) < 50
