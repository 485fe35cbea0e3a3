"""Kill a sidecar at random instants, and look for what was lost or counted twice.

    scripts/crash_test.py --rounds 200 --policy fsync

Each round lets a feed publish through a real sidecar process, kills that with SIGKILL
at a random instant, starts it again on the same store, and compares:

* the newest update of every topic with that of a factory in this process, which took
  the same messages without an interruption: every field, to the last bit, and `seq`;
* every update that a subscriber received, over all rounds, with the uninterrupted one
  of the same number;
* the journal: each observation stands in it once, in the order of its numbers, none
  that was acknowledged is missing, and no window dropped one as a duplicate.

Exit code 1 on any difference.
"""

import argparse
import asyncio
import json
import logging
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import numpy as np

from beta_factory import BetaFactory, BetaUpdated, Role, connect
from beta_factory.actors import Factor, MarketBetaConfig
from beta_factory.messages import (
    OBSERVATION_TYPES,
    BenchmarkReturnObserved,
    ReturnObserved,
    ReturnsObserved,
    SymbolsDeclared,
    decode_payload,
    encode,
)
from beta_factory.runtime.client import Backoff, BetaClient
from beta_factory.runtime.journal_entries import Taken, decode_entries
from beta_factory.runtime.journal_replay import RunConfig
from beta_factory.runtime.outgoing import Publishable
from beta_factory.runtime.recovery import recover
from beta_factory.runtime.store import Store

SYMBOLS: Final = tuple(f"S{i:02d}" for i in range(24))
FACTORS: Final = (
    Factor("SPY", "market", MarketBetaConfig(60, 10, allowed_lateness=2)),
    Factor("SPY", "recent", MarketBetaConfig(30, 5, half_life=10.0)),
)
FIRST_NS: Final = 1_760_000_000 * 10**9
PATIENCE_S: Final = 60.0

MISSING: Final = 0.2
"""Part of the returns that a columnar bar lacks."""

KILLED_AGAIN: Final = 0.2
"""Part of the restarts that are killed, too: at best while they recover."""

CONFIG: Final = """\
symbols = {symbols}
[server]
address = "unix://{folder}/sidecar.sock"
[store]
path = "{folder}/store.sqlite"
policy = "{policy}"
snapshot_interval_s = {snapshot_interval_s}
[factors.market]
benchmark = "SPY"
lookback_length = 60
min_observations = 10
allowed_lateness = 2
[factors.recent]
benchmark = "SPY"
lookback_length = 30
min_observations = 5
half_life = 10.0
"""


class Mismatch(Exception):  # noqa: N818 - what the program looks for
    """The interrupted run is not what the uninterrupted one is."""


def market(seed: int) -> Iterator[list[Publishable]]:
    """Give the messages of one bar after the other: single returns and columns."""
    rng = np.random.default_rng(seed)
    yield [SymbolsDeclared(table=1, symbols=SYMBOLS)]
    bar = 0
    while True:
        bar += 1
        ts = FIRST_NS + bar * 10**9
        spy, returns = rng.normal() * 1e-3, rng.normal(size=len(SYMBOLS)) * 1e-3
        opening = BenchmarkReturnObserved(
            benchmark="SPY", ts_event=ts, period_return=float(spy)
        )
        if bar % 2:
            returns[rng.random(len(SYMBOLS)) < MISSING] = np.nan
            columns = returns.astype("<f8").tobytes()
            yield [
                opening,
                ReturnsObserved(ts_event=ts, symbols=1, period_returns=columns),
            ]
        else:
            yield [
                opening,
                *(
                    ReturnObserved(symbol=s, ts_event=ts, period_return=float(value))
                    for s, value in zip(SYMBOLS, returns, strict=True)
                ),
            ]


class Uninterrupted:
    """The same messages through a factory that nobody kills."""

    def __init__(self) -> None:
        self.factory = BetaFactory(SYMBOLS, factors=FACTORS)
        self.updates: dict[tuple[str, int], bytes] = {}

    def take(self, messages: list[Publishable]) -> None:
        """Take what the feed publishes."""
        for message in messages:
            for update in self.factory.receive(message):
                self.updates[update.factor, update.seq] = without_stamp(update)

    def check(self, update: BetaUpdated) -> None:
        """Compare an update of the interrupted run."""
        wanted = self.updates.get((update.factor, update.seq))
        if without_stamp(update) != wanted:
            raise Mismatch(f"{update} is not what was to be published")


def without_stamp(update: BetaUpdated) -> bytes:
    """Return an update's bytes; how many were folded into it does not count."""
    return encode(
        [getattr(update, f) for f in update.__struct_fields__ if f != "conflated"]
    )


