"""From frames to their camera in one call, on simulated frames with known truth."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

import boresight
from boresight import (
    CameraModel,
    Centroids,
    InputError,
    PolynomialDistortion,
    RadialDistortion,
    SolverDatabase,
    UndeterminedError,
    extract_centroids,
    simulate_frame,
)
from boresight.calibration.passes import settle

SHAPE = (400, 512)
CAMERA = CameraModel.from_fov(
    14.0,
    SHAPE,
    optical_center=(15.0, -9.0),
    distortion=RadialDistortion(-0.012, 0.001, scale=256.0),
)
FIELDS = [(40.0, 20.0), (95.0, -15.0), (190.0, 40.0), (280.0, -30.0)]


@pytest.fixture(scope="module")
def database():
    return SolverDatabase.generate_from_hipparcos(max_fov_deg=18.0, min_fov_deg=12.0)


@pytest.fixture(scope="module")
def frames():
    return [simulate_frame(CAMERA, *field, roll_deg=10.0, seed=i) for i, field in enumerate(FIELDS)]


@pytest.fixture(scope="module")
def stars(frames):
    return [extract_centroids(frame.image).centroids for frame in frames]


@pytest.fixture(scope="module")
def result(stars, database):
    return boresight.calibrate(stars, database, image_shape=SHAPE, fov_estimate_deg=14.0, order=4)


def corners(solutions):
    """Sky positions of a grid of pixels as unit vectors: (frames, points, 3)."""
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(-250, 250, 7), np.linspace(-190, 190, 7)))
    found = []
    for solution in solutions:
        ra, dec = np.radians(solution.pixel_to_world(x, y))
        found.append(
            np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
        )
    return np.array(found)


def test_the_camera_and_the_sky_are_right(result, frames):
    assert result.converged
    assert result.rejected == (None,) * 4
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(-240, 240, 5), np.linspace(-180, 180, 5)))
    for solution, frame in zip(result.solutions, frames, strict=True):
        seen_x, seen_y = frame.world_to_pixel(*solution.pixel_to_world(x, y))
        # Some 120 stars a frame of 0.03 px each: the corners are the least certain.
        miss = np.hypot(seen_x - x, seen_y - y)
        assert np.sqrt(np.mean(miss**2)) < 0.1
        assert miss.max() < 0.4
        assert solution.camera_model == result.camera_model


def test_its_own_camera_changes_nothing(result, stars, database):
    again = boresight.calibrate(
        stars, database, image_shape=SHAPE, camera_model=result.camera_model, order=4
    )
    assert again.converged
    turned = np.linalg.norm(corners(again.solutions) - corners(result.solutions), axis=-1)
    assert turned.max() * result.camera_model.focal_length_px < 1e-6
    assert again.num_inliers == result.num_inliers


def test_auto_is_a_fixed_point_too(stars, database):
    options = {"image_shape": SHAPE, "model": "auto", "fov_estimate_deg": 14.0}
    first = boresight.calibrate(stars, database, **options)
    again = boresight.calibrate(stars, database, camera_model=first.camera_model, **options)
    assert first.converged
    assert again.converged
    assert first.held_out_rmse_px >= 0.9 * first.rmse_after_px
    assert again.held_out_rmse_px == pytest.approx(first.held_out_rmse_px, rel=1e-6)
    turned = np.linalg.norm(corners(again.solutions) - corners(first.solutions), axis=-1)
    assert turned.max() * first.camera_model.focal_length_px < 1e-5


class Undecided:
    """Passes of a calibration in which the choice of the order depends on the matches."""

    def __init__(self, choices, start):
        self.choices = choices
        self.order = start
        self.chosen = 0

    def solve(self, radius):
        """Matches that are those of the last camera's order."""
        return [
            SimpleNamespace(
                matched_centroids=np.arange(self.order), matched_catalog_ids=np.arange(self.order)
            )
        ]

    def calibrate(self, solutions, order, model, held_out=False):
        if order == "auto":
            order, held_out = self.choices[len(solutions[0].matched_centroids)], True
            self.chosen += 1
        terms = np.zeros((order + 1) * (order + 2) // 2)
        distortion = PolynomialDistortion(order, 256.0, terms, terms)
        self.order = order
        self.result = SimpleNamespace(
            camera_model=CameraModel.from_fov(14.0, SHAPE, distortion=distortion),
            parameter_names=("",) * len(terms),
            held_out_rmse_px=0.1 if held_out else None,
            fitted_to=len(solutions[0].matched_centroids),
        )
        return self.result


@pytest.mark.parametrize(
    ("choices", "order"),
    [
        ({3: 5, 5: 7, 7: 5}, 5),
        ({3: 7, 5: 7, 7: 5}, 5),
        ({3: 4, 4: 6, 6: 8, 8: 5, 5: 6}, 5),
        ({3: 4, 4: 6, 6: 6}, 6),
    ],
)
def test_a_choice_that_goes_in_a_circle_ends_at_the_simplest(choices, order):
    first = Undecided(choices, 3)
    found = settle(first, "auto", "polynomial")
    assert found.camera_model.distortion.order == found.fitted_to == order
    assert found.held_out_rmse_px is not None
    assert first.chosen <= len(choices)
    for start in choices.values():
        again = settle(Undecided(choices, start), "auto", "polynomial")
        assert again.camera_model.distortion.order == again.fitted_to == order


def test_all_kinds_of_frames_are_the_same(result, frames, stars, database, tmp_path):
    frames[0].write_fits(tmp_path / "frame.fits")
    mixed = [
        tmp_path / "frame.fits",
        frames[1].image,
        extract_centroids(frames[2].image),
        np.column_stack([stars[3].x, stars[3].y, stars[3].brightness]),
    ]
    passes = []
    found = boresight.calibrate(
        mixed, database, fov_estimate_deg=14.0, order=4, on_pass=lambda n, r: passes.append((n, r))
    )
    apart = np.linalg.norm(corners(found.solutions) - corners(result.solutions), axis=-1)
    assert apart.max() * CAMERA.focal_length_px < 0.1  # the array has no position uncertainties
    assert [number for number, _ in passes] == list(range(1, len(passes) + 1))
    assert passes[-1][1].camera_model == found.camera_model


def test_frames_that_do_not_fit_are_rejected_with_a_reason(stars, database):
    rng = np.random.default_rng(4)
    noise = rng.uniform(-190, 190, (40, 2))
    found = boresight.calibrate(
        [noise, *stars], database, image_shape=SHAPE, fov_estimate_deg=14.0, order=4
    )
    assert [solution is None for solution in found.solutions] == [True] + [False] * 4
    assert found.rejected == ("not solved", None, None, None, None)


def test_matches_are_those_of_the_fit(result, stars):
    for solution, part, found in zip(result.solutions, result.frames, stars, strict=True):
        assert solution.num_matches == part.num_inliers
        x, y = found.x[solution.matched_centroids], found.y[solution.matched_centroids]
        ra, dec = solution.pixel_to_world(x, y)
        stars_ra = np.degrees(np.arctan2(*solution.matched_directions[:, 1::-1].T))
        stars_dec = np.degrees(np.arcsin(solution.matched_directions[:, 2]))
        east = ((ra - stars_ra + 180.0) % 360.0 - 180.0) * np.cos(np.radians(dec))
        apart = np.hypot(east, dec - stars_dec) * 3600.0
        np.testing.assert_allclose(solution.residuals_arcsec, apart, rtol=1e-4, atol=1e-4)


def test_aberration_needs_times_and_counts(frames, stars, database, result):
    with pytest.raises(InputError, match=r"the time of frames\[0\] is unknown"):
        boresight.calibrate(stars, database, image_shape=SHAPE, aberration=True)
    velocity = np.array([20.0, -20.0, 8.0])
    found = boresight.calibrate(
        stars,
        database,
        image_shape=SHAPE,
        fov_estimate_deg=14.0,
        order=4,
        velocities_km_s=[velocity] * 4,
    )
    for solution in found.solutions:
        np.testing.assert_allclose(solution.observer_velocity_km_s, velocity)
    # The pointing is ICRS with or without.
    apart = np.linalg.norm(corners(found.solutions) - corners(result.solutions), axis=-1)
    assert apart.max() * CAMERA.focal_length_px < 0.1


def test_bad_input(stars, database):
    with pytest.raises(InputError, match="image_shape: missing"):
        boresight.calibrate(stars, database)
    with pytest.raises(InputError, match=r"frames\[1\]: .* pixels, but frames\[0\]"):
        boresight.calibrate([np.zeros((20, 30)), np.zeros((30, 20))], database)
    with pytest.raises(InputError, match=r"frames\[0\]"):
        boresight.calibrate([3], database, image_shape=SHAPE)
    with pytest.raises(InputError, match="velocities_km_s: 1 for 4 frames"):
        boresight.calibrate(stars, database, image_shape=SHAPE, velocities_km_s=[None])
    with pytest.raises(UndeterminedError, match="none of the 1 frames solves in pass 1"):
        boresight.calibrate([np.zeros((5, 2))], database, image_shape=SHAPE)
    with pytest.raises(FileNotFoundError):
        boresight.calibrate(["absent.fits"], database)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"fov_estimate_deg": -4.0}, "fov_estimate_deg: -4.0 is not a field of view"),
        ({"fov_estimate_deg": "wide"}, "fov_estimate_deg: 'wide' is not a number"),
        ({"solve_options": {"fov": 1.0}}, "solve_options: no such option 'fov'"),
        ({"times": "2020-01-01"}, "times: 1 for 4 frames"),
        ({"times": ["noon"] * 4}, "times: 'noon' is not a time"),
        ({"database": "hipparcos"}, "database: a str is none"),
        ({"max_iterations": -1}, "max_iterations: -1 is not a whole number from 0 up"),
    ],
)
def test_messages_name_the_argument_that_was_given(stars, database, wrong, told):
    with pytest.raises(InputError, match=f"^{told}"):
        boresight.calibrate(stars, **{"database": database, "image_shape": SHAPE} | wrong)


