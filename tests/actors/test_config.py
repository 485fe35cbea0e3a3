"""What a configuration refuses, each with its key and its reason."""

import re
from math import nan
from typing import Any

import msgspec
import numpy as np
import pytest

from beta_factory import BetaFactory, Factor, MarketBetaConfig
from beta_factory.messages import ConfigError

TOO_FEW = "must be at least 3 for a standard error, was {}"
TOO_SHORT = "a window of {} bars never holds {} pairs (min_observations)"
TOO_SOON = "must be at least 1 bar, was {}"


@pytest.mark.parametrize(
    ("lookback_length", "min_observations", "stale_after", "problems"),
    [
        (390, 2, None, [("min_observations", TOO_FEW.format(2))]),
        (390, 0, None, [("min_observations", TOO_FEW.format(0))]),
        (390, -5, None, [("min_observations", TOO_FEW.format(-5))]),
        (59, 60, None, [("lookback_length", TOO_SHORT.format(59, 60))]),
        (390, 60, 0, [("stale_after", TOO_SOON.format(0))]),
        (390, 60, -1, [("stale_after", TOO_SOON.format(-1))]),
        (
            1,
            2,
            0,
            [
                ("lookback_length", TOO_SHORT.format(1, 2)),
                ("min_observations", TOO_FEW.format(2)),
                ("stale_after", TOO_SOON.format(0)),
            ],
        ),
    ],
)
def test_a_model_that_cannot_work_is_refused_with_all_its_problems(
    lookback_length: int,
    min_observations: int,
    stale_after: int | None,
    problems: list[tuple[str, str]],
) -> None:
    with pytest.raises(ConfigError) as refused:
        MarketBetaConfig(lookback_length, min_observations, stale_after=stale_after)
    assert refused.value.problems == tuple(problems)


@pytest.mark.parametrize(
    ("lookback_length", "min_observations", "stale_after"),
    [(3, 3, None), (3, 3, 1), (60, 60, 1000), (390, 3, 390)],
)
def test_the_smallest_and_tightest_models_are_accepted(
    lookback_length: int, min_observations: int, stale_after: int | None
) -> None:
    config = MarketBetaConfig(
        lookback_length, min_observations, stale_after=stale_after
    )
    assert config.lookback_length == lookback_length


@pytest.mark.parametrize(
    ("lookback_length", "stale_after", "stale_bars"),
    [
        (390, None, 39),
        (30, None, 3),
        (19, None, 1),
        (5, None, 1),
        (390, 7, 7),
        (5, 9, 9),
    ],
)
def test_stale_means_a_tenth_of_the_window_unless_said(
    lookback_length: int, stale_after: int | None, stale_bars: int
) -> None:
    assert (
        MarketBetaConfig(lookback_length, 3, stale_after=stale_after).stale_bars
        == stale_bars
    )


def test_the_defaults_are_a_session_of_minutes_and_an_hour_to_warm_up() -> None:
    config = MarketBetaConfig()
    assert (config.lookback_length, config.min_observations) == (390, 60)
    assert Factor("SPY") == Factor("SPY", "market", config)


