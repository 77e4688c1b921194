"""Hints from headers and EXIF, against astropy and by hand."""

import math

import numpy as np
import pytest
from astropy.coordinates import FK4, FK5, SkyCoord
from astropy.io.fits import Header
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

import boresight
from boresight.frames.hints import HeaderHints

SHAPE = (2080, 3096)


def hints_of(cards):
    header = Header()
    for name, value in cards.items():
        header[name] = value
    return HeaderHints.from_header(header, SHAPE)


@pytest.mark.parametrize(
    ("cards", "scale"),
    [
        ({"FOCALLEN": 530.0, "XPIXSZ": 3.76}, 1.4633),
        ({"FOCALLEN": "530,0 mm", "XPIXSZ": "3,76 um"}, 1.4633),
        ({"FOCALLEN": (0.53, "[m]"), "XPIXSZ": (0.00376, "[mm]")}, 1.4633),
        ({"FOCALLEN": 530.0, "PIXSIZE1": 3.76, "XBINNING": 2}, 2.9266),
        ({"FOCALLEN": 530.0, "PIXSIZE1": 3.76, "XPIXSZ": 7.52, "XBINNING": 2}, 2.9266),
        ({"FOCALLEN": 530.0, "PIXSIZE1": 3.76, "XPIXSZ": 3.76, "XBINNING": 2}, 2.9266),
        ({"FOCALLEN": 530.0, "XPIXSZ": 7.52, "XBINNING": 2}, 2.9266),
        ({"FOCALLEN": 0.0, "XPIXSZ": 3.76}, None),
        ({"FOCALLEN": "wide", "XPIXSZ": 3.76}, None),
        ({"SCALE": 1.5}, 1.5),
        ({"PIXSCALE": '1,5 "/px'}, 1.5),
        ({"PIXSCALE": (0.001, "[deg/pixel]")}, 3.6),
        ({"SECPIX1": 2.5}, 2.5),
        ({"CDELT1": -0.001, "CDELT2": 0.001}, 3.6),
        ({"CDELT1": 1.0, "CDELT2": 1.0}, None),
        ({"CD1_1": 0.0006, "CD1_2": 0.0008, "CD2_1": -0.0008, "CD2_2": 0.0006}, 3.6),
        ({"SCALE": 1e9}, None),
    ],
)
def test_scale(cards, scale):
    hints = hints_of(cards)
    if scale is None:
        assert hints.scale_arcsec is None
        return
    assert abs(hints.scale_arcsec / scale - 1) < 1e-4
    field = 2 * math.degrees(math.atan(SHAPE[1] / 2 * math.tan(math.radians(scale / 3600))))
    assert abs(hints.fov_deg / field - 1) < 1e-4
    assert set(hints.sources) >= {"scale_arcsec"}


def test_binning_that_may_be_meant_either_way_is_noted():
    assert "2 times as large" in hints_of({"FOCALLEN": 530, "XPIXSZ": 7.5, "XBINNING": 2}).notes[0]


def test_scales_that_disagree_are_noted_and_the_first_is_kept():
    hints = hints_of({"SCALE": 1.0, "FOCALLEN": 530.0, "XPIXSZ": 3.76})
    assert hints.scale_arcsec == 1.0
    assert hints.notes == ("FOCALLEN, XPIXSZ gives 1.463 arcsec a pixel, but SCALE 1",)


ORION = SkyCoord("05 35 17.3 -05 23 28", unit=("hourangle", "deg"))


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"OBJCTRA": "05 35 17.3", "OBJCTDEC": "-05 23 28"}, ORION),
        ({"RA": "05:35:17,3", "DEC": "-05:23:28"}, ORION),
        ({"RA": "5h35m17.3s", "DEC": "-5d23m28s"}, ORION),
        ({"RA": ORION.ra.deg, "DEC": ORION.dec.deg}, ORION),
        ({"RA": (ORION.ra.hour, "[hr]"), "DEC": ORION.dec.deg}, ORION),
        ({"RA": "", "DEC": "", "OBJCTRA": "05 35 17.3", "OBJCTDEC": "-05 23 28"}, ORION),
        ({"RA": 10.0, "DEC": "-00 30 00"}, SkyCoord(10, -0.5, unit="deg")),
        ({"RA": 10.0, "DEC": 20.0, "EQUINOX": 2021.5},
         SkyCoord(10, 20, unit="deg", frame=FK5(equinox="J2021.5"))),
        ({"RA": 10.0, "DEC": 20.0, "RADESYS": "FK4"},
         SkyCoord(10, 20, unit="deg", frame=FK4(equinox="B1950"))),
        ({"RA": 10.0, "DEC": 20.0, "EPOCH": "B1950.0"},
         SkyCoord(10, 20, unit="deg", frame=FK4(equinox="B1950"))),
        ({"RA": 10.0, "DEC": 95.0}, None),
        ({"RA": "25 61 00", "DEC": 5.0}, None),
        ({"RA": "M42", "DEC": 5.0}, None),
        ({"RA": 10.0}, None),
    ],
)  # fmt: skip
def test_position(cards, expected):
    hints = hints_of(cards)
    if expected is None:
        assert hints.ra_deg is None
        assert hints.notes or "DEC" not in cards
    else:
        found = SkyCoord(hints.ra_deg, hints.dec_deg, unit="deg")
        assert found.separation(expected.icrs).arcsec < 0.1