class CrashTest:
    """One store, one feed, one subscriber, many sidecars."""

    def __init__(self, folder: Path, policy: str, seed: int) -> None:
        self.folder = folder
        self.address = f"unix://{folder}/sidecar.sock"
        self.store = str(folder / "store.sqlite")
        self.policy = policy
        self.chance = random.Random(seed)  # noqa: S311 - no secret
        self.bars = market(seed)
        self.uninterrupted = Uninterrupted()
        self.published: list[Publishable] = []
        self.n_received = 0
        self.sidecar: asyncio.subprocess.Process | None = None
        self.may_publish = asyncio.Event()
        self.is_idle = asyncio.Event()
        self.log = (folder / "sidecar.log").open("ab")

    async def start(self) -> None:
        """Start a sidecar on what the last one left."""
        config = self.folder / "config.toml"
        config.write_text(
            CONFIG.format(
                symbols=json.dumps(SYMBOLS),
                folder=self.folder,
                policy=self.policy,
                snapshot_interval_s=0.7,
            )
        )
        self.sidecar = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "beta_factory", "run", "--config", str(config)),
            stderr=self.log,
            stdout=self.log,
        )

    async def kill(self) -> None:
        """Kill it as `kill -9` does."""
        if self.sidecar is not None and self.sidecar.returncode is None:
            self.sidecar.send_signal(signal.SIGKILL)
            await self.sidecar.wait()

    async def feed(self, client: BetaClient) -> None:
        """Publish for ever, with pauses where `may_publish` says so."""
        for messages in self.bars:
            if not self.may_publish.is_set():
                self.is_idle.set()
                await self.may_publish.wait()
                self.is_idle.clear()
            self.uninterrupted.take(messages)
            self.published += messages
            await client.publish(messages)
            await asyncio.sleep(0.0005)

    async def listen(self, client: BetaClient) -> None:
        """Compare every update that a subscriber receives."""
        async for update in client.subscribe("beta.>"):
            self.uninterrupted.check(update)
            self.n_received += 1

    async def run_round(self, feed: BetaClient) -> None:
        """Publish, kill, start again, and compare."""
        self.may_publish.set()
        await asyncio.sleep(self.chance.uniform(0.0, 0.6))
        await self.kill()
        await asyncio.sleep(self.chance.uniform(0.0, 0.05))
        await self.start()
        if self.chance.random() < KILLED_AGAIN:
            await asyncio.sleep(self.chance.uniform(0.0, 0.8))
            await self.kill()
            await self.start()
        await asyncio.sleep(0.05)
        self.may_publish.clear()
        async with asyncio.timeout(PATIENCE_S):
            await self.is_idle.wait()
            await feed.flush()
        await self.compare()

    async def compare(self) -> None:
        """Compare the newest update of every topic."""
        factory = self.uninterrupted.factory
        found: dict[str, int] = Counter()
        async with (
            asyncio.timeout(PATIENCE_S),
            connect(self.address, name="comparer", connect_timeout_s=30) as client,
        ):
            await client.watch("beta.>")
            for factor in FACTORS:
                for symbol in SYMBOLS:
                    topic = f"beta.{factor.name}.{symbol}"
                    wanted, newest = factory.latest(topic), client.latest(topic)
                    if wanted is None or newest is None:
                        if wanted is not newest:
                            raise Mismatch(f"{topic}: {newest}, not {wanted}")
                    elif without_stamp(newest) != without_stamp(wanted):
                        raise Mismatch(f"{topic}: {newest}, not {wanted}")
                    found[factor.name] += 1

    def check_journal(self) -> int:
        """Compare the journal with what was published; return its turns."""
        numbered = [m for m in self.published if isinstance(m, OBSERVATION_TYPES)]
        store = Store(self.store)
        n_turns = 0
        seqs: list[int] = []
        for chunk in store.chunks(1):
            for placed in decode_entries(chunk.first, chunk.entries):
                n_turns += 1
                for part in placed.turn.parts:
                    if isinstance(part, Taken):
                        taken = decode_payload(part.payload)
                        seqs += [
                            m.seq for m in taken if isinstance(m, OBSERVATION_TYPES)
                        ]
        store.close()
        if seqs != list(range(1, len(numbered) + 1)):
            raise Mismatch(f"the journal has {len(seqs)} of {len(numbered)} messages")
        found = recover(self.store, RunConfig(SYMBOLS, FACTORS))
        if found.damage or found.replay.factory.tally.dropped:
            raise Mismatch(f"{found.damage}, {found.replay.factory.tally.dropped}")
        return n_turns


@asynccontextmanager
async def connected(test: CrashTest) -> AsyncGenerator[BetaClient]:
    """Run the feed and the subscriber, and end both if one fails."""
    backoff = Backoff(initial_s=0.02, max_s=0.2, max_attempts=10_000)
    async with (
        connect(
            test.address,
            name="feed",
            role=Role.FEED,
            backoff=backoff,
            connect_timeout_s=PATIENCE_S,
        ) as feed,
        connect(test.address, name="subscriber", backoff=backoff) as subscriber,
        asyncio.TaskGroup() as tasks,
    ):
        running = [
            tasks.create_task(test.feed(feed)),
            tasks.create_task(test.listen(subscriber)),
        ]
        yield feed
        for task in running:
            task.cancel()


async def run(rounds: int, policy: str, seed: int) -> None:
    """Run every round; raise at the first difference."""
    with tempfile.TemporaryDirectory(prefix="crash-test-") as name:
        test = CrashTest(Path(name), policy, seed)
        try:
            await test.start()
            async with connected(test) as feed:
                for number in range(1, rounds + 1):
                    await test.run_round(feed)
                    print(
                        f"round {number}: {feed.n_acknowledged:,} acknowledged, "
                        f"{test.n_received:,} updates received, equal",
                        flush=True,
                    )
            n_turns = test.check_journal()
            print(f"journal: {n_turns:,} turns, every message once")
        except BaseException:
            print((Path(name) / "sidecar.log").read_text()[-4000:])
            raise
        finally:
            await test.kill()
            test.log.close()


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--policy", choices=("os", "fsync"), default="os")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level="ERROR")
    n_different = 0
    try:
        asyncio.run(run(arguments.rounds, arguments.policy, arguments.seed))
    except* Mismatch as group:
        n_different = len(group.exceptions)
        for error in group.exceptions:
            print(f"DIFFERENT: {error}", file=sys.stderr)
    return 1 if n_different else 0


if __name__ == "__main__":
    raise SystemExit(main())
