"""A calibrated and mounted camera: the reference for later frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from boresight._utils.arrays import Floats, quaternion_of, rotation_of
from boresight._utils.documents import JsonDocument, check_kind
from boresight._utils.naming import named
from boresight.apparent.earth import local_rotation
from boresight.apparent.place import ApparentPlace
from boresight.camera.model import CameraModel
from boresight.errors import FileFormatError, InputError

if TYPE_CHECKING:
    from astropy.coordinates import EarthLocation

    from boresight.solver.solution import Solution

__all__ = ["PARAMETERS", "MountedCamera", "place_at"]

FORMAT, VERSION = "boresight-mounted-camera", 1

PARAMETERS = ("about_x", "about_y", "about_z", "focal", "center_x", "center_y", "k1", "k2")
"""Parameters of a change: small rotations of the camera about its axes (rad), the relative change
of its focal length, the shift of its optical centre (px), and two terms of a radial distortion (px
at the corner)."""


@named
@dataclass(frozen=True, eq=False)
class MountedCamera(JsonDocument):
    """A calibrated camera with its attitude, in the sky or relative to the ground.

    Attributes
    ----------
    camera_model : CameraModel
        Optics of the camera.
    quaternion : ndarray of shape (4,)
        Attitude, scalar first: the rotation from ICRS axes to the camera's axes or, with a site,
        from the local axes (x east, y north, z up) to the camera's axes.
    covariance : ndarray of shape (8, 8)
        Covariance of the attitude (rad), the focal length (relative), the optical centre (px) and
        the distortion (px at the corner), in the order of `PARAMETERS`.
    site : astropy.coordinates.EarthLocation or None
        Site of a camera fixed to the ground; None if the attitude is relative to the sky.
    image : ndarray or None
        Reference image for `detect_movement`; it is not saved.

    Examples
    --------
    >>> import boresight
    >>> from boresight.movement import MountedCamera
    >>> camera = boresight.CameraModel.from_fov(12.0, (512, 512))
    >>> mounted = MountedCamera(camera, (1.0, 0.0, 0.0, 0.0))
    >>> MountedCamera.from_dict(mounted.to_dict()).camera_model == camera
    True
    """

    camera_model: CameraModel
    quaternion: Floats
    covariance: Floats | None = None
    site: EarthLocation | None = None
    image: Any = None

    def __post_init__(self) -> None:
        quaternion = np.array(self.quaternion, np.float64)
        if quaternion.shape != (4,) or not np.linalg.norm(quaternion) > 0:
            raise InputError("quaternion: give four numbers, scalar first, not all zero")
        cov = np.zeros((8, 8)) if self.covariance is None else np.array(self.covariance, float)
        if cov.shape != (8, 8) or not np.isfinite(cov).all():
            raise InputError(f"covariance: its shape is {cov.shape}; give finite numbers of (8, 8)")
        object.__setattr__(self, "quaternion", quaternion / np.linalg.norm(quaternion))
        object.__setattr__(self, "covariance", cov)

    @classmethod
    def from_solution(
        cls,
        solution: Solution,
        *,
        site: EarthLocation | None = None,
        time: Any = None,
        image: Any = None,
    ) -> MountedCamera:
        """Make a mounted camera from a solved frame.

        Parameters
        ----------
        solution : Solution
            Solution of the frame. With a site, it must have been solved with the place from
            `place_at`, so that the attitude does not include aberration and refraction.
        site : EarthLocation, optional
            Site of a camera fixed to the ground.
        time : Time, datetime or str, optional
            Middle of the exposure; needed with a site.
        image : array_like, optional
            The frame's image.

        Returns
        -------
        MountedCamera

        Raises
        ------
        InputError
            If a site is given without a time.
        """
        attitude = solution.rotation_matrix_icrs_to_camera
        if site is not None:
            attitude = attitude @ local_rotation(site, time).T
        cov = np.zeros((8, 8))
        cov[:3, :3] = solution.attitude_cov_rad2
        return cls(solution.camera_model, quaternion_of(attitude), cov, site, image)

    @property
    def matrix(self) -> Floats:
        """Attitude as a (3, 3) rotation matrix."""
        return rotation_of(self.quaternion)

    def attitude(self, time: Any = None) -> Floats:
        """Return the attitude at a time: the rotation from ICRS to the camera's axes, (3, 3).

        Parameters
        ----------
        time : Time, datetime or str, optional
            The time; needed with a site.
        """
        if self.site is None:
            return self.matrix
        return self.matrix @ local_rotation(self.site, time)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file as plain numbers."""
        site = self.site
        place = None if site is None else [
            float(site.lat.deg), float(site.lon.deg), float(site.height.to_value("m"))
        ]  # fmt: skip
        assert self.covariance is not None
        return {
            "format": FORMAT,
            "version": VERSION,
            "camera_model": self.camera_model.to_dict(),
            "quaternion": self.quaternion.tolist(),
            "covariance": self.covariance.tolist(),
            "site_lat_lon_height": place,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MountedCamera:
        """Make a mounted camera from the output of `to_dict`.

        Parameters
        ----------
        data : mapping
            Output of `to_dict`.

        Raises
        ------
        FileFormatError
            If the data are no mounted camera.
        """
        check_kind(data, FORMAT, (VERSION,), "mounted camera")
        try:
            from astropy.coordinates import EarthLocation

            place = data["site_lat_lon_height"]
            site = None
            if place is not None:
                site = EarthLocation.from_geodetic(place[1], place[0], place[2])
            camera = CameraModel.from_dict(data["camera_model"])
            return cls(camera, data["quaternion"], data["covariance"], site)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise FileFormatError(f"this mounted camera is damaged: {error}") from error


@named
def place_at(
    site: EarthLocation | None, time: Any, weather: Mapping[str, float] | None = None
) -> ApparentPlace:
    """Return the apparent place of a frame: aberration (diurnal too with a site), refraction.

    Parameters
    ----------
    site : EarthLocation or None
        Site of a camera on the ground, or None.
    time : Time, datetime, str or None
        Middle of the exposure. Without a time there are no corrections.
    weather : mapping, optional
        Arguments of `Refraction.at`.

    Examples
    --------
    >>> from boresight.movement import place_at
    >>> place = place_at(None, "2018-08-07T12:00:00")
    >>> place.velocity_km_s is not None, place.refraction is None
    (True, True)
    """
    if time is None:
        return ApparentPlace()
    return ApparentPlace.at(time, velocity_km_s="earth", site=site, weather=weather)
