"""The bridge's page of signatures, the double and the real qmtl agree."""

import ast
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

import qmtl_double
from beta_factory.runtime.qmtl_bridge import signatures

ROOT: Final = Path(__file__).resolve().parents[3]
OURS: Final = {
    "set_no_ray",
    "set_fixed_now",
    "Metric",
    "Callable",
    "Protocol",
    "T",
    "Payload",
}
PRIVATE: Final = {"NodeCache"}
"""Reached through a node, never by name."""

Shape = list[tuple[str, str, bool]]


def shape(function: Any) -> Shape:
    """Return (name, kind, whether there is a default) of every parameter."""
    return [
        (name, str(parameter.kind), parameter.default is not parameter.empty)
        for name, parameter in inspect.signature(function).parameters.items()
    ]


def declared() -> Iterator[tuple[str, Any]]:
    """Yield everything that the page declares, methods as ``Class.method``."""
    for name, value in vars(signatures).items():
        if getattr(value, "__module__", "") != signatures.__name__ or name in OURS:
            continue
        if not inspect.isclass(value):
            yield name, value
            continue
        if "__init__" in vars(value) and not getattr(value, "_is_protocol", False):
            yield f"{name}.__init__", value.__init__
        for method, function in vars(value).items():
            if (
                not method.startswith("_")
                and callable(getattr(function, "__func__", function))
                and not isinstance(function, type)
            ):
                yield f"{name}.{method}", getattr(value, method)


NAMES: Final = [name for name, _ in declared()]


def found(module: Any, name: str) -> Any:
    owner, _, member = name.partition(".")
    value = getattr(module, owner)
    return getattr(value, member) if member else value


@pytest.mark.parametrize("name", NAMES)
def test_double_has_the_declared_signature(name: str) -> None:
    assert shape(found(qmtl_double, name)) == shape(found(signatures, name))


@pytest.mark.qmtl
@pytest.mark.parametrize("name", NAMES)
def test_real_qmtl_has_the_declared_signature(name: str, real_bridge: Any) -> None:
    sdk = import_module("beta_factory.runtime.qmtl_bridge.sdk")
    if name.partition(".")[0] in PRIVATE:
        cache = import_module("qmtl.runtime.sdk.cache")
        assert shape(found(cache, name)) == shape(found(signatures, name))
    else:
        assert shape(found(sdk, name)) == shape(found(signatures, name))


def test_the_double_replaces_all_that_the_door_imports() -> None:
    tree = ast.parse((ROOT / "runtime/qmtl_bridge/sdk.py").read_text())
    imported = {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qmtl")
        for alias in node.names
    }
    places = qmtl_double.PLACES.items()

    assert {(place, name) for place, names in places for name in names} == imported


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


def test_only_the_door_of_the_bridge_imports_qmtl() -> None:
    folders = ("actors", "estimators", "messages", "runtime", "beta_factory")
    modules = {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if path.resolve() == path and "qmtl" in imports_of(path)
    }

    assert modules == {"runtime/qmtl_bridge/sdk.py"}


def test_the_package_imports_without_qmtl_and_the_door_says_how_to_get_it() -> None:
    code = (
        "import sys\n"
        "sys.modules['qmtl'] = None\n"
        "import beta_factory, beta_factory.runtime.sidecar, beta_factory.runtime.cli\n"
        "try:\n    import beta_factory.qmtl\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": ""},
    )

    (line,) = done.stdout.splitlines()
    assert line.startswith(
        "pip install 'hft-beta-factory[qmtl]' brings what is missing"
    )
    assert "qmtl" in line.partition("missing: ")[2]


def test_every_public_name_of_the_door_is_documented(bridge: ModuleType) -> None:
    aliases = {"BetaPayload", "Tick"}
    undocumented = [
        name
        for name in bridge.__all__
        if name not in aliases and not inspect.getdoc(getattr(bridge, name))
    ]

    assert undocumented == []
