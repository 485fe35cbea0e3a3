#!/usr/bin/env python3
"""Measure how long a sidecar's loop stands still, with and without snapshots.

    scripts/snapshot_pauses.py                5,000 symbols, windows of 390 bars
    scripts/snapshot_pauses.py --symbols 500 --rounds 1 --seconds 2 --untimed

`benchmarks/pauses.py` says what is measured, and by which clocks. It exits with 1 where
the loop did more than 5 ms of work in one piece while snapshots were taken, and more
than it ever did without, or where none were taken.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.load import quantile
from benchmarks.pauses import BOUND_MS, Kind, Load, Pauses, rounds
from beta_factory.runtime.memory import keep_freed_memory


def show(kind: Kind, pauses: Pauses) -> None:
    """Print what the meter saw."""
    for clock, values in pauses.by_clock.items():
        over = sum(value > BOUND_MS for value in values)
        print(
            f"{kind:<10} {clock:<8} {len(values):>7,} ticks  p50 "
            f"{quantile(values, 0.5):6.3f}  p99 {quantile(values, 0.99):6.2f}  p99.9 "
            f"{quantile(values, 0.999):6.2f}  longest {max(values):6.2f} ms  "
            f"over {BOUND_MS:g} ms: {over} ({1e3 * over / len(values):.2f} per 1,000)"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds, print them, and judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--symbols", type=int, default=Load.n_symbols)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=Load.seconds)
    parser.add_argument("--untimed", action="store_true", help="judge no times")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    load = Load(options.symbols, options.seconds)
    seen = uvloop.run(rounds(options.rounds, load))
    for kind, pauses in seen.items():
        show(kind, pauses)
    beside = seen[Kind.SNAPSHOTS]
    failures: list[str] = []
    if not beside.n_rounds_with_snapshots:
        failures.append("no snapshot was taken")
    longest = max(beside.worked)
    without = max(BOUND_MS, *seen[Kind.BARE].worked, *seen[Kind.BUSY].worked)
    if longest > without and not options.untimed:
        failures.append(f"the loop worked {longest:.1f} ms in one piece")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
