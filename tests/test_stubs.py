"""The stub of the private extension module names exactly what is in it.

Signatures are compared by `mypy.stubtest`, in `make lint`.
"""

import ast
from pathlib import Path

import boresight
from boresight import _core

STUB = Path(boresight.__file__).with_name("_core.pyi")


def definitions(body):
    """Nodes by name of what a stub defines, but for what exists for the type checker alone."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            if not any(getattr(d, "id", "") == "type_check_only" for d in node.decorator_list):
                yield node.name, node
        elif isinstance(node, ast.AnnAssign):
            yield node.target.id, node


def test_the_stub_and_the_module_have_the_same_names():
    stubbed = dict(definitions(ast.parse(STUB.read_text(encoding="utf-8")).body))
    assert stubbed.keys() == {name for name in dir(_core) if not name.startswith("_")}
    for name, node in stubbed.items():
        if isinstance(node, ast.ClassDef):
            in_stub = {member for member, _ in definitions(node.body)}
            present = vars(getattr(_core, name))
            assert {m for m in in_stub if not m.startswith("_")} == {
                m for m in present if not m.startswith("_")
            }, name


def test_everything_public_is_documented():
    for name in dir(boresight):
        thing = getattr(boresight, name)
        if name.startswith("_") or not getattr(thing, "__module__", "").startswith("boresight"):
            continue
        assert thing.__doc__, name
        for attribute, member in vars(thing).items() if isinstance(thing, type) else ():
            if not attribute.startswith("_") and (callable(member) or isinstance(member, property)):
                assert member.__doc__, f"{name}.{attribute}"
