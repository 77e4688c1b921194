"""The extension module. It is private: angles are radians, arrays are C-contiguous."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

DATABASE_REVISION: int

@final
class Catalog:
    def __new__(
        cls,
        ids: NDArray[np.int64],
        angles: list[NDArray[np.float64]],
        magnitude: NDArray[np.float32],
        epoch: float,
    ) -> Catalog: ...
    @staticmethod
    def hipparcos() -> Catalog: ...
    @property
    def epoch(self) -> float: ...
    def columns(
        self,
    ) -> tuple[NDArray[np.int64], list[NDArray[np.float64]], NDArray[np.float32]]: ...
    def at_epoch(self, year: float) -> Catalog: ...
    def cone(self, ra: float, dec: float, radius: float) -> NDArray[np.int64]: ...
    def cross_match(self, others: Catalog, radius: float) -> NDArray[np.int64]: ...

@final
class Database:
    @staticmethod
    def generate(
        stars: Catalog,
        *,
        max_fov: float,
        min_fov: float | None,
        star_max_magnitude: float | None,
        pattern_max_error: float,
        lattice_field_oversampling: int,
        patterns_per_lattice_field: int,
        verification_stars_per_fov: int,
        multiscale_step: float,
        epoch: float | None,
        progress: Callable[[float], object] | None,
    ) -> Database: ...
    @staticmethod
    def open(path: Path) -> Database: ...
    @staticmethod
    def from_bytes(data: bytes) -> Database: ...
    def to_bytes(self) -> bytes: ...
    def write(self, path: Path) -> None: ...
    def verify(self) -> None: ...
    @property
    def num_stars(self) -> int: ...
    @property
    def num_patterns(self) -> int: ...
    @property
    def num_bytes(self) -> int: ...
    @property
    def checksum(self) -> int: ...
    def parameters(self) -> dict[str, Any]: ...
    def rows_of_ids(self, ids: NDArray[np.int64]) -> NDArray[np.int64]: ...
    def cone(self, ra: float, dec: float, radius: float) -> NDArray[np.int64]: ...
    def stars(
        self, rows: NDArray[np.int64]
    ) -> tuple[
        NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]
    ]: ...