def a_model(**keys: Any) -> MarketBetaConfig:
    whole: dict[str, Any] = {"lookback_length": 20, "min_observations": 3} | keys
    return MarketBetaConfig(**whole)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (
            {"window": "sessions"},
            (
                "window: must be one of bars, pairs, session, time, was 'sessions'; "
                "did you mean 'session'?"
            ),
        ),
        (
            {"overnight": "excluded", "bar_interval": "1min"},
            (
                "overnight: must be one of exclude, include, was 'excluded'; "
                "did you mean 'exclude'?"
            ),
        ),
        ({"returns": "foo"}, "returns: must be one of log, simple, was 'foo'"),
        ({"stale_after": 2.5}, "stale_after: must be a whole number, was 2.5"),
        ({"stale_after": True}, "stale_after: must be a whole number, was True"),
        ({"min_observations": 3.5}, "min_observations: must be a whole number, was"),
        ({"min_observations": "60"}, "min_observations: must be a whole number, was"),
        ({"lookback_length": nan}, "lookback_length: must be a whole number, was nan"),
        ({"lookback_length": None}, "lookback_length: must be a whole number, was"),
        ({"allowed_lateness": 1.5}, "allowed_lateness: must be a whole number, was"),
        ({"half_life": nan}, "half_life: must be above 0, was nan"),
        ({"half_life": [3.0]}, "half_life: must be a number, was [3.0]"),
        ({"max_abs_return": "1"}, "max_abs_return: must be a number, was '1'"),
        ({"feed_timeout": 5}, "feed_timeout: must be a string, was 5"),
        ({"bar_interval": 60}, "bar_interval: must be a string, was 60"),
        (
            {"window": "weekly", "robust_window": 0.5},
            (
                "window: must be one of bars, pairs, session, time, was 'weekly'; "
                "robust_window: must be a whole number, was 0.5"
            ),
        ),
    ],
)
def test_a_value_of_another_type_is_refused_in_code_as_in_a_file(
    keys: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        a_model(**keys)


def test_a_number_of_numpy_is_a_number() -> None:
    config = a_model(lookback_length=np.int64(20), max_abs_return=np.float64(0.5))
    assert config == MarketBetaConfig(20, 3, max_abs_return=0.5)
    assert type(config.lookback_length) is int
    assert type(config.max_abs_return) is float


def test_a_factor_has_names_and_a_model() -> None:
    wrong = Factor(5, model={"lookback_length": 5})  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as refused:
        BetaFactory(["AAPL"], factors=[wrong])
    assert refused.value.problems == (
        ("factors.market.benchmark", "must have 1 to 64 characters, was 5"),
        (
            "factors.market.model",
            "must be a MarketBetaConfig, was {'lookback_length': 5}",
        ),
    )


def test_a_configuration_is_a_value() -> None:
    assert MarketBetaConfig(5, 3) == MarketBetaConfig(5, 3)
    with pytest.raises(AttributeError, match="immutable"):
        MarketBetaConfig().lookback_length = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"lookback": 5}, "unknown field `lookback`"),
        ({"lookback_length": "5"}, "counts bars; for '5' say window"),
        ({"lookback_length": 5.5}, "Expected `int | str`"),
        ({"lookback_length": 5}, "never holds 60 pairs"),
    ],
)
def test_a_file_with_a_wrong_key_or_value_is_refused(
    content: dict[str, object], complaint: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.convert(content, MarketBetaConfig)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (
            {"max_abs_return": 0.0},
            ("max_abs_return", "must be above 0 and finite, was 0"),
        ),
        (
            {"max_robust_z": float("inf")},
            ("max_robust_z", "must be above 0 and finite, was inf"),
        ),
        (
            {"robust_min_observations": 4},
            ("robust_min_observations", "must be at least 5, was 4"),
        ),
        (
            {"max_robust_z": 9.0, "robust_window": 29},
            (
                "robust_window",
                "a past of 29 bars never holds 30 returns (robust_min_observations)",
            ),
        ),
        (
            {"max_robust_z": 9.0, "window": "time", "lookback_length": "1h"},
            (
                "robust_window",
                "is needed beside max_robust_z: a window of time has no number of bars",
            ),
        ),
        ({"frozen_after": 1}, ("frozen_after", "must be at least 2 bars, was 1")),
        ({"feed_timeout": "5 sec"}, ("feed_timeout", "5 sec")),
    ],
)
def test_limits_that_cannot_hold_are_refused(
    keys: dict[str, Any], problem: tuple[str, str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        MarketBetaConfig(**keys)
    ((key, reason),) = refused.value.problems
    assert key == problem[0]
    assert problem[1] in reason


@pytest.mark.parametrize(
    ("keys", "bars"),
    [
        ({}, 390),
        ({"robust_window": 100}, 100),
        ({"window": "pairs", "lookback_length": 200}, 200),
        ({"window": "session"}, 390),
        ({"half_life": 50.0}, 150),
        (
            {"window": "time", "lookback_length": "2h", "bar_interval": "1min"},
            120,
        ),
        (
            {"window": "time", "half_life": "30min", "bar_interval": "1min"},
            90,
        ),
        ({"window": "time", "lookback_length": "2h"}, None),
    ],
)
def test_a_past_is_as_long_as_the_window_unless_said(
    keys: dict[str, Any], bars: int | None
) -> None:
    assert MarketBetaConfig(**keys).robust_bars == bars


@pytest.mark.parametrize(
    "keys",
    [
        {"max_abs_return": 0.5},
        {"max_robust_z": 9.0},
        {"feed_timeout": "5s"},
        {"frozen_after": 9},
    ],
)
def test_any_limit_makes_a_guarded_model_of_the_same_windows(
    keys: dict[str, Any],
) -> None:
    model = MarketBetaConfig(**keys)
    assert model.is_guarded
    assert not MarketBetaConfig().is_guarded
    assert model.unguarded == MarketBetaConfig()
    assert Factor("SPY", model=model).windows == Factor("SPY")
    assert model.goes_by_clock == ("feed_timeout" in keys)


FACTOR = Factor("SPY")
NAMELESS = ("symbols", "must be a non-empty list of names")


def test_a_factory_without_symbols_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        BetaFactory([], benchmark="SPY")
    assert refused.value.problems == (NAMELESS,)


def test_one_string_is_not_a_list_of_symbols() -> None:
    with pytest.raises(ConfigError) as refused:
        BetaFactory("AAPL", benchmark="SPY")
    assert refused.value.problems == (NAMELESS,)


def test_a_factory_needs_a_benchmark_or_factors() -> None:
    with pytest.raises(ConfigError) as refused:
        BetaFactory(["AAPL"])
    assert refused.value.problems == (("benchmark", "name it, or give factors"),)


@pytest.mark.parametrize(
    ("benchmark", "config"), [("SPY", None), (None, MarketBetaConfig())]
)
def test_factors_exclude_what_describes_one_factor(
    benchmark: str | None, config: MarketBetaConfig | None
) -> None:
    with pytest.raises(ConfigError) as refused:
        BetaFactory(["AAPL"], benchmark=benchmark, config=config, factors=[FACTOR])
    assert refused.value.problems == (("factors", "excludes benchmark and config"),)


def test_every_problem_of_the_factors_is_named_at_once() -> None:
    factors = [Factor("SPY", "b"), Factor("QQQ", "a"), FACTOR]
    with pytest.raises(ConfigError) as refused:
        BetaFactory([], factors=[*factors, *factors])
    assert refused.value.problems == (
        NAMELESS,
        ("factors.a", "stands twice"),
        ("factors.b", "stands twice"),
        ("factors.market", "stands twice"),
    )


def test_an_empty_list_of_factors_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        BetaFactory(["AAPL"], factors=[])
    assert refused.value.problems == (("factors", "must hold at least one factor"),)


@pytest.mark.parametrize("name", ["", "A" * 65])
@pytest.mark.parametrize("place", ["symbols", "benchmark", "name"])
def test_a_name_that_the_wire_refuses_is_refused_here(name: str, place: str) -> None:
    names = {"symbols": "AAPL", "benchmark": "SPY", "name": "market", place: name}
    factor = Factor(names["benchmark"], names["name"])
    with pytest.raises(ConfigError) as refused:
        BetaFactory([names["symbols"]], factors=[factor])
    key = {
        "symbols": "symbols",
        "benchmark": "factors.market.benchmark",
        "name": f"factors.{name}",
    }[place]
    reason = f"must have 1 to 64 characters, was {name!r}"
    assert refused.value.problems == ((key, reason),)


def test_the_longest_names_are_accepted() -> None:
    longest = "A" * 64
    factory = BetaFactory([longest], factors=[Factor(longest, longest)])
    assert factory.symbols == (longest,)
