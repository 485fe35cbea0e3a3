"""A script is refused with every problem in it, each by its dotted path."""

from pathlib import Path
from typing import Final

import pytest

from beta_factory.messages import ConfigError
from beta_factory.runtime.mailbox import OverflowPolicy
from beta_factory.runtime.script import load_script, parse_script
from beta_factory.runtime.script.events import EVENTS
from beta_factory.runtime.script.source import SimulatedSource

MARKET: Final = """
[source]
n_bars = 100
betas = { AAPL = 1.2, MSFT = 0.8 }
[factors.market]
benchmark = "SPY"
lookback_length = 20
min_observations = 5
"""
HALT: Final = '[[events]]\nkind = "halt"\nsymbol = "AAPL"\nat = 1\n'
N_OBS: Final = '[[expectations]]\nkind = "n_obs"\nsymbol = "AAPL"\nat = 1\nnear = 1\n'
SECOND: Final = '[factors.sector]\nbenchmark = "SPY"\n'
SPAN: Final = "2025-06-02T13:31:00.000000000 to 2025-06-02T15:10:00.000000000"

BAD: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "no source": (
        MARKET[MARKET.index("[factors") :],
        {"source": "is required: a file, or n_bars and betas"},
    ),
    "no model": (
        MARKET[: MARKET.index("[factors")],
        {"factors": "must hold at least one, such as [factors.market]"},
    ),
    "source without length": (
        MARKET.replace("n_bars = 100\n", ""),
        {"source.n_bars": "is required"},
    ),
    "values of the source": (
        MARKET.replace("n_bars = 100", 'n_bars = 0\nstart = "noon"\nspeed = 3'),
        {
            "source.n_bars": "must be at least 1, was 0",
            "source.speed": "unknown key; did you mean 'seed'?",
        },
    ),
    "times of the source": (
        MARKET.replace("n_bars = 100", 'n_bars = 9\nstart = "x"\nbar_interval = "1"'),
        {
            "source.bar_interval": "must be a whole number and a unit of ns, us, ms, "
            "s, min, h, d, w, such as \"30min\", was '1'",
            "source.start": "stamp must be integer ns or ISO 8601, in the years 1970 "
            "to 2261, was 'x'",
        },
    ),
    "no symbols": (
        MARKET.replace("{ AAPL = 1.2, MSFT = 0.8 }", "{}"),
        {"source.betas": "must hold at least one symbol"},
    ),
    "model": (
        MARKET + "half_live = 3\nwindow = 3\n",
        {
            "factors.market.half_live": "unknown key; did you mean 'half_life'?",
            "factors.market.window": "must be one of bars, pairs, session, time, was 3",
        },
    ),
    "another benchmark": (
        MARKET + '[factors.tech]\nbenchmark = "QQQ"\n',
        {"factors.tech.benchmark": "must be 'SPY', as of the first factor, was 'QQQ'"},
    ),
    "other returns": (
        MARKET + SECOND + 'returns = "log"\novernight = "include"\n',
        {
            "factors.sector.returns": "must be 'simple', as of the first factor, "
            "was 'log'",
            "factors.sector.overnight": "must be 'exclude', as of the first factor, "
            "was 'include'",
        },
    ),
    "actors": (
        MARKET + "[actors]\nmailbox_capacity = 0\n",
        {"actors.mailbox_capacity": "must be at least 1, was 0"},
    ),
    "key": ("titl = 3\n" + MARKET, {"titl": "unknown key; did you mean 'title'?"}),
    "events are no list": (
        "events = 3\n" + MARKET,
        {"events": "must be a list of tables, was 3"},
    ),
    "an event is no table": (
        "events = [3]\n" + MARKET,
        {"events[0]": "must be a table, was 3"},
    ),
    "no kind": (
        MARKET + "[[events]]\nat = 3\n",
        {"events[0].kind": f"is required: one of {', '.join(EVENTS)}"},
    ),
    "unknown kind": (
        MARKET + HALT + '[[events]]\nkind = "spikes"\n',
        {"events[1].kind": "unknown kind 'spikes'; did you mean 'spike'?"},
    ),
    "missing keys of an event": (
        MARKET + '[[events]]\nkind = "halt"\n',
        {"events[0].symbol": "is required", "events[0].at": "is required"},
    ),
    "unknown key of an event": (
        MARKET + HALT + "until = 3\n",
        {"events[0].until": "unknown key"},
    ),
    "symbol": (
        MARKET + HALT * 3 + HALT.replace("AAPL", "APL"),
        {"events[3].symbol": "there is no 'APL' here; did you mean 'AAPL'?"},
    ),
    "a benchmark is no symbol": (
        MARKET + HALT.replace("AAPL", "SPY"),
        {"events[0].symbol": "there is no 'SPY' here: one of AAPL, MSFT"},
    ),
    "bar after the last": (
        MARKET + HALT.replace("at = 1", "at = 101"),
        {"events[0].at": "must be a bar from 1 to 100, was 101"},
    ),
    "time after the last bar": (
        MARKET + HALT.replace("at = 1", 'at = "2025-06-03"'),
        {"events[0].at": f"must be within the bars ({SPAN}), was 2025-06-03"},
    ),
    "no time": (
        MARKET + HALT.replace("at = 1", 'at = "noon"'),
        {
            "events[0].at": "stamp must be integer ns or ISO 8601, in the years 1970 "
            "to 2261, was 'noon'"
        },
    ),
    "time of another type": (
        MARKET + HALT.replace("at = 1", "at = true"),
        {"events[0].at": "must be the number of a bar or a time in ISO 8601, was True"},
    ),
    "all that is wrong with an event": (
        MARKET + HALT.replace("at = 1", "at = 0\nhow = 1"),
        {
            "events[0].at": "must be a bar from 1 to 100, was 0",
            "events[0].how": "unknown key",
        },
    ),
    "range": (
        MARKET + '[[events]]\nkind = "gap"\nfrom = 9\nto = 8\n',
        {"events[0].to": "must be at least 9 (from), was 8"},
    ),
    "restore without a snapshot": (
        MARKET
        + '[[events]]\nkind = "restore"\nat = 9\n'
        + '[[events]]\nkind = "snapshot"\nat = 10\n',
        {"events[0].at": "needs a snapshot before it"},
    ),
    "expectation's symbol": (
        MARKET + N_OBS.replace("AAPL", "SPY"),
        {"expectations[0].symbol": "there is no 'SPY' here: one of AAPL, MSFT"},
    ),
    "expectation's factor": (
        MARKET + SECOND + N_OBS + N_OBS + 'factor = "sectors"\n',
        {
            "expectations[0].factor": "is required: there are market, sector",
            "expectations[1].factor": "there is no 'sectors' here; "
            "did you mean 'sector'?",
        },
    ),
    "expectation's time": (
        MARKET + N_OBS + N_OBS.replace("at = 1", "at = -1"),
        {"expectations[1].at": "must be a bar from 1 to 100, was -1"},
    ),
    "syntax": (
        "[source\n",
        {"line 1, column 8": "expected ']' at the end of a table declaration"},
    ),
}


