"""Shared by all tests: deterministic hypothesis, an own cache, and a few things made once."""

import os
import signal
import tempfile
from pathlib import Path

import pytest
from astropy.utils import iers
from hypothesis import HealthCheck, settings

# Before anything imports the package or matplotlib.
_cache = tempfile.TemporaryDirectory(prefix="boresight-test-cache-")
os.environ["BORESIGHT_CACHE_DIR"] = _cache.name
os.environ["MPLBACKEND"] = "Agg"

# Tests send Ctrl-C, which is ignored where a shell runs the suite in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The Earth's rotation comes from the tables that astropy ships: no test needs the network.
iers.conf.auto_download = False

settings.register_profile(
    "boresight",
    derandomize=True,
    deadline=None,
    max_examples=int(os.environ.get("BORESIGHT_HYPOTHESIS_EXAMPLES", "50")),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("boresight")


@pytest.fixture(scope="session")
def reference():
    """Folder of real frames and simulators, which is not part of the project.

    Named by the environment variable BORESIGHT_REFERENCE, or ../shared beside the checkout; what
    needs it is skipped where it is absent.
    """
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("BORESIGHT_REFERENCE", beside))
    if not (folder / "frames" / "manifest.json").exists():
        pytest.skip("the folder of reference frames is absent; name it in BORESIGHT_REFERENCE")
    return folder


@pytest.fixture(scope="session")
def wide_database():
    """Hipparcos database for fields of 8 to 20 degrees."""
    from boresight import SolverDatabase

    return SolverDatabase.generate_from_hipparcos(max_fov_deg=20.0, min_fov_deg=8.0)


@pytest.fixture(scope="session")
def wide_frame():
    """Simulated frame of 12 degrees, 512 x 512, with truth."""
    from boresight import CameraModel, simulate_frame

    return simulate_frame(CameraModel.from_fov(12.0, (512, 512)), 83.8, -1.2, 30.0, seed=1)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Cache folder of one test, which does not exist yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("BORESIGHT_CACHE_DIR", str(folder))
    return folder
