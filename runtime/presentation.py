"""How updates and summaries look on a terminal."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ..messages import (
    BetaUpdated,
    Status,
    StatusReported,
    StoreReported,
    TopicReported,
)
from .replay import ReplaySummary
from .stamps import stamp_text
from .system_statistics import SystemStatistics

if TYPE_CHECKING:  # a replay needs neither sockets nor a store
    from .board import Board
    from .look_back import JournalSummary
    from .sidecar import SidecarSummary

_STYLE_OF_STATUS = {
    Status.OK: "green",
    Status.WARMING: "yellow",
    Status.STALE: "magenta",
    Status.HALTED: "magenta",
    Status.ZERO_VARIANCE: "yellow",
    Status.INSUFFICIENT: "yellow",
    Status.DEGRADED: "red",
    Status.REMOVED: "red",
}

LINE_HEADER = (
    f"{'ts_event':<29} {'symbol':<12} {'beta':>9} {'std_error':>9} {'t_stat':>8} "
    f"{'r_squared':>9} {'n_obs':>6} status"
)


def number(value: float | None, spec: str) -> str:
    """Return a number for a table; an undefined one is a dash, never a 0."""
    return "-" if value is None else format(value, spec)


def board_lines(board: "Board", factor: str | None = None) -> list[str]:
    """Return a board's rows as lines, those without an update left out.

    Raises
    ------
    NotOnBoardError, StaleBoardError
        As `Board.read`.
    """
    updates = [board.read(symbol, factor) for symbol in board.symbols]
    lines = [line(update) for update in updates if update is not None]
    factors = ", ".join(board.factors)
    about = (
        f"instance {board.instance}, factors {factors}, heartbeat "
        f"{board.heartbeat_age_s:.1f} s ago, {len(lines)} of {len(updates)} symbols"
    )
    return [
        about,
        LINE_HEADER,
        *lines,
    ]


def line(update: BetaUpdated) -> str:
    """Return one update as one aligned line, see `LINE_HEADER`."""
    return (
        f"{stamp_text(update.ts_event):<29} {update.symbol:<12} "
        f"{number(update.beta, '9.4f'):>9} "
        f"{number(update.std_error, '9.4f'):>9} {number(update.t_stat, '8.2f'):>8} "
        f"{number(update.r_squared, '9.4f'):>9} {update.n_obs:>6} "
        f"{update.status.name.lower()}"
    )


def beta_table(updates: Iterable[BetaUpdated], title: str) -> Table:
    """Return the last values of many topics as a table."""
    table = Table(title=title)
    for name in (
        "symbol",
        "beta",
        "std error",
        "t",
        "R2",
        "n_obs",
        "status",
        "ts_event",
    ):
        table.add_column(name, justify="left" if name == "symbol" else "right")
    for update in updates:
        style = _STYLE_OF_STATUS[update.status]
        table.add_row(
            Text(update.symbol),  # a name with brackets is no markup
            number(update.beta, ".4f"),
            number(update.std_error, ".4f"),
            number(update.t_stat, ".2f"),
            number(update.r_squared, ".4f"),
            str(update.n_obs),
            f"[{style}]{update.status.name.lower()}[/]",
            stamp_text(update.ts_event)[11:23],
        )
    return table


def system_lines(statistics: SystemStatistics) -> list[str]:
    """Return what a system did, one fact a line."""
    dropped = ", ".join(f"{reason} {n:,}" for reason, n in statistics.dropped.items())
    failures = f"{statistics.n_failures:,} failures"
    quarantined = f"{statistics.n_quarantined:,} quarantined"
    stale = ", ".join(
        f"{reason} {n:,} ({factor})" for (factor, reason), n in statistics.stale.items()
    )
    return [
        f"bars      {statistics.n_bars:,}",
        f"pairs     {statistics.n_pairs:,}",
        f"updates   {statistics.n_updates:,}",
        f"dropped   {dropped or 'none'}",
        f"held      {statistics.n_held:,} in quarantine",
        f"stale     {stale or 'none'}",
        f"restarts  {statistics.n_restarts:,} after {failures}, {quarantined}",
        f"dead      {statistics.n_dead_letters:,} letters",
    ]


def replay_lines(summary: ReplaySummary) -> list[str]:
    """Return a replay's summary."""
    rate = summary.system.n_updates / summary.elapsed_s if summary.elapsed_s else 0.0
    return [
        *system_lines(summary.system),
        f"rate      {rate:,.0f} updates/s in {summary.elapsed_s:.2f} s",
        f"digest    sha256:{summary.digest}",
    ]


