"""Each event alone, on a market of four bars: exactly what arrives instead."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np
import pytest

from beta_factory.messages import (
    AddSymbol,
    BenchmarkReturnMissed,
    BenchmarkReturnObserved,
    ConfigError,
    HaltSymbol,
    RemoveSymbol,
    ResumeSymbol,
    ReturnObserved,
    SessionOpened,
)
from beta_factory.runtime.script.event import Event
from beta_factory.runtime.script.events import EVENTS
from beta_factory.runtime.script.failures import (
    Poison,
    ProcessRestarted,
    SnapshotTaken,
)
from beta_factory.runtime.script.quarantine import HeldReleased
from beta_factory.runtime.script.turns import Arrival, Market, Turn, name_of
from strategies import asset, bench


def tiny() -> Iterator[Turn]:
    """Four bars, ten nanoseconds apart; A returns 0.1 a bar, SPY 0.01."""
    for bar in range(1, 5):
        ts = 10 * bar
        yield Turn(
            bar, ts, [bench(ts, 0.01, ts_init=ts), asset("A", ts, 0.1, ts_init=ts)]
        )


def text(arrival: Arrival) -> str:
    """Name, stamp and value of what arrives; `ts_init` where it is another stamp."""
    match arrival:
        case ReturnObserved() | BenchmarkReturnObserved():
            name = name_of(arrival)
            built = arrival.ts_init
            other = f"~{built}" if built != arrival.ts_event else ""
            return f"{name}@{arrival.ts_event}{other}={arrival.period_return:.6g}"
        case BenchmarkReturnMissed() | SessionOpened():
            return f"{type(arrival).__name__}@{arrival.ts_event}~{arrival.ts_init}"
        case HaltSymbol() | ResumeSymbol() | AddSymbol() | RemoveSymbol():
            return f"{type(arrival).__name__} {arrival.symbol}~{arrival.ts_init}"
        case Poison():
            return f"Poison {arrival.symbol}"
        case HeldReleased():
            return f"HeldReleased {arrival.symbol}"
        case SnapshotTaken() | ProcessRestarted():
            return type(arrival).__name__
        case _:
            raise AssertionError(arrival)


def event_of(kind: str, **keys: Any) -> Event:
    return msgspec.convert(keys, EVENTS[kind])


def arrived(*events: Event, is_log: bool = False) -> dict[str, list[str]]:
    """Return what arrives, by the bar and the time of its turn."""
    turns = tiny()
    for event in events:
        turns = event.disturb(turns, Market("SPY", is_log=is_log))
    return {
        f"{turn.bar}" + "'" * number: [text(arrival) for arrival in turn.arrivals]
        for number, turn in _numbered(turns)
    }


def _numbered(turns: Iterator[Turn]) -> Iterator[tuple[int, Turn]]:
    # The turn after the last has its bar once more.
    seen: list[int] = []
    for turn in turns:
        assert turn.now_ns == 10 * turn.bar
        yield seen.count(turn.bar), turn
        seen.append(turn.bar)


PLAIN: Final = {str(bar): [f"SPY@{bar}0=0.01", f"A@{bar}0=0.1"] for bar in range(1, 5)}

CASES: Final[list[tuple[str, dict[str, Any], dict[str, list[str] | None]]]] = [
    (
        "halt",
        {"symbol": "A", "at": 2},
        {"2": ["HaltSymbol A~20", "SPY@20=0.01", "A@20=0.1"]},
    ),
    (
        "resume",
        {"symbol": "A", "at": 2},
        {"2": ["ResumeSymbol A~20", "SPY@20=0.01", "A@20=0.1"]},
    ),
    (
        "add",
        {"symbol": "A", "at": 4},
        {"4": ["AddSymbol A~40", "SPY@40=0.01", "A@40=0.1"]},
    ),
    (
        "remove",
        {"symbol": "A", "at": 1},
        {"1": ["RemoveSymbol A~10", "SPY@10=0.01", "A@10=0.1"]},
    ),
    (
        "release",
        {"symbol": "A", "at": 2},
        {"2": ["HeldReleased A", "SPY@20=0.01", "A@20=0.1"]},
    ),
    (
        "session_opened",
        {"at": 3},
        {"3": ["SessionOpened@29~30", "SPY@30=0.01", "A@30=0.1"]},
    ),
    (
        "feed_death",
        {"symbol": "A", "from": 2, "to": 3},
        {"2": ["SPY@20=0.01"], "3": ["SPY@30=0.01"]},
    ),
    ("feed_death", {"from": 2, "to": 3}, {"2": [], "3": []}),
    (
        "gap",
        {"symbol": "A", "from": 2, "to": 3},
        {
            "2": ["SPY@20=0.01"],
            "3": ["SPY@30=0.01"],
            "4": ["SPY@40=0.01", "A@40=0.331"],
        },
    ),
    (
        "gap",
        {"from": 2, "to": 3},
        {"2": None, "3": None, "4": ["SPY@40=0.030301", "A@40=0.331"]},
    ),
    ("gap", {"from": 4, "to": 4}, {"4": None}),
    (
        "delayed",
        {"symbol": "SPY", "bars": 1, "from": 2, "to": 2},
        {"2": ["A@20=0.1"], "3": ["SPY@20=0.01", "SPY@30=0.01", "A@30=0.1"]},
    ),
    (
        "delayed",
        {"symbol": "A", "bars": 2, "from": 2, "to": 4},
        {
            "2": ["SPY@20=0.01"],
            "3": ["SPY@30=0.01"],
            "4": ["A@20=0.1", "SPY@40=0.01"],
            "4'": ["A@30=0.1", "A@40=0.1"],
        },
    ),
    (
        "duplicate",
        {"symbol": "A", "from": 2, "to": 2},
        {"2": ["SPY@20=0.01", "A@20=0.1", "A@20=0.1"]},
    ),
    (
        "duplicate",
        {"from": 4, "to": 4},
        {"4": ["SPY@40=0.01", "SPY@40=0.01", "A@40=0.1", "A@40=0.1"]},
    ),
    (
        "duplicate",
        {"from": 1, "to": 1, "after": 2},
        {"3": ["SPY@10=0.01", "A@10=0.1", "SPY@30=0.01", "A@30=0.1"]},
    ),
    (
        "burst",
        {"symbol": "A", "from": 1, "to": 3, "seed": 4},
        {
            "1": ["SPY@10=0.01"],
            "2": ["SPY@20=0.01"],
            "3": [
                f"A@{10 * (1 + place)}=0.1"
                for place in np.random.default_rng(4).permutation(3).tolist()
            ]
            + ["SPY@30=0.01"],
        },
    ),
    (
        "clock_skew",
        {"symbol": "A", "from": 2, "to": 2, "shift": "3ns"},
        {"2": ["SPY@20=0.01", "A@23=0.1"]},
    ),
    (
        "clock_skew",
        {"from": 2, "to": 2, "shift": "-3ns"},
        {"2": ["SPY@17=0.01", "A@17=0.1"]},
    ),
    (
        "spike",
        {"symbol": "A", "at": 2, "add": 1e8},
        {"2": ["SPY@20=0.01", "A@20=1e+08"]},
    ),
    (
        "spike",
        {"symbol": "SPY", "at": 2, "value": 0.0},
        {"2": ["SPY@20=0", "A@20=0.1"]},
    ),
    (
        "spike",
        {"symbol": "A", "at": 2, "price_factor": 2.0},
        {"2": ["SPY@20=0.01", "A@20=1.2"], "3": ["SPY@30=0.01", "A@30=-0.45"]},
    ),
    (
        "offset",
        {"from": 3, "to": 4, "add": 5.0, "symbol": "SPY"},
        {"3": ["SPY@30=5.01", "A@30=0.1"], "4": ["SPY@40=5.01", "A@40=0.1"]},
    ),
    (
        "offset",
        {"from": 3, "to": 3, "add": 5.0},
        {"3": ["SPY@30=5.01", "A@30=5.1"]},
    ),
    (
        "flat",
        {"from": 1, "to": 2, "symbol": "SPY"},
        {"1": ["SPY@10=0", "A@10=0.1"], "2": ["SPY@20=0", "A@20=0.1"]},
    ),
    (
        "flat",
        {"from": 2, "to": 2, "value": 0.5},
        {"2": ["SPY@20=0.5", "A@20=0.5"]},
    ),
    (
        "correction",
        {"symbol": "A", "at": 2, "value": 0.7, "after": 2},
        {"4": ["A@20=0.7", "SPY@40=0.01", "A@40=0.1"]},
    ),
    (
        "correction",
        {"symbol": "A", "at": 2, "add": 0.2, "after": 0},
        {"2": ["SPY@20=0.01", "A@20=0.1", "A@20=0.3"]},
    ),
    (
        "correction",
        {"symbol": "SPY", "at": 4, "add": 0.01, "after": 9},
        {"4'": ["SPY@40=0.02"]},
    ),
    (
        "benchmark_missed",
        {"from": 2, "to": 2},
        {"2": ["BenchmarkReturnMissed@20~20", "A@20=0.1"]},
    ),
    (
        "actor_failure",
        {"symbol": "A", "at": 3},
        {"3": ["Poison A", "SPY@30=0.01", "A@30=0.1"]},
    ),
    (
        "actor_failure",
        {"symbol": "A", "at": 3, "times": 2},
        {"3": ["Poison A", "Poison A", "SPY@30=0.01", "A@30=0.1"]},
    ),
    (
        "overload",
        {"symbol": "A", "at": 2, "count": 1},
        {
            "2": ["Poison A", "SPY@20=0.01", "A@20=0.1", "A@30=0.1"],
            "3": ["SPY@30=0.01"],
        },
    ),
    (
        "overload",
        {"symbol": "A", "at": 3, "count": 50},
        {
            "3": ["Poison A", "SPY@30=0.01", "A@30=0.1", "A@40=0.1"],
            "4": ["SPY@40=0.01"],
        },
    ),
    ("snapshot", {"at": 2}, {"2": ["SnapshotTaken", "SPY@20=0.01", "A@20=0.1"]}),
    ("restore", {"at": 2}, {"2": ["ProcessRestarted", "SPY@20=0.01", "A@20=0.1"]}),
]


@pytest.mark.parametrize(("kind", "keys", "changed"), CASES)
def test_what_arrives_instead(
    kind: str, keys: dict[str, Any], changed: dict[str, list[str] | None]
) -> None:
    expected = {
        bar: arrivals
        for bar, arrivals in (PLAIN | changed).items()
        if arrivals is not None
    }
    assert arrived(event_of(kind, **keys)) == expected


def test_every_kind_has_a_case() -> None:
    assert {kind for kind, _, _ in CASES} == set(EVENTS)


def test_a_price_in_logs_goes_up_and_comes_back() -> None:
    event = event_of("spike", symbol="A", at=2, price_factor=np.e)
    seen = arrived(event, is_log=True)
    assert (seen["2"][1], seen["3"][1]) == ("A@20=1.1", "A@30=-0.9")


def test_a_gap_of_logs_adds_them_up() -> None:
    seen = arrived(event_of("gap", symbol="A", **{"from": 2, "to": 3}), is_log=True)
    assert seen["4"] == ["SPY@40=0.01", "A@40=0.3"]


def test_commands_and_deeds_stand_in_the_order_of_the_script() -> None:
    seen = arrived(
        event_of("snapshot", at=2),
        event_of("halt", symbol="A", at=2),
        event_of("delayed", symbol="A", bars=1, **{"from": 1, "to": 1}),
    )
    assert seen["2"] == [
        *("SnapshotTaken", "HaltSymbol A~20"),
        *("A@10=0.1", "SPY@20=0.01", "A@20=0.1"),
    ]


def test_no_event_touches_commands_and_deeds() -> None:
    halt = event_of("halt", symbol="A", at=2)
    everywhere = {"from": 1, "to": 4}
    for kind, keys in {
        "feed_death": {},
        "duplicate": {},
        "burst": {},
        "gap": {},
        "clock_skew": {"shift": "1ns"},
        "flat": {},
    }.items():
        seen = arrived(halt, event_of(kind, **everywhere, **keys))
        assert seen["2"][0] == "HaltSymbol A~20"


def test_a_command_to_a_bar_that_is_gone_comes_with_the_next() -> None:
    seen = arrived(
        event_of("gap", **{"from": 2, "to": 3}), event_of("halt", symbol="A", at=2)
    )
    assert seen["4"][0] == "HaltSymbol A~40"


def test_a_burst_whose_last_bar_is_gone_arrives_all_the_same() -> None:
    seen = arrived(
        event_of("gap", **{"from": 4, "to": 4}),
        event_of("burst", symbol="A", **{"from": 2, "to": 4}),
    )
    assert sorted(seen["3'"]) == ["A@20=0.1", "A@30=0.1"]


def test_a_burst_is_the_same_for_one_seed_and_differs_between_seeds() -> None:
    orders = {
        tuple(arrived(event_of("burst", seed=seed, **{"from": 1, "to": 4}))["4"])
        for seed in (1, 1, 2, 3)
    }
    assert len(orders) == 3


@pytest.mark.parametrize(
    ("kind", "keys", "key"),
    [
        ("spike", {"symbol": "A", "at": 1}, "add"),
        ("spike", {"symbol": "A", "at": 1, "add": 1.0, "value": 1.0}, "add"),
        ("spike", {"symbol": "A", "at": 1, "price_factor": 0.0}, "price_factor"),
        ("correction", {"symbol": "A", "at": 1}, "add"),
        ("feed_death", {"from": 3, "to": 2}, "to"),
        ("benchmark_missed", {"from": 3, "to": 2}, "to"),
        ("delayed", {"symbol": "A", "bars": 1, "from": 3, "to": 2}, "to"),
        ("clock_skew", {"from": 1, "to": 2, "shift": "soon"}, "shift"),
    ],
)
def test_keys_that_do_not_fit_together(
    kind: str, keys: dict[str, Any], key: str
) -> None:
    with pytest.raises((ConfigError, msgspec.ValidationError)) as raised:
        event_of(kind, **keys)
    assert key in str(raised.value)
