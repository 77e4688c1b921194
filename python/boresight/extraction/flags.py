"""Flags of stars: properties of their images that a user should know."""

from __future__ import annotations

import enum

__all__ = ["CentroidFlags"]


class CentroidFlags(enum.IntFlag):
    """Flags of a star: properties of its image that a user should know.

    Examples
    --------
    >>> from boresight import CentroidFlags
    >>> CentroidFlags(5)
    <CentroidFlags.SATURATED|BLENDED: 5>
    """

    SATURATED = 1
    """A pixel is saturated: flux and position are less accurate than their reported errors."""
    EDGE = 2
    """A part of the star's image is outside the frame."""
    BLENDED = 4
    """The light of another star overlaps the star's image."""
    MASKED = 8
    """The star's image contains a bad pixel."""
    TRAILED = 16
    """The stars of the frame are elongated by half or more, all in one direction: the camera moved
    during the exposure. Positions are those of the middle of the trail."""
    HOT_PIXEL = 32
    """A hot pixel or a cosmic ray: sharper, by twice the noise, than a star of this frame can be
    (a Gaussian of 0.7 of their width, in the middle of a pixel). Few detections have this flag,
    because `max_sharpness` excludes the sharpest."""
    COSMIC_RAY = 32
    """The same as `HOT_PIXEL`: one frame cannot distinguish the two."""
