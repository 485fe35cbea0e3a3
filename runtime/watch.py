"""A subscriber that prints: a live table on a terminal, lines elsewhere."""

import logging
import os
import signal
from collections.abc import Sequence
from contextlib import nullcontext
from typing import BinaryIO, NamedTuple

import anyio
from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..messages import BetaUpdated, Encoding
from .client import Subscription, connect
from .presentation import LINE_HEADER, beta_table, line
from .replay import Digest
from .tls import ClientTls
from .update_files import json_line

logger = logging.getLogger(__name__)

REDRAWS_PER_S = 8
"""What a person can follow; more only costs."""


class WatchSummary(NamedTuple):
    """What a subscriber saw."""

    n_updates: int
    n_conflated: int
    n_gaps: int
    digest: str


class _Printer:
    # Takes updates one by one and shows them in one of three ways.
    def __init__(
        self, out: BinaryIO, console: Console | None, *, as_json: bool
    ) -> None:
        self._out = out
        self._as_json = as_json
        self._last: dict[tuple[str, str], BetaUpdated] = {}
        self._live = (
            Live(
                console=console,
                refresh_per_second=REDRAWS_PER_S,
                get_renderable=self._table,
            )
            if console
            else None
        )
        self._n = 0
        if not as_json and not console:
            out.write(f"{LINE_HEADER}\n".encode())
            out.flush()

    @property
    def context(self) -> "Live | nullcontext[None]":
        return self._live or nullcontext()

    def show(self, update: BetaUpdated) -> None:
        self._n += 1
        if self._live is not None:
            self._last[update.factor, update.symbol] = update
        elif self._as_json:
            self._out.write(json_line(update))
            self._out.flush()
        else:
            self._out.write(f"{line(update)}\n".encode())
            self._out.flush()

    def _table(self) -> Table:
        rows = [self._last[key] for key in sorted(self._last)]
        return beta_table(rows, f"{self._n:,} updates")


async def _watch(
    patterns: Sequence[str],
    address: str,
    printer: _Printer,
    *,
    token: str | None,
    tls: ClientTls | None,
    encoding: Encoding,
    snapshot: bool,
    count: int | None,
) -> WatchSummary:
    digest = Digest()
    subscriptions: list[Subscription] = []
    async with (
        connect(address, name="subscribe", token=token, tls=tls) as client,
        anyio.create_task_group() as tasks,
    ):

        async def take(subscription: Subscription) -> None:
            async for update in subscription:
                digest.add((update,))
                printer.show(update)
                if count is not None and digest.n_updates >= count:
                    break
            # A sidecar that says goodbye ends every subscription; so does the count.
            tasks.cancel_scope.cancel()

        async def end_on_signal() -> None:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    tasks.cancel_scope.cancel()

        tasks.start_soon(end_on_signal)
        for pattern in patterns:
            subscription = client.subscribe(
                pattern, snapshot=snapshot, encoding=encoding
            )
            subscriptions.append(subscription)
            await subscription.wait_joined()
            logger.info("subscription.joined pattern=%s", pattern)
            tasks.start_soon(take, subscription)
    return WatchSummary(
        n_updates=digest.n_updates,
        n_conflated=sum(s.n_conflated for s in subscriptions),
        n_gaps=sum(s.n_gaps for s in subscriptions),
        digest=digest.hexdigest(),
    )


def watch(
    patterns: Sequence[str],
    address: str,
    *,
    out: BinaryIO,
    token: str | None = None,
    tls: ClientTls | None = None,
    as_json: bool = False,
    console: Console | None = None,
    columns: bool = False,
    snapshot: bool = True,
    count: int | None = None,
) -> WatchSummary:
    """Print what matches until the sidecar ends, ``count`` is reached or Ctrl-C.

    Parameters
    ----------
    patterns
        Topic patterns.
    address, token, tls
        As for `connect`.
    out
        Where lines go.
    as_json
        One JSON object per line, the same bytes as a `.jsonl` update file.
    console
        A terminal for a live table instead of lines.
    columns
        Ask the sidecar for columnar frames.
    snapshot
        Begin with the last value of each topic.
    count
        End after this many updates.

    Raises
    ------
    RejectedError
        When the sidecar does not let us in, or refuses a pattern.
    FeedDisconnectedError
        When the sidecar cannot be reached, at first or again.
    """
    printer = _Printer(out, console, as_json=as_json)

    async def main() -> WatchSummary:
        return await _watch(
            patterns,
            address,
            printer,
            token=token,
            tls=tls,
            encoding=Encoding.COLUMNS if columns else Encoding.ROWS,
            snapshot=snapshot,
            count=count,
        )

    with printer.context:
        return anyio.run(main, backend_options={"use_uvloop": os.name != "nt"})
