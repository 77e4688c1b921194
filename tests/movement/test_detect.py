"""Detection of movements: of scenes and of star frames, with truth, and what must be refused."""

import importlib.util

import numpy as np
import pytest

from boresight import InputError
from boresight.movement import DetectionFailedError, detect_movement, phase_correlation_movement

SHAPE = (420, 560)


def similarity(degrees, scale, shift):
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    middle = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2])
    turn = np.array([[c, -s], [s, c]])
    return np.vstack([np.column_stack([turn, middle - turn @ middle + shift]), [0, 0, 1]])


def scene(matrix, seed, noise=2.0):
    """Move a scene that is known at every place, waves of all directions, by a matrix."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    u, v, w = np.tensordot(matrix, np.stack([x, y, np.ones(SHAPE)]), 1)
    u, v = u / w, v / w
    image = np.full(SHAPE, 120.0)
    for _ in range(40):
        angle, length, phase = rng.uniform(0, np.pi), rng.uniform(7, 60), rng.uniform(0, 7)
        wave = (u * np.cos(angle) + v * np.sin(angle)) * 2 * np.pi / length + phase
        image += 7 * np.sin(wave) * np.cos(u * rng.uniform(-0.03, 0.03) + rng.uniform(0, 7))
    return image + np.random.default_rng(seed + 1000 + int(abs(matrix[0, 2]) * 7)).normal(
        0, noise, SHAPE
    )


def as_bytes(image):
    return np.clip(image, 0, 255).astype(np.uint8)


def star_frame(matrix, seed, count=120, replaced=0.0):
    """Frame of stars whose places are known, and some of which are others than in the reference."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-200, 760, (3 * count, 2))
    flux = 80 * rng.random(3 * count) ** (-1 / 1.2)
    there = np.linalg.inv(matrix)
    moved = xy @ there[:2, :2].T + there[:2, 2]
    other = np.random.default_rng(seed + 7).random(len(moved)) < replaced
    moved[other] = np.random.default_rng(seed + 8).uniform(0, 500, (other.sum(), 2))
    image = np.random.default_rng(seed + 50 + int(abs(matrix[0, 2]) * 9)).normal(100, 10, SHAPE)
    for (x, y), f in zip(moved, np.minimum(flux, 2e4), strict=True):
        i, j = round(x), round(y)
        if 6 <= i < SHAPE[1] - 6 and 6 <= j < SHAPE[0] - 6:
            gx = np.exp(-0.5 * ((np.arange(i - 5, i + 6) - x) / 0.9) ** 2)
            gy = np.exp(-0.5 * ((np.arange(j - 5, j + 6) - y) / 0.9) ** 2)
            image[j - 5 : j + 6, i - 5 : i + 6] += f * gy[:, None] * gx
    return image.clip(0, 65535).astype(np.uint16)


def error(found, truth):
    """Root mean square distance over the frame."""
    y, x = np.mgrid[0 : SHAPE[0] : 40, 0 : SHAPE[1] : 40].astype(float)
    at = found.moved_to_ref_coords(x, y)
    u, v, w = np.tensordot(truth, np.stack([x, y, np.ones_like(x)]), 1)
    return float(np.sqrt(np.mean((at[0] - u / w) ** 2 + (at[1] - v / w) ** 2)))


STAY = np.eye(3)
MOVES = {
    "shift": similarity(0, 1, (17.3, -24.8)),
    "turned": similarity(6.0, 1.03, (-21.7, 11.2)),
}


@pytest.mark.parametrize("name", MOVES)
def test_scenes(name):
    found = detect_movement(as_bytes(scene(STAY, 1)), as_bytes(scene(MOVES[name], 1)))
    assert found.method == "phase"
    assert error(found, MOVES[name]) < 0.05
    assert found.get_ddscore(scene(STAY, 1), scene(MOVES[name], 1)) > 0.5
    x, y = found.shift_sigma
    assert 1e-4 < x < 0.05
    assert 1e-4 < y < 0.05
    assert found.rotation_sigma < 0.01
    assert found.log10_chance < -20
    assert np.abs(found.residuals[found.inliers]).max() < 1.5


def test_a_projective_movement():
    truth = MOVES["turned"] + [[0, 0, 0], [0, 0, 0], [2e-5, -3e-5, 0]]
    first, second = scene(STAY, 2), scene(truth, 2)
    found = detect_movement(first, second, transform="projective")
    assert error(found, truth) < 0.1
    assert error(detect_movement(first, second, transform="affine"), truth) > 0.5


