"""Causes in the image, the lens and the header: found, and the remedy works."""

import math

import numpy as np
import pytest
from astropy.io.fits import Header
from scipy import ndimage
from scipy.signal import fftconvolve

from boresight import CameraModel, Frame, diagnose, extract_centroids, simulate_frame, solve

SHAPE = (512, 512)
FOV, RA, DEC = 12.0, 83.8, -1.2


@pytest.fixture(scope="module")
def sky(wide_frame):
    """Pixels above a sky of 100, without the noise of the brightest stars."""
    pixels = np.asarray(wide_frame.image, dtype=float)
    return np.minimum(pixels - np.median(pixels), 3e5) + 100.0


def causes(diagnosis):
    return [finding.cause for finding in diagnosis.findings]


def noise(sigma, seed=1):
    return np.random.default_rng(seed).normal(0.0, sigma, SHAPE)


def test_a_negative(sky, wide_database):
    diagnosis = diagnose(60000.0 - sky / 10, FOV, database=wide_database)
    assert diagnosis.remedy.cause == "negative"
    assert diagnosis.remedy.is_certain
    assert diagnosis.remedy.solution.ra_deg == pytest.approx(RA, abs=0.02)


@pytest.mark.parametrize("radius", [12, 25])
def test_rings_of_stars_out_of_focus(sky, wide_database, radius):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    ring = ((np.hypot(x, y) < radius) & (np.hypot(x, y) > 0.4 * radius)).astype(float)
    image = 10 * fftconvolve(sky - 100, ring / ring.sum(), mode="same") + 100 + noise(3.0)
    diagnosis = diagnose(image, FOV, database=wide_database)
    assert diagnosis.solution is not None or causes(diagnosis)[0] == "defocus"


def test_long_trails(sky, wide_database):
    trailed = ndimage.uniform_filter1d(sky, 70, axis=1) + noise(2.0)
    diagnosis = diagnose(trailed, FOV, database=wide_database)
    assert diagnosis.solution is not None or causes(diagnosis)[0] == "trailing"


@pytest.mark.parametrize("ratio", [1.2, 0.87])
def test_pixels_that_are_not_square(wide_frame, wide_database, ratio):
    stretched = ndimage.zoom(np.asarray(wide_frame.image, dtype=float), (ratio, 1.0), order=1)
    diagnosis = diagnose(stretched, FOV, database=wide_database)
    # Some solve, with the few stars that match anyway.
    (finding,) = [f for f in diagnosis.findings if f.cause == "non-square pixels"]
    told = float(finding.text.split()[2])
    assert told == pytest.approx(ratio, rel=0.02)
    assert finding.solution.dec_deg == pytest.approx(DEC, abs=0.1)
    assert diagnosis.solution is not None or causes(diagnosis) == ["non-square pixels"]


def test_an_all_sky_lens():
    camera = CameraModel.from_fov(180.0, (600, 600), projection="equisolid", parity_flip=True)
    image = simulate_frame(camera, 289.1, 40.5, 12.0, zero_point=13.0, seed=1).image
    remedy = diagnose(image).remedy
    assert remedy.cause == "projection"
    assert remedy.changes == {"fov_deg": 180.0, "projection": "equisolid"}


def test_another_camera(wide_frame, wide_database):
    camera = CameraModel.from_fov(30.0, SHAPE)
    remedy = diagnose(wide_frame.image, camera_model=camera, database=wide_database).remedy
    assert remedy.cause == "camera"
    assert remedy.changes == {"camera_model": None}


def test_a_saturated_and_a_blank_frame(sky):
    assert causes(diagnose(np.minimum(sky * 700.0, 65535.0), FOV))[0] == "saturation"
    assert causes(diagnose(np.full(SHAPE, 7.0), FOV)) == ["blank"]


def test_noise_is_no_stars():
    diagnosis = diagnose(
        noise(5.0) + 100.0, FOV, extraction={"sigma_threshold": 2.5}, solve_timeout_ms=2000
    )
    assert "many stars" in causes(diagnosis)
    assert not any(finding.is_certain for finding in diagnosis.findings)


