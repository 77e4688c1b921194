"""The stub of the private extension module names exactly what is in it."""

import ast
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

import boresight
from boresight import _core

STUB = Path(boresight.__file__).with_name("_core.pyi")


def members(body):
    """Names that a stub defines, without imports and private ones."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign):
            yield node.target.id


def test_the_stub_and_the_module_have_the_same_names():
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    stubbed = {name for name in members(tree.body) if not name.startswith("_")}
    present = {name for name in dir(_core) if not name.startswith("_")}
    assert stubbed == present
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            stubbed = {name for name in members(node.body) if not name.startswith("__")}
            present = {
                name for name in vars(getattr(_core, node.name)) if not name.startswith("__")
            }
            assert stubbed == present, node.name


def test_mypy_finds_no_difference_between_stub_and_module(tmp_path):
    try:
        importlib.metadata.version("mypy")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("mypy is not installed")
    result = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "boresight._core"],
        capture_output=True, text=True, check=False,
        env=os.environ | {"MYPY_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


def test_everything_public_is_documented():
    for name in dir(boresight):
        thing = getattr(boresight, name)
        if name.startswith("_") or not getattr(thing, "__module__", "").startswith("boresight"):
            continue
        assert thing.__doc__, name
        for attribute, member in vars(thing).items() if isinstance(thing, type) else ():
            if not attribute.startswith("_") and (callable(member) or isinstance(member, property)):
                assert member.__doc__, f"{name}.{attribute}"