@pytest.mark.parametrize("flip", [False, True])
def test_a_wcs_tells_what_the_solver_finds(tmp_path, wide_database, flip):
    camera = boresight.CameraModel.from_fov(12.0, (400, 512), parity_flip=flip)
    truth = boresight.simulate_frame(camera, 83.8, -1.2, 30.0, seed=1)
    truth.write_fits(tmp_path / "a.fits")
    hints = boresight.read_frame(tmp_path / "a.fits").hints
    assert abs(hints.ra_deg - 83.8) < 1e-3
    assert abs(hints.dec_deg + 1.2) < 1e-3
    assert abs(hints.roll_deg - 30.0) < 0.01
    assert hints.parity_flip is flip
    assert abs(hints.fov_deg - 12.0) < 0.02
    assert hints.notes == ()


@pytest.mark.parametrize("frame", ["galactic", "fk5", "declination first"])
def test_a_wcs_of_any_frame(frame):
    wcs = WCS(naxis=2)
    if frame == "galactic":
        wcs.wcs.ctype, wcs.wcs.crval = ["GLON-TAN", "GLAT-TAN"], [209.0, -19.4]
    elif frame == "declination first":
        wcs.wcs.ctype, wcs.wcs.crval = ["DEC--TAN", "RA---TAN"], [-5.4, 83.8]
    else:
        wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [83.8, -5.4]
        wcs.wcs.radesys, wcs.wcs.equinox = "FK5", 1975.0
    wcs.wcs.crpix, wcs.wcs.cdelt = [SHAPE[1] / 2 + 1, SHAPE[0] / 2 + 1], [0.001, 0.001]
    center = wcs.pixel_to_world(SHAPE[1] / 2, SHAPE[0] / 2).icrs
    hints = HeaderHints.from_header({}, SHAPE, wcs=wcs)
    assert SkyCoord(hints.ra_deg, hints.dec_deg, unit="deg").separation(center).arcsec < 1e-3
    assert abs(hints.scale_arcsec - 3.6) < 1e-3


def test_ecliptic_longitudes_are_no_right_ascensions():
    """As astropy takes them."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["ELON-TAN", "ELAT-TAN"], [83.0, -24.5]
    wcs.wcs.cdelt, wcs.wcs.crpix = [0.001, 0.001], [SHAPE[1] / 2 + 1, SHAPE[0] / 2 + 1]
    hints = HeaderHints.from_header({}, SHAPE, wcs=wcs)
    true = SkyCoord(83.0, -24.5, unit="deg", frame="barycentricmeanecliptic").icrs
    assert SkyCoord(hints.ra_deg, hints.dec_deg, unit="deg").separation(true).arcsec < 0.1


def test_exif():
    sensor = {"FocalLength": 50.0, "FocalPlaneXResolution": 2500.0, "FocalPlaneResolutionUnit": 3}
    hints = HeaderHints.from_exif({**sensor, "ExifImageWidth": 6000}, (2000, 3000))
    assert hints.pixel_size_um == 8.0
    assert abs(hints.fov_deg - 2 * math.degrees(math.atan(24.0 / 2 / 50))) < 1e-6
    hints = HeaderHints.from_exif({"FocalLengthIn35mmFilm": 28}, (2000, 3000))
    assert abs(hints.fov_deg - 2 * math.degrees(math.atan(18 / 28))) < 1e-3
    assert HeaderHints.from_exif({"FocalLength": "x"}, SHAPE).scale_arcsec is None


NAMES = ["FOCALLEN", "XPIXSZ", "PIXSIZE1", "XBINNING", "SCALE", "PIXSCALE", "CDELT1", "CDELT2"]
NAMES += ["CD1_1", "CD2_2", "RA", "DEC", "OBJCTRA", "OBJCTDEC", "EQUINOX", "RADESYS", "EPOCH"]


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.one_of(
            st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
            st.floats(),
            st.integers(),
            st.booleans(),
            st.sampled_from(["05 35 17", "-05 23 28", "1,5", 3.76, 530.0, "FK4", 1950.0]),
        ),
    )
)
def test_no_cards_raise(cards):
    hints = HeaderHints.from_header(cards, SHAPE)
    numbers = [hints.ra_deg, hints.dec_deg, hints.scale_arcsec, hints.fov_deg]
    assert all(number is None or np.isfinite(number) for number in numbers)


@pytest.mark.parametrize(
    ("size", "place", "is_taken"),
    [
        ((200, 100), (2604.5, 1738.5), True),
        ((5208, 3476), (2604.5, 1738.5), False),
        ((100, 200), (2604.5, 1738.5), False),
        ((5208, 3476), (120.0, 20.0), True),
    ],
)
def test_a_wcs_made_for_an_image_of_another_size(size, place, is_taken):
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 80.0, "CRVAL2": 10.0,
             "CRPIX1": place[0], "CRPIX2": place[1], "CDELT1": -0.003, "CDELT2": 0.003,
             "IMAGEW": size[0], "IMAGEH": size[1]}  # fmt: skip
    frame = boresight.Frame(np.zeros((100, 200)), header=Header(cards))
    hints = frame.hints
    assert (hints.ra_deg is not None) == is_taken
    assert (hints.wcs is not None) == is_taken
    assert hints.scale_arcsec == pytest.approx(10.8, rel=0.02)
    assert [f"{size[0]} x {size[1]}" in note for note in hints.notes] == [True] * (not is_taken)
