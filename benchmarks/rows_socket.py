"""Rows 4, 5 and 9: what an update costs between processes."""

import gc
import json
import select
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from beta_factory.messages import (
    BenchmarkReturnObserved,
    BetaUpdated,
    Encoding,
    ReturnObserved,
    ReturnsObserved,
    Role,
    encode,
)
from beta_factory.runtime.framing import frame

from .harness import Contender, Outcome, check, interleave
from .market import WINDOW, Market, names
from .options import Options
from .peers import Peers
from .pipeline import Pipeline
from .rows_turn import idle_ticks, ticks_in_a_row
from .strategy import STOP_TS
from .wire import PATIENCE_S, Wire, other_server, program, sidecar

N_TICKS = 200
"""Ticks of a burst."""


def idle(options: Options, _: Peers) -> Outcome:
    """Row 4: one tick on a quiet system."""
    outcome = Outcome(4, "idle: one tick -> its beta")
    pipeline = Pipeline(100, Encoding.ROWS)
    inside = Contender(
        "ours, in process",
        "single in, row out",
        lambda: idle_ticks(pipeline, N_TICKS),
    )
    in_a_row = Contender(
        "ours, in process, in a row",
        "singles in, rows out",
        lambda: ticks_in_a_row(pipeline, N_TICKS // 100),
    )
    interleave(outcome, [inside, in_a_row], options.rounds, "us")
    symbols = names(100)
    with sidecar(symbols) as path, other_server("echo_server") as echo_path:
        market = Market(symbols)
        with (
            Wire(path, "bench", Role.FEED) as wire,
            Wire(path, "bench", Role.SUBSCRIBER) as reader,
            socket.socket(socket.AF_UNIX) as echo,
        ):
            echo.connect(echo_path)
            wire.declare(symbols)
            reader.subscribe(f"beta.market.{symbols[0]}", Encoding.ROWS)

            def ours() -> list[float]:
                return [_trip(wire, reader, market) for _ in range(N_TICKS)]

            def bare() -> list[float]:
                return [_echo(echo, market) for _ in range(N_TICKS)]

            frames = "single in, row out, round trip"
            interleave(
                outcome,
                [
                    Contender("ours, Unix socket", frames, ours),
                    Contender("uvloop echo", "the same bytes back", bare),
                ],
                options.rounds,
                "us",
            )
            _fill(wire, reader, market)

            def ours_in_a_row() -> list[float]:
                return _trips_in_a_row(wire, reader, market)

            def bare_in_a_row() -> list[float]:
                return [_echo(echo, market, pause_s=0.0) for _ in symbols]

            interleave(
                outcome,
                [
                    Contender("ours, Unix socket, in a row", frames, ours_in_a_row),
                    Contender("uvloop echo, in a row", "the same", bare_in_a_row),
                ],
                options.rounds,
                "us",
            )
    figures = {figure.name: figure for figure in outcome.figures}
    outcome.at_most("us in process, p50", figures["ours, in process"].median, 8)
    ratio = figures["ours, Unix socket"].median / figures["uvloop echo"].median
    outcome.at_most("over a socket, p50 against a uvloop echo", ratio, 1.6)
    outcome.notes.append(
        f"p99 {figures['ours, Unix socket'].p99:.0f} us, "
        f"of the echo {figures['uvloop echo'].p99:.0f} us"
    )
    return outcome


def _trip(wire: Wire, reader: Wire, market: Market) -> float:
    # us from a tick's write to its beta's arrival; the benchmark's bar is open before.
    market.advance()
    wire.socket.sendall(market.benchmark())
    time.sleep(0.0005)  # an idle system is one that waits
    tick = market.single(market.symbols[0], float(market.returns[0]))
    return _round_trip(wire, reader, tick)


def _trips_in_a_row(wire: Wire, reader: Wire, market: Market) -> list[float]:
    # The same of every asset of one bar, each as soon as the one before has come back.
    market.advance()
    wire.socket.sendall(market.benchmark())
    return [_round_trip(wire, reader, tick) for tick in market.singles()]


def _round_trip(wire: Wire, reader: Wire, tick: bytes) -> float:
    started = time.perf_counter_ns()
    wire.socket.sendall(tick)
    while BetaUpdated not in map(type, reader.messages()):
        pass
    return (time.perf_counter_ns() - started) / 1e3


def _fill(wire: Wire, reader: Wire, market: Market) -> None:
    # Full windows of every asset, and their betas from now on.
    for _ in range(WINDOW):
        market.advance()
        wire.socket.sendall(market.benchmark() + market.columns())
        reader.until(BetaUpdated)
    reader.subscribe("beta.market.*", Encoding.ROWS)


def _echo(echo: socket.socket, market: Market, pause_s: float = 0.0005) -> float:
    time.sleep(pause_s)
    tick = market.single(market.symbols[0], 0.001)
    started = time.perf_counter_ns()
    echo.sendall(tick)
    echo.recv(1 << 16)
    return (time.perf_counter_ns() - started) / 1e3


class BarRun:
    """A feed here, a server and a strategy in processes of their own."""

    def __init__(
        self, stack: ExitStack, path: str, n_symbols: int, encoding: Encoding, form: str
    ) -> None:
        self.market = Market(names(n_symbols))
        self._form = form
        self._wire = stack.enter_context(Wire(path, "feed", Role.FEED))
        if form == "columns":
            self._wire.declare(self.market.symbols)
        strategy = program("benchmarks.strategy", path, str(encoding), str(n_symbols))
        process = stack.enter_context(strategy)
        if process.stdout is None:
            raise RuntimeError("the strategy has no output")
        self._answers = process.stdout
        self._answers.readline()

    def bars(self, n_bars: int) -> list[float]:
        """Return us from each bar's first byte to its last beta at the strategy."""
        market, wire = self.market, self._wire
        spent: list[float] = []
        mean = 0.0
        for _ in range(n_bars):
            market.advance()
            rows = (
                market.columns()
                if self._form == "columns"
                else b"".join(market.singles())
            )
            data = market.benchmark() + rows
            started = time.monotonic_ns()
            wire.socket.sendall(data)
            ready, _, _ = select.select([self._answers], [], [], PATIENCE_S)
            if not ready:
                raise TimeoutError("the bar never reached the strategy")
            stamp, text = self._answers.readline().split()
            spent.append((int(stamp) - started) / 1e3)
            mean = float(text)
            wire.drop_acknowledgements()
        if market.ts_event >= WINDOW:
            check(self._form, np.array([mean]), np.array([market.betas().mean()]))
        return spent


def whole_bar(options: Options, _: Peers) -> Outcome:
    """Row 9: a whole bar from feed to strategy."""
    n = 5_000
    outcome = Outcome(
        9, f"whole bar feed -> sidecar -> strategy, {n:,} symbols, Unix sockets"
    )
    with ExitStack() as stack:

        def ours(form: str, encoding: Encoding) -> Callable[[], list[float]]:
            run = BarRun(
                stack, stack.enter_context(sidecar(names(n))), n, encoding, form
            )
            run.bars(WINDOW if form == "columns" else 3)
            return lambda: run.bars(10)

        server = other_server("task_server", str(n))
        tasks = BarRun(stack, stack.enter_context(server), n, Encoding.ROWS, "singles")
        contenders = [
            Contender("ours, columns", "columns in, columns out",
                      ours("columns", Encoding.COLUMNS)),
            Contender("ours, singles in", "singles in, columns out",
                      ours("singles", Encoding.COLUMNS)),
            Contender("ours, singles", "singles in, rows out",
                      ours("singles", Encoding.ROWS)),
            Contender("tasks", "singles in, rows out", lambda: tasks.bars(5)),
        ]  # fmt: skip
        interleave(outcome, contenders, options.rounds, "us/bar")
    medians = {figure.name: figure.median for figure in outcome.figures}
    outcome.at_most("ms, columns both ways, p50", medians["ours, columns"] / 1e3, 0.8)
    for name, bound in (("columns", 50), ("singles in", 4), ("singles", 2.5)):
        ratio = medians["tasks"] / medians[f"ours, {name}"]
        outcome.at_least(f"p50 against tasks, {name}", ratio, bound)
    outcome.notes.append("an idle window per bar: the feed waits for the strategy")
    return outcome


def sustained(options: Options, _: Peers) -> Outcome:
    """Row 5: an open loop at a fixed rate."""
    outcome = Outcome(
        5, f"open loop, 1,000 symbols, 3 subscribers, {options.seconds:g} s"
    )
    for form, encoding, rate in (
        ("singles", Encoding.ROWS, 100_000),
        ("columns", Encoding.COLUMNS, 2_000_000),
    ):
        _open_loop(outcome, form, encoding, rate, options.seconds)
    outcome.notes.append(
        "late: from when a return was to be sent to when its beta was read; a feed "
        "that falls behind its schedule counts against us"
    )
    return outcome


def _open_loop(
    outcome: Outcome, form: str, encoding: Encoding, rate: int, seconds: float
) -> None:
    n = 1_000
    symbols = names(n)
    frames = f"{form} in, {encoding} out"
    started_ns = time.monotonic_ns()
    with ExitStack() as stack:
        path = stack.enter_context(sidecar(symbols))
        strategies = [
            stack.enter_context(
                program(
                    "benchmarks.strategy", path, str(encoding), str(n), str(started_ns)
                )
            )
            for _ in range(3)
        ]
        for each in strategies:
            if each.stdout is None or each.stdout.readline() != "ready\n":
                raise RuntimeError("a strategy did not start")
        with Wire(path, "feed", Role.FEED) as wire:
            wire.declare(symbols)
            gc.collect()
            n_sent, behind_ns = _feed(
                wire, symbols, form, rate=rate, seconds=seconds, epoch=started_ns
            )
            # The feed stays until all is read: closing would throw away what it sent.
            answers = [_answer(each) for each in strategies]
        memory_mib = _peak_memory_mib(path)
    for i, answer in enumerate(answers):
        lost = n_sent - answer["n_updates"] - answer["n_conflated"]
        outcome.at_most(f"returns lost, {frames}, subscriber {i + 1}", abs(lost), 0)
        outcome.at_most(
            f"returns conflated, {frames}, subscriber {i + 1}", answer["n_conflated"], 0
        )
    took_s = seconds + behind_ns / 1e9
    outcome.at_least(f"returns/s sent, {frames}", n_sent / took_s, rate * 0.99)
    for name in ("p50", "p99"):
        outcome.add(
            f"late, {name}", frames, "us", [a[f"{name}_ns"] / 1e3 for a in answers]
        )
    outcome.notes.append(f"{frames}: {n_sent:,} returns, {memory_mib}")


def _feed(
    wire: Wire,
    symbols: tuple[str, ...],
    form: str,
    *,
    rate: int,
    seconds: float,
    epoch: int,
) -> tuple[int, int]:
    # Sends a bar, whole or in ten parts, whenever it is due; never waits for an answer.
    n = len(symbols)
    rng = np.random.default_rng(3)
    # As in the other rows, assets follow the market: betas of nothing, and of an asset
    # that is its own benchmark, are computed from their very pairs.
    market = rng.normal(size=64) * 1e-3
    pool = 1.2 * market[:, None] + rng.normal(size=(64, n)) * 1e-3
    n_parts = 10 if form == "singles" else 1
    n_bars = int(rate * seconds / n)
    step_ns = 1e9 * n / rate / n_parts
    first = time.monotonic_ns()
    behind = 0
    for bar in range(n_bars):
        values = pool[bar % len(pool)]
        for part in range(n_parts):
            due = first + int((bar * n_parts + part) * step_ns)
            ahead = due - time.monotonic_ns()
            if ahead > 0:
                time.sleep(ahead / 1e9)
            else:
                behind = max(behind, -ahead)
            ts_init = due - epoch
            parts: list[bytes] = []
            if not part:
                benchmark_return = float(market[bar % len(market)])
                parts.append(_benchmark(bar + 1, benchmark_return, ts_init))
            if form == "singles":
                rows = slice(part * n // n_parts, (part + 1) * n // n_parts)
                pairs = zip(symbols[rows], values[rows].tolist(), strict=True)
                parts += [_single(s, bar + 1, v, ts_init) for s, v in pairs]
            else:
                message = ReturnsObserved(
                    ts_event=bar + 1,
                    symbols=1,
                    period_returns=values.tobytes(),
                    ts_init=ts_init,
                )
                parts.append(frame(encode(message)))
            wire.socket.sendall(b"".join(parts))
        wire.drop_acknowledgements()
    behind = max(0, time.monotonic_ns() - first - int(n_bars * n_parts * step_ns))
    # A bar more, for the return that says the end.
    wire.socket.sendall(_benchmark(n_bars + 1, 0.0, 1))
    wire.socket.sendall(_single(symbols[0], n_bars + 1, 0.0, STOP_TS))
    return n_bars * n, behind


def _answer(process: "subprocess.Popen[str]") -> dict[str, float]:
    if process.stdout is None or not (line := process.stdout.readline()):
        raise RuntimeError("a strategy ended without an answer")
    answer: dict[str, float] = json.loads(line)
    return answer


def _benchmark(ts_event: int, value: float, ts_init: int) -> bytes:
    message = BenchmarkReturnObserved(
        benchmark="SPY", ts_event=ts_event, period_return=value, ts_init=ts_init
    )
    return frame(encode(message))


def _single(symbol: str, ts_event: int, value: float, ts_init: int) -> bytes:
    message = ReturnObserved(
        symbol=symbol, ts_event=ts_event, period_return=value, ts_init=ts_init
    )
    return frame(encode(message))


def _peak_memory_mib(path: str) -> str:
    # Of the process that listens at the path, where the system says so.
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = status.read_bytes()
            if str(Path(path).parent).encode() in words and b"beta_factory" in words:
                for line in (status.parent / "status").read_text().splitlines():
                    if line.startswith("VmHWM"):
                        peak_mib = int(line.split()[1]) / 1024
                        return f"sidecar's peak memory {peak_mib:.0f} MiB"
        except OSError:
            continue
    return "memory unknown"
