"""Platepars against a direct, scalar evaluation of the formulas that RMS has published."""

import dataclasses
import json
from math import asin, atan2, cos, degrees, hypot, pi, radians, sin, sqrt, tan

import erfa
import numpy as np
import pytest
from astropy.coordinates import EarthLocation
from astropy.time import Time, TimeDelta

from boresight import CameraModel, FileFormatError, InputError, RadialDistortion
from boresight.movement import MountedCamera, read_platepar, write_platepar

JD = 2460310.4375
T = (JD - 2451545.0) / 36525.0
HO = (280.46061837 + 360.98564736629 * (JD - 2451545.0) + 0.000387933 * T**2) % 360

BASE = {
    "lat": 45.3, "lon": 16.2, "elev": 120.0, "JD": JD, "Ho": HO, "X_res": 1280, "Y_res": 720,
    "RA_d": 75.0, "dec_d": 32.0, "pos_angle_ref": 37.0, "F_scale": 14.7, "version": 2,
    "refraction": False, "equal_aspect": True, "asymmetry_corr": False,
    "force_distortion_centre": False, "station_code": "XX0001",
}  # fmt: skip

RADIAL = {
    "distortion_type": "radial7-odd", "x_poly_fwd": [0.01, -0.02, 0.03, -0.008, 0.001],
    "y_poly_fwd": [0.0] * 5,
}  # fmt: skip
ASYMMETRIC = {
    "distortion_type": "radial5-odd", "equal_aspect": False, "asymmetry_corr": True,
    "x_poly_fwd": [0.01, -0.02, 0.004, 0.003, 0.3, 0.03, -0.008], "y_poly_fwd": [0.0] * 7,
}  # fmt: skip
POLYNOMIAL = {
    "distortion_type": "poly3+radial",
    "x_poly_fwd": [1.5, 2e-3, -1e-3, 3e-6, 2e-6, -1e-6, 2e-8, 1e-9, 3e-8, 1e-9, 4e-6, 1e-7],
    "y_poly_fwd": [-0.7, 1e-3, 2e-3, 1e-6, 2e-6, 2e-6, 1e-9, 2e-8, 1e-9, 3e-8, 5e-6, -1e-7],
}  # fmt: skip
ALL = {"radial": RADIAL, "asymmetric": ASYMMETRIC, "polynomial": POLYNOMIAL}

PIXELS = [(-600.0, -330.0), (610.0, -340.0), (0.0, 0.0), (250.0, 300.0), (-90.0, 44.0)]


def ideal(v, x, y):
    """Distortion of one pixel, as published."""
    a = v["x_poly_fwd"]
    if v["distortion_type"] == "poly3+radial":
        b = v["y_poly_fwd"]
        r = hypot(x - a[0], y - b[0])
        t = [1, x, y, x**2, x * y, y**2, x**3, x**2 * y, x * y**2, y**3]
        u = x + sum(c * s for c, s in zip(a, [*t, x * r, y * r], strict=True))
        return u, y + sum(c * s for c, s in zip(b, [*t, y * r, x * r], strict=True))
    rest = list(a)
    x0, y0 = rest.pop(0) * 640, rest.pop(0) * 360
    xy = 0.0 if v["equal_aspect"] else rest.pop(0)
    a1, a2 = (rest.pop(0), 2 * pi * rest.pop(0)) if v["asymmetry_corr"] else (0.0, 0.0)
    dx, dy = x - x0, (1 + xy) * (y - y0)
    r = (sqrt(dx**2 + dy**2) + a1 * dy * cos(a2) - a1 * dx * sin(a2)) / 640
    factor = 1 + sum(k * r ** (2 * n + 2) for n, k in enumerate(rest))
    return dx * factor, dy * factor


def of_date(v, x, y, ra0, dec0):
    """Right ascension and declination of the date, degrees, for the centre's in radians."""
    u, w = ideal(v, x, y)
    radius = radians(hypot(u, w) / v["F_scale"])
    theta = pi / 2 - radians(v["pos_angle_ref"]) + atan2(w, u)
    dec = asin(sin(dec0) * cos(radius) + cos(dec0) * sin(radius) * cos(theta))
    s = sin(theta) * sin(radius) / cos(dec)
    c = (cos(radius) - sin(dec) * sin(dec0)) / (cos(dec) * cos(dec0))
    return ra0 - atan2(s, c), dec


