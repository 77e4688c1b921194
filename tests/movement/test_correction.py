"""Corrections: coordinates, warps, the DDScore and the files."""

import json

import numpy as np
import pytest
from astropy.utils.masked import Masked
from hypothesis import given
from hypothesis import strategies as st

from boresight import FileFormatError, InputError
from boresight.movement import MovementCorrection

SHAPE = (60, 80)


def similarity(degrees=7.0, scale=1.05, shift=(3.5, -2.25)):
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    middle = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2])
    turn = np.array([[c, -s], [s, c]])
    return np.column_stack([turn, middle - turn @ middle + shift])


PROJECTIVE = [[1.02, 0.03, -2.0], [-0.05, 0.97, 4.0], [4e-4, -3e-4, 1.0]]


def correction(matrix, shape=SHAPE):
    return MovementCorrection(matrix, shape, [], [], "test")


def scene(shape=SHAPE):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return 120 + 60 * np.sin(x / 5.0) * np.cos(y / 7.0) + 0.3 * x


def test_what_the_matrix_says():
    found = correction(similarity())
    assert found.rotation == pytest.approx(7.0)
    assert found.scale == pytest.approx(1.05)
    assert found.translation == (found.matrix[0, 2], found.matrix[1, 2])
    assert found.shift == pytest.approx((3.5, -2.25))
    assert found.src == found.history == "test"
    assert found.shift_sigma is None
    assert found.rotation_sigma is None


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=2), st.booleans())
def test_there_and_back(point, projective):
    found = correction(PROJECTIVE if projective else similarity())
    x, y = found.moved_to_ref_coords(*point)
    depth = np.array(PROJECTIVE[2]) @ [*point, 1.0] if projective else 1.0
    matrix = found.matrix
    assert [x, y] == pytest.approx((matrix[:2] @ [*point, 1.0]) / depth)
    assert found.ref_to_moved_coords(x, y) == pytest.approx(point, abs=1e-9)


def test_arrays_broadcast_and_the_horizon_is_nan():
    found = correction([[1, 0, 0], [0, 1, 0], [-0.02, 0, 1]])
    x, _ = found.moved_to_ref_coords(np.array([[10.0], [60.0]]), np.arange(3.0))
    assert x.shape == (2, 3)
    assert np.isfinite(x[0]).all()
    assert np.isnan(x[1]).all()
    # The same transform by another number is the same.
    assert np.allclose(correction(-2.0 * np.array(PROJECTIVE)).matrix, PROJECTIVE)


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "u2", "i4", "i8", "u8", "f2", "f4", "f8", ">i2", "?"]
)
@pytest.mark.parametrize("interp", ["linear", "nearest"])
def test_warps_keep_the_type(dtype, interp):
    image = (scene() > 120 if dtype == "?" else scene() / 2).astype(dtype)
    warped, mask = correction(similarity()).warp_moved_to_ref(image, interp=interp)
    assert warped.dtype == image.dtype.newbyteorder("=")
    assert warped.shape == mask.shape == SHAPE
    assert mask.dtype == bool
    assert 0.5 < mask.mean() < 1
    assert not warped[~mask].any()


@pytest.mark.parametrize("matrix", [similarity(), PROJECTIVE], ids=["similarity", "projective"])
@pytest.mark.parametrize("interp", ["linear", "nearest"])
@pytest.mark.parametrize("fill", [False, True])
def test_warps_are_those_of_opencv(matrix, interp, fill):
    cv2 = pytest.importorskip("cv2")
    found = correction(matrix)
    image = scene().astype(np.float32)
    flags = cv2.INTER_LINEAR if interp == "linear" else cv2.INTER_NEAREST
    border = cv2.BORDER_REPLICATE if fill else cv2.BORDER_CONSTANT
    for warp, extra in (
        (found.warp_moved_to_ref, 0),
        (found.warp_ref_to_moved, cv2.WARP_INVERSE_MAP),
    ):
        ours, mask = warp(image, interp, fill)
        theirs = cv2.warpPerspective(
            image, found.matrix, SHAPE[::-1], flags=flags + extra, borderMode=border
        )
        # OpenCV rounds places to a 32nd of a pixel; nearest ones may differ where two are as near.
        different = np.abs(ours - theirs)[mask | fill]
        assert np.quantile(different, 0.9) < (1.0 if interp == "linear" else 1e-6)


