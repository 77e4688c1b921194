"""OpenCV conversion against a projection by its documented formulas."""

import numpy as np
import pytest

from boresight import (
    CameraModel,
    InputError,
    PolynomialDistortion,
    RadialDistortion,
    UndeterminedError,
)


def opencv_project(matrix, coefficients, directions):
    """Project points by the formulas of OpenCV's manual for projectPoints."""
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
