"""Stars found in a frame: positions, fluxes, shapes and flags, as one structure of arrays."""

from __future__ import annotations

from typing import Any

from boresight._utils.naming import named
from boresight._utils.origins import Origin
from boresight.extraction.flags import CentroidFlags
from boresight.extraction.star_list import StarList
from boresight.extraction.stars import Centroid, CentroidColumns

__all__ = ["Centroid", "CentroidFlags", "Centroids"]


@named
class Centroids(CentroidColumns):
    """Stars of a frame, as a structure of arrays and as a sequence of `Centroid`.

    Positions are in pixels from the image's centre: ``x = column - width / 2``, ``y = row - height
    / 2``, columns and rows 0-based at pixel centres, +x right and +y down. Values that were not
    measured (as for stars made from an array) are NaN, or 0 for `num_pixels` and `flags`. The
    arrays are read-only.

    Parameters
    ----------
    x, y : array_like, shape (n,)
        Position in pixels.
    brightness : array_like, shape (n,), optional
        Flux above the background, in units of the image. Default: NaN; the stars must then be in
        order, brightest first.
    brightness_error : array_like, shape (n,), optional
        Standard deviation of `brightness`.
    cov : array_like, shape (n, 2, 2), optional
        Second moments of each star's image in square pixels; their axes are those of the ellipse
        that represents the star.
    position_cov : array_like, shape (n, 2, 2), optional
        Covariance of the position in square pixels.
    peak, background, sharpness : array_like, shape (n,), optional
        Highest pixel above the background, background, and (peak - mean of the eight neighbours)
        / peak.
    num_pixels, flags : array_like of int, shape (n,), optional
        Number of pixels of the blob, and bits of `CentroidFlags`.

    Raises
    ------
    InputError
        If a position is NaN or infinite, or arrays differ in length.

    Examples
    --------
    >>> from boresight import Centroids
    >>> stars = Centroids(x=[1.5, -20.0], y=[-2.0, 7.0], brightness=[300.0, 120.0])
    >>> len(stars), stars.x
    (2, array([  1.5, -20. ]))
    >>> stars[0]
    Centroid(x=1.500, y=-2.000, brightness=300)
    >>> stars[stars.brightness > 200]
    Centroids(1 star)
    """

    @classmethod
    def from_any(
        cls,
        stars: Any,
        *,
        origin: Origin | None = None,
        image_shape: tuple[int, int] | None = None,
    ) -> Centroids:
        """Make `Centroids` from any object that holds the positions of stars.

        Parameters
        ----------
        stars : Centroids, ExtractionResult, sequence of objects, array_like or Table
            A `Centroids` (returned as it is); an object with ``.centroids``; objects with `x`, `y`
            and perhaps `brightness`; an array of shape (n, 2) or (n, 3) with columns x, y[,
            brightness]; or a table, structured array, DataFrame, mapping or table HDU with columns
            ``x``, ``y`` and perhaps ``brightness`` or ``flux``, or with the columns of a known
            program. Positions are in pixels. Brightness may also be in magnitudes, in a column with
            such a name (``mag``, ``MAG_AUTO``) or unit.
        origin : {"center", "corner", "fits"}, optional
            Origin of the positions: the image's centre; the centre of the first pixel as (0, 0), as
            in numpy arrays; or the centre of the first pixel as (1, 1), as in FITS. Default: given
            by the table's columns (SEP and photutils count from the corner, SExtractor, IRAF,
            Astrometry.net and ASTAP as FITS does), else the centre.
        image_shape : (int, int), optional
            (height, width) in pixels. Needed if the origin is not the centre. If given, positions
            must lie inside.

        Returns
        -------
        Centroids
            In the given order. Stars whose position or brightness is masked or NaN are excluded.

        Raises
        ------
        InputError
            If `stars` has none of these forms; if a number is infinite (the message names the row);
            if positions have another unit than pixels, lie outside the image, or need
            `image_shape`.

        Examples
        --------
        >>> import numpy as np
        >>> from boresight import Centroids
        >>> Centroids.from_any(np.array([[1.0, 2.0, 50.0], [3.0, 4.0, 40.0]])).brightness
        array([50., 40.])
        >>> from astropy.table import Table
        >>> table = Table({"XWIN_IMAGE": [513.0], "YWIN_IMAGE": [1.0], "MAG_AUTO": [-7.5]})
        >>> Centroids.from_any(table, image_shape=(768, 1024))[0]
        Centroid(x=0.000, y=-384.000, brightness=1000)
        """
        if isinstance(stars, cls) and origin is None:
            return stars
        return cls(**StarList.read(stars, origin, image_shape).columns)

    @classmethod
    def from_corner(cls, stars: Any, image_shape: tuple[int, int]) -> Centroids:
        """Make `Centroids` from positions counted from the corner, 0-based, as in numpy arrays.

        Parameters
        ----------
        stars : array_like, Table or another list
            As in `from_any`. The centre of the first pixel is (0, 0).
        image_shape : (int, int)
            (height, width) in pixels.

        Returns
        -------
        Centroids
            In the given order, counted from the image's centre.

        Raises
        ------
        InputError
            As `from_any`.

        See Also
        --------
        to_corner : The way back.
        from_any : With ``origin="fits"`` for positions counted from (1, 1).

        Examples
        --------
        >>> from boresight import Centroids
        >>> Centroids.from_corner([[512.0, 384.0]], (768, 1024)).xy
        array([[0., 0.]])
        """
        return cls.from_any(stars, origin="corner", image_shape=image_shape)
