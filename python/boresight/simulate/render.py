"""Drawing of simulated frames: point-spread function, bleeding, cosmic rays, all in electrons."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from boresight import _core
from boresight.camera.model import CameraModel

Floats = NDArray[np.float64]

#: A star is drawn out to where its light falls below this fraction of the noise of a pixel.
WING_CUT = 0.05

#: Half-widths in pixels of the stamps on which stars are drawn: the smallest that fits is used.
STAMP_HALF_WIDTHS = (4, 6, 9, 16, 32, 64)

#: Largest number of pixels of all stamps that are drawn at the same time, to limit the memory.
STAMP_BUFFER = 4_000_000

#: Memory in bytes per pixel of a simulated image, until it is read out.
BYTES_PER_PIXEL = 13

#: Nodes of the quadrature per pixel and axis, times the FWHM in pixels: three nodes for 2 px, six
#: for 1 px. This keeps the error of centroids below 1e-4 px.
NODES_TIMES_FWHM = 6.0

#: Displacement of the comatic image at the corner of the field, in units of the FWHM.
COMA_SHIFT_FWHM = 0.6


class Psf:
    """Point-spread function: a radially stretched core, plus a comatic image displaced outwards."""

    def __init__(
        self, fwhm: float, beta: float | None, stretch: float, coma: float, camera: CameraModel
    ) -> None:
        self.fwhm, self.beta, self.stretch, self.coma = fwhm, beta, stretch, coma
        self.shape, self.axis = camera.image_shape, np.array(camera.optical_center)
        height, width = self.shape
        # The corner farthest from the axis, where stretch and coma have their full size.
        self.far = math.hypot(width / 2 + abs(self.axis[0]), height / 2 + abs(self.axis[1]))
        self.sigma = fwhm / math.sqrt(8.0 * math.log(2.0))
        self.alpha = fwhm / 2.0 / math.sqrt(2.0 ** (1.0 / beta) - 1.0) if beta else math.nan
        nodes, weights = np.polynomial.legendre.leggauss(max(3, math.ceil(NODES_TIMES_FWHM / fwhm)))
        self.nodes = list(zip(nodes / 2.0, weights / 2.0, strict=True))

    def draw(
        self, x: Floats, y: Floats, electrons: Floats, fine: NDArray[np.bool_], noise: float
    ) -> Floats:
        """Draw all stars into one image.

        The stars marked in `fine` are integrated over pixels by quadrature. The profile of the
        other stars is widened by the variance of a pixel, which is many times faster and exact to
        second order.
        """
        height, width = self.shape
        _core.check_memory("the simulated image", BYTES_PER_PIXEL * height * width)
        image = np.zeros(height * width)
        half_width = np.searchsorted(STAMP_HALF_WIDTHS, self._reach(electrons, noise))
        half_width = np.minimum(half_width, len(STAMP_HALF_WIDTHS) - 1)
        for group, half in enumerate(STAMP_HALF_WIDTHS):
            for quadrature in (False, True):
                members = np.flatnonzero((half_width == group) & (fine == quadrature))
                chunk = max(1, STAMP_BUFFER // (2 * half + 1) ** 2)
                for start in range(0, len(members), chunk):
                    i = members[start : start + chunk]
                    self._add_stamps(image, x[i], y[i], electrons[i], half, quadrature)
        return image.reshape(height, width)

    def _reach(self, electrons: Floats, noise: float) -> Floats:
        """Radius in pixels beyond which a star's light is below `WING_CUT` times the noise."""
        peak = electrons / (2.0 * math.pi * self.sigma**2)
        contrast = np.maximum(peak / (WING_CUT * noise), 1.0)
        if self.beta is None:
            reach = self.sigma * np.sqrt(2.0 * np.log(contrast))
        else:
            reach = self.alpha * np.sqrt(contrast ** (1.0 / self.beta) - 1.0)
        # The core is always drawn, however faint the star is.
        core = np.maximum(reach, 3.0 * self.sigma) * (1.0 + self.stretch)
        return core + self.coma * self.fwhm + 0.5

    def _add_stamps(
        self, image: Floats, x: Floats, y: Floats, electrons: Floats, half: int, quadrature: bool
    ) -> None:
        height, width = self.shape
        column, row = x + width / 2, y + height / 2
        near_column, near_row = np.rint(column).astype(int), np.rint(row).astype(int)
        steps = np.arange(-half, half + 1)
        dx = ((near_column - column)[:, None] + steps)[:, None, :]
        dy = ((near_row - row)[:, None] + steps)[:, :, None]
        orientation = self._orientation(x, y)
        if quadrature:
            light = np.zeros(np.broadcast_shapes(dx.shape, dy.shape))
            for nx, wx in self.nodes:
                for ny, wy in self.nodes:
                    light += wx * wy * self._profile(dx + nx, dy + ny, orientation, 0.0)
        else:
            light = self._profile(dx, dy, orientation, 1.0 / 12.0)
        light = electrons[:, None, None] * light
        columns = np.broadcast_to((near_column[:, None] + steps)[:, None, :], light.shape)
        rows = np.broadcast_to((near_row[:, None] + steps)[:, :, None], light.shape)
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        np.add.at(image, (rows * width + columns)[inside], light[inside])

    def _orientation(self, x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
        """Radial direction (cosine, sine) and distance from the axis, 1 at the farthest corner."""
        rx, ry = x - self.axis[0], y - self.axis[1]
        radius = np.hypot(rx, ry)
        safe = np.where(radius > 0, radius, 1.0)
        away = np.stack([np.where(radius > 0, rx / safe, 1.0), ry / safe, radius / self.far])
        cos, sin, field = away[:, :, None, None]
        return cos, sin, field

    def _profile(
        self, dx: Floats, dy: Floats, orientation: tuple[Floats, Floats, Floats], widening: float
    ) -> Floats:
        """Light per square pixel at an offset from the star; `widening` is an added variance."""
        cos, sin, field = orientation
        along, across = cos * dx + sin * dy, cos * dy - sin * dx
        fraction, shift = self.coma * field, COMA_SHIFT_FWHM * self.fwhm * field
        # The main image is shifted inwards to cancel the centroid shift of the comatic image.
        along = along + fraction * shift
        long = 1.0 + self.stretch * field**2
        light = (1.0 - fraction) * self._core(along, across, long, widening)
        if self.coma:
            light = light + fraction * self._core(along - shift, across, long, widening)
        return light

    def _core(self, along: Floats, across: Floats, long: Floats, widening: float) -> Floats:
        if self.beta is None:
            va, vc = (self.sigma * long) ** 2 + widening, self.sigma**2 + widening
            return np.exp(-0.5 * (along**2 / va + across**2 / vc)) / (
                2.0 * math.pi * np.sqrt(va * vc)
            )
        # A Moffat core has (nearly) the curvature of a Gaussian of variance alpha^2 / (2 beta).
        extra = 2.0 * self.beta * widening
        va, vc = (self.alpha * long) ** 2 + extra, self.alpha**2 + extra
        peak = (self.beta - 1.0) / (math.pi * np.sqrt(va * vc))
        return peak * (1.0 + along**2 / va + across**2 / vc) ** -self.beta


def bleed(image: Floats, full_well: float) -> Floats:
    """Spill charge above the full well along its column, half up and half down."""
    for column in np.flatnonzero((image > full_well).any(axis=0)):
        line = image[:, column]
        over = np.maximum(line - full_well, 0.0) / 2.0
        np.minimum(line, full_well, out=line)
        for pixels, fresh in ((line, over), (line[::-1], over[::-1])):
            excess, last = 0.0, int(np.flatnonzero(fresh)[-1])
            for row in range(int(np.argmax(fresh > 0)), len(pixels)):
                excess += fresh[row]
                taken = min(excess, full_well - pixels[row])
                pixels[row] += taken
                excess -= taken
                if excess <= 0.0 and row >= last:
                    break
    return image


def add_cosmic_rays(image: Floats, count: int, charge: float, rng: np.random.Generator) -> None:
    """Add streaks of one to six pixels, with equal charge in each pixel of a streak."""
    height, width = image.shape
    row, column = rng.uniform(0, height, count), rng.uniform(0, width, count)
    angle, length = rng.uniform(0, 2 * math.pi, count), rng.integers(1, 7, count)
    energy = rng.exponential(charge, count)
    for step in range(6):
        r = (row + step * np.sin(angle)).astype(int)
        c = (column + step * np.cos(angle)).astype(int)
        hit = (step < length) & (r >= 0) & (r < height) & (c >= 0) & (c < width)
        np.add.at(image, (r[hit], c[hit]), energy[hit])
