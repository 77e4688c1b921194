"""Draws docs/figures/why_not.png: one field, spoilt in the ways that `diagnose` tells apart.

python docs/figures/why_not.py
"""

import sys
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")
from matplotlib import pyplot as plt

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import causes

from boresight import Frame

SEED = 7
DRAWN = (
    causes.hot_pixels, causes.saturation, causes.foreground, causes.trails, causes.defocus,
    causes.negative, causes.non_square, causes.too_few, causes.clouds, causes.fisheye,
)  # fmt: skip

figure, axes = plt.subplots(2, 5, figsize=(10.0, 4.4), layout="constrained")
for ax, cause in zip(axes.flat, DRAWN, strict=True):
    spoilt = cause(causes.Sky(SEED))
    image = spoilt.image.image if isinstance(spoilt.image, Frame) else spoilt.image
    part = np.asarray(image)[120:400, 160:510] if cause is not causes.fisheye else image
    low, high = np.quantile(part, (0.05, 0.995))
    ax.imshow(part, cmap="gray", vmin=low, vmax=max(high, low + 1.0), interpolation="antialiased")
    ax.set_title(spoilt.causes[0], fontsize=9)
    ax.set_axis_off()

buffer = BytesIO()
figure.savefig(buffer, dpi=110)
# Few colours: the same drawing in a small file.
with Image.open(buffer) as drawn:
    drawn.convert("L").quantize(64).save(Path(__file__).with_suffix(".png"), optimize=True)
