"""Draws docs/figures/origins.png: one pixel of a small image, counted from the three origins.

python docs/figures/origins.py
"""

from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from boresight import Centroids

HEIGHT, WIDTH = 6, 8
COLUMN, ROW = 6, 1
ORIGINS = (
    ("center", "tab:orange", (WIDTH / 2, HEIGHT / 2)),
    ("corner", "tab:cyan", (0, 0)),
    ("fits", "tab:green", (-1, -1)),
)

figure, ax = plt.subplots(figsize=(7.0, 5.2), layout="constrained")
light = np.full((HEIGHT, WIDTH), 0.12)
light[ROW, COLUMN] = 1.0
ax.imshow(light, cmap="gray", vmin=0, vmax=1.1, extent=(-0.5, WIDTH - 0.5, HEIGHT - 0.5, -0.5))
for k in range(WIDTH + 1):
    ax.plot([k - 0.5, k - 0.5], [-0.5, HEIGHT - 0.5], color="0.4", linewidth=0.6)
for k in range(HEIGHT + 1):
    ax.plot([-0.5, WIDTH - 0.5], [k - 0.5, k - 0.5], color="0.4", linewidth=0.6)

star = Centroids.from_corner([[COLUMN, ROW]], (HEIGHT, WIDTH))
positions = {
    "center": star.xy[0],
    "corner": star.to_corner((HEIGHT, WIDTH))[0],
    "fits": star.to_fits((HEIGHT, WIDTH))[0],
}
for name, colour, (x, y) in ORIGINS:
    ax.plot(x, y, "o", color=colour, markersize=7, clip_on=False, zorder=3)
    ax.annotate(
        f'(0, 0) of "{name}"',
        (x, y),
        xytext=(48, -4),
        textcoords="offset points",
        color=colour,
        fontsize=9,
        fontweight="bold",
    )
    for dx, dy in ((1.1, 0), (0, 1.1)):
        ax.annotate(
            "",
            (x + dx, y + dy),
            xytext=(x, y),
            arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.6},
            annotation_clip=False,
        )
for k, (name, colour, _) in enumerate(ORIGINS):
    x, y = positions[name]
    ax.text(
        WIDTH - 0.2, ROW - 0.35 + 0.45 * k, f"({x:g}, {y:g})  {name}", color=colour, fontsize=11
    )
ax.set_xticks(range(WIDTH), [f"{k}" for k in range(WIDTH)])
ax.set_yticks(range(HEIGHT), [f"{k}" for k in range(HEIGHT)])
ax.set_xlabel("column of the array")
ax.set_ylabel("row of the array")
ax.set_xlim(-1.6, WIDTH + 2.1)
ax.set_ylim(HEIGHT - 0.3, -2.2)
for side in ax.spines.values():
    side.set_visible(False)
ax.set_title(f"The white pixel, image[{ROW}, {COLUMN}], of a {HEIGHT} x {WIDTH} image", fontsize=11)

picture = BytesIO()
figure.savefig(picture, dpi=100)
few = Image.open(picture).convert("RGB").quantize(48)
few.save(Path(__file__).with_suffix(".png"), optimize=True)
