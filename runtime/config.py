"""The sidecar's configuration: TOML and environment in, frozen structs out.

Rule: the structs are the one description of a section: its keys, types, bounds and
defaults.

`reading` says how a file becomes these structs.

A variable ``BETA_FACTORY__<SECTION>__<KEY>``, in any case, overrides a key. Its value
is written as in TOML, except that a string needs no quotes::

    BETA_FACTORY__SYMBOLS='["AAPL", "MSFT"]'
    BETA_FACTORY__SERVER__MAX_FRAME_BYTES=65536
    BETA_FACTORY__FACTORS__MARKET__BENCHMARK=QQQ
"""

import enum
import os
import re
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, structs

from ..actors import Factor
from ..messages import ConfigError
from ..messages.fields import Name
from .address import Address, default_address
from .mailbox import OverflowPolicy
from .reading import (
    FACTOR_KEYS,
    Reader,
    Table,
    as_table,
    hint,
    key_text,
    parse_toml,
    read_text,
    types_of,
    value_text,
)
from .supervisor import RestartPolicy

PREFIX: Final = "BETA_FACTORY__"
"""A variable that begins like this is ours, and must fit a key."""

LONGEST_S: Final = 86_400.0
"""A day; a longer wait is a mistake in the unit."""

LARGEST: Final = 2**31 - 1
"""More messages or bytes than this are a mistake, too."""

Seconds = Annotated[float, Meta(gt=0, le=LONGEST_S)]
Backoff = Annotated[float, Meta(ge=0, le=LONGEST_S)]
Limit = Annotated[int, Meta(ge=1, le=LARGEST)]


class LogLevel(enum.StrEnum):
    """The least severe record that is logged; configured in any case."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"

    @classmethod
    def _missing_(cls, value: object) -> "LogLevel | None":
        return cls.__members__.get(str(value).upper())


class ServerConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Where the sidecar listens and what it allows its peers.

    Raises
    ------
    ConfigError
        When ``address`` is none.
    """

    address: str = msgspec.field(default_factory=lambda: str(default_address()))
    """As `Address.parse` reads it."""
    max_frame_bytes: Annotated[int, Meta(ge=1024, le=LARGEST)] = 16_777_216
    """A peer that announces a longer frame is cut off."""
    outbox_high_water_bytes: Limit = 1_048_576
    """Bytes that wait for a subscriber before it counts as slow."""
    hello_timeout_s: Seconds = 5.0
    """How long a new connection may take to say who it is."""
    drain_timeout_s: Seconds = 5.0
    """How long a shutdown waits for subscribers to read what is theirs."""
    heartbeat_interval_s: Seconds = 1.0
    report_interval_s: Seconds = 1.0
    """How often counted drops are logged."""

    def __post_init__(self) -> None:
        Address.parse(self.address)


class ActorsConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """How actors are run and restarted.

    Raises
    ------
    ConfigError
        When the backoff begins above its own maximum.
    """

    mailbox_capacity: Limit = 1024
    """Messages that may wait for one actor."""
    overflow: OverflowPolicy = OverflowPolicy.DROP_OLDEST
    """What a full mailbox does with one more."""
    restart_limit: Annotated[int, Meta(ge=0, le=LARGEST)] = 5
    """Restarts within ``restart_window_s``; one failure more and an actor is
    quarantined."""
    restart_window_s: Seconds = 60.0
    restart_backoff_s: Backoff = 0.05
    """Wait before the first restart; doubles with each one after it."""
    restart_backoff_max_s: Backoff = 5.0
    """Where the doubling ends."""
    turn_budget: Limit = 20_000
    """Messages handled before other work of the loop has its turn."""

    def __post_init__(self) -> None:
        if self.restart_backoff_max_s < self.restart_backoff_s:
            reason = (
                f"must be at least {self.restart_backoff_s:g} (restart_backoff_s), "
                f"was {self.restart_backoff_max_s:g}"
            )
            raise ConfigError([("restart_backoff_max_s", reason)])

    @property
    def restart_policy(self) -> RestartPolicy:
        """The four keys about restarts."""
        return RestartPolicy(
            restart_limit=self.restart_limit,
            restart_window_s=self.restart_window_s,
            restart_backoff_s=self.restart_backoff_s,
            restart_backoff_max_s=self.restart_backoff_max_s,
        )


class LogConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged."""

    level: LogLevel = LogLevel.INFO


class BoardConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The latest-value board, for strategies on the same host.

    Raises
    ------
    ConfigError
        When a writer could miss its bound between two heartbeats.
    """

    path: Annotated[str, Meta(min_length=1)] | None = None
    """The file that strategies map, best in a tmpfs; no board without one."""
    heartbeat_interval_s: Seconds = 0.1
    heartbeat_bound_s: Seconds = 1.0
    """A writer that is silent for longer is dead to its readers."""

    def __post_init__(self) -> None:
        if self.heartbeat_bound_s < 2 * self.heartbeat_interval_s:
            reason = (
                f"must be at least twice {self.heartbeat_interval_s:g} "
                f"(heartbeat_interval_s), was {self.heartbeat_bound_s:g}"
            )
            raise ConfigError([("heartbeat_bound_s", reason)])


class SidecarConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Everything a sidecar is told before it starts.

    `load_config` and `parse_config` check types and bounds; one that is built in code
    is trusted to keep to them.
    """

    symbols: tuple[Name, ...]
    """The universe."""
    server: ServerConfig = msgspec.field(default_factory=ServerConfig)
    actors: ActorsConfig = ActorsConfig()
    board: BoardConfig = BoardConfig()
    factors: tuple[Factor, ...]
    log: LogConfig = LogConfig()


def load_config(
    path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ
) -> SidecarConfig:
    """Read a configuration file.

    Parameters
    ----------
    path
        A TOML file.
    environ
        Variables that override its keys.

    Raises
    ------
    ConfigError
        When the file is not TOML, or keys or values are wrong: with all of them.
    FileNotFoundError
        When there is no such file.
    """
    return parse_config(read_text(path), source=os.fspath(path), environ=environ)


def parse_config(
    text: str, *, source: str | None = None, environ: Mapping[str, str] | None = None
) -> SidecarConfig:
    """Read a configuration from TOML text.

    Parameters
    ----------
    text
        TOML.
    source
        Where it came from, for errors.
    environ
        Variables that override its keys; none by default.

    Raises
    ------
    ConfigError
        When the text is not TOML, or keys or values are wrong: with all of them.

    Examples
    --------
    >>> config = parse_config('''
    ... symbols = ["AAPL", "MSFT"]
    ... [factors.market]
    ... benchmark = "SPY"
    ... lookback_length = 120
    ... ''')
    >>> config.factors[0].model.lookback_length, config.actors.mailbox_capacity
    (120, 1024)
    """
    document = parse_toml(text, source)
    reader = _Reader()
    reader.override(document, environ or {})
    if config := reader.read(document):
        return config
    raise ConfigError(reader.problems, source=source)


def describe(config: SidecarConfig) -> str:
    """Return a configuration, defaults filled in, as TOML that reads back the same."""
    lines = [f"symbols = {value_text(config.symbols)}"]
    for name in _SECTIONS:
        lines += ["", f"[{name}]", *_assignments(getattr(config, name))]
    for factor in config.factors:
        lines += ["", f"[factors.{key_text(factor.name)}]"]
        lines += [
            f"benchmark = {value_text(factor.benchmark)}",
            *_assignments(factor.model),
        ]
    return "\n".join(lines) + "\n"


_SECTIONS: Final = {
    name: kind
    for name, kind in types_of(SidecarConfig).items()
    if isinstance(kind, type)
}
_KEYS: Final = {section: types_of(struct) for section, struct in _SECTIONS.items()}

_PLACES: Final = (
    {key: f"factors.market.{key}" for key in FACTOR_KEYS}
    | {key: f"{section}.{key}" for section in _KEYS for key in _KEYS[section]}
    | {"symbols": "symbols"}
)
"""Where each key belongs, for those who put it elsewhere."""


class _Reader(Reader):
    # Walks a document and builds the configuration, or collects what is wrong with it.
    places = _PLACES

    def __init__(self) -> None:
        super().__init__()
        self._variable_of: dict[str, str] = {}

    def override(self, document: Table, environ: Mapping[str, str]) -> None:
        # Puts the values of our variables into the document.
        for variable in sorted(v for v in environ if v.upper().startswith(PREFIX)):
            target = self._target(variable, environ[variable], document)
            if target is None:
                continue
            (*sections, key), kind = target
            path = ".".join([*map(key_text, sections), key])
            if path in self._variable_of:
                self.report(path, f"is also set by {variable}")
                continue
            table: Any = document
            for section in sections:
                table = as_table(table).setdefault(section, {})
            if isinstance(table, dict):  # else its section is reported when it is read
                self._variable_of[path] = variable
                table[key] = _variable_value(environ[variable], kind)

    def read(self, document: Table) -> SidecarConfig | None:
        # None where there are problems.
        symbols = self.symbols(document.get("symbols", []))
        sections: Table = {}
        for name, struct in _SECTIONS.items():
            values, wrong = self.values(document.get(name, {}), name, _KEYS[name])
            sections[name] = self.build(struct, values, wrong, name)
        factors = self.factors(document.get("factors", {}))
        self.reject_unknown(document, "", ("symbols", "factors", *_SECTIONS))
        if self.problems:
            return None
        return SidecarConfig(symbols=symbols, factors=factors, **sections)

    def report(self, path: str, reason: str) -> None:
        # An item is set by whatever sets its list.
        variable = self._variable_of.get(re.sub(r"\[\d+\]$", "", path))
        by = f" (set by {variable})" if variable else ""
        self.problems.append((path, reason + by))

    def _target(
        self, variable: str, value: str, document: Table
    ) -> tuple[list[str], Any] | None:
        # Path and type of the key that a variable sets.
        factors = as_table(document.get("factors"))
        if re.search("[\ud800-\udfff]", variable + value):  # bytes as Python has them
            self.report(ascii(variable), "is not UTF-8")
            return None
        match variable[len(PREFIX) :].lower().split("__"):
            case ["symbols"]:
                return ["symbols"], tuple[Name, ...]
            case [section, key] if key in _KEYS.get(section, ()):
                return [section, key], _KEYS[section][key]
            case ["factors", *rest, key] if any(rest) and key in FACTOR_KEYS:
                name = "__".join(rest)
                names = [held for held in factors if held.lower() == name]
                if len(names) > 1:
                    self.report(variable, f"fits each of {', '.join(names)}")
                    return None
                return ["factors", *(names or [name]), key], FACTOR_KEYS[key]
            case _:
                pass
        tables = _KEYS | {f"factors__{f}": FACTOR_KEYS for f in factors or ("market",)}
        known = [f"{name}__{key}" for name, keys in tables.items() for key in keys]
        known = [f"{PREFIX}{path}".upper() for path in ("symbols", *known)]
        guess = hint(variable.upper(), known, cutoff=0.85)  # all begin alike
        self.report(variable, f"fits no key{guess}")
        return None


def _variable_value(text: str, kind: Any) -> object:  # noqa: ANN401 - any field's
    try:
        parsed = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    if len(parsed) > 1:  # there was a second line
        return text
    # A name like 700 is a number in TOML, so it is text where a number will not do.
    for candidate in (parsed["value"], text):
        try:
            msgspec.convert(candidate, kind)
        except msgspec.ValidationError:
            continue
        return candidate
    return parsed["value"]


def _assignments(section: msgspec.Struct) -> list[str]:
    values = structs.asdict(section).items()
    return [
        f"{key} = {value_text(value)}" for key, value in values if value is not None
    ]
