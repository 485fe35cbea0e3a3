"""The bridge's metrics, by qmtl's conventions.

Rule: names in snake case that begin with ``market_beta_``; counters end in ``_total``,
durations in ``_ms``. They are registered with qmtl's own factory, so that its metrics
server shows them and its tests reset them.
"""

from collections import Counter
from typing import Final

from ...messages import BetaUpdated
from .schema import NS_PER_S
from .sdk import (
    Metric,
    get_or_create_counter,
    get_or_create_gauge,
    get_or_create_histogram,
)
from .sink_statistics import SinkStatistics

MS_PER_NS: Final = 1000 / NS_PER_S


class SinkMetrics:
    """What became of a strategy's returns; `observe` is a sink's ``report``."""

    def __init__(self) -> None:
        self._counted: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._totals = {
            "n_observed": get_or_create_counter(
                "market_beta_sink_observations_total",
                "Returns that a strategy's nodes handed to the sink",
            ),
            "n_sent": get_or_create_counter(
                "market_beta_sink_sent_total",
                "Returns that the sink wrote to a sidecar",
            ),
            "n_acknowledged": get_or_create_counter(
                "market_beta_sink_acknowledged_total",
                "Returns that the sidecar has taken in",
            ),
            "n_frames": get_or_create_counter(
                "market_beta_sink_messages_total", "Messages that the sink published"
            ),
            "n_connections": get_or_create_counter(
                "market_beta_sink_connections_total", "Connections that the sink made"
            ),
            "n_gaps": get_or_create_counter(
                "market_beta_sink_gaps_total",
                "Stretches of returns that the sink gave up",
            ),
        }
        self._dropped_total = get_or_create_counter(
            "market_beta_sink_dropped_total",
            "Returns that the sink gave up, by reason",
            ["reason"],
        )
        self._pending = get_or_create_gauge(
            "market_beta_sink_pending", "Returns that wait in the sink's buffer"
        )
        self._connected = get_or_create_gauge(
            "market_beta_sink_connected", "1 while the sidecar answers the sink, else 0"
        )

    def observe(self, statistics: SinkStatistics) -> None:
        """Bring the metrics up to these statistics of one sink."""
        for name, counter in self._totals.items():
            value: int = getattr(statistics, name)
            if value > self._counted[name]:
                counter.inc(value - self._counted[name])
                self._counted[name] = value
        for reason, value in statistics.dropped.items():
            if value > self._dropped[reason]:
                self._dropped_total.labels(reason).inc(value - self._dropped[reason])
                self._dropped[reason] = value
        self._pending.set(statistics.n_pending)
        self._connected.set(float(statistics.is_connected))


class UpdateMetrics:
    """What came back into a strategy's view."""

    def __init__(self) -> None:
        self._counters: dict[str, Metric] = {}
        self._updates = get_or_create_counter(
            "market_beta_updates_total",
            "Beta updates that entered the strategy, by factor",
            ["factor"],
        )
        self._round_trip = get_or_create_histogram(
            "market_beta_round_trip_ms",
            "From the sink's stamp of a return to its beta in the strategy",
        )

    def observe(self, update: BetaUpdated, now_ns: int) -> None:
        """Count one update, received at ``now_ns``."""
        counter = self._counters.get(update.factor)
        if counter is None:  # to look a label up costs more than to count
            counter = self._counters[update.factor] = self._updates.labels(
                update.factor
            )
        counter.inc()
        # what a backtest's sink sent bears the bar's stamp, and no time of day
        if update.ts_init != update.ts_event and update.ts_init:
            self._round_trip.observe((now_ns - update.ts_init) * MS_PER_NS)
