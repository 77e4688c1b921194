"""Simulation of one frame together with its truth."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight._utils.arguments import count, degrees, whole
from boresight._utils.files import write_atomically
from boresight._utils.naming import named
from boresight.camera.model import CameraModel
from boresight.errors import InputError
from boresight.simulate.render import Psf, add_cosmic_rays, bleed
from boresight.simulate.sky import (
    SPEED_OF_LIGHT_KM_S,
    aberrate,
    attitude,
    fit_tan_sip,
    ra_dec,
    unit_vector,
)

if TYPE_CHECKING:
    import os

    from astropy.io.fits import Header
    from astropy.wcs import WCS

    from boresight.catalog.catalog import Catalog

Floats = NDArray[np.float64]

#: Width in pixels of the border around the image whose stars are drawn, too.
MARGIN_PX = 64

#: Base-10 logarithm of the number of stars of the whole sky brighter than magnitude 6, 7, ... 18.
SKY_COUNTS = np.array(
    [3.68, 4.16, 4.62, 5.08, 5.53, 5.97, 6.38, 6.79, 7.18, 7.55, 7.91, 8.24, 8.54]
)
SKY_COUNTS_FROM = 6.0
SKY_SQUARE_DEGREES = 41_253.0

#: Smallest number that counts as positive.
TINY = float(np.finfo(float).tiny)

#: Smallest FWHM of a star in pixels. The step of the quadrature over pixels is a sixth of the FWHM.
LEAST_FWHM_PX = 0.1

#: Mean charge of hot pixels and cosmic rays, in units of the noise of a pixel.
DEFECT_SNR = 100.0

#: Seed of the hot pixels, which are properties of the detector: equal in all frames of one shape.
HOT_PIXEL_SEED = 20_180_725

#: Image rows per step. Ctrl-C takes effect between steps; more rows need more memory.
PART_ROWS = 256


@named
@dataclasses.dataclass(frozen=True, eq=False)
class SimulatedStars:
    """Truth of a simulated frame, one element per star.

    Attributes
    ----------
    catalog_id : numpy.ndarray of int64
        Identifier in the catalogue; 0 for random stars fainter than the catalogue.
    x, y : numpy.ndarray
        True position in pixels from the image's centre.
    flux : numpy.ndarray
        Total counts.
    magnitude : numpy.ndarray
        Magnitude.
    ra_deg, dec_deg : numpy.ndarray
        ICRS position at the epoch, without aberration.

    Examples
    --------
    See `simulate_frame`.
    """

    catalog_id: NDArray[np.int64]
    x: Floats
    y: Floats
    flux: Floats
    magnitude: Floats
    ra_deg: Floats
    dec_deg: Floats

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"<SimulatedStars: {len(self)}>"

    def __getitem__(self, index: Any) -> SimulatedStars:
        """Select stars by slice, mask or indices."""
        columns = (getattr(self, field.name)[index] for field in dataclasses.fields(self))
        return SimulatedStars(*columns)


@named
@dataclasses.dataclass(frozen=True, eq=False)
class SimulatedFrame:
    """A simulated image and the truth behind it.

    Attributes
    ----------
    image : numpy.ndarray of float32
        Counts, shape (height, width).
    stars : SimulatedStars
        The stars that were drawn, brightest first.
    camera_model : CameraModel
        The camera.
    ra_deg, dec_deg, roll_deg : float
        Right ascension and declination (ICRS) of the optical axis, and position angle of the
        image's up direction (-y), from north through east.
    rotation_icrs_to_camera : numpy.ndarray of shape (3, 3)
        The attitude as a rotation matrix.
    epoch : float
        Middle of the exposure as a Julian year (TDB).
    exposure_s : float
        Length of the exposure in seconds.
    velocity_km_s : numpy.ndarray of shape (3,)
        The observer's barycentric velocity that displaced the stars; zeros for none.

    Examples
    --------
    See `simulate_frame`.
    """

    image: NDArray[np.float32]
    stars: SimulatedStars
    camera_model: CameraModel
    ra_deg: float
    dec_deg: float
    roll_deg: float
    rotation_icrs_to_camera: Floats
    epoch: float
    exposure_s: float
    velocity_km_s: Floats

    def __repr__(self) -> str:
        height, width = self.image.shape
        return (
            f"<SimulatedFrame: {width} x {height}, RA {self.ra_deg:.4f} Dec {self.dec_deg:+.4f} "
            f"roll {self.roll_deg:.3f} deg, {len(self.stars)} stars>"
        )

    def world_to_pixel(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[Floats, Floats]:
        """Pixel positions of ICRS positions.

        Parameters
        ----------
        ra_deg, dec_deg : array_like
            Position in degrees, without aberration.

        Returns
        -------
        x, y : float or numpy.ndarray
            Pixels from the image's centre; NaN for positions that the camera cannot image.
        """
        apparent = aberrate(unit_vector(ra_deg, dec_deg), self.velocity_km_s)
        return self.camera_model.direction_to_pixel(apparent @ self.rotation_icrs_to_camera.T)

    def pixel_to_world(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """ICRS positions of pixel positions.

        Parameters
        ----------
        x, y : array_like
            Pixels from the image's centre.

        Returns
        -------
        ra_deg, dec_deg : float or numpy.ndarray
            Position in degrees, without aberration.
        """
        apparent = self.camera_model.pixel_to_direction(x, y) @ self.rotation_icrs_to_camera
        return ra_dec(aberrate(apparent, -self.velocity_km_s))

    def header(self, *, sip_order: int = 6) -> Header:
        """FITS header with the true WCS, as TAN-SIP for 1-based FITS pixels, and the times.

        For a fisheye the projection of the WCS is ARC, ZEA, STG or SIN instead of TAN.

        Parameters
        ----------
        sip_order : int
            Order of the distortion polynomials, 2 to 9; 0 for none (TAN). Default 6.

        Returns
        -------
        astropy.io.fits.Header
            The WCS is a least-squares fit to the truth over the image. It includes aberration, so
            it gives ICRS positions.
        """
        from astropy.io import fits
        from astropy.time import Time, TimeDelta

        header = fits.Header()
        if self.camera_model.projection == "gnomonic":
            shape = self.camera_model.image_shape
            header.update(fit_tan_sip(self.pixel_to_world, shape, sip_order))
        else:
            header.update(self._fisheye_wcs(sip_order).to_header(relax=True))
        half = TimeDelta(self.exposure_s / 2.0, format="sec")
        middle = Time(self.epoch, format="jyear", scale="tdb")
        # Without the MJD cards, astropy would add them itself and warn about it.
        for suffix, instant in (("OBS", middle - half), ("END", middle + half)):
            header[f"DATE-{suffix}"] = instant.utc.isot
            header[f"MJD-{suffix}"] = instant.utc.mjd
        header["EXPTIME"] = (self.exposure_s, "s")
        header["SIMULATE"] = (True, "simulated frame")
        return header

    def _fisheye_wcs(self, sip_order: int) -> WCS:
        from boresight.wcs.fits import fit_wcs

        x, y = self.camera_model.direction_to_pixel([0.0, 0.0, 1.0])
        return fit_wcs(
            lambda pixels: unit_vector(*self.pixel_to_world(*pixels.T)),
            self.camera_model.image_shape,
            max_order=max(sip_order, 1),
            projection=self.camera_model.projection,
            center=(float(x), float(y)),
        )[0]

    def wcs(self, *, sip_order: int = 6) -> WCS:
        """Return the true WCS for 0-based array pixels, from `header`.

        Parameters
        ----------
        sip_order : int
            Order of the distortion polynomials, as in `header`.

        Returns
        -------
        astropy.wcs.WCS
        """
        from astropy.wcs import WCS

        return WCS(self.header(sip_order=sip_order))

    def write_fits(self, path: str | os.PathLike[str]) -> None:
        """Write the image and its header to a FITS file, replacing an existing file.

        Parameters
        ----------
        path : str or path-like
            File to write.
        """
        from astropy.io import fits

        buffer = io.BytesIO()
        fits.PrimaryHDU(self.image, self.header()).writeto(buffer)
        write_atomically(path, buffer.getvalue())


@named
def simulate_frame(
    camera_model: CameraModel,
    ra_deg: float,
    dec_deg: float,
    roll_deg: float = 0.0,
    *,
    catalog: Catalog | None = None,
    epoch: float = 2000.0,
    velocity_km_s: ArrayLike | None = None,
    psf_fwhm_px: float = 2.0,
    moffat_beta: float | None = None,
    stretch: float = 0.0,
    coma: float = 0.0,
    zero_point: float = 20.0,
    exposure_s: float = 1.0,
    gain: float = 1.0,
    read_noise_e: float = 5.0,
    background: float = 20.0,
    background_tilt: tuple[float, float] = (0.0, 0.0),
    full_well_e: float | None = None,
    bleeding: bool = False,
    hot_pixels: int = 0,
    cosmic_rays: int = 0,
    faint_limit: float | None = None,
    seed: int = 0,
) -> SimulatedFrame:
    """Simulate a frame of the sky.

    Parameters
    ----------
    camera_model : CameraModel
        The camera, with its distortion and the offset of its optical centre.
    ra_deg, dec_deg : float
        Right ascension and declination of the optical axis (ICRS), degrees.
    roll_deg : float
        Position angle of the image's up direction (-y), from north through east. Default 0.
    catalog : Catalog, optional
        Stars to draw. Default: Hipparcos.
    epoch : float
        Julian year (TDB) of the middle of the exposure, to which proper motions are applied.
    velocity_km_s : array_like of shape (3,), optional
        The observer's barycentric velocity in km/s (`earth_barycentric_velocity`). The formula of
        aberration is the exact relativistic one. Default: no aberration.
    psf_fwhm_px : float
        Full width at half maximum of a star on the axis in pixels, at least 0.1.
    moffat_beta : float, optional
        Exponent of a Moffat profile, above 1. A lower exponent gives wider wings.
        Default: Gaussian.
    stretch : float
        Relative elongation of a star's image along the radius at the corner farthest from the axis.
        The elongation grows with the square of the distance from the axis. Default 0.
    coma : float
        Fraction of the light that is displaced outwards, by 0.6 FWHM, at the corner farthest from
        the axis. Fraction and displacement are proportional to the distance from the axis. The
        centroid stays at the star's position. Default 0.
    zero_point : float
        Magnitude of a star that gives one electron per second.
    exposure_s : float
        Exposure in seconds.
    gain : float
        Electrons per count.
    read_noise_e : float
        RMS read noise of a pixel, in electrons.
    background : float
        Sky background in electrons per second and pixel.
    background_tilt : (float, float)
        Relative change of the background from the left to the right edge and from top to bottom.
    full_well_e : float, optional
        Electrons that a pixel can hold. Default: no limit.
    bleeding : bool
        Whether charge above the full well spills along its column, half up and half down. If
        False, this charge is lost.
    hot_pixels : int
        Number of hot pixels. All frames of one shape have the same hot pixels.
    cosmic_rays : int
        Number of cosmic-ray hits, short streaks at random places. Neither this number nor
        `hot_pixels` may exceed the number of pixels.
    faint_limit : float, optional
        Magnitude down to which random stars are added where the catalogue is incomplete, as many
        as the real sky has in a field of this star density. Default: no random stars.
    seed : int
        Seed of all random numbers; the same arguments give the same frame.

    Returns
    -------
    SimulatedFrame
        Image and truth.

    Raises
    ------
    InputError
        If an argument is not finite or outside its range.

    Examples
    --------
    >>> from boresight import CameraModel
    >>> from boresight.simulate import simulate_frame
    >>> camera = CameraModel.from_fov(10.0, (1024, 1024))
    >>> frame = simulate_frame(camera, 83.8, -1.2, seed=1)
    >>> frame.image.shape, frame.image.dtype
    ((1024, 1024), dtype('float32'))
    >>> brightest = frame.stars[0]
    >>> int(brightest.catalog_id)  # epsilon Orionis
    26311
    """
    velocity = np.zeros(3) if velocity_km_s is None else np.asarray(velocity_km_s, dtype=np.float64)
    if velocity.shape != (3,) or not np.linalg.norm(velocity) < SPEED_OF_LIGHT_KM_S:
        raise InputError(
            f"velocity_km_s: {velocity_km_s!r} is not a velocity; give three numbers in km/s"
        )
    if moffat_beta is not None and not moffat_beta > 1:
        raise InputError(f"moffat_beta: {moffat_beta} gives infinite light; give a number above 1")
    ra_deg, dec_deg = degrees("ra_deg", ra_deg), degrees("dec_deg", dec_deg)
    roll_deg = degrees("roll_deg", roll_deg)
    _check_finite(ra_deg=ra_deg, roll_deg=roll_deg, epoch=epoch)
    if not -90.0 <= dec_deg <= 90.0:
        raise InputError(f"dec_deg: {dec_deg} is not a declination; give degrees from -90 to 90")
    _check_finite(zero_point=zero_point, faint_limit=faint_limit or 0.0)
    _check_finite(0.0, stretch=stretch, coma=coma, read_noise_e=read_noise_e, background=background)
    for name, number in (("hot_pixels", hot_pixels), ("cosmic_rays", cosmic_rays)):
        whole(name, number, 0, math.prod(camera_model.image_shape))
    _check_finite(LEAST_FWHM_PX, psf_fwhm_px=psf_fwhm_px)
    _check_finite(TINY, exposure_s=exposure_s, gain=gain)
    _check_finite(TINY, full_well_e=1.0 if full_well_e is None else full_well_e)

    rng = np.random.default_rng(count("seed", seed))
    truth = SimulatedFrame(
        np.empty((0, 0), np.float32), _no_stars(), camera_model, ra_deg % 360.0, dec_deg, roll_deg,
        attitude(ra_deg, dec_deg, roll_deg), epoch, exposure_s, velocity)  # fmt: skip
    stars = _catalog_stars(truth, catalog)
    if faint_limit is not None:
        stars = _with_faint_stars(truth, stars, faint_limit, rng)
    electrons = 10.0 ** (0.4 * (zero_point - stars.magnitude)) * exposure_s
    order = np.argsort(-electrons, kind="stable")
    stars, electrons = dataclasses.replace(stars, flux=electrons / gain)[order], electrons[order]

    height, width = camera_model.image_shape
    noise = math.sqrt(background * exposure_s + read_noise_e**2)
    psf = Psf(psf_fwhm_px, moffat_beta, stretch, coma, camera_model)
    image = psf.draw(stars.x, stars.y, electrons, stars.catalog_id > 0, max(noise, 1.0))
    rows, columns = np.linspace(-0.5, 0.5, height), np.linspace(-0.5, 0.5, width)
    for part in _parts(image):
        tilt = 1.0 + background_tilt[0] * columns + background_tilt[1] * rows[part, None]
        image[part] += background * exposure_s * np.maximum(tilt, 0.0)
    fixed = np.random.default_rng([HOT_PIXEL_SEED, height, width])
    image.ravel()[fixed.integers(0, image.size, hot_pixels)] += fixed.exponential(
        DEFECT_SNR * noise, hot_pixels
    )
    # Photon noise comes first, then saturation of the pixels, then read noise.
    for part in _parts(image):
        image[part] += rng.standard_normal(image[part].shape) * np.sqrt(image[part])
    add_cosmic_rays(image, cosmic_rays, DEFECT_SNR * noise, rng)
    if full_well_e is not None:
        image = bleed(image, full_well_e) if bleeding else np.minimum(image, full_well_e)
    read = np.empty(image.shape, np.float32)
    for part in _parts(image):
        image[part] += rng.standard_normal(image[part].shape) * read_noise_e
        read[part] = image[part] / gain
    return dataclasses.replace(truth, image=read, stars=stars)


def _parts(image: Floats) -> Iterator[slice]:
    """Divide the rows of an image into slices of `PART_ROWS`."""
    return (slice(start, start + PART_ROWS) for start in range(0, len(image), PART_ROWS))


def _check_finite(minimum: float = -math.inf, **arguments: float) -> None:
    """Refuse arguments that are not finite numbers, or below a minimum."""
    for name, value in arguments.items():
        if not (math.isfinite(value) and value >= minimum):
            least = "" if minimum < 0 else f", at least {minimum}"
            least = " above zero" if minimum == TINY else least
            raise InputError(f"{name}: {value} is out of range; give a finite number{least}")


def _catalog_stars(truth: SimulatedFrame, catalog: Catalog | None) -> SimulatedStars:
    """Collect the catalogue's stars in the frame and within `MARGIN_PX` of it."""
    if catalog is None:
        from boresight.catalog.catalog import Catalog

        catalog = Catalog.hipparcos()
    stars = catalog.at_epoch(truth.epoch)
    x, y = truth.world_to_pixel(stars.ra_deg, stars.dec_deg)
    height, width = truth.camera_model.image_shape
    inside = (np.abs(x) < width / 2 + MARGIN_PX) & (np.abs(y) < height / 2 + MARGIN_PX)
    return SimulatedStars(
        stars.ids,
        x,
        y,
        np.zeros_like(x),
        stars.magnitude.astype(np.float64),
        stars.ra_deg,
        stars.dec_deg,
    )[inside]


