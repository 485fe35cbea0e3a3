"""What `beta-factory replay` does, with a bar file and with a script.

Rule: how fast a replay goes is decided here and nowhere else, by waiting before a bar.
The replay itself neither knows nor changes.

A bar file that nobody watches at a pace is swept, where its model allows it; else it is
replayed bar by bar. Nothing but the time that it takes tells which.
"""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from rich.console import Console

from ..actors import (
    BetaColumns,
    BetaFactory,
    BetaRows,
    BetaTurns,
    Factor,
    MarketBetaConfig,
)
from .bars import read_bars
from .clock import LiveClock
from .observations import asset_symbols, observe
from .pacing import Pace
from .presentation import LINE_HEADER, line, replay_lines
from .progress import bar_progress
from .replay import Replayer
from .sweep import sweep_bars, sweep_of
from .update_files import UpdateWriter

if TYPE_CHECKING:
    from .script import ScriptReport

FASTEST: Final = 0.0
"""As a speed: as fast as it goes."""

Updates = BetaColumns | BetaRows | BetaTurns
OnUpdates = Callable[[Updates], None]
Waiting = Callable[[int], None]


class Playback(NamedTuple):
    """How a replay is watched; nothing of it changes what is published."""

    speed: float | Literal["step"] = FASTEST
    #: multiple of real time; or one bar per Enter
    from_ts: int | None = None
    #: first stamp to replay, in ns
    to_ts: int | None = None
    #: last stamp to replay, in ns
    out: Path | None = None
    #: where every update is written
    progress: bool = True
    #: whether a progress bar is shown


def parse_speed(text: str) -> float | Literal["step"]:
    """Return a speed: a multiple of real time, ``max`` or ``step``.

    Raises
    ------
    ValueError
        When it is none of them.
    """
    if text == "step":
        return "step"
    if text == "max":
        return FASTEST
    try:
        speed = float(text)
    except ValueError:
        speed = FASTEST
    if not FASTEST < speed < float("inf"):
        msg = f"must be a multiple of real time above 0, max or step, was {text!r}"
        raise ValueError(msg)
    return speed


def replay_file(
    file: Path,
    playback: Playback,
    console: Console,
    *,
    benchmark: str,
    model: MarketBetaConfig,
    overnight: Literal["exclude", "include"],
) -> list[str]:
    """Replay a bar file and return the lines of its summary.

    Raises
    ------
    BarFileError, FileNotFoundError
        As `read_bars`.
    """
    bars = read_bars(
        file,
        returns=model.returns,
        overnight=overnight,
        from_ts=playback.from_ts,
        to_ts=playback.to_ts,
    )
    symbols = asset_symbols(bars, benchmark)
    factor = Factor(benchmark, model=model)
    sweep = sweep_of(bars, factor) if playback.speed == FASTEST else None
    with _watched(playback, bars.n_bars, console) as (wait, on_updates, on_bar):
        if sweep is not None:
            summary = sweep_bars(
                bars, sweep, LiveClock(), on_turns=on_updates, on_bar=on_bar
            )
        else:
            factory = BetaFactory(symbols, factors=[factor])
            replayer = Replayer(factory, LiveClock(), on_updates=on_updates)
            summary = replayer.run(observe(bars, benchmark), wait=wait, on_bar=on_bar)
    return [f"file      {file}", *replay_lines(summary)]


def replay_script(
    file: Path, playback: Playback, console: Console
) -> tuple[list[str], bool]:
    """Replay a script; return the lines of its report, and whether all held.

    Raises
    ------
    BarFileError, ConfigError, FileNotFoundError
        As `load_script`.
    """
    from .script import load_script, run_script  # noqa: PLC0415 - a file needs none

    script = load_script(file)
    with _watched(playback, script.bars.n_bars, console) as (wait, on_updates, on_bar):
        report = run_script(
            script,
            LiveClock(),
            from_ts=playback.from_ts,
            to_ts=playback.to_ts,
            wait=wait,
            on_updates=on_updates,
            on_bar=on_bar,
        )
    head = [f"script    {file}"] + ([f"title     {script.title}"] * bool(script.title))
    lines = [*head, *replay_lines(report.summary), *_verdict(report)]
    return lines, not report.failures


def _verdict(report: "ScriptReport") -> list[str]:
    n_failed = len(report.failures)
    skipped = f", {report.n_skipped} skipped" if report.n_skipped else ""
    plural = "" if report.n_checked == 1 else "s"
    checked = f"{report.n_checked} expectation{plural}"
    lines = [f"checked   {checked}, {n_failed} failed{skipped}"]
    for failure in report.failures:
        lines += [
            f"failed    {failure.path}",
            f"          expected  {failure.expected}",
            f"          seen      {failure.seen}",
        ]
    return lines


@contextmanager
def _watched(
    playback: Playback, n_bars: int, console: Console
) -> Generator[tuple[Waiting | None, OnUpdates | None, Waiting]]:
    steps = playback.speed == "step"
    shown = playback.progress and not steps
    with (
        UpdateWriter(playback.out) if playback.out else nullcontext() as writer,
        bar_progress(n_bars, console, shown=shown) as on_bar,
    ):
        takers = [_writing_to(writer)] if writer else []
        if steps:
            # flushed, for whoever steps by a pipe waits for it
            print(LINE_HEADER, flush=True)  # noqa: T201 - this is the command line
            takers.append(_print_updates)

        def on_updates(updates: Updates) -> None:
            for take in takers:
                take(updates)

        yield _waiting(playback), on_updates if takers else None, on_bar


def _waiting(playback: Playback) -> Waiting | None:
    if playback.speed == "step":
        return _Stepper().wait
    if playback.speed == FASTEST:
        return None
    pace = Pace(LiveClock(), playback.speed)
    return lambda stamp: time.sleep(pace.wait_s(stamp))


class _Stepper:
    # One bar per Enter; the rest at once when the input ends (Ctrl-D).
    def __init__(self) -> None:
        self._ended = False

    def wait(self, _stamp: int) -> None:
        if not self._ended:
            self._ended = not sys.stdin.readline()


def _print_updates(updates: Updates) -> None:
    for update in updates.as_rows():
        print(line(update), flush=True)  # noqa: T201 - this is the command line


def _writing_to(writer: UpdateWriter) -> OnUpdates:
    def write(updates: Updates) -> None:
        if isinstance(updates, BetaRows):
            writer.write_rows(updates.as_rows())
        elif isinstance(updates, BetaTurns):
            writer.write_turns(updates)
        else:
            writer.write_columns(updates)

    return write
