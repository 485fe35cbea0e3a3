"""An end that comes, whatever actors and tasks do."""

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from beta_factory.actors import Factor
from beta_factory.actors.symbol import SymbolActor
from beta_factory.messages import Goodbye, Message
from beta_factory.runtime.config import ServerConfig, SidecarConfig
from beta_factory.runtime.deadline import OverdueError, interrupting
from beta_factory.runtime.server import Server
from beta_factory.runtime.sidecar import SidecarSummary, serve
from strategies import asset
from testkit import PATIENCE_S, SMALL, SYMBOLS, Peer, Stage, virtual_loop

pytestmark = pytest.mark.integration


def spin() -> None:
    while True:
        pass


def sleep() -> None:
    time.sleep(3600)


@pytest.mark.anyio
@pytest.mark.parametrize("hang", [spin, sleep])
async def test_pitfall_an_actor_that_does_not_return_holds_up_the_end(
    socket_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    hang: Callable[[], None],
) -> None:
    def on_stop(_actor: SymbolActor) -> None:
        hang()

    monkeypatch.setattr(SymbolActor, "on_stop", on_stop)
    stop, listening = anyio.Event(), anyio.Event()
    config = SidecarConfig(
        symbols=SYMBOLS,
        server=ServerConfig(address=str(socket_path), drain_timeout_s=0.4),
        factors=(Factor("SPY", model=SMALL),),
    )
    summaries: list[SidecarSummary] = []

    async def run() -> None:
        summaries.append(
            await serve(config, stop, on_listening=lambda _: listening.set())
        )

    handler = signal.getsignal(signal.SIGALRM)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await listening.wait()
            peer = await Peer(*await asyncio.open_unix_connection(socket_path)).greet()
            stop.set()
            assert await peer.rest() == [Goodbye(reason="the sidecar shuts down")]
            await peer.close()
    assert summaries
    assert "still running at its deadline of 0.2 s" in caplog.text
    assert "ended without on_stop" in caplog.text
    assert signal.getsignal(signal.SIGALRM) is handler


def test_an_actor_that_does_not_return_is_interrupted_and_the_next_has_its_turn() -> (
    None
):
    with virtual_loop() as loop:
        stage = Stage(loop)
        stage.system.start()
        receive = stage.flaky["BAC"].receive

        def hanging(message: Message) -> object:
            if getattr(message, "ts_event", 0) == 1:
                spin()
            return receive(message)

        stage.flaky["BAC"].receive = hanging  # type: ignore[method-assign, assignment]
        first = stage.flaky["AAPL"]
        first.answers[1] = [asset("BAC", 1, 0.1), asset("IBM", 2, 0.1)]
        stage.take(asset("AAPL", 1, 0.1))
        stage.system.stop(timeout_s=0.05)
        ((name, stamp, reason),) = stage.letters
        assert (name, stamp) == ("BAC", 1)
        assert "OverdueError" in reason
        assert stage.flaky["IBM"].stamps == [2]


def test_only_what_the_named_functions_call_is_interrupted() -> None:
    def inside() -> None:
        spin()

    code = frozenset((inside.__code__,))
    with interrupting(0.01, code):
        with pytest.raises(OverdueError):
            inside()
        with pytest.raises(OverdueError):  # and again, whoever does not hear
            inside()
        started = time.monotonic()
        while time.monotonic() < started + 0.25:
            pass  # nobody's business


@pytest.mark.anyio
async def test_pitfall_a_task_that_dies_unseen(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The sidecar's own tasks are its own fault: it ends, in order, and says why.
    def broken(_self: Server, _now_ns: int) -> None:
        msg = "a bug in the heartbeat"
        raise RuntimeError(msg)

    monkeypatch.setattr(Server, "heartbeat", broken)
    config = SidecarConfig(
        symbols=SYMBOLS,
        server=ServerConfig(address=str(socket_path), heartbeat_interval_s=0.01),
        factors=(Factor("SPY", model=SMALL),),
    )
    with anyio.fail_after(PATIENCE_S), pytest.raises(ExceptionGroup) as caught:
        await serve(config, anyio.Event())
    assert caught.group_contains(RuntimeError, match="a bug in the heartbeat")
    assert not socket_path.exists()  # noqa: ASYNC240 - gone means drained


def test_nothing_ends_the_process_from_within() -> None:
    root = Path(__file__).parents[2]
    for folder in ("actors", "beta_factory", "estimators", "messages", "runtime"):
        for path in (root / folder).glob("*.py"):
            text = path.read_text()
            assert "os._exit" not in text, path
            assert "os.abort" not in text, path
            assert "sys.exit" not in text, path
