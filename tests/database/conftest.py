"""A small database and its bytes."""

import pickle

import pytest

from boresight import SolverDatabase
from helpers import SMALL_DATABASE


@pytest.fixture(scope="module")
def database():
    return SolverDatabase.generate_from_hipparcos(**SMALL_DATABASE, cache=False)


@pytest.fixture(scope="module")
def content(database):
    return pickle.loads(pickle.dumps(database))._core.to_bytes()
