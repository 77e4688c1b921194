"""Alignment of two images by their pixels, without sources."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils.arguments import count
from boresight._utils.arrays import map_points, unit_vector
from boresight._utils.naming import named
from boresight._utils.progress import Progress, progress_callback
from boresight.errors import InputError
from boresight.extraction.images import pixels_of
from boresight.scene.images import Image
from boresight.solver.solution import Solution
from boresight.wcs.fits import fit_wcs

if TYPE_CHECKING:
    from astropy.wcs import WCS

__all__ = ["Registration", "register"]

Floats = NDArray[np.float64]
Freedom = Literal["fixed", "shift", "rshift", "rscale", "general"]
Loss = Literal["linear", "huber", "cauchy", "geman_mcclure"]

#: Names of the fitted parameters for each freedom.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "fixed": (),
    "shift": ("shift_x", "shift_y"),
    "rshift": ("shift_x", "shift_y", "phi"),
    "rscale": ("shift_x", "shift_y", "phi", "scale"),
    "general": ("shift_x", "shift_y", "m00", "m01", "m10", "m11"),
}


@named
@dataclasses.dataclass(frozen=True)
class Registration:
    """Transformation between an image and a reference, with its covariance.

    A pixel of the image maps to ``center + M (q - center) + shift`` in the reference. Here q is the
    pixel after the start transformation, center is the centre of the reference, and M is the
    rotation ``R(phi) = [[cos phi, -sin phi], [sin phi, cos phi]]``, this rotation times the scale,
    or any matrix. The start transformation is the identity, or follows from the WCS of both images.

    Attributes
    ----------
    transform : ndarray, shape (2, 3)
        Matrix from pixels (column, row, 1) of the image to pixels of the reference, both 0-based.
    freedom : str
        Kind of movement that was fitted.
    parameters : ndarray, shape (n,)
        Fitted parameters.
    parameter_names : tuple of str
        Names of the parameters: "shift_x", "shift_y" [px], "phi" [rad], "scale", or "m00" to "m11"
        (elements of M minus those of the identity).
    covariance : ndarray, shape (n, n)
        Covariance of the parameters, from the noise of both images.
    gain, offset : float
        Photometric model: image = gain * reference + offset.
    gain_error : float
        Standard error of the gain.
    blur_px2 : float
        Variance per axis, in px^2, of the Gaussian that blurs the reference to the width of the
        image; negative if the image is the sharper one.
    chi2_dof : float
        Robust variance of the residuals divided by the given noise variance; 1 if no noise was
        given, because the residuals then define the noise.
    pixels : int
        Number of pixels that were compared.
    iterations : int
        Number of steps at full resolution.
    status : str
        "converged"; "stalled" if the maximum number of steps was reached; "failed" if the images
        have nothing in common, that is, the gain is not significant.
    message : str
        The status in words.
    image_shape : (int, int)
        Height and width of the image.
    wcs : astropy.wcs.WCS or None
        WCS of the image, from the WCS of the reference; None if the reference has none.

    Examples
    --------
    See `register`.
    """

    transform: Floats
    freedom: str
    parameters: Floats
    parameter_names: tuple[str, ...]
    covariance: Floats
    gain: float
    offset: float
    gain_error: float
    blur_px2: float
    chi2_dof: float
    pixels: int
    iterations: int
    status: Literal["converged", "stalled", "failed"]
    message: str
    image_shape: tuple[int, int]
    wcs: WCS | None

    def __repr__(self) -> str:
        x, y = self.shift_px
        return (
            f"<Registration: {self.status}, shift ({x:.3f}, {y:.3f}) px, rotation "
            f"{np.degrees(self.phi_rad):.4f} deg, scale {self.scale:.5f}, gain {self.gain:.4g} +- "
            f"{self.gain_error:.2g}, {self.pixels} pixels>"
        )

    @property
    def errors(self) -> Floats:
        """Standard errors of the parameters, shape (n,)."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def shift_px(self) -> tuple[float, float]:
        """The shift (x, y) at the centre, in pixels of the reference; (0, 0) for "fixed"."""
        x, y = self.parameters[:2] if self.freedom != "fixed" else (0.0, 0.0)
        return float(x), float(y)

    @property
    def phi_rad(self) -> float:
        """The rotation in radians; for a general matrix, its best rotation."""
        matrix = self.transform
        if self.freedom in ("rshift", "rscale"):
            return float(self.parameters[2])
        return float(
            np.arctan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1])
            if self.freedom == "general"
            else 0.0
        )

    @property
    def scale(self) -> float:
        """Pixels of the reference per pixel of the image: square root of the determinant."""
        return float(np.sqrt(abs(np.linalg.det(self.transform[:, :2]))))

    def to_reference(self, x: ArrayLike, y: ArrayLike) -> tuple[Any, Any]:
        """Transform pixels of the image to pixels of the reference, both 0-based."""
        matrix, shift = self.transform[:, :2], self.transform[:, 2]
        return map_points(lambda points: points @ matrix.T + shift, x, y)

    def from_reference(self, x: ArrayLike, y: ArrayLike) -> tuple[Any, Any]:
        """Transform pixels of the reference to pixels of the image, both 0-based."""
        inverse, shift = np.linalg.inv(self.transform[:, :2]), self.transform[:, 2]
        return map_points(lambda points: (points - shift) @ inverse.T, x, y)


