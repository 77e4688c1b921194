"""Alignment of real frames: distortion that they share, and shifts between pairs of them.

python benchmarks/alignment_frames.py held_out FOLDER   # frames of one camera
python benchmarks/alignment_frames.py pairs FILE.json
"""

import argparse
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray

from alignment import Floats, make_wcs
from boresight import ImageCatalog, align, extract_centroids, solve
from boresight.frames import read_frame


def held_out(path: Path) -> None:
    """Residuals of stars that took no part: a polynomial of each frame's own, or one of all.

    Also with a quadratic of each frame's own beside that of all, in the fit.
    """
    frames = [frame for frame in map(_solved, sorted(path.iterdir())) if frame]
    ids = np.unique(np.concatenate([frame.ids for frame in frames]))
    held = np.random.default_rng(1).permutation(ids)[: len(ids) // 5]
    scale = np.median([frame.scale for frame in frames])
    # Frames of another lens share nothing with the others.
    frames = [frame for frame in frames if abs(frame.scale / scale - 1.0) < 0.01]
    for order in (2, 3, 4, 5):
        alone = [frame.own_polynomial(order, np.isin(frame.ids, held)) for frame in frames]
        kept = [~np.isin(frame.ids, held) for frame in frames]
        known = np.concatenate([frame.ids[k] for frame, k in zip(frames, kept, strict=True)])
        sky = np.concatenate([frame.sky[k] for frame, k in zip(frames, kept, strict=True)])
        known, first = np.unique(known, return_index=True)
        stars = Table({"id": known, "RA": sky[first, 0], "DEC": sky[first, 1]})
        together, bent = [], []
        for own, left in ((1, together), (2, bent)):
            catalogs = [frame.catalog(scale, np.isin(frame.ids, held)) for frame in frames]
            align(
                catalogs, stars, method="global", fitgeom="general", exposure_order=own,
                distortion_order=order, searchrad=40, tolerance=12, separation=0,
            )  # fmt: skip
            for frame, catalog in zip(frames, catalogs, strict=True):
                out = np.isin(frame.ids, held)
                off = catalog.wcs.all_pix2world(frame.xy, 0) - frame.sky
                off[:, 0] = (off[:, 0] + 180) % 360 - 180
                off[:, 0] *= np.cos(np.radians(frame.sky[:, 1]))
                left.append(off[out] / frame.scale)
        squares = [(np.concatenate(r) ** 2).sum(axis=1).mean() for r in (alone, together, bent)]
        rms = np.sqrt(squares)
        print(
            f"{len(frames)} frames, order {order}: {rms[0]:.3f} px each frame alone, "
            f"{rms[1]:.3f} px all at once, {rms[2]:.3f} px with quadratics of their own"
        )


@dataclass
class Solved:
    """Matched stars of a real frame: pixels, sky in degrees, identifiers, degrees in a pixel."""

    xy: Floats
    sky: Floats
    ids: NDArray[np.int64]
    scale: float
    center: Floats
    shape: tuple[int, int]

    def plane(self) -> tuple[WCS, Floats]:
        """Give a WCS in the middle, and the places of the stars in its plane, degrees."""
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], self.center
        wcs.wcs.cd, wcs.wcs.crpix = np.eye(2), [0.0, 0.0]
        wcs.wcs.set()
        return wcs, wcs.wcs_world2pix(self.sky, 0) + 1.0

    def own_polynomial(self, order: int, out: NDArray[np.bool_]) -> Floats:
        """Residuals of the stars that are left out of a polynomial of this frame alone, px."""
        return self.left_of(self.plane()[1], order, out)

    def left_of(self, plane: Floats, order: int, out: NDArray[np.bool_]) -> Floats:
        """Give what a polynomial of the other stars leaves of values of those left out, px."""
        x, y = ((self.xy - self.xy.mean(axis=0)) / np.abs(self.xy).max()).T
        design = np.stack(
            [x**i * y**j for i in range(order + 1) for j in range(order + 1 - i)], axis=-1
        )
        kept = ~out
        for _ in range(5):
            terms = np.linalg.lstsq(design[kept], plane[kept], rcond=None)[0]
            length = np.linalg.norm(plane - design @ terms, axis=1)
            kept = ~out & (length < 4.0 * np.sqrt((length[kept] ** 2).mean()))
        return (plane - design @ terms)[out] / self.scale

    def catalog(self, scale: float, out: NDArray[np.bool_]) -> ImageCatalog:
        """Give the other stars with a pinhole's WCS."""
        wcs, plane = self.plane()
        design = np.column_stack([np.ones(len(self.xy)), self.xy])
        start, *linear = np.linalg.lstsq(design[~out], plane[~out], rcond=None)[0]
        u, _, v = np.linalg.svd(np.array(linear).T)
        wcs.wcs.cd = scale * u @ v
        wcs.wcs.crpix = 1.0 - np.linalg.solve(wcs.wcs.cd, start)
        wcs.wcs.set()
        return ImageCatalog(wcs, self.xy[~out], image_shape=self.shape)


def _solved(path: Path) -> Solved | None:
    """Solve a frame from its path; None if it does not."""
    solution = solve(path)
    if solution is None:
        return None
    stars = solution.matches
    height, width = solution.image_shape
    xy = np.column_stack([stars["x"].value + width / 2, stars["y"].value + height / 2])
    sky = stars["catalog_sky"].icrs
    return Solved(
        xy, np.column_stack([sky.ra.deg, sky.dec.deg]), np.asarray(stars["catalog_id"]),
        np.degrees(1.0 / solution.camera_model.focal_length_px),
        np.array([solution.ra_deg, solution.dec_deg]), (height, width),
    )  # fmt: skip


def pairs(path: Path) -> None:
    """Shift between two frames at their middle, by sources alone and by the solutions of both.

    The file lists pairs of frames with the names a and b, and perhaps shift_px, by how much the
    stars that both show have moved, in the median.
    """
    for pair in json.loads(path.read_text()):
        paths = [path.parent / pair[k] for k in "ab"]
        frames = [read_frame(path) for path in paths]
        catalogs = []
        for frame in frames:
            stars = extract_centroids(frame.image, mask=frame.mask).centroids
            wcs = make_wcs(np.zeros(2))
            catalogs.append(ImageCatalog(wcs, stars, image_shape=frame.image_shape))
        aligned = align(catalogs, searchrad=40, tolerance=2).images[1]
        a, b = (catalog.wcs for catalog in catalogs)
        middle = np.array([frames[1].image_shape[::-1]]) / 2
        found = (a.all_world2pix(b.all_pix2world(middle, 0), 0) - middle)[0]
        solved = [solve(path) for path in paths]
        if None in solved:
            print(f"{paths[1].name}: not solved")
            continue
        ra, dec = solved[1].pixel_to_world(0.0, 0.0)
        wanted = np.array([float(c) for c in solved[0].world_to_pixel(ra, dec)])
        line = (
            f"{paths[0].stem[-30:]} {paths[1].stem[-30:]}: {aligned.verdict}, {aligned.num_fitted} "
            f"matches, rmse {aligned.rmse_px:.2f} px, shift ({found[0]:.2f}, {found[1]:.2f}), off "
            f"{np.hypot(*(found - wanted)):.2f} px from that of the solutions"
        )
        if (listed := pair.get("shift_px")) is not None:
            line += f", {np.hypot(*(found + listed)):.2f} px from that of the list"
        print(line)


CASES = {f.__name__: f for f in (held_out, pairs)}


def main() -> None:
    """Run the case that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    CASES[arguments.case](arguments.path)


if __name__ == "__main__":
    main()
