"""Conversion of the core's scene parameters to those in results."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from boresight.scene.motion import MOTION_NAMES
from boresight.scene.places import Plane
from boresight.scene.psf import PSF, EffectivePSF, Moffat

__all__ = [
    "Problem", "affine", "corrected_wcs", "parameter_names", "profile_of", "state_scales",
]  # fmt: skip

Floats = NDArray[np.float64]

#: Names of the shape parameters of a galaxy, in the core's order.
SHAPE_NAMES = ("radius", "e1", "e2", "n")


class Problem(NamedTuple):
    """Arguments of the core: images, PSFs and sources, each item a dict."""

    images: list[dict[str, Any]]
    psfs: list[dict[str, Any]]
    sources: list[dict[str, Any]]


#: Names of the parameters of each freedom of a WCS, in the core's order.
WCS_NAMES: dict[str, tuple[str, ...]] = {
    "fixed": (),
    "shift": ("crtan_x", "crtan_y"),
    "rshift": ("crtan_x", "crtan_y", "phi"),
    "rscale": ("crtan_x", "crtan_y", "phi", "scale"),
    "general": ("crtan_x", "crtan_y", "m00", "m01", "m10", "m11"),
    "attitude": ("turn_x", "turn_y", "turn_z", "log_focal_length"),
}


def affine(freedom: str, values: Floats) -> tuple[Floats, Floats, float]:
    """Return M, crtan and phi from the parameters of a freedom."""
    if freedom in ("fixed", "attitude"):
        return np.eye(2), np.zeros(2), 0.0
    crtan = np.array(values[:2])
    if freedom == "shift":
        return np.eye(2), crtan, 0.0
    if freedom == "general":
        matrix = np.eye(2) + np.array(values[2:6]).reshape(2, 2)
        phi = math.atan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1])
        return matrix, crtan, phi
    phi, scale = float(values[2]), float(values[3]) if freedom == "rscale" else 1.0
    cos, sin = math.cos(phi), math.sin(phi)
    return scale * np.array([[cos, -sin], [sin, cos]]), crtan, phi


def profile_of(start: PSF, values: Floats) -> PSF:
    """Return the PSF with the core's parameters."""
    if isinstance(start, EffectivePSF):
        return start
    rho, e1, e2, nu = (float(value) for value in values)
    ratio = min(max(math.exp(-math.hypot(e1, e2)), 0.05), 1.0)
    angle = math.degrees(0.5 * math.atan2(e2, e1)) if (e1 or e2) else start.angle_deg
    if isinstance(start, Moffat):
        return dataclasses.replace(
            start, n=1.0 + math.exp(nu), rd=math.exp(rho), axis_ratio=ratio, angle_deg=angle
        )
    return dataclasses.replace(start, sigma=math.exp(rho), axis_ratio=ratio, angle_deg=angle)


def parameter_names(
    layout: Any,
    problem: Problem,
    named: tuple[list[str], list[str]],
    sources: list[str],
    fitted: Any,
) -> tuple[list[int], dict[int, str]]:
    """Return the indices of the fitted parameters, in order, and the names of all parameters.

    `named` are the names of the images and the names of their bands.
    """
    rows, psfs, given = problem
    images, bands = named
    names: dict[int, str] = {}
    held = set()
    for k, first in enumerate(layout["sources"]):
        names[first], names[first + 1] = f"{sources[k]}.ra", f"{sources[k]}.dec"
        if 0.0 in (given[k]["prior"] or ()):
            held |= {first, first + 1}
        if (at := layout["motions"][k]) is not None:
            names |= {at + i: f"{sources[k]}.{name}" for i, name in enumerate(MOTION_NAMES)}
            held |= {at + i for i, error in enumerate(given[k]["motion"]) if error == 0}
        if (at := layout["shapes"][k]) is not None:
            names |= {at + i: f"{sources[k]}.{name}" for i, name in enumerate(SHAPE_NAMES)}
            held |= {at + i for i, free in enumerate(given[k]["shape"][1]) if not free}
        for image, fluxes in zip(images, layout["fluxes"], strict=True):
            if fluxes[k] is not None:
                names[fluxes[k]] = f"{sources[k]}.flux[{image}]"
    for k, (first, psf) in enumerate(zip(layout["psfs"], psfs, strict=True)):
        image = next(name for name, row in zip(images, rows, strict=True) if row["psf"] == k)
        radius = "rd" if psf["kind"] == "moffat" else "sigma"
        for i, name in enumerate((radius, "e1", "e2", "n")):
            names[first + i] = f"{image}.psf.{name}"
            if not psf["free"][i]:
                held.add(first + i)
    for k, (image, row) in enumerate(zip(images, rows, strict=True)):
        for i, name in enumerate(WCS_NAMES[row["freedom"]]):
            at = layout["wcs"][k] + i
            names[at] = f"{image}.{name}"
            if fitted.reference == k:
                held.add(at)
        if (at := layout["chromatic"][k]) is not None:
            names |= {at: f"{bands[k]}.chromatic_x", at + 1: f"{bands[k]}.chromatic_y"}
            if fitted.chromatic_reference == k:
                held |= {at, at + 1}
        terms = {"none": (), "constant": ("",), "plane": ("", "_x", "_y")}[row["sky"]]
        for i, name in enumerate(terms):
            names[layout["skies"][k] + i] = f"{image}.sky{name}"
    return [i for i in sorted(names) if i not in held], names


def state_scales(fitted: Any) -> Floats:
    """Return derivatives of reported parameters by the core's, such as of rd by ln(rd)."""
    layout, state = fitted.layout, fitted.state
    scales = np.ones(len(state))
    for first in layout["psfs"]:
        scales[first] = math.exp(state[first])
        scales[first + 3] = math.exp(state[first + 3])
    for first, exponent in zip(layout["shapes"], fitted.exponents, strict=True):
        if first is not None:
            scales[first], scales[first + 3] = math.exp(state[first]), exponent[1]
    return scales


def corrected_wcs(wcs: Any, cd: Floats, matrix: Floats, crtan: Floats) -> Any:
    """Return the WCS corrected to ``plane = CD M (pixel - crpix) + crtan`` (arcsec).

    Without distortion the reference pixel moves, which is exact. SIP polynomials are relative to
    the reference pixel, so with SIP the reference direction on the sky moves instead. This turns
    the tangent plane. After correction of its rotation, the error is less than
    ``(r / 206265)² crtan`` at r arcsec from the reference.
    """
    new = wcs.deepcopy()
    moved = cd @ matrix
    if wcs.sip is None:
        new.wcs.crpix = wcs.wcs.crpix - np.linalg.solve(moved, crtan)
    else:
        old = Plane(*wcs.wcs.crval)
        ra, dec = old.sky(crtan[None, :])
        about = Plane(float(ra[0]), float(dec[0]))
        near = crtan + np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])
        points = about.project(old.direction(near))
        turn = np.column_stack([points[0] - points[1], points[2] - points[3]])
        moved = turn @ moved
        new.wcs.crval = [about.ra_deg, about.dec_deg]
    degrees = moved / 3600.0
    if new.wcs.has_cd():
        new.wcs.cd = degrees
    else:
        new.wcs.pc = degrees / np.asarray(new.wcs.cdelt)[:, None]
    new.wcs.set()
    return new
