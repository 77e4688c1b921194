"""The camera model at the Python border: conventions, broadcasting, files, bad input."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boresight import (
    CameraModel,
    FileFormatError,
    InputError,
    PolynomialDistortion,
    RadialDistortion,
    UndeterminedError,
)


def polynomial(order=3, scale=512.0, size=3.0, seed=1):
    rng = np.random.default_rng(seed)
    n = (order + 1) * (order + 2) // 2
    return PolynomialDistortion(
        order, scale, rng.uniform(-size, size, n), rng.uniform(-size, size, n)
    )


CAMERAS = [
    CameraModel(2500.0, (768, 1024)),
    CameraModel(2500.0, (768, 1024), parity_flip=True, distortion=polynomial()),
    CameraModel(
        900.0,
        (768, 1024),
        optical_center=(31.0, -12.5),
        distortion=RadialDistortion(-0.04, 0.003, 0.0, 1e-4, -2e-4, scale=512.0),
    ),
]


@pytest.mark.parametrize("camera", CAMERAS, ids=["pinhole", "polynomial", "radial"])
class TestEveryModel:
    def test_pixels_round_trip(self, camera):
        x, y = np.meshgrid(np.linspace(-512, 511, 9), np.linspace(-384, 383, 7))
        back = camera.direction_to_pixel(camera.pixel_to_direction(x, y))
        np.testing.assert_allclose(back, (x, y), atol=1e-9)

    def test_pickle_json_and_equality(self, camera, tmp_path):
        path = tmp_path / "camera.json"
        camera.save(path)
        for copy in (pickle.loads(pickle.dumps(camera)), CameraModel.load(path)):
            assert copy == camera
            assert hash(copy) == hash(camera)
            assert repr(copy) == repr(camera)
        assert len({*CAMERAS, camera}) == len(CAMERAS)
        assert list(tmp_path.iterdir()) == [path]

    def test_ideal_point_follows_the_formula(self, camera):
        x, y = 100.0, -50.0
        u, v = camera.pixel_to_ideal(x, y)
        sign = -1 if camera.parity_flip else 1
        expected = np.array([sign * u, v, camera.focal_length_px])
        np.testing.assert_allclose(
            camera.pixel_to_direction(x, y), expected / np.linalg.norm(expected), rtol=1e-14
        )


def test_polynomial_formula():
    lens = polynomial(order=4, size=5.0)
    x, y = 200.0, -310.0
    u, v, k = x, y, 0
    for degree in range(5):
        for q in range(degree + 1):
            term = (x / 512) ** (degree - q) * (y / 512) ** q
            u += lens.a_coeffs[k] * term
            v += lens.b_coeffs[k] * term
            k += 1
    np.testing.assert_allclose(lens.undistort(x, y), (u, v), rtol=1e-14)


def test_radial_formula_is_that_of_opencv_with_unit_scale():
    # cv2.projectPoints's documented distortion, applied to normalised coordinates.
    k1, k2, k3, p1, p2 = 0.1, -0.02, 0.003, 0.004, -0.005
    x, y = 0.3, -0.2
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    expected = (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )
    np.testing.assert_allclose(
        RadialDistortion(k1, k2, k3, p1, p2, scale=1.0).undistort(x, y), expected, rtol=1e-14
    )


def test_scalars_and_arrays_broadcast():
    camera = CAMERAS[1]
    assert camera.pixel_to_direction(1.0, 2.0).shape == (3,)
    assert camera.pixel_to_direction(np.arange(4.0), 2).shape == (4, 3)
    assert camera.pixel_to_direction(np.zeros((2, 1)), np.zeros(3)).shape == (2, 3, 3)
    x, y = camera.direction_to_pixel(np.ones((2, 5, 3)))
    assert x.shape == y.shape == (2, 5)
    assert isinstance(camera.direction_to_pixel([0.0, 0.0, 1.0])[0], float)
    assert camera.direction_to_pixel(np.empty((0, 3)))[0].shape == (0,)


def test_directions_that_no_pixel_sees_are_nan():
    for camera in CAMERAS:
        assert np.isnan(camera.direction_to_pixel([0.0, 0.0, -1.0])).all()
        assert np.isnan(camera.direction_to_pixel([np.nan, 0.0, 1.0])).any()
    fold = RadialDistortion(-0.5, scale=1000.0)
    assert np.isnan(fold.distort(800.0, 0.0)).all()


def test_field_of_view():
    camera = CameraModel.from_fov(11.8, (2048, 2048))
    assert camera.fov_deg == pytest.approx(11.8, abs=1e-12)
    assert camera.focal_length_px == pytest.approx(1024 / np.tan(np.radians(5.9)))
    assert camera.pixel_scale_arcsec == pytest.approx(206264.806 / camera.focal_length_px)
    assert camera.image_shape == (2048, 2048)
    assert CameraModel(100.0, (10, 20)).image_shape == (10, 20)


def test_a_model_does_not_change():
    camera = CAMERAS[1]
    with pytest.raises(AttributeError):
        camera.focal_length_px = 3.0
    camera.distortion.a_coeffs[:] = 0.0
    assert camera.distortion == polynomial()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: CameraModel(0.0, (10, 10)), "focal_length_px"),
        (lambda: CameraModel(np.nan, (10, 10)), "focal_length_px"),
        (lambda: CameraModel(100.0, (0, 10)), "image_shape"),
        (lambda: CameraModel(100.0, (10, 10, 3)), "image_shape"),
        (lambda: CameraModel(100.0, 10), "image_shape"),
        (lambda: CameraModel(100.0, (10, 2**40)), "image_shape"),
        (lambda: CameraModel(100.0, (10, 10), optical_center=(np.inf, 0)), "optical_center"),
        (lambda: CameraModel(100.0, (10, 10), optical_center=(1, 2, 3)), "optical_center"),
        (lambda: CameraModel(100.0, (10, 10), distortion="radial"), "distortion"),
        (lambda: CameraModel.from_fov(180.0, (10, 10)), "fov_deg"),
        (lambda: CameraModel.from_fov(-1.0, (10, 10)), "fov_deg"),
        (lambda: PolynomialDistortion(10, 1.0), "order"),
        (lambda: PolynomialDistortion(-1, 1.0), "order"),
        (lambda: PolynomialDistortion(2.5, 1.0), "order"),
        (lambda: PolynomialDistortion(2, 0.0), "scale"),
        (lambda: PolynomialDistortion(2, 1.0, [1.0], None), "a_coeffs"),
        (lambda: PolynomialDistortion(0, 1.0, [np.nan], None), "a_coeffs"),
        (lambda: PolynomialDistortion(0, 1.0, None, [[1.0]]), "b_coeffs"),
        (lambda: RadialDistortion(np.nan, scale=1.0), "k"),
        (lambda: RadialDistortion(scale=-1.0), "scale"),
        (lambda: CAMERAS[0].pixel_to_direction([1, 2], [1, 2, 3]), "x, y"),
        (lambda: CAMERAS[0].pixel_to_direction("a", 1), "x, y"),
        (lambda: CAMERAS[0].direction_to_pixel([1.0, 2.0]), "direction"),
    ],
)
def test_bad_input_names_the_argument(make, name):
    with pytest.raises(InputError, match=f"^{name}"):
        make()


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "camera.json"
    CAMERAS[1].save(path)
    text = path.read_text()
    good = json.loads(text)
    damaged = [
        text[: len(text) // 2],
        "[]",
        "\xff",
        json.dumps(good | {"version": 99}),
        json.dumps(good | {"format": "other"}),
        json.dumps(good | {"focal_length_px": "long"}),
        json.dumps(good | {"distortion": {"model": "fish"}}),
        json.dumps({k: v for k, v in good.items() if k != "image_shape"}),
    ]
    for content in damaged:
        path.write_text(content, encoding="latin-1")
        with pytest.raises(FileFormatError, match=r"camera\.json"):
            CameraModel.load(path)
    with pytest.raises(FileNotFoundError):
        CameraModel.load(tmp_path / "none.json")
    with pytest.raises(FileNotFoundError):
        CAMERAS[0].save(tmp_path / "no" / "folder.json")


@settings(max_examples=50, deadline=None)
@given(
    x=st.floats(),
    y=st.floats(),
    f=st.floats(),
    k=st.floats(-1, 1),
    flip=st.booleans(),
)
def test_no_number_panics(x, y, f, k, flip):
    try:
        camera = CameraModel(
            f, (10, 20), parity_flip=flip, distortion=RadialDistortion(k, scale=10.0)
        )
    except InputError:
        return
    with np.errstate(all="ignore"):
        camera.direction_to_pixel(camera.pixel_to_direction(x, y))
        camera.direction_to_pixel([x, y, 1.0])


def opencv_project(matrix, coefficients, directions):
    """What OpenCV's manual says of projectPoints, point by point."""
    k1, k2, p1, p2, k3, k4, k5, k6 = [*coefficients, 0.0, 0.0, 0.0][:8]
    pixels = []
    for x, y, z in directions:
        a, b = x / z, y / z
        r2 = a * a + b * b
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        radial /= 1 + k4 * r2 + k5 * r2**2 + k6 * r2**3
        u = a * radial + 2 * p1 * a * b + p2 * (r2 + 2 * a * a)
        v = b * radial + p1 * (r2 + 2 * b * b) + 2 * p2 * a * b
        pixels.append((matrix @ [u, v, 1.0])[:2])
    return np.array(pixels)


