"""Fisheyes through the whole chain: projections, files, OpenCV, FITS, solving, calibration.

The sky is simulated here, with numpy alone, from the formulas of the projections.
"""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import boresight
from boresight import (
    CameraModel,
    Catalog,
    FileFormatError,
    InputError,
    PolynomialDistortion,
    RadialDistortion,
    SolverDatabase,
    UndeterminedError,
)

SIZE = 1500
SHAPE = (SIZE, SIZE)

RADII = {
    "equidistant": lambda theta: theta,
    "equisolid": lambda theta: 2.0 * np.sin(theta / 2.0),
    "stereographic": lambda theta: 2.0 * np.tan(theta / 2.0),
    "orthographic": np.sin,
}
FITS_CODES = {
    "equidistant": "ARC",
    "equisolid": "ZEA",
    "stereographic": "STG",
    "orthographic": "SIN",
}
PROJECTIONS = list(RADII)


@pytest.fixture(scope="module")
def wide():
    return SolverDatabase.preset("wide")


@pytest.fixture(scope="module")
def sky():
    """Directions and magnitudes of the stars that an eye sees."""
    stars = Catalog.hipparcos()
    bright = stars.magnitude < 6.0
    ra, dec = np.radians(stars.ra_deg[bright]), np.radians(stars.dec_deg[bright])
    directions = [np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)]
    return np.column_stack(directions), stars.magnitude[bright].astype(float)


def random_rotation(rng):
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def all_sky(
    sky,
    projection,
    rng,
    *,
    limit=5.0,
    noise=0.5,
    missing=0.2,
    false=0.25,
    bend=(),
    center=(0.0, 0.0),
    scale=1.0,
    mirrored=False,
):
    """Positions and brightness of a hemisphere's stars, the rotation, and the focal length.

    `bend` are k1, k2, ... of Kannala and Brandt: of θ before it is projected.
    """
    directions, magnitudes = sky
    rotation = random_rotation(rng)
    x, y, z = rotation @ directions[magnitudes < limit].T
    magnitudes = magnitudes[magnitudes < limit]
    theta, around = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    focal_length = scale * SIZE / 2.0 / RADII[projection](np.pi / 2.0)
    bent = theta * (1.0 + sum(k * theta ** (2 * i + 2) for i, k in enumerate(bend)))
    radius = focal_length * RADII[projection](bent)
    pixels = np.column_stack([radius * np.cos(around), radius * np.sin(around)])
    pixels += rng.normal(0.0, noise, pixels.shape)
    seen = (theta < np.pi / 2.0) & (rng.random(len(theta)) > missing)
    seen &= np.hypot(*pixels.T) < SIZE / 2.0
    pixels, magnitudes = pixels[seen], magnitudes[seen]
    count = int(false / (1.0 - false) * len(pixels))
    r, a = SIZE / 2.0 * np.sqrt(rng.random(count)), 2.0 * np.pi * rng.random(count)
    pixels = np.vstack([pixels, np.column_stack([r * np.cos(a), r * np.sin(a)])])
    magnitudes = np.append(magnitudes, rng.choice(magnitudes, count))
    magnitudes += rng.normal(0.0, 0.2, len(magnitudes))
    if mirrored:
        pixels[:, 0] *= -1.0
    rows = np.column_stack([pixels + center, 10.0 ** (-0.4 * magnitudes)])
    return rows, rotation, focal_length


def angle_between(first, second):
    """Angle of the rotation from one to the other, degrees."""
    chord = np.linalg.norm(first - second) / np.sqrt(8.0)
    return np.degrees(2.0 * np.arcsin(min(chord, 1.0)))


def fisheye(projection, **arguments):
    return CameraModel.from_fov(180.0, SHAPE, projection=projection, **arguments)


