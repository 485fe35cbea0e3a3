"""The configuration: every problem at once, each with its path, and nothing lost."""

# pyright: reportPrivateUsage=false

import json
import re
import tomllib
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from beta_factory import Factor, MarketBetaConfig
from beta_factory.messages import ConfigError
from beta_factory.messages.fields import MAX_NAME_LENGTH
from beta_factory.runtime.address import MAX_PATH_BYTES, default_address
from beta_factory.runtime.config import (
    LARGEST,
    LONGEST_HEARTBEAT_S,
    LONGEST_S,
    ActorsConfig,
    LogConfig,
    LogLevel,
    ServerConfig,
    SidecarConfig,
)
from beta_factory.runtime.config_reader import (
    PREFIX,
    describe,
    load_config,
    parse_config,
)
from beta_factory.runtime.link import SILENCE_TIMEOUT_S
from beta_factory.runtime.mailbox import OverflowPolicy
from beta_factory.runtime.reading import Reader
from strategies import characters

ROOT: Final = Path(__file__).parents[2]

SMALLEST: Final = """
symbols = ["AAPL", "MSFT"]
[factors.market]
benchmark = "SPY"
"""

LEVELS: Final = "DEBUG, INFO, WARNING, ERROR, CRITICAL"
POLICIES: Final = "block, drop_oldest, drop_newest, conflate"
FORMS: Final = "unix:///path/to.sock, /path/to.sock, ./to.sock or tcp://host:port"


def problems_of(
    text: str, environ: dict[str, str] | None = None
) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, environ=environ)
    return list(caught.value.problems)


def variables(**values: str) -> dict[str, str]:
    return {f"{PREFIX}{key}": value for key, value in values.items()}


def test_a_client_hears_two_heartbeats_before_it_takes_silence_for_a_loss() -> None:
    assert LONGEST_HEARTBEAT_S == SILENCE_TIMEOUT_S / 2


# What a right one says


def test_smallest_config_has_every_default() -> None:
    config = parse_config(SMALLEST)
    assert config == SidecarConfig(
        symbols=("AAPL", "MSFT"), factors=(Factor("SPY", "market"),)
    )
    assert config.server.address == str(default_address())


def test_every_key_is_read() -> None:
    config = parse_config(
        """
        symbols = ["BRK.B", "BTC/USDT"]
        [server]
        address = "tcp://127.0.0.1:7700"
        access_file = "access.toml"
        token_variable = "DESK_TOKEN"
        tls_certificate = "sidecar.pem"
        tls_key = "sidecar.key"
        tls_client_ca = "ca.pem"
        max_connections = 7
        max_subscriptions = 8
        linger_timeout_s = 9
        max_frame_bytes = 65_536
        outbox_high_water_bytes = 1
        hello_timeout_s = 2
        drain_timeout_s = 0.25
        heartbeat_interval_s = 3.5
        report_interval_s = 10
        [actors]
        mailbox_capacity = 1
        overflow = "conflate"
        restart_limit = 0
        restart_window_s = 1.0
        restart_backoff_s = 0
        restart_backoff_max_s = 0.0
        turn_budget = 7
        [factors.market]
        benchmark = "SPY"
        lookback_length = 390
        min_observations = 60
        stale_after = 39
        [factors."a.b"]
        benchmark = "Q Q"
        lookback_length = 3
        min_observations = 3
        [log]
        level = "warning"
        """
    )
    assert config == SidecarConfig(
        symbols=("BRK.B", "BTC/USDT"),
        server=ServerConfig(
            address="tcp://127.0.0.1:7700",
            access_file="access.toml",
            token_variable="DESK_TOKEN",
            tls_certificate="sidecar.pem",
            tls_key="sidecar.key",
            tls_client_ca="ca.pem",
            max_connections=7,
            max_subscriptions=8,
            linger_timeout_s=9.0,
            max_frame_bytes=65_536,
            outbox_high_water_bytes=1,
            hello_timeout_s=2.0,
            drain_timeout_s=0.25,
            heartbeat_interval_s=3.5,
            report_interval_s=10.0,
        ),
        actors=ActorsConfig(
            mailbox_capacity=1,
            overflow=OverflowPolicy.CONFLATE,
            restart_limit=0,
            restart_window_s=1.0,
            restart_backoff_s=0.0,
            restart_backoff_max_s=0.0,
            turn_budget=7,
        ),
        factors=(
            Factor("SPY", "market", MarketBetaConfig(390, 60, stale_after=39)),
            Factor("Q Q", "a.b", MarketBetaConfig(3, 3)),
        ),
        log=LogConfig(level=LogLevel.WARNING),
    )
    assert isinstance(config.actors.overflow, OverflowPolicy)
    assert isinstance(config.server.hello_timeout_s, float)