def test_features_find_what_is_turned_far():
    pytest.importorskip("cv2")
    truth = similarity(65.0, 0.9, (4.0, 9.0))
    found = detect_movement(as_bytes(scene(STAY, 3)), as_bytes(scene(truth, 3)), method="features")
    assert found.method == "features"
    assert error(found, truth) < 0.05


def test_features_without_opencv_name_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ModuleNotFoundError, match=r"boresight\[movement\]"):
        detect_movement(scene(STAY, 1), scene(STAY, 1), method="features")
    assert importlib.util.find_spec("boresight.movement.features")


@pytest.mark.parametrize("truth", [MOVES["shift"], similarity(123.0, 1.1, (30.0, -50.0))])
def test_stars(truth):
    found = detect_movement(star_frame(STAY, 4), star_frame(truth, 4, replaced=0.2))
    assert found.method == "stars"
    assert error(found, truth) < 0.06
    assert max(found.shift_sigma) < 0.05


def test_phase_correlation():
    found = phase_correlation_movement(scene(STAY, 5), scene(MOVES["shift"], 5))
    assert found.shift == pytest.approx((17.3, -24.8), abs=0.03)
    assert found.rotation == 0.0
    with pytest.raises(DetectionFailedError):
        phase_correlation_movement(scene(STAY, 5), scene(STAY, 6))


@pytest.mark.parametrize("seed", range(2))
def test_unrelated_images_are_refused(seed):
    for first, second in (
        (as_bytes(scene(STAY, 10 + seed)), as_bytes(scene(STAY, 40 + seed))),
        (star_frame(STAY, 10 + seed), star_frame(STAY, 40 + seed)),
        (scene(STAY, seed), star_frame(STAY, seed)),
    ):
        with pytest.raises(DetectionFailedError):
            detect_movement(first, second)


def test_identical_images_have_not_moved():
    for image in (scene(STAY, 1), as_bytes(scene(STAY, 1)), star_frame(STAY, 1)):
        found = detect_movement(image, image)
        assert error(found, STAY) < 1e-3


@pytest.mark.parametrize(
    "image",
    [
        np.zeros(SHAPE),
        np.full(SHAPE, 65535, np.uint16),
        np.full(SHAPE, np.nan),
        np.zeros((1, 1)),
        np.zeros((1, 500)),
        np.random.default_rng(0).normal(0, 1, SHAPE),
    ],
    ids=["blank", "saturated", "nan", "1x1", "a row", "noise"],
)
def test_images_without_anything_are_refused(image):
    other = scene(STAY, 1) if image.shape == SHAPE else np.ones(image.shape)
    for first, second in ((image, other), (other, image)):
        with pytest.raises(DetectionFailedError):
            detect_movement(first, second)
    with pytest.raises(DetectionFailedError):
        phase_correlation_movement(image, other)


def test_images_of_every_kind():
    first, second = scene(STAY, 1), scene(MOVES["shift"], 1)
    second[50:80, 100:140] = np.nan
    assert error(detect_movement(first * 1e30, second * 1e30), MOVES["shift"]) < 0.05
    colours = [np.repeat(as_bytes(np.nan_to_num(i))[..., None], 3, 2) for i in (first, second)]
    assert error(detect_movement(*colours), MOVES["shift"]) < 0.05
    masked = [np.ma.masked_invalid(i) for i in (first, second)]
    assert error(detect_movement(*masked), MOVES["shift"]) < 0.05

    class Calibration:
        image = None

    with pytest.raises(InputError, match="ref: this calibration carries no image"):
        detect_movement(Calibration(), second)
    Calibration.image = first
    assert error(detect_movement(Calibration(), second), MOVES["shift"]) < 0.05


def test_bad_arguments():
    first = scene(STAY, 1)
    with pytest.raises(ValueError, match="moved: its shape"):
        detect_movement(first, first[1:])
    with pytest.raises(InputError, match="method"):
        detect_movement(first, first, method="guess")
    with pytest.raises(InputError, match="transform"):
        detect_movement(first, first, transform="elastic")
    with pytest.raises(InputError, match="ref"):
        detect_movement("abc"[:0] or np.array(["a"]), first)


def test_real_pairs(reference):
    import json

    from PIL import Image

    folder = reference / "frames"
    for pair in json.loads((folder / "pairs.json").read_text()):
        first, second = (np.asarray(Image.open(folder / pair[k]).convert("L")) for k in "ab")
        x, y = detect_movement(first, second).shift
        wanted = pair["shift_px"]
        # Their shift is that of a point of the moved frame minus its place in the reference.
        limit = 0.6 if "polar" in pair["a"] else 0.25
        assert np.hypot(-x - wanted[0], -y - wanted[1]) < limit, pair["a"]
