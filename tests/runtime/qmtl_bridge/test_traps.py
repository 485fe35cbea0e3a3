"""Each trap of qmtl, sprung on the real thing, and how the bridge steps over it.

A test first shows that qmtl does what it is said to do: when an upgrade mends it, the
test fails, and the bridge can let go of what it does about it.
"""

import asyncio
import inspect
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from beta_factory import MarketBetaConfig
from beta_factory.messages import BacktestRejectedError
from qmtl_market import BENCHMARK, DAY, MINUTE, now_s, weekday_market
from qmtl_strategy import make_strategy

pytestmark = pytest.mark.qmtl

MONDAY = 4 * DAY  # 5 January 1970


class Calls:
    """What an ``event_service`` of qmtl has: writes down what it is called with."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, Any]] = []

    def record(self, node_id: str, interval: int, ts: int, payload: Any) -> None:
        self.rows.append((ts, payload))


@pytest.fixture
def bridge(real_bridge: Any) -> Any:
    return real_bridge


@pytest.fixture
def sdk(bridge: Any) -> Any:
    return import_module("beta_factory.runtime.qmtl_bridge.sdk")


def counting(seen: list[int], node: Any) -> Callable[[Any], Any]:
    def compute(view: Any) -> Any:
        ts, payload = view[node][node.interval][-1]
        seen.append(ts)
        return payload

    return compute


def chained(kind: Any, price: Any, seen: list[int]) -> Any:
    return kind(
        input=price,
        compute_fn=counting(seen, price),
        name="count",
        interval=price.interval,
        period=1,
    )


def test_session_gaps_are_dropped_by_qmtl_and_not_by_our_nodes(
    bridge: Any, sdk: Any
) -> None:
    price = sdk.StreamInput(interval=DAY, period=1, config={"symbol": "A"})
    theirs: list[int] = []
    ours: list[int] = []
    nodes = [
        price,
        chained(sdk.ProcessingNode, price, theirs),
        chained(bridge.GapTolerantNode, price, ours),
    ]
    pipeline = sdk.Pipeline(nodes)
    days = [MONDAY + DAY * d for d in range(14) if d % 7 < 5]
    for day in days:
        pipeline.feed(price, day, 1.0)

    assert days[5] not in theirs
    assert ours == days


def test_gap_tolerance_needs_no_on_missing_and_survives_fail(
    bridge: Any, sdk: Any
) -> None:
    price = sdk.StreamInput(interval=DAY, period=1, config={"symbol": "A"})
    seen: list[int] = []
    node = chained(bridge.GapTolerantNode, price, seen)
    strict = chained(sdk.ProcessingNode, price, [])
    for each in (node, strict):
        each.feed(price.node_id, DAY, MONDAY, 1.0, on_missing="fail")

    assert node.feed(price.node_id, DAY, MONDAY + 3 * DAY, 1.0, on_missing="fail")
    with pytest.raises(RuntimeError, match="gap detected"):
        strict.feed(price.node_id, DAY, MONDAY + 3 * DAY, 1.0, on_missing="fail")


def test_messages_of_one_bucket_compute_once_and_the_first_counts(
    bridge: Any, sdk: Any
) -> None:
    price = sdk.StreamInput(interval=MINUTE, period=2, config={"symbol": "A"})
    hook = Calls()
    node = bridge.asset_return_node(price, symbol="A")
    tap = sdk.ProcessingNode(
        input=node, name="tap", interval=MINUTE, period=1, event_service=hook
    )
    pipeline = sdk.Pipeline([price, node, tap])
    for ts, close in ((0, 100.0), (60, 110.0), (61, 500.0), (62, 1.0), (120, 121.0)):
        pipeline.feed(price, ts, close)

    assert [ts for ts, _ in hook.rows] == [60, 120]
    returns = [payload["period_return"] for _, payload in hook.rows]
    assert returns == [110 / 100 - 1, 121 / 110 - 1]


def test_two_inputs_fire_before_the_second_was_ever_fed(bridge: Any, sdk: Any) -> None:
    prices = [
        sdk.StreamInput(interval=60, period=2, config={"symbol": s}) for s in "AB"
    ]

    def impatient(view: Any) -> Any:
        return view[prices[1]][60][-1]

    def patient(view: Any) -> None:
        seen.append([bridge.recent(view, price, 2) for price in prices])

    seen: list[Any] = []
    naive = sdk.ProcessingNode(
        input=prices,
        compute_fn=impatient,
        name="naive",
        interval=60,
        period=1,
    )
    with pytest.raises(KeyError):
        sdk.Pipeline([*prices, naive]).feed(prices[0], 60, 1.0)
    wary = bridge.GapTolerantNode(
        input=prices, compute_fn=patient, name="wary", interval=60, period=1
    )
    sdk.Pipeline([*prices, wary]).feed(prices[0], 120, 2.0)
    assert seen == [[[(120, 2.0)], []]]

    asset = bridge.asset_return_node(prices[0], symbol="A")
    spy = bridge.benchmark_return_node(prices[1], symbol="B")
    config = MarketBetaConfig(lookback_length=5, min_observations=3)
    beta = bridge.market_beta_node(asset, spy, config)
    pipeline = sdk.Pipeline([*prices, asset, spy, beta])
    for ts in (60, 120, 180):  # never a benchmark: no error, and no beta
        pipeline.feed(prices[0], ts, 1.0 + ts)

    assert beta._updates == []


def test_late_bars_are_appended_last_and_make_no_return(bridge: Any, sdk: Any) -> None:
    price = sdk.StreamInput(interval=60, period=3, config={"symbol": "A"})
    node = bridge.asset_return_node(price, symbol="A")
    hook = Calls()
    tap = sdk.ProcessingNode(
        input=node, name="tap", interval=60, period=1, event_service=hook
    )
    pipeline = sdk.Pipeline([price, node, tap])
    for ts in (180, 240, 120):
        pipeline.feed(price, ts, float(ts))

    window = price.cache.get_slice(price.node_id, 60, count=3)
    assert [ts for ts, _ in window] == [180, 240, 120]
    assert [ts for ts, _ in hook.rows] == [240]
    assert node.chain.n_late == 1


def test_ray_is_switched_off(bridge: Any, sdk: Any) -> None:
    runtime = import_module("qmtl.runtime.sdk.runtime")
    with bridge.isolated_qmtl():
        assert runtime.NO_RAY is True


def test_tags_and_names_do_not_tell_inputs_apart_and_configs_do(
    bridge: Any, sdk: Any
) -> None:
    tagged = [
        sdk.StreamInput(tags=[f"asset.{s}"], interval="24h", period=5) for s in "AB"
    ]
    betas = [bridge.BetaInput(s, interval="24h", period=5) for s in "AB"]

    assert tagged[0].node_id == tagged[1].node_id
    assert betas[0].node_id != betas[1].node_id


def test_symbols_that_are_no_tags_are_symbols_all_the_same(
    bridge: Any, sdk: Any
) -> None:
    with pytest.raises(ValueError, match="tag must contain only"):
        sdk.StreamInput(tags=["BTC/USDT"], interval=60, period=1)

    price = sdk.StreamInput(interval=60, period=1, config={"symbol": "BTC/USDT"})
    node = bridge.asset_return_node(price, symbol="BTC/USDT")
    back = bridge.BetaInput("BTC/USDT", interval=60, period=1)

    assert node.symbol == back.symbol == "BTC/USDT"


def test_domain_and_world_in_a_config_are_stripped_from_the_id(
    bridge: Any, sdk: Any
) -> None:
    ids = {
        sdk.StreamInput(interval=60, period=1, config={"domain": d}).node_id
        for d in ("live", "backtest")
    }
    assert len(ids) == 1
    price = sdk.StreamInput(interval=60, period=1, config={"symbol": "A"})
    ours = bridge.asset_return_node(price, symbol="A").config

    assert not {"domain", "world", "world_id", "execution_domain", "as_of"} & set(ours)


def test_empty_view_is_true_and_has_no_length_so_it_is_never_asked(
    bridge: Any, sdk: Any
) -> None:
    view = sdk.CacheView({"n": {60: []}})
    leaf = view["n"][60]

    assert bool(leaf) is True
    assert not hasattr(leaf, "__len__")


def timed_backtest(bridge: Any, sdk: Any, provider: Any) -> tuple[float, list[int]]:
    seen: list[int] = []

    class Bars(sdk.Strategy):  # type: ignore[misc]
        def setup(self) -> None:
            price = sdk.StreamInput(
                interval=DAY,
                period=30,
                config={"symbol": BENCHMARK},
                history_provider=provider,
            )
            self.add_nodes([price, chained(bridge.GapTolerantNode, price, seen)])

    began = time.monotonic()
    bridge.run_backtest(Bars)
    return time.monotonic() - began, seen


class ShortCoverage:
    """A provider that says what it has; the clock of the poller runs ahead."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self.n_polls = 0

    def bind_stream(self, stream: Any) -> None: ...

    async def fetch(
        self, start: int, end: int, *, node_id: str, interval: int
    ) -> pl.DataFrame:
        return self.frame.filter((pl.col("ts") >= start) & (pl.col("ts") < end))

    async def coverage(self, *, node_id: str, interval: int) -> list[tuple[int, int]]:
        return [(self.frame["ts"][0], self.frame["ts"][-1])]

    async def ensure_range(self, *args: Any, **options: Any) -> None: ...

    async def fill_missing(self, *args: Any, **options: Any) -> None:
        self.n_polls += 1
        if self.n_polls > 1000:
            raise TimeoutError("polled without a pause")


