"""Solves one frame, from an image or from its centroids, or many frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

from numpy.typing import ArrayLike

from boresight import _core as core
from boresight._utils import arguments
from boresight._utils.naming import named, type_of
from boresight._utils.origins import Origin
from boresight._utils.progress import Progress, progress_callback
from boresight.apparent.place import ApparentPlace
from boresight.camera.model import CameraModel, Projection
from boresight.database.database import PatternDatabase
from boresight.errors import InputError, TimeLimitError
from boresight.extraction.extract import ExtractionResult
from boresight.solver.attempts import (
    FISHEYES,
    Attempt,
    HeaderUse,
    Request,
    attempts,
    deadline_of,
    until,
)
from boresight.solver.inputs import Found, choose_database, common_shape, find_stars, more_stars
from boresight.solver.options import LensModel, Prepared, SolveOptions, detections, prepare
from boresight.solver.outcome import log, solution_of
from boresight.solver.solution import Solution

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.wcs import WCS

__all__ = ["solve", "solve_from_centroids", "solve_many"]

#: Largest difference between the attitudes found with two projections, degrees.
SAME_ATTITUDE_DEG = 5.0

#: A pinhole with a wider field of view than this, degrees, is compared with fisheyes if the
#: projection is unknown: the stars in the middle of a fisheye's image match a pinhole too.
WIDE_PINHOLE_DEG = 60.0

#: Number of detections of an image that are measured, brightest first. The search needs tens of
#: them and a lens fit some hundred. In a crowded image the catalogue stars are the brightest, so
#: they are among these.
MOST_MEASURED = 1000


@named
def solve(
    image_or_centroids: Any,
    fov_deg: float | None = None,
    *,
    database: PatternDatabase | None = None,
    image_shape: tuple[int, int] | None = None,
    camera_model: CameraModel | None = None,
    projection: Projection | Literal["auto"] | None = None,
    extraction: Mapping[str, Any] | None = None,
    header: HeaderUse = "try",
    **options: Unpack[SolveOptions],
) -> Solution | None:
    """Find where on the sky an image points, from the stars in it.

    Parameters
    ----------
    image_or_centroids : array_like, NDData, Frame, path, Centroids, ExtractionResult or Table
        An image, from which the stars are extracted: an array of shape (height, width), or in
        colour (height, width, 3 or 4) or (3, height, width); further axes of length 1 are allowed;
        an `~astropy.nddata.NDData`, such as a CCDData; a `Frame`; or anything that `read_frame`
        reads: the path of a file, an HDU, a PIL image. Or a list of stars: anything that
        `Centroids.from_any` takes, such as an array of shape (n, 2) or (n, 3). If the positions are
        counted from the corner, give their `origin`.
    fov_deg : float, optional
        Horizontal field of view, edge to edge, degrees, known to 30 % (see `fov_max_error_deg`).
        Default: that of `camera_model`, or else the whole range of the database.
    database : SolverDatabase, optional
        Default: `SolverDatabase.default`, which serves fields from about 3 degrees up; it is
        generated on first use.
    image_shape : (int, int), optional
        (height, width) in pixels. An image or an `ExtractionResult` has its own; other centroids
        need this argument or a `camera_model`.
    camera_model : CameraModel, optional
        Camera whose distortion, optical centre and parity are used. Its focal length is fitted
        again.
    projection : str, optional
        Projection of a fisheye lens of which only the `fov_deg` is known: ``"gnomonic"``,
        ``"equidistant"``, ``"equisolid"``, ``"stereographic"`` or ``"orthographic"``; both parities
        are tried. ``"auto"`` tries an ordinary lens, then all of these, also without a `fov_deg`,
        and takes the projection that matches the most stars. Default: that of `camera_model`, or an
        ordinary lens.
    extraction : mapping, optional
        Arguments for `extract_centroids`. Unless these say otherwise, the 1000 brightest stars are
        measured, and then all stars if the frame does not solve with these. An image with fewer
        than 20 stars that does not solve is extracted and searched again with a threshold of 4
        standard deviations.
    header : {"try", "ignore", "only"}
        Use of the position, scale, rotation and WCS in the header of a `Frame`, file or NDData (see
        `Frame.hints`), as far as no argument gives them. ``"try"``: these are searched first; if
        that fails, the frame is solved without them, so that a wrong header only costs some time.
        ``"ignore"``: they are not used. ``"only"``: they are relied upon, and nothing else is
        tried.
    **options
        Further arguments of `solve_from_centroids`. Here `solve_timeout_ms`, if given, limits the
        time of reading, extraction and all attempts together. The `lens` is ``"auto"``, unless a
        `camera_model`, an `attitude_hint` or a `projection` other than ``"gnomonic"`` is given. If
        the time of the frame is known, the default `place` has the aberration by the Earth's
        motion, and Hipparcos stars are moved to that time.

    Returns
    -------
    Solution or None
        `None` if the frame does not solve; `diagnose` then finds the reason.

    Raises
    ------
    InputError
        If an argument is invalid.
    FileNotFoundError, FileFormatError
        If a path leads to no file, or to a file that is not an image.

    Examples
    --------
    >>> import boresight
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> image = boresight.simulate_frame(camera, ra_deg=83.8, dec_deg=-1.2, seed=1).image
    >>> solution = boresight.solve(image)
    >>> print(f"{solution.ra_deg:.1f} {solution.dec_deg:.1f} {solution.fov_deg:.1f}")
    83.8 -1.2 15.0
    """
    arguments.check_options(options, SolveOptions)
    # No lens is fitted while the projection is unknown: a fitted lens would let any projection
    # match.
    fisheye = projection not in (None, "gnomonic")
    options.setdefault("lens", None if fisheye else _default_lens(camera_model, options))
    request = Request(fov_deg, database, camera_model, projection, header, options)
    deadline = deadline_of(options)
    try:
        return _solved(image_or_centroids, image_shape, extraction or {}, request, deadline)
    except TimeLimitError as error:
        log("not solved (timeout): the stars were not found in time: %s", error)
        return None


def _solved(
    given: Any,
    image_shape: tuple[int, int] | None,
    extraction: Mapping[str, Any],
    request: Request,
    deadline: float,
) -> Solution | None:
    """Solve with the stars of the first extraction or, if that fails, with more stars."""
    found = find_stars(given, image_shape, extraction, MOST_MEASURED, deadline)
    options = request.options
    if found.time is not None and not {"place", "observer_velocity_km_s"} & options.keys():
        options["place"] = ApparentPlace.at(found.time, velocity_km_s="earth")
    solution = _first_solution(found, request, deadline)
    more = {} if solution is not None else more_stars(found, extraction)
    if more:
        found = find_stars(given, image_shape, {**extraction, **more}, None, deadline)
        solution = _first_solution(found, request, deadline)
    return solution


def _default_lens(camera: object, options: SolveOptions) -> LensModel | None:
    """Return "auto" for a frame without camera and hint, else None, which is faster."""
    return "auto" if camera is None and options.get("attitude_hint") is None else None


def _first_solution(found: Found, request: Request, deadline: float) -> Solution | None:
    """Return the solution of the first attempt that succeeds."""
    for attempt in until(attempts(request, found.hints, found.image_shape), deadline):
        solution = solve_from_centroids(
            attempt.database,
            found.stars,
            attempt.fov_deg,
            image_shape=found.image_shape,
            camera_model=attempt.camera_model,
            **attempt.options,
        )
        if solution is not None:
            is_certain = attempt.camera_model is None and solution.fov_deg < WIDE_PINHOLE_DEG
            if request.projection != "auto" or is_certain:
                return solution
            # The error of the scale in a header is that of a pinhole.
            error_deg = request.options.get("fov_max_error_deg")
            options: SolveOptions = {**attempt.options, "fov_max_error_deg": error_deg}
            attempt = attempt._replace(options=options)
            return likeliest(found.stars, attempt, solution, request.options.get("lens"))
    return None


def likeliest(
    stars: Any, attempt: Attempt, solution: Solution, lens: LensModel | None = None
) -> Solution:
    """Solve with the projection that matches the most stars.

    Projections close to the true one solve too. `lens` is fitted last: if it were fitted earlier,
    it would make one projection look like another.
    """
    options: SolveOptions = {
        **attempt.options,
        "hint_uncertainty_deg": SAME_ATTITUDE_DEG,
        "strict_hint": True,
    }

    def again(camera: CameraModel, lens: LensModel | None) -> Solution | None:
        near: SolveOptions = {**options, "attitude_hint": solution, "lens": lens}
        return solve_from_centroids(attempt.database, stars, camera_model=camera, **near)

    before = 0
    while solution.num_matches > before:
        before, camera = solution.num_matches, solution.camera_model
        for projection in FISHEYES:
            # All projections have the same scale at the centre.
            other = CameraModel(
                camera.focal_length_px,
                camera.image_shape,
                parity_flip=camera.parity_flip,
                projection=projection,
            )
            tried = again(other, None)
            if tried is not None and tried.num_matches > solution.num_matches:
                solution = tried
    fitted = None if lens is None else again(solution.camera_model, lens)
    return solution if fitted is None else fitted


@named
def solve_many(
    centroids: Iterable[Any],
    fov_deg: float | None = None,
    *,
    database: PatternDatabase | None = None,
    image_shape: tuple[int, int] | None = None,
    camera_model: CameraModel | None = None,
    camera_models: Sequence[CameraModel | None] | None = None,
    attitude_hints: Sequence[Any] | None = None,
    places: Sequence[ApparentPlace | None] | None = None,
    progress: Progress = None,
    **options: Unpack[SolveOptions],
) -> list[Solution | None]:
    """Solve many frames in parallel, on all processors.

    Parameters
    ----------
    centroids : iterable
        The stars of each frame, as `solve_from_centroids` takes them.
    fov_deg, database, image_shape, camera_model
        As in `solve`, the same for all frames.
    camera_models : sequence of (CameraModel or None), optional
        A camera for each frame, all of the same image shape. `camera_model` replaces `None`.
    attitude_hints : sequence, optional
        A hint for each frame, as `attitude_hint` of `solve_from_centroids`. The `attitude_hint`
        given for all frames replaces `None`.
    places : sequence of (ApparentPlace or None), optional
        The apparent place of each frame: aberration by its own velocity, and refraction. The
        `place` given for all frames replaces `None`.
    progress : bool or callable, optional
        True shows a progress bar; a function is called with the fraction done, 0 to 1.
    **options
        Further arguments of `solve_from_centroids`, the same for all frames. The `lens` is
        ``"auto"``, as in `solve`, unless cameras or hints are given.

    Returns
    -------
    list of Solution or None
        The result of `solve_from_centroids` for each frame, in the order of the frames, whatever
        the number of threads (set by the environment variable BORESIGHT_NUM_THREADS). Only a frame
        that reaches `solve_timeout_ms` depends on the load of the machine.

    Raises
    ------
    InputError
        If an argument is invalid. For centroids, the message gives the number of the frame.
    KeyboardInterrupt
        On Ctrl-C, at once.

    Examples
    --------
    >>> import boresight
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> frames = [boresight.simulate_frame(camera, ra, 20.0, seed=1).image for ra in (10, 90)]
    >>> stars = [boresight.extract_centroids(frame) for frame in frames]
    >>> [round(solution.ra_deg, 1) for solution in boresight.solve_many(stars)]
    [10.0, 90.0]
    """
    arguments.check_options(options, SolveOptions)
    lists = arguments.per_frame("centroids", centroids)
    image_shape = common_shape(lists, image_shape)
    own = {"camera_models": camera_models, "attitude_hints": attitude_hints, "places": places}
    for name, values in own.items():
        if values is not None and len(values) != len(lists):
            raise InputError(
                f"{name}: {len(values)} for {len(lists)} frames; give one (or None) each"
            )
    for name, values, kind in (
        ("camera_models", camera_models, CameraModel),
        ("places", places, ApparentPlace),
    ):
        for value in () if values is None else values:
            if value is not None and not isinstance(value, kind):
                raise InputError(
                    f"{name}: it has {type_of(value)}; give {kind.__name__} or None each"
                )
    if not lists:
        return []
    if camera_models is None and attitude_hints is None:
        options.setdefault("lens", _default_lens(camera_model, options))
    common = prepared(fov_deg, image_shape, camera_model, options)
    frames = []
    for number, stars in enumerate(lists):
        try:
            frames.append(detections(stars, options.get("origin"), common))
        except InputError as error:
            raise InputError(f"centroids: in frame {number}: {error}") from None
    each = [
        common.frame(camera_model=camera, attitude_hint=hint, place=place)
        for camera, hint, place in zip(
            *(values if values is not None else [None] * len(frames) for values in own.values()),
            strict=True,
        )
    ]
    database = choose_database(database, fov_deg, camera_model)
    with progress_callback(progress, "Solving") as callback:
        outcomes = core.solve_many(
            database._core, frames, [frame.values for frame in each], callback
        )
        if callback is not None:
            callback(1.0)
    return [
        solution_of(outcome, frame.place, len(stars["stars"]), database)
        for outcome, frame, stars in zip(outcomes, each, frames, strict=True)
    ]


@named
def solve_from_centroids(
    database: PatternDatabase,
    centroids: Any,
    fov_estimate_deg: float | None = None,
    fov_max_error_deg: float | None = None,
    image_shape: tuple[int, int] | None = None,
    match_radius: float = 0.01,
    match_threshold: float = 1e-5,
    refine_iterations: int = 10,
    camera_model: CameraModel | None = None,
    *,
    pattern_checking_stars: int = 24,
    match_max_error: float | None = None,
    solve_timeout_ms: int | None = 5000,
    max_patterns_checked: int = 10_000_000,
    attitude_hint: ArrayLike | Solution | SkyCoord | WCS | None = None,
    hint_uncertainty_deg: float = 1.0,
    strict_hint: bool = False,
    lens: LensModel | None = None,
    parity_flip: bool | None = None,
    observer_velocity_km_s: ArrayLike | None = None,
    place: ApparentPlace | None = None,
    origin: Origin | None = None,
) -> Solution | None:
    """Find where on the sky a frame points, from the positions of its stars.

    Patterns of four bright stars are looked up in the database by their shape (the Tetra family of
    algorithms, Brown, Stubis & Cahoy 2017). Each candidate is verified with the other stars by a
    likelihood ratio. The accepted candidate is refined: attitude and scale are fitted to all
    matches.

    Parameters
    ----------
    database : SolverDatabase
        Database of star patterns made for this field of view.
    centroids : Centroids, list of Centroid, array_like of shape (n, 2) or (n, 3), or Table
        Positions in pixels, and brightness if known; otherwise the stars must be in order,
        brightest first. Anything that `Centroids.from_any` takes. Stars that are masked or NaN are
        ignored.
    fov_estimate_deg : float, optional
        Horizontal field of view, edge to edge, degrees. Default: that of `camera_model`, or else
        the whole range of the database.
    fov_max_error_deg : float, optional
        Largest error of the estimate, degrees. Default: 30 % of the estimate.
    image_shape : (int, int), optional
        (height, width) in pixels. Needed unless `camera_model` or an `ExtractionResult` is given.
    match_radius : float
        Largest distance between a centroid and its catalogue star, as a fraction of the horizontal
        field of view. It limits the error that distortion may cause; the fit narrows the radius as
        far as the residuals allow.
    match_threshold : float
        Largest accepted probability that the solution is a chance match.
    refine_iterations : int
        Largest number of rounds of matching and fitting; they end when the matches stay the same.
    camera_model : CameraModel, optional
        Camera whose distortion, optical centre and parity are used. Its focal length is fitted
        again.
    pattern_checking_stars : int
        Number of stars from which patterns are made, brightest first.
    match_max_error : float, optional
        Largest difference between the edge ratios of a pattern in the image and in the catalogue,
        at most 0.05. The database's ``pattern_max_error`` is used if that is larger. If nothing is
        found, tolerances three and ten times as large are tried before giving up.
    solve_timeout_ms : int, optional
        Time limit, ms; `None` for no limit.
    max_patterns_checked : int
        Largest number of patterns checked. This limit is the same on every machine.
    attitude_hint : array_like, Solution, WCS or SkyCoord, optional
        Where the camera is expected to point. Either an attitude: a quaternion (w, x, y, z), a (3,
        3) rotation matrix ICRS to camera, the solution of an earlier frame, or an
        `~astropy.wcs.WCS` for the image's 0-based array pixels. Or the position of the image's
        centre, with the roll unknown: a `~astropy.coordinates.SkyCoord`, or (right ascension,
        declination) in degrees, ICRS. Three stars are enough if the attitude is known to a small
        fraction of the field, four if the position is.
    hint_uncertainty_deg : float
        Largest angle between the expected and the true attitude or position, up to 45 degrees; the
        search extends to 1.5 times this angle.
    strict_hint : bool
        Give up, rather than search the whole sky, when there is no match near the hint.
    lens : {"auto", "none", "pinhole", "radial", "polynomial"} or int, optional
        Lens model fitted to the stars of this frame once it is solved: a model of that form, or a
        polynomial of that order. Further matches are then searched for, farther and farther out.
        ``"auto"`` takes the simplest model that predicts held-out stars best, as
        ``calibrate_camera(model="auto", order="auto")`` does; ``"polynomial"`` takes the best
        order. If too few stars match, or if they leave a part of the frame undetermined, a simpler
        model is fitted. ``"none"``: the lens stays as in `camera_model`. Default: without a camera
        model, a radial coefficient and the optical centre are fitted, as far as they are
        significant, to matches within `match_radius`. If a lens displaces stars farther than that,
        use ``"auto"``.
    parity_flip : bool, optional
        Whether the image shows the sky mirrored: only solutions of this parity are searched for.
        Default: that of `camera_model`, or else both.
    observer_velocity_km_s : array_like of shape (3,), optional
        Barycentric velocity of the observer, km/s (see `earth_barycentric_velocity`). Stellar
        aberration is then taken into account.
    place : ApparentPlace, optional
        Apparent place of the stars in this frame: aberration and refraction. It replaces
        `observer_velocity_km_s`.
    origin : {"center", "corner", "fits"}, optional
        Origin of the positions: the image's centre, the centre of the first pixel as (0, 0), or the
        centre of the first pixel as (1, 1). Default: given by the columns of a table, else the
        centre; see `Centroids.from_any`.

    Returns
    -------
    Solution or None
        `None` if the frame does not solve.

    Raises
    ------
    InputError
        If an argument is invalid: positions that are infinite or lie outside the image (as
        positions counted from the corner do), a field of view outside 0 to 180 degrees, a shape
        that contradicts the camera model, and so on.

    Examples
    --------
    See `Solution`.
    """
    if not isinstance(database, PatternDatabase):
        raise InputError(f"database: {type_of(database)} is none; give a SolverDatabase")
    options: SolveOptions = {
        "fov_max_error_deg": fov_max_error_deg,
        "match_radius": match_radius,
        "match_threshold": match_threshold,
        "refine_iterations": refine_iterations,
        "pattern_checking_stars": pattern_checking_stars,
        "match_max_error": match_max_error,
        "solve_timeout_ms": solve_timeout_ms,
        "max_patterns_checked": max_patterns_checked,
        "attitude_hint": attitude_hint,
        "hint_uncertainty_deg": hint_uncertainty_deg,
        "strict_hint": strict_hint,
        "lens": lens,
        "parity_flip": parity_flip,
        "observer_velocity_km_s": observer_velocity_km_s,
        "place": place,
        "origin": origin,
    }
    if image_shape is None and isinstance(centroids, ExtractionResult):
        image_shape = centroids.image_shape
    frame = prepare(fov_estimate_deg, image_shape, camera_model, options)
    stars = detections(centroids, origin, frame)
    outcome = core.solve(database._core, stars, frame.values)
    return solution_of(outcome, frame.place, len(stars["stars"]), database)


_DEFAULTS = arguments.keyword_defaults(solve_from_centroids)


def prepared(
    fov_deg: float | None,
    image_shape: tuple[int, int] | None,
    camera_model: CameraModel | None,
    options: SolveOptions,
) -> Prepared:
    """Check some options of `solve_from_centroids`; the others get their defaults."""
    arguments.check_options(options, SolveOptions)
    return prepare(fov_deg, image_shape, camera_model, {**_DEFAULTS, **options})
