"""A replay is the live path without the socket: the same bytes, however it is run."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from beta_factory.actors import BetaFactory, Factor, MarketBetaConfig
from beta_factory.messages import BetaUpdated, Status, encode
from beta_factory.runtime.bars import Bars
from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.observations import FrameFormat, asset_symbols, observe
from beta_factory.runtime.replay import Digest, Replayer, ReplaySummary
from strategies import wide_universe
from testkit import Flaky

CONFIG = MarketBetaConfig(lookback_length=20, min_observations=5)
MINUTE_NS = 60 * 10**9


def market(
    symbols: Sequence[str], n_bars: int = 60, *, missing: float = 0.1, seed: int = 1
) -> Bars:
    """Return bars of SPY and some symbols, a part of the cells missing."""
    rng = np.random.default_rng(seed)
    names = tuple(sorted({*symbols, "SPY"}))
    present = rng.random((n_bars, len(names))) >= missing
    present[0] = True
    stamps, ids = np.nonzero(present)
    return Bars(
        symbols=names,
        ts_events=np.arange(1, n_bars + 1) * MINUTE_NS,
        offsets=np.concatenate([[0], np.cumsum(present.sum(axis=1))]),
        symbol_ids=ids.astype(np.int32),
        period_returns=rng.normal(0, 0.001, len(stamps)),
        n_source_rows=len(stamps),
        source="market",
    )


def replay(
    bars: Bars,
    *,
    frame_format: FrameFormat = FrameFormat.COLUMNS,
    factors: Sequence[Factor] | None = None,
) -> tuple[ReplaySummary, list[BetaUpdated]]:
    factory = BetaFactory(
        asset_symbols(bars, "SPY"), factors=factors or [Factor("SPY", model=CONFIG)]
    )
    updates: list[BetaUpdated] = []
    replayer = Replayer(
        factory, ReplayClock(), on_updates=lambda some: updates.extend(some.as_rows())
    )
    return replayer.run(observe(bars, "SPY", frame_format=frame_format)), updates


@pytest.mark.parametrize("symbols", [("AAPL", "ZM"), wide_universe(100)], ids=len)
@pytest.mark.parametrize("missing", [0.0, 0.1, 0.8])
def test_single_and_columnar_messages_give_the_same_bytes(
    symbols: tuple[str, ...], missing: float
) -> None:
    bars = market(symbols, missing=missing)
    columns, _ = replay(bars)
    single, _ = replay(bars, frame_format=FrameFormat.SINGLE)
    assert columns.digest == single.digest
    assert columns.system == single.system


def test_a_replay_repeats_itself() -> None:
    bars = market(("AAPL", "IBM", "ZM"))
    assert len({replay(bars)[0].digest for _ in range(3)}) == 1


def test_the_digest_tells_one_market_from_another() -> None:
    digests = {replay(market(("AAPL",), seed=seed))[0].digest for seed in range(3)}
    assert len(digests) == 3


def test_the_digest_is_that_of_the_encoded_rows() -> None:
    summary, updates = replay(market(("AAPL", "ZM")))
    expected = hashlib.sha256(b"".join(map(encode, updates))).hexdigest()
    assert summary.digest == expected
    assert summary.system.n_updates == len(updates)


def test_an_empty_digest_is_that_of_nothing() -> None:
    digest = Digest()
    assert digest.hexdigest() == hashlib.sha256().hexdigest()
    assert digest.n_updates == 0


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_digest_does_not_depend_on_the_hash_seed(hash_seed: str) -> None:
    program = (
        "from test_replay import market, replay;"
        "print(replay(market(('AAPL', 'IBM', 'ZM')))[0].digest)"
    )
    here = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": f"{here}:{here.parent / 'support'}",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == replay(market(("AAPL", "IBM", "ZM")))[0].digest


def test_bars_without_a_benchmark_complete_no_pair_and_are_counted() -> None:
    bars = market(("AAPL",), missing=0.0)
    keep = (bars.symbol_ids != 1) | (np.arange(len(bars.symbol_ids)) // 2 % 3 != 1)
    per_bar = np.add.reduceat(keep, bars.offsets[:-1])
    gappy = Bars(
        symbols=bars.symbols,
        ts_events=bars.ts_events,
        offsets=np.concatenate([[0], np.cumsum(per_bar)]),
        symbol_ids=bars.symbol_ids[keep],
        period_returns=bars.period_returns[keep],
        n_source_rows=int(keep.sum()),
        source="gappy",
    )
    columns, updates = replay(gappy)
    single, _ = replay(gappy, frame_format=FrameFormat.SINGLE)
    assert columns.digest == single.digest
    assert columns.system.n_bars == 40
    assert len([u for u in updates if u.status is not Status.STALE]) == 40
    # A bar without its benchmark is given up when the next one opens.
    assert columns.system.dropped == {"unpaired": 20}


def test_the_summary_says_what_was_done() -> None:
    clock = ReplayClock()
    factory = BetaFactory(("AAPL",), factors=[Factor("SPY", model=CONFIG)])
    stamps: list[int] = []

    def on_bar(ts_event: int) -> None:
        stamps.append(ts_event)
        clock.set(clock.time_ns() + 500_000_000)

    bars = market(("AAPL",), 10, missing=0.0)
    summary = Replayer(factory, clock).run(observe(bars, "SPY"), on_bar=on_bar)
    assert stamps == bars.ts_events.tolist()
    assert summary.elapsed_s == 5.0
    assert summary.n_messages == 1 + 2 * 10
    assert summary.system.n_pairs == summary.system.n_updates == 10


def test_several_factors_are_replayed_side_by_side() -> None:
    bars = market(("AAPL", "ZM"), missing=0.0)
    wide = MarketBetaConfig(lookback_length=40, min_observations=5)
    factors = [Factor("SPY", "short", CONFIG), Factor("SPY", "long", wide)]
    summary, updates = replay(bars, factors=factors)
    assert {update.factor for update in updates} == {"short", "long"}
    assert summary.system.n_updates == 2 * 2 * 60


def test_an_actor_that_fails_comes_back_in_replayed_time() -> None:
    # Backoffs are over in the time of the recording, so that they can be replayed too.
    bars = market(("AAPL", "ZM"), 10, missing=0.0)

    def run() -> tuple[ReplaySummary, list[int]]:
        factory = BetaFactory(("AAPL", "ZM"), factors=[Factor("SPY", model=CONFIG)])
        flaky = Flaky(factory.actors["AAPL"])
        flaky.poison[3 * MINUTE_NS] = ValueError("boom")
        factory.actors["AAPL"] = flaky  # type: ignore[assignment]
        summary = Replayer(factory, ReplayClock()).run(
            observe(bars, "SPY", frame_format=FrameFormat.SINGLE)
        )
        return summary, flaky.stamps

    first, second = run(), run()
    assert first[0].digest == second[0].digest
    summary, stamps = first
    assert summary.system.n_restarts == 1
    assert summary.system.n_dead_letters == 1
    assert stamps == [ts for ts in bars.ts_events.tolist() if ts != 3 * MINUTE_NS]


def test_one_that_fails_in_the_last_bar_leaves_its_mail_to_the_dead_letters() -> None:
    bars = market(("AAPL",), 5, missing=0.0)
    factory = BetaFactory(("AAPL",), factors=[Factor("SPY", model=CONFIG)])
    flaky = Flaky(factory.actors["AAPL"])
    flaky.poison[5 * MINUTE_NS] = ValueError("boom")
    factory.actors["AAPL"] = flaky  # type: ignore[assignment]
    summary = Replayer(factory, ReplayClock()).run(
        observe(bars, "SPY", frame_format=FrameFormat.SINGLE)
    )
    assert summary.system.n_dead_letters == 1
    assert summary.system.dropped == {"undeliverable": 1}
