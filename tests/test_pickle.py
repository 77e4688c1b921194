"""Everything public can be sent to another process, copied, and shown."""

import copy
import json
import pickle

import numpy as np
import pytest
from astropy.coordinates import EarthLocation

import boresight
from boresight import CameraModel, RadialDistortion, simulate_frame
from boresight.calibration.rig import Detector


@pytest.fixture(scope="module")
def things(wide_database, tmp_path_factory):
    """One of each public class, by its name."""
    camera = CameraModel.from_fov(12.0, (400, 512), distortion=RadialDistortion(0.01, scale=256))
    frames = [simulate_frame(camera, ra, -1.2, 30.0, seed=1) for ra in (83.8, 86.0)]
    extractor = boresight.Extractor(sigma_threshold=6.0, luminance=True)
    found = [extractor(frame.image) for frame in frames]
    solutions = boresight.solve_many(found, 12.0, database=wide_database)
    fit = boresight.calibrate_camera(solutions, found, model="radial")
    block = boresight.calibration_block(solutions, found, fit.camera_model, noise=1.0)
    tracker = boresight.Tracker(wide_database, fov_deg=12.0)
    tracker.solve(found[0])
    path = tmp_path_factory.mktemp("pickle") / "frame.fits"
    frames[0].write_fits(path)
    catalog = boresight.Catalog.hipparcos()[:50]
    image = boresight.ImageCatalog(solutions[0], found[0].centroids)
    site = EarthLocation.from_geodetic(0.0, 51.5, 50.0)
    return {
        "ApparentPlace": boresight.ApparentPlace.at("2018-08-07T12:00:00", velocity_km_s="earth"),
        "CalibrationResult": fit,
        "CalibrationBlock": block,
        "CalibrationStep": block.solve(),
        "CameraModel": camera,
        "Catalog": catalog,
        "Centroid": boresight.Centroid(1.0, 2.0, 3.0),
        "Centroids": found[0].centroids,
        "Certificate": (
            certificate := boresight.certify(
                12.0, num_fields=1, kinds=["sky"], database=wide_database
            )
        ),
        "FalseAlarms": certificate.total,
        "DatabaseParameters": wide_database.parameters,
        "Detector": Detector(1.0, 2.0, 3.0),
        "DetectorMap": fit.coverage(),
        "Diagnosis": boresight.diagnose(found[0], 30.0, database=wide_database),
        "ExtractionResult": found[0],
        "Extractor": extractor,
        "Frame": boresight.read_frame(path),
        "FrameCalibration": fit.frames[0],
        "ImageCatalog": image,
        "ImageGroup": boresight.ImageGroup([image]),
        "MatchedStars": solutions[0].matched_stars,
        "MosaicResult": boresight.calibrate_mosaic([[s] for s in solutions], [[f] for f in found]),
        "PolynomialDistortion": boresight.PolynomialDistortion(2, 256.0, [0.0] * 6, [0.0] * 6),
        "RadialDistortion": camera.distortion,
        "Refraction": boresight.Refraction.at(site, "2025-01-01"),
        "SimulatedFrame": frames[0],
        "SizeEstimate": boresight.SizeEstimate(1, 2, 3),
        "Solution": solutions[0],
        "SolverDatabase": wide_database,
        "Star": catalog[0],
        "Tracker": tracker,
    }


CLASSES = sorted(
    name
    for name in set(dir(boresight)) - {"CalibrateResult"}  # the former name of a class
    if isinstance(thing := getattr(boresight, name), type)
    and thing.__module__.startswith("boresight")
    and not issubclass(thing, Exception | int)
)


@pytest.mark.parametrize("name", CLASSES)
def test_copies_are_the_same(things, name):
    thing = things[name]
    for same in (pickle.loads(pickle.dumps(thing)), copy.deepcopy(thing), copy.copy(thing)):
        assert type(same) is type(thing)
        assert repr(same) == repr(thing)


def test_a_result_that_was_pickled_has_its_maps(things):
    result = things["ExtractionResult"]
    same = pickle.loads(pickle.dumps(result))
    assert same.centroids == result.centroids
    for there, here in (
        (same.background_map(), result.background_map()),
        (same.noise_map(), result.noise_map()),
    ):
        assert here.shape == result.image_shape
        np.testing.assert_array_equal(there, here)


def test_an_extractor_that_was_pickled_finds_the_same(things):
    image = things["SimulatedFrame"].image
    same = pickle.loads(pickle.dumps(things["Extractor"]))
    assert same(image).centroids == things["Extractor"](image).centroids


@pytest.mark.parametrize("name", CLASSES)
def test_a_repr_is_one_line(things, name):
    assert "\n" not in repr(things[name])


@pytest.mark.parametrize(
    "name", ["CalibrationResult", "Diagnosis", "ExtractionResult", "Frame", "Solution"]
)
def test_results_are_shown(things, name):
    thing = things[name]
    told = json.loads(json.dumps(thing.to_dict(), allow_nan=False))
    assert len(told) > 5
    table = thing._repr_html_()
    assert table.count("<tr>") == table.count("</tr>") > 1
    assert "<script" not in table


def test_what_files_say_is_escaped():
    frame = boresight.Frame(np.zeros((4, 4)), notes=("<script>alert(1)</script>",))
    assert "<script" not in frame._repr_html_()


def test_a_solution_has_units(things):
    solution = things["Solution"]
    assert solution.center.ra.deg == pytest.approx(solution.ra_deg)
    assert solution.fov.to_value("arcmin") == pytest.approx(60 * solution.fov_deg)
    assert solution.time is None
    matches = solution.matches
    assert len(matches) == solution.num_matches
    truth = matches["sky"].separation(matches["catalog_sky"])
    np.testing.assert_allclose(truth.arcsec, matches["residual"].to_value("arcsec"), atol=1e-6)
    known = boresight.Catalog.hipparcos().get(matches["catalog_id"])
    np.testing.assert_allclose(matches["magnitude"], known.magnitude, atol=1e-5)
    same = pickle.loads(pickle.dumps(solution)).matches
    np.testing.assert_array_equal(same["magnitude"], matches["magnitude"])


def test_the_magnitudes_of_a_calibration_are_those_of_its_solutions(things, wide_database):
    stars = things["Solution"].matched_stars
    some = stars.select([3, 1])
    np.testing.assert_array_equal(some.magnitudes, stars.magnitudes[[3, 1]])
    joint = boresight.calibrate([things["SimulatedFrame"].image], wide_database, model="radial",
                                catalog=None)  # fmt: skip
    assert np.isfinite(joint.solutions[0].matched_stars.magnitudes).all()


def test_the_time_of_a_solution_is_that_of_its_place(wide_frame, wide_database):
    place = boresight.ApparentPlace.at("2018-08-07T12:00:00")
    solution = boresight.solve(wide_frame.image, 12.0, database=wide_database, place=place)
    assert solution.time.isot[:19] in ("2018-08-07T12:00:00", "2018-08-07T11:59:59")
    assert solution.time.scale == "utc"
