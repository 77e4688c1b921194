"""Imports go one way: between the packages of Python, and between the modules of the Rust core."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "python" / "boresight"
CORE = ROOT / "rust" / "core" / "src"
BORDER = ROOT / "rust" / "py" / "src"

#: Packages from the highest to the lowest, as in docs/design.md: each imports only those below it.
ORDER = (
    "__main__", "cli", "report", "batch", "plot", "movement", "scene", "alignment",
    "solver_database", "calibration", "simulate", "solver", "wcs",
    "database", "catalog", "camera", "extraction", "apparent", "frames", "cache", "_utils",
    "errors", "_core",
)  # fmt: skip

#: Modules of the core whose files form one subject: its head and its steps import each other.
ROOMS = ("imaging", "geometry", "index")


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path):
    """Modules of the package that a module imports when it runs, wherever in it."""
    found = set()

    def visit(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name.startswith("boresight"))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("boresight"):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in MODULES or name == "boresight._core" else node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def package_of(name):
    return name.split(".")[1] if "." in name else ""


GRAPH = {name: imports(path) - {name} for name, path in MODULES.items()}


def check_no_circle(graph):
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(error.args[1])}")


def test_every_package_has_its_place():
    assert {package_of(name) for name in MODULES} - {""} <= set(ORDER)


def test_nothing_imports_upwards():
    upward = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if package_of(name) and package_of(name) != package_of(other)
        if not package_of(other) or ORDER.index(package_of(other)) < ORDER.index(package_of(name))
    ]
    assert not upward


def test_no_module_is_in_a_circle():
    # What a package exports is the sum of its modules, which do not import it.
    heads = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    check_no_circle({name: GRAPH[name] for name in MODULES if name not in heads})


def test_nothing_imports_a_private_module_of_another_package():
    shared = {"boresight._utils", "boresight._core"}
    private = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if any(part.startswith("_") for part in other.split(".")[1:])
        and not any(other == s or other.startswith(f"{s}.") for s in shared)
        and package_of(other) != package_of(name)
    ]
    assert not private


def test_any_module_can_be_the_first():
    names = [name for name in MODULES if name != "boresight.__main__"]
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    for loaded in [m for m in sys.modules if m.startswith('boresight.')]:\n"
        "        if loaded != 'boresight._core': del sys.modules[loaded]\n"
        "    sys.modules.pop('boresight', None)\n"
        "    importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", program, *names], check=True)


def rust_module(path):
    parts = path.relative_to(CORE).with_suffix("").parts
    return "::".join(parts[:2] if parts[0] in ROOMS else parts[:1])


def test_the_core_has_no_circles():
    graph = {}
    for path in CORE.rglob("*.rs"):
        name = rust_module(path)
        if name in ("lib", *ROOMS):
            continue
        code = re.sub(r"//.*", "", path.read_text().split("#[cfg(test)]")[0])
        for first, second in re.findall(r"\bcrate::(\w+)(?:::(\w+))?", code):
            other = f"{first}::{second}" if first in ROOMS else first
            if other != name and first[0].islower():
                graph.setdefault(name, set()).add(other)
    assert "solve" in graph["calibrate"] or "matches" in graph["calibrate"]
    check_no_circle(graph)


def rust_imports(path, files):
    """Files of the core that one uses, but for its parents and children."""
    own = path.relative_to(CORE).with_suffix("").parts
    code = re.sub(r"//.*", "", path.read_text().split("#[cfg(test)]")[0])
    for start, names, braces in re.findall(
        r"\b(crate::(?:\w+::)*|(?:super::)+(?:\w+::)*)(?:(\w+)|\{([^;]*)\})", code
    ):
        steps = start.split("::")[:-1]
        base = own[: -steps.count("super")] if steps[0] == "super" else ()
        base += tuple(step for step in steps if step not in ("crate", "super"))
        for name in [names] if names else re.findall(r"\w+", braces):
            for other in ((*base, name), base):
                shorter = min(len(own), len(other))
                if other in files and own[:shorter] != other[:shorter]:
                    yield other
                    break


def test_files_of_the_core_have_no_circles():
    files = {path.relative_to(CORE).with_suffix("").parts: path for path in CORE.rglob("*.rs")}
    graph = {
        "::".join(name): {"::".join(other) for other in rust_imports(path, files)}
        for name, path in files.items()
        if "tests" not in path.stem
    }
    assert "solve::field" in graph["solve::fit"]
    check_no_circle(graph)


def test_work_of_many_threads_runs_on_those_of_its_process():
    # Elsewhere `parallel::detach` or a monitor does it: after a fork, other threads do not exist.
    alone = {"arrays", "database", "extract", "monitor", "parallel", "pictures", "solve"}
    found = {
        path.stem for path in BORDER.glob("*.rs") if re.search(r"\.detach\(", path.read_text())
    }
    assert found <= alone


def test_pixels_know_no_geometry():
    for path in (CORE / "imaging").rglob("*.rs"):
        assert "crate::geometry" not in path.read_text().split("#[cfg(test)]")[0], path
