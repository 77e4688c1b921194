"""Platepars: calibration files of RMS meteor cameras (Vida et al. 2021, MNRAS 506, 5046).

A platepar describes a camera fixed to the ground: an equidistant lens, a distortion from the pixel
to the ideal point, as everywhere in Boresight, and the direction of the optical axis at a given
time, by right ascension, declination and position angle in the mean axes of date.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from boresight._utils.arrays import (
    Floats,
    east_north,
    longitude_latitude,
    points_of,
    quaternion_of,
    split,
    unit_vector,
)
from boresight._utils.documents import read_json, write_json
from boresight._utils.naming import named
from boresight.apparent.earth import local_rotation
from boresight.apparent.place import ApparentPlace
from boresight.camera.model import CameraModel
from boresight.errors import FileFormatError, InputError
from boresight.frames.times import as_time
from boresight.movement.mounted import MountedCamera
from boresight.movement.platepar_lens import camera_of, coefficients_of, forward

if TYPE_CHECKING:
    from astropy.time import Time

__all__ = ["Platepar", "read_platepar", "write_platepar"]

J2000 = 2451545.0

NEEDED = ("lat", "lon", "elev", "JD", "X_res", "Y_res", "RA_d", "dec_d", "pos_angle_ref", "F_scale")
"""Keys that each file must have."""

LOWEST_DEG = -0.5
"""Altitude in degrees below which the refraction is constant."""

AIR = {"pressure_hpa": 1010.0, "temperature_c": 10.0}
"""Air conditions assumed by the refraction formulas of RMS."""

REFRACTION_ROUNDS = 20
"""Iterations from an apparent altitude to the true altitude."""


@named
@dataclass(frozen=True, eq=False)
class Platepar:
    """A platepar: a camera fixed to the ground, and the description of it by RMS.

    Attributes
    ----------
    camera : MountedCamera
        The camera with its site and its attitude in the local frame. Stars are observed with
        refraction if `refraction` is True.
    time : Time
        Time for which the attitude was fitted.
    refraction : bool
        Whether RMS corrects for refraction.
    error_px : float
        Largest difference between the camera model and the file's formulas over the image, in ideal
        pixels. For radial distortions of odd powers only rounding; all others are approximated by a
        polynomial of order 9.
    values : mapping
        All keys of the file.

    Notes
    -----
    RMS ignores aberration, so the attitude may be off by up to 20 arcsec, as in RMS.

    Examples
    --------
    See `write_platepar`.
    """

    camera: MountedCamera
    time: Time
    refraction: bool
    error_px: float
    values: Mapping[str, Any]

    def pixel_to_world(self, x: ArrayLike, y: ArrayLike, time: Any = None) -> tuple[Any, Any]:
        """Return the sky directions of pixels, from the file's lens formula and then ERFA.

        Parameters
        ----------
        x, y : array_like
            Pixels from the image's centre.
        time : Time, datetime or str, optional
            The time. Default: the time of the fit.

        Returns
        -------
        ra, dec : float or ndarray
            ICRS coordinates in degrees, without aberration, as in RMS.
        """
        when = self.time if time is None else as_time(time)
        points, shape = points_of(x, y)
        model = self.camera.camera_model
        lens = CameraModel(model.focal_length_px, model.image_shape, projection=model.projection)
        seen = lens.pixel_to_direction(*forward(self.values, points).T)
        sky = np.ascontiguousarray(seen @ self.camera.attitude(when))
        place = ApparentPlace()
        if self.refraction:
            place = ApparentPlace.at(when, site=self.camera.site, weather=AIR)
        ra, dec = longitude_latitude(place.icrs(sky))
        return split(np.degrees(np.column_stack([ra, dec])), shape)


@named
def read_platepar(path: str | os.PathLike[str]) -> Platepar:
    """Read a platepar (``.cal``, JSON).

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    Platepar

    Raises
    ------
    FileFormatError
        If the file is damaged, or no platepar.

    See Also
    --------
    write_platepar : writes them; its example reads one, too.

    Examples
    --------
    >>> from boresight.movement import read_platepar
    >>> read_platepar("no such file.cal")
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'no such file.cal'
    """
    name = os.fspath(path)
    try:
        values = read_json(path)
    except ValueError as error:
        raise FileFormatError(f"{name} is not a platepar in JSON: {error}") from error
    missing = [key for key in NEEDED if not isinstance(values, dict) or key not in values]
    if missing:
        raise FileFormatError(f"{name} is not a platepar: it lacks {', '.join(missing)}")
    try:
        return _platepar(values)
    except Exception as error:  # numbers that astropy cannot work with have no common base
        raise FileFormatError(f"{name} is damaged: {error}") from error


def _platepar(values: Mapping[str, Any]) -> Platepar:
    from astropy.coordinates import EarthLocation
    from astropy.time import Time

    model, error = camera_of(values)
    when = Time(float(values["JD"]), format="jd", scale="utc")
    site = EarthLocation.from_geodetic(values["lon"], values["lat"], values["elev"])
    refraction = bool(values.get("refraction", False))
    hour = gmst_deg(when)
    centre = unit_vector(values["RA_d"] + hour - values.get("Ho", hour), values["dec_d"])
    if refraction:
        centre = _lifted(centre, _zenith(when, values), refracted_deg)
    axes = _axes(centre, np.radians(values["pos_angle_ref"]))
    local = axes @ mean_axes(when) @ local_rotation(site, when).T
    camera = MountedCamera(model, quaternion_of(local), None, site)
    return Platepar(camera, when, refraction, error, dict(values))


@named
def write_platepar(
    path: str | os.PathLike[str],
    camera: MountedCamera | Platepar,
    time: Any = None,
    *,
    values: Mapping[str, Any] | None = None,
) -> float:
    """Write a platepar (JSON), atomically.

    Parameters
    ----------
    path : path-like
        File to create or replace, usually ``platepar_cmn2010.cal``.
    camera : MountedCamera or Platepar
        The camera, with a site. The lens of a platepar is written as it was read, unless it was
        changed.
    time : Time, datetime or str, optional
        Time for which the attitude holds. Default: the time of the platepar.
    values : mapping, optional
        Additional keys, such as ``station_code``.

    Returns
    -------
    float
        Largest error over the image of the lens in the file, in ideal pixels.

    Raises
    ------
    InputError
        If there is no site or time, or the camera mirrors the sky.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from astropy.coordinates import EarthLocation
    >>> from boresight import CameraModel
    >>> from boresight.movement import MountedCamera, read_platepar, write_platepar
    >>> lens = CameraModel(850.0, (720, 1280), projection="equidistant")
    >>> site = EarthLocation.from_geodetic(16.0, 45.0, 120.0)
    >>> camera = MountedCamera(lens, (0.9, 0.3, 0.2, 0.1), site=site)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "platepar_cmn2010.cal"
    ...     error = write_platepar(file, camera, "2026-01-01T22:00:00")
    ...     again = read_platepar(file)
    >>> error < 1e-6, again.camera.camera_model.focal_length_px
    (True, 850.0)
    """
    before = camera if isinstance(camera, Platepar) else None
    mounted = camera.camera if isinstance(camera, Platepar) else camera
    if time is None and before is not None:
        time = before.time
    if mounted.site is None:
        raise InputError("camera: it has no site; a platepar is of a camera fixed to the ground")
    if time is None:
        raise InputError("time: unknown; give the time at which the camera has this attitude")
    known = dict({} if before is None else before.values)
    error = 0.0
    if before is None or camera_of(known)[0] != mounted.camera_model:
        lens, error = coefficients_of(mounted.camera_model)
        known |= {"F_scale": float(np.radians(mounted.camera_model.focal_length_px))} | lens
    known = _header(mounted) | known | dict(values or {})
    write_json(path, known | _pointing(mounted, as_time(time), bool(known["refraction"])), 4)
    return error


def _header(mounted: MountedCamera) -> dict[str, Any]:
    """Return keys that do not depend on the attitude; unknown values are the defaults of RMS."""
    model = mounted.camera_model
    height, width = model.image_shape
    scale = float(np.radians(model.focal_length_px))
    return {
        "version": 2, "refraction": True, "measurement_apparent_to_true_refraction": False,
        "UT_corr": 0, "X_res": width, "Y_res": height, "F_scale": scale,
        "fov_h": width / scale, "fov_v": height / scale, "mag_0": -2.5, "mag_lev": 1.0,
        "mag_lev_stddev": 0.0, "gamma": 1.0, "vignetting_coeff": 0.0, "vignetting_fixed": True,
        "extinction_scale": 0.6, "station_code": "None", "star_list": [],
        "auto_check_fit_refined": False, "auto_recalibrated": False,
    }  # fmt: skip


def _pointing(mounted: MountedCamera, when: Time, refraction: bool) -> dict[str, Any]:
    """Return the keys of the site and the attitude."""
    site = mounted.site
    assert site is not None
    keys = {
        "lat": float(site.lat.deg), "lon": float(site.lon.deg),
        "elev": float(site.height.to_value("m")), "JD": float(when.utc.jd),
        "Ho": float(gmst_deg(when)),
    }  # fmt: skip
    axes = mounted.attitude(when) @ mean_axes(when).T
    centre, zenith = axes[2], _zenith(when, keys)
    east, north = east_north(centre)
    # The x axis is cos(b) north - sin(b) east, where b is 90 degrees minus the position angle.
    angle = np.pi / 2.0 - np.arctan2(-(axes[0] @ east), axes[0] @ north)
    azimuth = np.arctan2(*(np.array(east_north(zenith)) @ centre))
    keys |= {
        "pos_angle_ref": float(np.degrees(angle) % 360.0),
        "alt_centre": float(np.degrees(np.arcsin(centre @ zenith))),
        "az_centre": float(np.degrees(azimuth) % 360.0),
    }
    true = _lifted(centre, zenith, _true_deg) if refraction else centre
    ra, dec = longitude_latitude(true)
    return keys | {"RA_d": float(np.degrees(ra) % 360.0), "dec_d": float(np.degrees(dec))}


def gmst_deg(when: Time) -> float:
    """Return Greenwich mean sidereal time, degrees (Meeus 1998, Astronomical Algorithms, 12.4)."""
    days = (when.utc.jd1 - J2000) + when.utc.jd2
    century = days / 36525.0
    angle = 280.46061837 + 360.98564736629 * days + 0.000387933 * century**2
    return float((angle - century**3 / 38710000.0) % 360.0)


def mean_axes(when: Time) -> Floats:
    """Return the rotation from ICRS to the mean axes of date: precession without nutation."""
    import erfa

    return np.asarray(erfa.bp06(when.tt.jd1, when.tt.jd2)[2], np.float64)


def refracted_deg(true: float) -> float:
    """Return the apparent altitude in degrees (Saemundsson 1986, Sky and Telescope 72, 70)."""
    low = max(true, LOWEST_DEG)
    return float(true + 1.02 / (60.0 * np.tan(np.radians(low + 10.3 / (low + 5.11)))))


def _true_deg(apparent: float) -> float:
    """Return the true altitude of an apparent one: the inverse of `refracted_deg`."""
    true = apparent
    for _ in range(REFRACTION_ROUNDS):
        true += apparent - refracted_deg(true)
    return true


def _zenith(when: Time, values: Mapping[str, Any]) -> Floats:
    """Return the direction to the zenith in the mean axes of date."""
    return unit_vector(gmst_deg(when) + values["lon"], values["lat"])


def _axes(centre: Floats, position_angle: float) -> Floats:
    """Return the camera's axes, as rows, from its centre and position angle."""
    east, north = east_north(centre)
    b = np.pi / 2.0 - position_angle
    x = np.cos(b) * north - np.sin(b) * east
    return np.array([x, np.cross(centre, x), centre])


def _lifted(direction: Floats, zenith: Floats, lift: Any) -> Floats:
    """Return a direction with its altitude changed by a function of degrees."""
    up = direction @ zenith
    level = direction - up * zenith
    level /= np.linalg.norm(level)
    altitude = np.radians(lift(float(np.degrees(np.arctan2(up, direction @ level)))))
    return np.asarray(np.cos(altitude) * level + np.sin(altitude) * zenith)
