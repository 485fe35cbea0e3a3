"""Measure what an update costs, row by row, and hold it to its targets.

    bench.py --install                   every row, peers in a scratch folder
    bench.py --only fan_out --rounds 5   one row
    bench.py --check --json FILE         exit 1, naming the targets that are missed

Every figure names its frame format; windows are 390 bars with full statistics unless a
figure says otherwise. docs/performance.md says how to read the table.
"""

import argparse
import json
import os
import platform
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402 - found by the path above
    rows_files,
    rows_socket,
    rows_state,
    rows_turn,
)
from benchmarks.harness import Outcome, Target  # noqa: E402
from benchmarks.options import Options  # noqa: E402
from benchmarks.peers import Peers, environment  # noqa: E402
from beta_factory.runtime.memory import keep_freed_memory  # noqa: E402

ROWS: Final[Mapping[str, Callable[[Options, Peers], Outcome]]] = {
    "fan_out": rows_turn.fan_outs,
    "singles": rows_turn.single_frames,
    "columns": rows_turn.columnar_frames,
    "idle": rows_socket.idle,
    "sustained": rows_socket.sustained,
    "batch": rows_files.batch,
    "replay": rows_files.replay,
    "growth": rows_turn.growth,
    "whole_bar": rows_socket.whole_bar,
    "board": rows_state.board,
    "collection": rows_state.collection,
    "memory": rows_state.memory,
}
"""By name, in the order of their numbers."""

QMTL_SCRIPT: Final = ROOT / "scripts" / "bench_qmtl.py"


def machine_line() -> str:
    """Return what this runs on, and how busy that is."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        named = [
            line.split(":", 1)[1].strip() for line in lines if "model name" in line
        ]
        model = named[0] if named else model
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, numpy {np.__version__}, load {load:.1f}"
    )


def table(outcome: Outcome) -> Table:
    """Return a row's figures for a terminal."""
    shown = Table(title=f"{outcome.number}. {outcome.title}", title_justify="left")
    for i, column in enumerate(
        ("", "frames", "unit", "min", "median", "p99", "spread")
    ):
        shown.add_column(column, justify="left" if i < 3 else "right")  # noqa: PLR2004
    for figure in outcome.figures:
        if figure.absent:
            shown.add_row(figure.name, "absent:", figure.absent)
            continue
        numbers = (figure.minimum, figure.median, figure.p99)
        cells = [f"{number:,.3g}" if number < 100 else f"{number:,.0f}"  # noqa: PLR2004
                 for number in numbers]  # fmt: skip
        shown.add_row(
            escape(figure.name),
            figure.frames,
            figure.unit,
            *cells,
            f"{figure.spread:.0%}",
        )
    return shown


def verdict(target: Target) -> str:
    """Return a target as one line."""
    sign = ">=" if target.is_floor else "<="
    if target.measured is None:
        return f"  not measured   {target.text}: {sign} {target.bound:g}"
    word = "met" if target.is_met else "MISSED"
    if target.is_stretch:
        word += " (stretch)"
    return (
        f"  {word:<14} {target.text}: {target.measured:,.3g}, {sign} {target.bound:g}"
    )


def as_json(outcomes: Mapping[str, Outcome], versions: Mapping[str, str]) -> str:
    """Return everything that was measured."""
    rows: dict[str, Any] = {}
    for name, outcome in outcomes.items():
        row = asdict(outcome)
        for figure, values in zip(outcome.figures, row["figures"], strict=True):
            values["samples"] = len(figure.samples)
            if figure.samples:
                values |= {"minimum": figure.minimum, "median": figure.median}
                values |= {"p99": figure.p99, "spread": figure.spread}
        rows[name] = row
    document = {"machine": machine_line(), "versions": dict(versions), "rows": rows}
    return json.dumps(document, indent=2) + "\n"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--check", action="store_true", help="exit 1 when a target is missed")
    add("--json", type=Path, metavar="FILE", help="write everything there as well")
    add("--only", action="append", choices=list(ROWS), metavar="ROW",
        help=f"one row, repeatable: {', '.join(ROWS)}")  # fmt: skip
    add("--rounds", type=int, default=15, metavar="N", help="by default 15")
    add("--seconds", type=float, default=60.0, metavar="S",
        help="length of the open loop, by default 60")  # fmt: skip
    add("--install", action="store_true", help="install the peers first")
    add("--env", type=Path, metavar="DIR", help="the environment they are in, or go to")
    add("--lean", type=Path, metavar="FILE", help="Lean second trades, for the replay")
    add(
        "--qmtl", action="store_true", help="the comparison with qmtl, and nothing else"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a target was to be checked and is missed."""
    options = parse(arguments)
    if options.qmtl:
        if not QMTL_SCRIPT.exists():
            print("bench: scripts/bench_qmtl.py is not here", file=sys.stderr)
            return 2
        run: Callable[[], int | None] = runpy.run_path(str(QMTL_SCRIPT))["main"]
        return run() or 0
    keep_freed_memory()  # as the sidecar does
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 132)
    console.print(machine_line())
    chosen = [name for name in ROWS if not options.only or name in options.only]
    told = Options(options.rounds, options.seconds, options.lean)
    outcomes: dict[str, Outcome] = {}
    with environment(options.env, is_installed=options.install) as peers:
        for name in chosen:
            outcomes[name] = ROWS[name](told, peers)
            console.print(table(outcomes[name]))
            for line in map(verdict, outcomes[name].targets):
                console.print(line, markup=False)
            for note in outcomes[name].notes:
                console.print(f"  {note}", markup=False)
    if options.json:
        options.json.write_text(as_json(outcomes, peers.versions), encoding="utf-8")
    targets = [(name, t) for name, row in outcomes.items() for t in row.targets]
    missed = [
        f"{name}: {t.text}"
        for name, t in targets
        if not t.is_stretch and t.is_met is False
    ]
    unknown = sum(t.is_met is None for _, t in targets)
    for each in missed:
        console.print(f"missed: {each}", markup=False)
    console.print(
        f"bench: {len(targets)} targets, {len(missed)} missed, {unknown} not measured"
    )
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
