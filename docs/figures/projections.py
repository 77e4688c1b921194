"""Draw the projections of the camera model: ``python docs/figures/projections.py``."""

from pathlib import Path
from typing import get_args

import matplotlib.pyplot as plt
import numpy as np

from boresight import CameraModel
from boresight.camera import Projection


def main() -> None:
    """Write projections.svg beside this file."""
    angles = np.linspace(0.0, 180.0, 721)
    theta = np.radians(angles)
    directions = np.column_stack([np.sin(theta), np.zeros_like(theta), np.cos(theta)])
    plt.rcParams["svg.hashsalt"] = "boresight"
    figure, axes = plt.subplots(figsize=(6.0, 3.6), layout="constrained")
    for name in get_args(Projection):
        camera = CameraModel(1.0, (1, 1), projection=name)
        radius, _ = camera.direction_to_pixel(directions)
        axes.plot(angles, np.where(radius < 4.0, radius, np.nan), label=name)
    axes.set(
        xlabel="angle to the optical axis (degrees)",
        ylabel="distance from the optical centre (f)",
        xlim=(0.0, 180.0),
        ylim=(0.0, 4.0),
        xticks=range(0, 181, 30),
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
