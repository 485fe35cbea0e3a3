"""The operator's commands, over the socket of a real sidecar."""

import asyncio
import json
from pathlib import Path

import anyio
import pytest
from typer.testing import CliRunner

from beta_factory.actors import Factor
from beta_factory.actors.symbol import SymbolActor
from beta_factory.messages import (
    ActorsListed,
    FeedDisconnectedError,
    HaltSymbol,
    ListActors,
    Message,
    Reason,
    Rejected,
    RejectedError,
    RejectReason,
    Role,
    Status,
)
from beta_factory.runtime.cli import app
from beta_factory.runtime.config import ActorsConfig, ServerConfig, SidecarConfig
from beta_factory.runtime.operator_client import ask
from beta_factory.runtime.sidecar import serve
from strategies import asset, bench
from testkit import PATIENCE_S, SMALL, SYMBOLS, Peer, bars_of, sidecar

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


async def command(address: Path, *arguments: str) -> tuple[int, list[str], str]:
    """Run a command in a thread; return its exit code and what it printed."""
    result = await asyncio.to_thread(
        CliRunner().invoke, app, [*arguments, "--address", str(address)]
    )
    return result.exit_code, result.stdout.splitlines(), result.stderr


async def test_an_operator_finds_revives_and_requeues(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = SymbolActor.receive
    is_broken = True

    def moody(actor: SymbolActor, message: Message) -> object:
        if is_broken and actor.name == "BAC":
            msg = "boom"
            raise ValueError(msg)
        return receive(actor, message)

    monkeypatch.setattr(SymbolActor, "receive", moody)
    config = SidecarConfig(
        symbols=SYMBOLS,
        server=ServerConfig(address=str(socket_path)),
        actors=ActorsConfig(restart_limit=0),
        factors=(Factor("SPY", model=SMALL),),
    )
    stop, listening = anyio.Event(), anyio.Event()

    async def run() -> None:
        await serve(config, stop, on_listening=lambda _: listening.set())

    with anyio.fail_after(2 * PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await listening.wait()
            feed = Peer(*await asyncio.open_unix_connection(socket_path))
            await feed.greet("feed", Role.FEED)
            await feed.send(bench(1, 0.1), asset("BAC", 1, 0.2, seq=2))
            await feed.receive()

            code, out, _ = await command(
                socket_path, "actors", "list", "--state", "quarantined", "--json"
            )
            (found,) = [json.loads(line) for line in out]
            assert code == 0
            assert found["actor"] == "SymbolActor(BAC)"
            assert found["last_error"] == "ValueError: boom"
            code, out, err = await command(socket_path, "dead-letters", "list")
            assert code == 0
            assert out[0].split() == [
                "1",
                "BAC",
                "ReturnObserved",
                "ValueError:",
                "boom",
            ]
            assert err == "1 of 1\n"
            code, out, _ = await command(socket_path, "dead-letters", "show", "1")
            shown = json.loads(out[0])
            assert shown["message"]["type"] == "ReturnObserved"
            assert shown["message"]["period_return"] == pytest.approx(0.2)
            code, _, err = await command(socket_path, "dead-letters", "requeue", "1")
            assert (code, err) == (1, "1 became dead letters again\n")

            is_broken = False
            code, out, _ = await command(
                socket_path, "actors", "revive", "SymbolActor(BAC)"
            )
            assert (code, out) == (0, ["1 revived"])
            code, out, _ = await command(socket_path, "dead-letters", "requeue", "2")
            assert (code, out) == (0, ["1 requeued"])
            subscriber = Peer(*await asyncio.open_unix_connection(socket_path))
            await subscriber.greet()
            await subscriber.subscribe("beta.market.BAC")
            (update,) = await subscriber.updates(1)
            assert (update.ts_event, update.n_obs) == (1, 1)
            stop.set()
            for peer in (feed, subscriber):
                await peer.close()


@pytest.mark.parametrize("role", [Role.FEED, Role.SUBSCRIBER])
async def test_nobody_else_may_ask(socket_path: Path, role: Role) -> None:
    async with sidecar(socket_path) as running:
        peer = await running.connect("curious", role)
        await peer.send(ListActors(request=1))
        (rejected,) = await peer.rest()
        assert isinstance(rejected, Rejected)
        assert rejected.reason is RejectReason.NOT_ALLOWED
        assert rejected.detail == f"a {role} may not say ListActors"
        peer = await running.connect("bold", role)
        await peer.send(HaltSymbol(symbol="BAC"))
        (rejected,) = await peer.rest()
        assert isinstance(rejected, Rejected)


async def test_an_operator_halts_a_symbol(socket_path: Path) -> None:
    async with sidecar(socket_path) as running:
        operator = await running.connect("operator", Role.OPERATOR)
        await operator.subscribe("beta.market.BAC")
        feed = await running.connect("feed", Role.FEED)
        await feed.send(*bars_of(1)[0])
        await operator.updates(1)
        await operator.send(HaltSymbol(symbol="BAC"))
        (halted,) = await operator.updates(1)
        assert halted.status is Status.HALTED


async def test_symbols_are_halted_and_resumed_by_command(socket_path: Path) -> None:
    async with sidecar(socket_path) as running:
        subscriber = await running.connect("desk")
        await subscriber.subscribe("beta.market.BAC")
        feed = await running.connect("feed", Role.FEED)
        await feed.send(*bars_of(1)[0])
        await subscriber.updates(1)

        code, out, err = await command(socket_path, "symbols", "halt", "BAC", "AAPL")
        assert (code, out, err) == (0, ["2 halted"], "")
        (update,) = await subscriber.updates(1)
        assert (update.status, update.reason) == (
            Status.HALTED,
            Reason.HALTED_BY_OPERATOR,
        )
        code, out, err = await command(socket_path, "symbols", "halt", "APPL", "IBM")
        assert (code, out) == (1, ["1 halted"])
        assert err == "there is no symbol APPL; did you mean AAPL?\n"
        code, out, err = await command(
            socket_path, "symbols", "resume", "--json", "BAC", "AAPK", "BAC"
        )
        assert code == 1
        assert [json.loads(line) for line in out] == [
            {"symbol": "BAC", "done": True, "problem": ""},
            {
                "symbol": "AAPK",
                "done": False,
                "problem": "there is no symbol AAPK; did you mean AAPL?",
            },
        ]
        assert err == "there is no symbol AAPK; did you mean AAPL?\n"
        (update,) = await subscriber.updates(1)
        assert update.status is Status.WARMING


async def test_symbols_are_removed_and_added_by_command(socket_path: Path) -> None:
    async with sidecar(socket_path) as running:
        code, out, _ = await command(socket_path, "symbols", "remove", *SYMBOLS)
        assert (code, out) == (0, [f"{len(SYMBOLS)} removed"])
        actors = running.system.factory.actors
        assert {actor.status for actor in actors.values()} == {Status.REMOVED}
        code, out, err = await command(socket_path, "symbols", "resume", "BAC")
        assert (code, out, err) == (1, ["0 resumed"], "BAC is removed\n")
        code, out, _ = await command(socket_path, "symbols", "add", "BAC")
        assert (code, out) == (0, ["1 added"])
        assert actors["BAC"].status is None


async def test_asking_answers_or_says_why_not(socket_path: Path) -> None:
    with pytest.raises(FeedDisconnectedError, match=r"No such file|not found"):
        await ask(ListActors(request=1), str(socket_path))
    async with sidecar(socket_path, max_connections=1) as running:
        answer = await ask(
            ListActors(request=5), str(socket_path), timeout_s=PATIENCE_S
        )
        assert isinstance(answer, ActorsListed)
        assert (answer.request, len(answer.actors)) == (5, len(SYMBOLS) + 1)
        await running.connect()
        with pytest.raises(RejectedError, match="the sidecar takes 1 connections"):
            await ask(ListActors(request=1), str(socket_path), timeout_s=PATIENCE_S)


async def test_status_tells_what_was_dropped_and_whose_it_was(
    socket_path: Path,
) -> None:
    async with sidecar(socket_path) as running:
        feed = await running.connect("prices", Role.FEED)
        await feed.send(
            bench(1, 0.1), asset("BAC", 1, 0.2), asset("BAC", 1, 0.2, seq=3)
        )
        await feed.receive()
        code, out, _ = await command(socket_path, "status")
        assert code == 0
        assert (
            "source    prices: 3 received, 0 backlog, 0 repeated, dropped duplicate 1"
            in out
        )
        assert "topic     return.BAC: duplicate 1" in out
        code, out, _ = await command(socket_path, "status", "--json")
        (report,) = [json.loads(line) for line in out]
        assert report["sources"][0]["dropped"] == {"duplicate": 1}
        assert report["topics"][0]["topic"] == "return.BAC"
        assert report["memory_bytes"] > 0
        code, out, _ = await command(socket_path, "status", "--prometheus")
        assert (code, out[-1]) == (
            0,
            'betafactory_topic_dropped_total{topic="return.BAC",reason="duplicate"} 1',
        )