@pytest.mark.parametrize(("text", "problems"), BAD.values(), ids=BAD)
def test_a_bad_script_names_each_wrong_key(text: str, problems: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_script(text, source="s.toml")
    assert dict(raised.value.problems) == problems
    assert raised.value.source == "s.toml"


def test_the_smallest_script_has_the_defaults() -> None:
    script = parse_script(MARKET)
    assert script.symbols == ("AAPL", "MSFT")
    assert (script.events, script.expectations) == ((), ())
    assert script.actors.overflow is OverflowPolicy.DROP_OLDEST
    assert isinstance(script.source, SimulatedSource)
    assert len(script.timeline) == 100


@pytest.mark.parametrize(
    ("when", "bar"),
    [
        ("1", 1),
        ("100", 100),
        ('"2025-06-02T13:31Z"', 1),
        ("2025-06-02T13:31:00Z", 1),
        ("2025-06-02T13:31:00", 1),
        ('"2025-06-02 13:31:00.000000001"', 2),
        ('"1970-01-01"', 1),
    ],
)
def test_a_time_is_the_first_bar_from_then_on(when: str, bar: int) -> None:
    script = parse_script(MARKET + HALT.replace("at = 1", f"at = {when}"))
    assert getattr(script.events[0], "at", None) == bar


def test_the_end_of_a_range_is_the_last_bar_until_then() -> None:
    text = '[[events]]\nkind = "gap"\nfrom = 1\nto = "2025-06-02T13:32:59Z"\n'
    assert getattr(parse_script(MARKET + text).events[0], "last", None) == 2


def test_a_bar_file_is_found_beside_the_script(tmp_path: Path) -> None:
    bars = "ts_event,symbol,close\n" + "".join(
        f"{ts},{symbol},{100 + ts}\n" for ts in range(1, 9) for symbol in ("A", "SPY")
    )
    (tmp_path / "bars.csv").write_text(bars)
    path = tmp_path / "s.toml"
    model = MARKET[MARKET.index("[factors") :]
    path.write_text('[source]\nfile = "bars.csv"\n' + model)
    script = load_script(path)
    assert (script.symbols, script.bars.n_bars) == (("A",), 7)
    path.write_text('[source]\nfile = "bar.csv"\n' + model)
    with pytest.raises(FileNotFoundError, match=r"bar\.csv"):
        load_script(path)
    with pytest.raises(FileNotFoundError):
        load_script(tmp_path / "none.toml")