def horizontal(ra, dec, v):
    """Azimuth and altitude, radians."""
    ha, lat = radians(HO + v["lon"]) - ra, radians(v["lat"])
    azimuth = pi + atan2(sin(ha), cos(ha) * sin(lat) - tan(dec) * cos(lat))
    return azimuth, asin(sin(lat) * sin(dec) + cos(lat) * cos(dec) * cos(ha))


def equatorial(azimuth, altitude, v):
    lat = radians(v["lat"])
    ha = atan2(-sin(azimuth), tan(altitude) * cos(lat) - cos(azimuth) * sin(lat))
    dec = asin(sin(lat) * sin(altitude) + cos(lat) * cos(altitude) * cos(azimuth))
    return radians(HO + v["lon"]) - ha, dec


def unit(ra, dec):
    return np.array([cos(dec) * cos(ra), cos(dec) * sin(ra), sin(dec)])


def published(v, x, y):
    """ICRS direction of a pixel at the time of the fit."""
    ra0, dec0 = radians(v["RA_d"]), radians(v["dec_d"])
    if v["refraction"]:
        az, alt = horizontal(ra0, dec0, v)
        h = degrees(alt)
        ra0, dec0 = equatorial(
            az, alt + radians(1.02 / (60 * tan(radians(h + 10.3 / (h + 5.11))))), v
        )
    ra, dec = of_date(v, x, y, ra0, dec0)
    if v["refraction"]:
        az, alt = horizontal(ra, dec, v)
        h = degrees(alt)
        ra, dec = equatorial(az, alt - radians(1.0 / (60 * tan(radians(h + 7.31 / (h + 4.4))))), v)
    return erfa.bp06(JD, 0.0)[2].T @ unit(ra, dec)


def written(tmp_path, values):
    path = tmp_path / "platepar_cmn2010.cal"
    path.write_text(json.dumps(BASE | values))
    return path


def separation_px(found, truth):
    ra, dec = np.radians(found)
    angle = np.arcsin(np.linalg.norm(np.cross(unit(ra, dec), truth)))
    return degrees(angle) * BASE["F_scale"]


@pytest.mark.parametrize("kind", ALL)
def test_pixels_look_where_the_published_formulas_say(tmp_path, kind):
    plate = read_platepar(written(tmp_path, ALL[kind]))
    for x, y in PIXELS:
        assert separation_px(plate.pixel_to_world(x, y), published(BASE | ALL[kind], x, y)) < 1e-3


def test_refraction_is_theirs_within_that_of_the_air(tmp_path):
    values = RADIAL | {"refraction": True}
    plate = read_platepar(written(tmp_path, values))
    for x, y in PIXELS:
        # Theirs are two formulas, there and back; ERFA's is a third.
        assert separation_px(plate.pixel_to_world(x, y), published(BASE | values, x, y)) < 0.01


@pytest.mark.parametrize("kind", ALL)
def test_the_camera_model_is_as_far_off_as_it_says(tmp_path, kind):
    plate = read_platepar(written(tmp_path, ALL[kind]))
    model = plate.camera.camera_model
    miss = []
    for x, y in PIXELS:
        u, v = ideal(BASE | ALL[kind], x, y)
        seen = model.pixel_to_direction(x, y)
        angle = np.arctan2(hypot(seen[0], seen[1]), seen[2]) * model.focal_length_px
        scale = angle / max(hypot(seen[0], seen[1]), 1e-300)
        miss.append(hypot(seen[0] * scale - u, seen[1] * scale - v))
    assert max(miss) <= 1.5 * plate.error_px + 1e-9
    assert plate.error_px < (1e-9 if kind == "radial" else 0.05)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("refraction", [False, True])
def test_what_is_written_back_looks_the_same_way(tmp_path, kind, refraction):
    plate = read_platepar(written(tmp_path, ALL[kind] | {"refraction": refraction}))
    other = tmp_path / "again.cal"
    assert write_platepar(other, plate) == 0.0
    values = json.loads(other.read_text())
    assert values["station_code"] == "XX0001"
    for key in ("RA_d", "dec_d", "pos_angle_ref", "F_scale", "x_poly_fwd"):
        assert values[key] == pytest.approx((BASE | ALL[kind])[key], abs=2e-5), key
    for x, y in PIXELS:
        found = read_platepar(other).pixel_to_world(x, y)
        assert separation_px(found, unit(*np.radians(plate.pixel_to_world(x, y)))) < 1e-3


