"""Solving: one frame, from an image or its centroids, or many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

from numpy.typing import ArrayLike

from boresight import _core as core
from boresight._utils import arguments
from boresight._utils.naming import named
from boresight._utils.origins import Origin
from boresight._utils.progress import Progress, progress_callback
from boresight.apparent.place import ApparentPlace
from boresight.camera.model import CameraModel, Projection
from boresight.database.database import PatternDatabase
from boresight.errors import InputError, TimeLimitError
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

#: How far the attitude with one projection is from that with another, degrees.
SAME_ATTITUDE_DEG = 5.0

#: Detections that are measured of an image, the brightest: the search takes tens, a lens some
#: hundred, and where catalogue stars are the brightest of many they are among these.
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
    """Find where an image of the sky looks.

    Parameters
    ----------
    image_or_centroids : array_like, NDData, Frame, path, Centroids, ExtractionResult or Table
        An image, of which the stars are extracted: an array of shape (height, width), or of
        colours (height, width, 3 or 4) or (3, height, width), besides axes of length 1; an
        `~astropy.nddata.NDData`, such as a CCDData; a `Frame`; or what `read_frame` reads: the
        path of a file, an HDU, a PIL image. Or the stars: whatever `Centroids.from_any` takes, such
        as an array of shape (n, 2) or (n, 3); those counted from the corner with their `origin`.
    fov_deg : float, optional
        Horizontal field of view, edge to edge, known to 30 % (see `fov_max_error_deg`). Default:
        that of `camera_model`, or else all that the database is made for.
    database : SolverDatabase, optional
        Default: `SolverDatabase.default`, which serves fields from about 3 degrees; it is made when
        first needed.
    image_shape : (int, int), optional
        (height, width) in pixels. Known of an image or an `ExtractionResult`; of other centroids it
        is needed, unless `camera_model` is given.
    camera_model : CameraModel, optional
        Distortion, optical centre and parity to be used. Its focal length is fitted anew.
    projection : str, optional
        Projection of a fisheye of which nothing else is known but its `fov_deg`: ``"gnomonic"``,
        ``"equidistant"``, ``"equisolid"``, ``"stereographic"`` or ``"orthographic"``; both parities
        are tried. ``"auto"``: an ordinary lens, then all of these, also without a `fov_deg`; which
        one matches most stars is taken. Default: that of `camera_model`, or an ordinary lens.
    extraction : mapping, optional
        Arguments for `extract_centroids`. Where they do not say otherwise, the 1000 brightest stars
        are measured, and if it does not solve with these, all; and an image of fewer than 20 stars
        that does not solve is searched once more with a threshold of 4 standard deviations.
    header : {"try", "ignore", "only"}
        Use of the position, scale, rotation and WCS in the header of a `Frame`, file or NDData
        (see `Frame.hints`), as far as no argument tells them: searched first and, if that does not
        help, the frame is solved as without them, so that a wrong header costs some time and
        nothing else; not used; or relied upon, and nothing else tried.
    **options
        Further arguments of `solve_from_centroids`. Here `solve_timeout_ms`, where it is given, is
        for reading, extraction and all attempts together; the `lens` is ``"auto"``, unless a
        `camera_model`, a `projection` or an `attitude_hint` is given; and of a frame whose time is
        known the `place` has the aberration by the Earth's motion, and stars of Hipparcos are moved
        to that time.

    Returns
    -------
    Solution or None
        `None` when the frame does not solve; `diagnose` tells why.

    Raises
    ------
    InputError
        For an argument that cannot be worked with.
    FileNotFoundError, FileFormatError
        For a path to nothing, or to a file that is no image.

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
    # Of a fisheye the projection is what is to be found: with a lens of its own any would do.
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
    """Solve by the stars that are found at first, or else by more of them."""
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
    """Fit any lens to frames of which nothing is known; otherwise be as quick as can be."""
    return "auto" if camera is None and options.get("attitude_hint") is None else None


def _first_solution(found: Found, request: Request, deadline: float) -> Solution | None:
    """Solve by the first attempt that succeeds."""
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
            if attempt.camera_model is None or request.projection != "auto":
                return solution
            return likeliest(found.stars, attempt, solution, request.options.get("lens"))
    return None


