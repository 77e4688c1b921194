"""Writing a WCS into files: what goes, what stays byte for byte, and the way back."""

import gzip
import shutil
import string

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import boresight
from boresight import CameraModel, FileFormatError, InputError, RadialDistortion, simulate_frame
from boresight.wcs import undo, write_header, write_wcs
from boresight.wcs.files import checksummed, fits_block, ones_sum

SHAPE = (60, 80)

#: Cards of an old WCS in every form that readers know; none of them may survive.
OLD = {
    "WCSAXES": 2, "CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CRVAL1": 10.0,
    "CRVAL2": 20.0, "CRPIX1": 5.0, "CRPIX2": 6.0, "CD1_1": 1e-3, "CD1_2": 0.0, "CD2_1": 0.0,
    "CD2_2": 1e-3, "PC1_1": 1.0, "CDELT1": 0.1, "CDELT2": 0.1, "CROTA2": 30.0, "CUNIT1": "deg",
    "LONPOLE": 180.0, "LATPOLE": 0.0, "RADESYS": "FK5", "EQUINOX": 1950.0, "RADECSYS": "FK4",
    "PV1_1": 1.0, "PV2_17": 1e-3, "PC001001": 1.0, "A_ORDER": 2, "A_2_0": 1e-5, "B_ORDER": 2,
    "B_DMAX": 1.0, "AP_ORDER": 1, "BP_0_1": 1e-5, "WAT1_001": "wtype=tnx", "CTYPE1A": "GLON-CAR",
    "CTYPE2A": "GLAT-CAR", "CRVAL1A": 1.0, "CD1_1A": 1.0, "WCSNAMEA": "galactic",
    "PLTRAH": 5, "AMDX1": 1.0, "PPO3": 1.0,
}  # fmt: skip

#: Cards that look similar, or belong to other axes and to alternates that are not on the sky.
OTHERS = {
    "OBJECT": "M 42", "RA": "05:35", "DEC": "-05:23", "AIRMASS": 1.2, "CTYPE3": "WAVE",
    "CRVAL3": 5e-7, "CDELT3": 1e-9, "CTYPE1P": "PHYSICAL", "CRVAL1P": 1.0, "LTV1": 3.0,
    "CD-TEMP": -20.0, "PVTEMP": 1.0, "A_OFFSET": 1.0, "EPOCH": 2024.5, "DATE-OBS": "2024-07-01",
}  # fmt: skip


@pytest.fixture(scope="module")
def wcs():
    made = WCS(naxis=2)
    made.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    made.wcs.crval, made.wcs.crpix = [83.8, -5.4], [40.5, 30.5]
    made.wcs.cd = [[-2e-3, 1e-4], [1e-4, 2e-3]]
    made.pixel_shape = SHAPE[::-1]
    return made


