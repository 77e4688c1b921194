"""Solving, calibrating, aligning, saving, loading and pickling, in any order: the sky stays."""

import pickle
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest
from astropy.coordinates import SkyCoord
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, multiple, rule

import boresight
from boresight import CameraModel, ImageCatalog, RadialDistortion

SHAPE = (256, 256)
TRUTH = CameraModel.from_fov(14.0, SHAPE, distortion=RadialDistortion(-0.05, scale=1000.0))
FIELDS = [(83.8, -1.2, 30.0), (84.5, -0.5, 80.0), (83.0, -2.0, 200.0), (201.0, 54.0, 10.0)]


@cache
def database():
    return boresight.SolverDatabase.generate_from_hipparcos(max_fov_deg=18.0, min_fov_deg=10.0)


@cache
def simulated(number):
    return boresight.simulate_frame(TRUTH, *FIELDS[number], seed=number).image


@cache
def stars(number):
    return boresight.extract_centroids(simulated(number))


def values(solution):
    """Numbers of a solution; copies differ in the last digit, as their attitude is a quaternion."""
    told = solution.to_dict()
    return {k: v for k, v in told.items() if isinstance(v, float) and k != "solve_time_ms"}


class AnyOrder(RuleBasedStateMachine):
    """Whatever was done before, what is found is the simulated truth, and copies are the same."""

    solutions = Bundle("solutions")
    cameras = Bundle("cameras")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="boresight-test-"))
        self.database = database()

    def teardown(self):
        shutil.rmtree(self.folder)

    @initialize(target=cameras)
    def nothing_is_known(self):
        return None

    @rule(target=solutions, number=st.sampled_from(range(4)), camera=cameras, image=st.booleans())
    def solve(self, number, camera, image):
        given = simulated(number) if image else stars(number)
        solution = boresight.solve(given, 14.0, database=self.database, camera_model=camera)
        self.check(solution, number)
        return number, solution

    @rule(target=solutions, before=solutions, camera=cameras)
    def solve_with_a_hint(self, before, camera):
        number, hint = before
        solution = boresight.solve(
            stars(number),
            database=self.database,
            camera_model=camera or hint.camera_model,
            attitude_hint=hint,
            strict_hint=True,
        )
        self.check(solution, number)
        return number, solution

    def check(self, solution, number):
        ra, dec, _ = FIELDS[number]
        truth = SkyCoord(ra, dec, unit="deg")
        assert truth.separation(solution.center).arcsec < 30.0
        assert abs(solution.fov_deg - TRUTH.fov_deg) < 0.3

    @rule(target=cameras, first=solutions, second=solutions)
    def calibrate(self, first, second):
        found = boresight.calibrate_camera([first[1], second[1]], model="radial")
        camera = found.camera_model
        assert abs(camera.focal_length_px / TRUTH.focal_length_px - 1) < 0.01
        return camera

    @rule(target=solutions, given=solutions)
    def pickle_a_solution(self, given):
        number, solution = given
        copy = pickle.loads(pickle.dumps(solution))
        assert values(copy) == pytest.approx(values(solution), rel=1e-9)
        return number, copy

    @rule(target=cameras, given=consumes(cameras))
    def save_and_load_a_camera(self, given):
        if given is None:
            return multiple(None)
        given.save(self.folder / "camera.json")
        loaded = CameraModel.load(self.folder / "camera.json")
        assert loaded == given == pickle.loads(pickle.dumps(given))
        return loaded

    @rule()
    def save_and_load_the_database(self):
        self.database.save_to_file(self.folder / "stars.bsdb")
        self.database = boresight.SolverDatabase.load_from_file(self.folder / "stars.bsdb")

    @rule(given=solutions)
    def align(self, given):
        number, solution = given
        image = ImageCatalog(solution, stars(number))
        ra, dec, _ = FIELDS[number]
        catalogue = self.database.cone_search(ra, dec, 12.0)
        aligned = boresight.align([image], catalogue, searchrad=200.0, tolerance=60.0)
        assert aligned.images[0].num_matches >= solution.num_matches / 2

    @rule(given=solutions)
    def diagnose(self, given):
        number, solution = given
        diagnosis = boresight.diagnose(
            stars(number), 14.0, database=self.database, camera_model=solution.camera_model
        )
        assert diagnosis.status == "solved"


AnyOrder.TestCase.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
TestAnyOrder = AnyOrder.TestCase