@pytest.mark.parametrize("projection", PROJECTIONS)
class TestProjections:
    def test_pixels_are_where_the_formula_puts_them(self, projection):
        camera = CameraModel(430.0, SHAPE, projection=projection, optical_center=(20.0, -7.0))
        theta, around = np.meshgrid(np.linspace(0.0, 1.55, 9), np.linspace(0.0, 6.0, 7))
        directions = np.stack(
            [np.sin(theta) * np.cos(around), np.sin(theta) * np.sin(around), np.cos(theta)], -1
        )
        radius = 430.0 * RADII[projection](theta)
        expected = radius * np.cos(around) + 20.0, radius * np.sin(around) - 7.0
        np.testing.assert_allclose(camera.direction_to_pixel(directions), expected, atol=1e-11)
        back = camera.pixel_to_direction(*expected)
        np.testing.assert_allclose(back, directions, atol=3e-8)  # sin is flat at 90 degrees
        x, y = camera.direction_to_pixel(back)
        assert np.hypot(x - expected[0], y - expected[1]).max() < 1e-10

    @given(st.floats(-760.0, 760.0), st.floats(-760.0, 760.0), st.booleans(), st.booleans())
    @settings(max_examples=60, deadline=None)
    def test_pixels_round_trip(self, projection, x, y, mirrored, bent):
        lens = RadialDistortion(-0.03, 0.004, p1=1e-4, p2=-2e-4, scale=750.0) if bent else None
        camera = fisheye(projection, parity_flip=mirrored, distortion=lens)
        seen = camera.pixel_to_direction(x, y)
        if np.isfinite(seen).all():
            assert np.linalg.norm(seen) == pytest.approx(1.0, abs=1e-14)
            back = camera.direction_to_pixel(seen)
            assert np.hypot(back[0] - x, back[1] - y) < 1e-10
        else:
            limit = {"orthographic": 1.0, "equisolid": 2.0, "equidistant": np.pi}[projection]
            u, v = camera.pixel_to_ideal(x, y)
            assert np.hypot(u, v) > limit * camera.focal_length_px

    def test_what_is_not_imaged_is_nan(self, projection):
        camera = fisheye(projection)
        assert np.isnan(camera.direction_to_pixel([0.0, 0.0, -1.0])).all()
        behind = camera.direction_to_pixel([1.0, 0.0, -0.1])
        assert np.isnan(behind).all() == (projection == "orthographic")

    def test_files_pickle_and_repr(self, projection, tmp_path):
        camera = fisheye(projection, distortion=RadialDistortion(-0.02, scale=750.0))
        camera.save(tmp_path / "camera.json")
        for copy in (
            CameraModel.load(tmp_path / "camera.json"),
            pickle.loads(pickle.dumps(camera)),
        ):
            assert copy == camera
            assert copy.projection == projection
            assert f"projection={projection!r}" in repr(copy)
        assert camera != CameraModel(camera.focal_length_px, SHAPE, distortion=camera.distortion)

    def test_field_of_view(self, projection):
        for fov in (20.0, 180.0):
            camera = CameraModel.from_fov(fov, SHAPE, projection=projection)
            assert camera.fov_deg == pytest.approx(fov, abs=1e-9)
            edge = camera.pixel_to_direction(SIZE / 2.0, 0.0)
            assert np.degrees(np.arccos(edge[2])) == pytest.approx(fov / 2.0, abs=1e-6)
        # At the optical centre all are the same.
        per_px = np.degrees(np.arctan2(camera.pixel_to_direction(1e-3, 0.0)[0], 1.0)) * 3.6e6
        assert camera.pixel_scale_arcsec == pytest.approx(per_px, rel=1e-6)
        most = 180.0 if projection == "orthographic" else 360.0
        with pytest.raises(InputError, match="fov_deg"):
            CameraModel.from_fov(most + 1.0, SHAPE, projection=projection)

    def test_wcs_is_the_camera(self, projection, sky, wide):
        astropy_wcs = pytest.importorskip("astropy.wcs")
        rng = np.random.default_rng(5)
        lens = RadialDistortion(0.02, scale=750.0)
        for distortion in (None, lens):
            rows, *_ = all_sky(sky, projection, rng, bend=(-0.02,) if distortion else ())
            camera = fisheye(projection, distortion=distortion)
            solution = wide.solve_from_centroids(rows, camera_model=camera)
            wcs = solution.wcs()
            suffix = "-SIP" if distortion else ""
            assert wcs.wcs.ctype[0] == f"RA---{FITS_CODES[projection]}{suffix}"
            wcs = astropy_wcs.WCS(wcs.to_header(relax=True))
            x, y = rng.uniform(-480.0, 480.0, (2, 100))
            ra, dec = np.radians(wcs.all_pix2world(x + SIZE / 2, y + SIZE / 2, 0))
            seen = np.radians(solution.pixel_to_world(x, y))
            across = np.hypot((ra - seen[0] + 3.0) % (2 * np.pi) - 3.0, 0.0) * np.cos(dec)
            misses = np.hypot(across, dec - seen[1]) * camera.focal_length_px
            assert misses.max() < 0.01


