"""Correction of a WCS from sources that are already identified with stars."""

from __future__ import annotations

from typing import Any

from boresight._utils.naming import named
from boresight.alignment.growing import GrowingReference
from boresight.alignment.images import ImageCatalog, ImageGroup
from boresight.alignment.options import ClipStatistic, FitGeometry, Options
from boresight.alignment.reference import ReferenceCatalog
from boresight.alignment.register import align_to
from boresight.alignment.result import ImageAlignment
from boresight.alignment.sources import pixel_scale
from boresight.errors import InputError

__all__ = ["fit_wcs"]


@named
def fit_wcs(
    image: ImageCatalog | ImageGroup,
    refcat: Any,
    *,
    minobj: int | None = None,
    fitgeom: FitGeometry = "general",
    nclip: int | None = 3,
    sigma: float | tuple[float, ClipStatistic] = 3.0,
    clip_statistic: ClipStatistic = "rmse",
    tolerance: Any = 1.0,
) -> ImageAlignment:
    """Correct the WCS of an image from sources that are already identified with stars.

    There is no matching: the source in each row is the star in the same row. On return
    ``image.wcs`` is the corrected WCS if the fit succeeded.

    Parameters
    ----------
    image : ImageCatalog or ImageGroup
        The image with its sources, optionally with inverse variances ``weight`` in 1/px^2. The rows
        of a group are the rows of its images, in sequence.
    refcat : Table, dict or SkyCoord
        The star of each source: a SkyCoord, or columns RA and DEC in degrees. Optional columns are
        ``weight``, or ``ra_error`` and ``dec_error`` (mas), and ``id``. Rows in which the source or
        the star has no position are excluded.
    minobj : int, optional
        Minimum number of pairs. Default: 1 for a shift, 2 for rshift and rscale, 3 for general.
    fitgeom : {"shift", "rshift", "rscale", "general"}
        Shift; shift and rotation; shift, rotation and one scale; any linear map. Default "general".
    nclip : int or None
        Maximum number of clipping rounds. Each round tests all pairs again. Default 3.
    sigma : float or (float, str)
        Pairs with residuals larger than this many `clip_statistic` are excluded. A pair such as
        (3.0, "mae") also sets the statistic. Default 3.
    clip_statistic : {"rmse", "mae", "std", "mad"}
        Unit of `sigma`: root mean square length of the residuals, their mean length, their standard
        deviation, or their median length times 1.20, which is robust to outliers. Default "rmse".
    tolerance : float or Quantity
        The verdict is poor if the residuals are near this length, px. Default 1.

    Returns
    -------
    ImageAlignment
        The fit, with its covariance, residuals and verdict. Its ``log_odds`` are NaN, because the
        pairs are taken as correct.

    Raises
    ------
    InputError
        If an argument is invalid, or the numbers of stars and sources differ.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.coordinates import SkyCoord
    >>> from astropy.wcs import WCS
    >>> from boresight import ImageCatalog
    >>> from boresight.alignment import fit_wcs
    >>> header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 41.0,
    ...           "CRPIX1": 50.5, "CRPIX2": 50.5, "CDELT1": -1e-3, "CDELT2": 1e-3}
    >>> true, assumed = WCS(header), WCS(header | {"CRPIX1": 53.5})
    >>> xy = np.array([[10.0, 20.0], [80.0, 30.0], [40.0, 90.0], [60.0, 60.0]])
    >>> image = ImageCatalog(assumed, xy, image_shape=(100, 100))
    >>> fit_wcs(image, true.pixel_to_world(*xy.T), fitgeom="rscale").shift.round(6)
    array([3., 0.])
    """
    if not isinstance(image, ImageCatalog | ImageGroup):
        raise InputError(f"image: {type(image).__name__} is not an image; give an ImageCatalog")
    options = Options.checked(
        minobj=minobj, searchrad=1.0, use2dhist=False, separation=0.0, tolerance=tolerance,
        xoffset=0.0, yoffset=0.0, fitgeom=fitgeom, nclip=nclip, sigma=sigma,
        match=None, clip_statistic=clip_statistic,
        scale=lambda: pixel_scale(image.members[0].mapping),
    )  # fmt: skip
    stars = ReferenceCatalog.from_any(refcat)
    if stars.num_rows != image.num_rows:
        raise InputError(
            f"refcat: {stars.num_rows} rows for {image.num_rows} sources; "
            "give the star of each source"
        )
    alignment, _ = align_to(image, image.name or "image", GrowingReference(stars), options)
    return alignment
