"""Input images of `align`: a WCS and a list of sources."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as TableLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.arguments import image_size, numbers
from boresight._utils.arrays import convex_hull, east_north
from boresight._utils.naming import named
from boresight.alignment.mappings import Mapping, mapping_of
from boresight.alignment.tangent import SolvedMapping
from boresight.errors import InputError
from boresight.extraction.centroids import Centroids
from boresight.extraction.columns import read_columns
from boresight.frames.times import as_time

if TYPE_CHECKING:
    from boresight.alignment.result import ImageAlignment

__all__ = ["ImageCatalog", "ImageGroup"]

Floats = NDArray[np.float64]

EDGE_INTERVALS = 3
"""Number of great circles that approximate each side of a footprint, because distortion bends the
sides."""

WEIGHTS = ("weight", "weights")
"""Names of the column with inverse variances of the positions per axis, in 1/px^2."""


COLORS = ("color", "colour", "bp_rp")
"""Names of the column with a colour in magnitudes."""


@named
class ImageCatalog:
    """Image for `align`: a WCS and a list of sources.

    Parameters
    ----------
    wcs : astropy.wcs.WCS, gwcs.WCS or Solution
        Initial WCS. The object itself is never changed. A FITS WCS must have two celestial axes.
    sources : Table, array_like of shape (n, 2) or (n, 3), Centroids or ExtractionResult
        Positions in pixels. Optional: brightness, inverse variances of the positions per axis in a
        column ``weight``, and a colour in a column ``color``. `Centroids` include the covariance of
        their positions. Plain positions are 0-based array pixels; those for a `Solution` are
        relative to the image centre. `Centroids` and the tables of known programs have a known
        origin. Sources without a position are excluded.
    image_shape : (int, int), optional
        (height, width). Default: the shape in the WCS. Needed for the footprint and for
        `Centroids`.
    name : str, optional
        Name of the image in results. Default: "image" and its number in the call of `align`.
    time : Time, str or datetime, optional
        Middle of the exposure, for `align` with ``motion``. A group has the time of its first
        image.

    Attributes
    ----------
    wcs
        WCS of the same type as the given one; after `align` the corrected WCS.
    original_wcs
        The WCS object that was given.
    alignment : ImageAlignment or None
        Result of the last alignment of the image.

    Raises
    ------
    InputError
        If `wcs` is no WCS or has no inverse, a position or weight is invalid, or the shape is
        needed but unknown.

    Examples
    --------
    >>> from astropy.wcs import WCS
    >>> from boresight import ImageCatalog
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 41.0,
    ...            "CRPIX1": 50.5, "CRPIX2": 50.5, "CDELT1": -0.001, "CDELT2": 0.001})
    >>> ImageCatalog(wcs, [[10.0, 20.0], [30.0, 40.0]], image_shape=(100, 100), name="M31")
    ImageCatalog('M31', 2 sources)
    """

    def __init__(
        self,
        wcs: Any,
        sources: Any,
        *,
        image_shape: tuple[int, int] | None = None,
        name: str | None = None,
        time: Any = None,
    ) -> None:
        self.time = None if time is None else as_time(time)
        if image_shape is not None:
            width, height = image_size(image_shape)
            image_shape = height, width
        self.original_wcs = wcs
        self.name = name
        self.alignment: ImageAlignment | None = None
        self._mapping = mapping_of(wcs, image_shape)
        self._original = self._mapping
        self._read(sources)

    def _read(self, sources: Any) -> None:
        """Read 0-based pixels, weights and brightness of the sources that have a position."""
        centred = isinstance(self._mapping, SolvedMapping)
        stars = getattr(sources, "centroids", sources)
        if isinstance(stars, Centroids):
            xy = stars.xy + self._half("Centroids")
            self._keep(xy, stars.brightness, _weights_of(stars), None)
            return
        columns = read_columns(stars, ("brightness",))
        xy = np.column_stack([columns.values["x"], columns.values["y"]])
        if np.isinf(xy).any():
            row = int(np.flatnonzero(np.isinf(xy).any(axis=1))[0])
            raise InputError(f"sources: the position of row {row} is infinite; leave it out")
        if columns.origin == "fits":
            xy -= 1.0
        elif columns.origin == "center" or (columns.origin is None and centred):
            xy += self._half("positions from the centre")
        light = columns.values.get("brightness")
        color = _column(stars, COLORS)
        self._keep(xy, light, _weight_column(stars, len(xy)), color)

    def _half(self, of: str) -> Floats:
        if self._mapping.shape is None:
            raise InputError(f"image_shape: needed for {of}; give (height, width)")
        return np.array(self._mapping.shape[::-1]) / 2

    def _keep(
        self, xy: Floats, light: Floats | None, weights: Floats | None, color: Floats | None
    ) -> None:
        rows = np.flatnonzero(np.isfinite(xy).all(axis=1))
        if weights is not None:
            bad = ~(np.isfinite(weights) & (weights >= 0))
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                raise InputError(
                    f"sources: the weight of row {row} is {weights[row]}; give inverse variances "
                    "from 0 up"
                )
        self._rows, self._num_rows = rows, len(xy)
        self._xy = np.ascontiguousarray(xy[rows])
        known = light is not None and np.isfinite(light).any()
        self._brightness = (
            np.ascontiguousarray(light[rows]) if known and light is not None else None
        )
        self._weights = None if weights is None else np.ascontiguousarray(weights[rows])
        self._color = None if color is None else np.ascontiguousarray(color[rows])

    @property
    def wcs(self) -> Any:
        """The WCS: the corrected one after the image is aligned."""
        return self._mapping.wcs

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """(height, width), or None if it is not known."""
        return self._mapping.shape

    @property
    def pixels(self) -> Floats:
        """Positions of the sources that have one, 0-based array pixels, shape (n, 2)."""
        return self._xy

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the sources of `pixels` in the list that was given."""
        return self._rows

    @property
    def num_rows(self) -> int:
        """Number of rows of the list that was given."""
        return self._num_rows

    @property
    def mapping(self) -> Mapping:
        """The current WCS in the form that alignment uses."""
        return self._mapping

    @property
    def original(self) -> Mapping:
        """The given WCS in the form that alignment uses."""
        return self._original

    def _set(self, mapping: Mapping, alignment: ImageAlignment | None) -> None:
        self._mapping, self.alignment = mapping, alignment

    @property
    def members(self) -> list[ImageCatalog]:
        """A list of only this image."""
        return [self]

    def sky(self) -> Floats:
        """Return unit vectors of the sources by the current WCS, shape (n, 3)."""
        return self._mapping.to_sky(self._xy) if len(self._xy) else np.zeros((0, 3))

    def footprint(self) -> core.Footprint:
        """Return the sky area of the image, or of the hull of its sources if it has no shape."""
        return core.Footprint.polygon(np.ascontiguousarray(self.corners()))

    def corners(self) -> Floats:
        """Return unit vectors along the edge of the image, or of the hull of its sources."""
        if self._mapping.shape is None:
            return hull(self.sky())
        height, width = self._mapping.shape
        t = np.arange(EDGE_INTERVALS) / EDGE_INTERVALS
        x, y = width * t - 0.5, height * t - 0.5
        low_x, low_y = np.full_like(t, -0.5), np.full_like(t, -0.5)
        high_x, high_y = low_x + width, low_y + height
        ring = np.concatenate(
            [
                np.column_stack([x, low_y]),
                np.column_stack([high_x, y]),
                np.column_stack([width - 1.0 - x, high_y]),
                np.column_stack([low_x, height - 1.0 - y]),
            ]
        )
        sky = self._mapping.to_sky(ring)
        if not np.isfinite(sky).all():
            raise InputError("wcs: an edge of the image sees nothing; give a WCS that maps it all")
        return sky

    def __len__(self) -> int:
        return len(self._xy)

    def __repr__(self) -> str:
        """Show the name and the number of sources."""
        title = f"'{self.name}', " if self.name else ""
        return f"ImageCatalog({title}{len(self)} source{'s' * (len(self) != 1)})"


