"""A sidecar's status in Prometheus's text format.

Rule: names begin with ``betafactory_``, counters end in ``_total``, units are bytes.
The labels are bounded: sources by `MAX_SOURCES`, topics by what was asked for.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from ..messages import StatusReported, StoreReported, StoreState

_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})

Labels = Mapping[str, str]
Samples = Iterable[tuple[Labels, int]]


def exposition(report: StatusReported) -> str:
    """Return a report as samples, each under its help and its type.

    Examples
    --------
    ``beta-factory status --prometheus > /var/lib/node_exporter/beta_factory.prom``
    """
    sources = [({"source": each.source}, each) for each in report.sources]
    topics = [({"topic": each.topic}, each) for each in report.topics]
    lines = [
        line
        for name, help_text, value in (
            ("memory_bytes", "Resident memory of the sidecar", report.memory_bytes),
            ("connections", "Open connections", report.n_connections),
            ("outbox_bytes", "Bytes that peers have not read", report.n_outbox_bytes),
            ("mailbox_messages", "Messages that wait in mailboxes", report.n_waiting),
            ("actors_quarantined", "Quarantined actors", report.n_quarantined),
            ("returns_held", "Returns in quarantine", report.n_held),
        )
        for line in _metric(name, "gauge", help_text, [({}, value)])
    ]
    lines += _metric(
        "topics_stale",
        "gauge",
        "Topics that are stale, by factor and reason",
        [
            ({"factor": each.factor, "reason": each.reason}, each.n_topics)
            for each in report.stale
        ],
    )
    for name, help_text, value in (
        ("frames_total", "Frames received", report.n_frames),
        ("bars_total", "Benchmark bars opened", report.n_bars),
        ("pairs_total", "Pairs completed", report.n_pairs),
        ("updates_total", "Updates published", report.n_updates),
        ("conflated_total", "Updates folded for slow subscribers", report.n_conflated),
        (
            "undelivered_total",
            "Updates missed by subscribers who went while they were slow",
            report.n_undelivered,
        ),
        ("dead_letters_total", "Messages that no actor took", report.n_dead_letters),
        ("restarts_total", "Actors restarted", report.n_restarts),
        ("failures_total", "Errors that left an actor", report.n_failures),
        (
            "listener_failures_total",
            "Errors that left a callback of the process",
            report.n_listener_failures,
        ),
    ):
        lines += _metric(name, "counter", help_text, [({}, value)])
    lines += _store_lines(report.store)
    lines += _metric(
        "observations_dropped_total",
        "counter",
        "Observations not used, by reason",
        _by_reason({}, report.dropped),
    )
    lines += _metric(
        "connections_rejected_total",
        "counter",
        "Connections closed, by reason",
        _by_reason({}, report.rejected),
    )
    lines += _metric(
        "source_received_total",
        "counter",
        "Observations taken in, by source",
        [(labels, each.n_received) for labels, each in sources],
    )
    lines += _metric(
        "source_backlog_messages",
        "gauge",
        "Messages read and not taken in yet, by source",
        [(labels, each.n_backlog) for labels, each in sources],
    )
    lines += _metric(
        "source_dropped_total",
        "counter",
        "Observations not used, by source and reason",
        [s for labels, each in sources for s in _by_reason(labels, each.dropped)],
    )
    lines += _metric(
        "source_repeated_total",
        "counter",
        "Messages left out, for their numbers had been taken, by source",
        [(labels, each.n_repeated) for labels, each in sources],
    )
    lines += _metric(
        "topic_conflated_total",
        "counter",
        "Updates folded for slow subscribers, of the topics that lost most",
        [(labels, each.n_conflated) for labels, each in topics if each.n_conflated],
    )
    lines += _metric(
        "topic_undelivered_total",
        "counter",
        "Updates missed by subscribers who went, of the topics that lost most",
        [(labels, each.n_undelivered) for labels, each in topics if each.n_undelivered],
    )
    lines += _metric(
        "topic_dropped_total",
        "counter",
        "Observations not used by reason, of the topics that lost most",
        [s for labels, each in topics for s in _by_reason(labels, each.dropped)],
    )
    return "\n".join([*lines, ""])


def _store_lines(store: StoreReported | None) -> list[str]:
    if store is None:
        return []
    return [
        line
        for name, help_text, value in (
            (
                "store_degraded",
                "Whether the store cannot keep what it promises",
                int(store.state is StoreState.DEGRADED),
            ),
            (
                "store_pending_turns",
                "Turns that are not durable yet",
                store.position - store.durable,
            ),
            (
                "store_pending_bytes",
                "Bytes of the turns that are not durable yet",
                store.n_pending_bytes,
            ),
            (
                "store_tail_turns",
                "Turns since the newest snapshot, which a restart replays",
                store.position - store.snapshot,
            ),
        )
        for line in _metric(name, "gauge", help_text, [({}, value)])
    ]


def _metric(name: str, kind: str, help_text: str, samples: Samples) -> list[str]:
    name = f"betafactory_{name}"
    lines = [f"{name}{_labels(labels)} {value}" for labels, value in samples]
    if not lines:
        return []
    return [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}", *lines]


def _by_reason(labels: Labels, counts: Mapping[str, int]) -> Samples:
    return [({**labels, "reason": reason}, n) for reason, n in counts.items()]


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    parts = [f'{key}="{value.translate(_ESCAPES)}"' for key, value in labels.items()]
    return "{" + ",".join(parts) + "}"