def image(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(0, 60000, shape).astype(np.uint16)


def hdu_with(cards, data=None, kind=fits.PrimaryHDU, name=None):
    made = kind(image() if data is None else data)
    for key, value in cards.items():
        made.header[key] = value
    if name:
        made.header["EXTNAME"] = name
    return made


def raw_cards(path, index=0):
    with fits.open(path) as hdus:
        return [str(card) for card in hdus[index].header.cards]


def assert_points(path, wcs, index=0):
    header = fits.getheader(path, index)
    header.remove("NAXIS", ignore_missing=True)  # 0 in a header file, of which astropy warns
    there = WCS(header, naxis=2)
    assert there.pixel_to_world(12, 34).separation(wcs.pixel_to_world(12, 34)).arcsec < 1e-6


@pytest.mark.filterwarnings("ignore")
def test_all_of_the_old_wcs_goes_and_all_else_stays(tmp_path, wcs):
    path = tmp_path / "frame.fits"
    hdu = hdu_with(OLD | OTHERS)
    hdu.header["HISTORY"] = "made by a camera"
    hdu.writeto(path, checksum=True)
    before, original = raw_cards(path), path.read_bytes()
    assert write_wcs(path, wcs) == path
    after = fits.getheader(path)
    assert after["CTYPE1"] == "RA---TAN"
    assert not [name for name in OLD if name in after and after[name] == OLD[name]
                and name not in ("WCSAXES", "LONPOLE", "CUNIT1")]  # fmt: skip
    assert not {"CDELT1", "CROTA2", "A_ORDER", "CTYPE1A", "WAT1_001", "PV2_17"} & set(after)
    kept = [card for card in before if card[:8].strip() in {*OTHERS, "HISTORY", "DATASUM"}]
    assert len(kept) == len(OTHERS) + 2
    assert set(kept) <= set(raw_cards(path))
    assert_points(path, wcs)
    with fits.open(path, checksum=True) as hdus:  # a wrong checksum warns
        np.testing.assert_array_equal(hdus[0].data, image())
    undo(path)
    assert path.read_bytes() == original


def test_cards_have_comments_and_provenance(tmp_path, wcs):
    path = tmp_path / "frame.fits"
    hdu_with({}).writeto(path)
    write_wcs(path, wcs, error_deg=1e-4, history=["solved by hand " + "and so on " * 12])
    header = fits.getheader(path)
    new = [card for card in header.cards if card.keyword.startswith(("C", "LON", "RADES"))]
    assert len(new) > 10
    assert all(card.comment for card in new)
    assert header["CRDER1"] == 1e-4
    assert "solved by hand" in str(header["HISTORY"])
    assert "BORESIGHT-UNDO 1" in str(header["HISTORY"])


def test_a_copy_leaves_the_file(tmp_path, wcs):
    path, copy = tmp_path / "frame.fits", tmp_path / "solved.fits"
    hdu_with(OTHERS).writeto(path)
    before = path.read_bytes()
    assert write_wcs(path, wcs, copy=copy) == copy
    assert path.read_bytes() == before
    assert_points(copy, wcs)
    with pytest.raises(FileExistsError, match="overwrite"):
        write_wcs(path, wcs, copy=copy)
    write_wcs(path, wcs, copy=copy, overwrite=True)


def mosaic():
    """Two detectors with errors and masks, after a primary HDU that points somewhere."""
    stale = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 1.0, "CRVAL2": 2.0}
    hdus = fits.HDUList([fits.PrimaryHDU(header=fits.Header(stale | {"OBJECT": "M 42"}))])
    for version, ra in ((1, 10.0), (2, 12.0)):
        cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": 2.0,
                 "EXTVER": version}  # fmt: skip
        for name in ("SCI", "ERR", "DQ"):
            hdus.append(hdu_with(cards, kind=fits.ImageHDU, name=name))
    hdus.append(fits.ImageHDU(np.zeros((4, 4)), name="SMALL"))
    hdus.append(fits.BinTableHDU(np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]), name="CAT"))
    return hdus


def test_images_of_the_same_geometry_are_written(tmp_path, wcs):
    path = tmp_path / "mosaic.fits"
    mosaic().writeto(path)
    original = path.read_bytes()
    write_wcs(path, wcs)
    with fits.open(path) as hdus:
        written = [i for i, hdu in enumerate(hdus) if hdu.header.get("CRVAL1") == 83.8]
        assert written == [1, 2, 3]
        assert "CRVAL1" not in hdus[0].header
        assert hdus[0].header["OBJECT"] == "M 42"
        assert hdus[4].header["CRVAL1"] == 12.0
        assert hdus["CAT"].data["b"][0] == 2.0
    undo(path)
    assert path.read_bytes() == original


def test_chosen_extensions_are_written(tmp_path, wcs):
    path = tmp_path / "mosaic.fits"
    mosaic().writeto(path)
    write_wcs(path, wcs, extensions=["SCI", 5])
    with fits.open(path) as hdus:
        assert [i for i, hdu in enumerate(hdus) if hdu.header.get("CRVAL1") == 83.8] == [1, 5]
    write_wcs(path, {4: wcs})
    assert_points(path, wcs, 4)
    with pytest.raises(InputError, match="SMALL"):
        write_wcs(path, wcs, extensions="SMALL")
    with pytest.raises(InputError, match="no HDU 77"):
        write_wcs(path, {77: wcs})


def test_a_compressed_image_is_written(tmp_path, wcs):
    path = tmp_path / "frame.fits.fz"
    hdu = fits.CompImageHDU(image(), compression_type="RICE_1")
    hdu.header["CRVAL1"] = 1.0
    hdu.writeto(path, checksum=True)
    original = path.read_bytes()
    write_wcs(path, wcs)
    with fits.open(path, checksum=True) as hdus:
        np.testing.assert_array_equal(hdus[1].data, image())
        assert hdus[1].header["CRVAL1"] == 83.8
    undo(path)
    assert path.read_bytes() == original


