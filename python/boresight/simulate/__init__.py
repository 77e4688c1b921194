"""Simulated frames of the sky with known truth, through any camera model.

The stars of the catalogue are moved to the epoch by their proper motions and displaced by the
observer's velocity. They are imaged through the camera model and a point-spread function, which is
integrated over the pixels and whose centroid is the star's true position. Then sky background,
noise, saturation, hot pixels and cosmic rays are added. The seed determines everything random.
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
