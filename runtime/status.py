"""How a sidecar is, at one moment between two turns.

Rule: what is reported was counted where it happened, and is only put together here. A
report of the largest universe takes well under a millisecond: topics are ranked as
arrays, and only those that lost most become messages.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..actors import BetaFactory
from ..messages import (
    ReportStatus,
    SourceReported,
    StaleReported,
    StatusReported,
    SubscriberReported,
    TopicReported,
)
from ..messages.status import MAX_LISTED
from ..messages.topics import escape
from .memory import resident_bytes

if TYPE_CHECKING:
    from .server import Server

RETURN_KIND: Final = "return"
BENCHMARK_KIND: Final = "benchmark"


def report(server: "Server", request: ReportStatus) -> StatusReported:
    """Return how a server is, with its system."""
    limit = min(request.limit, MAX_LISTED)
    system = server.system
    statistics = system.statistics()
    publishers = system.factory.publishers
    n_topics, topics = _topics(system.factory, limit)
    slow = [
        SubscriberReported(
            subscriber=connection.name,
            is_slow=connection.is_slow,
            n_outbox_bytes=connection.n_outbox_bytes,
            n_conflated=connection.n_conflated,
        )
        for connection in server.connections
        if connection.is_slow or connection.n_conflated
    ]
    slow.sort(key=lambda each: (-each.n_conflated, each.subscriber))
    return StatusReported(
        request=request.request,
        instance=server.instance,
        memory_bytes=resident_bytes(),
        n_connections=len(server.connections),
        n_frames=server.n_frames,
        n_bars=statistics.n_bars,
        n_pairs=statistics.n_pairs,
        n_updates=statistics.n_updates,
        n_conflated=server.n_conflated,
        n_undelivered=sum(int(each.n_undelivered.sum()) for each in publishers),
        n_outbox_bytes=server.n_outbox_bytes,
        n_waiting=system.n_waiting,
        n_dead_letters=statistics.n_dead_letters,
        n_restarts=statistics.n_restarts,
        n_quarantined=statistics.n_quarantined,
        dropped=statistics.dropped,
        rejected={str(reason): n for reason, n in sorted(server.rejected.items())},
        sources=tuple(_sources(server)),
        n_topics=n_topics,
        topics=tuple(topics),
        n_subscribers=len(slow),
        subscribers=tuple(slow[:limit]),
        store=server.store_status(),
        n_failures=statistics.n_failures,
        n_listener_failures=statistics.n_listener_failures,
        n_held=statistics.n_held,
        stale=tuple(
            [
                StaleReported(factor=factor, reason=reason, n_topics=n_stale)
                for (factor, reason), n_stale in sorted(statistics.stale.items())
            ]
        ),
    )


def _sources(server: "Server") -> Iterable[SourceReported]:
    counts = server.system.factory.tally.sources
    n_connections: Counter[int] = Counter()
    n_backlog: Counter[int] = Counter()
    for connection in server.connections:
        if connection.is_feed:
            number = counts.number(connection.name)
            n_connections[number] += 1
            n_backlog[number] += connection.n_backlog
    for name, number in sorted((name, i) for i, name in enumerate(counts.names)):
        received, dropped = counts.received[number], counts.dropped[number]
        n_repeated = server.n_repeated[number]
        if received or dropped or n_repeated or n_connections[number]:
            yield SourceReported(
                source=name,
                n_connections=n_connections[number],
                n_received=received,
                n_backlog=n_backlog[number],
                dropped={str(reason): n for reason, n in sorted(dropped.items())},
                n_repeated=n_repeated,
            )


class _Losses(NamedTuple):
    # Of the topics of one kind, one entry per name.
    topic_of: Callable[[int], str]
    n_published: NDArray[np.int64]
    n_conflated: NDArray[np.int64]
    n_undelivered: NDArray[np.int64]
    dropped: dict[str, NDArray[np.int64]]

    @property
    def n_lost(self) -> NDArray[np.int64]:
        return sum(self.dropped.values(), self.n_conflated + self.n_undelivered)


def _topics(factory: BetaFactory, limit: int) -> tuple[int, list[TopicReported]]:
    kinds = [*_updates(factory), _returns(factory), _benchmarks(factory)]
    n_topics = 0
    found: list[tuple[int, str, TopicReported]] = []
    for kind in kinds:
        n_lost = kind.n_lost
        n_topics += int(np.count_nonzero(n_lost))
        # stable, so that of equals the same ones are listed each time
        worst = np.argsort(-n_lost, kind="stable")[:limit]
        found += [
            (-int(n_lost[i]), kind.topic_of(i), _topic(kind, i))
            for i in worst.tolist()
            if n_lost[i]
        ]
    return n_topics, [topic for _, _, topic in sorted(found)[:limit]]


def _topic(kind: _Losses, i: int) -> TopicReported:
    return TopicReported(
        topic=kind.topic_of(i),
        n_published=int(kind.n_published[i]),
        n_conflated=int(kind.n_conflated[i]),
        n_undelivered=int(kind.n_undelivered[i]),
        dropped={
            reason: int(counts[i])
            for reason, counts in kind.dropped.items()
            if counts[i]
        },
    )


def _updates(factory: BetaFactory) -> Iterable[_Losses]:
    for publisher in factory.publishers:
        yield _Losses(
            publisher.topics.__getitem__,
            publisher.n_updates,
            publisher.n_conflated,
            publisher.n_undelivered,
            {},
        )


def _returns(factory: BetaFactory) -> _Losses:
    symbols = factory.symbols
    none = np.zeros(len(symbols), dtype=np.int64)
    dropped = sorted(factory.tally.of_symbol.items())

    def topic_of(row: int) -> str:
        return f"{RETURN_KIND}.{escape(symbols[row])}"

    return _Losses(
        topic_of,
        none,
        none,
        none,
        {str(reason): counts for reason, counts in dropped},
    )


def _benchmarks(factory: BetaFactory) -> _Losses:
    dropped = factory.tally.of_benchmark
    names = list(dropped)
    none = np.zeros(len(names), dtype=np.int64)
    reasons = sorted({reason for counts in dropped.values() for reason in counts})

    def topic_of(i: int) -> str:
        return f"{BENCHMARK_KIND}.{escape(names[i])}"

    return _Losses(
        topic_of,
        none,
        none,
        none,
        {
            str(reason): np.array([dropped[name][reason] for name in names])
            for reason in reasons
        },
    )