def test_a_file_compressed_as_a_whole_stays_so(tmp_path, wcs):
    plain, path = tmp_path / "frame.fits", tmp_path / "frame.fits.gz"
    hdu_with(OTHERS).writeto(plain)
    path.write_bytes(gzip.compress(plain.read_bytes()))
    write_wcs(path, wcs)
    assert path.read_bytes().startswith(b"\x1f\x8b")
    assert_points(path, wcs)
    undo(path)
    assert gzip.decompress(path.read_bytes()) == plain.read_bytes()


def test_writings_are_undone_one_by_one(tmp_path, wcs):
    path = tmp_path / "frame.fits"
    hdu_with(OTHERS | {"CRVAL1": 1.0}).writeto(path)
    states = [path.read_bytes()]
    for _ in range(3):
        write_wcs(path, wcs)
        states.append(path.read_bytes())
    for state in states[-2::-1]:
        undo(path)
        assert path.read_bytes() == state
    with pytest.raises(InputError, match="BORESIGHT-UNDO"):
        undo(path)


def test_changes_by_others_survive_the_undoing(tmp_path, wcs):
    path = tmp_path / "frame.fits"
    hdu_with({"OBJECT": "M 42", "CRVAL1": 1.0, "CD1_1": 2.0}).writeto(path, checksum=True)
    write_wcs(path, wcs)
    with fits.open(path, mode="update", checksum=True) as hdus:
        hdus[0].header["OBSERVER"] = "Messier"
        hdus[0].data[3, 3] += 1
    undo(path)
    with fits.open(path, checksum=True) as hdus:
        header = hdus[0].header
        assert (header["OBSERVER"], header["CRVAL1"], header["CD1_1"]) == ("Messier", 1.0, 2.0)
        assert "CTYPE1" not in header
        assert "BORESIGHT-UNDO" not in hdus


def test_hdus_that_changed_places_are_not_undone(tmp_path, wcs):
    path = tmp_path / "mosaic.fits"
    mosaic().writeto(path)
    write_wcs(path, wcs)
    with fits.open(path, mode="update") as hdus:
        del hdus[1:4]
    before = path.read_bytes()
    with pytest.raises(InputError, match="changed since"):
        undo(path)
    assert path.read_bytes() == before


def test_rights_and_links_stay(tmp_path, wcs):
    path, link = tmp_path / "frame.fits", tmp_path / "link.fits"
    hdu_with({}).writeto(path)
    path.chmod(0o640)
    link.symlink_to(path)
    write_wcs(link, wcs)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert_points(path, wcs)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("part", [0.3, 0.8])
