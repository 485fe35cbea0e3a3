#!/usr/bin/env python3
"""Send a sidecar ten times what it can sustain, and check what must hold.

    scripts/flood.py                  a minute of it; exit 1 names what did not hold
    scripts/flood.py --seconds 5 --untimed    without what depends on the clock

A real sidecar, and in processes of their own: four feeds that carry the same market (as
redundant lines do, so that the first to send a return is used and the others'
are duplicates or late), a healthy subscriber, one that reads slowly, one that reads
nothing and asked to be cut, and an operator who asks for the status every 50 ms.

First one feed alone shows which rate the sidecar sustains; then all of them together
offer ten times as much. A feed is not read faster than its messages are taken: most of
what is offered waits in the feeds, which is no drop. What is sent is all taken,
and the program checks that

* every status is answered within 100 ms, not counting what the sidecar and the operator
  waited for a processor while the others kept all of them busy (as the kernel counts
  it, printed beside);
* memory grows by no more than the bound that follows from the buffers;
* sent = received, for each source; received = used + dropped, and the counts by source
  and by topic add up to the totals;
* published = received + conflated, for each subscriber and topic;
* each symbol's updates come in order, and every bar is whole;
* the subscriber that asked for it is cut, and told;
* within a second of the last write all of it is taken and acknowledged.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.flood_peers import SMALL_BUFFER, Answer, ask, symbols_of
from benchmarks.load import Raw, Sidecar, Worker, quantile, sidecar
from beta_factory.messages import Overflow, Rejected, Role, StatusReported
from beta_factory.messages.status import MAX_LISTED

PEERS: Final = str(Path(__file__).parents[1] / "benchmarks" / "flood_peers.py")
TIMES: Final = 10
ANSWERED_WITHIN_MS: Final = 100.0
RECOVERS_WITHIN_S: Final = 1.0
HIGH_WATER: Final = 256 * 1024

MEMORY_BOUND_MB: Final = 64.0
"""What four feeds and four peers may hold: of each feed a read of 256 KiB, whose 6,000
messages are objects of 200 bytes each, and the list that holds them; of each peer its
outbox and one turn's updates. Twelve megabytes, and as much again for what the
allocator keeps between sizes; the rest is room."""


@dataclass
class Verdict:
    """What was checked, and what did not hold."""

    failures: list[str]

    def check(self, what: str, *, holds: bool) -> None:
        """Print a check."""
        print(f"{'ok    ' if holds else 'FAILED'} {what}")
        if not holds:
            self.failures.append(what)


async def push(
    feeds: Sequence[Worker], rate: float, seconds: float, first: int
) -> list[dict[str, Any]]:
    """Let feeds send for a while, each at a rate; return what they say."""
    for each in feeds:
        each.tell(json.dumps({"rate": rate, "seconds": seconds, "first": first}))
    return [await each.line() for each in feeds]


async def flood(options: argparse.Namespace) -> int:
    """Measure, flood, and judge."""
    verdict = Verdict([])
    n_symbols, seconds = options.symbols, options.seconds
    async with sidecar(symbols_of(n_symbols), high_water=HIGH_WATER) as running:
        address = running.address
        # All of them are there before anything is measured.
        followers = [
            Worker(PEERS, "follow", niceness=10, address=address, name=name, pause=gap)
            for name, gap in (("healthy", 0.0), ("slow", 0.02))
        ]
        feeds = [
            Worker(
                PEERS,
                "feed",
                niceness=10,
                address=address,
                name=f"line-{i}",
                symbols=n_symbols,
            )
            for i in range(options.feeds)
        ]
        operator = Worker(PEERS, "operate", address=address, pid=running.pid)
        for each in (*followers, *feeds, operator):
            await each.line()
        deaf = await Raw.subscribe(
            address, "deaf", Overflow.DISCONNECT, limit=SMALL_BUFFER
        )
        asking = await Raw.dial(address, "asking", Role.OPERATOR)
        (probe,) = await push(feeds[:1], 1e9, options.probe_seconds, 1)
        told = [m for m in await deaf.rest() if isinstance(m, Rejected)]
        rate = probe["taken"] / options.probe_seconds
        print(f"sustained {rate:,.0f} messages/s, one a frame, from one feed")
        operator.tell(str(options.probe_seconds))
        show_answers("calm", await operator.line())
        memory_before, cpu_s = running.resident_mb, running.cpu_s
        operator.tell(str(seconds))
        memory = asyncio.create_task(watch_memory(running))
        share = TIMES * rate / len(feeds)
        pushed = await push(feeds, share, seconds, probe["last_bar"])
        answers = await operator.line()
        memory.cancel()
        ended = max(each["ended"] for each in pushed)
        show_feeds(pushed, seconds, running.cpu_s - cpu_s)
        show_answers("flooded", answers)
        show_memory(memory_before, answers)
        status = await ask(asking)
        for each in followers:
            each.tell(str(status.n_updates))
        followed = [await each.line() for each in followers]
        for each in (operator, *feeds):
            each.tell("")
        for each in (operator, *feeds, *followers):
            await each.end()
        status = await ask(asking)
        acknowledged_s = max(each["recovered_s"] for each in pushed)
        followed_s = followed[0]["reached"] - ended
        print(
            f"recovery  all acknowledged in {acknowledged_s:.2f} s, the healthy "
            f"subscriber up to date in {followed_s:.2f} s"
        )
        recovered_s = max(acknowledged_s, followed_s)
        check_timing(verdict, answers, recovered_s, untimed=options.untimed)
        growth = max(mb for _, _, _, mb in answers) - memory_before
        verdict.check(
            f"memory grew by {growth:.1f} MB, of at most {MEMORY_BOUND_MB:.0f}",
            holds=growth <= MEMORY_BOUND_MB,
        )
        check_counts(verdict, status, [probe, *pushed], n_symbols)
        check_followers(verdict, status, followed)
        verdict.check(
            f"the one that reads nothing is cut, and told: {told}",
            holds=len(told) == 1 and status.rejected == {"slow": 1},
        )
    for failure in verdict.failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if verdict.failures else 0


async def watch_memory(running: Sidecar) -> None:
    """Print the sidecar's memory, as the system sees it."""
    started = time.monotonic()
    while True:
        await asyncio.sleep(5)
        elapsed = time.monotonic() - started
        print(f"          {elapsed:4.0f} s  {running.resident_mb:.1f} MB", flush=True)


