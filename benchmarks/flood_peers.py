"""The peers of `scripts/flood.py`, each a process of its own.

Rule: what they are told and what they say are lines of JSON; they begin and end when
they are told to, so that their start is no part of what is measured.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.load import FIRST_SEQ, Line, Raw, RunQueue, say
from beta_factory.messages import (
    Acknowledged,
    BetaUpdated,
    ReportStatus,
    Role,
    StatusReported,
    encode,
)
from beta_factory.messages.status import MAX_LISTED
from beta_factory.runtime.framing import frame

ASKED_EVERY_S: Final = 0.05
GIVES_UP_AFTER_S: Final = 30.0
SMALL_BUFFER: Final = 4096

Answer = tuple[float, float, float, float]
"""When it was asked for, in seconds from the start; how long it took, and how long
without waits for a processor, in ms; the memory that it reported, in MB."""


def symbols_of(n_symbols: int) -> tuple[str, ...]:
    """Return the universe."""
    return tuple(f"S{i:04d}" for i in range(n_symbols))


async def jobs() -> Any:  # noqa: ANN401 - what each peer is told is its own
    """Return the next thing that we are told to do, ``None`` at the end."""
    line = await asyncio.to_thread(sys.stdin.readline)
    return json.loads(line) if line.strip() else None


class Feed:
    """Offers bars at a rate, whether or not they are taken.

    Parameters
    ----------
    peer
        A connection that has greeted.
    name
        Under which name.
    n_symbols
        In each bar.
    """

    def __init__(self, peer: Raw, name: str, n_symbols: int) -> None:
        self._peer = peer
        self._name = name
        self._line = Line(symbols_of(n_symbols))
        self._n_sent = self._n_acknowledged = 0
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Do each job, and say what became of it."""
        listening = asyncio.create_task(self._listen())
        say("ready")
        while (job := await jobs()) is not None:
            say(await self._push(**job))
        listening.cancel()

    async def _push(self, rate: float, seconds: float, first: int) -> dict[str, Any]:
        now, line, writer = time.monotonic, self._line, self._peer.writer
        started, waited_s, before = now(), 0.0, self._n_sent
        n_taken, bar = self._n_acknowledged, first
        while (elapsed := now() - started) < seconds:
            if rate * elapsed > self._n_sent - before:
                writer.write(line.bar(bar, FIRST_SEQ + self._n_sent))
                self._n_sent += line.n_messages
                bar += 1
                wrote = now()
                await writer.drain()
                waited_s += now() - wrote
            else:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
        ended, n_taken = now(), self._n_acknowledged - n_taken
        try:
            async with asyncio.timeout(GIVES_UP_AFTER_S):
                while self._n_acknowledged < self._n_sent:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        return {
            "name": self._name,
            "offered": rate * seconds,
            "sent": self._n_sent - before,
            "taken": n_taken,
            "last_bar": bar,
            "waited_s": waited_s,
            "ended": ended,
            "recovered_s": now() - ended,
        }

    async def _listen(self) -> None:
        while (messages := await self._peer.receive()) is not None:
            for message in messages:
                if isinstance(message, Acknowledged):
                    self._n_acknowledged = message.seq - FIRST_SEQ + 1
                    self._changed.set()


async def feed(address: str, name: str, n_symbols: int) -> None:
    """Be a feed."""
    peer = await Raw.dial(address, name, Role.FEED)
    await Feed(peer, name, n_symbols).run()
    peer.writer.close()


async def follow(address: str, name: str, pause_s: float) -> None:
    """Read updates, with a pause after each read, until told up to which one."""
    peer = await Raw.subscribe(address, name, limit=SMALL_BUFFER if pause_s else 2**20)
    if pause_s:
        peer.small(SMALL_BUFFER)
    say("ready")
    counts: Counter[str] = Counter()
    folded: Counter[str] = Counter()
    last: dict[str, tuple[int, int]] = {}
    disorder = last_seq = 0
    reached = 0.0
    told = asyncio.create_task(jobs())
    while not told.done() or last_seq < told.result():
        is_slow = pause_s and not told.done()
        # A heartbeat wakes it when nothing else comes
        messages = await peer.receive(SMALL_BUFFER if is_slow else 2**18)
        if messages is None:
            break
        for message in messages:
            if type(message) is BetaUpdated:
                symbol, seq = message.symbol, message.seq
                counts[symbol] += 1
                folded[symbol] += message.conflated
                place = message.ts_event, seq
                disorder += place <= last.get(symbol, (0, 0))
                last[symbol] = place
                if seq > last_seq:
                    last_seq, reached = seq, time.monotonic()
        if is_slow:
            await asyncio.sleep(pause_s)
    say(
        {
            "name": name,
            "updates": dict(counts),
            "folded": dict(folded),
            "disorder": disorder,
            "reached": reached,
        }
    )
    peer.writer.close()


async def operate(address: str, pid: int) -> None:
    """Ask for the status every so often, for as long as told; say how it was."""
    peer = await Raw.dial(address, "operator", Role.OPERATOR)
    queues = RunQueue(), RunQueue(pid)
    say("ready")
    while (seconds := await jobs()) is not None:
        answers: list[Answer] = []
        started = due = time.monotonic()
        while due < started + seconds:
            waited = [queue.waited_s for queue in queues]
            asked = time.monotonic()
            status = await ask(peer, limit=5)
            took_ms = 1e3 * (time.monotonic() - asked)
            # They may have waited at the same time: at least the longer wait counts.
            waited_ms = 1e3 * max(
                queue.waited_s - before
                for queue, before in zip(queues, waited, strict=True)
            )
            memory_mb = status.memory_bytes / 2**20
            answers.append((asked - started, took_ms, took_ms - waited_ms, memory_mb))
            due = max(due + ASKED_EVERY_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
        say(answers)
    peer.writer.close()


async def ask(peer: Raw, limit: int = MAX_LISTED) -> StatusReported:
    """Ask for the status once."""
    peer.writer.write(frame(encode(ReportStatus(request=1, limit=limit))))
    while (messages := await peer.receive()) is not None:
        for message in messages:
            if isinstance(message, StatusReported):
                return message
    raise ConnectionResetError("the sidecar has gone")


def main() -> None:
    """Be one of the peers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["feed", "follow", "operate"])
    parser.add_argument("--address", required=True)
    parser.add_argument("--name", default="")
    parser.add_argument("--symbols", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--pid", type=int, default=0)
    options = parser.parse_args()
    if options.role == "feed":
        uvloop.run(feed(options.address, options.name, options.symbols))
    elif options.role == "follow":
        uvloop.run(follow(options.address, options.name, options.pause))
    else:
        uvloop.run(operate(options.address, options.pid))


if __name__ == "__main__":
    main()
