"""The live clock is the machine's; the other stands where it was set."""

import time

from beta_factory.runtime.clock import Clock, LiveClock, ReplayClock


def test_the_live_clock_shows_the_machines_clocks() -> None:
    clock: Clock = LiveClock()
    before = time.time_ns(), time.monotonic()
    shown = clock.time_ns(), clock.monotonic()
    after = time.time_ns(), time.monotonic()
    assert before[1] <= shown[1] <= after[1]
    # The machine's date may be set while we look: it is only the same kind of number.
    assert abs(shown[0] - before[0]) < 86_400 * 10**9


def test_a_replay_clock_stands_until_it_is_set() -> None:
    clock = ReplayClock(5)
    live: Clock = clock
    assert [live.time_ns(), live.time_ns()] == [5, 5]
    clock.set(3_000_000_000)
    assert (live.time_ns(), live.monotonic()) == (3_000_000_000, 3.0)


def test_a_replay_clock_can_go_back() -> None:
    clock = ReplayClock(10)
    clock.set(4)
    assert clock.time_ns() == 4


def test_a_replay_clock_keeps_every_nanosecond_of_a_stamp() -> None:
    stamp = 1_700_000_000_123_456_789
    assert ReplayClock(stamp).time_ns() == stamp
