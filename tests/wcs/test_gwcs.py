"""Export to gwcs and ASDF against the solution itself and astropy's FITS WCS."""

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from boresight import (
    ApparentPlace,
    CameraModel,
    InputError,
    MatchedStars,
    PolynomialDistortion,
    RadialDistortion,
    Refraction,
    Solution,
    UndeterminedError,
    earth_barycentric_velocity,
)
from boresight.simulate import tess_like_camera
from boresight.wcs.gwcs import asdf_bytes

pytest.importorskip("gwcs")
asdf = pytest.importorskip("asdf")

SHAPE = (768, 1024)
BROWN = RadialDistortion(-0.03, 0.004, -1e-3, 1e-3, -2e-3, k4=2e-4, scale=512.0)
VELOCITY = np.array([20.0, -10.0, 15.0])
AIR = Refraction((0.36, 0.48, 0.8), 2.8e-4, -3e-7)
POLES = [(1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0)]


def polynomial(order):
    rng = np.random.default_rng(order)
    n = (order + 1) * (order + 2) // 2
    return PolynomialDistortion(order, 512.0, *rng.uniform(-3, 3, (2, n)))


CAMERAS = {
    "pinhole": CameraModel(2500.0, SHAPE),
    "mirrored": CameraModel(2500.0, SHAPE, parity_flip=True, optical_center=(3.0, -5.0)),
    "shift": CameraModel(2500.0, SHAPE, distortion=polynomial(0)),
    "polynomial": CameraModel(2500.0, SHAPE, distortion=polynomial(4)),
    "highest polynomial": CameraModel(2500.0, SHAPE, distortion=polynomial(9)),
    "radial": CameraModel(2500.0, SHAPE, distortion=RadialDistortion(-0.03, 0.004, scale=512.0)),
    "mirrored brown": CameraModel(
        2500.0, SHAPE, parity_flip=True, optical_center=(12.0, -7.0), distortion=BROWN
    ),
    "barrel": CameraModel(900.0, SHAPE, distortion=RadialDistortion(-0.15, 0.02, scale=512.0)),
    "off axis": tess_like_camera(),
} | {
    name + (" bent" if lens else ""): CameraModel.from_fov(
        150.0, SHAPE, projection=name, distortion=lens, optical_center=(5.0, 8.0)
    )
    for name in ("equidistant", "equisolid", "stereographic", "orthographic")
    for lens in (None, RadialDistortion(0.03, -0.01, scale=512.0))
}
PHYSICS = {
    "no physics": (None, None),
    "aberration": (VELOCITY, None),
    "from behind": (-VELOCITY, None),
    "refraction": (None, AIR),
    "both": (VELOCITY, AIR),
}


def solved(camera, quaternion, velocity=None, refraction=None):
    """Solution of a frame with this attitude."""
    velocity = None if velocity is None else tuple(velocity)
    place = ApparentPlace(velocity_km_s=velocity, refraction=refraction)
    nothing = np.empty((0, 2)), np.empty((0, 3))
    return Solution.from_matches(MatchedStars(*nothing, camera, quaternion, place))


def stored(solution, **options):
    """Its WCS, written and read again."""
    with asdf.open(io.BytesIO(asdf_bytes(solution.gwcs(**options)))) as file:
        return file["wcs"]


def pixels_of(camera, n=25):
    """0-based columns and rows from edge to edge, and the same from the image centre."""
    height, width = camera.image_shape
    sides = np.linspace(-0.5, width - 0.5, n), np.linspace(-0.5, height - 0.5, n)
    column, row = (pixels.ravel() for pixels in np.meshgrid(*sides))
    return column, row, column - width / 2, row - height / 2


def unit(ra, dec):
    ra, dec = np.radians(ra), np.radians(dec)
    return np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def errors_px(wcs, solution):
    """Largest errors over the image from pixel to sky and from sky to pixel."""
    camera = solution.camera_model
    column, row, x, y = pixels_of(camera)
    sky, true = wcs(column, row), solution.pixel_to_world(x, y)
    np.testing.assert_array_equal(np.isnan(sky), np.isnan(true))
    forward = np.linalg.norm(unit(*sky) - unit(*true), axis=0) * camera.focal_length_px
    # Only where no other pixel sees the same: beyond, no inverse can be right.
    back_x, back_y = solution.world_to_pixel(*true)
    with np.errstate(invalid="ignore"):
        one_to_one = np.hypot(back_x - x, back_y - y) < 1e-6
    assert one_to_one.mean() > 0.8
    back = np.array(wcs.invert(*true, with_bounding_box=False)) - (column, row)
    return np.nanmax(forward), np.hypot(*back)[one_to_one].max()


@pytest.mark.parametrize(
    ("name", "physics"),
    [(name, "both") for name in CAMERAS if name not in ("off axis", "equisolid")]
    + [(name, physics) for name in ("off axis", "equisolid") for physics in PHYSICS],
)
def test_the_file_is_the_solution(name, physics):
    for quaternion in (POLES[0], Rotation.random(random_state=3).as_quat()):
        solution = solved(CAMERAS[name], quaternion, *PHYSICS[physics])
        forward, back = errors_px(stored(solution), solution)
        assert forward < 1e-9
        assert back < 2e-6  # asked for at other points: 1e-6


numbers = st.floats(-1.0, 1.0)
quaternions = st.tuples(numbers, numbers, numbers, numbers).filter(lambda q: np.dot(q, q) > 0.01)
around_a_pole = st.tuples(st.sampled_from([0.0, 180.0]), st.floats(-180.0, 180.0)).map(
    lambda angles: Rotation.from_euler("xz", angles, degrees=True).as_quat(scalar_first=True)
)


