"""Every test over real sockets runs under asyncio and under uvloop."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """The loop of a test that is marked ``anyio``."""
    return request.param


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    """Where a sidecar may listen."""
    return tmp_path / "beta.sock"


@pytest.fixture
def real_bridge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> object:
    """`beta_factory.qmtl` on the real qmtl, where no ``qmtl.yml`` is."""
    if find_spec("qmtl") is None:
        pytest.skip("qmtl is not installed: pip install 'hft-beta-factory[qmtl]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    return import_module("beta_factory.qmtl")