@named
class ImageGroup:
    """Images that get one common correction, such as those of the detectors of one camera.

    Parameters
    ----------
    images : sequence of ImageCatalog
        The images. Either all of them have weights, or none.
    name : str, optional
        Name of the group in results.

    Raises
    ------
    InputError
        If there is no image, an image occurs twice, or only some images have weights.

    Examples
    --------
    >>> from astropy.wcs import WCS
    >>> from boresight import ImageCatalog, ImageGroup
    >>> header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 41.0,
    ...           "CRPIX2": 50.5, "CDELT1": -0.001, "CDELT2": 0.001}
    >>> left, right = (WCS(header | {"CRPIX1": x}) for x in (105.5, -4.5))
    >>> shape = (100, 100)
    >>> ImageGroup([ImageCatalog(left, [[10, 20]], image_shape=shape),
    ...             ImageCatalog(right, [[30, 40]], image_shape=shape)])
    ImageGroup(2 images, 2 sources)
    """

    def __init__(self, images: Iterable[ImageCatalog], name: str | None = None) -> None:
        self.images = list(images)
        self.name = name
        if not self.images:
            raise InputError("images: the list is empty; give at least one ImageCatalog")
        for image in self.images:
            if not isinstance(image, ImageCatalog):
                raise InputError(
                    f"images: {type(image).__name__} is not an image; give ImageCatalog objects"
                )
        if len({id(image) for image in self.images}) != len(self.images):
            raise InputError("images: one occurs twice; give each image once")
        if len({image._weights is None for image in self.images}) > 1:
            raise InputError("images: only some have weights; give them to all or to none")

    @property
    def members(self) -> list[ImageCatalog]:
        """The images."""
        return self.images

    @property
    def num_rows(self) -> int:
        """Total number of rows of the lists that were given."""
        return sum(image.num_rows for image in self.images)

    def footprint(self) -> core.Footprint:
        """Return the union of the images' footprints."""
        return core.Footprint.union([image.footprint() for image in self.images])

    def __len__(self) -> int:
        return sum(len(image) for image in self.images)

    def __repr__(self) -> str:
        """Show the name and the numbers of images and sources."""
        title = f"'{self.name}', " if self.name else ""
        return f"ImageGroup({title}{len(self.images)} images, {len(self)} sources)"


