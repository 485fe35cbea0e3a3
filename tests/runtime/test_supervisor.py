"""Restarts in virtual time: backoff, budget, quarantine, dead letters."""

import logging
from collections.abc import Iterator

import pytest

from beta_factory.messages import Message
from beta_factory.runtime.cell import ActorCell, CellState
from beta_factory.runtime.mailbox import Mailbox, OverflowPolicy
from beta_factory.runtime.supervisor import (
    MAX_DEAD_LETTERS,
    DeadLetter,
    RestartPolicy,
    Supervisor,
)
from strategies import asset
from testkit import Probe, VirtualLoop, virtual_loop

BOOM = ValueError("boom")
POLICY = RestartPolicy(
    restart_limit=4,
    restart_window_s=100.0,
    restart_backoff_s=1.0,
    restart_backoff_max_s=6.0,
)


class Ward:
    """A supervisor, and actors that fail on every message with a negative stamp."""

    def __init__(
        self, loop: VirtualLoop, policy: RestartPolicy = POLICY, *, seed: int = 0
    ) -> None:
        self.loop = loop
        self.delays: list[float] = []
        self.states: list[tuple[str, CellState]] = []
        self.supervisor = Supervisor(
            policy,
            loop,
            self.call_later,
            on_state=lambda cell: self.states.append((cell.name, cell.state)),
            seed=seed,
        )
        self.probes: list[Probe] = []

    def call_later(self, delay: float, callback: object) -> None:
        self.delays.append(delay)
        self.loop.call_later(delay, callback)  # type: ignore[arg-type]

    def admit(self, name: str) -> ActorCell:
        probe = Probe(name)
        probe.poison = dict.fromkeys(range(-20, 0), BOOM)
        self.probes.append(probe)
        cell = ActorCell(
            probe,
            Mailbox(name, 10, OverflowPolicy.BLOCK),
            on_failure=self.supervisor.failed,
            on_outgoing=lambda _: None,
        )
        cell.start()
        return cell

    @property
    def letters(self) -> list[tuple[str, int, str]]:
        return [
            (letter.actor, letter.message.ts_event, letter.reason)  # type: ignore[union-attr]
            for letter in self.supervisor.dead_letters
        ]


@pytest.fixture
def ward() -> Iterator[Ward]:
    with virtual_loop() as loop:
        yield Ward(loop)


def state_of(cell: ActorCell) -> CellState:
    return cell.state  # asked anew: mypy believes that an attribute stays what it was


def crash(cell: ActorCell, ts: int = -1) -> None:
    cell.invoke(asset(cell.name, ts, 0.1))


def test_a_failed_actor_comes_back_after_its_backoff(ward: Ward) -> None:
    cell = ward.admit("BAC")
    crash(cell)
    assert state_of(cell) is CellState.RESTARTING
    ward.loop.advance(ward.delays[0] * 0.99)
    assert state_of(cell) is CellState.RESTARTING
    ward.loop.advance(ward.delays[0] * 0.02)
    assert state_of(cell) is CellState.LIVE
    assert ward.probes[0].calls[-1] == "on_restart"
    assert ward.supervisor.n_restarts == 1
    assert ward.states == [("BAC", CellState.RESTARTING), ("BAC", CellState.LIVE)]


def test_the_backoff_doubles_up_to_its_maximum_within_its_jitter(ward: Ward) -> None:
    cell = ward.admit("BAC")
    for _ in range(4):
        crash(cell)
        ward.loop.advance(10)
    assert len(ward.delays) == 4
    for delay, full in zip(ward.delays, (1.0, 2.0, 4.0, 6.0), strict=True):
        assert full / 2 <= delay <= full


def test_jitter_spreads_the_restarts_of_actors_that_failed_together(
    ward: Ward,
) -> None:
    for name in ("AAPL", "BAC", "IBM"):
        crash(ward.admit(name))
    assert len(set(ward.delays)) == 3


@pytest.mark.parametrize("seed", [0, 1])
def test_jitter_is_repeatable(seed: int) -> None:
    def delays(seed: int) -> list[float]:
        with virtual_loop() as loop:
            ward = Ward(loop, seed=seed)
            for name in ("AAPL", "BAC"):
                crash(ward.admit(name))
            return ward.delays

    assert delays(seed) == delays(seed)
    assert delays(seed) != delays(seed + 1)


def test_the_failure_after_the_last_forgiven_one_quarantines(ward: Ward) -> None:
    cell = ward.admit("BAC")
    for _ in range(4):
        crash(cell)
        ward.loop.advance(10)
        assert state_of(cell) is CellState.LIVE
    crash(cell)
    assert state_of(cell) is CellState.QUARANTINED
    ward.loop.advance(1000)
    assert state_of(cell) is CellState.QUARANTINED
    assert ward.supervisor.n_restarts == 4
    assert ward.states[-1] == ("BAC", CellState.QUARANTINED)


