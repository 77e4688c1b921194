"""One line from an image to the sky, and many frames at once."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import Table

import boresight
from boresight import CameraModel, FileFormatError, InputError, SolverDatabase

SHAPE = (512, 512)


@pytest.fixture(scope="module")
def found(wide_frame):
    return boresight.extract_centroids(wide_frame.image)


def is_orion(solution):
    center = SkyCoord(solution.ra_deg, solution.dec_deg, unit="deg")
    return center.separation(SkyCoord(83.8, -1.2, unit="deg")).arcsec < 10


class TestSolve:
    @pytest.mark.parametrize(
        "form",
        [
            lambda image: image,
            lambda image: image.astype(">f4"),
            lambda image: np.ma.masked_array(image, mask=image < 0),
            lambda image: u.Quantity(image, "adu"),
            lambda image: CCDData(image, unit="adu"),
            lambda image: np.dstack([image] * 3),
            lambda image: np.stack([image] * 3),
            lambda image: image[None, :, :, None],
            lambda image: image.tolist(),
        ],
        ids=[
            "array",
            "big-endian",
            "masked",
            "quantity",
            "CCDData",
            "colour",
            "colours first",
            "axes of length 1",
            "lists",
        ],
    )
    def test_an_image_of_any_kind(self, wide_frame, form):
        solution = boresight.solve(form(wide_frame.image))
        assert is_orion(solution)
        assert abs(solution.fov_deg - 12.0) < 0.01

    def test_a_file_and_a_frame(self, wide_frame, tmp_path):
        path = tmp_path / "orion.fits"
        wide_frame.write_fits(path)
        for given in (path, str(path), boresight.read_frame(path)):
            assert is_orion(boresight.solve(given, 12.0))
        (tmp_path / "text.fits").write_text("no image")
        with pytest.raises(FileFormatError):
            boresight.solve(tmp_path / "text.fits")
        with pytest.raises(FileNotFoundError):
            boresight.solve(tmp_path / "nothing.fits")

    @pytest.mark.parametrize("form", ["result", "centroids", "list", "array", "xy", "table"])
    def test_centroids_of_any_kind(self, found, form):
        stars = found.centroids
        given = {
            "result": found,
            "centroids": stars,
            "list": list(stars),
            "array": np.column_stack([stars.x, stars.y, stars.brightness]),
            "xy": stars.xy,
            "table": Table({"x": stars.x, "y": stars.y, "flux": stars.brightness}),
        }[form]
        shape = None if form == "result" else SHAPE
        assert is_orion(boresight.solve(given, image_shape=shape))
        assert is_orion(boresight.solve(given, camera_model=CameraModel.from_fov(12.5, SHAPE)))

    def test_the_default_database_serves_the_field(self, found):
        assert SolverDatabase.default(12.0) is SolverDatabase.default()
        assert SolverDatabase.default(80.0).max_fov_deg == 120.0
        with pytest.raises(InputError, match="are too few"):
            boresight.solve(found, 0.5)

    def test_extraction_is_told_how(self, wide_frame):
        options = {"sigma_threshold": 20.0, "max_centroids": 25}
        solution = boresight.solve(wide_frame.image, extraction=options)
        assert is_orion(solution)
        assert solution.num_matches <= 25

    def test_what_does_not_solve_is_none(self, wide_frame):
        assert boresight.solve(np.ones((100, 100))) is None
        noise = np.random.default_rng(1).uniform(-256, 256, (40, 2))
        assert boresight.solve(noise, 10.0, image_shape=SHAPE) is None
        assert boresight.solve([], image_shape=SHAPE) is None

    @pytest.mark.parametrize(
        ("wrong", "name"),
        [
            ({"fov_deg": 200.0}, "fov_deg"),
            ({"fov_deg": "wide"}, "fov_deg"),
            ({"fov_deg": float("nan")}, "fov_deg"),
            ({"image_shape": (100, 100)}, "image_shape"),
            ({"extraction": {"sigma_threshold": -1.0}}, "sigma_threshold"),
            ({"match_radius": -1.0}, "match_radius"),
        ],
    )
    def test_bad_arguments_are_named(self, wide_frame, wrong, name):
        with pytest.raises(InputError, match=f"^{name}"):
            boresight.solve(wide_frame.image, **wrong)
        with pytest.raises(InputError, match="image_shape"):
            boresight.solve(wide_frame.image[:20, :2])


@pytest.fixture(scope="module")
def frames(found):
    """Twenty frames, of which the fifth has too few stars and the twelfth only false ones."""
    stars = found.centroids
    rng = np.random.default_rng(3)
    frames = [stars[rng.permutation(45)[: 25 + n]] for n in range(20)]
    frames[4] = stars[:2]
    frames[11] = rng.uniform(-256, 256, (30, 3))
    return frames


class TestSolveMany:
    def test_equals_one_by_one(self, wide_database, frames):
        options = {"database": wide_database, "image_shape": SHAPE, "max_patterns_checked": 20_000}
        fractions = []
        many = boresight.solve_many(iter(frames), 12.5, progress=fractions.append, **options)
        assert [n for n, solution in enumerate(many) if solution is None] == [4, 11]
        for stars, solution in zip(frames, many, strict=True):
            alone = boresight.solve(stars, 12.5, **options)
            assert (alone is None) == (solution is None)
            if alone is not None:
                np.testing.assert_array_equal(alone.quaternion, solution.quaternion)
                np.testing.assert_array_equal(alone.matched_centroids, solution.matched_centroids)
                assert alone.camera_model == solution.camera_model
        assert fractions[-1] == 1.0
        assert fractions == sorted(fractions)

    def test_extraction_results_tell_their_shape(self, wide_database, found):
        both = boresight.solve_many([found, found], 12.0, database=wide_database)
        assert all(is_orion(solution) for solution in both)
        with pytest.raises(InputError, match="frame 0"):
            boresight.solve_many([found], image_shape=(100, 100))

    def test_no_frames(self):
        assert boresight.solve_many([]) == []

    def test_bad_frames_are_named(self, wide_database, frames):
        for bad in ([[1.0, np.inf]], np.array([[1.0, np.inf, 3.0]]), np.ones((2, 5))):
            with pytest.raises(InputError, match=r"centroids: in frame 20"):
                boresight.solve_many([*frames, bad], image_shape=SHAPE, database=wide_database)

    @pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
    def test_ctrl_c_stops_at_once(self):
        program = (
            "import numpy as np, boresight\n"
            "noise = np.random.default_rng(1).uniform(-256, 256, (2000, 60, 2))\n"
            "d = boresight.SolverDatabase.preset('wide')\n"
            "print('ready', flush=True)\n"
            "boresight.solve_many(list(noise), 30.0, database=d, image_shape=(512, 512),\n"
            "                     solve_timeout_ms=None)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as child:
            child.stdout.readline()
            time.sleep(0.3)
            child.send_signal(signal.SIGINT)
            _, errors = child.communicate(timeout=60)
        assert b"KeyboardInterrupt" in errors


@pytest.mark.parametrize(
    "call",
    [
        lambda: boresight.solve("nowhere.fits", fov=12.0),
        lambda: boresight.solve("nowhere.fits", extraction={"sigma": 5.0}),
        lambda: boresight.diagnose("nowhere.fits", fov=12.0),
        lambda: boresight.solve_many(iter(()), fov=12.0),
        lambda: boresight.Tracker(fov=12.0),
        lambda: boresight.calibrate(["nowhere.fits"], fov=12.0),
        lambda: boresight.calibrate(["nowhere.fits"], solve_options={"fov": 12.0}),
        lambda: boresight.calibrate(["nowhere.fits"], extraction={"fov": 12.0}),
        lambda: boresight.calibrate(["nowhere.fits"], weather={"fov": 12.0}),
        lambda: SolverDatabase.generate_from_stars([], fov=12.0),
        lambda: boresight.Extractor(fov=12.0),
    ],
)
def test_unknown_names_are_refused_before_the_work(call):
    """None of the files is looked for."""
    with pytest.raises(InputError, match=r"(fov|sigma)'?: no such|no such option '(fov|sigma)'"):
        call()


@pytest.mark.parametrize("shape", [(677, 4), (5, 900), (7, 7), (), (30,), (30, 1)])
def test_a_table_without_names_is_no_image(shape):
    with pytest.raises(InputError, match=r"^image: its shape .* columns x, y"):
        boresight.solve(np.ones(shape), image_shape=SHAPE)


@pytest.mark.parametrize("given", [None, 5.0, object(), b"", memoryview(b"12"), {1, 2}])
def test_what_is_neither_an_image_nor_stars_is_refused_as_such(given):
    with pytest.raises(InputError, match=r"^image: .* is neither an image nor a list of stars"):
        boresight.solve(given)


def test_what_is_no_list_of_stars_is_told_before_the_shape_is_asked_for():
    with pytest.raises(InputError, match=r"^centroids: list holds no positions"):
        boresight.solve([[1, 2], [3]])
    with pytest.raises(InputError, match=r"^database: an ndarray is none"):
        boresight.solve_from_centroids(np.ones((9, 3)), 12.0, image_shape=SHAPE)


def test_a_result_of_extraction_knows_the_shape(found, wide_database):
    assert is_orion(wide_database.solve_from_centroids(found, 12.0))


def test_stars_from_an_iterator(found, wide_database):
    stars = (star for star in found.centroids)
    solution = boresight.solve(stars, 12.0, image_shape=SHAPE, database=wide_database)
    assert is_orion(solution)


@pytest.mark.parametrize("form", [lambda f: f.image, lambda f: "sky.fits", lambda f: f])
@pytest.mark.parametrize(
    ("call", "name"), [(boresight.solve_many, "centroids"), (boresight.calibrate, "frames")]
)
def test_one_frame_is_no_list_of_frames(wide_frame, call, name, form):
    given = form(boresight.Frame(wide_frame.image))
    with pytest.raises(InputError, match=f"^{name}: .*; give a list of frames"):
        call(given)


def test_no_frames_calibrate_nothing():
    with pytest.raises(InputError, match=r"^frames: there are none"):
        boresight.calibrate([])


def test_angles_may_be_quantities_or_text(found, wide_database):
    arguments = {"database": wide_database, "image_shape": SHAPE}
    stars = found
    plain = boresight.solve(stars, 12.0, fov_max_error_deg=1.0, **arguments)
    same = [
        boresight.solve(stars, 12 * u.deg, fov_max_error_deg=60 * u.arcmin, **arguments),
        boresight.solve(stars, "12", fov_max_error_deg=1.0, **arguments),
        boresight.solve(
            stars, 12.0, fov_max_error_deg=1.0, hint_uncertainty_deg=0.1 * u.rad,
            attitude_hint=(plain.ra_deg * u.deg, np.radians(plain.dec_deg) * u.rad), **arguments,
        ),
    ]  # fmt: skip
    for solution in same:
        assert solution.ra_deg == pytest.approx(plain.ra_deg, abs=1e-6)
    x, y = plain.world_to_pixel(plain.ra_deg * u.deg, plain.dec_deg * u.deg)
    assert np.hypot(x, y) < 1e-6
    with pytest.raises(InputError, match=r"^x: it is in deg; give pixels"):
        plain.pixel_to_world(5 * u.deg, 0.0)
    with pytest.raises(InputError, match=r"^fov_deg: it is in pix; give degrees"):
        boresight.solve(stars, 12 * u.pix, **arguments)