def _weights_of(stars: Centroids) -> Floats | None:
    """Return inverse variances per axis from the position covariances; None if any is unknown."""
    cov = np.asarray(stars.position_cov)
    variance = (cov[:, 0, 0] + cov[:, 1, 1]) / 2
    known = np.isfinite(variance) & (variance > 0)
    return 1.0 / variance if known.size and known.all() else None


def _column(stars: Any, names: tuple[str, ...]) -> Floats | None:
    """Return the values of the first of the named columns that a source table has, or None."""
    own = getattr(stars, "colnames", None) or getattr(getattr(stars, "dtype", None), "names", None)
    if own is None and isinstance(stars, TableLike):
        own = list(stars)
    for name in names:
        if own and name in own:
            return numbers(name, stars[name])
    return None


def _weight_column(stars: Any, rows: int) -> Floats | None:
    weights = _column(stars, WEIGHTS)
    if weights is not None and weights.shape != (rows,):
        raise InputError(f"sources: weights have shape {weights.shape}; give one a source")
    return weights


def hull(sky: Floats) -> Floats:
    """Return the corners of the convex hull of directions, on the tangent plane at their mean."""
    if len(sky) < 3:
        raise InputError("image_shape: not known, and fewer than 3 sources; give (height, width)")
    center = sky.mean(axis=0)
    center /= np.linalg.norm(center)
    axes = np.array(east_north(center))
    depth = sky @ center
    flat = (sky @ axes.T) / depth[:, None]
    return np.asarray(sky[convex_hull(flat)])
