"""Repeated fits of each aligned image to the positions of its objects in all other images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from boresight.alignment.growing import GrowingReference
from boresight.alignment.identified import Identified
from boresight.alignment.images import ImageCatalog, ImageGroup
from boresight.alignment.mappings import Mapping
from boresight.alignment.options import Options
from boresight.alignment.pairs import LEAST_ERROR_PX
from boresight.alignment.register import about_origin, align_to, matched
from boresight.alignment.result import ImageAlignment
from boresight.alignment.sources import pixel_scale, sources_of

__all__ = ["Joined", "source_weights", "sweep"]

Floats = NDArray[np.float64]

MOST_SWEEPS = 5
"""Maximum number of sweeps. The first makes most of the correction; usually two are enough."""

SETTLED_PX = 1e-3
"""Sweeps end when no source moves by more than this, in pixels."""


def source_weights(member: ImageCatalog, alignment: ImageAlignment) -> Floats:
    """Return the weights of the sources of an image in the mean positions of objects."""
    if member._weights is not None:
        return member._weights
    # For sources without errors, the scatter is that of the residuals.
    return np.full(len(member), 2.0 / max(alignment.rmse_px, LEAST_ERROR_PX) ** 2)


@dataclass
class Joined:
    """A good image whose sources are part of the reference.

    `identified` has first the matched sources, in their order, then those that became objects.
    `kept` marks the sources that contribute to the mean positions of objects. `starts` are the
    mappings before the image was aligned. The reference image has no matches.
    """

    item: ImageCatalog | ImageGroup
    starts: list[Mapping]
    alignment: ImageAlignment
    identified: Identified
    kept: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        members, identified, matches = self.item.members, self.identified, self.alignment.matches
        self.kept = np.ones(len(identified.object), bool)
        if matches is not None:
            self.kept[: len(matches.kept)] = matches.kept
        self._rows = identified.among_all(members)
        weights = np.concatenate([source_weights(member, self.alignment) for member in members])
        self._weights = weights[self._rows]
        self._scale = pixel_scale(members[0].mapping)
        self._sky = self._now()

    def _now(self) -> Floats:
        """Return the directions of the sources by the current WCS."""
        return np.concatenate([member.sky() for member in self.item.members])[self._rows]

    def _place(self, reference: GrowingReference, *, out: bool) -> None:
        """Add the image to the mean positions of its objects, or remove it with `out`."""
        kept = self.kept
        reference.refine(
            self.identified.object[kept],
            self._sky[kept],
            self._weights[kept],
            scale=self._scale,
            out=out,
        )

    def _others(self, reference: GrowingReference) -> Identified:
        """Return the sources whose objects other images contain, after this image is removed."""
        return self.identified.select(reference.is_placed(self.identified.object))

    def bring(self, images: list[Joined], reference: GrowingReference, options: Options) -> None:
        """Move the objects of all other images together, to fit this image."""
        self._place(reference, out=True)
        members = self.item.members
        plane = members[0].mapping
        sources, identified = sources_of(members, plane), self._others(reference)
        fit = matched(members, sources, reference, plane, options, identified=identified)[1].fit
        self._place(reference, out=False)
        if fit is None:
            return
        matrix, shift = about_origin(fit)
        for image in images:
            at = plane.sky_to_plane(image._sky) - shift
            sky = plane.plane_to_sky(at @ np.linalg.inv(matrix).T)
            image._place(reference, out=True)
            image._sky = np.where(np.isfinite(sky), sky, image._sky)
            image._place(reference, out=False)

    def fit_again(self, reference: GrowingReference, options: Options) -> float:
        """Fit the image to its objects in the other images; return the largest movement, px.

        If the fit fails, the WCS does not change.
        """
        self._place(reference, out=True)
        others = self._others(reference)
        before, was = self.alignment, self._sky
        alignment, _ = align_to(
            self.item, before.name, reference, options, starts=self.starts, identified=others
        )
        if alignment.status == "success":
            assert alignment.matches is not None, "an aligned image has matches"
            self.alignment = replace(
                alignment, log_odds=before.log_odds, by_patterns=before.by_patterns,
                matched_fraction=before.matched_fraction,
            )  # fmt: skip
            for member in self.item.members:
                member.alignment = self.alignment
            left = Identified.of(alignment.matches).select(~alignment.matches.kept)
            self.kept = ~np.isin(self._rows, left.among_all(self.item.members))
        self._sky = self._now()
        if self.alignment.verdict == "good":
            self._place(reference, out=False)
        moved = np.linalg.norm(self._sky - was, axis=1)
        return float(moved.max()) / self._scale


def sweep(images: list[Joined], reference: GrowingReference, options: Options) -> None:
    """Fit images in turn to their objects in all other images, until no image moves.

    The iteration converges to the least-squares solution of all images and objects. The reference
    image does not move, and many other images would hold each single image back, so they would
    approach the reference image only in small steps. Therefore each sweep first moves all images
    together to the reference image. An image that is no longer good leaves the reference.
    """
    first = next((image for image in images if image.alignment.status == "reference"), None)
    images = [image for image in images if image is not first]
    if len(images) < 2:
        return
    for _ in range(MOST_SWEEPS):
        if first is not None:
            first.bring(images, reference, options)
        moved = [image.fit_again(reference, options) for image in images]
        images = [image for image in images if image.alignment.verdict == "good"]
        if max(moved, default=0.0) < SETTLED_PX:
            break
