"""A file that is swept gives what it gives when it is replayed, to the last byte."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from beta_factory.actors import (
    BetaFactory,
    BetaTurns,
    Factor,
    MarketBetaConfig,
    sweep,
)
from beta_factory.messages import BetaUpdated, encode
from beta_factory.runtime import sweep as sweep_files
from beta_factory.runtime import update_batches
from beta_factory.runtime.bars import Bars
from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.observations import asset_symbols, observe
from beta_factory.runtime.replay import Replayer, ReplaySummary
from beta_factory.runtime.sweep import sweep_bars, sweep_of
from beta_factory.runtime.update_files import UpdateWriter
from strategies import examples, seeds, wide_universe

MINUTE_NS = 60 * 10**9
OPEN_NS = 1_700_000_040_000_000_000
PLAIN = MarketBetaConfig(12, 4)
MODELS = {
    "plain": PLAIN,
    "stale at once": MarketBetaConfig(12, 4, stale_after=1),
    "stale when nothing is left": MarketBetaConfig(12, 4, stale_after=15),
    "regular grid": MarketBetaConfig(12, 4, bar_interval="1min"),
    "with nights": MarketBetaConfig(
        12, 4, bar_interval="1min", overnight="include", stale_after=3
    ),
    "calendar": MarketBetaConfig(
        12, 4, bar_interval="1min", calendar="09:30-16:00 America/New_York"
    ),
}


def bars_of(
    returns: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    stamps: np.ndarray[tuple[int], np.dtype[np.int64]],
    symbols: Sequence[str],
) -> Bars:
    """Return bars from a table; NaN = missing, and a bar of nothing is none."""
    kept = ~np.isnan(returns).all(axis=1)
    rows, ids = np.nonzero(~np.isnan(returns[kept]))
    n_bars = int(kept.sum())
    return Bars(
        symbols=tuple(symbols),
        ts_events=stamps[kept],
        offsets=np.searchsorted(rows, np.arange(n_bars + 1)),
        symbol_ids=ids.astype(np.int32),
        period_returns=returns[kept][rows, ids],
        n_source_rows=len(rows),
        source="bars",
    )


@st.composite
def bar_files(draw: st.DrawFn) -> Bars:
    """Draw a file with holes in every place: cells, benchmark, bars, nights."""
    rng = np.random.default_rng(draw(seeds))
    n_bars, n_assets = draw(st.integers(1, 120)), draw(st.integers(1, 14))
    symbols = sorted({*wide_universe(n_assets), "SPY"})
    returns = rng.normal(size=(n_bars, len(symbols)))
    # Whole numbers make benchmarks that do not move.
    returns = returns.round(draw(st.sampled_from([0, 17])))
    returns[rng.random(returns.shape) < draw(st.sampled_from([0.0, 0.3, 0.9]))] = np.nan
    no_benchmark = rng.random(n_bars) < draw(st.sampled_from([0.0, 0.3]))
    no_benchmark[n_bars - draw(st.sampled_from([0, 0, 1, 16, 17, 30])) :] = True
    returns[no_benchmark, symbols.index("SPY")] = np.nan
    steps = rng.choice([1, 2, 5 * 60], p=[0.9, 0.08, 0.02], size=n_bars)
    return bars_of(returns, OPEN_NS + np.cumsum(steps) * MINUTE_NS, symbols)


def replayed(bars: Bars, factor: Factor) -> tuple[ReplaySummary, list[BetaUpdated]]:
    """Replay bar by bar; return the summary and all updates."""
    updates: list[BetaUpdated] = []
    factory = BetaFactory(asset_symbols(bars, factor.benchmark), factors=[factor])
    replayer = Replayer(
        factory, ReplayClock(), on_updates=lambda some: updates.extend(some.as_rows())
    )
    return replayer.run(observe(bars, factor.benchmark)), updates


def swept(bars: Bars, factor: Factor) -> tuple[ReplaySummary, list[BetaTurns]]:
    """Sweep; return the summary and all updates."""
    swept = sweep_of(bars, factor)
    assert swept is not None
    turns: list[BetaTurns] = []
    summary = sweep_bars(bars, swept, ReplayClock(), on_turns=turns.append)
    return summary, turns


@pytest.mark.parametrize("name", MODELS)
@examples(17)
@given(bars=bar_files())
def test_a_sweep_is_the_replay_byte_for_byte(name: str, bars: Bars) -> None:
    factor = Factor("SPY", "growth", MODELS[name])
    assume(sweep_of(bars, factor) is not None)
    summary, updates = replayed(bars, factor)
    ours, turns = swept(bars, factor)
    assert ours == summary
    assert [encode(row) for part in turns for row in part.as_rows()] == [
        encode(update) for update in updates
    ]


def test_a_wide_file_and_many_parts_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    symbols = sorted({*wide_universe(100), "SPY"})
    returns = rng.normal(size=(90, len(symbols)))
    returns[rng.random(returns.shape) < 0.2] = np.nan
    bars = bars_of(returns, OPEN_NS + np.arange(90) * MINUTE_NS, symbols)
    factor = Factor("SPY", model=PLAIN)
    summary, _ = replayed(bars, factor)
    whole, turns = swept(bars, factor)
    monkeypatch.setattr("beta_factory.estimators.sweep._BLOCK", 64)
    parts, more_turns = swept(bars, factor)
    assert summary == whole == parts
    assert len(turns) < len(more_turns)


def test_each_stamp_is_told_once_in_order() -> None:
    returns = np.random.default_rng(2).normal(size=(50, 3))
    returns[-5:, 2] = np.nan  # bars that end without an update
    bars = bars_of(returns, OPEN_NS + np.arange(50) * MINUTE_NS, ["A", "B", "SPY"])
    factor = Factor("SPY", model=PLAIN)
    swept = sweep_of(bars, factor)
    assert swept is not None
    told: list[int] = []
    sweep_bars(bars, swept, ReplayClock(), on_bar=told.append)
    assert told == bars.ts_events.tolist()


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("batch_rows", [7, 100_000])
def test_a_file_of_turns_is_that_of_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, batch_rows: int
) -> None:
    monkeypatch.setattr(update_batches, "BATCH_ROWS", batch_rows)
    rng = np.random.default_rng(3)
    returns = rng.normal(size=(40, 4))
    returns[rng.random(returns.shape) < 0.3] = np.nan
    bars = bars_of(returns, OPEN_NS + np.arange(40) * MINUTE_NS, ["A", "B", "C", "SPY"])
    _, turns = swept(bars, Factor("SPY", model=PLAIN))
    files = tmp_path / f"turns{suffix}", tmp_path / f"rows{suffix}"
    with UpdateWriter(files[0]) as ours, UpdateWriter(files[1]) as theirs:
        for part in turns:
            # One that came before, by another way in, stays before.
            ours.write_rows(part.as_rows()[:1])
            theirs.write_rows(part.as_rows()[:1])
            ours.write_turns(part)
            theirs.write_rows(part.as_rows())
        assert ours.n_updates == theirs.n_updates > len(turns)
    if suffix == ".parquet":
        assert_frame_equal(*map(pl.read_parquet, files), check_exact=True)
    else:
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    "model",
    [
        MarketBetaConfig(12, 4, window="pairs"),
        MarketBetaConfig(12, 4, window="session"),
        MarketBetaConfig("12min", 4, window="time"),
        MarketBetaConfig(half_life=5.0),
        MarketBetaConfig(12, 4, allowed_lateness=1),
        MarketBetaConfig(12, 4, stale_after="5min"),
        MarketBetaConfig(12, 4, max_abs_return=0.5),
        MarketBetaConfig(12, 4, frozen_after=3),
    ],
)
def test_a_model_that_needs_more_is_not_swept(model: MarketBetaConfig) -> None:
    assert not sweep.can_sweep(model)


def test_a_return_that_is_refused_or_a_huge_file_is_not_swept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stamps = OPEN_NS + np.arange(3) * MINUTE_NS
    factor = Factor("SPY", model=PLAIN)
    returns = np.array([[1.0, 1.0], [-1.0, 2.0], [1.0, -1.0]])
    assert sweep_of(bars_of(returns, stamps, ["A", "SPY"]), factor) is not None
    monkeypatch.setattr(sweep_files, "LARGEST_TABLE", 5)
    assert sweep_of(bars_of(returns, stamps, ["A", "SPY"]), factor) is None
    monkeypatch.undo()
    levels = 1e6 + np.arange(80.0).reshape(40, 2) % 7
    stamps_of_levels = OPEN_NS + np.arange(40) * MINUTE_NS
    longer = Factor("SPY", model=MarketBetaConfig(30, 4))
    assert sweep_of(bars_of(levels, stamps_of_levels, ["A", "SPY"]), longer) is None
    returns[1, 0] = -1e200
    assert sweep_of(bars_of(returns, stamps, ["A", "SPY"]), factor) is None
