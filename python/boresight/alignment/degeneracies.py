"""Degeneracies of a global fit that are known before the fit."""

from __future__ import annotations

from boresight.alignment.detections import Exposure
from boresight.alignment.result import AlignmentResult, Degeneracy, DegeneracyKind, Reason

__all__ = ["ONE_DETECTOR", "UNDITHERED", "degeneracies", "few_matches"]

UNDITHERED = (
    "undithered: each object is on the same pixel in all images, so the positions do not determine "
    "a distortion; none is fitted"
)
ONE_DETECTOR = (
    "one detector: its shift, and its rotation and scale where each image has its own, cannot be "
    "separated from those of the images"
)


def degeneracies(
    exposures: list[Exposure], result: AlignmentResult, catalogued: int
) -> list[Degeneracy]:
    """Return the freedoms that the images do not determine, before the fit."""
    names = [result.images[exposure.number].name for exposure in exposures]
    found = []
    if catalogued == 0:
        first = [n for e, n in zip(exposures, names, strict=True)
                 if result.images[e.number].status == "reference"]  # fmt: skip
        found.append(
            Degeneracy(
                DegeneracyKind.NO_REFERENCE,
                tuple(first),
                f"no reference catalogue: the position, rotation and scale of all images are those "
                f"of {', '.join(first)}, which is frozen",
            )
        )
    if len(exposures) == 1:
        found.append(
            Degeneracy(
                DegeneracyKind.ONE_IMAGE,
                tuple(names),
                "one image: only the catalogue constrains it; closure cannot be tested",
            )
        )
    apart = [i.name for i in result.images if i.reason is Reason.NO_OVERLAP]
    if apart:
        found.append(
            Degeneracy(
                DegeneracyKind.DISCONNECTED,
                tuple(apart),
                f"{', '.join(apart)}: not connected with the others by any object; not fitted",
            )
        )
    return found


def few_matches(name: str) -> Degeneracy:
    """Return the degeneracy of an exposure whose matches determine no separate polynomial."""
    message = (
        f"{name}: its matches are too few, or do not cover the image, for a separate polynomial; "
        "its map is linear"
    )
    return Degeneracy(DegeneracyKind.FEW_MATCHES, (name,), message)
