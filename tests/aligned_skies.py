"""Simulated images of one sky, with the WCS that is true and one that is wrong."""

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS, Sip

from boresight import ImageCatalog

SIZE = 1024
SCALE = 1e-4  # degrees in a pixel
RA, DEC = 150.0, 30.0


def make_wcs(at=(0.0, 0.0), roll=0.0, scale=1.0, sip=False, ctype="TAN", size=SIZE):
    """A WCS that looks at a place of the sky, in pixels from (RA, DEC)."""
    wcs = WCS(naxis=2)
    ending = "-SIP" if sip else ""
    wcs.wcs.ctype = [f"RA---{ctype}{ending}", f"DEC--{ctype}{ending}"]
    wcs.wcs.crpix = [size / 2 + 0.5] * 2
    wcs.wcs.crval = [RA + at[0] * SCALE / np.cos(np.radians(DEC)), DEC + at[1] * SCALE]
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    wcs.wcs.cd = SCALE * scale * np.array([[-c, s], [s, c]])
    if ctype == "TPV":
        wcs.wcs.set_pv([(1, 0, 0), (1, 1, 1), (1, 7, 3e-3), (2, 0, 0), (2, 1, 1), (2, 7, -2e-3)])
    wcs.pixel_shape = (size, size)
    if sip:
        a, b = np.zeros((4, 4)), np.zeros((4, 4))
        a[2, 0], a[1, 1], a[3, 0], a[1, 2] = 8e-6, -4e-6, 5e-9, 5e-9
        b[0, 2], b[1, 1], b[0, 3], b[2, 1] = -3e-6, 6e-6, 5e-9, 5e-9
        wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
    wcs.wcs.set()
    return wcs


@dataclass
class Simulated:
    """An image: its catalogue, the true WCS, and the star of each source (-1 of none)."""

    catalog: ImageCatalog
    true: WCS
    star: np.ndarray

    def error_px(self, wcs=None):
        """Root mean square error of a WCS over the image."""
        grid = np.stack(np.meshgrid(*[np.linspace(0, SIZE - 1, 9)] * 2), -1).reshape(-1, 2)
        found = (self.catalog.wcs if wcs is None else wcs).all_pix2world(grid, 0)
        off = (found - self.true.all_pix2world(grid, 0)) * [np.cos(np.radians(DEC)), 1.0] / SCALE
        return float(np.sqrt((off**2).sum(axis=1).mean()))


class Sky:
    """Stars, and images of them."""

    def __init__(self, seed=1, stars=600, half=1500):
        self.rng = np.random.default_rng(seed)
        count = int(stars * (2 * half / SIZE) ** 2)
        off = self.rng.uniform(-half, half, (2, count)) * SCALE
        self.ra, self.dec = RA + off[0] / np.cos(np.radians(DEC)), DEC + off[1]

    def table(self):
        """The stars as a reference."""
        from astropy.table import Table

        return Table({"RA": self.ra, "DEC": self.dec})

    def image(
        self, at=(0.0, 0.0), *, shift=(0.0, 0.0), roll=0.0, scale=1.0, noise=0.05, weight=False,
        missing=0.2, spurious=0.2, name=None, **kind
    ):  # fmt: skip
        """An image at a place, whose WCS is wrong by a shift in pixels, a roll and a scale."""
        rng = self.rng
        true = make_wcs(at, **kind)
        ra, dec = true.wcs.crval
        away = np.hypot((self.ra - ra) * np.cos(np.radians(DEC)), self.dec - dec)
        near = np.flatnonzero(away < 1.5 * SIZE * SCALE)
        xy = true.all_world2pix(self.ra[near], self.dec[near], 0, quiet=True)
        xy = np.column_stack(xy)
        seen = ((xy > 0) & (xy < SIZE - 1)).all(axis=1) & (rng.random(len(xy)) > missing)
        star = np.concatenate([near[seen], np.full(int(spurious * seen.sum()), -1)])
        sigma = rng.uniform(0.5, 1.5, len(star)) * noise
        xy = np.concatenate([xy[seen], rng.uniform(0, SIZE - 1, (len(star) - seen.sum(), 2))])
        xy = xy + rng.normal(size=xy.shape) * sigma[:, None]
        order = rng.permutation(len(xy))
        wrong = make_wcs((at[0] + shift[0], at[1] + shift[1]), roll, scale, **kind)
        sources = {"x": xy[order, 0], "y": xy[order, 1]}
        if weight:
            sources["weight"] = sigma[order] ** -2.0
        return Simulated(ImageCatalog(wrong, sources, name=name), true, star[order])