def test_files_without_a_projection_are_pinholes(tmp_path):
    camera = CameraModel(2500.0, (768, 1024))
    written = camera.to_dict()
    assert written["version"] == 1
    assert "projection" not in written
    assert CameraModel.from_dict(written).projection == "gnomonic"
    damaged = fisheye("equisolid").to_dict() | {"projection": "mercator"}
    (tmp_path / "camera.json").write_text(json.dumps(damaged))
    with pytest.raises(FileFormatError, match="mercator"):
        CameraModel.load(tmp_path / "camera.json")


def test_an_unknown_projection_is_refused():
    for make in (CameraModel, CameraModel.from_fov):
        with pytest.raises(InputError, match=r"projection: 'fisheye' is unknown; give one of gnom"):
            make(100.0, SHAPE, projection="fisheye")


def opencv_fisheye(matrix, k, directions):
    """Pixels by the formulas in the documentation of OpenCV's fisheye module."""
    a, b = directions[:, 0] / directions[:, 2], directions[:, 1] / directions[:, 2]
    r = np.hypot(a, b)
    theta = np.arctan(r)
    bent = theta * (1 + k[0] * theta**2 + k[1] * theta**4 + k[2] * theta**6 + k[3] * theta**8)
    ratio = np.where(r > 0, bent / np.where(r > 0, r, 1.0), 1.0)
    return (
        matrix[0, 0] * ratio * a + matrix[0, 1] * ratio * b + matrix[0, 2],
        matrix[1, 1] * ratio * b + matrix[1, 2],
    )


class TestOpenCV:
    MATRIX = np.array([[470.0, 0.0, 752.0], [0.0, 470.0, 747.0], [0.0, 0.0, 1.0]])

    def directions(self):
        theta, around = np.meshgrid(np.linspace(0.0, 1.5, 20), np.linspace(0.0, 6.2, 30))
        theta, around = theta.ravel(), around.ravel()
        return np.column_stack(
            [np.sin(theta) * np.cos(around), np.sin(theta) * np.sin(around), np.cos(theta)]
        )

    @pytest.mark.parametrize("k", [[-0.02, 0.003, -0.001, 1e-4], [0.01, 0.0, 0.0, 0.0], [0.0] * 4])
    @pytest.mark.parametrize("aspect", [1.0, 1.002])
    def test_from_and_back(self, k, aspect):
        matrix = self.MATRIX.copy()
        matrix[1, 1] *= aspect
        tolerance = 0.01 if aspect == 1.0 else 0.5
        camera, error = CameraModel.from_opencv(matrix, k, SHAPE, tolerance, model="fisheye")
        assert camera.projection == "equidistant"
        directions = self.directions()
        x, y = camera.direction_to_pixel(directions)
        column, row = opencv_fisheye(matrix, k, directions)
        inside = np.hypot(column - SIZE / 2, row - SIZE / 2) < SIZE / 2
        misses = np.hypot(x + SIZE / 2 - column, y + SIZE / 2 - row)[inside]
        assert misses.max() <= 1.1 * error + 1e-9 <= 1.2 * tolerance
        if aspect == 1.0:
            assert isinstance(camera.distortion, RadialDistortion)
            back, terms, back_error = camera.to_opencv(model="fisheye")
            np.testing.assert_array_equal(back, matrix)
            np.testing.assert_allclose(terms, k, atol=1e-4)
            column, row = opencv_fisheye(back, terms, directions)
            misses = np.hypot(x + SIZE / 2 - column, y + SIZE / 2 - row)[inside]
            assert misses.max() <= 1.1 * back_error + 1e-9

    @pytest.mark.parametrize("projection", ["equisolid", "stereographic"])
    def test_other_projections_are_exported(self, projection):
        camera = fisheye(projection)
        matrix, terms, error = camera.to_opencv(0.2, model="fisheye")
        directions = self.directions()
        column, row = opencv_fisheye(matrix, terms, directions)
        x, y = camera.direction_to_pixel(directions)
        assert np.hypot(x + SIZE / 2 - column, y + SIZE / 2 - row).max() <= 1.1 * error

    def test_what_cannot_be_is_refused(self):
        with pytest.raises(UndeterminedError, match="model='fisheye'"):
            fisheye("equidistant").to_opencv()
        with pytest.raises(InputError, match="model"):
            fisheye("equidistant").to_opencv(model="omnidir")
        with pytest.raises(InputError, match="k1, k2, k3 and k4"):
            CameraModel.from_opencv(self.MATRIX, [0.0] * 5, SHAPE, model="fisheye")
        bent = fisheye("equidistant", distortion=PolynomialDistortion(2, 750.0, [0, 0, 0, 9, 0, 0]))
        with pytest.raises(UndeterminedError, match="k1, k2, k3, k4 miss this camera"):
            bent.to_opencv(model="fisheye")


