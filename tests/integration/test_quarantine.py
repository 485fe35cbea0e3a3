"""The quarantine of a sidecar process, by the commands of its operator."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from processes import PATIENCE_S, SidecarProcess
from stores import FIRST_NS, SYMBOLS, bar
from typer.testing import CliRunner

from beta_factory import BetaClient, BetaUpdated, Reason, Status, connect
from beta_factory.messages import Message, Role, encode
from beta_factory.runtime.cli import app
from strategies import asset
from testkit import Peer

pytestmark = pytest.mark.integration

CONFIG = """\
symbols = {symbols}
[server]
address = "unix://{folder}/sidecar.sock"
heartbeat_interval_s = 0.05
report_interval_s = 0.05
[store]
path = "{folder}/store.sqlite"
[factors.market]
benchmark = "SPY"
lookback_length = 20
min_observations = 3
allowed_lateness = 1
stale_after = 19
max_abs_return = 6.0
max_robust_z = 25.0
robust_window = 20
robust_min_observations = 5
{more}
"""


class Sidecar(SidecarProcess):
    """A sidecar process that holds absurd returns."""

    def config(self, more: str = "") -> Path:
        path = self.folder / "config.toml"
        symbols = json.dumps(SYMBOLS)
        path.write_text(CONFIG.format(symbols=symbols, folder=self.folder, more=more))
        return path

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command of the operator; return its exit code and what it said."""
        result = await asyncio.to_thread(
            CliRunner().invoke,
            app,
            ["quarantine", *arguments, "--address", self.address],
        )
        return result.exit_code, result.stdout, result.stderr

    async def latest(self, symbol: str = "AAPL") -> BetaUpdated | None:
        async with connect(self.address) as client:
            await client.watch("beta.>")
            return client.latest(f"beta.market.{symbol}")


@pytest.fixture
def sidecar(tmp_path: Path) -> Sidecar:
    return Sidecar(tmp_path)


def absurd(number: int, value: float, seq: int) -> Message:
    return asset("AAPL", FIRST_NS + number * 10**9, value, seq=seq)


async def feed(sidecar: Sidecar, first: int, last: int, *more: Message) -> Peer:
    """Send bars, without AAPL's return in the last, and what else there is."""
    peer = await sidecar.peer(Role.FEED, "feed")
    messages = [message for number in range(first, last) for message in bar(number)]
    seq = 4 * last
    await peer.send(*messages[:-3], *messages[-2:], *more)
    await sidecar.acknowledged(peer, max(seq, *(m.seq for m in more)) if more else seq)  # type: ignore[union-attr]
    return peer


async def silenced(client: BetaClient) -> BetaUpdated:
    async with asyncio.timeout(PATIENCE_S):
        async for update in client.subscribe("beta.market.AAPL"):
            if update.reason is Reason.FEED_SILENT:
                return update
    raise AssertionError


@pytest.mark.asyncio
async def test_an_operator_releases_what_was_held_and_it_survives_a_kill(
    sidecar: Sidecar,
) -> None:
    bad = absurd(14, 9.0, 61)
    async with sidecar.running(sidecar.config()) as process:
        await feed(sidecar, 0, 15, bad, absurd(14, 1e9, 62))
        await sidecar.line("quarantine.holds number=2 factor=market name=AAPL")
        before = await sidecar.latest()
        assert before is not None
        assert (before.n_obs, before.ts_event) == (14, FIRST_NS + 13 * 10**9)

        code, out, err = await sidecar.command("list")
        assert code == 0
        assert [line.split()[:3] for line in out.splitlines()[1:]] == [
            ["1", "market", "AAPL"],
            ["2", "market", "AAPL"],
        ]
        assert err == "2 of 2 ever held; 0 gave way to newer ones\n"
        code, out, _ = await sidecar.command("list", "--json", "--limit", "1")
        (listed,) = [json.loads(line) for line in out.splitlines()]
        assert (listed["number"], listed["reason"]) == (2, "max_abs_return")

        code, out, _ = await sidecar.command("show", "1")
        shown: dict[str, Any] = json.loads(out)
        assert code == 0
        assert bytes.fromhex(shown["payload"]) == encode(bad)
        assert shown["message"]["type"] == "ReturnObserved"
        assert shown["message"]["period_return"] == 9.0
        assert shown["is_as_sent"] is True
        code, _, err = await sidecar.command("show", "3")
        assert (code, err) == (1, "3 is not held\n")

        process.kill()  # what is held, is held still
        await process.wait()
    async with sidecar.running(sidecar.config()) as process:
        code, out, err = await sidecar.command("release", "1", "7")
        assert (code, out, err) == (1, "1 released\n", "7 is not held\n")
        released = await sidecar.latest()
        assert released is not None
        assert (released.n_obs, released.ts_event) == (15, FIRST_NS + 14 * 10**9)
        code, out, err = await sidecar.command("discard", "2")
        assert (code, out, err) == (0, "1 discarded\n", "")
        process.kill()
        await process.wait()
    # The release is in the journal; a watch that is new has the windows of the old run.
    config = sidecar.config('feed_timeout = "500ms"')
    async with sidecar.running(config), connect(sidecar.address) as client:
        update = await silenced(client)
        assert update.status is Status.STALE
        assert (update.n_obs, update.beta) == (released.n_obs, released.beta)
        await sidecar.line("topics.stale factor=market reason=feed_silent count=3")
        code, out, _ = await sidecar.command("list", "--json")
        assert (code, out) == (0, "")
        summary = await sidecar.stop()
        assert "dropped   absurd 2" in summary
        assert "held      0 in quarantine" in summary
        assert "stale     feed_silent 3 (market)" in summary
