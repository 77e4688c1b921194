"""WCS of other kinds: gwcs and solutions, against the directions that are true."""

import numpy as np
import pytest
from astropy.table import Table, vstack

from boresight import (
    CameraModel,
    ImageCatalog,
    PolynomialDistortion,
    RadialDistortion,
    Solution,
    align,
)
from boresight._core import quaternion_of_matrix
from boresight.alignment import Reason
from boresight.solver.matches import MatchedStars

LENS = RadialDistortion(k1=-0.02, scale=512.0)
CAMERA = CameraModel(2500.0, (768, 1024), distortion=LENS)


def rotation(ra, dec, roll):
    """Attitude, ICRS to camera, with the boresight at a place in degrees."""
    ra, dec, roll = np.radians([ra, dec, roll])
    z = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    x = np.array([-np.sin(ra), np.cos(ra), 0.0])
    y = np.cross(z, x)
    c, s = np.cos(roll), np.sin(roll)
    return np.array([c * x + s * y, -s * x + c * y, z])


def solution(attitude, camera=CAMERA):
    """A solution with this attitude and no stars to speak of."""
    matches = MatchedStars(
        [[0.0, 0.0]], [attitude[2]], camera, quaternion_of_matrix(attitude.tolist())
    )
    return Solution.from_matches(matches)


def stars_of(attitude, count=300, noise=0.02, seed=1):
    """Pixels from the centre, and the sky that they see."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform([-510, -380], [510, 380], (count, 2))
    sky = CAMERA.pixel_to_direction(*xy.T) @ attitude
    ra, dec = np.degrees(np.arctan2(sky[:, 1], sky[:, 0])), np.degrees(np.arcsin(sky[:, 2]))
    return xy + rng.normal(0, noise, xy.shape), sky, Table({"RA": ra % 360, "DEC": dec})


@pytest.mark.parametrize(
    ("off", "roll"), [((0.1, -0.05), 0.0), ((0.5, 0.3), 2.0), ((2.0, 1.0), 40.0)]
)
def test_a_solution_is_turned_exactly(off, roll):
    true = rotation(80.0, 20.0, 10.0)
    xy, sky, table = stars_of(true)
    start = solution(rotation(80.0 + off[0], 20.0 + off[1], 10.0 + roll))
    image = ImageCatalog(start, xy)
    told = align([image], table, searchrad=30, fitgeom="rshift").images[0]
    assert told.verdict == "good"
    assert isinstance(image.wcs, Solution)
    assert image.wcs is not start
    seen = image.mapping.to_sky(np.add(xy, [512, 384]))
    miss = np.linalg.norm(seen - sky, axis=1) * 2500.0
    assert np.sqrt((miss**2).mean()) < 0.03
    turned = image.wcs.rotation_matrix_icrs_to_camera @ true.T
    assert np.degrees(np.arccos((np.trace(turned) - 1) / 2)) < 2e-4


def test_solutions_are_aligned_to_each_other():
    rng = np.random.default_rng(5)
    middle = rotation(80.0, 20.0, 10.0)
    stars = CAMERA.pixel_to_direction(*rng.uniform(-700, 700, (2, 900))) @ middle
    images, true = [], []
    for k in range(8):
        off, turn = rng.uniform(-3, 3, 3), rng.uniform(-0.1, 0.1, 3) * (k > 0)
        true.append(rotation(80.0 + off[0], 20.0 + off[1], 10.0 + off[2]))
        xy = np.column_stack(CAMERA.direction_to_pixel(stars @ true[k].T))
        xy = xy[(np.abs(xy) < [511, 383]).all(axis=1) & (rng.random(len(xy)) < 0.8)]
        start = rotation(*np.add([80.0, 20.0, 10.0], off + turn))
        images.append(ImageCatalog(solution(start), xy + rng.normal(0, 0.05, xy.shape)))
    result = align(images, expand_refcat=True, searchrad=20, fitgeom="rshift")
    assert result.ok
    for image, told, attitude in zip(images[1:], result.images[1:], true[1:], strict=True):
        turned = image.wcs.rotation_matrix_icrs_to_camera @ attitude.T
        assert np.degrees(np.arccos((np.trace(turned) - 1) / 2)) < 2e-3
        # The correction is that from the solution that was given, but for what is not linear.
        at = image.original.to_plane(image.pixels)
        moved = image.original.sky_to_plane(image.mapping.to_sky(image.pixels))
        own = (at - told.center) @ told.matrix.T + told.shift + told.center
        assert np.abs(own - moved).max() < 0.2


def test_a_solution_gets_its_scale():
    true = rotation(80.0, 20.0, 10.0)
    xy, _, table = stars_of(true)
    wrong = CameraModel(2500.0 * 1.001, (768, 1024), distortion=LENS)
    image = ImageCatalog(solution(true, wrong), xy)
    align([image], table, searchrad=5)
    assert abs(image.wcs.camera_model.focal_length_px / 2500.0 - 1) < 2e-5


def test_a_radial_lens_takes_up_a_shared_distortion():
    """Brown's terms are polynomials, to which others are added exactly."""
    lens = RadialDistortion(k1=-0.02, k2=0.004, k3=-0.001, p1=1e-4, p2=-2e-4, scale=512.0)
    camera = CameraModel(2500.0, (768, 1024), distortion=lens, optical_center=(12.0, -7.0))
    start = solution(rotation(80.0, 20.0, 10.0), camera)
    mapping = ImageCatalog(start, np.zeros((1, 2))).mapping
    xy = np.random.default_rng(1).uniform(0, [1024, 768], (200, 2))
    same = mapping.distorted(PolynomialDistortion(2, 512.0))
    assert np.abs(same.to_plane(xy) - mapping.to_plane(xy)).max() < 1e-7
    # A frame of another lens, aligned by stars that the true one has seen.
    images, stars = [], []
    for k, off in enumerate((-6.0, 0.0, 6.0)):
        true = rotation(80.0 + off, 20.0, 10.0)
        seen, _, table = stars_of(true, seed=k, count=400)
        wrong = CAMERA.replace(distortion=RadialDistortion(k1=-0.015, scale=512.0))
        images.append(ImageCatalog(solution(true, wrong), seen))
        stars.append(table)
    result = align(images, vstack(stars), method="global", fitgeom="rscale", distortion_order=3,
                   searchrad=10, tolerance=5)  # fmt: skip
    assert result.ok
    assert result.fit.rmse_px < 0.05


