"""Simulated cutouts, drawn apart from the core: Moffat stars by quadrature in numpy."""

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

SCALE = 0.262
CENTRES = np.array([[12.0, 9.0], [3.0, -7.0], [-15.0, -3.0]])
READ, SKY = 5.0, 100.0


def rotation(phi):
    return np.array([[np.cos(phi), -np.sin(phi)], [np.sin(phi), np.cos(phi)]])


def header(crpix=(75.5, 75.5), turn=0.0, crval=(329.2715, 13.6483)):
    """TAN header of the seed's cutouts; its CD matrix is turned by an angle."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], crval, crpix
    wcs.wcs.cd = SCALE * np.diag([-1.0, 1.0]) @ rotation(turn) / 3600
    return wcs


def sky_of(centres, wcs):
    """Positions on the sky of places on the tangent plane, arcsec."""
    pixels = np.asarray(centres) @ np.linalg.inv(wcs.wcs.cd * 3600).T + wcs.wcs.crpix - 1
    return SkyCoord(wcs.pixel_to_world(*pixels.T))


def moffat(x0, y0, n, rd, shape, order=5):
    """Pixel-integrated Moffat of flux 1."""
    u, w = np.polynomial.legendre.leggauss(order)
    x = (np.arange(shape[1])[:, None] + u / 2).ravel() - x0
    y = (np.arange(shape[0])[:, None] + u / 2).ravel() - y0
    f = (n - 1) / (np.pi * rd**2) * (1 + (y[:, None] ** 2 + x**2) / rd**2) ** -n
    return np.einsum(
        "iajb,a,b->ij", f.reshape(shape[0], order, shape[1], order), w / 2, w / 2, optimize=True
    )


def draw(centres, fluxes, n, rd, *, crpix=(74.5, 74.5), phi=0.0, shape=(150, 150), order=5):
    """Light of stars at places on the plane, arcsec, where plane = CD R(phi) (pixel - crpix)."""
    inverse = np.linalg.inv(SCALE * np.diag([-1.0, 1.0]) @ rotation(phi))
    image = np.zeros(shape)
    for (x, y), flux in zip(np.asarray(centres) @ inverse.T + crpix, fluxes, strict=True):
        image += flux * moffat(x, y, n, rd, shape, order)
    return image


def observe(image, seed):
    """Pixels and their true variance."""
    rng = np.random.default_rng(seed)
    return rng.poisson(image + SKY) + rng.normal(0, READ, image.shape) - SKY, image + SKY + READ**2