class TestSolving:
    @pytest.mark.parametrize("projection", PROJECTIONS)
    def test_every_hemisphere_solves(self, projection, sky, wide):
        rng = np.random.default_rng(1)
        for number in range(40):
            mirrored = number % 2 == 1
            rows, rotation, focal_length = all_sky(sky, projection, rng, mirrored=mirrored)
            camera = fisheye(projection, parity_flip=mirrored)
            solution = wide.solve_from_centroids(rows, camera_model=camera)
            assert solution is not None, number
            assert angle_between(solution.rotation_matrix_icrs_to_camera, rotation) < 0.05
            found = solution.camera_model
            assert found.projection == projection
            assert found.focal_length_px == pytest.approx(focal_length, rel=1e-3)
            assert solution.num_matches > 0.9 * 0.75 * len(rows)

    @pytest.mark.parametrize("projection", PROJECTIONS)
    def test_with_few_stars_and_another_focal_length(self, projection, sky, wide):
        rng = np.random.default_rng(2)
        for scale in (0.85, 0.93, 1.1, 1.2):
            rows, rotation, focal_length = all_sky(sky, projection, rng, limit=3.5, scale=scale)
            solution = wide.solve_from_centroids(rows, camera_model=fisheye(projection))
            assert angle_between(solution.rotation_matrix_icrs_to_camera, rotation) < 0.1
            assert solution.camera_model.focal_length_px == pytest.approx(focal_length, rel=2e-3)

    def test_with_an_attitude_hint(self, sky, wide):
        rng = np.random.default_rng(3)
        rows, rotation, _ = all_sky(sky, "equidistant", rng, limit=3.0)
        turned = np.array([[1.0, -0.01, 0.0], [0.01, 1.0, 0.01], [0.0, -0.01, 1.0]]) @ rotation
        u, _, vt = np.linalg.svd(turned)
        solution = wide.solve_from_centroids(
            rows,
            camera_model=fisheye("equidistant"),
            fov_max_error_deg=5.0,
            attitude_hint=u @ vt,
            strict_hint=True,
        )
        assert angle_between(solution.rotation_matrix_icrs_to_camera, rotation) < 0.1

    def test_from_an_image_in_one_line(self):
        camera = CameraModel.from_fov(180.0, (700, 700), projection="equisolid")
        frame = boresight.simulate_frame(camera, 83.0, 10.0, 20.0, zero_point=13.0, seed=1)
        solution = boresight.solve(frame.image, camera_model=camera)
        assert solution.ra_deg == pytest.approx(83.0, abs=0.02)
        assert solution.dec_deg == pytest.approx(10.0, abs=0.02)
        # The simulated file's own WCS says the same.
        ra, dec = frame.wcs().all_pix2world(500.0, 200.0, 0)
        seen = solution.pixel_to_world(500.0 - 350.0, 200.0 - 350.0)
        assert seen == pytest.approx((float(ra), float(dec)), abs=0.03)

    def test_random_points_do_not_solve(self, wide):
        rng = np.random.default_rng(4)
        for projection in PROJECTIONS:
            radius, around = 750.0 * np.sqrt(rng.random(40)), 2 * np.pi * rng.random(40)
            points = np.column_stack([radius * np.cos(around), radius * np.sin(around)])
            camera = fisheye(projection)
            assert wide.solve_from_centroids(points, camera_model=camera) is None

    @given(
        st.lists(st.tuples(*[st.floats(-0.5, 0.5)] * 2), max_size=20),
        st.sampled_from(PROJECTIONS),
        st.floats(1.0, 179.0),
    )
    @settings(max_examples=60, deadline=None)
    def test_no_list_of_centroids_is_trouble(self, wide, points, projection, fov):
        camera = CameraModel.from_fov(fov, SHAPE, projection=projection)
        solution = wide.solve_from_centroids(
            np.array(points, float).reshape(-1, 2) * (SHAPE[1], SHAPE[0]),
            camera_model=camera,
            max_patterns_checked=2000,
        )
        assert solution is None or solution.num_matches >= 3


