"""The section in qmtl's file: strict inside, blind outside, and good for both sides."""

from pathlib import Path
from typing import Any

import pytest

from beta_factory.messages import ConfigError
from beta_factory.runtime.config_reader import load_config

pytest.importorskip("yaml", reason="PyYAML comes with the extra qmtl")

GOOD = """\
project:
  strategy_root: strategies
gateway:
  host: 0.0.0.0
beta_factory:
  symbols: [AAPL, "BRK.B"]
  server: {address: "unix:///tmp/beta.sock"}
  factors:
    market: {benchmark: SPY, lookback_length: 120}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "qmtl.yml"
    path.write_text(GOOD)
    return path


def test_strategy_and_sidecar_read_the_same(bridge: Any, file: Path) -> None:
    config = bridge.load_qmtl_config(environ={})

    assert config == load_config(file, {})
    assert config.symbols == ("AAPL", "BRK.B")
    assert config.factors[0].model.lookback_length == 120


def test_variables_in_qmtls_manner_override(bridge: Any, file: Path) -> None:
    environ = {
        "QMTL__BETA_FACTORY__FACTORS__MARKET__LOOKBACK_LENGTH": "240",
        "QMTL__GATEWAY__HOST": "elsewhere",
        "BETA_FACTORY__FACTORS__MARKET__LOOKBACK_LENGTH": "300",
    }

    config = bridge.load_qmtl_config(file, environ)

    assert config.factors[0].model.lookback_length == 240


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "lookback_length",
            "lookback",
            "beta_factory.factors.market.lookback: unknown key",
        ),
        ("server:", "servr:", "beta_factory.servr: unknown key"),
        ("120", "soon", "beta_factory.factors.market.lookback_length"),
        ("beta_factory:", "beta_factori:", "beta_factory: is missing"),
        ("[AAPL,", "[NO,", "beta_factory.symbols[0]: must be a string, was False"),
        ("project:", "project: [", "is not YAML"),
        (
            "  symbols:",
            "  factors: {}\n  symbols:",
            "line 6: 'factors' stands twice",
        ),
        ("  symbols:", "  7: x\n  symbols:", "beta_factory: a key must be a string"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(
    file: Path, old: str, new: str, problem: str
) -> None:
    file.write_text(GOOD.replace(old, new, 1))

    with pytest.raises(ConfigError) as caught:
        load_config(file, {})

    assert problem in str(caught.value)
    assert caught.value.source == str(file)


def test_unknown_variable_is_named(file: Path) -> None:
    with pytest.raises(ConfigError, match="QMTL__BETA_FACTORY__SERVER__ADRESS"):
        load_config(file, {"QMTL__BETA_FACTORY__SERVER__ADRESS": "x"})


def test_no_file_is_an_error_that_says_where(bridge: Any) -> None:
    with pytest.raises(ConfigError, match="is not in the working directory"):
        bridge.load_qmtl_config(environ={})


@pytest.mark.qmtl
def test_qmtl_itself_does_not_mind_the_section(real_bridge: Any, file: Path) -> None:
    from importlib import import_module  # noqa: PLC0415

    unified = import_module("qmtl.foundation.config").load_config(str(file))

    assert unified.gateway.host == "0.0.0.0"
    assert real_bridge.load_qmtl_config(file, {}).symbols == ("AAPL", "BRK.B")
