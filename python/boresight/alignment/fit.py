"""Correction of a WCS by sources whose stars are known."""

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
    """Correct the WCS of an image by sources whose stars are known.

    Nothing is matched: the source in each row is the star in the same row. On return ``image.wcs``
    is the corrected WCS if the fit succeeded.

    Parameters
    ----------
    image : ImageCatalog or ImageGroup
        The image with its sources, perhaps with inverse variances ``weight`` in 1/px^2. The rows
        of a group are those of its images, one after the other.
    refcat : Table, dict or SkyCoord
        The star of each source: a SkyCoord, or columns RA and DEC in degrees, and perhaps
        ``weight``, or ``ra_error`` and ``dec_error`` (mas), and ``id``. Rows in which either side
        has no position are left out.
    minobj : int, optional
        Fewest pairs. Default: 1 for a shift, 2 for rshift and rscale, 3 for general.
    fitgeom : {"shift", "rshift", "rscale", "general"}
        Shift; shift and rotation; those and one scale; any linear map. Default "general".
    nclip : int or None
        Rounds of clipping at most; each tests all pairs anew. Default 3.
    sigma : float or (float, str)
        Pairs with residuals of this many `clip_statistic` are left out; perhaps with the
        statistic. Default 3.
    clip_statistic : {"rmse", "mae", "std", "mad"}
        Root mean square length of the residuals, mean length, standard deviation, or median length
        times 1.20, which outliers do not change. Default "rmse".
    tolerance : float or Quantity
        Residuals near this length, px, make the verdict poor. Default 1.

    Returns
    -------
    ImageAlignment
        The fit, with its covariance, residuals and verdict. Its ``log_odds`` are NaN: the pairs
        are believed.

    Raises
    ------
    InputError
        If an argument cannot be worked with, or there are not as many stars as sources.

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
        raise InputError(f"image: {type(image).__name__} is none; give an ImageCatalog")
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
    told, _ = align_to(image, image.name or "image", GrowingReference(stars), options)
    return told