def test_no_budget_means_quarantine_at_the_first_failure() -> None:
    with virtual_loop() as loop:
        ward = Ward(loop, RestartPolicy(restart_limit=0))
        cell = ward.admit("BAC")
        crash(cell)
        assert state_of(cell) is CellState.QUARANTINED
        assert ward.delays == []


def test_failures_further_apart_than_the_window_are_forgiven_for_ever(
    ward: Ward,
) -> None:
    cell = ward.admit("BAC")
    for _ in range(20):
        crash(cell)
        ward.loop.advance(101)
    assert state_of(cell) is CellState.LIVE
    assert ward.supervisor.n_restarts == 20
    assert all(0.5 <= delay <= 1.0 for delay in ward.delays)


def test_the_window_slides(ward: Ward) -> None:
    cell = ward.admit("BAC")
    for pause in (60, 10, 10, 30, 60, 15):  # never five within 100 s
        crash(cell)
        ward.loop.advance(pause)
    assert state_of(cell) is CellState.LIVE


def test_pitfall_restart_budget_shared_by_siblings(ward: Ward) -> None:
    failing, sibling = ward.admit("AAPL"), ward.admit("BAC")
    for _ in range(5):
        crash(failing)
        ward.loop.advance(10)
    assert state_of(failing) is CellState.QUARANTINED
    crash(sibling)
    assert state_of(sibling) is CellState.RESTARTING
    assert 0.5 <= ward.delays[-1] <= 1.0
    ward.loop.advance(1)
    assert state_of(sibling) is CellState.LIVE


def test_pitfall_restart_budget_shared_by_actors_of_one_name(ward: Ward) -> None:
    # SPY may be a symbol of the universe and its benchmark.
    symbol, benchmark = ward.admit("SPY"), ward.admit("SPY")
    for _ in range(5):
        crash(symbol)
        ward.loop.advance(10)
    crash(benchmark)
    assert state_of(symbol) is CellState.QUARANTINED
    assert state_of(benchmark) is CellState.RESTARTING
    ward.supervisor.revive(symbol)
    crash(benchmark)
    assert 1.0 <= ward.delays[-1] <= 2.0


def test_pitfall_on_start_that_throws_leaves_a_zombie(ward: Ward) -> None:
    cell = ward.admit("BAC")
    probe = ward.probes[0]
    cell.state = CellState.STARTING
    probe.raises["on_start"] = BOOM
    cell.start()
    assert state_of(cell) is CellState.RESTARTING
    cell.put(asset("BAC", 1, 0.1))
    ward.loop.advance(1)
    assert state_of(cell) is CellState.LIVE
    assert cell.mailbox.drain() == [asset("BAC", 1, 0.1)]


def test_one_that_fails_in_on_restart_spends_its_budget_and_is_quarantined(
    ward: Ward,
) -> None:
    cell = ward.admit("BAC")
    ward.probes[0].raises["on_restart"] = BOOM
    crash(cell)
    ward.loop.settle()
    assert state_of(cell) is CellState.QUARANTINED
    assert ward.probes[0].calls.count("on_restart") == 4
    assert ward.supervisor.n_restarts == 0
    assert len(ward.delays) == 4
    assert ward.letters == [("BAC", -1, "ValueError: boom")]


def test_one_that_fails_in_on_restart_twice_comes_back_at_the_third(ward: Ward) -> None:
    cell = ward.admit("BAC")
    ward.probes[0].raises["on_restart"] = BOOM
    crash(cell)
    ward.loop.advance(ward.delays[0])
    ward.loop.advance(ward.delays[1])
    ward.probes[0].raises.clear()
    ward.loop.settle()
    assert state_of(cell) is CellState.LIVE
    assert ward.supervisor.n_restarts == 1


