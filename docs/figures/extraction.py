"""Draws docs/figures/extraction.png: a simulated frame, its stars in the colours of their flags.

python docs/figures/extraction.py
"""

from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")
from boresight import CameraModel, extract_centroids, simulate_frame
from boresight.plot import plot_centroids

camera = CameraModel.from_fov(8.0, (360, 480))
frame = simulate_frame(
    camera,
    83.8,
    -4.5,
    psf_fwhm_px=2.5,
    zero_point=19.0,
    full_well_e=30_000,
    hot_pixels=3,
    cosmic_rays=3,
    seed=4,
)
mask = np.zeros(frame.image.shape, bool)
mask[:, 120:122] = True
result = extract_centroids(frame.image, mask=mask, max_sharpness=None, max_elongation=None)
ax = plot_centroids(frame.image, result, title="Orion's sword, simulated: column 120 is masked")
ax.figure.set_size_inches(7.0, 5.6)
picture = BytesIO()
ax.figure.savefig(picture, dpi=100)
# A few colours are enough, and small.
few = Image.open(picture).convert("RGB").quantize(48)
few.save(Path(__file__).with_suffix(".png"), optimize=True)