def test_damaged_files_are_left_as_they_are(tmp_path, wcs, part):
    path = tmp_path / "frame.fits"
    hdu_with({}).writeto(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(FileFormatError, match=r"frame\.fits"):
        write_wcs(path, wcs)
    assert path.read_bytes() == whole[: int(part * len(whole))]


def test_what_cannot_hold_a_wcs_is_refused(tmp_path, wcs):
    path = tmp_path / "frame.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(InputError, match="not a FITS file"):
        write_wcs(path, wcs)
    with pytest.raises(FileNotFoundError):
        write_wcs(tmp_path / "missing.fits", wcs)
    fits.writeto(tmp_path / "large.fits", np.zeros((100, 100)))
    with pytest.raises(InputError, match="80 and 60"):
        write_wcs(tmp_path / "large.fits", wcs)


@pytest.mark.parametrize(
    "card", ["CRVAL1  =10.0", "CRPIX1  = 3,5", "cdelt1  = 0.1", "D2IM1   = 'EXTVER: 1'"]
)
def test_cards_that_are_not_of_the_form_go_too(tmp_path, wcs, card):
    path = tmp_path / "frame.fits"
    hdu_with({"TOREPLAC": 12.0}).writeto(path)
    data = path.read_bytes()
    at = data.index(b"TOREPLAC")
    path.write_bytes(data[:at] + card.ljust(80).encode() + data[at + 80 :])
    before = path.read_bytes()
    write_wcs(path, wcs)
    header = path.read_bytes()[: path.read_bytes().index(b"END     ")]
    assert card.encode() not in header
    undo(path)
    assert path.read_bytes() == before


def test_cards_that_are_no_ascii_return(tmp_path, wcs):
    path = tmp_path / "frame.fits"
    hdu_with({"CROTA2": 12.0, "OBJECT": "xx"}).writeto(path)
    data = path.read_bytes().replace(b"/", b"/")
    at = data.index(b"CROTA2")
    data = data[: at + 40] + b"/ in \xb0".ljust(40) + data[at + 80 :]
    path.write_bytes(data)
    write_wcs(path, wcs)
    assert "CROTA2" not in fits.getheader(path)
    undo(path)
    assert path.read_bytes() == data


def test_a_solution_is_written_where_its_region_is(tmp_path):
    camera = CameraModel.from_fov(12.0, (400, 480), distortion=RadialDistortion(0.02, scale=256))
    frame = simulate_frame(camera, 83.8, -1.2, 30.0, seed=1)
    padded = np.full((500, 600), np.median(frame.image), np.float32)
    padded[50:450, 60:540] = frame.image
    path = tmp_path / "frame.fits"
    fits.writeto(path, padded)
    region = np.s_[50:450, 60:540]
    read = boresight.read_frame(path, region=region)
    solution = boresight.solve(read, 12.0)
    for sip, limit in (("auto", 0.1), ("tpv", 0.1)):
        copy = solution.write_wcs(
            path, copy=tmp_path / "solved.fits", region=region, sip=sip, overwrite=True
        )
        header = fits.getheader(copy)
        assert ("A_ORDER" in header) == (sip == "auto")
        there = WCS(header).pixel_to_world(60 + 400, 50 + 30)
        x, y = solution.world_to_pixel(there)
        assert np.hypot(x - (400 - 240), y - (30 - 200)) < limit
    header = fits.getheader(solution.write_wcs(path, copy=copy, overwrite=True, region=region,
                                               sip="none"))  # fmt: skip
    assert header["CTYPE1"] == "RA---TAN"
    words = " ".join(header["HISTORY"])
    stated = float(words.split("differs from the solution by ")[1].split()[0])
    assert 0.5 < stated < 20.0
    with pytest.raises(InputError, match="480 and 400"):
        solution.write_wcs(path)
    with pytest.raises(InputError, match="sip"):
        solution.wcs(sip="zpn")


def test_a_header_file_is_read_as_those_of_solve_field(tmp_path, wcs):
    header = fits.getheader(write_header(tmp_path / "frame.wcs", wcs, history=["by hand"]))
    assert (header["NAXIS"], header["IMAGEW"], header["IMAGEH"]) == (0, 80, 60)
    assert_points(tmp_path / "frame.wcs", wcs)
    assert "by hand" in str(header["HISTORY"])


def test_a_frame_of_solve_field_gets_a_better_wcs(tmp_path, reference):
    path = tmp_path / "solved.fits"
    shutil.copy(reference / "frames" / "panoptes" / "pocs__tests__data__solved.fits", path)
    original = path.read_bytes()
    new = WCS(naxis=2)
    new.wcs.ctype, new.wcs.crval, new.wcs.crpix = (
        ["RA---TAN", "DEC--TAN"],
        [303.2, 46.0],
        [350, 350],
    )
    new.wcs.cdelt = -2.86e-3, 2.86e-3
    write_wcs(path, new)
    # The obvious way, to update the header, would leave the old distortion in it.
    assert_points(path, new)
    assert "A_ORDER" not in fits.getheader(path)
    undo(path)
    assert path.read_bytes() == original


@given(st.binary(min_size=0, max_size=400))
def test_checksums_are_those_of_the_standard(data):
    cards = [
        "SIMPLE  =                    T".ljust(80),
        f"COMMENT {data[:30].hex()}".ljust(80),
        "CHECKSUM= 'x'       / of the HDU".ljust(80),
    ]
    done = checksummed(cards, ones_sum(data))
    assert ones_sum(fits_block(done) + data) in (0xFFFFFFFF, 0)
    assert done[2][11:27].isalnum()


KEYS = st.sampled_from(
    [
        "CRVAL1",
        "CD1_1",
        "CDELT2",
        "CROTA2",
        "LONPOLE",
        "RADESYS",
        "A_ORDER",
        "PV1_3",
        "FILTER",
        "NOTE",
    ]
)
VALUES = st.one_of(
    st.floats(-1e6, 1e6), st.integers(-9, 9), st.text(string.ascii_letters + " '", max_size=20)
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cards=st.dictionaries(KEYS, VALUES, max_size=8), times=st.integers(1, 3))
def test_any_header_is_restored_byte_for_byte(tmp_path, wcs, cards, times):
    path = tmp_path / "any.fits"
    fits.PrimaryHDU(np.zeros(SHAPE, np.int16), fits.Header(cards)).writeto(path, overwrite=True)
    before = path.read_bytes()
    for _ in range(times):
        write_wcs(path, wcs)
    assert path.read_bytes() != before
    for _ in range(times):
        undo(path)
    assert path.read_bytes() == before
