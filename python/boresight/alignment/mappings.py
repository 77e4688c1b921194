"""Common interface to all kinds of WCS: to the sky, to a plane, and corrected.

Every kind has a plane, in pixels of the image, in which a linear correction ``M u + t`` applies:

- FITS WCS: the plane after distortion and before the CD matrix, relative to CRPIX, as in tweakwcs;
- gwcs and solution: the tangent plane at the centre of the image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import longitude_latitude, unit_vector
from boresight.alignment.sip import expanded, move_sip, summed
from boresight.alignment.tangent import GwcsMapping, SolvedMapping, TangentPlane
from boresight.camera.distortion import PolynomialDistortion
from boresight.errors import InputError, UndeterminedError
from boresight.solver.solution import Solution
from boresight.wcs.fits import SIP_MAX_ORDER
from boresight.wcs.polynomials import (
    Polynomials,
    check_points,
    fit_nodes,
    largest,
    lowest_order,
)

if TYPE_CHECKING:
    from astropy.wcs import WCS

__all__ = ["Mapping", "mapping_of"]

Floats = NDArray[np.float64]

AS_SIP_PX = 1e-7
"""Largest error of the TAN-SIP polynomials that replace a TPV, in pixels."""

EXACT_PX = 1e-5
"""Largest error of a corrected FITS WCS, in pixels. A WCS with a larger error is refused."""

FAR_RAD = 0.1
"""Distance, in radians, of the points that define the plane of a FITS WCS, large relative to
rounding."""


class Mapping(Protocol):
    """The parts of a WCS that alignment uses; pixels are 0-based array pixels, (n, 2)."""

    wcs: Any
    shape: tuple[int, int] | None

    def to_sky(self, pixels: Floats) -> Floats:
        """Return unit vectors (n, 3) of pixels."""

    def to_plane(self, pixels: Floats) -> Floats:
        """Return plane coordinates (n, 2) of pixels."""

    def sky_to_plane(self, sky: Floats) -> Floats:
        """Return plane coordinates (n, 2) of unit vectors; NaN where there are none."""

    def plane_to_sky(self, plane: Floats) -> Floats:
        """Return unit vectors (n, 3) of plane coordinates."""

    def corrected(self, matrix: Floats, shift: Floats) -> Mapping:
        """Return the mapping with the correction ``matrix @ u + shift`` in its plane."""

    def distorted(self, lens: PolynomialDistortion) -> Mapping:
        """Return the mapping with an added polynomial distortion about the image centre."""


def mapping_of(wcs: Any, image_shape: tuple[int, int] | None) -> Mapping:
    """Return the mapping of a WCS; the WCS object is never changed."""
    if isinstance(wcs, Solution):
        return SolvedMapping(wcs)
    from astropy.wcs import WCS

    if isinstance(wcs, WCS):
        return FitsMapping(wcs, image_shape)
    if hasattr(wcs, "forward_transform") and hasattr(wcs, "available_frames"):
        return GwcsMapping(wcs, image_shape)
    raise InputError(
        f"wcs: {type(wcs).__name__} is not a WCS; give an astropy.wcs.WCS, a gwcs.WCS or a Solution"
    )


class FitsMapping:
    """Mapping of an `astropy.wcs.WCS`."""

    def __init__(self, wcs: WCS, image_shape: tuple[int, int] | None) -> None:
        if wcs.naxis != 2 or not wcs.has_celestial:
            raise InputError(
                "wcs: it does not have two axes on the sky; give the celestial part, wcs.celestial"
            )
        self.wcs = wcs
        shape = wcs.pixel_shape
        self.shape = image_shape or (None if shape is None else (int(shape[1]), int(shape[0])))
        self._crpix = np.array(wcs.wcs.crpix) - 1.0
        self._tangent: TangentPlane | None = None
        frame = wcs.wcs.radesys.strip().upper()
        self._icrs = frame in ("", "ICRS", "FK5") and wcs.wcs.lngtyp == "RA"
        if not np.isfinite(wcs.pixel_scale_matrix).all() or not np.linalg.det(
            wcs.pixel_scale_matrix
        ):
            raise InputError("wcs: its CD matrix has no inverse; give one that maps to the sky")

    def _vectors(self, world: Floats) -> Floats:
        longitude, latitude = (0, 1) if self.wcs.wcs.lng == 0 else (1, 0)
        if self._icrs:
            return unit_vector(world[:, longitude], world[:, latitude])
        from astropy.coordinates import SkyCoord
        from astropy.wcs.utils import wcs_to_celestial_frame

        frame = wcs_to_celestial_frame(self.wcs)
        sky = SkyCoord(world[:, longitude], world[:, latitude], unit="deg", frame=frame).icrs
        return unit_vector(sky.ra.deg, sky.dec.deg)

    def _world(self, sky: Floats) -> Floats:
        longitude, latitude = longitude_latitude(sky)
        pair = np.degrees([longitude % (2 * np.pi), latitude])
        if not self._icrs:
            from astropy.coordinates import SkyCoord
            from astropy.wcs.utils import wcs_to_celestial_frame

            frame = wcs_to_celestial_frame(self.wcs)
            there = SkyCoord(*pair, unit="deg").transform_to(frame).spherical
            pair = np.array([there.lon.deg, there.lat.deg])
        return np.asarray(pair.T if self.wcs.wcs.lng == 0 else pair[::-1].T)

    def to_sky(self, pixels: Floats) -> Floats:
        """Return unit vectors of pixels."""
        return self._vectors(self.wcs.all_pix2world(pixels, 0))

    def to_plane(self, pixels: Floats) -> Floats:
        """Return pixels after distortion, relative to CRPIX."""
        return np.asarray(self.wcs.pix2foc(pixels, 0) - self._crpix)

    def sky_to_plane(self, sky: Floats) -> Floats:
        """Return undistorted pixels of directions; NaN on the far side of the sky."""
        if len(sky) == 0:
            return np.zeros((0, 2))
        if self._tangent is None and self.projection in ("TAN", "TAN-SIP"):
            self._tangent = self._tangent_plane()
        if self._tangent is not None:
            return self._tangent.of_sky(sky)
        return np.asarray(self.wcs.wcs_world2pix(self._world(sky), 0) - self._crpix)

    @property
    def projection(self) -> str:
        """Projection code from the header, with "-SIP" if there are SIP polynomials."""
        # WCSLIB splits TPV into TAN and a distortion; only the header shows that it is TPV.
        if "TPV" in self.wcs.wcs.to_header():
            return "TPV"
        return str(self.wcs.wcs.ctype[0])[5:]

    def _tangent_plane(self) -> TangentPlane:
        """Return the plane of a TAN projection from three points, as it is linear there."""
        length = FAR_RAD / np.sqrt(abs(np.linalg.det(np.radians(self.wcs.pixel_scale_matrix))))
        center, *ends = self.plane_to_sky(length * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        steps = [end / (end @ center) - center for end in ends]
        return TangentPlane.about(center, np.array(steps) / length)

    def plane_to_sky(self, plane: Floats) -> Floats:
        """Return directions of undistorted pixels."""
        return self._vectors(self.wcs.wcs_pix2world(plane + self._crpix, 0))

    def corrected(self, matrix: Floats, shift: Floats) -> FitsMapping:
        """Correct the CD matrix, CRPIX and, with distortion, the polynomials.

        CRVAL is kept, and CRPIX moves to the pixel at CRVAL. The polynomials are expanded about the
        new CRPIX, which is exact.
        """
        wcs = self.wcs.deepcopy()
        inverse = np.linalg.inv(matrix)
        target = -inverse @ shift
        linear = matrix
        if wcs.sip is None:
            wcs.wcs.crpix = wcs.wcs.crpix + target
        else:
            linear = matrix @ move_sip(wcs, target)
        _turn_matrix(wcs, self.wcs.pixel_scale_matrix @ linear)
        wcs.wcs.set()
        new = FitsMapping(wcs, self.shape)
        self._check(new, matrix, shift)
        return new

    def distorted(self, lens: PolynomialDistortion) -> FitsMapping:
        """Add the polynomials of a lens to the SIP polynomials.

        The plane stays centred on CRPIX, so the polynomials have terms of degree 0 and 1. A later
        correction moves these terms into CRPIX and the CD matrix.
        """
        if self.shape is None:
            raise InputError("image_shape: needed for a shared distortion; give (height, width)")
        if self.projection == "TPV":
            return self._as_sip().distorted(lens)
        if self.projection not in ("TAN", "TAN-SIP"):
            raise InputError(
                f"imcat: a WCS of {self.projection} cannot represent a shared distortion; give "
                "TAN, TAN-SIP, TPV, a gwcs or Solutions"
            )
        wcs = self.wcs.deepcopy()
        half = np.array(self.shape[::-1]) / 2
        bend = Polynomials.of_lens(lens)
        a, b = (expanded(p, self._crpix - half) for p in (bend.a, bend.b))
        inverse: tuple[Floats | None, ...] = (np.zeros((len(a) + 1, len(a) + 1)),) * 2
        if wcs.sip is not None:
            a = a if wcs.sip.a is None else summed(a, wcs.sip.a)
            b = b if wcs.sip.b is None else summed(b, wcs.sip.b)
            inverse = wcs.sip.ap, wcs.sip.bp
        return self._with_sip(wcs, (a, b), inverse)

    def _with_sip(
        self, wcs: WCS, terms: tuple[Floats, Floats], inverse: tuple[Floats | None, ...]
    ) -> FitsMapping:
        """Return the mapping of a WCS of the same image with these SIP polynomials."""
        from astropy.wcs import Sip

        assert self.shape is not None, "a shared distortion asks for it"
        wcs.wcs.ctype = [f"{kind[:5]}TAN-SIP" for kind in wcs.wcs.ctype]
        wcs.pixel_shape = self.shape[::-1]
        wcs.sip = Sip(*terms, *inverse, wcs.wcs.crpix)
        wcs.wcs.set()
        return FitsMapping(wcs, self.shape)

    def _as_sip(self) -> FitsMapping:
        """Convert a TPV to TAN-SIP, which is exact unless there are terms in the radius."""
        from astropy.wcs import WCS

        assert self.shape is not None, "a shared distortion asks for it"
        header = self.wcs.to_header(relax=True)
        for card in set(header["PV*"]):
            del header[card]
        for card in ("CTYPE1", "CTYPE2"):
            header[card] = header[card].replace("TPV", "TAN")
        wcs = WCS(header)
        straight, half = FitsMapping(wcs, self.shape), np.array(self.shape[::-1]) / 2
        at, check_at = (points(self.shape) + half for points in (fit_nodes, check_points))
        places, checks = (straight.sky_to_plane(self.to_sky(pixels)) for pixels in (at, check_at))
        u, check_u = at - self._crpix, check_at - self._crpix

        def of_order(order: int) -> tuple[float, Polynomials]:
            found = Polynomials.fit(u, places - u, range(order + 1))
            return largest(found(check_u) + check_u - checks), found

        miss, found = lowest_order(of_order, range(2, SIP_MAX_ORDER + 1), AS_SIP_PX)
        if not miss <= EXACT_PX:
            raise InputError(
                "imcat: a TPV with terms in the radius cannot represent a shared distortion, and "
                f"its equivalent TAN-SIP is off by {miss:.3g} px; give TAN-SIP, a gwcs or Solutions"
            )
        size = found.order + 2
        return self._with_sip(wcs, (found.a, found.b), (np.zeros((size, size)),) * 2)

    def _check(self, new: FitsMapping, matrix: Floats, shift: Floats) -> None:
        height, width = self.shape or (2 * abs(self._crpix[::-1]) + 1)
        corners = np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]])
        wanted = self.plane_to_sky(self.to_plane(corners) @ matrix.T + shift)
        scale = np.sqrt(abs(np.linalg.det(np.radians(self.wcs.pixel_scale_matrix))))
        miss = np.linalg.norm(new.to_sky(corners) - wanted, axis=1).max() / scale
        if not miss <= EXACT_PX:
            raise UndeterminedError(
                f"wcs: a correction of it misses by {miss:.3g} px; give one of TAN, TAN-SIP or TPV"
            )


def _turn_matrix(wcs: WCS, matrix: Floats) -> None:
    """Set the matrix of a WCS, in degrees per pixel, in whichever cards it has: CD or PC."""
    inner = wcs.wcs
    if inner.has_cd():
        inner.cd = matrix
        return
    scales = np.array(inner.cdelt)
    if inner.has_crota():
        inner.crota = [0.0, 0.0]
    inner.pc = matrix / scales[:, None]
