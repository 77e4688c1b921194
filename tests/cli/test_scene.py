import json

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from click.testing import CliRunner

from boresight.cli.main import main
from skies import CENTRES, SCALE, draw, header, observe, sky_of


def files(folder):
    fluxes = [6000.0, 15000.0, 30000.0]
    for k, name in enumerate("rg"):
        data, _ = observe(draw(CENTRES, fluxes, 2.2, 1 / SCALE), k)
        off = header((75.5 + k, 75.5 + k))
        fits.PrimaryHDU(data + 100.0, off.to_header()).writeto(folder / f"{name}.fits")
    return [str(folder / "r.fits"), str(folder / "g.fits")]


def test_a_shift_is_found_and_written(tmp_path):
    paths = files(tmp_path)
    run = CliRunner().invoke(main, ["scene", *paths, "--free", "shift", "--write", "--json"])
    assert run.exit_code == 0, run.output
    told = json.loads(run.stdout)
    assert told["status"] == "converged"
    np.testing.assert_allclose(
        told["images"][1]["crtan_arcsec"], SCALE * np.array([-1.0, 1.0]), atol=0.04
    )
    np.testing.assert_allclose(WCS(fits.getheader(paths[1])).wcs.crpix, [75.5, 75.5], atol=0.15)
    plain = CliRunner().invoke(main, ["scene", *paths, "--num-sources", "3"])
    assert plain.exit_code == 0
    assert "crtan" in plain.output


def test_motions_and_shifts_by_colour(tmp_path):
    colors, by_color = np.array([0.2, 1.6, 0.9]), np.array([0.06, -0.04])
    move = np.array([[0.15, 0.0], [0.0, -0.1], [0.0, 0.0]])
    for k, (name, band) in enumerate((("a", "r"), ("b", "g"), ("c", "r"))):
        at = CENTRES + k * move + (colors - 0.9)[:, None] * by_color * (band == "g")
        data, _ = observe(draw(at, [2e4, 3e4, 4e4], 2.2, 1 / SCALE), k)
        cards = header((75.5, 75.5)).to_header()
        cards["FILTER"], cards["DATE-AVG"] = band, f"{2016 + k}-03-01T12:00:00"
        fits.PrimaryHDU(data + 100.0, cards).writeto(tmp_path / f"{name}.fits")
    paths = [str(tmp_path / f"{name}.fits") for name in "abc"]
    stars = sky_of(CENTRES, header((75.5, 75.5)))
    table = str(tmp_path / "stars.ecsv")
    Table({"ra": stars.ra.deg, "dec": stars.dec.deg, "color": colors}).write(table)
    options = ["--sources", table, "--motion", "proper", "--chromatic"]
    run = CliRunner().invoke(main, ["scene", *paths, *options, "--json"])
    assert run.exit_code == 0, run.output
    told = json.loads(run.stdout)
    first, second, third = (image["chromatic_arcsec_per_mag"] for image in told["images"])
    # The band of the reference is held.
    assert first == third == [0.0, 0.0]
    assert np.abs(np.array(second) - by_color).max() < 0.03
    # Images are free to move: motions are those among the stars.
    pm = np.array([[row["pmra"], row["pmdec"]] for row in told["sources"]]) / 1e3
    assert np.abs((pm - pm[2]) - move).max() < 0.04
    plain = CliRunner().invoke(main, ["scene", *paths, *options])
    assert "by colour" in plain.output
    assert "source1: pmra" in plain.output


def test_what_cannot_be_read_is_told(tmp_path):
    run = CliRunner().invoke(main, ["scene", str(tmp_path / "none.fits")])
    assert run.exit_code == 2
