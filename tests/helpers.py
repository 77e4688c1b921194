"""Pieces that several test files share: simulated matches, simulated star fields."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from scipy.special import erf

from boresight import (
    ApparentPlace,
    CameraModel,
    MatchedStars,
    PolynomialDistortion,
    RadialDistortion,
)

SHAPE = (768, 1024)
HALF = np.array([512.0, 384.0])

# Parameters of a small database: made in milliseconds.
SMALL_DATABASE = {
    "max_fov_deg": 60.0,
    "lattice_field_oversampling": 20,
    "patterns_per_lattice_field": 20,
    "verification_stars_per_fov": 60,
}


def quaternion(rotation):
    x, y, z, w = rotation.as_quat()
    return np.array([w, x, y, z])


def rotation_of(wxyz):
    w, x, y, z = wxyz
    return Rotation.from_quat([x, y, z, w])


def polynomial_camera(order=4, pixels=8.0, seed=5, **kwargs):
    """A random lens that moves stars by some pixels at the edge."""
    rng = np.random.default_rng(seed)
    exponents = [(d - q, q) for d in range(order + 1) for q in range(d + 1)]
    a, b = rng.uniform(-pixels, pixels, (2, len(exponents)))
    for k, (p, q) in enumerate(exponents):
        a[k] *= p + q >= 2
        b[k] *= p + q >= 1
    distortion = PolynomialDistortion(order, 512.0, a / order, b / order)
    return CameraModel(2800.0, SHAPE, distortion=distortion, **kwargs)


RADIAL = CameraModel(
    2500.0,
    SHAPE,
    optical_center=(620.0, -450.0),
    distortion=RadialDistortion(-0.011, 0.0008, scale=512.0),
)


def simulate(camera, frames=6, stars=150, noise=0.02, outliers=0.0, seed=0, velocity=None):
    """Frames at random attitudes: stars at random pixels, seen where the camera says."""
    rng = np.random.default_rng(seed)
    results, centroids, truth = [], [], []
    for rotation in Rotation.random(frames, random_state=seed):
        true = rng.uniform(-1, 1, (stars, 2)) * HALF
        seen = camera.pixel_to_direction(true[:, 0], true[:, 1])
        sky = rotation.inv().apply(seen)
        if velocity is not None:
            sky = aberrate(sky, -velocity / 299792.458)
        measured = true + rng.normal(0, noise, true.shape)
        wrong = rng.random(stars) < outliers
        measured[wrong] += rng.uniform(-8, 8, (wrong.sum(), 2))
        # A solver's crude result: a pinhole of slightly wrong scale, turned a little.
        crude = CameraModel(
            camera.focal_length_px * (1 + rng.normal(0, 1e-3)),
            SHAPE,
            parity_flip=camera.parity_flip,
            projection=camera.projection,
        )
        turned = Rotation.from_rotvec(rng.normal(0, 1e-3, 3)) * rotation
        keep = rng.permutation(stars)
        place = ApparentPlace(velocity_km_s=None if velocity is None else tuple(velocity))
        results.append(
            MatchedStars(
                measured[keep], sky[keep], crude, quaternion(turned), place, centroids=keep
            )
        )
        centroids.append(measured)
        truth.append((rotation, wrong))
    return results, centroids, truth


def aberrate(v, beta):
    """Exact aberration, written the other way round: by boosting the photon's four-momentum."""
    gamma = 1 / np.sqrt(1 - beta @ beta)
    along = v @ beta
    space = v + ((gamma - 1) * along / (beta @ beta) + gamma)[:, None] * beta
    return space / np.linalg.norm(space, axis=1, keepdims=True)


def sky_error_px(camera, result, truth):
    """True minus fitted sky position in pixels, on a grid over every frame: (frames, points)."""
    x, y = (g.ravel() for g in np.meshgrid(*(np.linspace(-h, h - 1, 15) for h in HALF)))
    errors = []
    for frame, (rotation, _) in zip(result.frames, truth, strict=True):
        true = rotation.inv().apply(camera.pixel_to_direction(x, y))
        fitted = (
            rotation_of(frame.quaternion).inv().apply(result.camera_model.pixel_to_direction(x, y))
        )
        errors.append(np.linalg.norm(true - fitted, axis=1) * camera.focal_length_px)
    return np.array(errors)


