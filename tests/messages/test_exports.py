"""What the package shows: complete, documented, and made of msgspec and the stdlib."""

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from beta_factory import messages

FOLDER: Final = Path(inspect.getfile(messages)).parent
FILES: Final = sorted(FOLDER.glob("*.py"))
ALLOWED: Final = sys.stdlib_module_names | {"msgspec"}

every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def sort_key(name: str) -> tuple[int, str]:
    """Order as ruff sorts ``__all__``: CONSTANTS, Classes, functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def definitions(tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """Yield (name, docstring) of every public name that the module defines."""
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, ast.get_docstring(node)
            continue
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        doc = None
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            doc = str(after.value.value)
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, doc


def outside_imports(tree: ast.Module) -> Iterator[str]:
    """Yield what the module imports, functions included, that it must not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            roots = [node.module or ""]
        elif isinstance(node, ast.ImportFrom):
            sibling = f"{(node.module or '').partition('.')[0]}.py"
            if node.level > 1 or not (FOLDER / sibling).is_file():
                yield "." * node.level + (node.module or "")
            continue
        else:
            continue
        yield from (root for root in roots if root.partition(".")[0] not in ALLOWED)


def test_all_is_sorted_and_without_repetition() -> None:
    assert messages.__all__ == sorted(set(messages.__all__), key=sort_key)


def test_all_is_every_public_name_of_the_package() -> None:
    public = {
        name
        for name, value in vars(messages).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(messages.__all__) == public


@pytest.mark.parametrize("module", ["betas", "control", "errors", "returns"])
def test_every_public_class_is_exported(module: str) -> None:
    classes = {
        node.name
        for node in parse(FOLDER / f"{module}.py").body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }
    assert classes
    assert classes <= set(messages.__all__)


def test_star_import_gives_exactly_all() -> None:
    namespace: dict[str, object] = {}
    exec("from beta_factory.messages import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(messages.__all__)


@every_file
def test_module_and_its_public_names_have_docstrings(file: Path) -> None:
    tree = parse(file)
    assert ast.get_docstring(tree)
    undocumented = [
        name
        for name, doc in definitions(tree)
        if not name.startswith("_") and not (doc and doc.strip())
    ]
    assert undocumented == []


@every_file
def test_module_imports_only_msgspec_and_the_standard_library(file: Path) -> None:
    assert list(outside_imports(parse(file))) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import struct, msgspec.msgpack\nfrom .fields import Name", []),
        ("import numpy as np", ["numpy"]),
        ("def f():\n    from anyio.abc import Listener", ["anyio.abc"]),
        ("from ..actors import symbol", ["..actors"]),
        ("from .nowhere import thing", [".nowhere"]),
        ("from beta_factory.messages import decode", ["beta_factory.messages"]),
        ("import messages", ["messages"]),
    ],
)
def test_foreign_import_is_found(source: str, expected: list[str]) -> None:
    assert list(outside_imports(ast.parse(source))) == expected


def test_undocumented_name_is_found() -> None:
    source = 'A = 1\n"""Doc."""\nB: int = 2\nC = D = 3\nclass E: ...\ndef f(): "Doc."'
    found = dict(definitions(ast.parse(source)))
    assert found == {
        "A": "Doc.",
        "B": None,
        "C": None,
        "D": None,
        "E": None,
        "f": "Doc.",
    }
