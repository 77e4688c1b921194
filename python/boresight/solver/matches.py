"""Matched stars of one frame: a result of solving and the input of calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boresight import _core as core
from boresight._utils import arguments
from boresight._utils.arrays import longitude_latitude, unit_vector
from boresight._utils.naming import named
from boresight._utils.origins import Origin
from boresight.apparent.place import ApparentPlace
from boresight.camera.model import CameraModel
from boresight.errors import InputError
from boresight.extraction.star_list import StarList

__all__ = ["Magnitudes", "MatchedStars"]

Floats = NDArray[np.float64]

#: Magnitudes of the stars, or the database from which they are read when needed.
Magnitudes = Floats | core.Database | None


@named
class MatchedStars:
    """Stars of one frame, each with the catalogue star that it was matched to.

    Solving returns this object (`Solution.matched_stars`), and calibration takes it. It includes
    the camera, attitude and apparent place with which the stars were matched. It is immutable and
    can be pickled.

    Parameters
    ----------
    positions_px : array_like, shape (n, 2)
        Measured positions, pixels from the image centre.
    directions : array_like, shape (n, 3)
        ICRS unit vectors of the catalogue stars, at the epoch of the frame.
    camera_model : CameraModel
        The camera with which the stars were matched.
    quaternion : array_like, shape (4,)
        The attitude at which the stars were matched: rotation ICRS to camera, scalar first.
    place : ApparentPlace, optional
        Apparent place of the frame: aberration and refraction. Default: neither.
    position_cov : array_like, shape (n, 2, 2), optional
        Covariance of each position in square pixels. Default: unknown.
    brightness : array_like, shape (n,), optional
        Brightness in the units of the centroids. Default: unknown (NaN).
    catalog_ids : array_like of int, shape (n,), optional
        Identifiers of the stars. Default 0.
    centroids : array_like of int, shape (n,), optional
        Index of each star in the list of centroids that was solved. Default: 0 to n - 1.
    probability : array_like, shape (n,), optional
        Probability that each match is correct. Default 1.
    magnitudes : array_like, shape (n,), optional
        Magnitudes of the catalogue stars. Default: unknown (NaN).

    Raises
    ------
    InputError
        If the columns differ in length, or contain values that are not finite.

    Examples
    --------
    >>> import boresight
    >>> camera = boresight.CameraModel(1000.0, (480, 640))
    >>> stars = boresight.MatchedStars([[0.0, 0.0], [100.0, 0.0]], [[0, 0, 1], [0.1, 0, 1]],
    ...                                camera, [1, 0, 0, 0])
    >>> len(stars), stars.residuals_arcsec.round(6).tolist()
    (2, [0.0, 0.0])
    """

    __slots__ = ("_core", "_magnitudes", "place")

    place: ApparentPlace
    _magnitudes: Magnitudes

    def __init__(
        self,
        positions_px: ArrayLike,
        directions: ArrayLike,
        camera_model: CameraModel,
        quaternion: ArrayLike,
        place: ApparentPlace | None = None,
        *,
        position_cov: ArrayLike | None = None,
        brightness: ArrayLike | None = None,
        catalog_ids: ArrayLike | None = None,
        centroids: ArrayLike | None = None,
        probability: ArrayLike | None = None,
        magnitudes: ArrayLike | None = None,
    ) -> None:
        pixels = np.ascontiguousarray(positions_px, dtype=np.float64)
        for name, rows, width in (("positions_px", pixels, 2), ("directions", directions, 3)):
            shape = np.shape(rows)
            if shape != (0,) and (len(shape) != 2 or shape[1] != width):
                raise InputError(f"{name}: its shape is {shape}; give (n, {width})")
        pixels, n = pixels.reshape(-1, 2), len(pixels)
        self.place = place if place is not None else ApparentPlace()

        def column(values: ArrayLike | None, default: ArrayLike, dtype: type) -> NDArray[Any]:
            return np.array(np.broadcast_to(default, n) if values is None else values, dtype=dtype)

        self._magnitudes = None if magnitudes is None else column(magnitudes, 0, np.float64)
        if self._magnitudes is not None and self._magnitudes.shape != (n,):
            shape = self._magnitudes.shape
            raise InputError(f"magnitudes: its shape is {shape}, of {n} stars; give one each")
        cov = None
        if position_cov is not None:
            given = np.asarray(position_cov, dtype=np.float64)
            if given.shape[1:] != (2, 2):
                raise InputError(f"position_cov: its shape is {given.shape}; give (n, 2, 2)")
            cov = _columns(given)
        self._core = core.MatchedStars(
            {
                "detections": column(centroids, np.arange(n), np.uint64),
                "ids": column(catalog_ids, 0, np.int64),
                "pixels": pixels,
                "covariance": cov,
                "brightness": column(brightness, np.nan, np.float64),
                "directions": np.ascontiguousarray(directions, dtype=np.float64).reshape(-1, 3),
                "probability": column(probability, 1.0, np.float64),
                "camera": camera_model._core,
                "quaternion": arguments.vector("quaternion", quaternion, 4),
                "place": self.place.core,
            }
        )

    @classmethod
    def _from_core(
        cls, matches: core.MatchedStars, place: ApparentPlace, magnitudes: Magnitudes = None
    ) -> MatchedStars:
        self = cls.__new__(cls)
        self._core = matches
        self.place = place
        self._magnitudes = magnitudes
        return self

    @property
    def centroids(self) -> NDArray[np.uint64]:
        """Index of each star in the list of centroids that was solved, shape (n,)."""
        return self._core.detections

    @property
    def catalog_ids(self) -> NDArray[np.int64]:
        """Identifiers of the stars, shape (n,)."""
        return self._core.ids

    @property
    def positions_px(self) -> Floats:
        """Measured positions, pixels from the image centre, shape (n, 2)."""
        return self._core.pixels

    @property
    def position_cov(self) -> Floats:
        """Covariance of each position in square pixels, shape (n, 2, 2); NaN where unknown."""
        columns = self._core.covariance
        if columns is None:
            return np.full((len(self), 2, 2), np.nan)
        return columns[:, [0, 1, 1, 2]].reshape(-1, 2, 2)

    @property
    def has_position_cov(self) -> bool:
        """Whether the covariance of the positions is known."""
        return self._core.covariance is not None

    @property
    def brightness(self) -> Floats:
        """Brightness in the units of the centroids, shape (n,); NaN where unknown."""
        return self._core.brightness

    @property
    def magnitudes(self) -> Floats:
        """Magnitudes of the catalogue stars, shape (n,); NaN where unknown."""
        if isinstance(self._magnitudes, core.Database):
            rows = self._magnitudes.rows_of_ids(self.catalog_ids)
            found = self._magnitudes.stars(np.maximum(rows, 0)).magnitude.astype(np.float64)
            return np.where(rows >= 0, found, np.nan)
        if self._magnitudes is None:
            return np.full(len(self), np.nan)
        return self._magnitudes

    def blend_px(self, reach_px: float) -> Floats:
        """Largest shift of each star's image by its neighbours in the catalogue, shape (n,).

        This is the distance from the star to the centre of light of the star and its neighbours, if
        all neighbours lay on the same side. If two stars are too close to be resolved, either of
        them may have been matched: the position of the fainter one is then wrong by nearly their
        distance.

        Parameters
        ----------
        reach_px : float
            Largest distance of a neighbour, pixels.

        Returns
        -------
        ndarray
            Shifts in pixels; zero if the database of the stars is not known.

        Examples
        --------
        >>> import boresight
        >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
        >>> image = boresight.simulate_frame(camera, ra_deg=83.8, dec_deg=-1.2, seed=1).image
        >>> stars = boresight.solve(image, 15.0).matched_stars
        >>> blended = stars.blend_px(3.0) > 0.02
        >>> int(blended.sum()), len(stars)
        (84, 855)
        """
        blend = np.zeros(len(self))
        database = self._magnitudes
        if not isinstance(database, core.Database) or not len(self):
            return blend
        places = zip(*longitude_latitude(self.directions), strict=True)
        reach = float(np.radians(reach_px * self.camera_model.pixel_scale_arcsec / 3600.0))
        around = [database.cone(ra, dec, reach) for ra, dec in places]
        owner = np.repeat(np.arange(len(self)), [len(rows) for rows in around])
        near = database.stars(np.concatenate(around))
        other = near.ids != self.catalog_ids[owner]
        owner = owner[other]
        light = 10.0 ** (0.4 * (self.magnitudes[owner] - near.magnitude[other]))
        sky = unit_vector(np.degrees(near.ra[other]), np.degrees(near.dec[other]))
        gap = self._core.sky_to_pixel(sky) - self._core.sky_to_pixel(self.directions)[owner]
        lever = light * np.hypot(*gap.T)
        total = np.bincount(owner, lever, len(self))
        return total / (1.0 + np.bincount(owner, light, len(self)))

    @property
    def directions(self) -> Floats:
        """ICRS unit vectors of the catalogue stars, at the epoch of the frame, shape (n, 3)."""
        return self._core.directions

    @property
    def probability(self) -> Floats:
        """Probability that each match is correct, shape (n,).

        The alternative is a background of centroids without a star and stars without a centroid. A
        solution contains the matches with a probability of at least 0.7. The expected number of
        wrong ones is the sum of ``1 - probability``.
        """
        return self._core.probability

    @property
    def camera_model(self) -> CameraModel:
        """The camera with which the stars were matched."""
        return CameraModel._from_core(self._core.camera)

    @property
    def quaternion(self) -> Floats:
        """The attitude at which the stars were matched: rotation ICRS to camera, scalar first."""
        return np.array(self._core.quaternion)

    @property
    def residuals_arcsec(self) -> Floats:
        """Angle between each centroid and its star, shape (n,)."""
        return np.degrees(self._core.residuals) * 3600.0

    def __len__(self) -> int:
        return len(self._core)

    def replace(self, **changes: Any) -> MatchedStars:
        """Return a copy with some columns changed.

        Parameters
        ----------
        **changes
            Any arguments of the constructor, by name.

        Returns
        -------
        MatchedStars
        """
        stars = MatchedStars(**(self._arguments() | changes))
        if "magnitudes" not in changes and isinstance(self._magnitudes, core.Database):
            stars._magnitudes = self._magnitudes
        return stars

    def select(self, rows: ArrayLike) -> MatchedStars:
        """Return some of the matches.

        Parameters
        ----------
        rows : array_like of int or bool
            Indices of the matches, or a mask.

        Returns
        -------
        MatchedStars
        """
        chosen = np.asarray(rows)
        columns = {
            name: value[chosen]
            for name, value in self._arguments().items()
            if name in _COLUMNS and value is not None
        }
        return self.replace(**columns)

    def measured(
        self, centroids: Any, name: str = "centroids", origin: Origin | None = None
    ) -> MatchedStars:
        """Return a copy with the positions, covariances and brightness of a list of centroids.

        Parameters
        ----------
        centroids : Centroids, or what `Centroids.from_any` takes
            The list that was solved.
        name : str
            Name of the argument in an error.
        origin : {"center", "corner", "fits"}, optional
            Origin of its positions, as in `solve_from_centroids`.

        Returns
        -------
        MatchedStars

        Raises
        ------
        InputError
            If the list is too short to be the one that was solved.
        """
        listed = StarList.read(centroids, origin, self.camera_model.image_shape)
        stars = listed.at(self.centroids, name)
        pixels, brightness = np.ascontiguousarray(stars.xy), np.ascontiguousarray(stars.brightness)
        measured = self._core.measured(pixels, _columns(stars.position_cov), brightness)
        return MatchedStars._from_core(measured, self.place, self._magnitudes)

    def weighted(self, position_cov: Floats | None) -> MatchedStars:
        """Return a copy with other covariances of the positions.

        Parameters
        ----------
        position_cov : ndarray, shape (n, 2, 2), or None
            In square pixels; `None` if unknown.

        Returns
        -------
        MatchedStars
        """
        columns = None if position_cov is None else _columns(position_cov)
        weighted = self._core.measured(self._core.pixels, columns, self._core.brightness)
        return MatchedStars._from_core(weighted, self.place, self._magnitudes)

    def _arguments(self) -> dict[str, Any]:
        """Return constructor arguments of an equal object, without magnitudes from a database."""
        return {
            "positions_px": self.positions_px,
            "directions": self.directions,
            "camera_model": self.camera_model,
            "quaternion": self.quaternion,
            "place": self.place,
            "position_cov": self.position_cov if self.has_position_cov else None,
            "brightness": self.brightness,
            "catalog_ids": self.catalog_ids,
            "centroids": self.centroids,
            "probability": self.probability,
            "magnitudes": None if isinstance(self._magnitudes, core.Database) else self._magnitudes,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        known = None if self._magnitudes is None else self.magnitudes
        return _restore, (self._arguments() | {"magnitudes": known}, self._core.rotation_matrix)

    def __repr__(self) -> str:
        return f"<MatchedStars: {len(self)} stars, {self.camera_model!r}>"


#: Arguments of `MatchedStars` with one row per star.
_COLUMNS = (
    "positions_px",
    "directions",
    "position_cov",
    "brightness",
    "catalog_ids",
    "centroids",
    "probability",
    "magnitudes",
)


def _columns(cov: Floats) -> Floats:
    """Return the columns xx, xy and yy of covariances (n, 2, 2)."""
    return np.ascontiguousarray(cov.reshape(-1, 4)[:, [0, 1, 3]], dtype=np.float64)


def _restore(arguments: dict[str, Any], rotation_matrix: list[list[float]]) -> MatchedStars:
    stars = MatchedStars(**arguments)
    stars._core = stars._core.turned(rotation_matrix)  # exact, unlike a quaternion
    return stars
