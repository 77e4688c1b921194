"""Reads arguments that several solver functions take: an image or its stars, and a database."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from boresight._utils import arguments
from boresight._utils.deadline import until
from boresight._utils.naming import type_of
from boresight._utils.progress import Progress
from boresight.camera.model import CameraModel, Projection
from boresight.database.database import PatternDatabase
from boresight.errors import InputError
from boresight.extraction.columns import may_hold_stars, read_columns
from boresight.extraction.extract import ExtractionResult, extract_centroids
from boresight.frames.frame import Frame
from boresight.frames.hints import HeaderHints
from boresight.frames.read import frame_of, read_frame

if TYPE_CHECKING:
    from astropy.time import Time

SMALLEST_IMAGE = 8
"""Arrays with fewer rows or columns are no image in which stars can be recognised."""

#: An image with fewer detections that does not solve is extracted again with this threshold, in
#: standard deviations. Half of ten stars may lie between it and the usual threshold, and the one or
#: two false detections per megapixel that it adds do no harm.
FEW_DETECTIONS, LOWER_SIGMA = 20, 4.0


class Found(NamedTuple):
    """The stars of an input, with the image and the data of its header.

    Attributes
    ----------
    stars : ExtractionResult or any form of a list of stars
        Stars extracted from the image, or as they were given.
    image_shape : (int, int) or None
        (height, width) in pixels, where it is known.
    image : object or None
        The image, if one was given.
    mask : array of bool or None
        Pixels of the image that have no value.
    hints : HeaderHints
        Position, scale and rotation from its header.
    time : Time or None
        Time of the frame, if it is known.
    """

    stars: Any
    image_shape: tuple[int, int] | None
    image: Any = None
    mask: Any = None
    hints: HeaderHints = HeaderHints()
    time: Time | None = None

    @property
    def is_partial(self) -> bool:
        """Whether the image has stars that were not measured."""
        stars = self.stars
        return isinstance(stars, ExtractionResult) and stars.rejected.get("unmeasured", 0) > 0


def find_stars(
    given: Any,
    image_shape: tuple[int, int] | None = None,
    extraction: Mapping[str, Any] | None = None,
    most: int | None = None,
    deadline: float = math.inf,
) -> Found:
    """Extract the stars of an image, measuring at most `most`, or take the stars as given.

    Raises `TimeLimitError` if this does not end before `deadline`, by `time.monotonic`.
    """
    options = dict(extraction or {})
    arguments.check_keywords(options, extract_centroids, "extraction")
    with until(deadline):
        given = _opened(given)
    if isinstance(given, Found):
        return given
    if isinstance(given, ExtractionResult):
        return Found(given, image_shape or given.image_shape)
    image, mask = given, options.get("mask")
    if isinstance(given, Frame):
        image, mask = given.image, options.setdefault("mask", given.mask)
    elif not _is_image(given):
        if not may_hold_stars(given):
            raise InputError(
                f"image: {type_of(given)} is neither an image nor a list of "
                "stars; give an array of shape (height, width), a Frame, the path of a file, or "
                "stars with x and y"
            )
        if image_shape is None and isinstance(given, list | tuple):
            read_columns(given, ())  # what is no list of stars needs no image_shape
        return Found(given, image_shape)
    if deadline < math.inf:
        left_ms = max(0, round(1e3 * (deadline - time.monotonic())))
        given_ms = options.get("timeout_ms")
        options["timeout_ms"] = left_ms if given_ms is None else min(given_ms, left_ms)
    found = extract_centroids(image, **{"luminance": True, "max_measured": most} | options)
    if image_shape is not None and tuple(image_shape) != found.image_shape:
        raise InputError(
            f"image_shape: {tuple(image_shape)} contradicts the image's {found.image_shape}; "
            "leave it out"
        )
    when = given.time if isinstance(given, Frame) else None
    hints = _hints_of(given, found.image_shape)
    return Found(found, found.image_shape, image, mask, hints, when)


def _opened(given: Any) -> Any:
    """Read the frame of a path or of an object that holds one; make an array of rows."""
    if isinstance(given, str | os.PathLike):
        return read_frame(Path(given))
    if isinstance(given, Found | ExtractionResult):
        return given
    if (frame := held_frame(given)) is not None:
        return frame
    if isinstance(given, Iterator):  # several attempts read it
        given = list(given)
    return np.asarray(given) if _is_of_rows(given) else given


def _hints_of(given: Any, image_shape: tuple[int, int]) -> HeaderHints:
    """Return the hints in the header of a frame or of astropy's NDData."""
    if isinstance(given, Frame):
        return given.hints
    header, wcs = getattr(given, "meta", None), getattr(given, "wcs", None)
    if not isinstance(header, Mapping) and wcs is None:
        return HeaderHints()
    cards = header if isinstance(header, Mapping) else {}
    return HeaderHints.from_header(cards, image_shape, wcs=wcs)


