"""Simulated frames that do not solve, each for one known cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.io.fits import Header
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import fftconvolve

from boresight import CameraModel, Frame, simulate_frame

SHAPE = (512, 640)
FOV = 14.0

Pixels = NDArray[np.float64]


@dataclass
class Spoilt:
    """A frame, how it is solved, and the causes of which one has to be named."""

    image: Any
    causes: tuple[str, ...]
    arguments: dict[str, Any] = field(default_factory=dict)


class Sky:
    """One clean field: electrons above nothing, and what it is."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.ra = float(self.rng.uniform(0, 360))
        self.dec = float(np.degrees(np.arcsin(self.rng.uniform(-0.95, 0.95))))
        self.roll = float(self.rng.uniform(0, 360))
        self.camera = CameraModel.from_fov(FOV, SHAPE)
        self.light = self.frame(self.camera)

    def frame(self, camera: CameraModel, **options: Any) -> Pixels:
        """Simulate a frame, its sky at zero, the brightest stars cut."""
        seed = int(self.rng.integers(1000))
        image = simulate_frame(camera, self.ra, self.dec, self.roll, seed=seed, **options).image
        pixels = np.asarray(image, dtype=np.float64)
        return np.clip(pixels - np.median(pixels), 0.0, 1e5)

    def noisy(self, light: Pixels, sky: float = 300.0, sigma: float = 6.0) -> Pixels:
        """Light on a sky, with noise, as a camera of 16 bits gives it."""
        pixels = light + sky + self.rng.normal(0.0, sigma, light.shape)
        return np.rint(np.clip(pixels, 0.0, 65535.0))


def hot_pixels(sky: Sky) -> Spoilt:
    """Put hot pixels among faint stars."""
    light = 0.05 * sky.light
    hot = sky.rng.random(light.shape) < 0.2
    light[hot] += sky.rng.exponential(4000.0, int(hot.sum()))
    return Spoilt(sky.noisy(light), ("hot pixels",))


def saturation(sky: Sky) -> Spoilt:
    """Raise the sky to near saturation."""
    image = sky.noisy(sky.light, 64000.0, 900.0)
    return Spoilt(np.minimum(image, 64200.0), ("saturation",))


def foreground(sky: Sky) -> Spoilt:
    """Put leaves and lamps before most of the frame."""
    light = 0.1 * sky.light
    height = light.shape[0]
    top = int(height * sky.rng.uniform(0.25, 0.4))
    light[top:] = 0.0
    leaves = ndimage.gaussian_filter(sky.rng.normal(0, 1, light.shape), 1.5)
    light[top:] += 20000.0 * np.clip(leaves[top:] - 0.2, 0.0, None)
    return Spoilt(sky.noisy(light), ("foreground",))


def trails(sky: Sky) -> Spoilt:
    """Let the mount stand still."""
    length = int(sky.rng.integers(50, 110))
    light = ndimage.uniform_filter1d(sky.light, length, axis=int(sky.rng.integers(2)))
    return Spoilt(sky.noisy(light), ("trailing",))


def defocus(sky: Sky) -> Spoilt:
    """Take stars for rings of any size."""
    radius = int(sky.rng.integers(12, 40))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    distance = np.hypot(x, y)
    ring = ((distance < radius) & (distance > 0.35 * radius)).astype(float)
    light = fftconvolve(10 * sky.light, ring / ring.sum(), mode="same")
    return Spoilt(sky.noisy(light), ("defocus",))


def mirror(sky: Sky) -> Spoilt:
    """Put a mirror before a known camera."""
    return Spoilt(sky.noisy(sky.light[:, ::-1]), ("parity",), {"camera_model": sky.camera})


def wrong_camera(sky: Sky) -> Spoilt:
    """Give the model of another lens."""
    other = CameraModel.from_fov(FOV * sky.rng.uniform(2.0, 3.0), SHAPE)
    return Spoilt(sky.noisy(sky.light), ("camera",), {"camera_model": other})