@named
def register(
    image: Any,
    reference: Any,
    freedom: Freedom = "rshift",
    *,
    loss: Loss = "huber",
    match_psf: bool = True,
    search: bool = True,
    max_iterations: int = 50,
    progress: Progress = None,
) -> Registration:
    """Align an image to a reference by their pixels, without sources.

    ``gain * reference + offset``, moved and blurred, is fitted to the image by Gauss-Newton on an
    image pyramid (Lucas & Kanade 1981). This works for nebulae, galaxies, crowded fields, and
    scenes of any kind.

    Parameters
    ----------
    image, reference : Image, array_like, CCDData, str or path
        The images, which may differ in size. NaN and masked pixels are ignored. The variance of an
        `Image` weights its pixels; for other images the noise is taken as uniform and estimated
        from the residuals. If both images have a WCS, these give the start.
    freedom : str
        Kind of movement to fit: "fixed", "shift", "rshift" (shift and rotation; default), "rscale"
        (shift, rotation and one scale), "general" (shift and any matrix).
    loss : str
        Loss function of the residuals: "linear", "huber" (default), "cauchy" or "geman_mcclure".
        The last three are robust: they tolerate objects that only one image contains.
    match_psf : bool
        Whether to blur the sharper image until both have the same PSF width. Default True.
    search : bool
        Whether to search for the start by correlation at the coarsest level, up to 0.3 of the
        image's side and 10 degrees. Default True.
    max_iterations : int
        Maximum number of steps at each level. Default 50.
    progress : bool or callable, optional
        True draws a progress bar; a callable gets the fraction done.

    Returns
    -------
    Registration

    Raises
    ------
    InputError
        If an image or an option is invalid.
    UndeterminedError
        If the images hardly overlap.

    Examples
    --------
    >>> import numpy as np
    >>> from boresight import scene
    >>> y, x = np.mgrid[:100, :120]
    >>> def nebula(x, y):
    ...     return 50.0 * np.exp(-((x - 60) ** 2 + 2 * (y - 45) ** 2) / 300.0) + 20.0 * np.exp(
    ...         -((x - 40) ** 2 + (y - 60) ** 2) / 60.0
    ...     )
    >>> noise = np.random.default_rng(1).normal(0.0, 0.1, (2, 100, 120))
    >>> found = scene.register(nebula(x + 3.25, y - 1.5) + noise[0], nebula(x, y) + noise[1])
    >>> found.status, np.round(found.shift_px, 2).tolist()
    ('converged', [3.25, -1.5])
    """
    if freedom not in get_args(Freedom):
        raise InputError(
            f"freedom: {freedom!r} is unknown; give one of {', '.join(get_args(Freedom))}"
        )
    (pixels, noise, wcs), (other, other_noise, other_wcs) = (
        _given(image, "image"),
        _given(reference, "reference"),
    )
    with progress_callback(progress, "Registering") as report:
        found = core.scene_register(
            pixels,
            other,
            noise,
            other_noise,
            _start(pixels.shape, wcs, other_wcs).tolist(),
            freedom=freedom,
            loss=loss,
            match_psf=bool(match_psf),
            search=bool(search),
            max_iterations=count("max_iterations", max_iterations),
            progress=report,
        )
    return _result(found, freedom, pixels.shape, other_wcs)