def test_at_another_time_a_camera_looks_along_the_same_azimuth(tmp_path):
    plate = read_platepar(written(tmp_path, RADIAL))
    later = plate.time + TimeDelta(365.0, format="jd")
    ra, dec = plate.pixel_to_world(30.0, 40.0, later)
    v = erfa.bp06(later.tt.jd1, later.tt.jd2)[2] @ unit(*np.radians([ra, dec]))
    t = (later.jd - 2451545.0) / 36525.0
    gmst = 280.46061837 + 360.98564736629 * (later.jd - 2451545.0) + 0.000387933 * t**2
    shifted = atan2(v[1], v[0]) + radians(HO - gmst), asin(v[2])
    before = erfa.bp06(JD, 0.0)[2] @ unit(*np.radians(plate.pixel_to_world(30.0, 40.0)))
    # Nutation, which RMS leaves out, is 20 arcsec at most.
    assert np.linalg.norm(unit(*shifted) - before) < radians(20 / 3600)


@pytest.mark.parametrize("distortion", [None, RadialDistortion(0.05, -0.01, k4=1e-3, scale=500.0)])
def test_equidistant_lenses_are_written_exactly(tmp_path, distortion):
    site = EarthLocation.from_geodetic(-70.0, -30.0, 2400.0)
    lens = CameraModel(
        800.0, (720, 1280), optical_center=(12.0, -7.0), distortion=distortion,
        projection="equidistant",
    )  # fmt: skip
    camera = MountedCamera(lens, (0.8, 0.1, -0.3, 0.5), site=site)
    assert write_platepar(tmp_path / "a.cal", camera, Time("2026-02-03T04:05:06")) < 1e-9
    again = read_platepar(tmp_path / "a.cal").camera
    np.testing.assert_allclose(again.matrix, camera.matrix, atol=1e-9)
    x, y = again.camera_model.direction_to_pixel(lens.pixel_to_direction(500.0, 300.0))
    assert (x, y) == pytest.approx((500.0, 300.0), abs=1e-6)
    values = json.loads((tmp_path / "a.cal").read_text())
    u, v = ideal(values, 500.0, 300.0)
    k, r = values["x_poly_rev"][2:], hypot(u, v) / 640
    back = 1 - sum(c * r ** (2 * n + 2) for n, c in enumerate(k))
    assert (u * back + 12.0, v * back - 7.0) == pytest.approx((500.0, 300.0), abs=0.2)


def test_a_changed_lens_is_written_anew(tmp_path):
    plate = read_platepar(written(tmp_path, RADIAL))
    wider = plate.camera.camera_model.replace(focal_length_px=700.0)
    camera = dataclasses.replace(plate.camera, camera_model=wider)
    write_platepar(tmp_path / "b.cal", dataclasses.replace(plate, camera=camera))
    assert read_platepar(tmp_path / "b.cal").camera.camera_model.focal_length_px == 700.0


@pytest.mark.parametrize("text", ["", "{}", "[]", "{", json.dumps(BASE | {"F_scale": "wide"}),
    json.dumps(BASE | {"distortion_type": "cubic"}), json.dumps(BASE)])  # fmt: skip
def test_what_is_no_platepar_is_refused(tmp_path, text):
    (tmp_path / "bad.cal").write_text(text)
    with pytest.raises(FileFormatError):
        read_platepar(tmp_path / "bad.cal")


def test_a_distortion_without_bounds_is_refused_before_it_is_fitted(tmp_path, capfd):
    huge = POLYNOMIAL | {"x_poly_fwd": [1e308] * 12}
    with pytest.raises(FileFormatError, match="its distortion is not finite"):
        read_platepar(written(tmp_path, huge))
    assert capfd.readouterr() == ("", "")


def test_a_camera_without_site_or_time_or_a_mirrored_one_is_refused(tmp_path):
    lens = CameraModel(800.0, (720, 1280), projection="equidistant")
    site = EarthLocation.from_geodetic(0.0, 0.0)
    mirrored = lens.replace(parity_flip=True)
    for camera, time, name in (
        (MountedCamera(lens, (1, 0, 0, 0)), "2026-01-01", "camera"),
        (MountedCamera(lens, (1, 0, 0, 0), site=site), None, "time"),
        (MountedCamera(mirrored, (1, 0, 0, 0), site=site), "2026-01-01", "camera"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=name):
            write_platepar(tmp_path / "c.cal", camera, time)
    assert not (tmp_path / "c.cal").exists()
