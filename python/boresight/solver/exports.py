"""Exports a solution as WCS: objects of astropy and gwcs, and header cards in files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from boresight._utils.files import write_atomically
from boresight._utils.naming import named
from boresight.camera.model import CameraModel
from boresight.solver.mapping import ARCSEC_PER_RADIAN, Floats, SkyMapping
from boresight.wcs.camera import fit_camera_wcs

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from astropy.wcs import WCS
    from gwcs import WCS as GWCS

    from boresight.frames.region import Region

__all__ = ["SipChoice", "SkyExports"]

SipChoice = Literal["auto", "none", "tpv"]
"""How distortion is written: SIP where it is needed, not at all, or as TPV."""

#: Points along each side of the image at which the error of a WCS is measured.
CHECKED_POINTS = 25


@named
class SkyExports(SkyMapping):
    """Base class of `Solution` that exports its WCS to other programs."""

    __slots__ = ()

    def wcs(self, tolerance_px: float = 0.01, *, sip: SipChoice = "auto") -> WCS:
        """Make an `astropy.wcs.WCS` for 0-based array pixels (column, row).

        A pinhole camera gives an exact TAN. Any other camera gives TAN-SIP, of the lowest order
        that keeps the largest error over the image below the tolerance. A fisheye gives ARC, ZEA,
        STG or SIN about its optical axis, depending on its projection, with SIP for its distortion;
        the error counts only as far from the axis as there are matched stars.

        Parameters
        ----------
        tolerance_px : float
            Largest error allowed, pixels.
        sip : {"auto", "none", "tpv"}
            "auto": SIP where it is needed. "none": no distortion, however large the error, for
            programs that cannot read it, such as viewers in a browser. "tpv": distortion by TPV,
            for SCAMP and SExtractor. Default "auto".

        Returns
        -------
        astropy.wcs.WCS
            Its header is ``solution.wcs().to_header(relax=True)``.

        Raises
        ------
        InputError
            If `sip` is unknown, or "tpv" for a fisheye.
        UndeterminedError
            If the image extends beyond the limit of the projection, or SIP does not represent the
            distortion of a fisheye within the tolerance.

        See Also
        --------
        write_wcs : writes it into files.
        gwcs : the camera model itself, not fitted.
        boresight.wcs.fit_wcs : also tells the accuracy reached.
        """
        stars = self._core.matches.directions @ self._rotation.T
        return fit_camera_wcs(self._camera, self._sky, stars, tolerance_px, sip)

    @property
    def _camera(self) -> CameraModel:
        return CameraModel._from_core(self._core.matches.camera)

    @property
    def _rotation(self) -> Floats:
        return np.array(self._core.matches.rotation_matrix)

    def gwcs(self, tolerance_px: float = 1e-6) -> GWCS:
        """Make an exact `gwcs.WCS` for 0-based array pixels (column, row).

        The WCS is the camera model itself and not a fit to it: distortion of either kind, any
        projection, and aberration and refraction if the solution corrected for them, built from
        astropy's models. A saved WCS can therefore be used without Boresight. Only the inverse of
        the distortion is fitted, and then made exact by iteration.

        Parameters
        ----------
        tolerance_px : float
            Largest allowed error of the inverse, pixels, wherever the distortion is one-to-one.
            Default 1e-6.

        Returns
        -------
        gwcs.WCS
            With the frames "detector" (pixels), "ideal" (pixels from the optical centre, without
            distortion) and "icrs", and the image as its bounding box.

        Raises
        ------
        ModuleNotFoundError
            If the package gwcs is not installed: ``pip install boresight[gwcs]``.
        InputError
            If the tolerance is not positive.
        UndeterminedError
            If the inverse misses by more than the tolerance.

        See Also
        --------
        save_gwcs : writes it to a file.

        Notes
        -----
        With a bounding box, gwcs's inverse gives NaN for stars outside the range of right
        ascensions and declinations of the image's corners. Such stars may be in the image, near its
        edges or at the poles. With ``wcs.bounding_box = None`` all stars are converted.

        Examples
        --------
        >>> import boresight
        >>> database = boresight.SolverDatabase.generate_from_hipparcos(max_fov_deg=20)
        >>> camera = boresight.CameraModel.from_fov(12.0, (512, 512))
        >>> frame = boresight.simulate_frame(camera, 83.8, -1.2, 30.0, seed=1)
        >>> stars = boresight.extract_centroids(frame.image).centroids
        >>> solution = database.solve_from_centroids(stars, 12.0, image_shape=(512, 512))
        >>> wcs = solution.gwcs()
        >>> wcs.pixel_to_world(256, 256).to_string(precision=1)
        '83.8 -1.2'
        """
        from boresight.wcs.gwcs import make_gwcs

        return make_gwcs(self._camera, self._rotation, self._place, tolerance_px)

    def save_gwcs(self, path: str | os.PathLike[str], tolerance_px: float = 1e-6) -> None:
        """Save `gwcs` as an ASDF file, for programs without Boresight.

        Parameters
        ----------
        path : path-like
            File to create or replace. It is written whole or not at all.
        tolerance_px : float
            As for `gwcs`.

        Raises
        ------
        ModuleNotFoundError, InputError, UndeterminedError
            As `gwcs`.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import asdf, boresight, pathlib, tempfile
        >>> database = boresight.SolverDatabase.generate_from_hipparcos(max_fov_deg=20)
        >>> camera = boresight.CameraModel.from_fov(12.0, (512, 512))
        >>> frame = boresight.simulate_frame(camera, 83.8, -1.2, 30.0, seed=1)
        >>> stars = boresight.extract_centroids(frame.image).centroids
        >>> solution = database.solve_from_centroids(stars, 12.0, image_shape=(512, 512))
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name) / "frame.asdf"
        >>> solution.save_gwcs(path)
        >>> with asdf.open(path) as file:
        ...     print(file["wcs"].available_frames)
        ['detector', 'ideal', 'icrs']
        >>> folder.cleanup()
        """
        from boresight.wcs.gwcs import asdf_bytes

        write_atomically(path, asdf_bytes(self.gwcs(tolerance_px)))

    def write_wcs(
        self,
        path: str | os.PathLike[str],
        *,
        copy: str | os.PathLike[str] | None = None,
        extensions: str | int | Sequence[str | int] = "all",
        sip: SipChoice = "auto",
        overwrite: bool = False,
        region: Region | str | None = None,
        tolerance_px: float = 0.01,
    ) -> Path:
        """Write the WCS into the FITS file of the frame.

        The old WCS is removed, whatever its form. Data and all other cards stay unchanged, byte for
        byte. The old cards are kept in an extension, from which `boresight.wcs.undo`, or
        ``boresight undo``, restores them. HISTORY cards record how the frame was solved, and the
        largest error of the WCS.

        Parameters
        ----------
        path : path-like
            The file that was solved: plain, with compressed images, or compressed as a whole.
        copy : path-like, optional
            Write to this file and leave `path` unchanged. Default: in place.
        extensions : "all", int, str or sequence of them
            Images that get the WCS. Default: the frame that `read_frame` takes, and all images of
            the same geometry (see `boresight.wcs.write_wcs`). If another HDU was solved, give it
            here.
        sip : {"auto", "none", "tpv"}
            Form of the distortion, as for `wcs`. Default "auto".
        overwrite : bool
            Replace `copy` if it exists. Default False.
        region : (slice, slice) or "full", optional
            The part of the image that was solved, as for `read_frame`.
        tolerance_px : float
            Largest error allowed, pixels. Default 0.01.

        Returns
        -------
        pathlib.Path
            The file that was written.

        Raises
        ------
        FileNotFoundError, FileExistsError
            If the file does not exist; if `copy` exists.
        InputError
            If the file is not a FITS file (see `save_wcs`), or an extension is missing or has
            another shape than the frame that was solved.
        FileFormatError
            If the file is damaged.
        UndeterminedError
            As `wcs`.

        Examples
        --------
        >>> import boresight, pathlib, tempfile
        >>> from astropy.io import fits
        >>> from astropy.wcs import WCS
        >>> camera = boresight.CameraModel.from_fov(12.0, (512, 512))
        >>> frame = boresight.simulate_frame(camera, 83.8, -1.2, 30.0, seed=1)
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name) / "frame.fits"
        >>> frame.write_fits(path)
        >>> solution = boresight.solve(path, 12.0)
        >>> solved = solution.write_wcs(path, copy=path.with_name("solved.fits"))
        >>> WCS(fits.getheader(solved)).pixel_to_world(256, 256).to_string(precision=1)
        '83.8 -1.2'
        >>> folder.cleanup()
        """
        from boresight.wcs.write import write_wcs

        wcs = self.wcs(tolerance_px, sip=sip)
        return write_wcs(
            path,
            wcs,
            copy=copy,
            overwrite=overwrite,
            extensions=extensions,
            region=region,
            error_deg=self._error_deg,
            history=self._history(wcs),
        )

    def save_wcs(
        self,
        path: str | os.PathLike[str],
        *,
        sip: SipChoice = "auto",
        tolerance_px: float = 0.01,
    ) -> Path:
        """Save the WCS as a FITS header without data, as the ``.wcs`` files of Astrometry.net.

        Parameters
        ----------
        path : path-like
            File to create or replace.
        sip : {"auto", "none", "tpv"}
            Form of the distortion, as for `wcs`. Default "auto".
        tolerance_px : float
            Largest error allowed, pixels. Default 0.01.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        InputError, UndeterminedError
            As `wcs`.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import boresight, pathlib, tempfile
        >>> from astropy.io import fits
        >>> camera = boresight.CameraModel.from_fov(12.0, (512, 512))
        >>> image = boresight.simulate_frame(camera, 83.8, -1.2, 30.0, seed=1).image
        >>> solution = boresight.solve(image, 12.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = solution.save_wcs(pathlib.Path(folder) / "frame.wcs")
        ...     print(fits.getheader(path)["CTYPE1"])
        RA---TAN
        """
        from boresight.wcs.write import write_header

        wcs = self.wcs(tolerance_px, sip=sip)
        return write_header(path, wcs, error_deg=self._error_deg, history=self._history(wcs))

    @property
    def _error_deg(self) -> float:
        """RMS residual per axis, degrees."""
        squares = self._core.matches.residuals**2
        return float(np.degrees(np.sqrt(squares.mean() / 2.0)))

    def _history(self, wcs: WCS) -> list[str]:
        """HISTORY lines: the program, the stars and residuals, and the error of the WCS."""
        from importlib.metadata import version

        matches = self._core.matches
        rms = np.sqrt((matches.residuals**2).mean()) * ARCSEC_PER_RADIAN
        form = str(wcs.to_header(relax=True)["CTYPE1"])[5:]
        if wcs.sip is not None:
            form += f" of order {wcs.sip.a_order}"
        return [
            f"WCS by Boresight {version('boresight')}: {len(matches)} stars, "
            f"RMS residual {rms:.3g} arcsec, P(chance) <= {self._core.probability:.1e}",
            f"{form} differs from the solution by {self._wcs_error_px(wcs):.2g} px at most",
        ]

    def _wcs_error_px(self, wcs: WCS) -> float:
        """Largest difference over the image between a WCS and the solution, pixels."""
        height, width = self._camera.image_shape
        sides = (np.linspace(0.0, side, CHECKED_POINTS) for side in (width, height))
        x, y = (grid.ravel() for grid in np.meshgrid(*sides))
        there = wcs.all_pix2world(x, y, 0)
        back = self.world_to_pixel(*there)
        misses = np.hypot(back[0] + width / 2 - x, back[1] + height / 2 - y)
        return float(np.nanmax(misses)) if np.isfinite(misses).any() else np.nan
