"""Sources of an item that are already identified with objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boresight.alignment.images import ImageCatalog
from boresight.alignment.result import Matches
from boresight.alignment.sources import Sources

__all__ = ["Identified"]


@dataclass(frozen=True)
class Identified:
    """Identified sources of an item and their objects."""

    member: NDArray[np.int64]
    place: NDArray[np.int64]
    object: NDArray[np.int64]

    @classmethod
    def of(cls, matches: Matches) -> Identified:
        """Return the matched sources."""
        columns = (matches.member, matches.place, matches.star)
        return cls(*(column.astype(np.int64) for column in columns))

    @classmethod
    def all_of(cls, members: list[ImageCatalog], rows: NDArray[np.int64]) -> Identified:
        """Return all sources of an item; object k is the source in row ``rows[k]`` of its lists."""
        first = np.cumsum([0, *(member.num_rows for member in members)])
        number = np.searchsorted(first, rows, side="right") - 1
        place = np.concatenate(
            [
                np.searchsorted(member.rows, rows[number == k] - first[k])
                for k, member in enumerate(members)
            ]
        )
        return cls(number, place, np.arange(len(rows)))

    def joined(self, member: int, place: NDArray[np.intp], first: int) -> Identified:
        """Append sources of a member, whose objects are numbered from `first` on."""
        return Identified(
            np.concatenate([self.member, np.full(len(place), member)]),
            np.concatenate([self.place, place]),
            np.concatenate([self.object, first + np.arange(len(place))]),
        )

    def select(self, which: NDArray[np.bool_]) -> Identified:
        """Return the selected sources."""
        return Identified(self.member[which], self.place[which], self.object[which])

    def among_all(self, members: list[ImageCatalog]) -> NDArray[np.int64]:
        """Return indices into the concatenated sources of all members."""
        return _among_all(members, self.member, self.place)

    def among(self, sources: Sources, members: list[ImageCatalog]) -> tuple[Any, Any]:
        """Return indices of those that are among `sources`, and their objects."""
        index = np.full(sum(map(len, members)), -1)
        index[_among_all(members, sources.member, sources.row)] = np.arange(len(sources.row))
        found = index[self.among_all(members)]
        return found[found >= 0], self.object[found >= 0]


def _among_all(
    members: list[ImageCatalog], member: NDArray[Any], place: NDArray[Any]
) -> NDArray[np.int64]:
    first = np.cumsum([0, *map(len, members)])
    return np.asarray(first[member] + place)
