"""Two builds of the package side by side: extraction, solving and calibration, call by call.

    python benchmarks/two_builds.py BEFORE AFTER [--scripts FOLDER] [--only extract] [--seconds 150]

BEFORE and AFTER are folders that hold a package `boresight` each. Every build has a process of its
own, and they take turns call by call, so that the machine's load hits both alike. Prints, for each
task, the median CPU time of both builds in milliseconds, the median of the ratios of the turns with
their quartiles, and the accuracy of both. One thread; the tasks are those of `extract.py`,
`solve.py` and `calibrate.py` in FOLDER, at small settings: give the scripts of the older build if
names have changed since.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Task = tuple[Callable[[], Any], Callable[[Any], str]]
"""Function to be timed, and the words for its result."""

SOLVED = (
    "noise 0.5 px", "25 % false, 20 % missing", "50 % false, 20 % missing",
    "scale ± 30 %, 25 % false, 20 % missing", "random", "random, scale ± 30 %",
)  # fmt: skip
NUM_FIELDS, NUM_RANDOM = 40, 4
MODELS: tuple[dict[str, Any], ...] = (
    {"order": 7}, {"model": "radial"}, {"order": "auto"}, {"model": "auto"},
)  # fmt: skip


def extractions() -> Iterator[tuple[str, Task]]:
    """Extract the stars of one frame by each method."""
    import extract

    image, truth = extract.simulate(np.random.default_rng(1), 3000, 2.0, 1.0)
    peak = extract.profile(np.zeros(1), np.full(1, 2.0), 0)[0, 0] ** 2
    saturated = truth[:, 2] * peak + extract.SKY > 0.98 * extract.FULL_WELL
    for name, method in extract.methods(2.0).items():
        if name.startswith("boresight"):
            accuracy = lambda found: extract.score(found, truth, saturated)  # noqa: E731
            yield f"extract, {name[10:]}", (lambda method=method: method(image), accuracy)


def fields() -> Iterator[tuple[str, Task]]:
    """Solve fields lost in space."""
    import solve

    import boresight

    simulator = solve.Simulator(boresight.Catalog.gaia(), 1)
    for fov in (5.0, 10.0, 20.0):
        made = solve.databases(max_fov_deg=fov)["boresight"]
        for name, properties, error in solve.rate_settings():
            if name in SOLVED:
                yield (
                    f"solve, {fov:.0f}°, {name}",
                    field_task(simulator, made, fov, properties, error),
                )


def field_task(simulator: Any, made: Any, fov: float, properties: Any, error: float) -> Task:
    """Solve some fields of one kind."""
    import solve

    count = NUM_RANDOM if properties is None else NUM_FIELDS
    shown = [
        simulator.random(fov, (15, 40))
        if properties is None
        else simulator.field(fov, **properties)
        for _ in range(count)
    ]
    off = 1.0 + simulator.rng.uniform(-error, error, count) * (error > 0.02)

    def run() -> list[Any]:
        return [
            made.solve_from_centroids(
                one.stars, fov_estimate_deg=fov / wrong, image_shape=solve.SHAPE,
                fov_max_error_deg=1.02 * error * fov / wrong,
            )
            for one, wrong in zip(shown, off, strict=True)
        ]  # fmt: skip

    def accuracy(found: list[Any]) -> str:
        good = [
            solution is not None
            and one.error_px(*solution.pixel_to_world(0.0, 0.0)) < solve.GOOD_PX
            for solution, one in zip(found, shown, strict=True)
        ]
        return f"{sum(good)} of {count}"

    return run, accuracy


def calibrations() -> Iterator[tuple[str, Task]]:
    """Calibrate ten frames, from true positions with noise and from extracted ones."""
    import calibrate

    import boresight

    truths = list(calibrate.simulated())
    times, shape = [truth.time for truth in truths], truths[0].image.shape
    rng = np.random.default_rng(5)

    def extracted(image: Any, mask: Any) -> Any:
        return boresight.extract_centroids(image, mask=mask, **calibrate.EXTRACTION).centroids

    kinds = {
        "true": [calibrate.true_positions(truth, rng) for truth in truths],
        "extracted": [extracted(truth.image, truth.mask) for truth in truths],
    }

    def accuracy(result: Any) -> str:
        lengths, ratios = calibrate.errors(result, truths)
        return f"{calibrate.rms(lengths):.3f} arcsec, {calibrate.rms(ratios):.2f} sigma"

    for kind, stars in kinds.items():
        for options in MODELS:
            run = lambda stars=stars, options=options: boresight.calibrate(  # noqa: E731
                stars, times=times, image_shape=shape, fov_estimate_deg=calibrate.FOV_DEG, **options
            )
            words = " ".join(f"{key} {value}" for key, value in options.items())
            yield f"calibrate, {kind} positions, {words}", (run, accuracy)


KINDS = {"extract": extractions, "solve": fields, "calibrate": calibrations}


def work(kinds: list[str]) -> None:
    """Do what is asked for on the standard input, in the process of one build."""
    tasks: dict[str, Task] = {}
    for kind in kinds:
        tasks |= dict(KINDS[kind]())
    print(json.dumps(list(tasks)), flush=True)
    for line in sys.stdin:
        run, accuracy = tasks[line.rstrip("\n")]
        begin = time.process_time()
        result = run()
        print(json.dumps([1e3 * (time.process_time() - begin), accuracy(result)]), flush=True)


def main() -> None:
    """Let both builds take turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--scripts", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", choices=KINDS, help="tasks of one kind")
    parser.add_argument("--seconds", type=float, default=150.0)
    options = parser.parse_args()
    workers = []
    for folder in (options.before, options.after):
        env = os.environ | {"PYTHONPATH": str(folder.resolve()), "RAYON_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", __file__, "--work", str(options.scripts)]
        command += [options.only] if options.only else list(KINDS)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        workers.append(subprocess.Popen(command, env=env, **pipes))
    ready = [json.loads(worker.stdout.readline()) for worker in workers]
    names = [name for name in ready[0] if name in ready[1]]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    words: dict[str, list[str]] = {}
    end, turn = time.monotonic() + options.seconds, 0
    while turn < 2 or time.monotonic() < end:
        for name in names:
            found = [("", 0.0)] * 2
            for k in (turn % 2, 1 - turn % 2):
                workers[k].stdin.write(name + "\n")
                workers[k].stdin.flush()
                spent, accuracy = json.loads(workers[k].stdout.readline())
                found[k] = (accuracy, spent)
            times[name].append((found[0][1], found[1][1]))
            words[name] = [found[0][0], found[1][0]]
        turn += 1
    print(f"{turn} turns\n\n| task | before, ms | after, ms | ratio | before | after |")
    print("|---|---|---|---|---|---|")
    for name, turns in times.items():
        before, after = (statistics.median(column) for column in zip(*turns, strict=True))
        low, ratio, high = np.percentile([b / a for a, b in turns], [25, 50, 75])
        columns = [
            name, f"{before:.1f}", f"{after:.1f}", f"{ratio:.2f} ({low:.2f}-{high:.2f})",
            *words[name],
        ]  # fmt: skip
        print("|", " | ".join(columns), "|")
    for worker in workers:
        worker.stdin.close()
        worker.wait()


if __name__ == "__main__":
    if "--work" in sys.argv:
        sys.path.insert(0, sys.argv[2])
        work(sys.argv[3:])
    else:
        main()
