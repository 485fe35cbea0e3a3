"""The buffer between a strategy and its sink: bounded, counted, and it keeps order."""

from collections.abc import Generator
from importlib import import_module
from typing import Any

import pytest

import qmtl_double

LIVE = qmtl_double.ComputeContext(world_id="w", execution_domain="live")
BACKTEST = qmtl_double.ComputeContext(execution_domain="backtest")


@pytest.fixture
def module() -> Generator[Any]:
    with qmtl_double.installed():
        yield import_module("beta_factory.runtime.qmtl_bridge.sink_buffer")


def taken(buffer: Any) -> list[Any]:
    items: list[Any] = []
    while (item := buffer.take()) is not None:
        items.append(item)
    return items


def test_observations_come_out_in_order_behind_their_context(module: Any) -> None:
    buffer = module.SinkBuffer(10, lambda: None)
    for ts in (1, 2):
        buffer.put(BACKTEST, (ts, 0, 0.1))
    buffer.put(LIVE, (3, 0, 0.1))
    equal = qmtl_double.ComputeContext(world_id="w", execution_domain="live")
    buffer.put(equal, (4, 0, 0.1))

    assert taken(buffer) == [
        BACKTEST,
        (1, 0, 0.1),
        (2, 0, 0.1),
        LIVE,
        (3, 0, 0.1),
        (4, 0, 0.1),
    ]


def test_a_full_buffer_gives_up_the_oldest_and_counts_it(module: Any) -> None:
    buffer = module.SinkBuffer(3, lambda: None)
    for ts in range(6):
        buffer.put(BACKTEST, (ts, 0, 0.1))

    assert len(buffer) == 3
    assert buffer.dropped == {"overflow": 4}
    assert taken(buffer) == [BACKTEST, (4, 0, 0.1), (5, 0, 0.1)]


def test_it_wakes_the_other_side_when_idle_and_when_a_bar_is_complete(
    module: Any,
) -> None:
    woken: list[int] = []
    buffer: Any = module.SinkBuffer(99, lambda: woken.append(buffer.n_observed), 3)
    for ts in (60, 120, 180):
        for slot in range(2 if ts == 120 else 3):
            buffer.put(BACKTEST, (ts, slot, 0.1))

    assert woken == [1, 3, 8]
    buffer.is_idle = True
    buffer.put(BACKTEST, (240, 0, 0.1))
    assert woken == [1, 3, 8, 9]
