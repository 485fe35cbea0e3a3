"""The kinds of events, by the name that a script gives them."""

from typing import Final

from .commands import Add, Halt, Remove, Resume, SessionOpens
from .event import Event
from .failures import ActorFailure, Overload, Restore, Snapshot
from .quarantine import Release
from .transport import Burst, ClockSkew, Delayed, Duplicate, FeedDeath, Gap
from .values import BenchmarkMissed, Correction, Flat, Offset, Spike

EVENTS: Final[dict[str, type[Event]]] = {
    "halt": Halt,
    "resume": Resume,
    "add": Add,
    "remove": Remove,
    "session_opened": SessionOpens,
    "feed_death": FeedDeath,
    "gap": Gap,
    "delayed": Delayed,
    "duplicate": Duplicate,
    "burst": Burst,
    "clock_skew": ClockSkew,
    "spike": Spike,
    "offset": Offset,
    "flat": Flat,
    "correction": Correction,
    "benchmark_missed": BenchmarkMissed,
    "actor_failure": ActorFailure,
    "overload": Overload,
    "snapshot": Snapshot,
    "restore": Restore,
    "release": Release,
}