class TestCalibration:
    BEND = (-0.02, 0.003)
    CENTER = (6.0, -4.0)

    def frames(self, sky, noise):
        rng = np.random.default_rng(6)
        arguments = {"bend": self.BEND, "center": self.CENTER, "noise": noise, "false": 0.1}
        return [all_sky(sky, "equidistant", rng, **arguments)[0] for _ in range(8)]

    def model_error(self, camera):
        """Distances from the truth over the circle, after the best rotation."""
        theta, around = np.meshgrid(
            np.radians(np.arange(0, 90, 3)), np.radians(np.arange(0, 360, 15))
        )
        theta, around = theta.ravel(), around.ravel()
        bent = theta * (1.0 + self.BEND[0] * theta**2 + self.BEND[1] * theta**4)
        radius = SIZE / np.pi * bent
        x, y = radius * np.cos(around) + self.CENTER[0], radius * np.sin(around) + self.CENTER[1]
        sky = np.column_stack(
            [np.sin(theta) * np.cos(around), np.sin(theta) * np.sin(around), np.cos(theta)]
        )
        u, _, vt = np.linalg.svd(camera.pixel_to_direction(x, y).T @ sky)
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
        column, row = camera.direction_to_pixel(sky @ rotation.T)
        return np.hypot(column - x, row - y)

    @pytest.mark.parametrize(("model", "most"), [("radial", 0.03), ("polynomial", 0.05)])
    def test_a_kannala_brandt_lens_is_found(self, sky, wide, model, most):
        result = boresight.calibrate(
            self.frames(sky, noise=0.2),
            wide,
            image_shape=SHAPE,
            camera_model=fisheye("equidistant"),
            model=model,
            order=7,
        )
        camera = result.camera_model
        assert camera.projection == "equidistant"
        errors = self.model_error(camera)
        assert np.sqrt(np.mean(errors**2)) < most
        assert result.rmse_after_px == pytest.approx(0.2 * np.sqrt(2.0), rel=0.05)
        if model == "radial":
            assert result.converged
            assert camera.optical_center == pytest.approx(self.CENTER, abs=0.1)
            assert camera.focal_length_px == pytest.approx(SIZE / np.pi, rel=1e-3)
            # What the covariance says is what the errors are.
            cov = result.model_cov_px2(0, 400.0, 300.0)
            assert 0.0 < np.sqrt(np.trace(cov)) < 0.1

    def test_another_projection_may_be_asked_for(self, sky, wide):
        frames = self.frames(sky, noise=0.2)
        nominal = fisheye("equidistant")
        solutions = [wide.solve_from_centroids(rows, camera_model=nominal) for rows in frames]
        result = boresight.calibrate_camera(
            solutions, frames, model="radial", camera_model=fisheye("equisolid")
        )
        assert result.camera_model.projection == "equisolid"
        assert np.sqrt(np.mean(self.model_error(result.camera_model) ** 2)) < 0.1


@pytest.mark.parametrize(
    ("projection", "fov_deg", "parity_flip"),
    [("equidistant", 180.0, True), ("stereographic", 220.0, False), ("orthographic", 140.0, True)],
)
def test_a_fisheye_of_which_nothing_is_known(projection, fov_deg, parity_flip):
    camera = CameraModel.from_fov(
        fov_deg, (500, 700), projection=projection, parity_flip=parity_flip
    )
    frame = boresight.simulate_frame(camera, 289.1, 40.5, 12.0, zero_point=13.0, seed=1)
    solution = boresight.solve(frame.image, projection="auto")
    assert solution.camera_model.projection == projection
    assert solution.camera_model.parity_flip == parity_flip
    assert solution.fov_deg == pytest.approx(fov_deg, rel=0.01)
    known = boresight.solve(frame.image, camera_model=camera)
    assert solution.num_matches > 0.97 * known.num_matches


def test_the_header_of_a_fisheye_does_not_make_it_a_pinhole(tmp_path):
    camera = CameraModel.from_fov(180.0, (700, 700), projection="equisolid")
    frame = boresight.simulate_frame(camera, 83.0, -1.0, zero_point=13.0, seed=1)
    frame.write_fits(tmp_path / "sky.fits")
    solution = boresight.solve(tmp_path / "sky.fits", projection="auto")
    assert solution.camera_model.projection == "equisolid"
    assert solution.fov_deg == pytest.approx(180.0, rel=0.01)


def test_any_projection_finds_an_ordinary_lens(wide_frame):
    solution = boresight.solve(wide_frame.image, projection="auto")
    assert solution.camera_model.projection == "gnomonic"
    with pytest.raises(InputError, match="projection: the camera model has its own"):
        boresight.solve(wide_frame.image, camera_model=wide_frame.camera_model, projection="auto")
