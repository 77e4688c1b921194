"""Result of a scene fit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.arrays import plain_rows
from boresight._utils.html import html_table
from boresight._utils.naming import named
from boresight.scene.galaxies import galaxy_table
from boresight.scene.images import Image
from boresight.scene.motion import Motions, add_motions
from boresight.scene.parameters import (
    Problem,
    affine,
    corrected_wcs,
    parameter_names,
    profile_of,
    state_scales,
)
from boresight.scene.places import Plane
from boresight.scene.psf import PSF

if TYPE_CHECKING:
    from astropy.table import QTable, Table

__all__ = ["FittedImage", "SceneResult"]

Floats = NDArray[np.float64]
STAGES = ("sources", "images", "all")


@named
@dataclasses.dataclass(frozen=True)
class FittedImage:
    """Fit result of one image: its WCS, PSF, fluxes and sky.

    Attributes
    ----------
    name : str
        Name of the image.
    wcs : astropy.wcs.WCS or Solution
        The corrected WCS, for 0-based array pixels.
    crtan_arcsec : ndarray, shape (2,)
        Shift on the tangent plane, arcsec; (0, 0) if not free.
    crtan_error_arcsec : ndarray, shape (2,)
        Standard errors of the shift.
    phi_rad, phi_error_rad : float
        Rotation, and its standard error; 0 if not free.
    chromatic, chromatic_error : ndarray, shape (2,)
        Shift along right ascension and declination per unit of colour, relative to the median
        colour of the sources, in arcsec per magnitude, and its standard errors; 0 if not fitted.
        Images of one band have the same value.
    matrix : ndarray, shape (2, 2)
        M in ``plane = CD M (pixel - crpix) + crtan``.
    psf : Moffat, Gaussian or EffectivePSF
        The fitted PSF.
    flux, flux_error : ndarray, shape (n,)
        Flux of each source, and its standard error; 0 with an infinite error for a source outside
        the image.
    sky : ndarray
        Parameters of the sky background: the value at the centre, and the increases over the full
        width and height.
    chi2_dof : float
        Mean square of the residuals in units of their noise.
    pixels : int
        Number of pixels that were fitted.
    windows : list
        Box (x0, x1, y0, y1) in which each source is modelled; None for a source outside the image.

    Examples
    --------
    See `boresight.scene.fit`.
    """

    name: str
    wcs: Any
    crtan_arcsec: Floats
    crtan_error_arcsec: Floats
    phi_rad: float
    phi_error_rad: float
    chromatic: Floats
    chromatic_error: Floats
    matrix: Floats
    psf: PSF
    flux: Floats
    flux_error: Floats
    sky: Floats
    chi2_dof: float
    pixels: int
    windows: list[tuple[int, int, int, int] | None]

    def to_dict(self) -> dict[str, Any]:
        """Return the movement of the image and the quality of its fit, for JSON.

        Returns
        -------
        dict
            ``name``; ``crtan_arcsec``, ``phi_rad`` and ``chromatic_arcsec_per_mag``, each with its
            error; ``chi2_dof`` and ``fwhm_px``.
        """
        return {
            "name": self.name,
            "crtan_arcsec": self.crtan_arcsec.tolist(),
            "crtan_error_arcsec": self.crtan_error_arcsec.tolist(),
            "phi_rad": self.phi_rad,
            "phi_error_rad": self.phi_error_rad,
            "chromatic_arcsec_per_mag": self.chromatic.tolist(),
            "chromatic_error_arcsec_per_mag": self.chromatic_error.tolist(),
            "chi2_dof": self.chi2_dof,
            "fwhm_px": self.psf.fwhm_px,
        }


@named
class SceneResult:
    """Result of `boresight.scene.fit`: images fitted together.

    Attributes
    ----------
    status : str
        "converged" (at a minimum), "stalled" (maximum number of steps reached, or no step reduces
        chi square although the gradient is not zero), or "failed" (no finite result).
    message : str
        The status in words, with the parameters that were held or that the pixels do not determine.
    images : list of FittedImage
        Fit result of each image.
    sources : astropy.table.QTable
        ``name``, ``ra``, ``dec`` [deg], ``ra_error``, ``dec_error`` [arcsec on the sky], and for
        every image ``flux_NAME`` and ``flux_error_NAME``, masked if the source is outside the
        image; ``flags``: "unseen" (in no image), "partly" (not in every image), "undetermined" (a
        parameter is frozen), "negative" (a flux below zero). If motions are fitted, also the total
        ``pmra``, ``pmdec`` [mas/yr] and ``parallax`` [mas] (known plus fitted part) with their
        errors; those of galaxies are 0.
    galaxies : astropy.table.QTable
        Shapes of the galaxies: ``name``, ``radius`` [arcsec], ``n``, ``axis_ratio`` and
        ``position_angle`` [deg], each with its error, ``radius_error`` and so on. The angle error
        of a round galaxy is 90 degrees.
    chi2_dof : float
        Weighted sum of squares per degree of freedom.
    num_pixels, num_parameters : int
        Numbers of fitted pixels and parameters.
    history : astropy.table.Table
        ``stage``, ``iteration``, ``chi2_dof``, ``damping``.
    parameter_names : list of str
        Names of the rows of `covariance`: ``NAME.ra``, ``NAME.dec`` [arcsec], ``NAME.flux[IMAGE]``
        of a source, ``NAME.pmra``, ``NAME.pmdec`` [mas/yr], ``NAME.parallax`` [mas],
        ``NAME.radius``, ``NAME.e1``, ``NAME.e2``, ``NAME.n``, ``IMAGE.psf.rd`` and so on,
        ``IMAGE.crtan_x``, ``IMAGE.crtan_y`` [arcsec], ``IMAGE.phi`` [rad], ``IMAGE.chromatic_x``,
        ``IMAGE.chromatic_y`` [arcsec/mag] (``BAND.chromatic_x`` where images have a band),
        ``IMAGE.sky``. With more than 1500 parameters, only those of the images.
    covariance : ndarray
        Covariance of the parameters, from the noise of the pixels (not scaled by chi2).
    frozen : list of str
        Free parameters that the pixels do not determine, and that were therefore held.
    """

    status: Literal["converged", "stalled", "failed"]

    def __init__(
        self, images: list[Image], names: list[str], fitted: Any, problem: Problem
    ) -> None:
        self._images, self._names, self._fitted, self._problem = images, names, fitted, problem
        self._models: dict[int, Floats] = {}
        self.status = fitted.status
        self.num_pixels = sum(fitted.image_pixels)
        self.num_parameters = fitted.parameters
        self.chi2_dof = fitted.chi2 / max(1, self.num_pixels - self.num_parameters)
        self.images: list[FittedImage] = []
        self.frozen: list[str] = []
        self.parameter_names: list[str] = []
        self.covariance: Floats = np.zeros((0, 0))
        self.message = ""
        self.sources: QTable
        self.galaxies: QTable

    @property
    def history(self) -> Table:
        """Iterations of all stages: ``stage``, ``iteration``, ``chi2_dof``, ``damping``."""
        from astropy.table import Table

        rows = [(STAGES[s], i, c, d) for s, i, c, d in self._fitted.history]
        return Table(rows=rows or None, names=("stage", "iteration", "chi2_dof", "damping"))

    def number(self, image: int | str) -> int:
        """Return the index of an image, from its name or number."""
        return (
            self._names.index(image) if isinstance(image, str) else range(len(self._names))[image]
        )

    def model(self, image: int | str) -> Floats:
        """Return the model of an image, shape (height, width): sky background and all sources."""
        k = self.number(image)
        if k not in self._models:
            self._models[k] = core.scene_model(*self._problem, self._fitted, k)
        return self._models[k]

    def residual(self, image: int | str) -> Floats:
        """Return the pixels minus the model, shape (height, width); bad pixels are NaN."""
        given = self._images[self.number(image)]
        return np.where(given.mask, np.nan, given.data - self.model(image))

    def pull(self, image: int | str) -> Floats:
        """Return the residual divided by the standard error of each pixel; bad pixels are NaN."""
        return self.residual(image) / np.sqrt(self._images[self.number(image)].variance)

    @property
    def dipoles(self) -> Table:
        """Remaining shift in the residuals of each image, common to all its sources.

        Columns ``image``, ``dx_px``, ``dy_px`` (shift of the light relative to the model), their
        errors, and ``sigma``, the length of the shift in standard errors. Above 5 the WCS of the
        image contradicts that of the others, and a ``wcs_freedom`` of at least "shift" is
        advisable.
        """
        from astropy.table import Table

        rows = [(name, *self._dipole(k)) for k, name in enumerate(self._names)]
        columns = ("image", "dx_px", "dy_px", "dx_error_px", "dy_error_px", "sigma")
        return Table(rows=rows, names=columns)

    def _dipole(self, k: int) -> tuple[float, ...]:
        model, pull = self.model(k), self.pull(k)
        # A shift by +x changes the light by minus its slope.
        by_y, by_x = (np.asarray(slope) for slope in np.gradient(-model))
        near = np.zeros(model.shape, bool)
        for box in self.images[k].windows:
            if box is not None:
                near[box[2] : box[3], box[0] : box[1]] = True
        use = near & np.isfinite(pull)
        noise = np.sqrt(self._images[k].variance[use])
        rows = np.stack([by_x[use] / noise, by_y[use] / noise])
        information: Floats = rows @ rows.T
        if not np.linalg.det(information) > 0:
            return 0.0, 0.0, np.inf, np.inf, 0.0
        slope: Floats = rows @ pull[use]
        shift = np.linalg.solve(information, slope)
        errors = np.sqrt(np.diag(np.linalg.inv(information)))
        return (*shift.tolist(), *errors.tolist(), float(np.linalg.norm(slope @ shift) ** 0.5))

    def to_dict(self) -> dict[str, Any]:
        """Return the result as numbers and text, for JSON; masked values are None.

        Returns
        -------
        dict
            ``status``, ``chi2_dof``, ``images`` (`FittedImage.to_dict` of each) and ``sources``
            (one dict per row of the table, in the units of the table).

        Examples
        --------
        See `boresight.scene.fit`.
        """
        return {
            "status": self.status,
            "chi2_dof": self.chi2_dof,
            "images": [image.to_dict() for image in self.images],
            "sources": plain_rows(self.sources),
        }

    def _repr_html_(self) -> str:
        rows = (
            (
                image.name,
                f"crtan ({x:+.4f}, {y:+.4f}) +- ({dx:.4f}, {dy:.4f}) arcsec, "
                f"chi2/dof {image.chi2_dof:.4g}, FWHM {image.psf.fwhm_px:.2f} px",
            )
            for image in self.images
            for (x, y), (dx, dy) in [(image.crtan_arcsec, image.crtan_error_arcsec)]
        )
        return html_table(f"{self!r}", rows, [self.message])

    def __repr__(self) -> str:
        return (
            f"SceneResult({self.status}, chi2_dof={self.chi2_dof:.5g}, {len(self._names)} images, "
            f"{len(self.sources)} sources, {self.num_parameters} parameters, "
            f"{self.num_pixels} pixels)"
        )


def collect(
    images: list[Image],
    names: list[str],
    cameras: list[Any],
    motions: Motions,
    plane: Plane,
    points: Floats,
    fitted: Any,
    problem: Problem,
) -> SceneResult:
    """Make the result from the output of the core."""
    result = SceneResult(images, names, fitted, problem)
    layout, sources = fitted.layout, motions.sources
    own: list[Floats] = [np.diagonal(fitted.own_covariance(k)) for k in range(len(sources))]
    shared: Floats = np.diagonal(fitted.shared_covariance())
    source_names = [source.name or f"source{k + 1}" for k, source in enumerate(sources)]
    for k, image in enumerate(images):
        result.images.append(_image(k, image, names[k], cameras[k], problem, fitted, (own, shared)))
    bands = [image.band or name for image, name in zip(images, names, strict=True)]
    free, labels = parameter_names(layout, problem, (names, bands), source_names, fitted)
    scales = state_scales(fitted)
    result.frozen = [labels[i] for i in fitted.frozen]
    full = fitted.covariance()
    first = 0 if full is not None else layout["shared"]
    chosen = [i for i in free if i >= first]
    matrix = full if full is not None else fitted.shared_covariance()
    places = np.array(chosen, dtype=int) - first
    result.parameter_names = [labels[i] for i in chosen]
    outer = scales[chosen]
    result.covariance = matrix[np.ix_(places, places)] * outer[:, None] * outer[None, :]
    result.sources = _table(result, source_names, plane, points, own)
    add_motions(result.sources, motions, fitted, own)
    result.galaxies = galaxy_table(fitted, source_names)
    result.message = _message(result, fitted, names, bands)
    return result


def _image(
    k: int, image: Image, name: str, camera: Any, problem: Problem, fitted: Any, variances: Any
) -> FittedImage:
    layout, state, (own, shared) = fitted.layout, fitted.state, variances
    first = layout["shared"]
    at = layout["wcs"][k]
    freedom = image.wcs_freedom
    matrix, crtan, phi = affine(freedom, state[at : at + 6])
    planar = freedom not in ("fixed", "attitude")
    errors = np.sqrt(shared[at - first : at - first + 3]) if planar else np.zeros(3)
    turned = freedom in ("rshift", "rscale")
    fluxes = layout["fluxes"][k]
    windows = fitted.windows(k)
    flux, flux_error = np.zeros(len(fluxes)), np.full(len(fluxes), np.inf)
    for s, at_flux in enumerate(fluxes):
        if windows[s] is not None:
            flux[s] = state[at_flux]
            flux_error[s] = np.sqrt(own[s][at_flux - layout["sources"][s]])
    sky_at = layout["skies"][k]
    terms = {"none": 0, "constant": 1, "plane": 3}[image.sky]
    row, chromatic_at = problem.images[k], layout["chromatic"][k]
    chromatic, chromatic_error = np.zeros(2), np.zeros(2)
    if chromatic_at is not None:
        chromatic = state[chromatic_at : chromatic_at + 2]
        chromatic_error = np.sqrt(shared[chromatic_at - first : chromatic_at - first + 2])
    wcs = camera if not planar else corrected_wcs(camera, np.array(row["cd"]), matrix, crtan)
    psf_at = layout["psfs"][row["psf"]]
    return FittedImage(
        name=name,
        wcs=wcs,
        crtan_arcsec=crtan,
        crtan_error_arcsec=errors[:2],
        phi_rad=phi,
        phi_error_rad=float(errors[2]) if turned else 0.0,
        chromatic=chromatic,
        chromatic_error=chromatic_error,
        matrix=matrix,
        psf=profile_of(image.psf, state[psf_at : psf_at + 4]),
        flux=flux,
        flux_error=flux_error,
        sky=state[sky_at : sky_at + terms],
        chi2_dof=fitted.image_chi2[k] / max(1, fitted.image_pixels[k]),
        pixels=fitted.image_pixels[k],
        windows=windows,
    )


def _table(
    result: SceneResult, names: list[str], plane: Plane, points: Floats, own: list[Floats]
) -> QTable:
    from astropy import units
    from astropy.table import MaskedColumn, QTable

    layout, state = result._fitted.layout, result._fitted.state
    first = np.array(layout["sources"], dtype=int)
    moved = points + np.column_stack([state[first], state[first + 1]])
    ra, dec = plane.sky(moved)
    table = QTable({"name": names})
    table["ra"], table["dec"] = ra * units.deg, dec * units.deg
    errors = np.sqrt([variances[:2] for variances in own])
    table["ra_error"], table["dec_error"] = errors.T * units.arcsec
    for image in result.images:
        unseen = [window is None for window in image.windows]
        for column, values in (("flux", image.flux), ("flux_error", image.flux_error)):
            known = MaskedColumn(values, mask=unseen) if any(unseen) else values
            table[f"{column}_{image.name}"] = known
    frozen = np.array(result._fitted.frozen, dtype=int)
    flags = []
    for k, size in enumerate(layout["sizes"]):
        fluxes = [image.flux[k] for image in result.images]
        words = []
        if not any(image.windows[k] for image in result.images):
            words.append("unseen")
        elif not all(image.windows[k] for image in result.images):
            words.append("partly")
        if words != ["unseen"] and bool(((frozen >= first[k]) & (frozen < first[k] + size)).any()):
            words.append("undetermined")
        if any(f < 0 for f in fluxes):
            words.append("negative")
        flags.append(",".join(words))
    table["flags"] = flags
    return table


def _message(result: SceneResult, fitted: Any, names: list[str], bands: list[str]) -> str:
    message = {
        "converged": "converged",
        "stalled": "stalled: the steps ran out, or none helped although the slope is not zero",
        "failed": "failed: no finite result",
    }[result.status]
    if fitted.reference is not None:
        message += (
            f"; the WCS of {names[fitted.reference]!r} is held as the reference, because no image "
            "is fixed and no source has an error_arcsec"
        )
    if fitted.chromatic_reference is not None:
        message += (
            f"; the shift by colour of {bands[fitted.chromatic_reference]!r} is held, because all "
            "images have one and no source has an error_arcsec"
        )
    if result.frozen:
        shown = ", ".join(result.frozen[:5]) + (" ..." if len(result.frozen) > 5 else "")
        message += f"; not determined by the pixels, and kept fixed: {shown}"
    return message
