"""A sidecar with a store, in real processes: killed, full, damaged, replayed."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from commands import command
from stores import SYMBOLS, bar, uninterrupted

from beta_factory import Role, connect
from beta_factory.messages import Acknowledged, Hello, beta_topic
from beta_factory.runtime.replay import Digest
from testkit import Peer

pytestmark = pytest.mark.integration

PATIENCE_S = 60.0
SCRIPT = Path(__file__).parents[2] / "scripts" / "crash_test.py"

CONFIG = """\
symbols = {symbols}
[server]
address = "unix://{folder}/sidecar.sock"
[store]
path = "{folder}/{store}"
policy = "fsync"
snapshot_interval_s = {interval_s}
[factors.market]
benchmark = "SPY"
lookback_length = 20
min_observations = 3
[factors.late]
benchmark = "SPY"
lookback_length = 10
min_observations = 3
allowed_lateness = 2
"""


class Sidecar:
    """A sidecar process on one store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix://{folder}/sidecar.sock"
        self.store = folder / "store.sqlite"
        self.process: asyncio.subprocess.Process | None = None
        self.lines: list[str] = []
        self.peers: list[Peer] = []

    @asynccontextmanager
    async def running(
        self, *, interval_s: float = 3600.0, store: str = "store.sqlite", limit: int = 0
    ) -> AsyncGenerator[asyncio.subprocess.Process]:
        """Run it; `limit` is the largest file that it may write."""
        config = self.folder / "config.toml"
        symbols = json.dumps(SYMBOLS)
        config.write_text(
            CONFIG.format(
                symbols=symbols, folder=self.folder, store=store, interval_s=interval_s
            )
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "beta_factory", "run", "--config", str(config)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.process = process
        try:
            await self.line("listening at")
            if limit:
                self.limit_files(limit)
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            for peer in self.peers:
                await peer.close()
            self.peers.clear()

    def limit_files(self, n_bytes: int) -> None:
        """Let files grow to this many bytes and no further: a disk that is full."""
        assert self.process is not None
        hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (n_bytes, hard))

    def damaged(self) -> bytes:
        """Return the damaged store that was kept last."""
        return Path(f"{self.store}.damaged-1").read_bytes()

    async def line(self, text: str) -> str:
        """Return the next line of its log that holds a text."""
        assert self.process is not None
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self.process.stderr.readline()).decode():
                self.lines.append(line)
                if text in line:
                    return line
        raise AssertionError(f"no {text!r} in {self.lines[-20:]}")

    async def stop(self) -> str:
        """End it in order; return its summary."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await self.process.communicate()
        assert self.process.returncode == 0
        return out.decode()

    async def peer(self, sequence: str = "of today") -> Peer:
        """Connect as a feed that speaks in raw frames."""
        reader, writer = await asyncio.open_unix_connection(
            str(self.folder / "sidecar.sock")
        )
        peer = Peer(reader, writer)
        self.peers.append(peer)
        await peer.send(Hello(role=Role.FEED, name="feed", sequence=sequence))
        peer.greeting = await peer.expect(Hello)
        return peer

    async def check(self, n_bars: int) -> None:
        """Compare the newest update of every topic with an uninterrupted run's."""
        async with connect(self.address) as client:
            await client.watch("beta.>")
            wanted = uninterrupted(range(n_bars))
            for factor in ("market", "late"):
                for symbol in SYMBOLS:
                    topic = beta_topic(factor, symbol)
                    assert client.latest(topic) == wanted.latest(topic)


@pytest.fixture
def sidecar(tmp_path: Path) -> Sidecar:
    return Sidecar(tmp_path)


async def acknowledged(peer: Peer, seq: int) -> None:
    def is_last(message: object) -> bool:
        return isinstance(message, Acknowledged) and message.seq >= seq

    async with asyncio.timeout(PATIENCE_S):
        await peer.until(is_last)


async def send(peer: Peer, first: int, last: int) -> int:
    messages = [message for number in range(first, last) for message in bar(number)]
    await peer.send(*messages)
    return last * (len(SYMBOLS) + 1)


@pytest.mark.asyncio
async def test_what_is_sent_again_after_a_kill_counts_once(sidecar: Sidecar) -> None:
    async with sidecar.running() as process:
        peer = await sidecar.peer()
        await acknowledged(peer, await send(peer, 0, 10))
        process.kill()
        await process.wait()
    async with sidecar.running():
        peer = await sidecar.peer()
        await acknowledged(peer, await send(peer, 0, 15))  # all of it, and more
        await sidecar.check(15)
        assert "dropped   none" in await sidecar.stop()