def east_north_arcsec(ra, dec, true_ra, true_dec):
    """Errors along east and north, shape (..., 2)."""
    east = ((ra - true_ra + 180.0) % 360.0 - 180.0) * np.cos(np.radians(true_dec))
    return np.stack([east, dec - true_dec], axis=-1) * 3600.0


class TestCovariance:
    """`pixel_to_world(..., return_cov=True)`."""

    def test_it_says_how_wrong_the_sky_is(self, database):
        """Normal noise on true positions: error over sigma has unit variance."""
        rng = np.random.default_rng(11)
        pulls = []
        x, y = (
            g.ravel() for g in np.meshgrid(np.linspace(-250, 250, 9), np.linspace(-190, 190, 9))
        )
        for trial in range(6):
            frames = [
                simulate_frame(CAMERA, *f, roll_deg=20.0 * trial, epoch=database.epoch)
                for f in FIELDS
            ]
            stars = [positions(frame, rng, 0.03) for frame in frames]
            found = boresight.calibrate(
                stars, database, image_shape=SHAPE, fov_estimate_deg=14.0, model="radial", order=2
            )
            for solution, frame in zip(found.solutions, frames, strict=True):
                ra, dec, cov = solution.pixel_to_world(x, y, return_cov=True)
                error = east_north_arcsec(ra, dec, *frame.pixel_to_world(x, y))
                pulls.append(np.einsum("ni,nij,nj->n", error, np.linalg.inv(cov), error) / 2.0)
        assert 0.7 < np.sqrt(np.mean(pulls)) < 1.4

    def test_what_extraction_has_in_common_is_in_it(self, result, frames):
        assert 0.001 < result.systematic_px < 0.02
        x, y = np.array([0.0, 10.0]), np.array([0.0, -5.0])  # near the axis
        cov = np.array([s.pixel_to_world(x, y, return_cov=True)[2] for s in result.solutions])
        model = np.array([result.model_cov_px2(i, x, y) for i in range(len(frames))])
        ratio = np.linalg.det(cov) / np.linalg.det(model) / CAMERA.pixel_scale_arcsec**4
        np.testing.assert_allclose(ratio, 1.0, atol=0.01)
        assert (model[..., 0, 0] > result.systematic_px**2).all()

    def test_it_is_in_proportion_to_how_good_positions_are(self, database, frames):
        """Of positions with 0.02 px of noise, and of those with a known part of far worse ones."""
        rng = np.random.default_rng(3)
        stars = []
        for frame in frames:
            x, y, flux = positions(frame, rng, 0.0).T
            sigma = np.where(np.arange(len(x)) % 2, 0.2, 0.02)
            x, y = (c + sigma * rng.normal(size=len(c)) for c in (x, y))
            cov = sigma[:, None, None] ** 2 * np.eye(2)
            stars.append(Centroids(x=x, y=y, brightness=flux, position_cov=cov))
        options = {"image_shape": SHAPE, "fov_estimate_deg": 14.0, "model": "radial"}
        found = boresight.calibrate(stars, database, **options)
        assert found.systematic_px == pytest.approx(0.25 * 0.02, rel=0.25)
        none = [Centroids(x=s.x, y=s.y, brightness=s.brightness) for s in stars]
        assert boresight.calibrate(none, database, **options).systematic_px == 0.0
        given = boresight.calibrate(stars, database, systematic_px=0.5, **options)
        assert given.systematic_px == 0.5

    def test_position_uncertainty_is_turned_and_scaled(self, result):
        solution = result.solutions[0]
        position = np.array([[0.04, 0.03], [0.03, 0.09]])
        ra, dec, bare = solution.pixel_to_world(30.0, -50.0, return_cov=True)
        _, _, both = solution.pixel_to_world(30.0, -50.0, position_cov=position, return_cov=True)
        rng = np.random.default_rng(2)
        moved = np.array([30.0, -50.0]) + rng.multivariate_normal([0.0, 0.0], position, 20_000)
        sample = east_north_arcsec(*solution.pixel_to_world(*moved.T), ra, dec)
        np.testing.assert_allclose(both - bare, np.cov(sample.T), rtol=0.05)
        assert bare.shape == both.shape == (2, 2)

    def test_shapes_and_bad_input(self, result, stars, database):
        solution = result.solutions[0]
        x, y = np.zeros((3, 1)), np.zeros(4)
        assert solution.pixel_to_world(x, y, return_cov=True)[2].shape == (3, 4, 2, 2)
        assert len(solution.pixel_to_world(x, y)) == 2
        with pytest.raises(InputError, match="position_cov: its shape is"):
            solution.pixel_to_world(x, y, position_cov=np.zeros((5, 2, 2)), return_cov=True)
        assert np.isnan(solution.pixel_to_world(np.nan, 0.0, return_cov=True)[2]).all()
        copy = pickle.loads(pickle.dumps(solution))
        again = copy.pixel_to_world(5.0, 6.0, return_cov=True)
        before = solution.pixel_to_world(5.0, 6.0, return_cov=True)
        np.testing.assert_allclose(again[2], before[2], rtol=1e-9, atol=1e-12)
        alone = database.solve_from_centroids(
            stars[0], fov_estimate_deg=14.0, image_shape=SHAPE, camera_model=result.camera_model
        )
        # At the centre only the attitude counts, the scale does not.
        only = alone.pixel_to_world(0.0, 0.0, return_cov=True)[2]
        per_radian = np.degrees(1.0) * 3600.0
        expected = np.trace(alone.attitude_cov_rad2[:2, :2]) * per_radian**2
        assert np.trace(only) == pytest.approx(expected, rel=0.01)
        with pytest.raises(InputError, match="systematic_px: -1 is not an error"):
            boresight.calibrate_camera(alone, stars[0], systematic_px=-1)


def positions(frame, rng, noise):
    """True positions of the frame's stars on the detector, with normal noise."""
    x, y = frame.stars.x, frame.stars.y
    on = (np.abs(x) < SHAPE[1] / 2) & (np.abs(y) < SHAPE[0] / 2)
    moved = np.column_stack([x[on], y[on]]) + rng.normal(0.0, noise, (on.sum(), 2))
    return np.column_stack([moved, frame.stars.flux[on]])
