"""The courier by itself: one loop, virtual time, and no thread."""

import asyncio
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Self

import pytest

import qmtl_double
from beta_factory.messages import Message, ReturnsObserved
from beta_factory.runtime.address import Address
from beta_factory.runtime.link import Backoff
from testkit import virtual_loop

LIVE = qmtl_double.ComputeContext(world_id="w", execution_domain="live")
LINGER_S = 0.25


class Client:
    """Takes everything in at once, and writes down when."""

    connected = True
    n_published = 0

    def __init__(self) -> None:
        self.published: list[tuple[float, Message]] = []

    @property
    def n_acknowledged(self) -> int:
        return self.n_published

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def publish(self, messages: Sequence[Message]) -> None:
        now_s = asyncio.get_running_loop().time()
        self.published += [(now_s, message) for message in messages]
        self.n_published += sum(isinstance(m, ReturnsObserved) for m in messages)

    async def flush(self) -> None:
        pass

    async def wait_ended(self) -> None:
        await asyncio.Event().wait()


@dataclass
class Stage:
    """A courier of two symbols, the buffer before it and the client behind it."""

    courier: Any
    buffer: Any
    client: Client
    reports: list[Any]
    waiter: Future[bool] = field(default_factory=Future[bool])

    @property
    def returns_sent_at_s(self) -> list[float]:
        return [
            at_s
            for at_s, message in self.client.published
            if isinstance(message, ReturnsObserved)
        ]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Generator[Stage]:
    package = "beta_factory.runtime.qmtl_bridge"
    with qmtl_double.installed():
        module = import_module(f"{package}.sink_courier")
        buffers = import_module(f"{package}.sink_buffer")
        client = Client()

        def connect(*_: object, **__: object) -> Client:
            return client

        monkeypatch.setattr(module, "connect", connect)
        buffer = buffers.SinkBuffer(10, lambda: None, n_expected=2)
        reports: list[Any] = []
        courier = module.Courier(
            buffer,
            module.BarFrames(["AAPL", "MSFT"], []),
            Address.parse("unix:///nowhere.sock"),
            token="",
            linger_s=LINGER_S,
            backoff=Backoff(),
            report=reports.append,
        )
        yield Stage(courier, buffer, client, reports)


def run(stage: Stage, for_s: float) -> None:
    with virtual_loop() as loop:
        start_s = loop.time()
        loop.call_later(for_s, stage.courier.stop)
        loop.run_until_complete(stage.courier.run())
        assert loop.time() - start_s == for_s


def test_bar_that_lacks_a_symbol_is_sent_when_it_has_lingered(stage: Stage) -> None:
    stage.buffer.put(LIVE, (60, 0, 0.1))

    run(stage, for_s=1.0)

    assert stage.returns_sent_at_s == [LINGER_S]
    assert stage.reports[-1].n_acknowledged == 1
    assert stage.reports[-1].dropped == {}


def test_complete_bar_waits_for_nothing(stage: Stage) -> None:
    for slot in (0, 1):
        stage.buffer.put(LIVE, (60, slot, 0.1))

    run(stage, for_s=1.0)

    assert stage.returns_sent_at_s == [0.0]


def test_whoever_drains_waits_for_no_symbol(stage: Stage) -> None:
    stage.buffer.put(LIVE, (60, 0, 0.1))
    stage.courier.drain(stage.waiter)

    run(stage, for_s=1.0)

    assert stage.returns_sent_at_s == [0.0]
    assert stage.waiter.result(0) is True


def test_courier_that_is_stopped_counts_what_is_left_and_answers(stage: Stage) -> None:
    for ts in (60, 120, 180):
        stage.buffer.put(LIVE, (ts, 0, 0.1))
    stage.courier.drain(stage.waiter)
    stage.courier.stop()

    run(stage, for_s=0.0)

    assert stage.client.published == []
    assert stage.waiter.result(0) is False
    assert stage.reports[-1].dropped == {"undelivered": 3}
    assert stage.reports[-1].state == "closed"
