"""The apparent place of every frame of a calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from boresight._utils.arrays import unit_vector
from boresight.apparent.place import ApparentPlace
from boresight.catalog.catalog import Catalog
from boresight.errors import InputError
from boresight.solver.solution import Solution

if TYPE_CHECKING:
    from astropy.coordinates import EarthLocation
    from astropy.time import Time

    from boresight.database.database import PatternDatabase


def motions_of(database: PatternDatabase) -> Catalog | None:
    """Return the catalogue with the proper motions of a database's stars; `None` if unknown."""
    return Catalog.hipparcos() if database.has_motions else None


class FramePlaces:
    """Displacement of the stars in each frame, and their proper motion to its time.

    Attributes
    ----------
    places : list of ApparentPlace
        One for each frame.
    words : tuple of str
        The removed effects, in words.
    """

    def __init__(
        self,
        times: list[Time | None],
        aberration: bool | None,
        velocities_km_s: Sequence[ArrayLike | None] | None,
        catalog: Catalog | None,
        site: EarthLocation | None,
        weather: Mapping[str, float] | None,
    ) -> None:
        if aberration is None:
            aberration = None not in times
        for name, wanted in (
            ("aberration", aberration and velocities_km_s is None),
            ("catalog", catalog is not None),
            ("site", site is not None),
        ):
            if wanted and None in times:
                raise InputError(
                    f"{name}: the time of frames[{times.index(None)}] is unknown; give times"
                )
        if velocities_km_s is not None and len(velocities_km_s) != len(times):
            raise InputError(
                f"velocities_km_s: {len(velocities_km_s)} for {len(times)} frames; "
                "give one (or None) each"
            )
        if catalog is not None and not len(catalog):
            raise InputError("catalog: it has no stars; give the one that the database was made of")
        self._catalog = catalog
        given = (
            velocities_km_s
            if velocities_km_s is not None
            else ["earth" if aberration else None] * len(times)
        )
        self.places = [
            ApparentPlace.at(time, velocity_km_s=velocity, site=site, weather=weather)
            for time, velocity in zip(times, given, strict=True)
        ]
        words = []
        if velocities_km_s is not None:
            words.append("aberration by the velocities given")
        elif aberration:
            words.append("aberration by the Earth's motion at each frame's time")
        if catalog is not None:
            words.append(f"proper motion from {catalog.epoch:.2f} to each frame's time")
        if site is not None:
            words.append("refraction at each frame's time")
        self.words = tuple(words)

    def moved(self, solution: Solution | None) -> Solution | None:
        """Return a solution with its stars moved to the time of its frame."""
        if solution is None or self._catalog is None:
            return solution
        matches = solution.matched_stars
        try:
            stars = self._catalog.get(matches.catalog_ids)
        except KeyError as error:
            raise InputError(
                f"catalog: {error.args[0]}; give the one that the database was made of"
            ) from None
        at_catalog = unit_vector(stars.ra_deg, stars.dec_deg)
        return Solution.from_matches(
            matches.replace(directions=solution.place.moved(at_catalog, stars.proper_motion)),
            covariance=solution.covariance,
            probability=solution.probability,
            solve_time_ms=solution.solve_time_ms,
        )
