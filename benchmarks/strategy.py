"""A subscriber process.

``python -m benchmarks.strategy PATH ENCODING N_SYMBOLS [START]``: without START it
prints the monotonic clock whenever all betas of a bar have come, and their mean beside
it. With START, when an open loop began, it prints one line of JSON once an update whose
``ts_init`` is `STOP_TS` has come: how many came, how many were conflated, how late.
"""

import json
import sys
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from beta_factory import keep_freed_memory
from beta_factory.messages import (
    BetasUpdated,
    BetaUpdated,
    Encoding,
    Message,
    Role,
)

from .wire import Wire

STOP_TS = 2**62
"""The `ts_init` of the return that ends an open loop."""


def _beta(value: float | None) -> float:
    return np.nan if value is None else value


def whole_bars(wire: Wire, n_symbols: int) -> None:
    """Say when each bar is complete."""
    n_seen, total = 0, 0.0
    while True:
        for message in wire.messages():
            if type(message) is BetaUpdated:
                n_seen += 1
                total += _beta(message.beta)
            elif type(message) is BetasUpdated:
                betas = np.frombuffer(message.beta)
                n_seen += len(betas)
                total += float(betas.sum())
            if n_seen == n_symbols:
                now = time.monotonic_ns()
                sys.stdout.write(f"{now} {total / n_symbols!r}\n")
                sys.stdout.flush()
                n_seen, total = 0, 0.0


def open_loop(wire: Wire, started_ns: int) -> None:
    """Count and time every update until the last; a stamp is ns since the start."""
    n_conflated = 0
    late_ns: list[NDArray[np.int64]] = []
    weights: list[NDArray[np.int64]] = []
    stopped = False
    while not stopped:
        messages = wire.messages()
        now = time.monotonic_ns() - started_ns
        for stamps, n_each, n_folded in _arrivals(messages):
            n_conflated += n_folded
            sent = stamps
            if sent.max() == STOP_TS:
                stopped = True
                sent = sent[sent < STOP_TS]
            late_ns.append(now - sent)
            weights.append(np.full(len(sent), n_each))
    late, weight = np.concatenate(late_ns), np.concatenate(weights)
    order = np.argsort(late)
    reached = np.cumsum(weight[order]) / weight.sum()
    p50, p99 = (late[order][np.searchsorted(reached, q)] for q in (0.5, 0.99))
    result: dict[str, float] = {
        "n_updates": int(weight.sum()),
        "n_conflated": n_conflated,
        "p50_ns": float(p50),
        "p99_ns": float(p99),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def _arrivals(
    messages: list[Message],
) -> Iterator[tuple[NDArray[np.int64], int, int]]:
    # Stamps of what came, how many updates share each, and how many were conflated:
    # by the read for rows, by the frame for columns.
    rows = [message for message in messages if type(message) is BetaUpdated]
    if rows:
        stamps = np.array([row.ts_init for row in rows])
        yield stamps, 1, sum([row.conflated for row in rows])
    for message in messages:
        if type(message) is BetasUpdated:
            stamps = np.frombuffer(message.ts_init, "<i8")
            folded = np.frombuffer(message.conflated, "<i4")
            yield stamps, len(message.beta) // 8 // len(stamps), int(folded.sum())


def main() -> None:
    """Subscribe to everything and say ``ready``."""
    path, encoding, n_symbols, *started = sys.argv[1:]
    keep_freed_memory()  # as docs/performance.md tells strategies
    with Wire(path, "strategy", Role.SUBSCRIBER) as wire:
        wire.subscribe("beta.>", Encoding(encoding))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        if started:
            open_loop(wire, int(started[0]))
        else:
            wire.patience(0)
            whole_bars(wire, int(n_symbols))


if __name__ == "__main__":
    main()
