"""Headers are tried first: right or wrong, the answer is that of the stars."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io.fits import Header
from astropy.nddata import CCDData
from astropy.wcs import WCS

import boresight
from boresight import CameraModel, Frame, InputError, simulate_frame, solve

FOV, RA, DEC, ROLL = 12.0, 83.8, -1.2, 30.0
SHAPE = (400, 512)
SCALE_DEG = 2 * np.degrees(np.arctan(np.tan(np.radians(FOV / 2)) / 512))


@pytest.fixture(scope="module")
def sky():
    return simulate_frame(CameraModel.from_fov(FOV, SHAPE), RA, DEC, ROLL, seed=1)


def wcs_header(frame="icrs", first="longitude", turned_deg=0.0):
    """The true WCS in another frame and axis order, the scale and centre about right."""
    center = SkyCoord(RA, DEC, unit="deg")
    there = center.transform_to(frame)
    longitude, latitude = there.spherical.lon.deg, there.spherical.lat.deg
    # North of the other frame at the centre, seen from north of ICRS.
    above = SkyCoord(
        longitude, latitude + 0.01, unit="deg", frame=there.frame.replicate_without_data()
    )
    turn = np.radians(ROLL - center.position_angle(above.icrs).deg + turned_deg)
    # Up is at position angle `turn`, east to its left; rows grow downwards.
    up = np.array([np.sin(turn), np.cos(turn)])  # (east, north)
    right = np.array([-np.cos(turn), np.sin(turn)])
    rows = {"longitude": SCALE_DEG * np.array([right[0], -up[0]]),
            "latitude": SCALE_DEG * np.array([right[1], -up[1]])}  # fmt: skip
    galactic = there.name == "galactic"
    kinds = {"longitude": "GLON-TAN" if galactic else "RA---TAN",
             "latitude": "GLAT-TAN" if galactic else "DEC--TAN"}  # fmt: skip
    values = {"longitude": longitude, "latitude": latitude}
    order = ["longitude", "latitude"] if first == "longitude" else ["latitude", "longitude"]
    header = Header()
    for axis, name in enumerate(order, 1):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"] = kinds[name], values[name]
        header[f"CUNIT{axis}"] = "deg"
        header[f"CRPIX{axis}"] = (SHAPE[1] if axis == 1 else SHAPE[0]) / 2 + 1
        for column in (1, 2):
            header[f"CD{axis}_{column}"] = rows[name][column - 1]
    if not galactic:
        header["RADESYS"] = there.name.upper()
        if there.name != "icrs":
            header["EQUINOX"] = there.equinox.jyear if there.name == "fk5" else there.equinox.byear
    return header


@pytest.mark.parametrize("frame", ["icrs", "fk4", "fk5", "galactic"])
@pytest.mark.parametrize("first", ["longitude", "latitude"])
def test_a_wcs_of_any_frame_and_axis_order_is_a_hint(sky, frame, first):
    hint = WCS(wcs_header(frame, first))
    # Three stars solve with an attitude that is right, and with no other.
    stars = boresight.extract_centroids(sky.image).centroids[:3]
    options = {"image_shape": SHAPE, "strict_hint": True, "hint_uncertainty_deg": 0.2}
    solution = solve(stars, FOV, attitude_hint=hint, fov_max_error_deg=0.2, **options)
    assert abs(solution.roll_deg - ROLL) < 0.2
    assert abs(solution.ra_deg - RA) < 0.05


def test_a_wcs_of_a_cube_is_a_hint(sky):
    header = wcs_header()
    header["CTYPE3"], header["CRVAL3"], header["CDELT3"], header["CD3_3"] = "FREQ", 1e9, 1e6, 1e6
    hint = WCS(header, naxis=3)
    assert hint.pixel_n_dim == 3
    assert solve(sky.image, FOV, attitude_hint=hint, strict_hint=True) is not None


def test_a_gwcs_is_a_hint(sky):
    pytest.importorskip("gwcs")
    solution = solve(sky.image, FOV)
    again = solve(sky.image, FOV, attitude_hint=solution.gwcs(), strict_hint=True)
    assert abs(again.roll_deg - ROLL) < 0.1


def test_a_wcs_of_something_else_is_no_hint(sky):
    with pytest.raises(InputError, match="attitude_hint: the WCS says nothing"):
        solve(sky.image, FOV, attitude_hint=WCS(naxis=2))


RIGHT = {"FOCALLEN": 50.0, "XPIXSZ": 50e3 * np.radians(SCALE_DEG), "RA": RA + 1, "DEC": DEC - 1}
WRONG = {
    "scale twice": RIGHT | {"FOCALLEN": 100.0},
    "scale a tenth": RIGHT | {"FOCALLEN": 5.0},
    "position": RIGHT | {"RA": 250.0, "DEC": 60.0},
    "hours for degrees": RIGHT | {"RA": RA / 15},
    "nothing": {},
    "another frame's WCS": dict(wcs_header(turned_deg=120.0)) | {"CRVAL1": 10.0},
}


def frame_with(sky, cards):
    header = Header()
    for name, value in cards.items():
        header[name] = value
    return Frame(sky.image, header=header)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("header", ["try", "ignore"])
def test_a_wrong_header_neither_misleads_nor_loses(sky, name, header):
    solution = solve(frame_with(sky, WRONG[name]), header=header)
    assert (
        SkyCoord(solution.ra_deg, solution.dec_deg, unit="deg").separation(
            SkyCoord(RA, DEC, unit="deg")
        )
        < 10 * u.arcsec
    )
    assert solution.roll_deg == pytest.approx(ROLL, abs=0.05)


@pytest.mark.parametrize("cards", [RIGHT, dict(wcs_header()), {"SCALE": 3600 * SCALE_DEG}])
def test_a_right_header_is_enough(sky, cards):
    assert solve(frame_with(sky, cards), header="only").ra_deg == pytest.approx(RA, abs=0.01)


def test_a_header_relied_upon_and_wrong_gives_no_solution(sky):
    assert solve(frame_with(sky, WRONG["position"]), header="only") is None
    assert solve(frame_with(sky, WRONG["scale twice"]), header="only") is None


def test_four_stars_solve_with_a_header(sky):
    """Too few for a search of the whole sky at any scale."""
    rows, columns = np.indices(SHAPE)
    image = np.random.default_rng(1).normal(100.0, 3.0, SHAPE)
    for star in boresight.extract_centroids(sky.image).centroids[:4]:
        distance = np.hypot(columns - 256 - star.x, rows - 200 - star.y)
        image += 3e3 * np.exp(-(distance**2) / 4)
    right = Frame(image, header=frame_with(sky, dict(wcs_header())).header)
    assert solve(right, header="ignore") is None
    solution = solve(right)
    assert solution.ra_deg == pytest.approx(RA, abs=0.05)


def test_arguments_go_before_the_header(sky):
    frame = frame_with(sky, WRONG["position"])
    near = SkyCoord(RA + 0.5, DEC, unit="deg")
    solution = solve(frame, FOV, attitude_hint=near, strict_hint=True, header="try")
    assert solution is not None
    camera = CameraModel.from_fov(FOV, SHAPE)
    assert solve(frame_with(sky, RIGHT), camera_model=camera, header="only") is not None


def test_the_header_of_ccddata_is_used(sky):
    data = CCDData(sky.image, unit="adu", wcs=WCS(wcs_header()))
    assert solve(data, header="only") is not None
    data = CCDData(sky.image, unit="adu", meta=RIGHT)
    assert solve(data, header="only") is not None


def test_what_cannot_be_worked_with_is_said(sky):
    with pytest.raises(InputError, match="header: 'yes' is unknown; give try, ignore, only"):
        solve(sky.image, header="yes")
    with pytest.raises(InputError, match="header: it has no position or scale"):
        solve(sky.image, header="only")
