"""Every test of the bridge runs on the double, and on the real qmtl where it is."""

from collections.abc import Generator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import qmtl_double

HAS_QMTL = find_spec("qmtl") is not None
WITHOUT = "qmtl is not installed: pip install 'hft-beta-factory[qmtl]'"

BOTH = [
    pytest.param("double"),
    pytest.param(
        "real",
        marks=[pytest.mark.qmtl, pytest.mark.skipif(not HAS_QMTL, reason=WITHOUT)],
    ),
]


@pytest.fixture(scope="session")
def real_bridge() -> Any:
    """`beta_factory.qmtl` on the real qmtl."""
    if not HAS_QMTL:
        pytest.skip(WITHOUT)
    return import_module("beta_factory.qmtl")


@pytest.fixture(params=BOTH)
def bridge(request: pytest.FixtureRequest) -> Generator[Any]:
    """`beta_factory.qmtl`, on the double and on the real qmtl."""
    if request.param == "double":
        with qmtl_double.installed() as module:
            yield module
    else:
        yield request.getfixturevalue("real_bridge")


@pytest.fixture
def sdk(bridge: Any) -> Any:
    """The qmtl that the bridge was imported with."""
    return import_module("beta_factory.runtime.qmtl_bridge.sdk")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where no ``qmtl.yml`` and no snapshot of another run is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
