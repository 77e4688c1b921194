"""Draws docs/figures/sky.png: a simulated frame of Orion with the sky over it, solved blind.

python docs/figures/sky.py
"""

from io import BytesIO
from pathlib import Path

import matplotlib
from PIL import Image

matplotlib.use("Agg")
import boresight
from boresight.plot import plot_sky

camera = boresight.CameraModel.from_fov(27.0, (640, 960))
frame = boresight.simulate_frame(camera, 84.0, 1.0, 12.0, psf_fwhm_px=2.2, seed=2)
solution = boresight.solve(frame.image)
assert solution is not None
ax = plot_sky(frame.image, solution)
ax.figure.set_size_inches(9.0, 6.4)
picture = BytesIO()
ax.figure.savefig(picture, dpi=110)
# A few colours are enough, and small.
few = Image.open(picture).convert("RGB").quantize(64)
few.save(Path(__file__).with_suffix(".png"), optimize=True)
