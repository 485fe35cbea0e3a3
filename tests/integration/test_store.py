"""A sidecar with a store, in real processes: killed, full, damaged, replayed."""

import asyncio
import json
import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import cast

import anyio
import pytest
from commands import command
from msgspec.structs import replace
from processes import SidecarProcess
from stores import RUN, SYMBOLS, LiveRun, bar, uninterrupted

from beta_factory import MarketBetaConfig, Role, connect
from beta_factory.actors import Factor
from beta_factory.messages import (
    Acknowledged,
    Observation,
    ReportStatus,
    StatusReported,
    StoreError,
    beta_topic,
)
from beta_factory.runtime.client import Backoff, BetaClient
from beta_factory.runtime.config import ServerConfig, SidecarConfig, StoreConfig
from beta_factory.runtime.durability import Durability
from beta_factory.runtime.journal_entries import RunStarted, decode_entries
from beta_factory.runtime.operator_client import ask
from beta_factory.runtime.replay import Digest
from beta_factory.runtime.sidecar import serve
from beta_factory.runtime.snapshotter import Snapshotter
from beta_factory.runtime.store import reading
from testkit import Peer

pytestmark = pytest.mark.integration

PATIENCE_S = 60.0
PER_BAR = len(SYMBOLS) + 1
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


class Sidecar(SidecarProcess):
    """A sidecar process on one store."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.store = folder / "store.sqlite"

    def config(
        self, *, interval_s: float = 3600.0, store: str = "store.sqlite"
    ) -> Path:
        path = self.folder / "config.toml"
        symbols = json.dumps(SYMBOLS)
        path.write_text(
            CONFIG.format(
                symbols=symbols, folder=self.folder, store=store, interval_s=interval_s
            )
        )
        return path

    def limit_files(self, n_bytes: int) -> None:
        """Let files grow to this many bytes and no further: a disk that is full."""
        assert self.process is not None
        hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (n_bytes, hard))

    def damaged(self) -> bytes:
        """Return the damaged store that was kept last."""
        return Path(f"{self.store}.damaged-1").read_bytes()

    async def feed(self, sequence: str = "of today") -> Peer:
        """Connect as a feed that speaks in raw frames."""
        return await self.peer(Role.FEED, "feed", sequence)

    async def status(self, *options: str) -> str:
        """Return what the command says of how it is."""
        return await asyncio.to_thread(
            run, "status", "--address", self.address, *options
        )

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


async def send(peer: Peer, first: int, last: int) -> int:
    messages = [message for number in range(first, last) for message in bar(number)]
    await peer.send(*messages)
    return last * (len(SYMBOLS) + 1)


@pytest.mark.asyncio
async def test_what_is_sent_again_after_a_kill_counts_once(sidecar: Sidecar) -> None:
    async with sidecar.running(sidecar.config()) as process:
        peer = await sidecar.feed()
        await sidecar.acknowledged(peer, await send(peer, 0, 10))
        process.kill()
        await process.wait()
    async with sidecar.running(sidecar.config()):
        peer = await sidecar.feed()
        await sidecar.acknowledged(peer, await send(peer, 0, 15))  # all of it, and more
        await sidecar.check(15)
        assert "dropped   none" in await sidecar.stop()


@pytest.mark.asyncio
async def test_a_run_looks_at_the_clock_before_it_takes_anything(
    tmp_path: Path,
) -> None:
    config = SidecarConfig(
        symbols=SYMBOLS,
        factors=(Factor("SPY", model=MarketBetaConfig(20, 3, feed_timeout="1h")),),
        server=ServerConfig(address=f"unix://{tmp_path}/sidecar.sock"),
        store=StoreConfig(path=str(tmp_path / "store.sqlite"), policy=Durability.OS),
    )
    stop = anyio.Event()
    await serve(config, stop, on_listening=lambda _address: stop.set())
    assert config.store.path is not None
    with reading(config.store.path) as store:
        (chunk,) = store.chunks(1)
    first = next(iter(decode_entries(chunk.first, chunk.entries))).turn
    assert first.looked
    assert [type(part) for part in first.parts] == [RunStarted]


@pytest.mark.asyncio
async def test_new_connection_of_a_sequence_ends_the_old_one(sidecar: Sidecar) -> None:
    async with sidecar.running(sidecar.config()):
        old = await sidecar.feed()
        await sidecar.acknowledged(old, await send(old, 0, 5))
        await sidecar.feed("another feed's")
        new = await sidecar.feed()
        assert isinstance((await old.rest() or [Acknowledged(seq=0)])[-1], Acknowledged)
        await sidecar.acknowledged(new, await send(new, 3, 8))
        await sidecar.check(8)


def feeding(sidecar: Sidecar) -> BetaClient:
    """One more process of a feed that always calls itself the same."""
    backoff = Backoff(initial_s=0.02, max_s=0.2, max_attempts=10_000)
    return connect(
        sidecar.address,
        role=Role.FEED,
        name="prices",
        sequence="prices",
        connect_timeout_s=PATIENCE_S,
        backoff=backoff,
    )


async def publish(client: BetaClient, first: int, last: int) -> None:
    for number in range(first, last):
        observations = cast("list[Observation]", bar(number))
        await client.publish([replace(each, seq=0) for each in observations])


async def n_repeated(sidecar: Sidecar) -> int:
    report = await ask(ReportStatus(request=1), sidecar.address, timeout_s=PATIENCE_S)
    assert isinstance(report, StatusReported)
    return sum(source.n_repeated for source in report.sources)


@pytest.mark.asyncio
async def test_feed_that_is_started_anew_goes_on_in_its_sequence(
    sidecar: Sidecar,
) -> None:
    async with sidecar.running(sidecar.config()) as process:
        async with feeding(sidecar) as client:
            await publish(client, 0, 5)
            await client.flush()
        second = feeding(sidecar)
        await second.__aenter__()
        assert second.last_seq == 5 * PER_BAR
        await publish(second, 5, 10)
        process.kill()
        await process.wait()
    async with sidecar.running(sidecar.config()):
        await publish(second, 10, 15)
        await second.flush()
        await second.__aexit__(None, None, None)
        await sidecar.check(15)
        assert await n_repeated(sidecar) == 0
        async with feeding(sidecar) as client:
            await client.flush()
            assert client.last_seq == 15 * PER_BAR
            for number in (14, 15):  # one that was sent before, and one more
                await client.publish(cast("list[Observation]", bar(number)))
            await client.flush()
        await sidecar.check(16)
        assert await n_repeated(sidecar) == PER_BAR
        assert "dropped   none" in await sidecar.stop()


@pytest.mark.asyncio
async def test_full_disk_withholds_acknowledgements_until_there_is_room(
    sidecar: Sidecar,
) -> None:
    async with sidecar.running(sidecar.config()):
        sidecar.limit_files(1)
        peer = await sidecar.feed()
        seq = await send(peer, 0, 10)
        assert "reason=" in await sidecar.line("store.degraded")
        await sidecar.check(10)  # betas are published all the same
        sidecar.limit_files(resource.RLIM_INFINITY)
        await sidecar.acknowledged(peer, seq)
        await sidecar.line("store.writing")
        assert "store     ok" in await sidecar.stop()
    async with sidecar.running(sidecar.config()):
        await sidecar.check(10)


@pytest.mark.asyncio
async def test_store_that_cannot_be_made_leaves_a_sidecar_that_says_so(
    sidecar: Sidecar,
) -> None:
    async with sidecar.running(sidecar.config(store="missing/store.sqlite")):
        peer = await sidecar.feed()
        await send(peer, 0, 5)
        assert "No such file or directory" in await sidecar.line("store.degraded")
        await sidecar.check(5)
        told = await sidecar.status()
        assert "store     degraded: [Errno 2] No such file" in told
        assert "betafactory_store_degraded 1\n" in await sidecar.status("--prometheus")
        store = json.loads(await sidecar.status("--json"))["store"]
        assert (store["state"], store["durable"]) == ("degraded", 0)
        assert store["n_pending_bytes"] > 0
        summary = await sidecar.stop()
    assert "store     degraded: [Errno 2] No such file" in summary


@pytest.mark.asyncio
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_read_only_store_is_recovered_from(sidecar: Sidecar) -> None:
    async with sidecar.running(sidecar.config()):
        peer = await sidecar.feed()
        await sidecar.acknowledged(peer, await send(peer, 0, 10))
        await sidecar.stop()
    for path in sidecar.folder.glob("store.sqlite*"):
        path.chmod(0o400)
    async with sidecar.running(sidecar.config()):
        await sidecar.check(10)
        assert "degraded" in await sidecar.stop()


@pytest.mark.asyncio
async def test_damaged_store_is_reported_and_replaced(sidecar: Sidecar) -> None:
    async with sidecar.running(sidecar.config()):
        peer = await sidecar.feed()
        await sidecar.acknowledged(peer, await send(peer, 0, 10))
        await sidecar.stop()
    sidecar.store.write_bytes(b"no database" * 500)
    async with sidecar.running(sidecar.config()):
        peer = await sidecar.feed("a new one")
        await sidecar.acknowledged(peer, await send(peer, 0, 10))
        summary = await sidecar.stop()
    assert "store     degraded: " in summary
    assert "were acknowledged and are missing" in summary
    assert sidecar.damaged().startswith(b"no database")
    async with sidecar.running(sidecar.config()):
        await sidecar.check(10)
        assert "store     ok" in await sidecar.stop()


@pytest.mark.asyncio
async def test_snapshot_that_fails_says_where_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "store.sqlite")
    LiveRun(Path(path)).take(range(3)).end()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(
        "CREATE TRIGGER full BEFORE INSERT ON snapshots "
        "BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    )
    snapshotter = Snapshotter(path, RUN)
    with pytest.raises(StoreError) as caught:
        await snapshotter.take()
    assert (caught.value.path, caught.value.reason) == (path, "disk is full")
    db.execute("DROP TRIGGER full")
    db.close()
    assert (await snapshotter.take()).position == 4
    snapshotter.close()
    monkeypatch.setattr(sys, "executable", "true")  # it ends without an answer
    with pytest.raises(StoreError, match="the process of the snapshots has ended"):
        await Snapshotter(path, RUN).take()


@pytest.mark.asyncio
async def test_journal_replays_to_the_digest_of_the_live_day(sidecar: Sidecar) -> None:
    digest = Digest()
    wanted = uninterrupted(range(30)).latest("beta.late.MSFT")
    assert wanted is not None
    async with sidecar.running(sidecar.config(interval_s=0.2)):
        async with connect(sidecar.address, name="desk") as client:
            subscription = client.subscribe("beta.>")
            await client.watch("beta.late.*")  # by now both are there
            peer = await sidecar.feed()
            for first in range(0, 30, 5):
                await sidecar.acknowledged(peer, await send(peer, first, first + 5))
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