def test_pitfall_restart_without_a_log_line(
    ward: Ward, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cell = ward.admit("BAC")
    for _ in range(5):
        crash(cell)
        ward.loop.advance(10)
    levels = [(r.levelname, r.getMessage().split()[0]) for r in caplog.records]
    assert levels == [
        ("WARNING", "actor.failed"),
        ("INFO", "actor.restarted"),
    ] * 4 + [("ERROR", "actor.quarantined")]
    first, last = caplog.records[0].getMessage(), caplog.records[-1].getMessage()
    assert first == (
        "actor.failed actor=BAC error=ValueError('boom') failures=1 "
        f"restart_in_s={ward.delays[0]:.3f}"
    )
    assert last == (
        "actor.quarantined actor=BAC error=ValueError('boom') failures=5 window_s=100"
    )


def test_pitfall_pending_mailbox_lost_on_restart(ward: Ward) -> None:
    cell = ward.admit("BAC")
    mail: list[Message] = [asset("BAC", ts, 0.1) for ts in (1, 2, 3)]
    crash(cell)
    for message in mail:
        cell.put(message)
    ward.loop.settle()
    assert state_of(cell) is CellState.LIVE
    assert cell.mailbox.drain() == mail


def test_the_failed_message_is_a_dead_letter_with_its_reason(ward: Ward) -> None:
    crash(ward.admit("BAC"), ts=-3)
    assert ward.supervisor.n_dead_letters == 1
    assert list(ward.supervisor.dead_letters) == [
        DeadLetter(
            "BAC", asset("BAC", -3, 0.1), "ValueError: boom", 1, ward.loop.time_ns()
        )
    ]


def test_pitfall_messages_of_a_quarantined_actor_never_dead_lettered(
    ward: Ward,
) -> None:
    cell = ward.admit("BAC")
    for _ in range(4):
        crash(cell)
        ward.loop.advance(10)
    for ts in (1, 2):
        cell.put(asset("BAC", ts, 0.1))
    crash(cell, ts=-9)
    assert ward.letters[-3:] == [
        ("BAC", -9, "ValueError: boom"),
        ("BAC", 1, "actor quarantined"),
        ("BAC", 2, "actor quarantined"),
    ]
    assert ward.supervisor.n_dead_letters == 7
    assert len(cell.mailbox) == 0


def test_dead_letters_are_bounded_and_counted_beyond_the_bound(ward: Ward) -> None:
    for ts in range(MAX_DEAD_LETTERS + 5):
        ward.supervisor.bury("BAC", asset("BAC", ts, 0.1), "mailbox full")
    assert ward.supervisor.n_dead_letters == MAX_DEAD_LETTERS + 5
    assert len(ward.letters) == MAX_DEAD_LETTERS
    assert ward.letters[0][1] == 5


def test_an_actor_stopped_while_it_waits_for_its_restart_stays_stopped(
    ward: Ward,
) -> None:
    cell = ward.admit("BAC")
    crash(cell)
    cell.stop()
    ward.loop.settle()
    assert state_of(cell) is CellState.STOPPED
    assert "on_restart" not in ward.probes[0].calls


def test_reviving_a_quarantined_actor_restarts_it_with_a_new_budget(
    ward: Ward,
) -> None:
    cell = ward.admit("BAC")
    for _ in range(5):
        crash(cell)
        ward.loop.advance(10)
    ward.supervisor.revive(cell)
    assert state_of(cell) is CellState.LIVE
    assert ward.states[-1] == ("BAC", CellState.LIVE)
    for _ in range(4):
        crash(cell)
        ward.loop.advance(10)
        assert state_of(cell) is CellState.LIVE
    crash(cell)
    assert state_of(cell) is CellState.QUARANTINED


def test_reviving_one_that_fails_again_is_its_first_failure(ward: Ward) -> None:
    cell = ward.admit("BAC")
    for _ in range(5):
        crash(cell)
        ward.loop.advance(10)
    ward.probes[0].raises["on_restart"] = BOOM
    ward.supervisor.revive(cell)
    assert state_of(cell) is CellState.RESTARTING
    assert 0.5 <= ward.delays[-1] <= 1.0


@pytest.mark.parametrize(
    "state", [CellState.LIVE, CellState.RESTARTING, CellState.STOPPED]
)
def test_reviving_any_other_actor_restarts_nothing(
    ward: Ward, state: CellState
) -> None:
    cell = ward.admit("BAC")
    cell.state = state
    ward.supervisor.revive(cell)
    assert state_of(cell) is state
    assert "on_restart" not in ward.probes[0].calls


@pytest.mark.parametrize("backoff_s", [0.0, 1e-3])
def test_a_crash_loop_of_thousands_is_only_a_crash_loop(backoff_s: float) -> None:
    # 2.0 ** 1024 is no float: the doubling has to end before it does.
    policy = RestartPolicy(
        restart_limit=10**6,
        restart_window_s=1e6,
        restart_backoff_s=backoff_s,
        restart_backoff_max_s=backoff_s,
    )
    with virtual_loop() as loop:
        ward = Ward(loop, policy)
        cell = ward.admit("BAC")
        for _ in range(2000):
            crash(cell)
            loop.advance(backoff_s)
        assert state_of(cell) is CellState.LIVE
        assert max(ward.delays) <= backoff_s
