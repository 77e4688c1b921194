"""Tables beside a frame: columns, types and cards as solve-field writes them.

Names, types (TFORM) and order are those of Astrometry.net's sources: `solver/onefield.c` (corr,
rdls), `util/rdlist.c`, `util/xylist.c`, `solver/image2xy-files.c` (axy).
"""

from contextlib import ExitStack

import numpy as np
import pytest
from astropy.io import fits

from boresight import CameraModel, Centroids, extract_centroids, simulate_frame, solve
from boresight.solver.products import write_axy, write_corr, write_rdls

CAMERA = CameraModel.from_fov(12.0, (400, 512))

CORR = {
    "field_x": "D",
    "field_y": "D",
    "field_ra": "D",
    "field_dec": "D",
    "index_x": "D",
    "index_y": "D",
    "index_ra": "D",
    "index_dec": "D",
    "index_id": "J",
    "field_id": "J",
    "match_weight": "D",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The three files of a frame as HDU lists, its WCS, and what it truly shows."""
    folder = tmp_path_factory.mktemp("products")
    truth = simulate_frame(CAMERA, 83.8, -1.2, 30.0, seed=1)
    found = extract_centroids(truth.image)
    solution = solve(found, 12.0)
    paths = [
        write_corr(folder / "frame.corr", solution),
        write_rdls(folder / "frame.rdls", solution),
        write_axy(folder / "frame.axy", found.centroids, found.image_shape),
    ]
    with ExitStack() as stack:
        files = [stack.enter_context(fits.open(path, memmap=False)) for path in paths]
        yield files, solution.wcs(), truth


def types(hdus):
    return dict(zip(hdus[1].columns.names, hdus[1].columns.formats, strict=True))


def test_columns_types_and_units(written):
    (corr, rdls, axy), _, _ = written
    assert list(types(corr).items())[: len(CORR)] == list(CORR.items())
    assert list(types(rdls).items())[:2] == [("RA", "D"), ("DEC", "D")]
    assert list(types(axy)) == ["X", "Y", "FLUX", "BACKGROUND"]
    assert set(types(axy).values()) == {"D"}
    assert corr[1].columns.units[:8] == ["pix", "pix", "deg", "deg"] * 2
    assert rdls[1].columns.units[:2] == ["deg", "deg"]
    assert axy[1].columns.units[:2] == ["pix", "pix"]


def test_cards(written):
    corr, rdls, axy = written[0]
    for hdus in (corr, rdls, axy):
        assert (hdus[0].header["IMAGEW"], hdus[0].header["IMAGEH"]) == (512, 400)
        assert len(hdus) == 2
    assert rdls[0].header["AN_FILE"] == "RDLS"
    assert axy[0].header["AN_FILE"] == "XYLS"
    assert axy[1].header["EXTNAME"] == "SOURCES"


def test_pixels_are_those_of_the_wcs_counted_from_1(written):
    (corr, _, _), wcs, truth = written
    rows = corr[1].data
    for kind in ("field", "index"):
        x, y = wcs.all_world2pix(rows[f"{kind}_ra"], rows[f"{kind}_dec"], 1)
        np.testing.assert_allclose(x, rows[f"{kind}_x"], atol=1e-4)
        np.testing.assert_allclose(y, rows[f"{kind}_y"], atol=1e-4)
    true = dict(zip(truth.stars.catalog_id, np.c_[truth.stars.x, truth.stars.y], strict=True))
    for row in rows:  # 0 of the simulation is column 256 of numpy, which FITS calls 257
        x, y = true[row["id"]] + [257.0, 201.0]
        assert np.hypot(row["index_x"] - x, row["index_y"] - y) < 0.5


def test_ids_are_rows_of_the_other_files(written):
    (corr, rdls, axy), _, _ = written
    rows = corr[1].data
    stars = rdls[1].data[rows["index_id"]]
    np.testing.assert_array_equal(stars["RA"], rows["index_ra"])
    np.testing.assert_array_equal(stars["DEC"], rows["index_dec"])
    np.testing.assert_array_equal(stars["id"], rows["id"])
    field = axy[1].data[rows["field_id"]]
    np.testing.assert_allclose(field["X"], rows["field_x"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(field["Y"], rows["field_y"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(field["FLUX"], rows["FLUX"])


def test_a_written_list_is_read_as_it_was(tmp_path):
    stars = Centroids([-10.0, 12.5], [3.0, -7.25], [50.0, 80.0])
    path = write_axy(tmp_path / "list.axy", stars, (48, 64))
    with fits.open(path) as hdus:
        read = Centroids.from_any(hdus[1].data, image_shape=(48, 64))
    np.testing.assert_allclose(read.xy, stars.xy[::-1], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(read.brightness, [80.0, 50.0])
