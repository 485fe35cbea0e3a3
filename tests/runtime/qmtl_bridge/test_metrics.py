"""Metrics keep qmtl's conventions and show what happened."""

import re
from importlib import import_module
from typing import Any

import pytest

import qmtl_double
from beta_factory.messages import BetaUpdated, Reason, Status

UPDATE = BetaUpdated(
    factor="market",
    symbol="AAPL",
    benchmark="SPY",
    ts_event=60,
    beta=None,
    alpha=None,
    std_error=None,
    t_stat=None,
    r_squared=None,
    residual_std=None,
    n_obs=1,
    window_start=0,
    status=Status.WARMING,
    reason=Reason.TOO_FEW_PAIRS,
    revision=0,
    seq=1,
    ts_init=5_000_000,
)


def statistics(bridge: Any, **changes: Any) -> Any:
    return bridge.SinkStatistics(
        state=bridge.SinkState.LIVE,
        is_connected=True,
        n_observed=10,
        n_sent=8,
        n_acknowledged=6,
        n_pending=2,
        n_frames=4,
        n_connections=1,
        n_gaps=0,
        dropped={},
    )._replace(**changes)


@pytest.fixture
def metrics() -> Any:
    qmtl_double.DoubleMetric.by_name.clear()
    with qmtl_double.installed() as bridge:
        module = import_module("beta_factory.runtime.qmtl_bridge.metrics")
        yield bridge, module


def value(name: str, *labels: str) -> float:
    return qmtl_double.DoubleMetric.by_name[name].values.get(labels, 0.0)


def test_counters_grow_by_what_is_new(metrics: Any) -> None:
    bridge, module = metrics
    sink = module.SinkMetrics()
    sink.observe(statistics(bridge))
    sink.observe(statistics(bridge, n_observed=15, n_gaps=1, dropped={"overflow": 3}))
    sink.observe(
        statistics(bridge, n_observed=15, n_gaps=1, is_connected=False, n_pending=0)
    )

    assert value("market_beta_sink_observations_total") == 15
    assert value("market_beta_sink_acknowledged_total") == 6
    assert value("market_beta_sink_gaps_total") == 1
    assert value("market_beta_sink_dropped_total", "overflow") == 3
    assert value("market_beta_sink_connected") == 0
    assert value("market_beta_sink_pending") == 0


def test_round_trip_is_measured_where_there_is_a_time_of_day(metrics: Any) -> None:
    _, module = metrics
    updates = module.UpdateMetrics()
    updates.observe(UPDATE, 7_000_000)

    assert value("market_beta_updates_total", "market") == 1
    assert value("market_beta_round_trip_ms") == 2.0


def test_names_keep_the_conventions(metrics: Any) -> None:
    _, module = metrics
    module.SinkMetrics()
    module.UpdateMetrics()

    names = list(qmtl_double.DoubleMetric.by_name)
    assert len(names) == 11
    assert all(re.fullmatch(r"market_beta_[a-z_]+", name) for name in names)
    gauges = {"market_beta_sink_pending", "market_beta_sink_connected"}
    endings = {name.rpartition("_")[2] for name in names if name not in gauges}
    assert endings == {"total", "ms"}


@pytest.mark.qmtl
def test_qmtls_registry_has_them(real_bridge: Any) -> None:
    module = import_module("beta_factory.runtime.qmtl_bridge.metrics")
    factory = import_module("qmtl.foundation.common.metrics_factory")
    sink = module.SinkMetrics()
    name = "market_beta_sink_messages_total"
    counter = factory.get_or_create_counter(name, "")
    before = factory.get_metric_value(counter)

    sink.observe(statistics(real_bridge))

    assert factory.get_metric_value(counter) == before + 4
