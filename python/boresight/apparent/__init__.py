"""Apparent places: what displaces a star between the catalogue and the camera."""

from boresight.apparent.aberration import (
    earth_barycentric_velocity as earth_barycentric_velocity,
)
from boresight.apparent.refraction import Refraction as Refraction
