"""Distortion models against their formulas."""

import numpy as np

from boresight import PolynomialDistortion, RadialDistortion


def polynomial(order=3, scale=512.0, size=3.0, seed=1):
    rng = np.random.default_rng(seed)
    n = (order + 1) * (order + 2) // 2
    return PolynomialDistortion(
        order, scale, rng.uniform(-size, size, n), rng.uniform(-size, size, n)
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