def _given(given: Any, name: str) -> tuple[Floats, Floats | None, Any]:
    """Return pixels with NaN for bad ones, their variance if known, and their WCS."""
    if isinstance(given, Image):
        data, bad, variance = given.data, given.mask, given.variance
        finite = np.where(np.isfinite(variance), variance, np.nanmax(variance[~bad]))
        return np.where(bad | ~np.isfinite(variance), np.nan, data), finite, given.wcs
    if isinstance(given, str) or hasattr(given, "__fspath__"):
        from boresight.frames.read import read_frame

        given = read_frame(given)
    try:
        pixels, mask = pixels_of(given, luminance=False)
    except InputError as error:
        raise InputError(str(error).replace("image:", f"{name}:", 1)) from None
    pixels = np.array(pixels, dtype=np.float64)
    if mask is not None:
        pixels[mask] = np.nan
    if not np.isfinite(pixels).any():
        raise InputError(f"{name}: all pixels are masked or NaN; give an image with good ones")
    return np.ascontiguousarray(pixels), None, getattr(given, "wcs", None)


def _start(shape: tuple[int, ...], wcs: Any, other: Any) -> Floats:
    """Return the start matrix from image to reference, by both WCS at the image centre."""
    if wcs is None or other is None:
        return np.eye(2, 3)
    center = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    points = center + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    there = _to_pixels(other, *_to_sky(wcs, points))
    if not np.isfinite(there).all():
        raise InputError("reference: its WCS does not reach the image; give images that overlap")
    matrix = np.column_stack([there[1] - there[0], there[2] - there[0]])
    return np.column_stack([matrix, there[0] - matrix @ center])


def _to_sky(wcs: Any, points: Floats) -> tuple[Floats, Floats]:
    if isinstance(wcs, Solution):
        height, width = wcs.image_shape
        ra, dec = wcs.pixel_to_world(points[:, 0] - width / 2, points[:, 1] - height / 2)
        return np.asarray(ra), np.asarray(dec)
    ra, dec = wcs.all_pix2world(points, 0).T
    return ra, dec


def _to_pixels(wcs: Any, ra: Floats, dec: Floats) -> Floats:
    if isinstance(wcs, Solution):
        height, width = wcs.image_shape
        x, y = wcs.world_to_pixel(ra, dec)
        return np.column_stack([np.asarray(x) + width / 2, np.asarray(y) + height / 2])
    return np.asarray(wcs.all_world2pix(np.column_stack([ra, dec]), 0))


def _result(found: Any, freedom: str, shape: tuple[int, ...], reference: Any) -> Registration:
    status: Literal["converged", "stalled", "failed"]
    if not found["agrees"]:
        status = "failed"
        message = "the images have nothing in common: the gain is not significant"
    elif found["converged"]:
        status, message = "converged", f"converged after {found['iterations']} steps"
    else:
        status = "stalled"
        message = f"not converged after {found['iterations']} steps; allow more max_iterations"
    transform = np.array(found["transform"])
    height, width = shape

    def look(pixels: Floats) -> Floats:
        corner = pixels + np.array([width / 2, height / 2])
        return unit_vector(*_to_sky(reference, corner @ transform[:, :2].T + transform[:, 2]))

    wcs = None
    if reference is not None and status != "failed":
        wcs = fit_wcs(look, (height, width), tolerance_px=1e-4)[0]
    return Registration(
        transform=transform,
        freedom=freedom,
        parameters=np.array(found["parameters"]),
        parameter_names=PARAMETERS[freedom],
        covariance=found["covariance"],
        gain=found["gain"],
        offset=found["offset"],
        gain_error=found["gain_error"],
        blur_px2=found["blur"],
        chi2_dof=found["chi2_dof"],
        pixels=found["pixels"],
        iterations=found["iterations"],
        status=status,
        message=message,
        image_shape=(height, width),
        wcs=wcs,
    )