def test_factor_section_has_the_keys_of_factor_and_model() -> None:
    given = {
        "FACTORS__MARKET__STALE_AFTER": "9",
        "FACTORS__MARKET__HALF_LIFE": "30",
        "FACTORS__MARKET__BAR_INTERVAL": "1min",
        "FACTORS__MARKET__CALENDAR": "09:30-16:00 America/New_York",
        "FACTORS__MARKET__MAX_ABS_RETURN": "0.5",
        "FACTORS__MARKET__MAX_ROBUST_Z": "25",
        "FACTORS__MARKET__ROBUST_WINDOW": "390",
        "FACTORS__MARKET__FEED_TIMEOUT": "5s",
        "FACTORS__MARKET__FROZEN_AFTER": "60",
    }
    text = describe(parse_config(SMALLEST, environ=variables(**given)))
    section = text.partition("[factors.market]\n")[2]
    keys = re.findall(r"^(\w+) = ", section, re.MULTILINE)
    assert keys == ["benchmark", *MarketBetaConfig.__struct_fields__]
    assert Factor.__struct_fields__ == ("benchmark", "name", "model")


@pytest.mark.parametrize("level", ["debug", "Debug", "DEBUG"])
def test_log_level_is_read_in_any_case(level: str) -> None:
    config = parse_config(f'{SMALLEST}\n[log]\nlevel = "{level}"')
    assert config.log.level is LogLevel.DEBUG


def test_config_is_frozen() -> None:
    config = parse_config(SMALLEST)
    with pytest.raises(AttributeError):
        config.symbols = ()  # type: ignore[misc]


# What a wrong one is told


class Bad(NamedTuple):
    text: str
    problems: list[tuple[str, str]]


FACTOR: Final = '[factors.market]\nbenchmark = "SPY"\n'
LONG: Final = "x" * (MAX_NAME_LENGTH + 1)

