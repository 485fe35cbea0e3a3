"""A pace says how long to wait: the recording's own gaps, divided by the speed."""

import pytest

from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.pacing import LONGEST_PAUSE_S, Pace

SECOND_NS = 10**9


@pytest.mark.parametrize("speed", [1.0, 4.0, 0.5])
def test_it_waits_for_the_recordings_own_time(speed: float) -> None:
    clock = ReplayClock()
    pace = Pace(clock, speed)
    waits: list[float] = []
    for tenths in (0, 1, 3):
        waits.append(pace.wait_s(tenths * SECOND_NS // 10))
        clock.set(clock.time_ns() + round(waits[-1] * 1e9))
    assert waits == pytest.approx([0.0, 0.1 / speed, 0.2 / speed])


def test_at_speed_0_it_never_waits() -> None:
    pace = Pace(ReplayClock(), 0)
    assert [pace.wait_s(ts * SECOND_NS) for ts in range(3)] == [0.0, 0.0, 0.0]


def test_a_night_is_cut_short() -> None:
    pace = Pace(ReplayClock(), 1.0)
    assert pace.wait_s(0) == 0.0
    assert pace.wait_s(17 * 3600 * SECOND_NS) == LONGEST_PAUSE_S


def test_one_that_is_late_catches_up_and_skips_nothing() -> None:
    clock = ReplayClock()
    pace = Pace(clock, 1.0)
    pace.wait_s(0)
    clock.set(2 * SECOND_NS)  # it took two seconds for the first bar
    assert [pace.wait_s(n * SECOND_NS // 2) for n in range(1, 6)] == pytest.approx(
        [0.0, 0.0, 0.0, 0.0, 0.5]
    )
