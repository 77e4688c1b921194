"""Results of an alignment: a verdict for every image, and tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from boresight._utils.arrays import longitude_latitude
from boresight._utils.html import html_table
from boresight._utils.naming import named

if TYPE_CHECKING:
    from astropy.table import QTable, Table

    from boresight.alignment.images import ImageCatalog, ImageGroup
    from boresight.alignment.reference import ReferenceCatalog
    from boresight.camera.distortion import PolynomialDistortion

__all__ = [
    "AlignmentResult",
    "Degeneracy",
    "DegeneracyKind",
    "GlobalFit",
    "ImageAlignment",
    "Matches",
    "Reason",
    "of_members",
]

Floats = NDArray[np.float64]


class Reason(StrEnum):
    """Reason for the verdict on an image.

    Examples
    --------
    >>> from boresight.alignment import Reason
    >>> Reason.NO_OVERLAP.value
    'no overlap with the reference'
    """

    ALIGNED = "aligned"
    REFERENCE = "reference of the others"
    NO_SOURCES = "no sources"
    NO_OVERLAP = "no overlap with the reference"
    TOO_FEW_MATCHES = "not enough matches"
    OUTSIDE_SEARCH_RADIUS = "no shift stands out within the search radius"
    CHANCE = "the matches may be chance"
    SINGULAR = "the matched sources coincide or are on one line"
    WCS_CANNOT_FOLLOW = "the WCS cannot represent the correction"
    UNEXPECTED_SCALE = "the correction changes the scale by more than 25 %"
    FEW_MATCHED = "few of the sources in common are matched"
    LARGE_RESIDUALS = "residuals near the matching tolerance"
    WEIGHTS_CONTRADICTED = "residuals larger than the weights imply"
    UNCERTAIN_CORNERS = "the corners of the image are uncertain"
    RESERVED_CONTRADICT = "held-out objects contradict the fit"


Verdict = Literal["good", "poor", "failed"]
Status = Literal["success", "reference", "failed"]


def of_members(
    columns: list[NDArray[Any]], member: NDArray[Any], place: NDArray[Any]
) -> NDArray[Any]:
    """Select values of sources: `columns` has one array per member, indexed by `place`."""
    if len(columns) == 1:
        return np.asarray(columns[0][place])
    first = np.cumsum([0, *map(len, columns[:-1])])
    return np.asarray(np.concatenate(columns)[first[member] + place])


@dataclass(frozen=True, repr=False)
class Matches:
    """Matched sources of an image; `ImageAlignment.matched` makes its table from them on demand.

    `place` are indices among the sources of a member that have a position, `star` are indices of
    stars in `refcat`, `residuals` are in single precision. Only the rows and positions of the
    sources are kept, not the images: an image refers to its alignment, and without a reference
    cycle both are freed as soon as they are unused.
    """

    rows: list[NDArray[np.int64]]
    xy: list[Floats]
    refcat: ReferenceCatalog
    member: NDArray[np.uint16]
    place: NDArray[np.uint32]
    star: NDArray[np.uint32]
    residuals: NDArray[np.float32]
    kept: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        images: list[ImageCatalog],
        refcat: ReferenceCatalog,
        member: NDArray[Any],
        place: NDArray[Any],
        star: NDArray[Any],
        residuals: Floats,
        kept: NDArray[np.bool_],
    ) -> Matches:
        """Store the matches in the smallest integer and float types that hold them."""
        rows, xy = [image.rows for image in images], [image.pixels for image in images]
        return cls(
            rows, xy, refcat, member.astype(np.uint16), place.astype(np.uint32),
            star.astype(np.uint32), residuals.astype(np.float32), kept,
        )  # fmt: skip

    @property
    def source(self) -> NDArray[np.int64]:
        """Rows of the sources in the lists that were given."""
        return of_members(self.rows, self.member, self.place)

    @property
    def pixels(self) -> Floats:
        """Positions of the sources, 0-based array pixels, shape (n, 2)."""
        return of_members(self.xy, self.member, self.place)

    @property
    def reference(self) -> NDArray[np.int64]:
        """Identifiers of the stars."""
        return np.asarray(self.refcat.ids[self.star])

    @property
    def sky(self) -> Floats:
        """Unit vectors of the stars, shape (n, 3)."""
        return np.asarray(self.refcat.sky[self.star])


@named
@dataclass(frozen=True, repr=False)
class ImageAlignment:
    """Result of the alignment of one image or one group.

    Attributes
    ----------
    name : str
        Name of the image.
    status : {"success", "reference", "failed"}
        A failed image keeps its WCS. A reference image also keeps its WCS, apart from a shared
        distortion that is added to it.
    verdict : {"good", "poor", "failed"}
        Whether the alignment can be trusted.
    reason : Reason
        Reason for the verdict.
    num_sources : int
        Number of sources of the image.
    num_matches : int
        Number of sources matched with the reference.
    num_fitted : int
        Number of matches that the fit kept after clipping.
    rmse_px : float
        Root mean square length of the residuals of the kept matches.
    mae_px, std_px : float
        Mean length of these residuals, and their standard deviation, both axes together.
    shift : ndarray, shape (2,)
        Shift at `center`, in pixels of the plane of the image.
    matrix : ndarray, shape (2, 2)
        Linear part of the correction: ``u' = matrix @ (u - center) + shift + center``.
    center : ndarray, shape (2,)
        Mean position of the matched sources, in the plane of the image.
    covariance : ndarray, shape (6, 6)
        Covariance of the shift and of the matrix, row by row.
    chi2_dof : float
        Weighted sum of squares per degree of freedom; NaN without weights or without degrees of
        freedom.
    log_odds : float
        Natural logarithm of the odds that the match is not a coincidence (a lower limit).
    corner_error_px : float
        Largest standard deviation of the position of a corner of the image, from the covariance.
    matched_fraction : float
        Fraction of the possible matches, limited by the sources of the image or of the reference,
        that were found; after the global fit, the fraction that this fit kept.
    by_patterns : bool
        True if star patterns found the match.
    matches : Matches or None
        The columns of `matched`.

    Examples
    --------
    >>> from boresight.alignment import ImageAlignment, Reason
    >>> ImageAlignment("a.fits", "failed", Reason.NO_SOURCES)
    ImageAlignment('a.fits', failed: no sources)
    """

    name: str
    status: Status
    reason: Reason
    verdict: Verdict = "failed"
    num_sources: int = 0
    num_matches: int = 0
    num_fitted: int = 0
    rmse_px: float = math.nan
    mae_px: float = math.nan
    std_px: float = math.nan
    shift: Floats = field(default_factory=lambda: np.zeros(2))
    matrix: Floats = field(default_factory=lambda: np.eye(2))
    center: Floats = field(default_factory=lambda: np.zeros(2))
    covariance: Floats = field(default_factory=lambda: np.zeros((6, 6)))
    chi2_dof: float = math.nan
    log_odds: float = math.nan
    corner_error_px: float = math.nan
    matched_fraction: float = math.nan
    by_patterns: bool = False
    matches: Matches | None = None

    @property
    def scale(self) -> float:
        """Mean scale of the matrix: the square root of its determinant."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix))))

    @property
    def rotation_deg(self) -> float:
        """Rotation of the matrix in degrees, from x towards y."""
        m = self.matrix
        return math.degrees(math.atan2(m[1, 0] - m[0, 1], m[0, 0] + m[1, 1]))

    @property
    def axis_scales(self) -> tuple[float, float]:
        """Scales along x and along y, the lengths of the columns of the matrix."""
        sx, sy = np.hypot(*self.matrix)
        return float(sx), float(sy)

    @property
    def axis_rotations_deg(self) -> tuple[float, float]:
        """Rotations of the x and of the y axis in degrees, from x towards y."""
        (a, b), (c, d) = self.matrix
        return math.degrees(math.atan2(c, a)), math.degrees(math.atan2(-b, d))

    @property
    def skew_deg(self) -> float:
        """Rotation of the y axis minus that of the x axis, in degrees from -180 to 180."""
        x, y = self.axis_rotations_deg
        return (y - x + 180.0) % 360.0 - 180.0

    @property
    def mirrored(self) -> bool:
        """True if the matrix contains a reflection."""
        return bool(np.linalg.det(self.matrix) < 0)

    @property
    def matched(self) -> Table:
        """The matched sources, one row each.

        Columns: ``member``, the number of the image in its group; ``source``, the row in the list
        that was given; ``reference``, the id of the star; ``x``, ``y``, 0-based pixels; ``ra``,
        ``dec`` of the star; ``dx``, ``dy``, star minus source after the correction, in pixels of
        the plane; ``fitted``, whether the fit kept the match.
        """
        from astropy.table import Table

        m = self.matches
        if m is None:
            whole, real = np.zeros(0, np.int64), np.zeros(0)
            columns: dict[str, Any] = dict.fromkeys(("member", "source", "reference"), whole)
            columns |= dict.fromkeys(("x", "y", "ra", "dec", "dx", "dy"), real)
            columns["fitted"] = np.zeros(0, bool)
        else:
            x, y = m.pixels.T
            ra, dec = map(np.degrees, longitude_latitude(m.sky))
            dx, dy = m.residuals.T.astype(np.float64)
            columns = {
                "member": m.member.astype(np.int64), "source": m.source, "reference": m.reference,
                "x": x, "y": y, "ra": ra % 360.0, "dec": dec, "dx": dx, "dy": dy, "fitted": m.kept,
            }  # fmt: skip
        units = {"x": "pix", "y": "pix", "ra": "deg", "dec": "deg", "dx": "pix", "dy": "pix"}
        return Table(columns, units=units)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict and its numbers, for JSON; values without a fit are None.

        Returns
        -------
        dict
            ``name``, ``status``, ``verdict``, ``reason``, ``num_matches``, ``num_fitted``,
            ``rmse_px``, ``shift_px``, ``rotation_deg`` and ``scale``.

        Examples
        --------
        See `align`.
        """
        return {
            "name": self.name,
            "status": self.status,
            "verdict": self.verdict,
            "reason": self.reason.value,
            "num_matches": int(self.num_matches),
            "num_fitted": int(self.num_fitted),
            "rmse_px": float(self.rmse_px) if self.num_fitted else None,
            "shift_px": self.shift.tolist(),
            "rotation_deg": float(self.rotation_deg),
            "scale": float(self.scale),
        }

    def __repr__(self) -> str:
        """Show the verdict and its numbers."""
        text = f"{self.name!r}, {self.verdict}: {self.reason.value}"
        if self.status == "success":
            text += f", {self.num_fitted} matches, rmse {self.rmse_px:.3g} px"
        return f"ImageAlignment({text})"


class DegeneracyKind(StrEnum):
    """Kinds of freedom that a fit of all images does not determine."""

    NO_REFERENCE = "no reference"
    ONE_IMAGE = "one image"
    DISCONNECTED = "disconnected"
    UNDITHERED = "undithered"
    ONE_DETECTOR = "one detector"
    UNDETERMINED = "undetermined"
    FEW_MATCHES = "few matches"


@dataclass(frozen=True)
class Degeneracy:
    """A freedom that the images do not determine, and how the fit handled it.

    Attributes
    ----------
    kind : DegeneracyKind
        Kind of the undetermined freedom.
    images : tuple of str
        Names of the images concerned.
    message : str
        Description in words, including which parameters were frozen.
    """

    kind: DegeneracyKind
    images: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, repr=False)
class GlobalFit:
    """A fit of all images and all objects at once.

    Attributes
    ----------
    num_objects, num_detections : int
        Numbers of objects that connect images, and of their detections, that the fit kept.
    rmse_px : float
        Root mean square length of the residuals.
    chi2_dof : float
        Weighted sum of squares per degree of freedom; 1 without weights, as the scatter is then the
        error.
    reserved_chi2_dof : float
        Weighted sum of squares per degree of freedom of the held-out objects; NaN without any.
    reserved_dof : int
        Degrees of freedom of the held-out objects.
    floor_px : float
        Error per axis that was added to every detection, in quadrature, to make `chi2_dof` 1; 0
        without weights.
    degeneracies : list of Degeneracy
        Freedoms that the images do not determine.
    closure : Table
        One row per pair of images with objects in common: their numbers ``a`` and ``b``, the number
        of common objects, and the mean remaining difference ``dx``, ``dy`` of their positions, px,
        with its standard error ``error``.
    pulls : ndarray, shape (n, 2)
        Residuals of the kept detections divided by their expected standard deviations.
    distortion : list of PolynomialDistortion
        The shared distortion, which was added to that of each image, one per detector, as a
        function of the pixel relative to the image centre. Empty if none was requested.
    exposure_distortion : list of PolynomialDistortion or None
        The separate distortion that was added to each image, None where the matches of an image do
        not determine one. Empty if none was requested.
    objects : QTable or None
        The objects at the epoch of the fit: ``id``, ``ra``, ``dec`` and their errors by the fitted
        maps, ``num_detections``, and if they were fitted ``pmra``, ``pmdec``, ``parallax`` and
        their errors.
    chromatic : ndarray, shape (n, 2)
        Shift of each fitted image per magnitude of colour, in pixels of its plane. Empty if it was
        not requested.
    """

    num_objects: int
    num_detections: int
    rmse_px: float
    chi2_dof: float
    reserved_chi2_dof: float
    floor_px: float
    degeneracies: list[Degeneracy]
    closure: Table
    pulls: Floats
    distortion: list[PolynomialDistortion] = field(default_factory=list)
    exposure_distortion: list[PolynomialDistortion | None] = field(default_factory=list)
    objects: QTable | None = None
    reserved_dof: int = 0
    chromatic: Floats = field(default_factory=lambda: np.zeros((0, 2)))

    def __repr__(self) -> str:
        """Show the sizes and the residuals."""
        return (
            f"GlobalFit({self.num_detections} detections of {self.num_objects} objects, "
            f"rmse {self.rmse_px:.3g} px, reserved chi2/dof {self.reserved_chi2_dof:.3f})"
        )


@named
@dataclass(frozen=True, repr=False)
class AlignmentResult:
    """Result of `align`.

    Attributes
    ----------
    images : list of ImageAlignment
        One result per item of `imcat`, in the same order.
    refcat : ReferenceCatalog
        The reference at the end, with any objects that were added to it.
    order : list of int
        Indices of `imcat` in the order in which the items were aligned, without the reference
        image.
    catalogs : list of ImageCatalog or ImageGroup
        The items of `imcat`.
    fit : GlobalFit or None
        The fit of all images at once, for ``method="global"``.
    """

    images: list[ImageAlignment]
    refcat: ReferenceCatalog
    order: list[int]
    catalogs: list[ImageCatalog | ImageGroup]
    fit: GlobalFit | None = None

    @property
    def ok(self) -> bool:
        """True when the verdict on every image is good."""
        return all(image.verdict == "good" for image in self.images)

    @property
    def table(self) -> QTable:
        """One row per image: name, status, verdict, reason and the numbers."""
        from astropy import units as u
        from astropy.table import QTable

        rows = self.images
        table = QTable()
        for name in ("name", "status", "verdict"):
            table[name] = [str(getattr(row, name)) for row in rows]
        table["reason"] = [row.reason.value for row in rows]
        for name in ("num_sources", "num_matches", "num_fitted"):
            table[name] = [int(getattr(row, name)) for row in rows]
        table["rmse"] = [row.rmse_px for row in rows] * u.pix
        table["shift"] = np.array([row.shift for row in rows]).reshape(-1, 2) * u.pix
        table["rotation"] = [row.rotation_deg for row in rows] * u.deg
        for name in ("scale", "chi2_dof", "log_odds", "matched_fraction"):
            table[name] = [float(getattr(row, name)) for row in rows]
        table["corner_error"] = [row.corner_error_px for row in rows] * u.pix
        return table

    @property
    def residuals(self) -> Table:
        """One row per match of any image: ``image`` and the columns of `ImageAlignment.matched`."""
        from astropy.table import vstack

        tables = []
        for number, image in enumerate(self.images):
            matched = image.matched
            matched.add_column(np.full(len(matched), number), index=0, name="image")
            tables.append(matched)
        return vstack(tables)

    def to_dict(self) -> dict[str, Any]:
        """Return the images as numbers and text, for JSON.

        Returns
        -------
        dict
            ``ok``, and ``images``: `ImageAlignment.to_dict` of each.

        Examples
        --------
        See `align`.
        """
        return {"ok": self.ok, "images": [image.to_dict() for image in self.images]}

    def _repr_html_(self) -> str:
        rows = ((image.name, f"{image!r}".partition(", ")[2][:-1]) for image in self.images)
        return html_table(f"{self!r}", rows)

    def __repr__(self) -> str:
        """Show the number of images with each verdict."""
        counts = {v: sum(i.verdict == v for i in self.images) for v in ("good", "poor", "failed")}
        counted = ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n)
        return f"AlignmentResult({len(self.images)} images: {counted})"