def test_a_warp_undoes_the_movement():
    found = correction(similarity(), (600, 800))
    y, x = np.mgrid[:600, :800].astype(float)
    at_x, at_y = found.moved_to_ref_coords(x, y)
    moved = 50 * np.sin(at_x / 25) * np.cos(at_y / 30)  # the reference, seen where it has moved to
    back, mask = found.warp_moved_to_ref(moved)
    truth = 50 * np.sin(x / 25) * np.cos(y / 30)
    assert np.abs(back - truth)[mask].max() < 0.05
    again, mask = found.warp_ref_to_moved(truth)
    assert np.abs(again - moved)[mask].max() < 0.05


def test_binned_and_enlarged_images():
    found = correction([[1, 0, 8.0], [0, 1, -4.0]], (600, 800))
    full = np.zeros((600, 800))
    full[300:320, 400:420] = 1.0
    for factor in (2, 4):
        binned = full.reshape(600 // factor, factor, 800 // factor, factor).mean((1, 3))
        warped, _ = found.warp_moved_to_ref(binned)
        expected, _ = found.warp_moved_to_ref(full)
        assert np.allclose(
            warped, expected.reshape(600 // factor, factor, 800 // factor, factor).mean((1, 3))
        )
    large, mask = found.warp_moved_to_ref(np.kron(full, np.ones((2, 2))))
    assert np.allclose(large[mask], np.kron(expected, np.ones((2, 2)))[mask])
    with pytest.raises(InputError, match="aspect ratio"):
        found.warp_moved_to_ref(np.zeros((600, 700)))


def test_colours_masks_and_nan():
    found = correction([[1, 0, 2.0], [0, 1, 0.0]])
    colours = np.stack([scene(), scene() + 1, scene() + 2], axis=2)
    warped, mask = found.warp_moved_to_ref(colours)
    assert warped.shape == colours.shape
    assert np.allclose(warped[mask][:, 2] - warped[mask][:, 0], 2.0)
    hole = scene()
    hole[10, 20] = np.nan
    _, mask = found.warp_moved_to_ref(hole)
    assert not mask[10, 22]
    assert mask[10, 21]
    masked = np.ma.masked_array(scene(), np.zeros(SHAPE, bool))
    masked[10, 20] = np.ma.masked
    assert np.array_equal(found.warp_moved_to_ref(masked)[1], mask)
    also = Masked(masked.data, mask=masked.mask)
    assert np.array_equal(found.warp_moved_to_ref(also)[1], mask)


def test_fill_edges_repeats_the_edge():
    found = correction([[1, 0, 10.0], [0, 1, 0.0]])
    image = scene()
    filled, mask = found.warp_moved_to_ref(image, fill_edges=True)
    assert np.allclose(filled[:, :10], image[:, :1])
    assert not mask[:, :10].any()
    assert mask[:, 10:].all()


def test_ddscore():
    image = np.clip(scene((200, 260)) + 60, 0, 255).astype(np.uint8)
    right = correction([[1, 0, 6.0], [0, 1, 0.0]], image.shape)
    moved = right.warp_ref_to_moved(image, fill_edges=True)[0]
    wrong = correction([[1, 0, -6.0], [0, 1, 0.0]], image.shape)
    none = correction(np.eye(3), image.shape)
    assert right.get_ddscore(image, moved) == 1.0
    assert wrong.get_ddscore(image, moved) < 0.0
    assert none.get_ddscore(image, moved) == 0.0
    # No counts of 8-bit images elsewhere: the same image times a thousandth, with noise.
    rng = np.random.default_rng(1)
    small = [0.001 * (i + rng.normal(0, 2.0, i.shape)) for i in (image, moved)]
    assert right.get_ddscore(*small) > 0.9
    assert wrong.get_ddscore(*small) < 0.0
    noise = [rng.normal(100, 5, image.shape) for _ in range(2)]
    assert abs(right.get_ddscore(*noise)) < 0.5


def test_files(tmp_path):
    cov = np.diag(np.arange(1.0, 9.0)) * 1e-6
    found = MovementCorrection(
        PROJECTIVE, SHAPE, [[1, 2], [3, 4]], [[5, 6], [7, 8]], "by hand",
        method="manual", covariance=cov, inliers=[True, False], log10_chance=-9.5,
    )  # fmt: skip
    folder = tmp_path / "run.1"
    folder.mkdir()
    found.save(folder / "x.cal")
    found.save(str(folder / "y.cmc"))
    assert sorted(p.name for p in folder.iterdir()) == ["x.cal.cmc", "y.cmc"]
    back = MovementCorrection.load(str(folder / "y.cmc"))
    for name in ("matrix", "ref_points", "moved_points", "covariance", "inliers"):
        assert np.array_equal(getattr(back, name), getattr(found, name))
    for name in ("im_shape", "history", "method", "log10_chance"):
        assert getattr(back, name) == getattr(found, name)


def test_a_file_of_calcam(tmp_path):
    values = {
        "transform_matrix": [[1.0, 0.0, 5.0], [0.0, 1.0, -3.0], [0.0, 0.0, 1.0]],
        "im_array_shape": [60, 80],
        "ref_points": [[1.0, 2.0]],
        "moved_points": [[-4.0, 5.0]],
        "history": "Auto-generated by somebody",
    }
    path = tmp_path / "theirs.cmc"
    path.write_text(json.dumps(values, indent=4))
    found = MovementCorrection.load(path)
    assert found.translation == (5.0, -3.0)
    assert found.history == "Auto-generated by somebody"
    assert np.allclose(found.residuals, 0.0)
    # What we write has the keys that calcam reads, of the same kind.
    found.save(path)
    ours = json.loads(path.read_text())
    assert {key: ours[key] for key in values} == values


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1, 2]", b"{}", b"\xff\xfe", b'{"transform_matrix": 3, "im_array_shape": [1, 2],'
     b' "ref_points": [], "moved_points": [], "history": ""}',
     b'{"transform_matrix": [[1,0,0],[0,0,0]], "im_array_shape": [60, 80],'
     b' "ref_points": [], "moved_points": [], "history": ""}'],
)  # fmt: skip
def test_truncated_and_foreign_files(tmp_path, content):
    path = tmp_path / "bad.cmc"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"bad\.cmc"):
        MovementCorrection.load(path)