def likeliest(
    stars: Any, attempt: Attempt, solution: Solution, lens: LensModel | None = None
) -> Solution:
    """Solve with the projection that matches most stars: those near the true one solve too.

    `lens` is fitted at last: before, it would make one projection look like another.
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
            # At the centre all have the same scale.
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
    """Find where many frames look, on all processors.

    Parameters
    ----------
    centroids : iterable
        The stars of each frame, as `solve_from_centroids` takes them.
    fov_deg, database, image_shape, camera_model
        As in `solve`, the same for all frames.
    camera_models : sequence of (CameraModel or None), optional
        A camera for each frame, of the same image shape; `None`: `camera_model`.
    attitude_hints : sequence, optional
        A hint for each frame, as `attitude_hint` of `solve_from_centroids`; `None`: that given for
        all.
    places : sequence of (ApparentPlace or None), optional
        How the stars of each frame are displaced: aberration by its own velocity, refraction.
        `None`: as given for all.
    progress : bool or callable, optional
        True shows a progress bar; a function is called with the fraction done, 0 to 1.
    **options
        Further arguments of `solve_from_centroids`, the same for all frames. The `lens` is
        ``"auto"``, as in `solve`, unless cameras or hints are given.

    Returns
    -------
    list of Solution or None
        In the order of the frames: of each what `solve_from_centroids` gives, whatever the number
        of threads (which the environment variable BORESIGHT_NUM_THREADS sets). Only a frame that
        runs into `solve_timeout_ms` depends on what else the machine does.

    Raises
    ------
    InputError
        For an argument that cannot be worked with; centroids are named by their frame.
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
    lists = list(centroids)
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
                    f"{name}: it has a {type(value).__name__}; give {kind.__name__} or None each"
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
    """Find where a frame looks from the positions of its stars.

    Patterns of four bright stars are looked up in the database by their shape (the Tetra family of
    algorithms, Brown, Stubis & Cahoy 2017). Each find is verified on the other stars by a
    likelihood ratio; the accepted one is refined: attitude and scale are fitted to all matches.

    Parameters
    ----------
    database : SolverDatabase
        Patterns of catalogue stars made for this field of view.
    centroids : Centroids, list of Centroid, array_like of shape (n, 2) or (n, 3), or Table
        Positions in pixels and brightness, if known (else the order is taken as brightest first);
        all that `Centroids.from_any` takes. Stars that are masked or NaN take no part.
    fov_estimate_deg : float, optional
        Horizontal field of view, edge to edge. Default: that of `camera_model`, or else all that
        the database is made for.
    fov_max_error_deg : float, optional
        Largest error of the estimate. Default: 30 % of it.
    image_shape : (int, int), optional
        (height, width) in pixels. Needed unless `camera_model` is given.
    match_radius : float
        Centroids and catalogue stars match within this fraction of the horizontal field of view.
        It bounds the error that distortion may cause; the fit narrows it as far as the residuals
        allow.
    match_threshold : float
        Largest accepted probability that the solution is a chance match.
    refine_iterations : int
        Rounds of matching and fitting at most; they end when the matches stay the same.
    camera_model : CameraModel, optional
        Distortion, optical centre and parity to be used. Its focal length is fitted anew.
    pattern_checking_stars : int
        Brightest stars from which patterns are made.
    match_max_error : float, optional
        Largest difference between edge ratios in the image and the catalogue; the database's
        ``pattern_max_error`` if that is larger. When nothing is found, three and ten times as much
        is tried before giving up. At most 0.05.
    solve_timeout_ms : int, optional
        Time bound; `None` for none.
    max_patterns_checked : int
        Work bound, the same on every machine.
    attitude_hint : array_like, Solution, WCS or SkyCoord, optional
        Where the camera is expected to look. An attitude: a quaternion (w, x, y, z), a (3, 3)
        rotation matrix ICRS to camera, the solution of a frame before, or an
        `~astropy.wcs.WCS` for the image's 0-based array pixels. Or where the image's centre looks,
        the roll unknown: a `~astropy.coordinates.SkyCoord`, or (right ascension, declination) in
        degrees, ICRS. Three stars are enough with an attitude known to a small part of the field,
        four with a position.
    hint_uncertainty_deg : float
        Largest angle between the expected and the true attitude or position, up to 45; half as
        much again is searched.
    strict_hint : bool
        Give up, rather than search the whole sky, when there is no match near the hint.
    lens : {"auto", "none", "pinhole", "radial", "polynomial"} or int, optional
        What is fitted of the lens to the stars of this frame, once it is solved: the model of that
        form, or a polynomial of that order, for which matches are looked for again, farther and
        farther out. ``"auto"`` takes the simplest model that predicts held-out stars best, as
        ``calibrate_camera(model="auto", order="auto")`` does, and ``"polynomial"`` the best order;
        where too few stars match for it, or leave a part of the frame undetermined, less is fitted.
        ``"none"``: the lens stays as `camera_model` has it. Default: without a camera model, a
        radial coefficient and the optical centre, as far as they are significant, by matches within
        `match_radius`: where a lens displaces stars farther, ``"auto"`` finds it.
    parity_flip : bool, optional
        Whether the image shows the sky mirrored: only such solutions, or only others, are searched
        for. Default: that of `camera_model`, or else both.
    observer_velocity_km_s : array_like of shape (3,), optional
        Barycentric velocity (see `earth_barycentric_velocity`): stellar aberration is then taken
        into account.
    place : ApparentPlace, optional
        How the stars are displaced in this frame: aberration and refraction. It stands instead of
        `observer_velocity_km_s`.
    origin : {"center", "corner", "fits"}, optional
        Where positions are counted from: the image's centre, the centre of the first pixel as
        (0, 0), or the same as (1, 1). Default: what the columns of a table tell, else the centre;
        see `Centroids.from_any`.

    Returns
    -------
    Solution or None
        `None` when the frame does not solve.

    Raises
    ------
    InputError
        For an argument that cannot be worked with: positions that are infinite or lie outside the
        image (those counted from the corner do), a field of view outside 0 to 180 degrees, a shape
        that contradicts the camera model, and so on.

    Examples
    --------
    See `Solution`.
    """
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
    """Check some options of `solve_from_centroids`; the others are its defaults."""
    arguments.check_options(options, SolveOptions)
    return prepare(fov_deg, image_shape, camera_model, {**_DEFAULTS, **options})
