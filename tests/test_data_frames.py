"""The small frames in tests/data, from the file to the camera; their truth lies beside them."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time
from scipy.spatial import cKDTree

import boresight
from boresight import CameraModel, earth_barycentric_velocity, extract_centroids, read_frame

DATA = Path(__file__).parent / "data"
TYPES = {"dslr.jpg": np.uint8, "finder.png": np.uint8, "survey.fits": np.uint16}


class Example:
    """A frame with what is true of it."""

    def __init__(self, name):
        self.frame = read_frame(DATA / name)
        self.truth = json.loads((DATA / name).with_suffix(".json").read_text(encoding="utf-8"))
        self.camera = CameraModel.from_dict(self.truth["camera_model"])
        stars = self.truth["stars"]
        self.xy = np.column_stack([stars["x"], stars["y"]])
        self.row_of_id = {star: row for row, star in enumerate(stars["catalog_id"]) if star}
        self.stars = extract_centroids(self.frame.image).centroids
        self.velocity = self.truth["velocity_km_s"] if any(self.truth["velocity_km_s"]) else None

    def solve(self, database, velocity=None, **options):
        return boresight.solve(
            self.stars, database=database, image_shape=self.frame.image_shape,
            observer_velocity_km_s=velocity, **options,
        )  # fmt: skip

    def center_error_px(self, solution):
        center = SkyCoord(*self.truth["center"].values(), unit="deg")
        found = SkyCoord(*solution.pixel_to_world(0.0, 0.0), unit="deg")
        return center.separation(found).arcsec / self.camera.pixel_scale_arcsec


@pytest.fixture(scope="module", params=sorted(TYPES))
def example(request):
    return Example(request.param)


@pytest.fixture(scope="module")
def survey():
    return Example("survey.fits")


def test_files_are_read_as_they_are(example):
    frame = example.frame
    assert frame.image.dtype == TYPES[frame.path.name]
    assert frame.image_shape == example.camera.image_shape
    assert (frame.time is not None) == (frame.path.suffix == ".fits")
    if frame.time is not None:
        assert abs((frame.time - Time(example.truth["epoch"], format="jyear")).to_value("s")) < 60


def test_bright_stars_are_found_where_they_are(example):
    distance, _ = cKDTree(example.stars.xy).query(example.xy[:50])
    found = distance < 1.0
    assert found.sum() >= 48
    assert np.median(distance[found]) < 0.05


def test_nothing_need_be_known_to_solve(example, wide_database):
    solution = example.solve(wide_database, example.velocity)
    assert example.center_error_px(solution) < 0.1
    assert solution.fov_deg == pytest.approx(example.camera.fov_deg, rel=2e-3)
    assert solution.camera_model.parity_flip == example.camera.parity_flip


def test_the_right_stars_are_matched(example, wide_database):
    solution = example.solve(wide_database, example.velocity)
    places = example.stars.xy[solution.matched_centroids]
    rows = [example.row_of_id.get(int(star)) for star in solution.matched_catalog_ids]
    known = [(place, example.xy[row]) for place, row in zip(places, rows, strict=True) if row]
    assert len(known) > 100
    assert max(np.hypot(*(place - true)) for place, true in known) < 1.0


def test_aberration_is_taken_out_by_the_time_in_the_header(survey, wide_database):
    velocity = earth_barycentric_velocity(survey.frame.time)
    np.testing.assert_allclose(velocity, survey.truth["velocity_km_s"], atol=1e-3)
    ra, dec, _ = survey.truth["axis"].values()
    truth = SkyCoord(ra, dec, unit="deg").cartesian.xyz.value

    def attitude_error_px(solution):
        axis = solution.rotation_matrix_icrs_to_camera[2]  # the camera's z in ICRS
        return np.linalg.norm(axis - truth) * survey.camera.focal_length_px

    assert attitude_error_px(survey.solve(wide_database)) > 0.1
    assert attitude_error_px(survey.solve(wide_database, velocity)) < 0.05


def test_one_frame_tells_the_distortion_of_its_lens(wide_database):
    photo = Example("dslr.jpg")
    result = boresight.calibrate(
        [DATA / "dslr.jpg"], wide_database, fov_estimate_deg=18.0, model="radial"
    )
    camera = result.camera_model
    grid = np.stack(np.meshgrid([-300.0, 0.0, 300.0], [-200.0, 0.0, 200.0]), axis=-1).reshape(-1, 2)
    seen = photo.camera.pixel_to_direction(*grid.T)
    found = camera.pixel_to_direction(*grid.T)
    # Angles between the directions do not depend on the attitude.
    error = np.arccos(np.clip(seen @ seen.T, -1, 1)) - np.arccos(np.clip(found @ found.T, -1, 1))
    assert np.abs(error).max() * photo.camera.focal_length_px < 0.3


def test_the_script_makes_these_frames(tmp_path):
    runpy.run_path(str(DATA / "make.py"))["make"](tmp_path)
    for name in TYPES:
        made, kept = read_frame(tmp_path / name).image, read_frame(DATA / name).image
        # Other versions of numpy and of the JPEG library round a few pixels differently.
        assert np.mean(np.abs(made.astype(float) - kept) > 2) < 0.01
        texts = [(folder / name).with_suffix(".json").read_text() for folder in (tmp_path, DATA)]
        made, kept = (json.loads(text) for text in texts)
        assert made["stars"]["catalog_id"] == kept["stars"]["catalog_id"]
        for axis in "xy":
            np.testing.assert_allclose(made["stars"][axis], kept["stars"][axis], atol=1e-3)
