"""Every public name has a page in the documentation, an example and types."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import boresight

API = Path(__file__).resolve().parents[1] / "docs" / "api.rst"

#: Packages whose names are public, besides those of `boresight` itself; and modules in them.
PACKAGES = [
    module.name
    for module in pkgutil.iter_modules(boresight.__path__)
    if module.ispkg and not module.name.startswith("_") and module.name not in ("cli", "report")
]
MODULES = ["cache", "errors", "solver.products"]

#: A section that sends the reader to the example of something else.
SEE = re.compile(r"Examples\n-+\n(?:See|As) `([\w.]+)`")


def is_ours(thing):
    """Whether something is a function or a class of the package."""
    known = inspect.isfunction(thing) or inspect.isclass(thing)
    return known and thing.__module__.startswith("boresight.")


def public_names():
    """Every public function and class by the shortest name under which it is reached."""
    found = {}
    for module in ["", *MODULES, *PACKAGES]:
        package = importlib.import_module(f"boresight.{module}".rstrip("."))
        for name in getattr(package, "__all__", dir(package)):
            thing = getattr(package, name)
            public = not name.startswith("_") and name != "CalibrateResult"  # the former name
            if public and is_ours(thing):
                found.setdefault(thing, f"{module}.{name}".lstrip("."))
    return {name: thing for thing, name in found.items()}


NAMES = public_names()


def is_shown(own):
    """Whether a class is what a function gives that has an example."""
    return any(
        inspect.isfunction(thing)
        and re.search(rf"\b{own}\b", str(thing.__annotations__.get("return")))
        and ">>>" in (inspect.getdoc(thing) or "")
        for thing in NAMES.values()
    )


def members(thing):
    """Public methods and properties that a class of the package defines."""
    if not inspect.isclass(thing):
        return
    for name, value in inspect.getmembers(thing):
        function = value.fget if isinstance(value, property) else value
        function = getattr(function, "func", getattr(function, "__func__", function))
        if not name.startswith("_") and is_ours(function):
            yield name, function


def test_there_are_names():
    assert {"solve", "Solution", "wcs.write_wcs", "plot.plot_sky"} <= set(NAMES)
    assert len(NAMES) > 60


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_name_has_a_page_with_an_example(name):
    pages = re.findall(r"^   ([\w.]+)$", API.read_text(encoding="utf-8"), re.MULTILINE)
    package, _, own = name.rpartition(".")
    listed = package in pages or any(page.rpartition(".")[2] == own for page in pages)
    # The page of a package lists all of its names.
    packages = [getattr(boresight, page) for page in pages if hasattr(boresight, page)]
    listed |= any(getattr(package, own, None) is NAMES[name] for package in packages)
    assert listed, "add it to docs/api.rst"
    thing, doc = NAMES[name], inspect.getdoc(NAMES[name])
    assert doc, "write a docstring"
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return
    other = SEE.search(doc)
    if other:
        named = other[1].removeprefix("boresight.").partition(".")[0]
        targets = [n for n in NAMES if n.rpartition(".")[2] == other[1].rpartition(".")[2]]
        docs = [inspect.getdoc(NAMES[target]) for target in targets or [named]]
        assert any(">>>" in text for text in docs), f"{other[1]} has no example"
    else:
        assert ">>>" in doc or is_shown(own), "add an example to its docstring"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_name_has_types(name):
    thing = NAMES[name]
    functions = dict(members(thing)) | ({"": thing} if inspect.isfunction(thing) else {})
    for method, function in functions.items():
        assert inspect.getdoc(function), f"{name}.{method} has no docstring"
        parameters = inspect.signature(function).parameters
        typed = [p for p in parameters if p not in ("self", "cls")] + ["return"]
        missing = [p for p in typed if p not in function.__annotations__]
        assert not missing, f"{name}.{method}: {missing}"