@pytest.mark.parametrize(
    "matrix",
    [np.zeros((3, 3)), [[1, 0, 0], [1, 0, 0]], [[np.nan, 0, 0], [0, 1, 0]], np.eye(2), "matrix",
     [[1, 0, np.inf], [0, 1, 0]], [[1, 2, 0], [2, 4, 0]]],
)  # fmt: skip
def test_matrices_that_are_none(matrix):
    with pytest.raises(InputError, match="matrix"):
        correction(matrix)


def test_other_bad_arguments():
    with pytest.raises(InputError, match="moved_points"):
        MovementCorrection(np.eye(3), SHAPE, [[1, 2]], [], "")
    with pytest.raises(InputError, match="ref_points"):
        MovementCorrection(np.eye(3), SHAPE, [[1, np.nan]], [[1, 2]], "")
    with pytest.raises(InputError, match="inliers"):
        MovementCorrection(np.eye(3), SHAPE, [[1, 2]], [[1, 2]], "", inliers=[True, False])
    with pytest.raises(InputError, match="covariance"):
        MovementCorrection(np.eye(3), SHAPE, [], [], "", covariance=np.eye(3))
    with pytest.raises(InputError, match="image_shape"):
        MovementCorrection(np.eye(3), (0, 3), [], [], "")
    found = correction(np.eye(3))
    with pytest.raises(InputError, match="interp"):
        found.warp_moved_to_ref(scene(), interp="cubic")
    with pytest.raises(InputError, match="image"):
        found.warp_moved_to_ref(np.array(["a"]))
    with pytest.raises(InputError, match="covariance"):
        found.position_cov(0, 0)
    with pytest.raises(InputError, match="moved_im"):
        found.get_ddscore(scene(), scene()[1:])


def test_one_pixel():
    warped, mask = correction(np.eye(3), (1, 1)).warp_moved_to_ref(np.array([[7]]))
    assert warped == [[7]]
    assert mask.all()


@pytest.mark.parametrize("tol", [-1, float("nan"), "many"])
def test_a_tolerance_that_is_none_is_refused(tol):
    image = np.zeros((10, 12), np.uint8)
    shift = MovementCorrection([[1, 0, 5], [0, 1, -2]], image.shape, [], [], "")
    with pytest.raises(InputError, match="tol"):
        shift.get_ddscore(image, image, tol)


def test_a_correction_as_numbers_and_in_a_notebook():
    correction = MovementCorrection([[1, 0, 3], [0, 1, -2]], (100, 200), [], [], "<by hand>")
    told = json.loads(json.dumps(correction.to_dict(), allow_nan=False))
    assert told["shift_px"] == [3.0, -2.0]
    assert told["shift_sigma_px"] is None
    assert "&lt;by hand&gt;" in correction._repr_html_()
