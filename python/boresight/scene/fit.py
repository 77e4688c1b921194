"""Joint fit of images: sources, PSF and WCS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.arguments import count
from boresight._utils.arrays import quaternion_of, rotation_about, unit_vector
from boresight._utils.naming import named
from boresight._utils.progress import Progress, progress_callback
from boresight.apparent.motion import Motion
from boresight.errors import InputError
from boresight.scene.images import Image
from boresight.scene.motion import Motions, colors_of
from boresight.scene.parameters import Problem
from boresight.scene.places import ARCSEC, Plane, image_places
from boresight.scene.psf import PSF, EffectivePSF, Moffat
from boresight.scene.result import SceneResult, collect
from boresight.scene.sources import SersicSource, Source, sources_of
from boresight.solver.solution import Solution

__all__ = ["fit"]

Floats = NDArray[np.float64]

#: Smallest distance of two sources. Sources closer than this are an input error.
SAME_PLACE_ARCSEC = 1e-3

#: Maximum number of fits with cameras. Each fit is linearized at the attitudes that the last one
#: found.
CAMERA_ROUNDS = 3

#: The fits with cameras end when no attitude moves by more than this.
SETTLED_ARCSEC = 1e-3


@named
def fit(
    images: Image | Sequence[Image],
    sources: Any,
    *,
    schedule: Literal["auto", "joint"] = "auto",
    loss: Literal["linear", "huber", "cauchy", "geman_mcclure"] = "linear",
    motion: Motion = "still",
    max_iterations: int = 100,
    progress: Progress = None,
) -> SceneResult:
    """Fit the pixels of images of the same sources; the WCS of each image is part of the model.

    Each source has one position on the sky and a separate flux in every image. Each image has a
    PSF, a WCS with the given freedom, and a sky background. All parameters are fitted together by
    Levenberg-Marquardt.

    Parameters
    ----------
    images : list of Image
        The images. Images with ``wcs_freedom`` "fixed" are the reference of the others. If there is
        none, and no source has an ``error_arcsec``, the WCS of the first image is held, and the
        result says so.
    sources : SkyCoord, Table, list of PointSource and SersicSource, or int
        The sources. Of a table, the columns ``ra`` and ``dec`` (degrees) are read, and optional
        columns named as the arguments of `PointSource`, such as ``error_arcsec`` and ``color``. An
        int is the number of stars to find in the first image.
    schedule : "auto" or "joint"
        "auto" (default) first fits the sources on the fixed images, then the free images, which may
        be off by 10 px and 7 degrees, and then all together. "joint" fits all together from the
        given start.
    loss : str
        Loss function of the residuals in units of their noise: "linear" (least squares, default),
        "huber", "cauchy" or "geman_mcclure".
    motion : "still", "proper" or "parallax"
        Parameters of stars that are fitted in addition to the position: none (default; known
        motions are applied), proper motions, or proper motions and parallaxes, from images of
        several epochs. Errors of motions in a `PointSource` are priors. A position without an epoch
        is for the mean time of the images. Parameters that the epochs do not determine are frozen,
        and named in the result.
    max_iterations : int
        Maximum number of steps of each stage. Default 100.
    progress : bool or callable, optional
        True draws a progress bar; a callable gets the fraction done.

    Returns
    -------
    SceneResult

    Raises
    ------
    InputError
        If an image or a source is invalid, or two sources have the same position.
    UndeterminedError
        If no source covers a good pixel in any image.

    Notes
    -----
    On the tangent plane of an image, in arcsec, ``plane = CD M (pixel - crpix) + crtan``
    (AstroPhot's convention). Depending on the freedom, M is a rotation by phi, a rotation times a
    scale, or any matrix. The distortion of a TAN-SIP WCS is kept; it is linearized at every source.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.coordinates import SkyCoord
    >>> from astropy.wcs import WCS
    >>> from boresight import scene
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [329.2715, 13.6483]
    >>> wcs.wcs.cd, wcs.wcs.crpix = np.diag([-0.262, 0.262]) / 3600, [40.5, 40.5]
    >>> y, x = np.mgrid[:80, :80]
    >>> def stars(dx):
    ...     places = [(25.0, 30.0), (50.0, 22.0), (44.0, 60.0)]
    ...     light = sum(np.exp(-((x - a - dx) ** 2 + (y - b) ** 2) / 8.0) for a, b in places)
    ...     return 500.0 * light + np.random.default_rng(1).normal(0.0, 2.0, (80, 80))
    >>> def image(dx, **options):
    ...     return scene.Image(stars(dx), wcs, variance=4.0, psf=scene.Gaussian(), **options)
    >>> places = SkyCoord(wcs.pixel_to_world([25, 50, 44], [30, 22, 60]))
    >>> found = scene.fit([image(0.0), image(0.5, wcs_freedom="shift")], places)
    >>> found.status, np.round(found.images[1].crtan_arcsec / -0.262, 2).tolist()
    ('converged', [-0.5, ...])
    """
    images = [images] if isinstance(images, Image) else list(images)
    _check(images, schedule, motion)
    given = sources_of(sources, images[0])
    plane, points = _plane_of(given)
    _check_apart(points)
    motions = Motions(given, motion, images)
    steps = count("max_iterations", max_iterations)
    with progress_callback(progress, "Fitting the scene") as report:
        cameras = [image.wcs for image in images]
        for turn in range(CAMERA_ROUNDS):
            problem = _problem(images, cameras, plane, points, motions)
            fitted = core.scene_fit(
                *problem,
                loss=loss,
                max_iterations=steps,
                # Near the fitted attitudes no stages are needed.
                staged=schedule == "auto" and turn == 0,
                progress=report,
            )
            moved = _moved_cameras(images, cameras, fitted)
            if moved < SETTLED_ARCSEC:
                break
    names = [image.name or f"image{k + 1}" for k, image in enumerate(images)]
    return collect(images, names, cameras, motions, plane, points, fitted, problem)


def _check(images: list[Image], schedule: str, motion: str) -> None:
    if not images or not all(isinstance(image, Image) for image in images):
        raise InputError("images: give at least one scene.Image")
    if not isinstance(schedule, str) or schedule not in ("auto", "joint"):
        raise InputError(f"schedule: {schedule!r} is unknown; give 'auto' or 'joint'")
    if not isinstance(motion, str) or motion not in get_args(Motion):
        raise InputError(f"motion: {motion!r} is unknown; give 'still', 'proper' or 'parallax'")
    for k, image in enumerate(images):
        if image.wcs is None:
            raise InputError(f"images: number {k} has no WCS; give one as its wcs")
    names = [image.name for image in images if image.name is not None]
    if len(set(names)) < len(names):
        raise InputError(f"images: the names {names} are not different; give each its own")


def _plane_of(sources: list[Source]) -> tuple[Plane, Floats]:
    """Return a tangent plane at the mean position of the sources, and their points on it."""
    directions = unit_vector([s.ra_deg for s in sources], [s.dec_deg for s in sources])
    x, y, z = directions.mean(axis=0)
    plane = Plane(math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y))))
    points = plane.project(directions)
    if not np.isfinite(points).all():
        raise InputError("sources: they are all over the sky; give those of one field")
    return plane, points


def _check_apart(points: Floats) -> None:
    order = np.lexsort(np.round(points / SAME_PLACE_ARCSEC).T)
    near = np.hypot(*np.diff(points[order], axis=0).T) < SAME_PLACE_ARCSEC
    if near.any():
        first, second = sorted(order[np.argmax(near) :][:2].tolist())
        raise InputError(
            f"sources: numbers {first} and {second} are at one place; leave one of them out"
        )


def _problem(
    images: list[Image], cameras: list[Any], plane: Plane, points: Floats, motions: Motions
) -> Problem:
    """Return the arguments of the core."""
    psfs: list[PSF] = []
    rows: list[dict[str, Any]] = []
    given, directions = motions.sources, plane.direction(points)
    # An image without a band gets a separate band.
    bands: list[Any] = [image.band or k for k, image in enumerate(images)]
    for image, wcs, band in zip(images, cameras, bands, strict=True):
        psf = image.psf
        same = [k for k, other in enumerate(psfs) if other is psf and psf.shared]
        if not same:
            psfs.append(psf)
        looked = image if wcs is image.wcs else _with_wcs(image, wcs)
        name = f"image {image.name or len(rows) + 1}"
        seen_at = partial(motions.at, time=image.time, name=name)
        seen, places, cd = image_places(looked, plane, points, seen_at)
        rows.append(
            {
                "data": image.data,
                "variance": image.variance,
                "freedom": image.wcs_freedom,
                "cd": cd.tolist(),
                "seen": seen,
                "places": places,
                "tracks": motions.tracks(directions, plane.project, image.time, name),
                "chromatic": bands.index(band) if image.chromatic else None,
                "psf": same[0] if same else len(psfs) - 1,
                "sky": image.sky,
                **_windows(image, len(points)),
            }
        )
    if not any(row["seen"] for row in rows):
        raise InputError("sources: none is on any image; check the positions and the WCS")
    sources = [
        {
            "point": point,
            "prior": source.prior,
            "motion": motion,
            "color": color,
            "shape": source.start if isinstance(source, SersicSource) else None,
        }
        for point, source, motion, color in zip(
            points.tolist(), given, motions.priors(), colors_of(given, images).tolist(), strict=True
        )
    ]
    return Problem(rows, [_psf(psf) for psf in psfs], sources)


def _with_wcs(image: Image, wcs: Any) -> Image:
    import copy

    other = copy.copy(image)
    other.wcs = wcs
    return other


def _psf(psf: PSF) -> dict[str, Any]:
    if isinstance(psf, EffectivePSF):
        sampled = {
            "samples": psf.data,
            "oversampling": list(psf.oversampling[::-1]),
            "origin": list(psf.origin),
            "columns": psf.columns.tolist(),
            "rows": psf.rows.tolist(),
        }
        held = {"parameters": [0.0] * 4, "free": [False] * 4}
        return {"kind": "sampled", **held, "sampled": sampled}
    shape = "shape" in psf.free
    if isinstance(psf, Moffat):
        kind, radius, nu, exponent = "moffat", psf.rd, math.log(psf.n - 1.0), "n" in psf.free
    else:
        kind, radius, nu, exponent = "gaussian", psf.sigma, 0.0, False
    return {
        "kind": kind,
        "parameters": [math.log(radius), psf.e1, psf.e2, nu],
        "free": [bool({"rd", "sigma"} & set(psf.free)), shape, shape, exponent],
        "sampled": None,
    }


def _windows(image: Image, sources: int) -> dict[str, Any]:
    """Return the `window` of an image in the form that the core takes."""
    none = {"side": None, "window": None, "windows": None}
    window = image.window
    if window is None:
        return none
    if isinstance(window, int | np.integer):
        if window < 3:
            raise InputError(f"window: {window} px is too small; give at least 3")
        return none | {"side": int(window)}
    if len(window) == 4 and all(np.ndim(value) == 0 for value in window):
        return none | {"window": _box(window, image)}
    if len(window) != sources:
        raise InputError(
            f"window: there are {len(window)} for {sources} sources; give one for each, "
            "one (x0, x1, y0, y1) for all, or a side in pixels"
        )
    boxes = [None if box is None else _box(box, image) for box in window]
    return none | {"windows": boxes}


def _box(window: Any, image: Image) -> list[int]:
    height, width = image.image_shape
    x0, x1, y0, y1 = (int(value) for value in window)
    box = [max(x0, 0), min(x1, width), max(y0, 0), min(y1, height)]
    if not (box[0] < box[1] and box[2] < box[3]):
        raise InputError(
            f"window: {tuple(window)} has no pixel of the image; give (x0, x1, y0, y1)"
        )
    return box


def _moved_cameras(images: list[Image], cameras: list[Any], fitted: Any) -> float:
    """Apply the fitted rotations to cameras with free attitude; return the largest, in arcsec."""
    layout, state = fitted.layout, fitted.state
    most = 0.0
    for k, image in enumerate(images):
        if image.wcs_freedom == "attitude":
            at = layout["wcs"][k]
            turn = state[at : at + 4]
            cameras[k] = turned(cameras[k], turn)
            scale = image.wcs.camera_model.focal_length_px * abs(turn[3]) if turn[3] else 0.0
            most = max(most, float(np.abs(turn[:3]).max()), float(scale))
    return most


def turned(solution: Solution, turn: Floats) -> Solution:
    """Rotate a camera about its axes (arcsec) and change the logarithm of its focal length."""
    rotation = rotation_about(np.asarray(turn[:3]) / ARCSEC)
    quaternion = quaternion_of(rotation @ solution.rotation_matrix_icrs_to_camera)
    camera = solution.camera_model
    camera = camera.replace(focal_length_px=camera.focal_length_px * math.exp(turn[3]))
    stars = solution.matched_stars.replace(quaternion=quaternion, camera_model=camera)
    return Solution.from_matches(stars)