#: Cameras of every form, with the options that fit it.
CASES = {
    "pinhole": (CameraModel(2500.0, SHAPE), {"model": "pinhole"}),
    "polynomial": (polynomial_camera(), {"order": 4}),
    "mirrored": (polynomial_camera(parity_flip=True), {"order": 5}),
    "radial": (RADIAL, {"model": "radial"}),
}


Array = npt.NDArray[np.float64]


def pixel_gaussian(shape: tuple[int, int], x: Array, y: Array, flux: Array, fwhm: float) -> Array:
    """Stars of a Gaussian profile integrated over the pixels, on nothing."""
    scale = np.sqrt(2) * fwhm / np.sqrt(8 * np.log(2))
    image = np.zeros(shape)
    half = int(np.ceil(4 * fwhm)) + 1
    for cx, cy, f in zip(x, y, flux, strict=True):
        ix, iy = round(cx), round(cy)
        cols = np.arange(max(0, ix - half), min(shape[1], ix + half + 1))
        rows = np.arange(max(0, iy - half), min(shape[0], iy + half + 1))
        px = 0.5 * (erf((cols + 0.5 - cx) / scale) - erf((cols - 0.5 - cx) / scale))
        py = 0.5 * (erf((rows + 0.5 - cy) / scale) - erf((rows - 0.5 - cy) / scale))
        image[np.ix_(rows, cols)] += f * np.outer(py, px)
    return image


def field(
    seed: int,
    shape: tuple[int, int] = (400, 500),
    n: int = 200,
    fwhm: float = 2.0,
    sky: float = 200.0,
    read: float = 10.0,
    low: float = 2e3,
    high: float = 1e5,
) -> tuple[Array, Array, Array, Array]:
    """Isolated stars on a tilted sky with photon and read noise, in electrons."""
    rng = np.random.default_rng(seed)
    rows = int(np.ceil(np.sqrt(n * shape[0] / shape[1])))
    cols = int(np.ceil(n / rows))
    gy, gx = np.divmod(np.arange(n), cols)
    step = (shape[1] - 20) / cols, (shape[0] - 20) / rows
    x = 10 + (gx + 0.5 + rng.uniform(-0.2, 0.2, n)) * step[0]
    y = 10 + (gy + 0.5 + rng.uniform(-0.2, 0.2, n)) * step[1]
    flux = np.exp(rng.uniform(np.log(low), np.log(high), n))
    image = sky * (1 + 0.2 * np.linspace(-1, 1, shape[1])) + pixel_gaussian(shape, x, y, flux, fwhm)
    image = rng.poisson(image) + rng.normal(0, read, shape)
    return image, x, y, flux


def match(
    result, x: Array, y: Array, reach: float = 1.0
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Indices of the stars found and of their truth."""
    height, width = result.image_shape
    found = result.centroids.xy + np.array([width / 2, height / 2])
    distance, index = cKDTree(np.column_stack([x, y])).query(found)
    near = np.flatnonzero(distance < reach)
    return near, index[near]


@contextmanager
def serving(content, *, pause=0.0, most=None, close=False):
    """A server of HTTP on this machine: its URL, and the ranges of bytes that were asked for.

    It waits between bytes; after `most` of an answer it says nothing more, or closes.
    """
    asked, ended = [], threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.begin()

        def do_GET(self):
            data = self.begin()
            asked.append(self.headers.get("Range"))
            if not pause:
                self.wfile.write(data[:most])
            for number, byte in enumerate(data[:most] if pause else b""):
                if ended.wait(pause if number else 0.0):
                    return
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
            if most is not None and len(data) > most:
                if not close:
                    ended.wait()
                self.close_connection = True

        do_POST = do_GET  # noqa: N815

        def begin(self):
            first, last = 0, len(content) - 1
            if (given := self.headers.get("Range")) is not None:
                first, last = (int(end) for end in given.removeprefix("bytes=").split("-"))
            data = content[first : last + 1]
            self.send_response(200 if given is None else 206)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self.end_headers()
            return data

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            """Clients that leave are none."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/frame.fits", asked
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