def held_frame(given: Any) -> Frame | None:
    """Return the frame that an object holds; `None` for others, such as an HDU with a table."""
    return None if getattr(given, "is_image", True) is False else frame_of(given)


def _is_of_rows(given: Any) -> bool:
    """Whether this is a list of image rows: lists of numbers, longer than a star's three."""
    rows = given if isinstance(given, list | tuple) else ()
    return len(rows) > 0 and all(
        isinstance(row, list | tuple) and len(row) == len(rows[0]) > 3 for row in rows
    )


def _is_image(given: Any) -> bool:
    """Whether this is an image, and not positions, which have two or three columns.

    Tables, structured arrays, lists and objects hold positions. Other arrays raise `InputError`.
    """
    if hasattr(given, "uncertainty") and hasattr(given, "data"):  # astropy's NDData
        return True
    dtype = getattr(given, "dtype", None)
    shape: tuple[int, ...] = getattr(given, "shape", ())
    if dtype is None or getattr(dtype, "names", None) is not None:
        return False
    if len(shape) > 2:
        return True
    if 0 in shape or (len(shape) == 2 and shape[1] in (2, 3)):
        return False
    if len(shape) < 2 or min(shape) < SMALLEST_IMAGE:
        raise InputError(
            f"image: its shape {shape} is too small for an image, and a list of stars has columns "
            "x, y[, brightness]; give one of the two"
        )
    return True


def choose_database(
    database: PatternDatabase | None,
    fov_deg: float | None,
    camera_model: CameraModel | None,
    projection: Projection | None = None,
    *,
    progress: Progress = None,
    name: str = "fov_deg",
) -> PatternDatabase:
    """Return the given database, or the default one for the field of view.

    `name` is the name of the argument that gives the field of view, for messages.
    """
    if database is not None and not isinstance(database, PatternDatabase):
        raise InputError(f"database: {type_of(database)} is none; give a SolverDatabase or None")
    if projection is not None and (camera_model is not None or fov_deg is None):
        raise InputError(
            "projection: it needs a field of view, and a camera model has its own; "
            "give fov_deg and no camera_model"
        )
    if camera_model is not None:
        projection = camera_model.projection
    most = 180 if projection in (None, "gnomonic") else 360
    fov_deg = None if fov_deg is None else arguments.degrees(name, fov_deg)
    if fov_deg is not None and not 0.0 < fov_deg < most:
        raise InputError(
            f"{name}: {fov_deg} is not a field of view; give degrees above 0 and below {most}"
        )
    if database is not None:
        return database
    if fov_deg is None and camera_model is not None:
        fov_deg = camera_model.fov_deg
    return PatternDatabase.default(fov_deg, progress=progress)


def start_cameras(
    camera_model: CameraModel | None,
    fov_deg: float | None,
    projection: Projection | None,
    image_shape: tuple[int, int] | None,
    parity_flip: bool | None = None,
) -> list[CameraModel | None]:
    """Return the cameras to start from, the likelier first: a fisheye image may be mirrored."""
    if projection is None or fov_deg is None:
        return [camera_model]
    if image_shape is None:
        raise InputError("image_shape: missing; give (height, width) in pixels")
    return [
        CameraModel.from_fov(fov_deg, image_shape, parity_flip=flipped, projection=projection)
        for flipped in (False, True)
        if parity_flip in (None, flipped)
    ]


def common_shape(lists: list[Any], image_shape: tuple[int, int] | None) -> tuple[int, int] | None:
    """Find the image shape that the extraction results among the lists agree on."""
    for number, stars in enumerate(lists):
        if isinstance(stars, ExtractionResult):
            if image_shape is None:
                image_shape = stars.image_shape
            elif tuple(image_shape) != stars.image_shape:
                raise InputError(
                    f"centroids: frame {number} has {stars.image_shape} pixels, not "
                    f"{tuple(image_shape)}; give frames of one camera"
                )
    return image_shape


def more_stars(found: Found, extraction: Mapping[str, Any]) -> dict[str, Any]:
    """Return options that extract more stars of an image that does not solve; empty if none do."""
    if found.is_partial and "max_measured" not in extraction:
        return {"max_measured": None}
    stars = found.stars
    few = isinstance(stars, ExtractionResult) and len(stars.centroids) < FEW_DETECTIONS
    if few and found.image is not None and "sigma_threshold" not in extraction:
        return {"sigma_threshold": LOWER_SIGMA}
    return {}