BAD: Final[dict[str, Bad]] = {
    "empty": Bad(
        "",
        [
            ("symbols", "must name at least one symbol"),
            ("factors", "must hold at least one, such as [factors.market]"),
        ],
    ),
    "empty universe": Bad(
        f"symbols = []\n{FACTOR}", [("symbols", "must name at least one symbol")]
    ),
    "symbols is text": Bad(
        f'symbols = "AAPL"\n{FACTOR}',
        [("symbols", "must be a list of names, was 'AAPL'")],
    ),
    "symbols": Bad(
        f'symbols = ["A", "B", "A", "", 5, "{LONG}", "A"]\n{FACTOR}',
        [
            ("symbols[2]", "'A' stands twice"),
            ("symbols[3]", "must not be empty"),
            ("symbols[4]", "must be a string, was 5"),
            ("symbols[5]", "must be at most 64 characters, was 65"),
            ("symbols[6]", "'A' stands twice"),
        ],
    ),
    "symbols below a section": Bad(
        f'[log]\nlevel = "INFO"\nsymbols = ["A"]\n{FACTOR}',
        [
            ("symbols", "must name at least one symbol"),
            ("log.symbols", "unknown key; did you mean 'symbols'?"),
        ],
    ),
    "no factors": Bad(
        'symbols = ["A"]\n[factors]\n',
        [("factors", "must hold at least one, such as [factors.market]")],
    ),
    "sections that are none": Bad(
        'symbols = ["A"]\nserver = 5\nactors = []\nlog = "INFO"\nfactors = true',
        [
            ("server", "must be a section, was 5"),
            ("actors", "must be a section, was []"),
            ("log", "must be a section, was 'INFO'"),
            ("factors", "must be a section, was True"),
        ],
    ),
    "a factor that is none": Bad(
        'symbols = ["A"]\n[factors]\nmarket = "SPY"',
        [("factors.market", "must be a section, was 'SPY'")],
    ),
    "board": Bad(
        f"""
        symbols = ["A"]
        [board]
        path = ""
        heartbeat_interval_s = 0
        heartbeat_bound_s = 0.1
        {FACTOR}
        """,
        [
            ("board.path", "must not be empty"),
            ("board.heartbeat_interval_s", "must be above 0, was 0"),
        ],
    ),
    "a heart that cannot beat in time": Bad(
        f"""
        symbols = ["A"]
        [board]
        heartbeat_interval_s = 0.6
        {FACTOR}
        """,
        [
            (
                "board.heartbeat_bound_s",
                "must be at least twice 0.6 (heartbeat_interval_s), was 1",
            )
        ],
    ),
    "server": Bad(
        f"""
        symbols = ["A"]
        {FACTOR}
        [server]
        address = "localhost:80"
        max_frame_bytes = 0
        outbox_high_water_bytes = 0
        hello_timeout_s = 0
        drain_timeout_s = -1.5
        heartbeat_interval_s = nan
        report_interval_s = 1e9
        """,
        [
            ("server.max_frame_bytes", "must be at least 1024, was 0"),
            ("server.outbox_high_water_bytes", "must be at least 1, was 0"),
            ("server.hello_timeout_s", "must be above 0, was 0"),
            ("server.drain_timeout_s", "must be above 0, was -1.5"),
            ("server.heartbeat_interval_s", "must be finite, was nan"),
            ("server.report_interval_s", "must be at most 86400, was 1000000000.0"),
            ("server.address", f"must be {FORMS}, was 'localhost:80'"),
        ],
    ),
    "a heart that clients cannot hear": Bad(
        f"""
        symbols = ["A"]
        {FACTOR}
        [server]
        heartbeat_interval_s = 60
        """,
        [("server.heartbeat_interval_s", "must be at most 5, was 60")],
    ),
    "actors": Bad(
        f"""
        symbols = ["A"]
        {FACTOR}
        [actors]
        mailbox_capacity = 0
        overflow = "disconnect"
        restart_limit = -1
        restart_window_s = inf
        restart_backoff_s = 2
        restart_backoff_max_s = 1
        turn_budget = 3_000_000_000
        """,
        [
            ("actors.mailbox_capacity", "must be at least 1, was 0"),
            ("actors.overflow", f"must be one of {POLICIES}, was 'disconnect'"),
            ("actors.restart_limit", "must be at least 0, was -1"),
            ("actors.restart_window_s", "must be finite, was inf"),
            ("actors.turn_budget", f"must be at most {LARGEST}, was 3000000000"),
            (
                "actors.restart_backoff_max_s",
                "must be at least 2 (restart_backoff_s), was 1",
            ),
        ],
    ),
    "types": Bad(
        f"""
        symbols = ["A"]
        {FACTOR}
        lookback_length = true
        min_observations = 60.0
        stale_after = []
        [server]
        address = 7700
        max_frame_bytes = 1e6
        hello_timeout_s = "5s"
        drain_timeout_s = true
        report_interval_s = 2026-01-01
        [actors]
        overflow = 1
        [log]
        level = "LOUD"
        """,
        [
            ("server.address", "must be a string, was 7700"),
            ("server.max_frame_bytes", "must be a whole number, was 1000000.0"),
            ("server.hello_timeout_s", "must be a number, was '5s'"),
            ("server.drain_timeout_s", "must be a number, was True"),
            (
                "server.report_interval_s",
                "must be a number, was datetime.date(2026, 1, 1)",
            ),
            ("actors.overflow", f"must be one of {POLICIES}, was 1"),
            ("log.level", f"must be one of {LEVELS}, was 'LOUD'"),
            ("factors.market.lookback_length", "must be a whole number, was True"),
            ("factors.market.min_observations", "must be a whole number, was 60.0"),
            ("factors.market.stale_after", "must be a whole number, was []"),
        ],
    ),
    "factors": Bad(
        f"""
        symbols = ["A"]
        [factors.market]
        min_observations = 2
        stale_after = 0
        [factors.market_qqq]
        benchmark = ""
        lookback_length = 30
        [factors."a.b"]
        benchmark = "{LONG}"
        lookback_length = 0
        [factors.{LONG}]
        benchmark = "SPY"
        [factors.""]
        benchmark = "SPY"
        """,
        [
            ("factors.market.benchmark", "is required"),
            (
                "factors.market.min_observations",
                "must be at least 3 for a standard error, was 2",
            ),
            ("factors.market.stale_after", "must be at least 1 bar, was 0"),
            ("factors.market_qqq.benchmark", "must not be empty"),
            (
                "factors.market_qqq.lookback_length",
                "a window of 30 bars never holds 60 pairs (min_observations)",
            ),
            (
                'factors."a.b".benchmark',
                "must be at most 64 characters, was 65",
            ),
            (
                'factors."a.b".lookback_length',
                "a window of 0 bars never holds 60 pairs (min_observations)",
            ),
            (f"factors.{LONG}", "must be at most 64 characters, was 65"),
            ('factors.""', "must not be empty"),
        ],
    ),
    "unknown keys": Bad(
        """
        symbol = ["A"]
        symbols = ["A"]
        mailbox_capacity = 5
        token = "hunter2"
        [sever]
        [server]
        addr = "/run/x.sock"
        lookback_length = 3
        "odd key" = 1
        [factors.market]
        benchmark = "SPY"
        lookback_lenght = 120
        """,
        [
            ("server.addr", "unknown key; did you mean 'address'?"),
            (
                "server.lookback_length",
                "unknown key; did you mean 'factors.market.lookback_length'?",
            ),
            ('server."odd key"', "unknown key"),
            (
                "factors.market.lookback_lenght",
                "unknown key; did you mean 'lookback_length'?",
            ),
            ("symbol", "unknown key; did you mean 'symbols'?"),
            (
                "mailbox_capacity",
                "unknown key; did you mean 'actors.mailbox_capacity'?",
            ),
            ("token", "unknown key"),
            ("sever", "unknown key; did you mean 'server'?"),
        ],
    ),
    "path too long": Bad(
        f'symbols = ["A"]\n{FACTOR}[server]\naddress = "/{"d" * MAX_PATH_BYTES}"',
        [
            (
                "server.address",
                (
                    f"path must be at most {MAX_PATH_BYTES} bytes, "
                    f"was {MAX_PATH_BYTES + 1}, was '/{'d' * MAX_PATH_BYTES}'"
                ),
            )
        ],
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_all_problems_are_named_at_once(bad: Bad) -> None:
    assert problems_of(bad.text) == bad.problems


def test_wrong_value_is_not_also_compared_by_its_default() -> None:
    """60 pairs never fit into 30 bars, but nobody said 60."""
    text = f'symbols = ["A"]\n{FACTOR}lookback_length = 30\nmin_observations = "ten"'
    assert problems_of(text) == [
        ("factors.market.min_observations", "must be a whole number, was 'ten'")
    ]
    text = f"{SMALLEST}\n[actors]\nrestart_backoff_s = '9'\nrestart_backoff_max_s = 0"
    assert problems_of(text) == [
        ("actors.restart_backoff_s", "must be a number, was '9'")
    ]


Share: TypeAlias = Annotated[float, Meta(gt=0.5)] | None
OTHER_TYPES: Final[list[tuple[object, object, str]]] = [
    (inf, float, "must be finite, was inf"),
    (0.5, Share, "must be above 0.5, was 0.5"),
    (2, Annotated[int, Meta(lt=2)], "must be below 2, was 2"),
    (1, bool, "expected `bool`, got `int`, was 1"),
    ("x", Literal["bars", "pairs"], "must be one of bars, pairs, was 'x'"),
]


@pytest.mark.parametrize(("value", "kind", "reason"), OTHER_TYPES)
def test_field_of_another_type_has_its_problem_told(
    value: object, kind: object, reason: str
) -> None:
    """A model may get fields of types that none has now."""
    reader = Reader()
    reader.value(value, "factors.market.new", kind)
    assert reader.problems == [("factors.market.new", reason)]


SYNTAX: Final = {
    "symbols = [": ("line 1, column 12", "invalid value"),
    "symbols = ['A'\nx = 1": ("line 2, column 1", "unclosed array"),
    "[server\n": ("line 1, column 8", "expected ']' at the end of a table declaration"),
    "a = 1\na = 2\n": ("line 2, column 6", "cannot overwrite a value"),
    "a = 1\nb = nope\n": ("line 2, column 5", "invalid value"),
}


@pytest.mark.parametrize("text", SYNTAX)
def test_syntax_error_has_line_and_column(text: str) -> None:
    assert problems_of(text) == [SYNTAX[text]]


def test_number_that_is_too_long_to_read_is_a_config_error() -> None:
    [(place, reason)] = problems_of(f"symbols = {'9' * 5000}")
    assert place == "line 1, column 5011"
    assert "4300" in reason


def test_error_text_names_the_source_and_every_problem() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("", source="beta.toml")
    assert str(caught.value) == (
        "beta.toml: symbols: must name at least one symbol; "
        "factors: must hold at least one, such as [factors.market]"
    )


def test_value_of_an_unknown_key_is_not_repeated() -> None:
    """It may be a secret."""
    text = f'token = "hunter2"\n{SMALLEST}[server]\ntoken = "hunter2"'
    with pytest.raises(ConfigError) as caught:
        parse_config(text, environ=variables(SERVER__TOKEN="hunter2", TOKEN="hunter2"))
    assert "hunter2" not in str(caught.value)
    assert len(caught.value.problems) == 4


# Variables


def test_variables_override_the_file() -> None:
    config = parse_config(
        f"{SMALLEST}[server]\nmax_frame_bytes = 4096",
        environ={
            **variables(
                SYMBOLS='["A", "B"]',
                SERVER__MAX_FRAME_BYTES="0x10000",
                SERVER__HELLO_TIMEOUT_S="2",
                SERVER__ADDRESS="/run/x.sock",
                ACTORS__OVERFLOW="'block'",
                FACTORS__MARKET__BENCHMARK="QQQ",
                FACTORS__MARKET__LOOKBACK_LENGTH=" 120 # bars",
                LOG__LEVEL="debug",
            ),
            "beta_factory__Actors__Turn_Budget": "9",
            "BETA_FACTORY_CONFIG": "not ours",
            "PATH": "/bin",
        },
    )
    assert config == SidecarConfig(
        symbols=("A", "B"),
        server=ServerConfig(
            address="/run/x.sock", max_frame_bytes=65_536, hello_timeout_s=2.0
        ),
        actors=ActorsConfig(overflow=OverflowPolicy.BLOCK, turn_budget=9),
        factors=(Factor("QQQ", "market", MarketBetaConfig(120)),),
        log=LogConfig(level=LogLevel.DEBUG),
    )


@pytest.mark.parametrize(
    "name", ["700", "1e5", "true", "nan", "2026-01-01", "[A]", "a=b"]
)
def test_name_in_a_variable_needs_no_quotes(name: str) -> None:
    config = parse_config(SMALLEST, environ=variables(FACTORS__MARKET__BENCHMARK=name))
    assert config.factors[0].benchmark == name


def test_variable_finds_a_factor_whatever_its_case() -> None:
    text = 'symbols = ["A"]\n[factors.Market__X]\nbenchmark = "SPY"'
    config = parse_config(text, environ=variables(FACTORS__MARKET__X__BENCHMARK="Q"))
    assert config.factors == (Factor("Q", "Market__X"),)


def test_variables_are_enough() -> None:
    environ = variables(SYMBOLS='["A"]', FACTORS__MARKET__BENCHMARK="SPY")
    assert parse_config("", environ=environ) == SidecarConfig(
        symbols=("A",), factors=(Factor("SPY"),)
    )


class BadVariable(NamedTuple):
    environ: dict[str, str]
    problems: list[tuple[str, str]]


BAD_VARIABLES: Final[dict[str, BadVariable]] = {
    "no key": BadVariable(
        variables(SERVER__ADRESS="x", SYMBOL="[]", LOG="1", QUITE__ELSE="1")
        | {PREFIX: "x"},
        [
            (PREFIX, "fits no key"),
            (f"{PREFIX}LOG", "fits no key"),
            (f"{PREFIX}QUITE__ELSE", "fits no key"),
            (
                f"{PREFIX}SERVER__ADRESS",
                "fits no key; did you mean 'BETA_FACTORY__SERVER__ADDRESS'?",
            ),
            (
                f"{PREFIX}SYMBOL",
                "fits no key; did you mean 'BETA_FACTORY__SYMBOLS'?",
            ),
        ],
    ),
    "no key of a factor": BadVariable(
        variables(FACTORS__MARKET__BENCHMRK="x", FACTORS____BENCHMARK="x"),
        [
            (
                f"{PREFIX}FACTORS__MARKET__BENCHMRK",
                "fits no key; did you mean 'BETA_FACTORY__FACTORS__MARKET__BENCHMARK'?",
            ),
            (
                f"{PREFIX}FACTORS____BENCHMARK",
                "fits no key; did you mean 'BETA_FACTORY__FACTORS__MARKET__BENCHMARK'?",
            ),
        ],
    ),
    "wrong values": BadVariable(
        variables(
            SYMBOLS='["A", "A"]',
            SERVER__MAX_FRAME_BYTES="1kB",
            SERVER__ADDRESS="x",
            ACTORS__TURN_BUDGET="1\nturn_budget = 2",
            LOG__LEVEL="3",
            FACTORS__MARKET__MIN_OBSERVATIONS="",
            FACTORS__SECTOR__STALE_AFTER="1",
        ),
        [
            ("symbols[1]", f"'A' stands twice (set by {PREFIX}SYMBOLS)"),
            (
                "server.max_frame_bytes",
                (
                    "must be a whole number, was '1kB' "
                    f"(set by {PREFIX}SERVER__MAX_FRAME_BYTES)"
                ),
            ),
            (
                "server.address",
                f"must be {FORMS}, was 'x' (set by {PREFIX}SERVER__ADDRESS)",
            ),
            (
                "actors.turn_budget",
                (
                    "must be a whole number, was '1\\nturn_budget = 2' "
                    f"(set by {PREFIX}ACTORS__TURN_BUDGET)"
                ),
            ),
            (
                "log.level",
                f"must be one of {LEVELS}, was 3 (set by {PREFIX}LOG__LEVEL)",
            ),
            (
                "factors.market.min_observations",
                (
                    "must be a whole number, was '' "
                    f"(set by {PREFIX}FACTORS__MARKET__MIN_OBSERVATIONS)"
                ),
            ),
            ("factors.sector.benchmark", "is required"),
        ],
    ),
    "two for one key": BadVariable(
        variables(LOG__LEVEL="INFO") | {"beta_factory__log__level": "DEBUG"},
        [
            (
                "log.level",
                (
                    "is also set by beta_factory__log__level "
                    "(set by BETA_FACTORY__LOG__LEVEL)"
                ),
            )
        ],
    ),
    "not UTF-8": BadVariable(
        variables(FACTORS__MARKET__BENCHMARK="\udcff"),
        [("'BETA_FACTORY__FACTORS__MARKET__BENCHMARK'", "is not UTF-8")],
    ),
}


@pytest.mark.parametrize("bad", BAD_VARIABLES.values(), ids=BAD_VARIABLES.keys())
def test_problem_of_a_variable_names_it(bad: BadVariable) -> None:
    assert problems_of(SMALLEST, bad.environ) == bad.problems


def test_variable_that_fits_two_factors_is_refused() -> None:
    text = f'symbols = ["A"]\n{FACTOR}[factors.Market]\nbenchmark = "QQQ"'
    environ = variables(FACTORS__MARKET__STALE_AFTER="1")
    assert problems_of(text, environ) == [
        (f"{PREFIX}FACTORS__MARKET__STALE_AFTER", "fits each of market, Market")
    ]


def test_variable_of_a_section_that_is_none_changes_nothing() -> None:
    environ = variables(SERVER__ADDRESS="/run/x", FACTORS__MARKET__BENCHMARK="SPY")
    assert problems_of('symbols = ["A"]\nserver = 1\nfactors = 2', environ) == [
        ("server", "must be a section, was 1"),
        ("factors", "must be a section, was 2"),
    ]


# Files


def test_file_is_read_with_the_variables_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "beta-factory.toml"
    path.write_bytes(SMALLEST.replace("\n", "\r\n").encode())
    monkeypatch.setenv(f"{PREFIX}SYMBOLS", '["Ü"]')
    assert load_config(path).symbols == ("Ü",)
    assert load_config(str(path), environ={}).symbols == ("AAPL", "MSFT")


def test_problems_of_a_file_name_it(tmp_path: Path) -> None:
    path = tmp_path / "beta-factory.toml"
    path.write_text("x = 1")
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={})
    assert caught.value.source == str(path)
    assert str(caught.value).startswith(f"{path}: symbols: ")


def test_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_config(tmp_path / "none.toml", environ={})
    assert caught.value.filename == str(tmp_path / "none.toml")


def test_file_that_is_not_utf_8_is_a_config_error(tmp_path: Path) -> None:
    path = tmp_path / "beta-factory.toml"
    path.write_bytes(b"# one\n# two \xff\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={})
    assert caught.value.problems == (("line 2", "is not UTF-8"),)


def test_default_address_that_cannot_be_is_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/" + "d" * MAX_PATH_BYTES)
    [(path, reason)] = problems_of(SMALLEST)
    assert path == "server.address"
    assert reason.startswith(f"path must be at most {MAX_PATH_BYTES} bytes")
    text = f'{SMALLEST}[server]\naddress = "/run/x.sock"'
    assert parse_config(text).server.address == "/run/x.sock"


def test_sample_shows_every_key_with_its_default() -> None:
    sample = (ROOT / "beta-factory.toml").read_text()
    config = parse_config(sample)
    assert config == parse_config(SMALLEST)
    whole = re.sub(r"^# (\w+ = )", r"\1", sample, flags=re.MULTILINE)
    assert whole != sample
    shown = {line.split(" = ")[0] for line in whole.splitlines() if " = " in line}
    described = describe(parse_config(whole))
    assert shown == {
        line.split(" = ")[0] for line in described.splitlines() if " = " in line
    }


# Round trips

names = st.text(characters, min_size=1, max_size=MAX_NAME_LENGTH)
waits = st.floats(0, LONGEST_S, exclude_min=True)
limits = st.integers(1, LARGEST)
addresses = st.sampled_from(
    ["/run/x.sock", "./x.sock", "tcp://[::1]:0", 'unix:///run/"ü\\\x7f\t".sock']
)


@st.composite
def models(draw: st.DrawFn) -> MarketBetaConfig:
    min_observations = draw(st.integers(3, 10**6))
    return MarketBetaConfig(
        lookback_length=draw(st.integers(min_observations, 10**6)),
        min_observations=min_observations,
        stale_after=draw(st.none() | st.integers(1, 10**6)),
    )


@st.composite
def configs(draw: st.DrawFn) -> SidecarConfig:
    backoff, backoff_max = sorted(draw(st.tuples(waits, waits)))
    return SidecarConfig(
        symbols=tuple(draw(st.lists(names, min_size=1, max_size=20, unique=True))),
        server=ServerConfig(
            address=draw(addresses),
            access_file=draw(names),
            token_variable=draw(st.none() | st.just("DESK_TOKEN")),
            max_connections=draw(limits),
            max_subscriptions=draw(limits),
            linger_timeout_s=draw(waits),
            max_frame_bytes=draw(st.integers(1024, LARGEST)),
            outbox_high_water_bytes=draw(limits),
            hello_timeout_s=draw(waits),
            drain_timeout_s=draw(waits),
            heartbeat_interval_s=min(draw(waits), LONGEST_HEARTBEAT_S),
            report_interval_s=draw(waits),
        ),
        actors=ActorsConfig(
            mailbox_capacity=draw(limits),
            overflow=draw(st.sampled_from(OverflowPolicy)),
            restart_limit=draw(st.integers(0, LARGEST)),
            restart_window_s=draw(waits),
            restart_backoff_s=backoff,
            restart_backoff_max_s=backoff_max,
            turn_budget=draw(limits),
        ),
        factors=tuple(
            Factor(draw(names), name, draw(models()))
            for name in draw(st.lists(names, min_size=1, max_size=4, unique=True))
        ),
        log=LogConfig(level=draw(st.sampled_from(LogLevel))),
    )


@given(configs())
def test_described_config_reads_back_the_same(config: SidecarConfig) -> None:
    assert parse_config(describe(config)) == config


@given(configs())
def test_config_can_come_from_variables_alone(config: SidecarConfig) -> None:
    """Each key of a description, set by its variable."""
    factors = tuple(
        msgspec.structs.replace(factor, name=f"f{number}")
        for number, factor in enumerate(config.factors)
    )
    config = msgspec.structs.replace(config, factors=factors)
    environ: dict[str, str] = {}
    for section, values in tomllib.loads(describe(config)).items():
        if section == "symbols":
            environ[f"{PREFIX}SYMBOLS"] = inline(values)
        elif section == "factors":
            for name, factor in values.items():
                for key, value in factor.items():
                    environ[f"{PREFIX}{section}__{name}__{key}"] = inline(value)
        else:
            for key, value in values.items():
                environ[f"{PREFIX}{section}__{key}"] = inline(value)
    assert parse_config("", environ=environ) == config


def test_description_gives_each_of_many_symbols_a_line() -> None:
    symbols = [f"S{i:04d}" for i in range(50)]
    text = describe(parse_config(f"symbols = {json.dumps(symbols)}\n{FACTOR}"))
    assert text.startswith('symbols = [\n    "S0000",\n    "S0001",\n')
    assert max(map(len, text.splitlines())) < 80


def test_description_is_what_the_sample_says() -> None:
    text = 'symbols = ["AAPL", "MSFT"]\n[server]\naddress = "/run/x"\n' + FACTOR
    assert describe(parse_config(text)) == (
        'symbols = ["AAPL", "MSFT"]\n'
        "\n[server]\n"
        'address = "/run/x"\n'
        "max_connections = 1024\n"
        "max_subscriptions = 1024\n"
        "max_frame_bytes = 16777216\n"
        "outbox_high_water_bytes = 1048576\n"
        "hello_timeout_s = 5.0\n"
        "linger_timeout_s = 60.0\n"
        "drain_timeout_s = 5.0\n"
        "heartbeat_interval_s = 1.0\n"
        "report_interval_s = 1.0\n"
        "\n[actors]\n"
        "mailbox_capacity = 1024\n"
        'overflow = "drop_oldest"\n'
        "restart_limit = 5\n"
        "restart_window_s = 60.0\n"
        "restart_backoff_s = 0.05\n"
        "restart_backoff_max_s = 5.0\n"
        "turn_budget = 20000\n"
        "\n[board]\n"
        "heartbeat_interval_s = 0.1\n"
        "heartbeat_bound_s = 1.0\n"
        "\n[store]\n"
        'policy = "os"\n'
        "retention_bytes = 8589934592\n"
        "retention_days = 7.0\n"
        "snapshot_interval_s = 60.0\n"
        "\n[log]\n"
        'level = "INFO"\n'
        "\n[factors.market]\n"
        'benchmark = "SPY"\n'
        "lookback_length = 390\n"
        "min_observations = 60\n"
        'window = "bars"\n'
        'returns = "simple"\n'
        'overnight = "exclude"\n'
        "allowed_lateness = 0\n"
        "robust_min_observations = 30\n"
    )


# Anything at all

keys = st.sampled_from(
    [
        "symbols",
        "server",
        "actors",
        "factors",
        "log",
        "market",
        *ServerConfig.__struct_fields__,
        *ActorsConfig.__struct_fields__,
        *MarketBetaConfig.__struct_fields__,
        "benchmark",
        "level",
        "addr",
    ]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | names
    | st.sampled_from(["INFO", "block", "SPY", "/run/x", 5, 100, 0.5]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=20,
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "symbols": values,
        "server": values,
        "actors": values,
        "log": values,
        "factors": st.dictionaries(names, values) | values,
    },
)


Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"


def inline(value: Value) -> str:
    if isinstance(value, dict):
        items = (f"{json.dumps(key)} = {inline(each)}" for key, each in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(inline, value))}]"
    if isinstance(value, float):
        return repr(value)
    if value is None:
        return "1979-05-27T07:32:00Z"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@given(documents, st.dictionaries(names.map(PREFIX.__add__), names))
def test_any_document_is_a_config_or_a_config_error(
    document: dict[str, Any], environ: dict[str, str]
) -> None:
    text = "\n".join(f"{key} = {inline(value)}" for key, value in document.items())
    with suppress(ConfigError):
        config = parse_config(text, environ=environ)
        assert parse_config(describe(config)) == config


@given(st.text(characters))
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text)
