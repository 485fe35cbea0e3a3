"""The sidecar's configuration: frozen structs, and nothing that reads.

Rule: the structs are the one description of a section: its keys, types, bounds and
defaults. How a file and variables become one of them is said in `config_reader`.
"""

import enum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ..actors import Factor
from ..messages import ConfigError
from ..messages.fields import Name
from .address import Address, default_address
from .durability import Durability
from .mailbox import OverflowPolicy
from .supervisor import RestartPolicy

LONGEST_S: Final = 86_400.0
"""A day; a longer wait is a mistake in the unit."""

LONGEST_HEARTBEAT_S: Final = 5.0
"""Half of `link.SILENCE_TIMEOUT_S`: a client must not take a sidecar that rests between
two heartbeats for one that is lost."""

LARGEST: Final = 2**31 - 1
"""More messages or bytes than this are a mistake, too."""

Seconds = Annotated[float, Meta(gt=0, le=LONGEST_S)]
Delay = Annotated[float, Meta(ge=0, le=LONGEST_S)]
Limit = Annotated[int, Meta(ge=1, le=LARGEST)]
Text = Annotated[str, Meta(min_length=1)]
VariableName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


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
        When ``address`` is none, when it is TCP and asks peers for nothing, or when
        the keys of TLS do not fit together.
    """

    address: str = msgspec.field(default_factory=lambda: str(default_address()))
    """As `Address.parse` reads it."""
    access_file: Text | None = None
    """Who may connect, as what, and to which topics; see `runtime.access`."""
    token_variable: VariableName | None = None
    """Name of the environment variable with the one token that allows everything."""
    tls_certificate: Text | None = None
    """Certificate of the sidecar, with those that signed it; makes TCP encrypted."""
    tls_key: Text | None = None
    """Its key, where it is not in the same file."""
    tls_client_ca: Text | None = None
    """Certificates that must have signed that of each peer."""
    max_connections: Limit = 1024
    """Peers that may be connected at once."""
    max_subscriptions: Limit = 1024
    """Subscriptions that one peer may have at once."""
    max_frame_bytes: Annotated[int, Meta(ge=1024, le=LARGEST)] = 16_777_216
    """A peer that announces a longer frame is cut off."""
    outbox_high_water_bytes: Limit = 1_048_576
    """Bytes that wait for a subscriber before it counts as slow."""
    hello_timeout_s: Seconds = 5.0
    """How long a new connection may take to say who it is."""
    linger_timeout_s: Seconds = 60.0
    """How long a subscriber that was cut for being slow has to read why."""
    drain_timeout_s: Seconds = 5.0
    """How long a shutdown waits for subscribers to read what is theirs."""
    heartbeat_interval_s: Annotated[float, Meta(gt=0, le=LONGEST_HEARTBEAT_S)] = 1.0
    """How often every peer is sent a sign of life: a client takes ten seconds without
    any for a lost connection."""
    report_interval_s: Seconds = 1.0
    """How often counted drops are logged."""

    def __post_init__(self) -> None:
        is_tcp = Address.parse(self.address).path is None
        has_tls = self.tls_certificate is not None
        keys = ("tls_certificate", "tls_key", "tls_client_ca")
        problems = [
            (key, "is for a tcp:// address only")
            for key in keys
            if not is_tcp and getattr(self, key) is not None
        ]
        if is_tcp and not has_tls:
            problems = [
                (key, "needs a tls_certificate")
                for key in keys[1:]
                if getattr(self, key) is not None
            ]
        asked = (self.access_file, self.token_variable, self.tls_client_ca)
        if is_tcp and asked == (None, None, None):
            reason = (
                "a tcp:// address is open to others: it needs an access_file, "
                "a token_variable or a tls_client_ca"
            )
            problems.append(("address", reason))
        if problems:
            raise ConfigError(problems)


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
    restart_backoff_s: Delay = 0.05
    """Wait before the first restart; doubles with each one after it."""
    restart_backoff_max_s: Delay = 5.0
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


class StoreConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Where the sidecar writes down what it takes; see `runtime.store`."""

    path: Annotated[str, Meta(min_length=1)] | None = None
    """The SQLite file; without one nothing outlives the process."""
    policy: Durability = Durability.OS
    """What has happened to an observation before it is acknowledged."""
    retention_bytes: Annotated[int, Meta(ge=1_048_576, le=2**50)] = 8 * 2**30
    """Journal and snapshots together; the newest two snapshots always stay."""
    retention_days: Annotated[float, Meta(gt=0, le=36_500)] = 7.0
    snapshot_interval_s: Seconds = 60.0
    """A restart replays at most about this much of the journal."""


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
    store: StoreConfig = StoreConfig()
    factors: tuple[Factor, ...]
    log: LogConfig = LogConfig()
