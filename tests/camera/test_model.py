"""The camera model at the Python border: conventions, broadcasting, files, bad input."""

import json
import pickle

import numpy as np
import pytest
from astropy.utils.masked import Masked
from hypothesis import given, settings
from hypothesis import strategies as st

from boresight import (
    CameraModel,
    FileFormatError,
    InputError,
    PolynomialDistortion,
    RadialDistortion,
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
        (lambda: CAMERAS[0].pixel_to_direction("a", 1), "x: "),
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


def test_masked_numbers_are_unknown():
    camera = CameraModel.from_fov(20.0, (100, 100))
    x = np.ma.masked_array([1.0, 2.0], [False, True])
    for masked in (x, Masked(x.data, mask=x.mask)):
        seen = camera.pixel_to_direction(masked, 0.0)
        assert np.array_equal(np.isnan(seen).all(axis=1), x.mask)
        assert np.array_equal(seen[0], camera.pixel_to_direction(1.0, 0.0))
    direction = np.ma.masked_array([[0.0, 0.0, 1.0]] * 2, [[False] * 3, [False, False, True]])
    assert np.array_equal(np.isnan(camera.direction_to_pixel(direction)[0]), [False, True])
