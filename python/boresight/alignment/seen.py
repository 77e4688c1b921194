"""Sources of an item whose objects are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight.alignment.images import ImageCatalog
from boresight.alignment.result import Matches
from boresight.alignment.sources import Sources

__all__ = ["Seen"]


@dataclass(frozen=True)
class Seen:
    """Sources of an item, by member and number among those with a position, and their objects."""

    member: NDArray[np.int64]
    place: NDArray[np.int64]
    object: NDArray[np.int64]

    @classmethod
    def of(cls, matches: Matches) -> Seen:
        """Give those that are matched."""
        columns = (matches.member, matches.place, matches.star)
        return cls(*(column.astype(np.int64) for column in columns))

    @classmethod
    def all_of(cls, members: list[ImageCatalog], rows: NDArray[np.int64]) -> Seen:
        """Give all sources of an item, objects of which are in these rows of all its lists."""
        first = np.cumsum([0, *(member.num_rows for member in members)])
        number = np.searchsorted(first, rows, side="right") - 1
        place = np.concatenate(
            [
                np.searchsorted(member.rows, rows[number == k] - first[k])
                for k, member in enumerate(members)
            ]
        )
        return cls(number, place, np.arange(len(rows)))

    def joined(self, member: int, place: NDArray[np.intp], first: int) -> Seen:
        """Give them with sources of a member that are the objects from the first on."""
        return Seen(
            np.concatenate([self.member, np.full(len(place), member)]),
            np.concatenate([self.place, place]),
            np.concatenate([self.object, first + np.arange(len(place))]),
        )

    def of_those(self, which: NDArray[np.bool_]) -> Seen:
        """Give some of them."""
        return Seen(self.member[which], self.place[which], self.object[which])

    def among_all(self, members: list[ImageCatalog]) -> NDArray[np.int64]:
        """Give indices among the sources of all members, one after the other."""
        return _among_all(members, self.member, self.place)

    def among(self, sources: Sources, members: list[ImageCatalog]) -> tuple[Any, Any]:
        """Give indices of sources that are still in the plane of the item, and their objects."""
        index = np.full(sum(map(len, members)), -1)
        index[_among_all(members, sources.member, sources.row)] = np.arange(len(sources.row))
        found = index[self.among_all(members)]
        return found[found >= 0], self.object[found >= 0]


def _among_all(
    members: list[ImageCatalog], member: NDArray[Any], place: NDArray[Any]
) -> NDArray[np.int64]:
    first = np.cumsum([0, *map(len, members)])
    return np.asarray(first[member] + place)
