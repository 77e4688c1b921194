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
    """A pixel of it is saturated: flux and position are worse than their noise tells."""
    EDGE = 2
    """So near the edge of the frame that a part of it is missing."""
    BLENDED = 4
    """Another star's light reaches into it."""
    MASKED = 8
    """A bad pixel lies within it."""
    TRAILED = 16
    """The stars of its frame are elongated by half or more, all in one direction: the frame moved
    while it was exposed. Positions are those of the middle of the trail."""
    HOT_PIXEL = 32
    """Sharper than the frame's stars can be (a Gaussian of 0.7 of their width, in the middle of a
    pixel) by twice its noise: a hot pixel, or the hit of a cosmic ray. Few have this flag while
    `max_sharpness` leaves the sharpest out."""
    COSMIC_RAY = 32
    """The same as `HOT_PIXEL`: one frame does not tell the two apart."""
