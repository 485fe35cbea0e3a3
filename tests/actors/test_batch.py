"""Whole series at once: the statuses of every bar, and what is refused."""

import random
from collections.abc import Sequence
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory import BetaSeries, MarketBetaConfig, compute_market_beta
from beta_factory.actors.guarded_series import guarded
from beta_factory.actors.openings import Openings
from beta_factory.actors.windows import windows_of
from beta_factory.estimators import FIELDS, Floats, over_series
from beta_factory.messages import InvalidReturnsError, Status
from exact import assert_matches_exact, exact_rolling_panel
from nasty import NASTY
from strategies import Market, examples, markets, seeds

CONFIG = MarketBetaConfig(5, 3, stale_after=2)
X = [0.1, -0.2, 0.3, 0.15, -0.1, 0.05, 0.2, -0.3]


def assert_same_bits(ours: BetaSeries, other: BetaSeries, n_bars: int) -> None:
    """Compare the first bars of two series; one NaN is as good as another."""
    for name in BetaSeries.__slots__:
        if name != "timestamps":
            one, two = (np.array(getattr(s, name))[:n_bars] for s in (ours, other))
            if one.dtype == np.float64:
                one[np.isnan(one)] = two[np.isnan(two)] = nan
            assert one.tobytes() == two.tobytes(), name


def statuses(series: BetaSeries) -> list[str]:
    return [Status(code).name for code in series.status.tolist()]


def market_betas(market: Market) -> dict[str, BetaSeries]:
    returns = dict(zip(market.symbols, market.returns.T, strict=True))
    return compute_market_beta(
        returns, market.benchmark, market.config, timestamps=list(market.stamps)
    )


def status_at(market: Market, row: int, bar: int) -> Status:
    """Return the status by the definitions of `Status`, from the raw returns."""
    config = market.config
    paired = [at for at in range(bar + 1) if not np.isnan(market.returns[at, row])]
    if paired and bar - paired[-1] >= (config.stale_bars or 0):
        return Status.STALE

    def in_window(end: int) -> list[int]:
        return [at for at in paired if end - config.n_bars < at <= end]

    if len(in_window(bar)) < config.min_observations:
        ever = any(len(in_window(at)) >= config.min_observations for at in paired)
        return Status.INSUFFICIENT if ever else Status.WARMING
    values = {float(market.benchmark[at]) for at in in_window(bar)}
    return Status.OK if len(values) > 1 else Status.ZERO_VARIANCE


@examples(40)
@given(markets(max_bars=24))
def test_every_bar_has_the_status_that_the_definitions_give_it(market: Market) -> None:
    betas = market_betas(market)
    for row, symbol in enumerate(market.symbols):
        expected = [status_at(market, row, bar).name for bar in range(market.n_bars)]
        assert statuses(betas[symbol]) == expected


@examples(27)
@given(markets())
def test_an_asset_is_computed_alike_alone_or_among_others(market: Market) -> None:
    together = market_betas(market)
    for row, symbol in enumerate(market.symbols):
        alone = compute_market_beta(
            {symbol: market.returns[:, row]}, market.benchmark, market.config
        )[symbol]
        assert_same_bits(together[symbol], alone, market.n_bars)


@pytest.mark.parametrize("name", ["clean", "spike_on_both", "gaps_in_benchmark"])
def test_numbers_are_those_of_exact_arithmetic(name: str) -> None:
    benchmark, assets = NASTY[name](300)
    config = MarketBetaConfig(30, 5, stale_after=30)
    betas = compute_market_beta(dict(enumerate(assets.T)), benchmark, config)  # type: ignore[arg-type]
    exact = exact_rolling_panel(benchmark, assets, 30, 5)

    class Panel:
        def __getattr__(self, field: str) -> object:
            return np.column_stack(
                [getattr(series, field) for series in betas.values()]
            )

    assert_matches_exact(Panel(), exact)  # type: ignore[arg-type]