def test_short_coverage_is_polled_without_a_pause_and_padding_ends_it(
    bridge: Any, sdk: Any
) -> None:
    frame = weekday_market(40, ()).frames[BENCHMARK].head(30)  # ends some days ago
    honest = ShortCoverage(frame)

    with pytest.raises(BacktestRejectedError, match="polled without a pause"):
        timed_backtest(bridge, sdk, honest)
    elapsed, seen = timed_backtest(bridge, sdk, bridge.PaddedHistory(honest))

    assert honest.n_polls == 1001
    assert len(seen) > 10
    assert elapsed < 30.0  # qmtl's own deadline is 60 s per input


def test_last_bar_is_not_loaded_by_an_honest_coverage_and_is_by_ours(
    bridge: Any, sdk: Any
) -> None:
    today = now_s() - now_s() % DAY
    stamps = [today - DAY * back for back in range(60, -1, -1)]
    frame = pl.DataFrame({"ts": stamps, "close": [100.0] * len(stamps)})

    _, theirs = timed_backtest(bridge, sdk, ShortCoverage(frame))
    _, ours = timed_backtest(bridge, sdk, bridge.FrameHistory({BENCHMARK: frame}))

    assert theirs[-1] == today - DAY
    assert ours[-1] == today


def test_snapshots_of_an_earlier_run_are_preferred_and_isolation_ends_it(
    bridge: Any, sdk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QMTL_DISABLE_GATEWAY_PROBE", "1")
    monkeypatch.setenv("QMTL_SNAPSHOT_DIR", str(tmp_path / "snapshots"))
    today = now_s() - now_s() % DAY

    def closes(level: float, *, isolated: bool) -> list[float]:
        seen: list[float] = []
        stamps = [today - DAY * back for back in range(40, -1, -1)]
        frame = pl.DataFrame({"ts": stamps, "close": [level] * len(stamps)})

        class Bars(sdk.Strategy):  # type: ignore[misc]
            def setup(self) -> None:
                price = sdk.StreamInput(
                    interval=DAY,
                    period=30,
                    config={"symbol": BENCHMARK},
                    history_provider=bridge.FrameHistory({BENCHMARK: frame}),
                )

                def see(view: Any) -> None:
                    seen.append(view[price][DAY][-1][1]["close"])

                node = bridge.GapTolerantNode(
                    input=price, compute_fn=see, name="see", interval=DAY, period=1
                )
                self.add_nodes([price, node])

        if isolated:
            bridge.run_backtest(Bars)
        else:
            sdk.Runner.submit(Bars, auto_validate=False)
        return seen

    assert set(closes(100.0, isolated=False)) == {100.0}
    assert 100.0 in closes(200.0, isolated=False)
    assert set(closes(300.0, isolated=True)) == {300.0}


def test_error_of_a_node_is_a_field_of_the_result_and_here_an_error(
    bridge: Any, sdk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QMTL_DISABLE_GATEWAY_PROBE", "1")
    market = weekday_market(40, ("AAPL",))
    frames = {s: f.rename({"close": "last"}) for s, f in market.frames.items()}
    strategy = make_strategy(bridge, sdk, type(market)(market.interval, frames))

    assert sdk.Runner.submit(strategy, auto_validate=False).status == "rejected"
    with pytest.raises(BacktestRejectedError, match="has no field 'close'"):
        bridge.run_backtest(strategy)


def test_input_without_a_provider_rejects_a_backtest_and_ours_have_one(
    bridge: Any, sdk: Any
) -> None:
    class Bare(sdk.Strategy):  # type: ignore[misc]
        def setup(self) -> None:
            self.add_nodes(sdk.StreamInput(interval=60, period=1))

    class Ours(sdk.Strategy):  # type: ignore[misc]
        def setup(self) -> None:
            self.add_nodes(bridge.BetaInput("AAPL", interval=60, period=1))

    with pytest.raises(BacktestRejectedError, match="StreamInput auto-wiring"):
        bridge.run_backtest(Bare)
    assert bridge.run_backtest(Ours).status == "pending"


def test_changing_the_domain_clears_the_caches_so_it_comes_first(
    bridge: Any, sdk: Any
) -> None:
    price = sdk.StreamInput(interval=60, period=2, config={"symbol": "A"})
    for ts in (60, 120):
        price.feed(price.node_id, 60, ts, 1.0)
    assert not price.pre_warmup

    price.apply_compute_context(
        sdk.ComputeContext(world_id="w", execution_domain="live")
    )
    price.feed(price.node_id, 60, 180, 1.0)

    assert price.pre_warmup
    assert len(price.cache.get_slice(price.node_id, 60, count=9)) == 1


def test_event_hook_is_called_before_gaps_and_warm_up_so_the_sink_hangs_there(
    bridge: Any, sdk: Any
) -> None:
    hook = Calls()
    price = sdk.StreamInput(
        interval=60, period=9, config={"symbol": "A"}, event_service=hook
    )
    for ts in (60, 600, 120):
        assert not price.feed(price.node_id, 60, ts, 1.0)

    assert [ts for ts, _ in hook.rows] == [60, 600, 120]


def test_submit_starts_no_live_loop_so_there_is_run_live(bridge: Any, sdk: Any) -> None:
    market = weekday_market(40, ("AAPL",))
    strategy = make_strategy(bridge, sdk, market)
    bridge.run_backtest(strategy)
    n_replayed = len(strategy.computed["AAPL"])
    last = market.ticks()[-1][0]

    async def tomorrow() -> Any:
        for symbol in market.frames:
            row = {"ts": last + DAY, "close": 100.0}
            yield bridge.Tick(strategy.prices[symbol], last + DAY, row)

    asyncio.run(bridge.run_live(strategy, [tomorrow()], "w"))

    assert n_replayed == 39
    assert len(strategy.computed["AAPL"]) == 39 + 39 + 1  # replay, warm-up, tomorrow


def test_intervals_are_at_most_a_day_and_daily_is_24h(bridge: Any, sdk: Any) -> None:
    for wrong in ("1d", "1w", "500ms"):
        with pytest.raises(ValueError, match="invalid time format"):
            sdk.StreamInput(interval=wrong, period=1)

    assert bridge.BetaInput("A", interval="24h", period=1).interval == DAY


def test_flattened_alias_of_the_sdk_is_broken_and_nobody_uses_it(bridge: Any) -> None:
    alias = import_module("qmtl.sdk")

    assert not hasattr(alias, "StreamInput")


def test_inputs_hold_every_bar_twice_after_a_replay_and_returns_come_once(
    bridge: Any, sdk: Any
) -> None:
    strategy = make_strategy(bridge, sdk, weekday_market(40, ("AAPL",)))
    bridge.run_backtest(strategy)
    price = strategy.prices["AAPL"]

    cached = [ts for ts, _ in price.cache.get_slice(price.node_id, DAY, count=5000)]
    stamps = [row["ts"] for row in strategy.computed["AAPL"]]

    assert len(cached) == 2 * len(set(cached)) == 80
    assert len(stamps) == len(set(stamps)) == 39


def test_seamless_provider_drops_its_newest_bars_and_frames_do_not(
    bridge: Any, sdk: Any
) -> None:
    seamless = import_module("qmtl.runtime.sdk.seamless_data_provider")
    options = inspect.signature(seamless.SeamlessDataProvider).parameters
    today = now_s() - now_s() % DAY
    frame = pl.DataFrame({"ts": [today - DAY, today], "close": [1.0, 2.0]})
    price = sdk.StreamInput(
        interval=DAY,
        period=5,
        config={"symbol": BENCHMARK},
        history_provider=bridge.FrameHistory({BENCHMARK: frame}),
    )

    loaded = asyncio.run(bridge.load_returns(price, 0, 2**40))

    assert options["stabilization_bars"].default == 2
    assert loaded.timestamps.tolist() == [today * 10**9]


def test_attribute_called_returns_is_taken_for_the_strategys_own(
    bridge: Any, sdk: Any
) -> None:
    class Unlucky(sdk.Strategy):  # type: ignore[misc]
        def setup(self) -> None:
            self.add_nodes(bridge.BetaInput("AAPL", interval=60, period=1))

        def returns(self) -> None: ...

    with pytest.raises(BacktestRejectedError, match="not iterable"):
        bridge.run_backtest(Unlucky)
