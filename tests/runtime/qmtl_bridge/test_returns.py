"""Return nodes: every session's return, once, and an id that says what it is."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from beta_factory.messages import ConfigError, PayloadError

DAY = 86_400
MONDAY = 4 * DAY  # 5 January 1970
MINUTE = 60


def weekdays(count: int) -> list[int]:
    days = (MONDAY + DAY * i for i in range(count * 2))
    return [day for day in days if (day // DAY + 3) % 7 < 5][:count]


class Recorded:
    """Whatever one node computes, in order."""

    def __init__(self, sdk: Any, node: Any, *upstreams: Any) -> None:
        self.rows: list[tuple[int, Any]] = []
        self._tap = sdk.ProcessingNode(
            input=node,
            name="tap",
            interval=node.interval,
            period=1,
            event_service=self,
            config={"tap": node.node_id},
        )
        self.pipeline = sdk.Pipeline([*upstreams, node, self._tap])

    def record(self, node_id: str, interval: int, ts: int, payload: Any) -> None:
        self.rows.append((ts, payload))

    @property
    def returns(self) -> list[float]:
        return [payload["period_return"] for _, payload in self.rows]


def price_input(sdk: Any, symbol: str = "AAPL", interval: int | str = "24h") -> Any:
    return sdk.StreamInput(interval=interval, period=2, config={"symbol": symbol})


@pytest.mark.parametrize("shape", ["scalar", "dict"])
def test_weekday_bars_give_every_return_mondays_included(
    bridge: Any, sdk: Any, shape: str
) -> None:
    days = weekdays(20)
    prices = (
        100 * np.cumprod(1 + np.random.default_rng(1).normal(size=20) / 100)
    ).tolist()
    price = price_input(sdk)
    node = bridge.asset_return_node(price, symbol="AAPL")
    seen = Recorded(sdk, node, price)

    for day, close in zip(days, prices, strict=True):
        payload = close if shape == "scalar" else {"ts": day, "close": close}
        seen.pipeline.feed(price, day, payload)

    expected = [b / a - 1.0 for a, b in pairwise(prices)]
    assert seen.returns == expected
    assert [ts for ts, _ in seen.rows] == days[1:]
    assert seen.rows[0][1] == {
        "ts": days[1],
        "symbol": "AAPL",
        "period_return": expected[0],
        "kind": "simple",
    }


def test_log_returns_are_logarithms(bridge: Any, sdk: Any) -> None:
    price = price_input(sdk, interval=MINUTE)
    node = bridge.asset_return_node(price, symbol="AAPL", kind="log")
    seen = Recorded(sdk, node, price)

    for ts, close in ((0, 100.0), (60, 110.0), (240, 99.0)):
        seen.pipeline.feed(price, ts, close)

    assert seen.returns == pytest.approx(np.log([1.1, 0.9]).tolist(), rel=1e-15)


def test_overnight_returns_can_be_left_out(bridge: Any, sdk: Any) -> None:
    price = price_input(sdk, interval=MINUTE)
    node = bridge.asset_return_node(price, symbol="AAPL", overnight="exclude")
    seen = Recorded(sdk, node, price)

    for ts in (0, 60, 180, DAY, DAY + 60):
        seen.pipeline.feed(price, ts, 100.0 + ts)

    assert [ts for ts, _ in seen.rows] == [60, 180, DAY + 60]


def test_missing_price_does_not_swallow_the_next_return(bridge: Any, sdk: Any) -> None:
    price = price_input(sdk, interval=MINUTE)
    node = bridge.asset_return_node(price, symbol="AAPL")
    seen = Recorded(sdk, node, price)

    for ts, close in ((0, 100.0), (60, None), (120, float("nan")), (180, 110.0)):
        seen.pipeline.feed(price, ts, {"close": close})

    assert seen.rows[0][0] == 180
    assert seen.returns == [110.0 / 100.0 - 1.0]
    assert node.chain.n_unpriced == 2


def test_late_and_repeated_bars_give_no_return(bridge: Any, sdk: Any) -> None:
    price = price_input(sdk, interval=MINUTE)
    node = bridge.asset_return_node(price, symbol="AAPL")
    seen = Recorded(sdk, node, price)

    for ts, close in ((0, 100.0), (120, 101.0), (60, 7.0), (130, 8.0), (180, 102.0)):
        seen.pipeline.feed(price, ts, close)

    assert [ts for ts, _ in seen.rows] == [120, 180]
    assert seen.returns == [101.0 / 100.0 - 1.0, 102.0 / 101.0 - 1.0]


def test_every_parameter_enters_the_node_id(bridge: Any, sdk: Any) -> None:
    price = price_input(sdk)
    make = bridge.asset_return_node
    nodes = [
        make(price, symbol="AAPL"),
        make(price, symbol="MSFT"),
        make(price, symbol="AAPL", field="open"),
        make(price, symbol="AAPL", kind="log"),
        make(price, symbol="AAPL", overnight="exclude"),
        make(price_input(sdk, "MSFT"), symbol="AAPL"),
        bridge.benchmark_return_node(price, symbol="AAPL"),
    ]

    assert len({node.node_id for node in nodes}) == len(nodes)
    assert make(price, symbol="AAPL").node_id == nodes[0].node_id


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"open": 1.0}, "has no field 'close'; its fields: 'open'"),
        ({"close": "1.0"}, "must be a number, was '1.0'"),
        (True, "must be a number, was True"),
    ],
)
def test_payload_without_a_price_is_an_error_that_names_the_place(
    bridge: Any, sdk: Any, payload: Any, reason: str
) -> None:
    price = price_input(sdk)
    seen = Recorded(sdk, bridge.asset_return_node(price, symbol="AAPL"), price)

    with pytest.raises(PayloadError) as caught:
        seen.pipeline.feed(price, DAY, payload)

    assert str(caught.value) == f"price of AAPL at {DAY}: {reason}"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"symbol": ""}, "symbol: must have 1 to 64 characters, had 0"),
        ({"symbol": "A", "kind": "ratio"}, "kind: must be simple or log, was 'ratio'"),
        (
            {"symbol": "A", "overnight": "maybe"},
            "overnight: must be include or exclude, was 'maybe'",
        ),
    ],
)
def test_unusable_parameters_are_refused(
    bridge: Any, sdk: Any, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        bridge.asset_return_node(price_input(sdk), **options)

    assert str(caught.value) == problem


def test_another_domain_begins_a_new_chain(bridge: Any, sdk: Any) -> None:
    price = price_input(sdk, interval=MINUTE)
    node = bridge.asset_return_node(price, symbol="AAPL")
    seen = Recorded(sdk, node, price)
    seen.pipeline.feed(price, 0, 100.0)

    for each in (price, node):
        each.apply_compute_context(
            sdk.ComputeContext(world_id="w", execution_domain="live")
        )
    seen.pipeline.feed(price, 60, 101.0)
    seen.pipeline.feed(price, 120, 102.0)

    assert seen.returns == [102.0 / 101.0 - 1.0]