@example(POLES[0], (0.0, 0.0, 1e-300), "mirrored")
@given(
    quaternions | around_a_pole,
    st.none() | st.tuples(numbers, numbers, numbers),
    st.sampled_from(["mirrored", "equidistant"]),
)
def test_any_attitude_and_velocity(quaternion, velocity, name):
    velocity = None if velocity is None else 1e4 * np.array(velocity)
    solution = solved(CAMERAS[name], quaternion, velocity)
    forward, back = errors_px(solution.gwcs(), solution)
    assert max(forward, back) < 1e-8


@pytest.mark.parametrize("ra_deg", [0.0, 359.999, 180.0])
def test_pinholes_are_fits_wcs(ra_deg):
    """Outside truth: astropy's TAN, which is exact for them; across the wrap as well."""
    camera = CAMERAS["pinhole"]
    south = Rotation.from_euler("zyx", [90.0 + ra_deg, 0.0, 55.0], degrees=True).inv()
    solution = solved(camera, south.as_quat(scalar_first=True))
    column, row, *_ = pixels_of(camera)
    ra, dec = stored(solution)(column, row)
    assert ra.min() >= 0.0
    assert ra.max() < 360.0
    fits = solution.wcs().all_pix2world(column, row, 0)
    assert np.abs(unit(ra, dec) - unit(*fits)).max() < 1e-12


def test_a_solved_frame(wide_database, wide_frame):
    """Stars lie where the catalogue has them, though the Earth's motion displaced them."""
    stars = wide_frame.stars
    velocity = earth_barycentric_velocity("2024-03-01")
    rows = np.column_stack([stars.x, stars.y, 10.0 ** (-0.4 * stars.magnitude)])
    solution = wide_database.solve_from_centroids(
        rows, 12.0, image_shape=(512, 512), observer_velocity_km_s=velocity
    )
    wcs = stored(solution)
    matched = rows[solution.matched_centroids, :2] + 256.0
    seen = unit(*wcs(*matched.T)).T
    miss = np.degrees(np.linalg.norm(seen - solution.matched_directions, axis=1)) * 3600.0
    # Residuals are angles in the apparent sky, in which all are up to 1e-4 larger or smaller.
    np.testing.assert_allclose(miss, solution.residuals_arcsec, rtol=1.5e-4, atol=1e-6)


def test_frames_box_and_shape_are_kept(tmp_path):
    solution = solved(CAMERAS["mirrored brown"], POLES[0], VELOCITY, AIR)
    path = tmp_path / "frame.asdf"
    solution.save_gwcs(path)
    with asdf.open(path) as file:
        wcs = file["wcs"]
    assert wcs.available_frames == ["detector", "ideal", "icrs"]
    assert wcs.output_frame.reference_frame.name == "icrs"
    assert wcs.pixel_shape == (1024, 768)
    assert tuple(wcs.bounding_box.bounding_box(order="F")) == ((-0.5, 1023.5), (-0.5, 767.5))
    assert np.isfinite(wcs(1023.4, 767.4)).all()
    assert np.isnan(wcs(1023.6, 5.0)).all()
    x, y = wcs.transform("detector", "ideal", 700.0, 500.0)
    np.testing.assert_allclose((x, y), solution.camera_model.pixel_to_ideal(188.0, 116.0))
    # Astropy's own interface, with the pole in the image.
    wcs.bounding_box = None
    pixels = wcs.world_to_pixel(wcs.pixel_to_world([10.0, 512.0, 1000.0], [20.0, 384.0, 700.0]))
    np.testing.assert_allclose(pixels, ([10.0, 512.0, 1000.0], [20.0, 384.0, 700.0]), atol=1e-5)


def test_the_file_needs_no_boresight(tmp_path):
    solution = solved(CAMERAS["mirrored brown"], POLES[0], VELOCITY, AIR)
    path = tmp_path / "frame.asdf"
    solution.save_gwcs(path)
    program = (
        "import sys; sys.modules['boresight'] = None\n"
        "import asdf\n"
        f"with asdf.open({str(path)!r}) as file: print(*file['wcs'](700.0, 500.0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    sky = [float(word) for word in done.stdout.split()]
    np.testing.assert_allclose(sky, solution.pixel_to_world(188.0, 116.0), atol=1e-10)


@pytest.mark.parametrize("package", ["gwcs", "asdf"])
def test_a_missing_package_is_named_with_the_repair(package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf"{package} .*pip install 'boresight\[gwcs\]'"):
        solved(CAMERAS["pinhole"], POLES[0]).save_gwcs(tmp_path / "frame.asdf")
    assert not any(tmp_path.iterdir())


def test_what_cannot_be_is_refused():
    solution = solved(CAMERAS["radial"], POLES[0])
    for tolerance in (0.0, -1.0, np.nan):
        with pytest.raises(InputError, match=r"tolerance_px: .* is not positive"):
            solution.gwcs(tolerance)
    with pytest.raises(UndeterminedError, match="tolerance_px=1e-15; allow more"):
        solution.gwcs(1e-15)
    collapsed = PolynomialDistortion(1, 512.0, [0.0, -512.0, 0.0], [0.0, 0.0, -512.0])
    with pytest.raises(UndeterminedError, match="no pixel"):
        solved(CameraModel(2500.0, SHAPE, distortion=collapsed), POLES[0]).gwcs()
