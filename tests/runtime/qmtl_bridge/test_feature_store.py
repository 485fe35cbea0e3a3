"""The feature store keeps what it is given, by qmtl's key, one row per value."""

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qmtl_double
from beta_factory.messages import ConfigError
from qmtl_market import BENCHMARK, weekday_market
from qmtl_strategy import CONFIG, PERIOD
from strategies import characters, examples

Key = qmtl_double.FeatureArtifactKey
with qmtl_double.installed() as _bridge:
    Store = _bridge.SQLiteFeatureStore
SERIES: dict[str, Any] = {
    "factor": "f",
    "interval": 60,
    "params": "p",
    "instrument": "AAPL",
    "dataset_fingerprint": "d",
}


def key(ts: int, version: int = 1, **changes: Any) -> Any:
    fields: dict[str, Any] = dict(SERIES)
    fields.update(timestamp=ts, version=version, **changes)
    return Key(**fields)


@pytest.fixture
def store(bridge: Any, tmp_path: Path) -> Any:
    return bridge.SQLiteFeatureStore(tmp_path / "beta.db")


def test_values_come_back_in_order_and_in_range(store: Any) -> None:
    for ts in (180, 60, 120):
        store.write(key(ts), {"symbol": "AAPL", "beta": np.float64(ts / 100)})

    assert store.load_series(**SERIES) == [
        (60, {"symbol": "AAPL", "beta": 0.6}),
        (120, {"symbol": "AAPL", "beta": 1.2}),
        (180, {"symbol": "AAPL", "beta": 1.8}),
    ]
    loaded = store.load_series(**SERIES, start=120, end=180)
    assert [ts for ts, _ in loaded] == [120, 180]
    assert store.count(**SERIES) == 3


def test_every_part_of_the_key_counts(store: Any) -> None:
    store.write(key(60), 1)
    others: dict[str, Any] = {
        "factor": "g",
        "interval": 61,
        "params": "q",
        "instrument": "MSFT",
        "dataset_fingerprint": "e",
    }
    for name, value in others.items():
        store.write(key(60, **{name: value}), 2)

    assert store.load_series(**SERIES) == [(60, 1)]
    for name, value in others.items():
        assert store.load_series(**{**SERIES, name: value}) == [(60, 2)]
    listed = store.list_instruments(factor="f", params="p", dataset_fingerprint="d")
    assert listed == ["AAPL", "MSFT"]


def test_newest_version_is_read_and_a_value_can_be_written_again(store: Any) -> None:
    store.write(key(60, 1), "old")
    store.write(key(60, 2), "new")
    store.write(key(60, 1), "older")

    assert store.load_series(**SERIES) == [(60, "new")]
    assert store.count(**SERIES) == 1


def test_another_connection_sees_it_and_the_file_may_hold_more(
    bridge: Any, tmp_path: Path
) -> None:
    path = tmp_path / "beta.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE journal (n INTEGER)")
    other.close()
    first, second = (bridge.SQLiteFeatureStore(path) for _ in range(2))
    first.write(key(60), 1.5)

    assert second.load_series(**SERIES) == [(60, 1.5)]
    first.close()
    second.close()


def test_file_that_is_no_database_is_refused(bridge: Any, tmp_path: Path) -> None:
    path = tmp_path / "beta.db"
    path.write_text("not a database, but long enough to be read as one" * 20)

    with pytest.raises(ConfigError, match="file is not a database"):
        bridge.SQLiteFeatureStore(path)


def test_what_is_no_data_is_refused(store: Any) -> None:
    with pytest.raises(TypeError, match="a feature is made of numbers and text"):
        store.write(key(60), object())
    assert store.count(**SERIES) == 0


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(characters),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(characters), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.integers(0, 2**40), values, max_size=20))
@examples(20)
def test_any_data_reads_back_as_it_was(series: dict[int, Any]) -> None:
    store = Store(":memory:")
    for ts, value in series.items():
        store.write(key(ts), value)
    assert store.load_series(**SERIES) == sorted(series.items())
    store.close()


@pytest.mark.qmtl
@pytest.mark.parametrize(
    ("domain", "n_written"), [("backtest", 39), ("live", 0), ("shadow", 0)]
)
def test_only_the_write_domains_write(
    real_bridge: Any, tmp_path: Path, domain: str, n_written: int
) -> None:
    from importlib import import_module  # noqa: PLC0415

    bridge = real_bridge
    sdk = import_module("beta_factory.runtime.qmtl_bridge.sdk")
    market = weekday_market(40, ("AAPL",))
    inputs = {
        symbol: sdk.StreamInput(
            interval=market.interval, period=PERIOD, config={"symbol": symbol}
        )
        for symbol in market.frames
    }
    feed = bridge.make_market_beta_feed(inputs, BENCHMARK, config=CONFIG)
    nodes = [*inputs.values(), *feed]
    for node in nodes:
        node.apply_compute_context(
            sdk.ComputeContext(world_id="w", execution_domain=domain)
        )
    plane = bridge.feature_plane(tmp_path / "beta.db", dataset_fingerprint="lake:1")
    before = sdk.Runner.feature_artifact_plane()
    sdk.Runner.set_feature_artifact_plane(plane)
    try:
        pipeline = sdk.Pipeline(nodes)
        for ts, symbol, row in market.ticks():
            pipeline.feed(inputs[symbol], ts, row)
    finally:
        sdk.Runner.set_feature_artifact_plane(before)

    beta = feed.betas["AAPL"]
    series = plane.load_series(beta, instrument="AAPL")
    assert plane.count(beta, instrument="AAPL") == len(series) == n_written
    assert list(plane.list_instruments(beta)) == (["AAPL"] if n_written else [])
    for ts, payload in series:
        assert bridge.read_beta(payload).ts_event == ts * 10**9
