"""Detection of the movement between two images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from boresight import _core as core
from boresight._utils.naming import named
from boresight.errors import InputError, UndeterminedError
from boresight.movement.correction import MovementCorrection
from boresight.movement.errors import DetectionFailedError
from boresight.movement.features import feature_transforms, have_features
from boresight.movement.fitted import fitted_correction
from boresight.movement.images import pair_of
from boresight.movement.stars import star_movement, stars_of

__all__ = ["detect_movement", "phase_correlation_movement"]

Method = Literal["auto", "stars", "features", "phase"]
Transform = Literal["shift", "similarity", "affine", "projective"]

CANDIDATES = 5
"""Maximum number of transforms proposed by a detector that are refined. The correct one is nearly
always the first."""

LARGEST_LOG_CHANCE = -6.0
"""Largest log10 of the expected number of such agreements between unrelated images."""

MANY_STARS = 20
"""Number of common detections from which they certainly are stars. Spots of a daylight scene are
fewer, and there the pixels measure the movement better."""

EVEN_SPREAD = 1.5
"""Largest ratio of the spread of pixels to their noise on a sky. The ratio of a daylight scene is
many times larger."""

ROW_STEP = 8
"""The spread is measured on every eighth row."""

LEAST_PATCHES, LEAST_PART = 12, 0.25
"""Minimum number of patches that must follow the movement, and minimum fraction of the patches with
texture."""


@named
def detect_movement(
    ref: Any, moved: Any, *, method: Method = "auto", transform: Transform = "similarity"
) -> MovementCorrection:
    """Detect the movement between two images.

    Parameters
    ----------
    ref : array_like, Frame, path, or a calibration that carries an image
        Reference image, of any dtype. Of a colour image the luminance is used.
    moved : array_like, Frame, path, or a calibration that carries an image
        Moved image of the same shape.
    method : {"auto", "stars", "features", "phase"}
        "stars" matches patterns of stars. "phase" uses phase correlation, with rotation and scale
        from log-polar spectra. "features" matches corners by their descriptors, with OpenCV (the
        extra ``movement``). "auto", the default, uses the first of stars, phase and (if OpenCV is
        installed) features that succeeds; `MovementCorrection.method` tells which.
    transform : {"similarity", "shift", "affine", "projective"}
        Type of transform. Default "similarity": shift, rotation and one scale.

    Returns
    -------
    MovementCorrection
        The transform with its covariance, the corresponding points, and the probability of such an
        agreement by chance.

    Raises
    ------
    DetectionFailedError
        If no movement is determined. An uncertain result is never returned.
    InputError
        If the shapes differ, an argument is no image, or a name is unknown.
    ModuleNotFoundError
        If `method` is "features" and OpenCV is not installed.

    Notes
    -----
    Proposals from phase correlation and features are refined on patches of both images (Lucas &
    Kanade 1981, with a gain and an offset for each patch). At least 12 patches, and a quarter of
    those with texture, must agree, and such an agreement must be expected less than once in a
    million unrelated images.

    Examples
    --------
    >>> import numpy as np
    >>> from boresight.movement import detect_movement
    >>> y, x = np.mgrid[:300, :400]
    >>> def scene(x, y):
    ...     return sum(np.sin((x * np.cos(k) + y * np.sin(k)) / (3 + k)) for k in range(9))
    >>> found = detect_movement(scene(x, y), scene(x + 7.25, y - 3.5))
    >>> found.method, np.round(found.shift, 2)
    ('phase', array([ 7.25, -3.5 ]))
    """
    if method not in get_args(Method):
        raise InputError(f"method: {method!r} is unknown; give {', '.join(get_args(Method))}")
    if transform not in get_args(Transform):
        raise InputError(
            f"transform: {transform!r} is unknown; give {', '.join(get_args(Transform))}"
        )
    first, second = pair_of(ref, moved)
    by_stars, of_stars = None, False
    if method in ("auto", "stars"):
        stars = stars_of(first), stars_of(second)
        of_stars = min(map(len, stars)) >= MANY_STARS
        by_stars = star_movement(*stars, first.shape, transform)
        if by_stars is not None and (method == "stars" or by_stars.inliers.sum() >= MANY_STARS):
            return by_stars
        if method == "stars":
            raise DetectionFailedError("the stars of both images show no common pattern")
    planes = as_plane(first), as_plane(second)
    proposals = []
    if method in ("auto", "phase"):
        proposals.append(("phase", _phase(*planes, turned=transform != "shift")))
    # The only corners of a sky are its stars, which have already been compared.
    of_stars = of_stars and all(map(_is_even, planes))
    if method == "features" or (method == "auto" and not of_stars and have_features()):
        proposals.append(("features", feature_transforms(first, second)))
    registrar = core.Registrar(*planes)
    for name, transforms in proposals:
        found = _first_registered(registrar, first.shape, transforms, transform, name)
        if found is not None:
            return found
    if by_stars is not None:
        return by_stars
    raise DetectionFailedError(
        "the movement between the images could not be determined: too few of their parts agree on "
        "one; check that they show the same scene, and give method= or match points by hand"
    )


@named
def phase_correlation_movement(ref: Any, moved: Any) -> MovementCorrection:
    """Detect a shift between two images by phase correlation.

    Parameters
    ----------
    ref, moved : array_like, Frame, path, or a calibration that carries an image
        Reference and moved image, of the same shape.

    Returns
    -------
    MovementCorrection
        A shift with sub-pixel accuracy.

    Raises
    ------
    DetectionFailedError
        If no shift is determined.
    InputError
        If the shapes differ or an argument is no image.

    Examples
    --------
    >>> import numpy as np
    >>> from boresight.movement import phase_correlation_movement
    >>> image = np.kron(np.random.default_rng(1).normal(size=(16, 20)), np.ones((8, 8)))
    >>> found = phase_correlation_movement(image, np.roll(image, (3, -5), (0, 1)))
    >>> print(f"{np.hypot(*found.shift):.1f}")
    5.8
    """
    return detect_movement(ref, moved, method="phase", transform="shift")


def _phase(
    ref: NDArray[np.float32], moved: NDArray[np.float32], *, turned: bool
) -> Iterator[list[list[float]]]:
    """Yield transforms proposed by phase correlation."""
    for matrix, _ in core.correlate_phase(ref, moved, turned):
        yield matrix


def _is_even(image: NDArray[np.float32]) -> bool:
    """Return whether most of an image is one level with noise, like the sky between stars."""
    part = image[::ROW_STEP]
    part = part[np.isfinite(part).all(axis=1)]
    if part.size == 0:
        return False
    spread = np.median(np.abs(part - np.median(part)))
    noise = np.median(np.abs(np.diff(part, axis=1))) / np.sqrt(2.0)
    return bool(0.0 < spread < EVEN_SPREAD * noise)


def _first_registered(
    registrar: core.Registrar,
    shape: tuple[int, ...],
    transforms: Iterator[list[list[float]]],
    kind: Transform,
    method: str,
) -> MovementCorrection | None:
    """Return the first of the coarse transforms that both images confirm, refined, or None."""
    for _, start in zip(range(CANDIDATES), transforms, strict=False):
        try:
            found = registrar.register(start, kind)
        except UndeterminedError:
            continue
        following = int(np.count_nonzero(found["inliers"]))
        if (
            following >= max(LEAST_PATCHES, LEAST_PART * found["expected"])
            and found["log_chance"] <= LARGEST_LOG_CHANCE
        ):
            return fitted_correction(found, shape, method)
    return None


def as_plane(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return an image in the form that the core takes: float32, with NaN for missing values."""
    if image.dtype == np.float64:
        # Subtract the level and scale the image, so that float32 keeps the contrast.
        finite = image[np.isfinite(image)]
        image = image - (np.median(finite) if finite.size else 0.0)
        largest = np.nanmax(np.abs(image), initial=0.0, where=np.isfinite(image))
        image = image / largest if largest > 0 else image
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(image, np.float32)
