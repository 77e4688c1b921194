"""Simulated frames of the sky with known truth, through any camera model.

The stars are the catalogue's, moved to the epoch by their proper motions and displaced by the
observer's velocity; they are imaged through the camera model and a point-spread function whose
centroid is the star's true position, integrated over the pixels; then come sky, noise, saturation,
hot pixels and cosmic rays. Everything follows from the seed.
"""

from boresight.simulate.frame import SimulatedFrame, SimulatedStars, simulate_frame
from boresight.simulate.tess import TESS_SECTORS, simulate_tess_sector, tess_like_camera

__all__ = [
    "TESS_SECTORS",
    "SimulatedFrame",
    "SimulatedStars",
    "simulate_frame",
    "simulate_tess_sector",
    "tess_like_camera",
]