def test_a_camera_cannot_be_mirrored():
    true = rotation(80.0, 20.0, 10.0)
    xy, _, table = stars_of(true)
    start = solution(true)
    image = ImageCatalog(start, xy * [-1, 1])
    told = align([image], table, match=lambda reference, sources: (np.arange(300), np.arange(300)))
    assert told.images[0].reason == Reason.WCS_CANNOT_FOLLOW
    assert image.wcs is start


def test_a_gwcs_is_corrected():
    pytest.importorskip("gwcs")
    true = rotation(80.0, 20.0, 10.0)
    xy, sky, table = stars_of(true)
    start = solution(rotation(80.02, 20.01, 10.1)).gwcs()
    before = start.forward_transform.n_submodels
    image = ImageCatalog(start, np.add(xy, [512, 384]), image_shape=(768, 1024))
    told = align([image], table, searchrad=30, fitgeom="rscale").images[0]
    assert told.verdict == "good"
    assert start.forward_transform.n_submodels == before
    seen = image.mapping.to_sky(np.add(xy, [512, 384]))
    assert np.median(np.linalg.norm(seen - sky, axis=1)) * 2500.0 < 0.05
    pixels = image.wcs.numerical_inverse(80.0, 20.0, with_bounding_box=False)
    assert np.isfinite(pixels).all()