class TestOpenCV:
    SHAPE = (480, 640)
    MATRIX = np.array([[900.0, 0.0, 331.0], [0.0, 900.0, 228.0], [0.0, 0.0, 1.0]])

    def misses(self, camera, matrix, coefficients):
        """Distances between both on an uneven grid of pixels."""
        x, y = (g.ravel() for g in np.meshgrid(np.arange(0, 640, 37), np.arange(0, 480, 37)))
        seen = camera.pixel_to_direction(x - 320.0, y - 240.0)
        projected = opencv_project(matrix, coefficients, seen)
        return np.hypot(projected[:, 0] - x, projected[:, 1] - y)

    @pytest.mark.parametrize("center", [(0.0, 0.0), (40.0, -25.0)])
    def test_to(self, center):
        lens = RadialDistortion(-0.03, 0.004, p1=3e-5, p2=-2e-5, scale=320.0)
        camera = CameraModel(900.0, self.SHAPE, optical_center=center, distortion=lens)
        matrix, coefficients, error = camera.to_opencv()
        misses = self.misses(camera, matrix, coefficients)
        assert misses.max() <= 1.05 * error < 0.01
        # The other direction: the coefficients are not those of the model.
        assert coefficients[0] > 0 > lens.k1

    @pytest.mark.parametrize("coefficients", [[-0.2, 0.05, 1e-4, -5e-5], [0.1, -0.3, 0, 0, 0.2]])
    @pytest.mark.parametrize("aspect", [1.0, 1.003])
    def test_from_and_back(self, coefficients, aspect):
        matrix = self.MATRIX * [[1.0], [aspect], [1.0]]
        matrix[1, 2] = 228.0
        camera, error = CameraModel.from_opencv(matrix, coefficients, self.SHAPE)
        padded = np.append(coefficients, np.zeros(5 - len(coefficients)))
        assert self.misses(camera, matrix, padded).max() <= 1.05 * error <= 0.0105
        if aspect == 1.0:
            assert isinstance(camera.distortion, RadialDistortion)
            back, terms, _ = camera.to_opencv(0.05)
            np.testing.assert_array_equal(back, matrix)
            np.testing.assert_allclose(terms[0], coefficients[0], atol=0.01)

    @pytest.mark.parametrize("center", [(0.0, 0.0), (40.0, -25.0)])
    def test_to_rational(self, center):
        # So wide a lens is beyond five coefficients.
        lens = RadialDistortion(0.3, 0.1, p1=3e-4, p2=-2e-4, scale=320.0)
        camera = CameraModel(500.0, self.SHAPE, optical_center=center, distortion=lens)
        _, five, worse = camera.to_opencv(100.0)
        matrix, coefficients, error = camera.to_opencv(model="rational", tolerance_px=100.0)
        assert len(five) == 5
        assert coefficients.shape == (8,)
        assert self.misses(camera, matrix, coefficients).max() <= 1.05 * error < 0.1 * worse
        with pytest.raises(UndeterminedError, match="k4, k5, k6 miss this camera"):
            camera.to_opencv(error / 2.0, model="rational")

    @pytest.mark.parametrize("model", ["pinhole", "rational"])
    @pytest.mark.parametrize("aspect", [1.0, 1.003])
    def test_from_rational_and_back(self, model, aspect):
        matrix = self.MATRIX.copy()
        matrix[1, 1] *= aspect
        given = [0.4, -0.1, 2e-4, -1e-4, 0.02, 0.7, 0.05, 0.01]
        camera, error = CameraModel.from_opencv(matrix, given, self.SHAPE, model=model)
        assert self.misses(camera, matrix, given).max() <= 1.05 * error <= 0.0105
        if aspect == 1.0:
            back, terms, back_error = camera.to_opencv(model="rational")
            np.testing.assert_array_equal(back, matrix)
            assert self.misses(camera, back, terms).max() <= 1.05 * back_error < 0.01

    def test_a_pole_within_the_image_is_refused(self):
        with pytest.raises(UndeterminedError):
            CameraModel.from_opencv(self.MATRIX, [0, 0, 0, 0, 0, -10.0, 0, 0], self.SHAPE)

    def test_pinhole(self):
        _, coefficients, error = CameraModel(900.0, self.SHAPE).to_opencv(model="rational")
        np.testing.assert_allclose(coefficients, 0.0, atol=1e-9)
        assert error < 1e-9
        matrix, coefficients, error = CameraModel(900.0, self.SHAPE).to_opencv()
        np.testing.assert_allclose(coefficients, 0.0, atol=1e-12)
        assert matrix[0, 2] == 320.0
        assert error < 1e-9

    def test_refusals(self):
        bent = PolynomialDistortion(4, 320.0, [0, 0, 0, 5, 0, 0, *[3.0] * 9], None)
        with pytest.raises(UndeterminedError, match="more than tolerance_px"):
            CameraModel(900.0, self.SHAPE, distortion=bent).to_opencv()
        with pytest.raises(InputError, match="parity_flip"):
            CameraModel(900.0, self.SHAPE, parity_flip=True).to_opencv()
        with pytest.raises(InputError, match="camera_matrix"):
            CameraModel.from_opencv(np.zeros((3, 3)), np.zeros(5), self.SHAPE)
        with pytest.raises(InputError, match="dist_coeffs"):
            CameraModel.from_opencv(self.MATRIX, np.zeros(12), self.SHAPE)
        with pytest.raises(InputError, match="fisheye"):
            CameraModel(900.0, self.SHAPE).to_opencv(model="omnidir")
        with pytest.raises(UndeterminedError, match="folds over"):
            CameraModel.from_opencv(self.MATRIX, [-3.0, 0, 0, 0], self.SHAPE)