def fisheye(sky: Sky) -> Spoilt:
    """See the whole sky, and say nothing."""
    names = ("equidistant", "equisolid", "stereographic", "orthographic")
    name: Any = names[int(sky.rng.integers(4))]
    widest = 180.0 if name == "orthographic" else 220.0
    camera = CameraModel.from_fov(
        float(sky.rng.uniform(150.0, widest)), (600, 720), projection=name, parity_flip=True
    )
    return Spoilt(sky.noisy(sky.frame(camera, zero_point=13.0), 20.0, 4.0), ("projection",))


def narrow(sky: Sky) -> Spoilt:
    """See a narrow field, and say so or not."""
    fov = float(sky.rng.uniform(0.3, 0.7))
    light = sky.frame(CameraModel.from_fov(fov, SHAPE), faint_limit=16.0)
    arguments: dict[str, Any] = {"fov_deg": fov} if sky.rng.random() < 0.5 else {}
    return Spoilt(sky.noisy(light, 20.0, 4.0), ("narrow field",), arguments)


def negative(sky: Sky) -> Spoilt:
    """Make stars dark."""
    return Spoilt(65535.0 - sky.noisy(sky.light), ("negative",))


def non_square(sky: Sky) -> Spoilt:
    """Take pixels of another ratio."""
    ratio = float(sky.rng.choice([0.5, 0.75, 0.83, 0.9, 1.1, 1.2, 1.33, 2.0]))
    light = ndimage.zoom(sky.light, (ratio, 1.0), order=1)
    return Spoilt(sky.noisy(light), ("non-square pixels",))


def too_few(sky: Sky) -> Spoilt:
    """Expose for nearly no time."""
    light = sky.light * (sky.rng.uniform(8.0, 16.0) / sky.light.max())
    return Spoilt(sky.noisy(light, 300.0, 8.0), ("few stars", "few matches"))


def too_many(sky: Sky) -> Spoilt:
    """Detect noise, and no star."""
    image = sky.noisy(np.zeros(SHAPE), 300.0, 20.0)
    return Spoilt(image, ("many stars",), {"extraction": {"sigma_threshold": 2.2}})


def clouds(sky: Sky) -> Spoilt:
    """Put bright clouds before most stars."""
    cloud = ndimage.gaussian_filter(sky.rng.normal(0, 1, SHAPE), 45)
    cloud = (cloud - cloud.min()) / np.ptp(cloud)
    through = np.where(cloud > np.quantile(cloud, 0.25), 0.002, 1.0)
    light = 0.01 * sky.light * ndimage.gaussian_filter(through, 6)
    image = sky.noisy(light + 3000.0 * cloud, 200.0, 25.0)
    return Spoilt(image, ("clouds", "few stars", "few matches"))


def wrong_hint(sky: Sky) -> Spoilt:
    """Expect another place."""
    hint = ((sky.ra + 120.0) % 360.0, -0.5 * sky.dec)
    arguments = {"attitude_hint": hint, "strict_hint": True, "fov_deg": FOV}
    return Spoilt(sky.noisy(sky.light), ("hint",), arguments)


def wrong_header(sky: Sky) -> Spoilt:
    """Take the header of another frame."""
    header = Header()
    scale = FOV / SHAPE[1]
    cards = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": (sky.ra + 90.0) % 360.0,
        "CRVAL2": -0.7 * sky.dec, "CRPIX1": SHAPE[1] / 2, "CRPIX2": SHAPE[0] / 2,
        "CD1_1": -scale, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": -scale,
    }  # fmt: skip
    for name, value in cards.items():
        header[name] = value
    use = "only" if sky.rng.random() < 0.5 else "try"
    return Spoilt(Frame(sky.noisy(sky.light), header=header), ("header",), {"header": use})


def wrong_field(sky: Sky) -> Spoilt:
    """Give the field of view of another lens."""
    wrong = FOV * float(sky.rng.choice([0.4, 0.5, 1.8, 2.5]))
    return Spoilt(sky.noisy(sky.light), ("field of view",), {"fov_deg": wrong})


CAUSES: tuple[Callable[[Sky], Spoilt], ...] = (
    hot_pixels, saturation, foreground, trails, defocus, mirror, wrong_camera, fisheye, narrow,
    negative, non_square, too_few, too_many, clouds, wrong_hint, wrong_header, wrong_field,
)  # fmt: skip
