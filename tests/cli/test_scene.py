import json

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from click.testing import CliRunner

from boresight.cli.main import main
from skies import CENTRES, SCALE, draw, header, observe


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


def test_what_cannot_be_read_is_told(tmp_path):
    run = CliRunner().invoke(main, ["scene", str(tmp_path / "none.fits")])
    assert run.exit_code == 2
