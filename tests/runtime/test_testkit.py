"""The kit itself: virtual time that cannot hang, fakes that act like the real ones."""

import asyncio
import time

import anyio
import pytest

from beta_factory.messages import Heartbeat, Hello
from strategies import asset
from testkit import (
    DeadlockError,
    FakeTransport,
    Peer,
    Probe,
    Stage,
    VirtualLoop,
    bars_of,
    column_bars_of,
    framed,
    messages_in,
    virtual_loop,
)


class TestVirtualLoop:
    def test_an_hour_is_over_at_once(self) -> None:
        started = time.monotonic()
        with virtual_loop() as loop:
            loop.run_until_complete(asyncio.sleep(3600))
            assert loop.time() == pytest.approx(3600)
        assert time.monotonic() - started < 30

    def test_timers_run_in_the_order_of_their_times(self) -> None:
        ran: list[tuple[str, float]] = []
        with virtual_loop() as loop:

            def note(name: str) -> None:
                ran.append((name, loop.time()))

            for name, delay in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
                loop.call_later(delay, note, name)
            loop.advance(2.5)
            assert ran == [("a", 1.0), ("b", 2.0)]
            loop.advance(2.5)
        assert [name for name, _ in ran] == ["a", "b", "c"]

    def test_waiting_for_what_nobody_will_do_fails_instead_of_hanging(self) -> None:
        async def deadlock() -> None:
            await asyncio.Event().wait()

        with virtual_loop() as loop:
            task = loop.create_task(deadlock())
            with pytest.raises(DeadlockError):
                loop.run_until_complete(task)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                loop.run_until_complete(task)

    def test_a_timeout_is_exact(self) -> None:
        async def wait() -> float:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(90):
                    await asyncio.Event().wait()
            return asyncio.get_running_loop().time()

        with virtual_loop() as loop:
            assert loop.run_until_complete(wait()) == pytest.approx(90)

    def test_anyio_runs_on_it(self) -> None:
        async def main() -> float:
            with anyio.move_on_after(3600):
                await anyio.sleep_forever()
            return anyio.current_time()

        elapsed = anyio.run(main, backend_options={"loop_factory": VirtualLoop})
        assert elapsed == pytest.approx(3600)

    def test_the_same_program_gives_the_same_trace(self) -> None:
        def trace() -> list[tuple[int, float]]:
            found: list[tuple[int, float]] = []

            async def tick(i: int) -> None:
                for _ in range(5):
                    await asyncio.sleep(0.1 * (i + 1))
                    found.append((i, asyncio.get_running_loop().time()))

            async def main() -> None:
                async with asyncio.TaskGroup() as tasks:
                    for i in range(4):
                        tasks.create_task(tick(i))

            with virtual_loop() as loop:
                loop.run_until_complete(main())
            return found

        assert trace() == trace() == trace()

    def test_settling_runs_what_is_scheduled_by_what_is_scheduled(self) -> None:
        ran: list[float] = []
        with virtual_loop() as loop:

            def again() -> None:
                ran.append(loop.time())
                if len(ran) < 4:
                    loop.call_later(10, again)

            loop.call_soon(again)
            loop.settle()
        assert ran == [0, 10, 20, 30]

    def test_it_is_a_clock(self) -> None:
        with virtual_loop() as loop:
            loop.advance(1.5)
            assert (loop.monotonic(), loop.time_ns()) == (1.5, 1_500_000_000)


class TestProbe:
    def test_it_fails_where_it_is_told_to(self) -> None:
        probe = Probe()
        probe.poison[2] = ValueError("two")
        probe.raises["on_stop"] = KeyError("stop")
        for ts in (1, 3):
            probe.receive(asset("BAC", ts, 0.1))
        with pytest.raises(ValueError, match="two"):
            probe.receive(asset("BAC", 2, 0.1))
        with pytest.raises(KeyError):
            probe.on_stop()
        assert probe.stamps == [1, 3]
        assert probe.calls == ["receive", "receive", "receive", "on_stop"]


class TestStage:
    def test_single_and_columnar_bars_are_the_same_market(self) -> None:
        with virtual_loop() as loop:
            single, columnar = Stage(loop), Stage(loop)
            for stage, bars in ((single, bars_of(6)), (columnar, column_bars_of(6))):
                stage.system.start()
                for bar in bars:
                    stage.turn(*bar)
        assert single.updates == columnar.updates
        assert len(single.updates) == 18


class TestFakeTransport:
    def test_it_pauses_and_resumes_like_a_real_one(self) -> None:
        heard: list[str] = []
        transport = FakeTransport(
            lambda: heard.append("pause"), lambda: heard.append("resume")
        )
        transport.set_write_buffer_limits(high=10)
        transport.write(bytes(100))
        assert (heard, transport.get_write_buffer_size()) == ([], 0)
        transport.stop_reading()
        transport.write(bytes(10))
        assert heard == []
        transport.write(bytes(1))
        transport.write(bytes(50))
        assert (heard, transport.get_write_buffer_size()) == (["pause"], 61)
        transport.read()
        assert (heard, transport.get_write_buffer_size()) == (["pause", "resume"], 0)

    def test_it_shows_each_message_once(self) -> None:
        transport = FakeTransport()
        transport.write(framed(Hello(), Heartbeat(ts_init=1)))
        assert transport.messages() == [Hello(), Heartbeat(ts_init=1)]
        transport.write(framed(Hello()))
        assert transport.messages() == [Hello()]


class TestPeer:
    def test_a_stream_that_ends_inside_a_frame_is_noticed(self) -> None:
        async def main() -> None:
            reader = asyncio.StreamReader()
            reader.feed_data(framed(Hello()) + b"\0\0")
            reader.feed_eof()
            peer = Peer(reader, None)  # type: ignore[arg-type]
            assert await peer.receive() == Hello()
            with pytest.raises(AssertionError, match="inside a frame"):
                await peer.receive()

        asyncio.run(main())

    def test_frames_are_read_back(self) -> None:
        assert messages_in(framed(Hello(), Hello(name="b")))[1] == Hello(name="b")
