"""Checks the options of solving and converts them for the extension module."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, get_args

import numpy as np
from numpy.typing import ArrayLike

from boresight import _core as core
from boresight._utils import arguments
from boresight._utils.origins import Origin
from boresight.apparent.place import ApparentPlace
from boresight.camera.model import CameraModel
from boresight.errors import InputError
from boresight.extraction.star_list import FARTHEST_FROM_CENTER, StarList
from boresight.solver.hints import expected

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.wcs import WCS

    from boresight.solver.solution import Solution

__all__ = ["LensModel", "Prepared", "SearchOptions", "SolveOptions", "detections", "prepare"]


LensModel = Literal["auto", "none", "pinhole", "radial", "polynomial"] | int
"""Model of the lens that is fitted to one frame: a form, or the order of a polynomial."""

LENS_FORMS: tuple[str, ...] = get_args(get_args(LensModel)[0])

AT_REST = ApparentPlace()
"""Where nothing displaces the stars."""


class SearchOptions(TypedDict, total=False):
    """Options of `Tracker` and `certify`, described in `solve_from_centroids`."""

    fov_max_error_deg: float | None
    match_radius: float
    match_threshold: float
    refine_iterations: int
    pattern_checking_stars: int
    match_max_error: float | None
    solve_timeout_ms: int | None
    max_patterns_checked: int
    observer_velocity_km_s: ArrayLike | None
    place: ApparentPlace | None
    origin: Origin | None


class SolveOptions(SearchOptions, total=False):
    """Options of `solve`, `solve_many` and `diagnose`: those of `solve_from_centroids`."""

    lens: LensModel | None
    parity_flip: bool | None
    attitude_hint: ArrayLike | Solution | SkyCoord | WCS | None
    hint_uncertainty_deg: float
    strict_hint: bool


class Prepared(NamedTuple):
    """Checked arguments with which one frame is solved.

    Attributes
    ----------
    place : ApparentPlace
        Apparent place of the frame: aberration and refraction.
    values : dict
        Options in the form that the extension module takes.
    hint_rules : dict
        Uncertainty and strictness of hints.
    """

    place: ApparentPlace
    values: dict[str, Any]
    hint_rules: dict[str, Any]

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of the camera's images."""
        width, height = self.values["camera"].image_size
        return height, width

    def frame(
        self,
        *,
        camera_model: CameraModel | None = None,
        attitude_hint: Any = None,
        place: ApparentPlace | None = None,
    ) -> Prepared:
        """Return a copy with the values that are specific to one frame of many."""
        values = dict(self.values)
        if camera_model is not None:
            values |= {"camera": camera_model._core, "parity_known": True}
            if values["lens"] is None:
                values["lens"] = "none"
        if attitude_hint is not None:
            values["hint"] = self.hint_rules | expected(attitude_hint, self.image_shape)
        if place is not None:
            values |= {"place": place.core, "epoch": place.epoch}
        return Prepared(self.place if place is None else place, values, self.hint_rules)


def prepare(
    fov_estimate_deg: float | None,
    image_shape: tuple[int, int] | None,
    camera_model: CameraModel | None,
    options: Mapping[str, Any],
) -> Prepared:
    """Check the arguments of `solve_from_centroids`; `options` has all keys of `SolveOptions`.

    Trackers call this function thousands of times a second, so work for arguments at their defaults
    is avoided.
    """
    flipped = options["parity_flip"]
    camera = _camera(camera_model, image_shape)
    if flipped is not None:
        camera = _with_parity(camera, flipped, is_given=camera_model is not None)
    if fov_estimate_deg is None and camera_model is not None:
        fov_estimate_deg = camera_model.fov_deg
    place = _place(options["place"], options["observer_velocity_km_s"])
    lens, lens_order = _lens(options["lens"], camera_model)
    match_max_error, timeout_ms = options["match_max_error"], options["solve_timeout_ms"]
    rules = {
        "uncertainty": arguments.radians("hint_uncertainty_deg", options["hint_uncertainty_deg"]),
        "strict": bool(options["strict_hint"]),
    }
    values = {
        "camera": camera._core,
        "parity_known": camera_model is not None or flipped is not None,
        "fov_estimate": arguments.radians("fov_estimate_deg", fov_estimate_deg),
        "fov_max_error": arguments.radians("fov_max_error_deg", options["fov_max_error_deg"]),
        "match_radius": float(options["match_radius"]),
        "match_threshold": float(options["match_threshold"]),
        "match_max_error": None if match_max_error is None else float(match_max_error),
        "place": None if place is AT_REST else place.core,
        "hint": None,
        "lens": lens,
        "lens_order": lens_order,
        "epoch": place.epoch,
        "timeout_ms": arguments.optional_count("solve_timeout_ms", timeout_ms),
    }
    for name in ("pattern_checking_stars", "refine_iterations", "max_patterns_checked"):
        values[name] = arguments.count(name, options[name])
    frame, hint = Prepared(place, values, rules), options["attitude_hint"]
    return frame if hint is None else frame.frame(attitude_hint=hint)


