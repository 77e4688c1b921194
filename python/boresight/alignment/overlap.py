"""Sky that images share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.naming import named
from boresight.errors import InputError

__all__ = ["max_overlap_image", "max_overlap_pair", "overlap_matrix"]

Floats = NDArray[np.float64]


class HasFootprint(Protocol):
    """An image, a group, or a reference catalogue."""

    def footprint(self) -> core.Footprint:
        """Give the part of the sky that it covers."""


def _footprints(images: Sequence[HasFootprint]) -> list[core.Footprint]:
    for image in images:
        if not hasattr(image, "footprint"):
            raise InputError(
                f"images: {type(image).__name__} is none; give ImageCatalog or ImageGroup objects"
            )
    return [image.footprint() for image in images]


@named
def overlap_matrix(images: Sequence[HasFootprint]) -> Floats:
    """Area of the sky that each two images share.

    Parameters
    ----------
    images : sequence of ImageCatalog, ImageGroup or ReferenceCatalog
        A group covers the union of its images.

    Returns
    -------
    ndarray, shape (n, n)
        Steradians; symmetric, 0 on the diagonal.

    Raises
    ------
    InputError
        If something is no image, or an image has neither a shape nor three sources.

    Notes
    -----
    Footprints are spherical polygons with three great circles along each side of an image; their
    intersection is exact for any position on the sky and any dither.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.wcs import WCS
    >>> from boresight import ImageCatalog
    >>> from boresight.alignment import overlap_matrix
    >>> def image(column):
    ...     wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 41.0,
    ...                "CRPIX1": 50.5 - column, "CRPIX2": 50.5, "CDELT1": -1e-3, "CDELT2": 1e-3})
    ...     return ImageCatalog(wcs, np.zeros((0, 2)), image_shape=(100, 100))
    >>> shared = overlap_matrix([image(0), image(75), image(100)])
    >>> print(np.round(shared / np.radians(0.1) ** 2, 6) + 0.0)
    [[0.   0.25 0.  ]
     [0.25 0.   0.75]
     [0.   0.75 0.  ]]
    """
    return core.overlap_matrix(_footprints(images))


@named
def max_overlap_pair(images: list[Any], enforce_user_order: bool) -> tuple[Any, Any]:
    """Take the two images that share most sky out of a list.

    Parameters
    ----------
    images : list of ImageCatalog, ImageGroup or ReferenceCatalog
        Both images are removed from it, and the others ordered by the sky that they share with the
        first of the pair, largest first.
    enforce_user_order : bool
        Take the first two as they are, and leave the order of the others.

    Returns
    -------
    (image, image)
        The first is the one that shares more with all others. ``(image, None)`` of a list of one,
        from which nothing is removed, and ``(None, None)`` of an empty one.

    Raises
    ------
    InputError
        As `overlap_matrix`.

    Examples
    --------
    >>> from boresight.alignment import max_overlap_pair
    >>> max_overlap_pair([], False)
    (None, None)
    """
    if len(images) < 2:
        return (images[0] if images else None), None
    if enforce_user_order or len(images) == 2:
        return images.pop(0), images.pop(0)
    shared = overlap_matrix(images)
    # The diagonal is 0; rows before columns, so that the first of equal pairs is taken.
    i, j = np.unravel_index(np.argmax(shared), shared.shape)
    if shared[j].sum() > shared[i].sum():
        i, j = j, i
    first, second = images[i], images[j]
    others = sorted((k for k in range(len(images)) if k not in (i, j)), key=lambda k: -shared[i, k])
    images[:] = [images[k] for k in others]
    return first, second


@named
def max_overlap_image(refimage: HasFootprint, images: list[Any], enforce_user_order: bool) -> Any:
    """Take the image that shares most sky with another out of a list.

    Parameters
    ----------
    refimage : ImageCatalog, ImageGroup or ReferenceCatalog
        The other.
    images : list of ImageCatalog or ImageGroup
        The image is removed from it.
    enforce_user_order : bool
        Take the first one, whatever it shares.

    Returns
    -------
    image or None
        `None` of an empty list.

    Raises
    ------
    InputError
        As `overlap_matrix`.

    Examples
    --------
    >>> from boresight.alignment import max_overlap_image
    >>> max_overlap_image(None, [], False) is None
    True
    """
    if not images:
        return None
    if enforce_user_order:
        return images.pop(0)
    reference, *footprints = _footprints([refimage, *images])
    areas = [reference.shared_area(footprint) for footprint in footprints]
    return images.pop(int(np.argmax(areas)))