def test_a_header_that_disagrees(wide_frame):
    header = Header()
    scale = 2 * math.degrees(math.atan(math.tan(math.radians(FOV / 2)) / 512))
    for name, value in {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 80.0, "CRVAL2": DEC, "CRPIX1": 257.0,
        "CRPIX2": 257.0, "CD1_1": -scale, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": -scale,
    }.items():  # fmt: skip
        header[name] = value
    frame = Frame(wide_frame.image, header=header)
    diagnosis = diagnose(frame)
    assert diagnosis.solution is not None
    assert "3.8 degrees" in diagnosis.suspicions[0].text
    assert "turned by 30" in diagnosis.suspicions[0].text
    header["CRVAL1"] = 40.0
    relied_upon = diagnose(Frame(wide_frame.image, header=header), header="only")
    assert relied_upon.solution is None
    assert relied_upon.remedy.cause == "header"


def test_a_field_too_narrow_for_any_catalogue():
    camera = CameraModel.from_fov(0.4, SHAPE)
    image = simulate_frame(camera, RA, DEC, faint_limit=16.0, seed=1).image
    diagnosis = diagnose(image, 0.4, solve_timeout_ms=2000)
    assert diagnosis.solution is None
    assert causes(diagnosis)[0] == "narrow field"
    assert "generate_from_stars" in diagnosis.suspicions[0].text


def test_a_field_too_narrow_by_the_header(monkeypatch):
    """Nothing is tried that cannot help."""
    from boresight.solver import remedies

    tried = []
    monkeypatch.setattr(remedies, "projection", tried.append)
    camera = CameraModel.from_fov(0.4, SHAPE)
    image = simulate_frame(camera, RA, DEC, faint_limit=16.0, seed=1).image
    frame = Frame(image, header=Header({"FOCALLEN": 1500.0, "XPIXSZ": 20.5}))
    diagnosis = diagnose(frame, solve_timeout_ms=4000)
    assert causes(diagnosis) == ["narrow field"]
    assert "FOCALLEN" in diagnosis.suspicions[0].text
    assert "0.401 degrees" in diagnosis.suspicions[0].text
    assert not tried


def test_a_wide_field_given_as_too_narrow(wide_frame):
    diagnosis = diagnose(wide_frame.image, 0.4)
    assert diagnosis.solution is None
    assert causes(diagnosis) == ["field of view"]
    assert diagnosis.remedy.changes["fov_deg"] == pytest.approx(FOV, abs=0.05)


@pytest.mark.parametrize("places", [(1.0, 1.0, 0.6, 1.0), (1.0, 0.7, 0.7, 0.4)])
def test_a_mosaic_of_colours_is_no_negative(wide_database, places):
    sky = np.full(SHAPE, 2000.0)
    for place, factor in enumerate(places):  # those of a Bayer filter, or of any other
        sky[place // 2 :: 2, place % 2 :: 2] *= factor
    diagnosis = diagnose(sky + noise(5.0), FOV, database=wide_database, solve_timeout_ms=1000)
    assert "negative" not in causes(diagnosis)


def test_a_header_of_the_frame_that_was_cut(wide_frame):
    header = Header({"IMAGEW": 5208, "IMAGEH": 3476, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN",
                     "CRVAL1": RA, "CRVAL2": DEC, "CRPIX1": 2604.5, "CRPIX2": 1738.5,
                     "CDELT1": -0.02, "CDELT2": 0.02})  # fmt: skip
    image = np.asarray(wide_frame.image)[:60, :60]
    diagnosis = diagnose(Frame(image, header=header), solve_timeout_ms=1000)
    assert diagnosis.solution is None
    assert any("5208 x 3476" in f.text for f in diagnosis.findings if f.cause == "header")


def test_what_was_found_as_json(wide_frame, wide_database):
    import json

    found = diagnose(wide_frame.image, 25.0, database=wide_database).to_dict()
    assert json.loads(json.dumps(found))["remedy"]["certain"] is True


@pytest.mark.parametrize("first", [0, 1])
def test_ranks_for_brightness(wide_frame, wide_database, first):
    stars = extract_centroids(wide_frame.image).centroids
    rows = np.column_stack([stars.x, stars.y, np.arange(len(stars)) + first])
    shape = wide_frame.image.shape
    remedy = diagnose(rows, FOV, image_shape=shape, database=wide_database).remedy
    assert remedy.cause == "brightness"
    assert "rank of the star" in remedy.text
    rows[:, 2] *= -1.0
    rows[:, 2] += len(stars) + first
    assert solve(rows, FOV, image_shape=shape, database=wide_database) is not None