def _with_parity(camera: CameraModel, flipped: bool, *, is_given: bool) -> CameraModel:
    """Give a default camera the given parity; a given camera must already have it."""
    if not isinstance(flipped, bool | np.bool_):
        raise InputError(f"parity_flip: {flipped!r} is neither True nor False; give one of them")
    if flipped == camera.parity_flip:
        return camera
    if is_given:
        raise InputError(
            f"parity_flip: {flipped} contradicts the camera model's {camera.parity_flip}; "
            "leave it out or give the model of this camera"
        )
    return camera.replace(parity_flip=bool(flipped))


def _lens(
    lens: LensModel | None, camera_model: CameraModel | None
) -> tuple[str | None, int | None]:
    """Form and order of the lens to be fitted; by default "none" if the camera is known."""
    if lens is None:
        return None if camera_model is None else "none", None
    if isinstance(lens, int | np.integer) and not isinstance(lens, bool):
        if not 2 <= lens <= 9:
            raise InputError(f"lens: {lens} is not an order of a polynomial; give 2 to 9")
        return "polynomial", int(lens)
    if lens not in LENS_FORMS:
        known = ", ".join(map(repr, LENS_FORMS))
        raise InputError(
            f"lens: {lens!r} is unknown; give one of {known}, or the order of a polynomial"
        )
    return lens, None


def detections(centroids: Any, origin: Origin | None, frame: Prepared) -> dict[str, Any]:
    """Return positions, brightness and covariance of centroids for the extension module."""
    # Shortcut for plain arrays: trackers solve thousands of them a second. Stars just outside the
    # image are common, so these are allowed.
    camera = frame.values["camera"]
    if origin is None and core.are_plain(centroids, camera, FARTHEST_FROM_CENTER):
        return {"stars": centroids, "covariance": None}
    return StarList.read(centroids, origin, frame.image_shape).detections()


def _place(place: ApparentPlace | None, velocity: ArrayLike | None) -> ApparentPlace:
    """Return the given apparent place, or that of an observer with the given velocity."""
    if velocity is None:
        return AT_REST if place is None else place
    if place is not None:
        raise InputError("observer_velocity_km_s: place has a velocity already; leave one out")
    checked = arguments.velocity_km_s("observer_velocity_km_s", velocity)
    return ApparentPlace(velocity_km_s=checked)


def _camera(camera_model: CameraModel | None, image_shape: tuple[int, int] | None) -> CameraModel:
    """Return the camera to start from: a pinhole one if only the image's shape is known."""
    if image_shape is None:
        if camera_model is None:
            raise InputError(
                "image_shape: missing; give (height, width) in pixels or a camera_model"
            )
        return camera_model
    if camera_model is None:
        try:
            return _pinhole(tuple(image_shape))
        except TypeError:  # not a pair: `from_fov` raises the error
            return CameraModel.from_fov(90.0, image_shape)
    if tuple(image_shape) != camera_model.image_shape:
        raise InputError(
            f"image_shape: {tuple(image_shape)} contradicts the camera model's "
            f"{camera_model.image_shape}; leave it out or give the model of this camera"
        )
    return camera_model


@lru_cache(maxsize=16)
def _pinhole(image_shape: tuple[int, int]) -> CameraModel:
    """Make a pinhole camera for images of a shape; the solver finds its focal length."""
    return CameraModel.from_fov(90.0, image_shape)
