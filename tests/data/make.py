"""Make the frames in this folder, each with its truth beside it.

    python tests/data/make.py [--output FOLDER]

The frames are simulated: by `boresight.simulate`, whose geometry is independent of the solver's.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.time import Time
from PIL import Image

from boresight import (
    CameraModel,
    PolynomialDistortion,
    RadialDistortion,
    earth_barycentric_velocity,
    simulate_frame,
)

#: Stars of the truth: the brightest ones.
NUM_STARS = 150


def dslr_jpeg():
    """Snapshot of Orion by a photo camera: eight bits, JPEG, barrel distortion, light of a town."""
    lens = RadialDistortion(-0.02, 0.003, scale=360.0)
    camera = CameraModel.from_fov(18.0, (480, 720))
    camera = CameraModel(camera.focal_length_px, (480, 720), distortion=lens)
    frame = simulate_frame(
        camera, 84.0, -2.0, 12.0, epoch=2024.1, psf_fwhm_px=2.2, stretch=0.3, zero_point=14.5,
        gain=8.0, read_noise_e=6.0, background=220.0, background_tilt=(0.1, 0.5), hot_pixels=15,
        seed=1,
    )  # fmt: skip
    pixels = np.clip(frame.image, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return "dslr.jpg", buffer.getvalue(), frame


def survey_fits():
    """Frame of a survey camera in orbit: sixteen bits, FITS with times, aberration, cosmic rays."""
    rng = np.random.default_rng(7)
    terms = 15
    a, b = rng.uniform(-0.6, 0.6, (2, terms))
    a[:3] = b[:2] = 0.0
    lens = PolynomialDistortion(4, 176.0, a, b)
    camera = CameraModel.from_fov(12.0, (352, 352))
    camera = CameraModel(camera.focal_length_px, (352, 352), distortion=lens)
    time = Time("2019-08-15T10:00:00", scale="utc")
    frame = simulate_frame(
        camera, 352.0, -35.0, 145.0, epoch=time.tdb.jyear,
        velocity_km_s=earth_barycentric_velocity(time), psf_fwhm_px=1.8, coma=0.1, zero_point=17.5,
        exposure_s=20.0, gain=5.0, read_noise_e=10.0, background=60.0, full_well_e=250_000.0,
        bleeding=True, cosmic_rays=12, faint_limit=12.5, seed=2,
    )  # fmt: skip
    image = np.clip(np.rint(frame.image + 100.0), 0, 65535).astype(np.uint16)
    hdu = fits.PrimaryHDU(image)
    header = frame.header()
    for card in ("DATE-OBS", "DATE-END", "EXPTIME"):
        hdu.header[card] = header[card]
    buffer = io.BytesIO()
    hdu.writeto(buffer)
    return "survey.fits", buffer.getvalue(), frame


def finder_png():
    """Frame of a finder behind a mirror: PNG, mirror-reversed, optical axis off the centre."""
    camera = CameraModel.from_fov(9.0, (384, 512))
    camera = CameraModel(
        camera.focal_length_px, (384, 512), optical_center=(14.0, -9.0), parity_flip=True
    )
    frame = simulate_frame(
        camera, 300.0, 35.0, 250.0, epoch=2023.6, psf_fwhm_px=2.6, moffat_beta=3.0, zero_point=15.2,
        exposure_s=2.0, gain=4.0, read_noise_e=4.0, background=4.0, hot_pixels=8, faint_limit=10.5,
        seed=3,
    )  # fmt: skip
    pixels = np.clip(np.rint(frame.image + 8.0), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "finder.png", buffer.getvalue(), frame


def truth(frame):
    """The truth of a frame as plain numbers; positions are pixels from the centre of the image."""
    ra, dec = frame.pixel_to_world(0.0, 0.0)
    height, width = frame.image.shape
    inside = (np.abs(frame.stars.x) < width / 2) & (np.abs(frame.stars.y) < height / 2)
    stars = frame.stars[inside][:NUM_STARS]
    return {
        "center": {"ra_deg": round(float(ra), 7), "dec_deg": round(float(dec), 7)},
        "axis": {
            "ra_deg": frame.ra_deg,
            "dec_deg": frame.dec_deg,
            "roll_deg": frame.roll_deg,
        },
        "epoch": round(frame.epoch, 6),
        "velocity_km_s": [round(float(v), 4) for v in frame.velocity_km_s],
        "camera_model": frame.camera_model.to_dict(),
        "stars": {
            "catalog_id": stars.catalog_id.tolist(),
            "x": np.round(stars.x, 4).tolist(),
            "y": np.round(stars.y, 4).tolist(),
            "magnitude": np.round(stars.magnitude, 3).tolist(),
        },
    }


def make(folder: Path) -> None:
    """Write all frames and their truth."""
    for build in (dslr_jpeg, survey_fits, finder_png):
        name, content, frame = build()
        (folder / name).write_bytes(content)
        entries = {"about": build.__doc__.splitlines()[0], **truth(frame)}
        lines = ",\n".join(
            f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items()
        )
        (folder / name).with_suffix(".json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
        print(f"{name}: {len(content) / 1000:.0f} kB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    make(parser.parse_args().output)
