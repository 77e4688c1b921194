"""Apparent places: the displacement of stars between the catalogue and the camera."""

from boresight.apparent.aberration import (
    earth_barycentric_velocity as earth_barycentric_velocity,
)
from boresight.apparent.motion import ProperMotion as ProperMotion
from boresight.apparent.place import ApparentPlace as ApparentPlace
from boresight.apparent.refraction import Refraction as Refraction
