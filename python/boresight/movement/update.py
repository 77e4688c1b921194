"""Update of calibrations for a movement. The old calibration is not changed."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from boresight._utils.arrays import quaternion_of, rotation_about, rotation_of
from boresight._utils.naming import named
from boresight.apparent.earth import local_rotation
from boresight.calibration.fit import calibrate_camera
from boresight.calibration.point_pairs import PointPairCalibration
from boresight.errors import InputError, UndeterminedError
from boresight.movement.change import changed_camera
from boresight.movement.correction import MovementCorrection
from boresight.movement.images import image_of
from boresight.movement.mounted import MountedCamera
from boresight.movement.verdict import Verdict

__all__ = ["update_calibration"]

Freedom = Literal["verdict", "attitude", "optics", "full"]

FREE = {"attitude": (0, 1, 2), "optics": (0, 1, 2, 3, 4, 5)}
"""Indices of the parameters that each freedom updates."""

LEAST_STARS_FULL = 40
"""Minimum number of stars for a full refit."""


@named
def update_calibration(
    calibration: Any,
    moved_image: Any,
    mov_correction: MovementCorrection | Verdict,
    image_src: str | None = None,
    coords: str = "Display",
    *,
    freedom: Freedom = "verdict",
) -> Any:
    """Return a calibration that is updated for a movement.

    Parameters
    ----------
    calibration : PointPairCalibration or MountedCamera
        The calibration; it is not changed.
    moved_image : array_like or None
        Image after the movement. Not needed for a mounted camera.
    mov_correction : MovementCorrection or Verdict
        The movement of the image, for point pairs; the verdict of `compare`, for a mounted camera.
    image_src : str, optional
        Source of the moved image, for the history.
    coords : {"Display", "Original"}
        Orientation of the image. Calibrations of Boresight have only one, so both values mean the
        same. For compatibility with calcam.
    freedom : {"verdict", "attitude", "optics", "full"}
        Parameters of a mounted camera to update: "verdict": those that changed; "attitude": the
        attitude; "optics": also focal length and optical centre; "full": a new calibration with the
        stars of the verdict.

    Returns
    -------
    PointPairCalibration or MountedCamera
        A new calibration. Points that have left the image are dropped, and the other points are
        fitted with the same freedom; its history records this.

    Raises
    ------
    InputError
        If the shapes of calibration, image and movement differ, or the types of the arguments do
        not match.
    UndeterminedError
        If too few points or stars are left, or the verdict is undecided.

    Examples
    --------
    >>> import numpy as np
    >>> from boresight import CameraModel
    >>> from boresight.calibration import PointPairCalibration
    >>> from boresight.movement import MovementCorrection, update_calibration
    >>> points = np.random.default_rng(1).uniform(-1, 1, (30, 3)) + [0, 0, 5]
    >>> x, y = CameraModel(900.0, (480, 640)).direction_to_pixel(points)
    >>> pixels = np.column_stack([x + 320, y + 240])
    >>> before = PointPairCalibration.fit(pixels, points, (480, 640))
    >>> turned = MovementCorrection([[0, -1, 560], [1, 0, -80]], (480, 640), [], [], "turned")
    >>> after = update_calibration(before, np.zeros((480, 640)), turned)
    >>> x, y = turned.ref_to_moved_coords(*pixels.T)
    >>> bool(np.allclose(after.project(points), np.column_stack([x, y])))
    True
    """
    if str(coords).lower() not in ("display", "original"):
        raise InputError(f"coords: {coords!r} is unknown; give 'Display' or 'Original'")
    if isinstance(calibration, PointPairCalibration):
        if not isinstance(mov_correction, MovementCorrection):
            raise InputError("mov_correction: give the MovementCorrection of the image")
        return _update_points(calibration, moved_image, mov_correction, image_src)
    if not isinstance(calibration, MountedCamera) or not isinstance(mov_correction, Verdict):
        raise InputError(
            "calibration: give a PointPairCalibration with a MovementCorrection, or a "
            "MountedCamera with the Verdict of compare()"
        )
    return _update_mounted(calibration, mov_correction, moved_image, freedom)


def _update_points(
    calibration: PointPairCalibration,
    moved_image: Any,
    correction: MovementCorrection,
    image_src: str | None,
) -> PointPairCalibration:
    image = image_of(moved_image, "moved_image")
    shapes = {calibration.camera_model.image_shape, correction.im_shape, image.shape[:2]}
    if len(shapes) > 1:
        raise InputError(
            f"moved_image: the shapes of the calibration {calibration.camera_model.image_shape}, "
            f"the movement {correction.im_shape} and the image {image.shape[:2]} differ; give "
            "those of one camera"
        )
    x, y = correction.ref_to_moved_coords(*calibration.image_points.T)
    rows, columns = correction.im_shape
    kept = (x >= 0) & (y >= 0) & (x < columns - 0.5) & (y < rows - 0.5)
    note = f"Updated for a movement ({correction.history})"
    if image_src is not None:
        note += f"; image: {image_src}"
    dropped = int(np.count_nonzero(~kept))
    note += f"; points that have left the image: {dropped}" if dropped else ""
    mask = calibration.mask
    if mask is not None:
        mask, _ = correction.warp_ref_to_moved(mask, "nearest", fill_edges=True)
    return calibration.with_points(
        np.column_stack([x, y])[kept], calibration.object_points[kept], note, image=image, mask=mask
    )


def _update_mounted(
    calibration: MountedCamera, verdict: Verdict, image: Any, freedom: str
) -> MountedCamera:
    if freedom not in ("verdict", *FREE, "full"):
        raise InputError(f"freedom: {freedom!r} is unknown; give verdict, attitude, optics or full")
    if verdict.unknown is not None:
        raise UndeterminedError(f"mov_correction: the verdict is undecided: {verdict.unknown}")
    values, cov = verdict.values, verdict.covariance
    assert calibration.covariance is not None
    if freedom in FREE:
        rows = list(FREE[freedom])
        part = np.linalg.pinv(verdict.information[np.ix_(rows, rows)], hermitian=True)
        values, cov = np.zeros(8), np.zeros((8, 8))
        gradient = verdict.information @ verdict.all_values
        values[rows] = part @ gradient[rows]
        cov[np.ix_(rows, rows)] = part
    camera = changed_camera(calibration.camera_model, values)
    changed = [i for i in range(8) if values[i] != 0]
    joint = calibration.covariance.copy()
    joint[changed, :] = joint[:, changed] = 0.0
    joint += cov
    if freedom == "full" or (freedom == "verdict" and "distortion" in verdict.kinds):
        return _refitted(calibration, verdict, image)
    quaternion = quaternion_of(rotation_about(values[:3]) @ calibration.matrix)
    return dataclasses.replace(
        calibration, camera_model=camera, quaternion=quaternion, covariance=joint, image=image
    )


def _refitted(calibration: MountedCamera, verdict: Verdict, image: Any) -> MountedCamera:
    """Return a new calibration from the verdict's stars, checked with held-out stars."""
    if not verdict.solutions or verdict.num_stars < LEAST_STARS_FULL:
        raise UndeterminedError(
            f"mov_correction: its {verdict.num_stars} stars are too few for a full refit, which "
            f"needs {LEAST_STARS_FULL}; give freedom='attitude'"
        )
    before = calibration.camera_model
    result = calibrate_camera(
        verdict.solutions, model="auto", order="auto", camera_model=before, held_out=True
    )
    held_out = result.held_out_rmse_px
    if held_out is None or held_out > 2.0 * verdict.rms_px * np.sqrt(2.0):
        raise UndeterminedError(
            "mov_correction: a refit does not predict held-out stars as well as the stars are "
            "measured; the previous calibration is kept; give more frames"
        )
    first = next(part for part in result.frames if part is not None and part.rejected is None)
    attitude = rotation_of(first.quaternion)
    if calibration.site is not None:
        attitude = attitude @ local_rotation(calibration.site, verdict.time).T
    cov = np.zeros((8, 8))
    cov[:3, :3] = first.attitude_cov_rad2
    return dataclasses.replace(
        calibration, camera_model=result.camera_model,
        quaternion=quaternion_of(attitude), covariance=cov, image=image,
    )  # fmt: skip
