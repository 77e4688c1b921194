"""Images of one sky, written down as a formula: what lies where is known."""

import numpy as np
import pytest
from astropy.nddata import CCDData, VarianceUncertainty
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from boresight import InputError, UndeterminedError, scene

RNG = np.random.default_rng(5)
SPOTS = np.column_stack([
    RNG.uniform(-20, 180, 60), RNG.uniform(-20, 160, 60), RNG.uniform(2.0, 8.0, 60),
    RNG.uniform(20, 100, 60),
])  # fmt: skip


def sky(x, y, widen=0.0):
    light = np.zeros(np.broadcast_shapes(np.shape(x), np.shape(y)))
    for cx, cy, width, peak in SPOTS:
        v = width**2 + widen
        light += peak * width**2 / v * np.exp(-0.5 * ((x - cx) ** 2 + (y - cy) ** 2) / v)
    return light


def view(matrix, shift, *, shape=(140, 160), noise=0.3, seed=0, widen=0.0, center=(79.5, 69.5)):
    """The image whose pixel p shows the sky at ``center + matrix (p - center) + shift``."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    u, v = x - center[0], y - center[1]
    x, y = (center[i] + matrix[i][0] * u + matrix[i][1] * v + shift[i] for i in (0, 1))
    return sky(x, y, widen) + np.random.default_rng(seed).normal(0.0, noise, shape)


def rotation(phi, scale=1.0):
    return scale * np.array([[np.cos(phi), -np.sin(phi)], [np.sin(phi), np.cos(phi)]])


REFERENCE = view(np.eye(2), (0, 0), seed=1)


@pytest.mark.parametrize(
    ("freedom", "matrix"),
    [
        ("shift", np.eye(2)),
        ("rshift", rotation(0.05)),
        ("rscale", rotation(-0.04, 1.015)),
        ("general", [[1.01, 0.02], [-0.03, 0.99]]),
    ],
)
def test_every_freedom_is_found_within_its_errors(freedom, matrix):
    image = 3.0 * view(matrix, (6.4, -8.7), seed=2) + 100.0
    found = scene.register(image, REFERENCE, freedom)
    assert found.status == "converged"
    truth = {"shift": [], "rshift": [0.05], "rscale": [-0.04, 1.015],
             "general": [0.01, 0.02, -0.03, -0.01]}[freedom]  # fmt: skip
    assert len(found.parameters) == len(found.parameter_names)
    pulls = (found.parameters - np.array([6.4, -8.7, *truth])) / found.errors
    assert np.abs(pulls).max() < 4.5
    assert found.errors[:2].max() < 0.02
    assert found.gain == pytest.approx(3.0, rel=0.01)
    assert found.offset == pytest.approx(100.0, abs=2.0)
    x, y = found.to_reference(10.0, 20.0)
    assert found.from_reference(x, y) == pytest.approx((10.0, 20.0))


@settings(max_examples=8, deadline=None)
@given(
    dx=st.floats(-15, 15),
    dy=st.floats(-15, 15),
    gain=st.floats(0.1, 50),
    level=st.floats(-1e3, 1e3),
)
def test_gain_and_offset_do_not_move_it(dx, dy, gain, level):
    image = view(np.eye(2), (dx, dy), seed=3)
    plain = scene.register(image, REFERENCE, "shift")
    changed = scene.register(gain * image + level, REFERENCE, "shift")
    assert plain.shift_px == pytest.approx((dx, dy), abs=0.05)
    assert changed.shift_px == pytest.approx(plain.shift_px, abs=2e-3)


def test_the_way_back_is_the_inverse():
    image = view(rotation(0.03), (2.0, 1.0), seed=4)
    there = scene.register(image, REFERENCE)
    back = scene.register(REFERENCE, image)
    x, y = back.to_reference(*there.to_reference([5.0, 150.0], [130.0, 20.0]))
    np.testing.assert_allclose([x, y], [[5.0, 150.0], [130.0, 20.0]], atol=0.05)


def test_seeing_is_matched():
    wide = view(np.eye(2), (1.3, 0.4), seed=5, widen=3.0, noise=0.05)
    found = scene.register(wide, view(np.eye(2), (0, 0), seed=6, noise=0.05), "shift")
    assert found.blur_px2 == pytest.approx(3.0, abs=0.2)
    assert found.shift_px == pytest.approx((1.3, 0.4), abs=0.02)


def test_what_is_in_one_image_only_hardly_pulls():
    image = view(np.eye(2), (3.0, -2.0), seed=7)
    clean = scene.register(image, REFERENCE, "shift")
    image[60:64, 70:78] += 500.0
    image[100, :] = np.nan
    found = scene.register(image, REFERENCE, "shift")
    assert found.status == "converged"
    assert np.hypot(*np.subtract(found.shift_px, clean.shift_px)) < 0.05


def test_known_noise_gives_chi2():
    uncertainty = VarianceUncertainty(np.full(REFERENCE.shape, 0.09))
    images = [
        scene.Image(CCDData(pixels, unit="adu", uncertainty=uncertainty))
        for pixels in (view(np.eye(2), (0.6, 0.2), seed=8), REFERENCE)
    ]
    found = scene.register(*images, "shift")
    assert found.chi2_dof == pytest.approx(1.0, abs=0.05)


def header(crpix, angle=0.0):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [83.0, -5.0]
    wcs.wcs.crpix = crpix
    wcs.wcs.cd = np.diag([-1.0, 1.0]) @ rotation(angle) / 3600
    return wcs


def test_the_wcs_is_that_of_the_reference():
    # Too far apart to find without the WCS of both, which are 1.5 px off.
    shape, shift = (140, 160), np.array([70.0, 0.0])
    image = scene.Image(
        view(np.eye(2), shift, seed=9, shape=shape), header((80.5 - 71.5, 70.5)), variance=0.09
    )
    reference = scene.Image(REFERENCE, header((80.5, 70.5)), variance=0.09)
    found = scene.register(image, reference, "shift", search=False)
    assert found.status == "converged"
    assert found.transform[:, 2] == pytest.approx(shift, abs=0.05)
    assert found.shift_px == pytest.approx((-1.5, 0.0), abs=0.05)
    sky = found.wcs.pixel_to_world(20.0, 30.0)
    truth = reference.wcs.pixel_to_world(*found.to_reference(20.0, 30.0))
    assert sky.separation(truth).arcsec < 1e-3


def test_errors_name_the_argument():
    with pytest.raises(InputError, match="freedom: 'turn'"):
        scene.register(REFERENCE, REFERENCE, "turn")
    with pytest.raises(InputError, match='loss: "l1"'):
        scene.register(REFERENCE, REFERENCE, loss="l1")
    with pytest.raises(InputError, match="reference: all pixels"):
        scene.register(REFERENCE, np.full((50, 50), np.nan))
    with pytest.raises(InputError, match="image: its size"):
        scene.register(np.ones((3, 3)), REFERENCE)
    with pytest.raises(UndeterminedError, match="hardly any pixel"):
        scene.register(
            scene.Image(REFERENCE, header((80.5, 70.5))),
            scene.Image(REFERENCE, header((5000.5, 70.5))),
        )


def test_noise_alone_has_nothing_in_common():
    noise = np.random.default_rng(3).normal(0.0, 1.0, (2, 80, 90))
    assert scene.register(noise[0], noise[1]).status == "failed"


@pytest.mark.parametrize("gain", [1.0, 2.0])
@pytest.mark.parametrize("match_psf", [False, True])
def test_images_that_differ_in_nothing_but_rounding_converge(gain, match_psf):
    found = scene.register(REFERENCE, gain * REFERENCE, match_psf=match_psf)
    assert found.status == "converged"
    assert np.allclose(found.shift_px, 0.0, atol=1e-9)
    assert found.gain == pytest.approx(1.0 / gain)


def test_it_is_told_in_one_line():
    found = scene.register(REFERENCE, REFERENCE)
    assert repr(found).startswith("<Registration: converged, shift (")
    assert "\n" not in repr(found)
