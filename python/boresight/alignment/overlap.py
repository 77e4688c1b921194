"""Overlap of images on the sky."""

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
        """Return the sky area that the object covers."""


def _footprints(images: Sequence[HasFootprint]) -> list[core.Footprint]:
    for image in images:
        if not hasattr(image, "footprint"):
            raise InputError(
                f"images: {type(image).__name__} is not an image; give ImageCatalog or "
                "ImageGroup objects"
            )
    return [image.footprint() for image in images]


@named
def overlap_matrix(images: Sequence[HasFootprint]) -> Floats:
    """Compute the area of the sky that each pair of images shares.

    Parameters
    ----------
    images : sequence of ImageCatalog, ImageGroup or ReferenceCatalog
        A group covers the union of its images.

    Returns
    -------
    ndarray, shape (n, n)
        Areas in steradians; symmetric, 0 on the diagonal.

    Raises
    ------
    InputError
        If an item is no image, or an image has neither a shape nor three sources.

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
    """Remove the two images with the largest overlap from a list and return them.

    Parameters
    ----------
    images : list of ImageCatalog, ImageGroup or ReferenceCatalog
        The list of images, which is changed: both images are removed, and the others are sorted by
        their overlap with the first image of the pair, largest first.
    enforce_user_order : bool
        Take the first two images of the list, and do not sort the others.

    Returns
    -------
    (image, image)
        The first image is the one that shares more sky with all others. ``(image, None)`` for a
        list of one image, from which nothing is removed, and ``(None, None)`` for an empty list.

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
    # The diagonal is 0. Of equal pairs, argmax takes the first one in row order.
    i, j = np.unravel_index(np.argmax(shared), shared.shape)
    if shared[j].sum() > shared[i].sum():
        i, j = j, i
    first, second = images[i], images[j]
    others = sorted((k for k in range(len(images)) if k not in (i, j)), key=lambda k: -shared[i, k])
    images[:] = [images[k] for k in others]
    return first, second


@named
def max_overlap_image(refimage: HasFootprint, images: list[Any], enforce_user_order: bool) -> Any:
    """Remove the image with the largest overlap with a reference from a list and return it.

    Parameters
    ----------
    refimage : ImageCatalog, ImageGroup or ReferenceCatalog
        The reference.
    images : list of ImageCatalog or ImageGroup
        The list of images, from which the returned image is removed.
    enforce_user_order : bool
        Take the first image of the list, regardless of its overlap.

    Returns
    -------
    image or None
        `None` for an empty list.

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