@pytest.mark.asyncio
async def test_new_connection_of_a_sequence_ends_the_old_one(sidecar: Sidecar) -> None:
    async with sidecar.running():
        old = await sidecar.peer()
        await acknowledged(old, await send(old, 0, 5))
        await sidecar.peer("another feed's")
        new = await sidecar.peer()
        assert isinstance((await old.rest() or [Acknowledged(seq=0)])[-1], Acknowledged)
        await acknowledged(new, await send(new, 3, 8))
        await sidecar.check(8)


@pytest.mark.asyncio
async def test_full_disk_withholds_acknowledgements_until_there_is_room(
    sidecar: Sidecar,
) -> None:
    async with sidecar.running(limit=1):
        peer = await sidecar.peer()
        seq = await send(peer, 0, 10)
        assert "reason=" in await sidecar.line("store.degraded")
        await sidecar.check(10)  # betas are published all the same
        sidecar.limit_files(resource.RLIM_INFINITY)
        await acknowledged(peer, seq)
        await sidecar.line("store.writing")
        assert "store     ok" in await sidecar.stop()
    async with sidecar.running():
        await sidecar.check(10)


@pytest.mark.asyncio
async def test_store_that_cannot_be_made_leaves_a_sidecar_that_says_so(
    sidecar: Sidecar,
) -> None:
    async with sidecar.running(store="missing/store.sqlite"):
        peer = await sidecar.peer()
        await send(peer, 0, 5)
        assert "No such file or directory" in await sidecar.line("store.degraded")
        await sidecar.check(5)
        summary = await sidecar.stop()
    assert "store     degraded: [Errno 2] No such file" in summary


@pytest.mark.asyncio
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_read_only_store_is_recovered_from(sidecar: Sidecar) -> None:
    async with sidecar.running():
        peer = await sidecar.peer()
        await acknowledged(peer, await send(peer, 0, 10))
        await sidecar.stop()
    for path in sidecar.folder.glob("store.sqlite*"):
        path.chmod(0o400)
    async with sidecar.running():
        await sidecar.check(10)
        assert "degraded" in await sidecar.stop()


@pytest.mark.asyncio
async def test_damaged_store_is_reported_and_replaced(sidecar: Sidecar) -> None:
    async with sidecar.running():
        peer = await sidecar.peer()
        await acknowledged(peer, await send(peer, 0, 10))
        await sidecar.stop()
    sidecar.store.write_bytes(b"no database" * 500)
    async with sidecar.running():
        peer = await sidecar.peer("a new one")
        await acknowledged(peer, await send(peer, 0, 10))
        summary = await sidecar.stop()
    assert "store     degraded: " in summary
    assert "were acknowledged and are missing" in summary
    assert sidecar.damaged().startswith(b"no database")
    async with sidecar.running():
        await sidecar.check(10)
        assert "store     ok" in await sidecar.stop()


@pytest.mark.asyncio
async def test_journal_replays_to_the_digest_of_the_live_day(sidecar: Sidecar) -> None:
    digest = Digest()
    wanted = uninterrupted(range(30)).latest("beta.late.MSFT")
    assert wanted is not None
    async with sidecar.running(interval_s=0.2):
        async with connect(sidecar.address, name="desk") as client:
            subscription = client.subscribe("beta.>")
            await client.watch("beta.late.*")  # by now both are there
            peer = await sidecar.peer()
            for first in range(0, 30, 5):
                await acknowledged(peer, await send(peer, first, first + 5))
            await sidecar.line("store.snapshot")
            async with asyncio.timeout(PATIENCE_S):
                async for update in subscription:
                    digest.add([update])
                    if update == wanted:
                        break
        await sidecar.stop()
    for name in ("replay", "store"):
        lines = run(name, sidecar.store)
        assert f"sha256:{digest.hexdigest()}" in lines
    out = sidecar.folder / "recording.sqlite"
    assert run("record", sidecar.store, out).startswith("turns     1 to ")
    assert f"sha256:{digest.hexdigest()}" in run("replay", out)
    now = "2100-01-01T00:00:00"
    shown = run("asof", "MSFT", now, "--store", out, "--factor", "late")
    assert "topic     beta.late.MSFT" in shown
    assert f'"seq":{wanted.seq}' in shown


def run(*arguments: str | Path) -> str:
    done = command(*arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_killed_sidecars_lose_nothing_and_count_nothing_twice() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--rounds", "2", "--policy", "fsync"],
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "every message once" in done.stdout