def _with_faint_stars(
    truth: SimulatedFrame, stars: SimulatedStars, faint_limit: float, rng: np.random.Generator
) -> SimulatedStars:
    """Add random stars per quarter magnitude, up to the number expected at this star density."""
    height, width = truth.camera_model.image_shape
    edges = np.arange(SKY_COUNTS_FROM, faint_limit + 1e-9, 0.25)
    if len(edges) < 2:
        return stars
    area = (
        (width + 2 * MARGIN_PX)
        * (height + 2 * MARGIN_PX)
        * (truth.camera_model.pixel_scale_arcsec / 3600.0) ** 2
    )
    magnitudes = SKY_COUNTS_FROM + np.arange(len(SKY_COUNTS))
    cumulative = 10.0 ** np.interp(edges, magnitudes, SKY_COUNTS) * area / SKY_SQUARE_DEGREES
    present = np.histogram(stars.magnitude, edges)[0]
    # Catalogues are complete to about magnitude 8: these stars measure the field's star density.
    bright = edges[1:] <= 8.0
    expected = np.diff(cumulative)
    richness = np.clip((present[bright].sum() + 1) / (expected[bright].sum() + 1), 0.3, 4.0)
    counts = rng.poisson(np.maximum(richness * expected - present, 0.0))
    counts[bright] = 0
    total = int(counts.sum())
    magnitude = rng.uniform(np.repeat(edges[:-1], counts), np.repeat(edges[1:], counts))
    x = rng.uniform(-width / 2 - MARGIN_PX, width / 2 + MARGIN_PX, total)
    y = rng.uniform(-height / 2 - MARGIN_PX, height / 2 + MARGIN_PX, total)
    ra, dec = truth.pixel_to_world(x, y)
    faint = (np.zeros(total, np.int64), x, y, np.zeros(total), magnitude, ra, dec)
    columns = (getattr(stars, field.name) for field in dataclasses.fields(stars))
    return SimulatedStars(*(np.concatenate(pair) for pair in zip(columns, faint, strict=True)))


def _no_stars() -> SimulatedStars:
    empty = np.empty(0)
    return SimulatedStars(np.empty(0, np.int64), empty, empty, empty, empty, empty, empty)