# What it says


def show_feeds(pushed: list[dict[str, Any]], seconds: float, cpu_s: float) -> None:
    """Print what the feeds offered, and what came of it."""
    offered = sum(each["offered"] for each in pushed)
    sent = sum(each["sent"] for each in pushed)
    held = [each["waited_s"] / seconds for each in pushed]
    print(f"offered   {offered:,.0f} messages in {seconds:g} s, by {len(pushed)} feeds")
    print(
        f"sent      {sent:,} of them, all taken ({sent / seconds:,.0f} a second); the "
        f"feeds waited {min(held):.0%} to {max(held):.0%} of the time for room"
    )
    print(f"work      {1e6 * cpu_s / sent:.1f} us of the sidecar's threads per message")


def show_answers(name: str, answers: Sequence[Answer]) -> None:
    """Print how fast the operator was answered."""
    for what, took in (
        (name, [ms for _, ms, _, _ in answers]),
        (f"{name}, without waits for a processor", [ms for _, _, ms, _ in answers]),
    ):
        print(
            f"answers   {what}: {len(took)}, p50 {median(took):.1f} ms, p99 "
            f"{quantile(took, 0.99):.1f} ms, longest {max(took):.1f} ms"
        )


def show_memory(before: float, answers: Sequence[Answer]) -> None:
    """Print the sidecar's memory, as it reports it itself."""
    by_second = {int(at): mb for at, _, _, mb in answers}
    step = max(len(by_second) // 12, 1)
    values = " ".join(f"{mb:.0f}" for mb in list(by_second.values())[::step])
    print(f"memory    {before:.1f} MB before; reported every {step} s: {values}")


def check_timing(
    verdict: Verdict,
    answers: Sequence[Answer],
    recovered_s: float,
    *,
    untimed: bool,
) -> None:
    """Check what the clock says."""
    late = sum(ms > ANSWERED_WITHIN_MS for _, _, ms, _ in answers)
    verdict.check(
        f"{late} of {len(answers)} answers later than {ANSWERED_WITHIN_MS:.0f} ms",
        holds=untimed or not late,
    )
    verdict.check(
        f"recovered {recovered_s:.2f} s after the last write",
        holds=recovered_s <= RECOVERS_WITHIN_S or untimed,
    )


def check_counts(
    verdict: Verdict,
    status: StatusReported,
    lines: list[dict[str, Any]],
    n_symbols: int,
) -> None:
    """Check that what was sent is accounted for, by source and by topic."""
    sent: Counter[str] = Counter()
    for line in lines:
        sent[line["name"]] += line["sent"]
    received = {each.source: each.n_received for each in status.sources}
    by_source: Counter[str] = Counter()
    for each in status.sources:
        print(f"source    {each.source}: {each.n_received:,} received, {each.dropped}")
        by_source.update(each.dropped)
    by_topic: Counter[str] = Counter()
    for topic in status.topics:
        by_topic.update(topic.dropped)
    for topic in status.topics[:3]:
        print(
            f"topic     {topic.topic}: {topic.n_conflated:,} conflated {topic.dropped}"
        )
    verdict.check(
        f"sent = received, by source: {sent.total():,}", holds=received == dict(sent)
    )
    used = status.n_pairs + status.n_bars
    n_dropped = sum(status.dropped.values())
    verdict.check(
        f"received = used + dropped: {used:,} + {n_dropped:,}",
        holds=sent.total() == used + n_dropped,
    )
    totals = Counter(status.dropped)
    verdict.check(
        f"dropped by source and by topic adds up to {dict(totals)}",
        holds=by_source == by_topic == totals and status.n_topics <= MAX_LISTED,
    )
    verdict.check(
        f"every bar is whole: {status.n_bars:,} of {n_symbols} pairs",
        holds=status.n_pairs == status.n_bars * n_symbols,
    )


def check_followers(
    verdict: Verdict, status: StatusReported, followed: list[dict[str, Any]]
) -> None:
    """Check what the subscribers got, topic by topic."""
    folded: Counter[str] = Counter()
    for each in followed:
        counts = Counter[str](each["updates"]) + Counter[str](each["folded"])
        folded.update(each["folded"])
        n_folded = sum(each["folded"].values())
        per_topic = {status.n_bars}
        verdict.check(
            f"{each['name']}: {sum(each['updates'].values()):,} and {n_folded:,} "
            f"conflated are all {status.n_updates:,}, of each topic as many as bars",
            holds=set(counts.values()) == per_topic
            and counts.total() == status.n_updates,
        )
        verdict.check(
            f"{each['name']}: {each['disorder']} updates out of order",
            holds=each["disorder"] == 0,
        )
    by_topic = {
        topic.topic.rpartition(".")[2]: topic.n_conflated
        for topic in status.topics
        if topic.n_conflated
    }
    verdict.check(
        f"conflated by topic is what subscribers were told: {status.n_conflated:,}",
        holds=by_topic == dict(+folded) and status.n_conflated == folded.total(),
    )
    verdict.check("the slow one was conflated", holds=followed[1]["folded"] != {})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--probe-seconds", type=float, default=5.0)
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--feeds", type=int, default=4)
    parser.add_argument("--untimed", action="store_true", help="judge no times")
    return uvloop.run(flood(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