@pytest.mark.parametrize("max_abs_return", [None, 1.2])
@examples(17)
@given(seeds)
def test_bars_that_no_row_has_and_rows_that_open_none_are_those_of_the_windows(
    max_abs_return: float | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    config = MarketBetaConfig(12, 3, bar_interval="1min", max_abs_return=max_abs_return)
    minutes = np.cumsum(rng.choice([1, 1, 1, 2, 5, 400], 60))
    stamps = minutes.astype(np.int64) * 60 * 10**9
    x = rng.normal(size=60)
    y = x[:, None] + rng.normal(size=(60, 3))
    y[rng.random(y.shape) < 0.1] = nan
    found = compute_market_beta(dict(zip("ABC", y.T, strict=True)), x, config, stamps)
    rows: list[tuple[int, float, Floats, list[int]]] = [
        (stamp, x[row], y[row], []) for row, stamp in enumerate(stamps.tolist())
    ]
    if config.is_guarded:
        opened, y, _ = guarded(config, Openings(config), rows, 3)
    else:
        openings = Openings(config)
        opened = [openings.next(stamp, value) for stamp, value, _, _ in rows]
    wanted = over_series(windows_of(config, 3), y, opened)
    for row, series in enumerate(found.values()):
        assert series.n_obs.tolist() == wanted.n_obs[:, row].tolist()
        for name in FIELDS:
            theirs = np.ascontiguousarray(getattr(wanted, name)[:, row])
            assert getattr(series, name).tobytes() == theirs.tobytes(), name


def test_a_series_runs_from_warming_over_gaps_to_stale() -> None:
    y = [0.2, nan, 0.5, 0.1, inf, nan, nan, 0.3]
    (series,) = compute_market_beta({"A": y}, X, CONFIG).values()
    assert series.n_obs.tolist() == [1, 1, 2, 3, 3, 2, 2, 2]
    assert np.isnan(series.beta).tolist() == [True] * 3 + [False] * 2 + [True] * 3
    assert statuses(series) == [
        "WARMING",
        "WARMING",
        "WARMING",
        "OK",
        "OK",
        "STALE",
        "STALE",
        "INSUFFICIENT",
    ]
    assert len(series) == 8


def test_a_row_without_a_benchmark_is_a_bar_without_a_pair() -> None:
    x = [0.1, -0.2, nan, 0.15, -inf, 0.05]
    y = [0.2, 0.1, 9.9, 0.1, 9.9, 0.4]
    (series,) = compute_market_beta(
        {"A": y}, x, MarketBetaConfig(4, 3, stale_after=2)
    ).values()
    assert series.n_obs.tolist() == [1, 2, 2, 3, 2, 2]


def test_what_live_would_refuse_is_missing_here_too() -> None:
    y = [0.2, 0.1, 0.5, 0.1, 1e200, 1e200, 1e200, 0.3]
    (series,) = compute_market_beta({"A": y}, X, CONFIG).values()
    (missing,) = compute_market_beta(
        {"A": np.where(np.abs(y) > 1, nan, y)}, X, CONFIG
    ).values()
    assert series.n_obs.tolist() == missing.n_obs.tolist()
    assert statuses(series) == statuses(missing)


def test_a_flat_benchmark_is_a_status_and_no_number() -> None:
    (series,) = compute_market_beta({"A": X}, [0.1] * len(X), CONFIG).values()
    assert statuses(series)[2:] == ["ZERO_VARIANCE"] * 6
    for name in BetaSeries.__slots__:
        if name not in {"timestamps", "n_obs", "n_eff", "status"}:
            assert np.isnan(getattr(series, name)).all(), name


def test_assets_keep_their_order_and_their_own_numbers() -> None:
    x = np.array(X)
    betas = compute_market_beta({"Z": 2 * x, "A": -x, "M": 0.5 * x}, x, CONFIG)
    assert list(betas) == ["Z", "A", "M"]
    assert [series.beta[-1] for series in betas.values()] == [2.0, -1.0, 0.5]
    assert [series.correlation[-1] for series in betas.values()] == pytest.approx(
        [1, -1, 1]
    )


def test_no_assets_have_no_series() -> None:
    assert compute_market_beta({}, X, CONFIG) == {}


@pytest.mark.parametrize(
    "stamps",
    [None, np.array([], dtype=np.int64), []],
)
def test_no_bars_have_series_of_none(stamps: Sequence[int] | None) -> None:
    betas = compute_market_beta({"A": []}, [], CONFIG, timestamps=stamps)
    assert [len(series) for series in betas.values()] == [0]


def test_by_default_the_window_is_that_of_the_default_model() -> None:
    x = np.random.default_rng(1).normal(size=62)
    (series,) = compute_market_beta({"A": 2 * x}, x).values()
    assert statuses(series) == ["WARMING"] * 59 + ["OK"] * 3


def test_what_is_passed_in_is_not_changed() -> None:
    x, y = np.array([*X, nan]), np.array([*X[::-1], inf])
    x.flags.writeable = y.flags.writeable = False
    compute_market_beta({"A": y}, x, CONFIG)


@pytest.mark.parametrize(
    ("given_stamps", "stamps"),
    [
        (None, [0, 1, 2]),
        ([5, 6, 9], [5, 6, 9]),
        (np.array([5, 6, 9], dtype=np.uint64), [5, 6, 9]),
        (np.array([1, 2, 3], dtype="datetime64[s]"), [10**9, 2 * 10**9, 3 * 10**9]),
        (np.array(["1970-01-01", "1970-01-02", "1970-01-05"], "datetime64[D]"), None),
    ],
)
def test_stamps_are_integers_or_dates(
    given_stamps: Sequence[int] | None, stamps: list[int] | None
) -> None:
    (series,) = compute_market_beta(
        {"A": X[:3]}, X[:3], CONFIG, timestamps=given_stamps
    ).values()
    if stamps is None:
        day = 86_400 * 10**9
        stamps = [0, day, 4 * day]
    assert series.timestamps.tolist() == stamps
    assert series.timestamps.dtype == np.int64


@pytest.mark.parametrize(
    ("assets", "benchmark", "stamps", "name", "reason"),
    [
        ({"A": X[:7]}, X, None, "A", "must have the benchmark's 8 bars, was 7"),
        (
            {"A": X, "B": [*X, 1]},
            X,
            None,
            "B",
            "must have the benchmark's 8 bars, was 9",
        ),
        ({"A": [X]}, X, None, "A", "must be 1-D, was 2-D"),
        ({"A": 3.0}, X, None, "A", "must be 1-D, was 0-D"),
        ({"A": X}, [X], None, "benchmark_returns", "must be 1-D, was 2-D"),
        ({"A": ["x"] * 8}, X, None, "A", "must be numbers: "),
        ({"A": [None] * 7 + [{}]}, X, None, "A", "must be numbers: "),
        ({"A": X}, X, [1, 2], "timestamps", "must have shape (8,), was (2,)"),
        (
            {"A": X},
            X,
            [1, 2, 3, 3, 4, 5, 6, 7],
            "timestamps",
            "must increase, do not at row 3",
        ),
        (
            {"A": X},
            X,
            [1, 2, 3, 4, 5, 6, 7, 0],
            "timestamps",
            "must increase, do not at row 7",
        ),
    ],
)
def test_arrays_that_are_not_returns_of_one_grid_are_refused(
    assets: dict[str, Sequence[float]],
    benchmark: Sequence[float],
    stamps: Sequence[int] | None,
    name: str,
    reason: str,
) -> None:
    with pytest.raises(InvalidReturnsError) as refused:
        compute_market_beta(assets, benchmark, CONFIG, timestamps=stamps)
    assert refused.value.name == name
    assert refused.value.reason.startswith(reason)


@pytest.mark.parametrize("stamps", [[0.5, 1.5, 2.5], [0.0, 1.0, nan]])
def test_stamps_that_are_not_whole_numbers_are_refused(stamps: list[float]) -> None:
    with pytest.raises(InvalidReturnsError, match="timestamps"):
        compute_market_beta({"A": X[:3]}, X[:3], CONFIG, timestamps=stamps)


@examples(20)
@given(markets(), st.integers(0, 2**32 - 1))
def test_a_bar_never_depends_on_later_bars(market: Market, seed: int) -> None:
    n_bars = random.Random(seed).randint(1, market.n_bars)
    whole = market_betas(market)
    for row, symbol in enumerate(market.symbols):
        cut = compute_market_beta(
            {symbol: market.returns[:n_bars, row]},
            market.benchmark[:n_bars],
            market.config,
        )[symbol]
        assert_same_bits(whole[symbol], cut, n_bars)