def journal_lines(summary: "JournalSummary") -> list[str]:
    """Return the summary of a store's replay."""
    return [
        f"turns     {summary.first:,} to {summary.last:,}",
        f"updates   {summary.n_updates:,} published",
        f"digest    sha256:{summary.digest}",
        *(f"damaged   {error}" for error in summary.damage),
    ]


def sidecar_lines(summary: "SidecarSummary") -> list[str]:
    """Return a sidecar's summary."""
    return [
        *system_lines(summary.system),
        f"peers     {summary.n_connections:,} ({summary.n_rejected:,} rejected)",
        f"frames    {summary.n_frames:,} received",
        f"conflated {summary.n_conflated:,} updates",
        f"uptime    {summary.uptime_s:.1f} s",
        *_store_lines(summary.store),
    ]


def _store_lines(store: StoreReported | None) -> list[str]:
    if store is None:
        return []
    state = f"{store.state}: {store.reason}" if store.reason else f"{store.state}"
    turns = f"{store.durable:,} of {store.position:,} turns durable"
    waiting = f"{store.n_pending_bytes:,} bytes wait, snapshot at {store.snapshot:,}"
    return [f"store     {state} ({turns}, {waiting})"]


def status_lines(report: StatusReported) -> list[str]:
    """Return how a sidecar is: totals, then sources, subscribers and topics."""
    lost = f"{report.n_conflated:,} conflated, {report.n_undelivered:,} undelivered"
    dead = f"{report.n_dead_letters:,} dead letters"
    restarts = f"{report.n_restarts:,} restarts after {report.n_failures:,} failures"
    stale = ", ".join(
        f"{each.reason} {each.n_topics:,} ({each.factor})" for each in report.stale
    )
    quarantined = f"{report.n_quarantined:,} quarantined"
    lines = [
        f"instance  {report.instance}",
        f"memory    {report.memory_bytes / 2**20:.1f} MB",
        f"bars      {report.n_bars:,}",
        f"pairs     {report.n_pairs:,}",
        f"updates   {report.n_updates:,} ({lost})",
        f"dropped   {_reasons(report.dropped)}",
        f"peers     {report.n_connections:,} (rejected: {_reasons(report.rejected)})",
        f"frames    {report.n_frames:,} received",
        f"waiting   {report.n_waiting:,} messages, {report.n_outbox_bytes:,} bytes",
        f"held      {report.n_held:,} in quarantine",
        f"stale     {stale or 'none'}",
        f"actors    {restarts}, {quarantined}, {dead}",
        f"callbacks {report.n_listener_failures:,} failures",
        *_store_lines(report.store),
    ]
    lines += [
        f"source    {each.source or '(none)'}: {each.n_received:,} received, "
        f"{each.n_backlog:,} backlog, {each.n_repeated:,} repeated, "
        f"dropped {_reasons(each.dropped)}"
        for each in report.sources
    ]
    lines += [
        f"slow      {each.subscriber}: {each.n_conflated:,} conflated"
        + (f", {each.n_outbox_bytes:,} bytes behind" if each.is_slow else "")
        for each in report.subscribers
    ]
    lines += [f"topic     {each.topic}: {_losses(each)}" for each in report.topics]
    unlisted = report.n_topics - len(report.topics)
    if unlisted:
        lines.append(f"topics    {unlisted:,} more")
    return lines


def _losses(topic: TopicReported) -> str:
    parts = {"conflated": topic.n_conflated, "undelivered": topic.n_undelivered}
    return _reasons({name: n for name, n in parts.items() if n} | topic.dropped)


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {n:,}" for reason, n in counts.items()) or "none"
