"""An error names an argument and comes soon, whatever arguments a public function gets."""

import inspect
import os
import random
import re
import signal

import numpy as np
import pytest

import boresight
from boresight import (
    ApparentPlace,
    BoresightError,
    CameraModel,
    Catalog,
    Centroids,
    InputError,
    SolverDatabase,
)
from test_public_api import NAMES

#: Random calls of each function; docs/reliability.md tells of the long version.
CALLS = int(os.environ.get("BORESIGHT_RANDOM_CALLS", "12"))
#: Another seed makes other calls.
SEED = os.environ.get("BORESIGHT_RANDOM_SEED", "")

#: Seconds that one may take: some make a database first, and the machine may be busy.
SECONDS = 20

#: Functions that ask the network, draw or empty the cache; and enumerations and results, whose
#: constructors are Python's own or not for users.
LEFT_OUT = frozenset(
    {
        "CentroidFlags", "alignment.Reason", "cache.clear", "clear", "count", "from_gaia",
        "from_vizier", "index", "plot", "scene.SceneResult",
    }
)  # fmt: skip

#: Work that is long with the defaults is asked for in the smallest amount; nobody comes to a page.
LITTLE = {
    "certify": {"num_fields": 1, "kinds": ["random"]},
    "movement.manual_movement": {"timeout": 0.1},
}


@pytest.fixture(scope="module")
def things(wide_database):
    camera = CameraModel.from_fov(15.0, (128, 128))
    frame = boresight.simulate_frame(camera, 83.8, -1.2, seed=1)
    stars = boresight.extract_centroids(frame.image)
    solution = boresight.solve(stars, 15.0, database=wide_database)
    catalog = Catalog.hipparcos()[:50]
    right = {
        "image": [frame.image], "image_or_centroids": [frame.image, stars], "path": ["/no/x.fits"],
        "centroids": [stars, [stars]], "fov_deg": [15.0], "fov_estimate_deg": [15.0],
        "image_shape": [(128, 128)], "camera_model": [camera], "database": [wide_database],
        "results": [[solution], solution], "camera": [camera], "stars": [catalog],
        "max_fov_deg": [60, 40], "frames": [[frame.image]], "solution": [solution],
    }  # fmt: skip
    wrong = [
        None, True, False, 0, 1, -1, 10**30, 0.0, -2.5, 1e308, 1e-308, np.nan, np.inf, "", "abc",
        b"abc", (), (1, 2), (128, 128), (1e9, 1e9), [], [1, 2, 3], [[1, 2], [3, 4]], {}, {"a": 1},
        object(), lambda x: x, np.array([]), np.zeros((3, 3)), np.full((5, 2), np.nan),
        np.ones((128, 128)), np.array(["a"]), np.ones((2, 2), complex), np.array([None]),
        np.zeros((0, 2)), 3 + 4j, camera, frame, frame.image, stars, stars.centroids, solution,
        wide_database, catalog, [solution], [solution, None], [stars], range(5), slice(3), {1},
    ]  # fmt: skip
    return right, wrong, (camera, solution, wide_database, catalog, stars.centroids)


def public_functions(owners):
    for name, thing in sorted(NAMES.items()):
        is_error = inspect.isclass(thing) and issubclass(thing, Exception)
        if not is_error and not name.startswith("plot.") and name not in LEFT_OUT:
            yield name, thing
    for owner in (*owners, CameraModel, Catalog, SolverDatabase, Centroids, ApparentPlace()):
        for name in dir(owner):
            if name.startswith(("_", "save", "write")) or name in LEFT_OUT:
                continue
            function = getattr(owner, name)
            if inspect.ismethod(function):
                yield f"{type(owner).__name__}.{name}", function


def arguments_of(function, right, wrong, rng):
    chosen = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if parameter.default is parameter.empty or rng.random() < 0.3:
            given = right.get(parameter.name) if rng.random() < 0.7 else None
            chosen[parameter.name] = rng.choice(given or wrong)
    return chosen


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs alarms")
@pytest.mark.filterwarnings("ignore")
def test_errors_name_the_argument(things, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where functions that write do so
    right, wrong, owners = things

    def late(*_):
        raise AssertionError("late")

    before = signal.signal(signal.SIGALRM, late)
    faults = []
    try:
        for name, function in public_functions(owners):
            rng = random.Random(
                name + SEED
            )  # so that a new function changes no calls of the others
            for _ in range(CALLS):
                chosen = arguments_of(function, right, wrong, rng) | LITTLE.get(name, {})
                signal.setitimer(signal.ITIMER_REAL, SECONDS)
                try:
                    function(**chosen)
                except InputError as error:
                    if not any(
                        part.isidentifier()
                        for part in re.findall(r"\w+", str(error).partition(":")[0])
                    ):
                        faults.append((name, repr(error)))
                except (BoresightError, OSError, KeyError, IndexError):
                    pass
                except TypeError as error:
                    # Of a call that Python refuses: it names what is missing or unknown.
                    if not any(argument in str(error) for argument in chosen):
                        faults.append((name, repr(error), chosen))
                except BaseException as error:
                    faults.append((name, repr(error), chosen))
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not faults, faults[:5]
