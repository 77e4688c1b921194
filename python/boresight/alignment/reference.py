"""Reference catalogue: the stars to which images are aligned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.arguments import numbers
from boresight._utils.arrays import unit_vector
from boresight._utils.naming import named
from boresight.alignment.covariance import at_other_epochs, place_error, read_covariance, widened
from boresight.alignment.images import ImageCatalog, ImageGroup, hull
from boresight.apparent.motion import RADIANS_PER_MAS, ProperMotion
from boresight.catalog.catalog import Catalog
from boresight.errors import InputError

if TYPE_CHECKING:
    from astropy.time import Time

__all__ = ["ReferenceCatalog", "WithoutMotion"]

Floats = NDArray[np.float64]

WithoutMotion = Literal["keep", "widen", "drop"]
"""Policy for stars without proper motion in a table that has proper motions."""

TYPICAL_MOTION_MAS = 10.0
"""Position error per year, in mas, that is added for a star without known proper motion."""


@dataclass(frozen=True)
class Tracks:
    """Proper motions in mas a year, (n, 2) east and north, and parallaxes in mas, (n,).

    Unknown values are NaN.
    """

    motion: Floats
    parallax: Floats

    def __getitem__(self, rows: NDArray[Any]) -> Tracks:
        return Tracks(self.motion[rows], self.parallax[rows])

    def known(self) -> NDArray[np.bool_]:
        """Return which of position and proper motion (per axis) and parallax are known, (n, 5)."""
        place, motion = np.ones(len(self.motion), bool), np.isfinite(self.motion).all(axis=1)
        return np.column_stack([place, place, motion, motion, np.isfinite(self.parallax)])


@named
class ReferenceCatalog:
    """Reference stars, to which images are aligned.

    Parameters
    ----------
    sky : ndarray, shape (n, 3)
        Unit vectors in ICRS.
    weights : ndarray, shape (n,), optional
        Inverse variances per axis, in 1/px^2, with the pixels of the images.
    sigma : ndarray, shape (n,), optional
        Standard deviations per axis in radians; an alternative to `weights`.
    ids : ndarray of int, shape (n,), optional
        Identifiers of the stars. Default: 0, 1, 2 ...
    brightness : ndarray, shape (n,), optional
        Brightness in any unit; only the order counts.
    rows : ndarray of int, shape (n,), optional
        Table rows from which the stars were read. Default: 0, 1, 2 ...
    num_rows : int, optional
        Number of rows of the table. Default n.
    tracks : Tracks, optional
        Proper motions and parallaxes.
    color : ndarray, shape (n,), optional
        A colour, such as BP - RP; NaN if unknown.
    covariance : ndarray, shape (m, 5, 5), optional
        Covariance of the position (east, north), the proper motion and the parallax of the first m
        stars, in mas and years. Unknown variances are NaN.

    Examples
    --------
    >>> from boresight.alignment import ReferenceCatalog
    >>> ReferenceCatalog.from_any({"RA": [10.0, 20.0], "DEC": [-5.0, 5.0]})
    ReferenceCatalog(2 stars)
    """

    def __init__(
        self,
        sky: Floats,
        *,
        weights: Floats | None = None,
        sigma: Floats | None = None,
        ids: NDArray[np.int64] | None = None,
        brightness: Floats | None = None,
        rows: NDArray[np.int64] | None = None,
        num_rows: int | None = None,
        tracks: Tracks | None = None,
        color: Floats | None = None,
        covariance: Floats | None = None,
    ) -> None:
        self.tracks, self.color, self.covariance = tracks, color, covariance
        if np.ndim(sky) != 2:
            raise InputError(f"sky: its shape is {np.shape(sky)}; give vectors of shape (n, 3)")
        of_stars = {"weights": weights, "sigma": sigma, "ids": ids, "brightness": brightness,
                    "rows": rows, "color": color}  # fmt: skip
        for name, values in of_stars.items():
            if values is not None and np.shape(values)[:1] != (len(sky),):
                raise InputError(
                    f"{name}: its shape is {np.shape(values)}; give one for each of the "
                    f"{len(sky)} stars"
                )
        self.sky = sky
        self.num_rows = len(sky) if num_rows is None else num_rows
        self.weights, self.sigma, self.brightness = weights, sigma, brightness
        self._rows = rows
        self.ids = self.rows if ids is None else ids

    @classmethod
    def from_any(
        cls,
        refcat: Any,
        *,
        epoch: float | Time | None = None,
        without_motion: WithoutMotion = "keep",
    ) -> ReferenceCatalog:
        """Make a reference catalogue from any argument `refcat` of `align`."""
        if without_motion not in get_args(WithoutMotion):
            raise InputError(
                f"without_motion: {without_motion!r} is unknown; give 'keep', 'widen' or 'drop'"
            )
        if isinstance(refcat, cls):
            return refcat
        if isinstance(refcat, ImageCatalog | ImageGroup):
            return cls.from_images(refcat)
        if isinstance(refcat, str):
            if refcat not in ("hipparcos", "gaia"):
                raise InputError(
                    f"refcat: {refcat!r} is unknown; give 'hipparcos', 'gaia', or a table"
                )
            refcat = Catalog.hipparcos() if refcat == "hipparcos" else Catalog.gaia()
        if isinstance(refcat, Catalog):
            stars = refcat if epoch is None else refcat.at_epoch(epoch)
            sky = unit_vector(stars.ra_deg, stars.dec_deg)
            motion = np.column_stack([stars.pmra_mas_yr, stars.pmdec_mas_yr])
            tracks = Tracks(motion, np.asarray(stars.parallax_mas))
            light = -np.asarray(stars.magnitude, float)
            return cls(sky, ids=stars.ids, brightness=light, tracks=tracks)
        if hasattr(refcat, "icrs"):
            sky = refcat.icrs
            refcat = {"RA": np.atleast_1d(sky.ra.deg), "DEC": np.atleast_1d(sky.dec.deg)}
        return cls._from_table(refcat, epoch, without_motion)

    @classmethod
    def from_images(cls, image: ImageCatalog | ImageGroup) -> ReferenceCatalog:
        """Make a reference catalogue from the sources of an image, placed by its WCS."""
        members = image.members
        sky = np.concatenate([member.sky() for member in members])
        seen = np.isfinite(sky).all(axis=1)

        def column(name: str) -> Floats | None:
            values = [getattr(member, name) for member in members]
            if any(value is None for value in values):
                return None
            return np.asarray(np.concatenate(values)[seen])

        first = np.cumsum([0, *(member.num_rows for member in members)])
        rows = [start + member.rows for start, member in zip(first, members, strict=False)]
        return cls(
            sky[seen],
            rows=np.concatenate(rows)[seen],
            num_rows=image.num_rows,
            weights=column("_weights"),
            brightness=column("_brightness"),
            color=column("_color"),
        )

    @classmethod
    def _from_table(
        cls, table: Any, epoch: float | Time | None, without_motion: WithoutMotion
    ) -> ReferenceCatalog:
        names = getattr(table, "colnames", None)
        if names is None:
            try:
                names = list(table.keys())
            except AttributeError:
                raise InputError(
                    f"refcat: {type(table).__name__} holds no stars; give a table "
                    "with RA and DEC in degrees, a SkyCoord, Catalog or image, 'hipparcos', 'gaia'"
                ) from None
        columns = _Columns(table, [str(name) for name in names])
        ra, dec = (
            columns.needed("ra", "raj2000", "ra_icrs"),
            columns.needed("dec", "dej2000", "dec_icrs", "de_icrs"),
        )
        sky = unit_vector(ra, dec)
        tracks = columns.tracks(len(sky))
        known = tracks.known()
        covariance = read_covariance(columns.optional, known)
        weights = columns.optional("weight", "weights")
        kept = np.atleast_1d(np.isfinite(sky).all(axis=1))
        if weights is not None and not (np.isfinite(weights) & (weights >= 0)).all():
            raise InputError("refcat: a weight is negative or not finite; give them from 0 up")
        if epoch is not None:
            sky, years, still = _moved(columns, sky, tracks, float(getattr(epoch, "jyear", epoch)))
            if covariance is not None:
                covariance = at_other_epochs(covariance, np.where(still, 0.0, years))
            if without_motion == "drop":
                kept &= ~still
            elif without_motion == "widen" and still.any():
                longest = TYPICAL_MOTION_MAS * float(np.abs(years).max())
                covariance = widened(covariance, longest * still)
        error = None if covariance is None or weights is not None else place_error(covariance)
        ids = columns.ids()
        light = columns.light()

        def of(values: Any) -> Any:
            return None if values is None else np.ascontiguousarray(values[kept])

        return cls(
            of(sky),
            weights=of(weights),
            sigma=None if error is None else of(error * RADIANS_PER_MAS),
            ids=of(ids),
            brightness=of(light),
            rows=np.flatnonzero(kept),
            num_rows=len(kept),
            tracks=tracks[kept] if known[:, 2:].any() else None,
            color=of(columns.optional("color", "colour", "bp_rp")),
            covariance=of(covariance),
        )

    @property
    def rows(self) -> NDArray[np.int64]:
        """Table rows from which the stars were read."""
        return np.arange(len(self)) if self._rows is None else self._rows

    def __len__(self) -> int:
        return len(self.sky)

    def __repr__(self) -> str:
        """Show the number of stars."""
        return f"ReferenceCatalog({len(self)} stars)"

    def footprint(self) -> core.Footprint:
        """Return the convex hull of the stars; an empty area for fewer than three stars."""
        if len(self.sky) < 3:
            return core.Footprint.union([])
        return core.Footprint.polygon(np.ascontiguousarray(hull(self.sky)))

    def near(self, center: Floats, radius: float) -> NDArray[np.int64]:
        """Return the indices of the stars within an angle, in radians, of a direction."""
        return core.within(self.sky, center, np.cos(min(radius, np.pi)))

    def weights_for(self, rows: NDArray[np.intp], pixel_scale: float) -> Floats | None:
        """Return inverse variances in 1/px^2 for an image with a pixel scale in radians."""
        if self.weights is not None:
            return np.ascontiguousarray(self.weights[rows])
        if self.sigma is None:
            return None
        with np.errstate(divide="ignore"):
            weights = (pixel_scale / self.sigma[rows]) ** 2
        # If only some errors are known, stars with an unknown error get weight 0.
        return np.ascontiguousarray(np.where(np.isnan(weights), 0.0, weights))


class _Columns:
    """Access to the columns of a table by their usual names, ignoring case."""

    def __init__(self, table: Any, names: list[str]) -> None:
        self._table, self._names = table, names
        self._lower = {name.lower(): name for name in names}

    def optional(self, *names: str, unit: str | None = None) -> Floats | None:
        """Return the values of the first of the named columns that exists, or None."""
        for name in names:
            if name in self._lower:
                column = self._table[self._lower[name]]
                own = getattr(column, "unit", None)
                values = numbers(name, column)
                if unit is not None and own is not None and str(own) != unit:
                    from astropy.units import Unit

                    values = values * Unit(own).to(unit)
                return values
        return None

    def needed(self, *names: str) -> Floats:
        """Return the first of the named columns that exists, in degrees."""
        found = self.optional(*names, unit="deg")
        if found is None:
            raise InputError(
                f"refcat: the table has columns {', '.join(self._names)}; it needs RA and DEC"
            )
        return found

    def tracks(self, count: int) -> Tracks:
        """Return proper motions and parallaxes."""

        def of(name: str, unit: str) -> Floats:
            values = self.optional(name, unit=unit)
            return np.full(count, np.nan) if values is None else values

        motion = np.column_stack([of("pmra", "mas / yr"), of("pmdec", "mas / yr")])
        return Tracks(motion, of("parallax", "mas"))

    def ids(self) -> NDArray[np.int64] | None:
        """Return the identifiers, which must be unique; None if they are not integers."""
        for name in ("id", "source_id"):
            if name in self._lower:
                values = np.asarray(self._table[self._lower[name]])
                if len(np.unique(values)) != len(values):
                    raise InputError(
                        f"refcat: values of {name} occur twice; give each star its own"
                    )
                if values.dtype.kind in "iu":
                    return values.astype(np.int64)
        return None

    def light(self) -> Floats | None:
        """Return the brightness, or magnitudes with the opposite sign."""
        bright = self.optional("brightness", "flux")
        if bright is not None:
            return bright
        faint = self.optional("mag", "magnitude", "phot_g_mean_mag", "gmag", "vmag")
        return None if faint is None else -faint


def _moved(
    columns: _Columns, sky: Floats, tracks: Tracks, year: float
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return positions in another year, the elapsed years, and which stars have no motion."""
    if columns.optional("pmra") is None or columns.optional("pmdec") is None:
        return sky, np.zeros(len(sky)), np.zeros(len(sky), bool)
    start = columns.optional("ref_epoch", "epoch")
    if start is None:
        raise InputError("refcat: it has proper motions and no column ref_epoch; give the epoch")
    years = np.nan_to_num(year - start)
    still = ~(np.isfinite(tracks.motion).all(axis=1) & np.isfinite(start))
    # Each star has its own epoch: scale each motion by the elapsed years and move by one year.
    along = np.where(still, 0.0, tracks.motion.T * years)
    return ProperMotion(along[0], along[1], epoch=0.0).moved(sky, 1.0), years, still
