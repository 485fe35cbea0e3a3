"""Timers that wait for a replay, not for the time of day."""

from functools import partial

from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.replay_timers import ReplayTimers

NOW_NS = 1_760_000_000 * 10**9


def test_what_is_due_is_called_in_its_order_and_once() -> None:
    clock = ReplayClock(NOW_NS)
    timers = ReplayTimers(clock)
    called: list[str] = []
    timers.call_later(2.0, partial(called.append, "second"))
    timers.call_later(1.0, partial(called.append, "first"))
    timers.call_later(9.0, partial(called.append, "last"))
    timers.run_due()
    assert called == []
    clock.set(NOW_NS + 5 * 10**9)
    timers.run_due()
    timers.run_due()
    assert called == ["first", "second"]


def test_a_timer_that_is_set_by_a_timer_waits_for_the_next_look() -> None:
    timers = ReplayTimers(ReplayClock(NOW_NS))
    called: list[str] = []
    timers.call_soon(lambda: timers.call_soon(partial(called.append, "now")))
    timers.run_due()
    assert called == []
    timers.run_due()
    assert called == ["now"]


def test_at_its_time_the_next_one_is_due() -> None:
    clock = ReplayClock(NOW_NS)
    timers = ReplayTimers(clock)
    called: list[float] = []
    for delay in (0.123456789, 1e-7, 0.7):
        timers.call_later(delay, partial(called.append, delay))
    while (next_ns := timers.next_ns) is not None:
        assert next_ns > clock.time_ns()
        clock.set(next_ns)
        timers.run_due()
    assert called == [1e-7, 0.123456789, 0.7]
    timers.call_soon(partial(called.append, 0.0))
    timers.clear()
    assert timers.next_ns is None
