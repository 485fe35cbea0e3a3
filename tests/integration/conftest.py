"""Every test over real sockets runs under asyncio and under uvloop."""

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
