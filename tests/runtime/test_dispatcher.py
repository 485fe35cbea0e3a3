"""Messages are handled in the order in which they came, a budget of them per turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors import Outgoing
from beta_factory.messages import ActorDeadError, MailboxFullError, Message
from beta_factory.runtime.cell import ActorCell, CellState
from beta_factory.runtime.dispatcher import Dispatcher
from beta_factory.runtime.mailbox import Mailbox, OverflowPolicy
from strategies import asset, examples
from testkit import Probe

NAMES = ("AAPL", "BAC", "IBM")


class Office:
    """A dispatcher and some actors, which write into one common log."""

    def __init__(
        self,
        *,
        turn_budget: int = 100,
        capacity: int = 100,
        policy: OverflowPolicy = OverflowPolicy.BLOCK,
    ) -> None:
        self.dispatcher = Dispatcher(turn_budget)
        self.log: list[int] = []
        self.probes = {name: Logged(name, self.log) for name in NAMES}
        self.cells = {
            name: ActorCell(
                probe,
                Mailbox(name, capacity, policy),
                on_failure=self.ignore,
                on_outgoing=self.forward,
            )
            for name, probe in self.probes.items()
        }
        for cell in self.cells.values():
            cell.start()

    def tell(self, name: str, ts: int) -> Message | None:
        return self.dispatcher.tell(self.cells[name], asset(name, ts, 0.1))

    def forward(self, message: Message) -> None:
        self.tell(message.symbol, message.ts_event)  # type: ignore[union-attr]

    def ignore(
        self, cell: ActorCell, message: Message | None, _: BaseException
    ) -> None:
        """Leave an actor as it is when it failed."""

    def hold(self, name: str) -> None:
        """Make an actor fail, so that its mail waits."""
        self.probes[name].poison[-1] = ValueError("boom")
        self.tell(name, -1)

    def release(self, name: str) -> None:
        self.cells[name].restart(ValueError("boom"))
        self.dispatcher.resume(self.cells[name])


class Logged(Probe):
    """A probe whose log is shared."""

    def __init__(self, name: str, log: list[int]) -> None:
        super().__init__(name)
        self.log = log

    def receive(self, message: Message) -> Outgoing:
        following = super().receive(message)
        self.log.append(message.ts_event)  # type: ignore[union-attr]
        return following


def test_a_message_to_an_idle_actor_is_taken_on_the_spot() -> None:
    office = Office()
    assert office.tell("BAC", 1) is None
    assert office.log == [1]
    assert office.dispatcher.n_ready == 0


def test_a_message_behind_others_waits_its_turn() -> None:
    office = Office()
    office.hold("BAC")
    office.tell("BAC", 1)
    office.release("BAC")
    office.tell("IBM", 2)
    office.tell("BAC", 3)
    assert office.log == []
    assert office.dispatcher.n_ready == 3
    assert office.dispatcher.run() is False
    assert office.log == [1, 2, 3]


def test_mail_of_a_restarting_actor_holds_up_nobody() -> None:
    office = Office()
    office.hold("BAC")
    office.tell("BAC", 1)
    office.tell("IBM", 2)
    assert office.log == [2]
    assert office.dispatcher.n_ready == 0
    assert office.dispatcher.run() is False
    assert office.log == [2]


@pytest.mark.parametrize("budget", [1, 3, 10])
def test_a_turn_handles_its_budget_and_says_whether_some_are_left(budget: int) -> None:
    office = Office(turn_budget=budget)
    office.hold("BAC")
    for ts in range(10):
        office.tell("BAC", ts)
    office.release("BAC")
    left, handled = True, 0
    while left:
        left = office.dispatcher.run()
        assert len(office.log) - handled <= budget
        handled = len(office.log)
        assert left == (handled < 10)
    assert office.log == list(range(10))


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 1)), max_size=40),
    st.integers(1, 7),
)
@examples(67)
def test_arrival_order_is_kept_across_actors(
    steps: list[tuple[str, int]], budget: int
) -> None:
    # Once something waits, everything that comes after it waits behind it.
    office = Office(turn_budget=budget)
    office.hold("BAC")
    office.tell("BAC", 0)
    office.release("BAC")
    for ts, (name, run) in enumerate(steps, start=1):
        office.tell(name, ts)
        if run:
            office.dispatcher.run()
    while office.dispatcher.run():
        pass
    assert office.log == list(range(len(steps) + 1))


@given(
    st.lists(
        st.sampled_from([*NAMES, "hold", "release", "run"]), min_size=10, max_size=60
    )
)
@examples(133)
def test_every_message_is_handled_once_and_in_order_per_actor(steps: list[str]) -> None:
    office = Office(turn_budget=3)
    held = False
    told: dict[str, list[int]] = {name: [] for name in NAMES}
    for ts, step in enumerate(steps):
        if step == "hold" and not held:
            office.hold("BAC")
            # behind others the poison waits, and it may still be there
            held = office.cells["BAC"].state is CellState.RESTARTING
        elif step == "release":
            if office.cells["BAC"].state is CellState.RESTARTING:
                office.release("BAC")
            held = False
        elif step == "run":
            office.dispatcher.run()
        elif step in told:
            office.tell(step, ts)
            told[step].append(ts)
    for _ in range(len(steps) + 1):
        if office.cells["BAC"].state is CellState.RESTARTING:
            office.release("BAC")
        while office.dispatcher.run():
            pass
    assert {name: probe.stamps for name, probe in office.probes.items()} == told


def test_one_that_fails_in_its_turn_keeps_the_rest_of_its_mail() -> None:
    office = Office()
    office.hold("BAC")
    office.probes["BAC"].poison[2] = ValueError("boom")
    for ts in (1, 2, 3):
        office.tell("BAC", ts)
    office.release("BAC")
    office.tell("IBM", 4)
    assert office.dispatcher.run() is False
    assert office.log == [1, 4]
    office.release("BAC")
    office.dispatcher.run()
    assert office.log == [1, 4, 3]


def test_what_an_actor_sends_is_handled_after_what_came_before() -> None:
    office = Office()
    office.hold("BAC")
    office.probes["BAC"].answers[1] = [asset("IBM", 9, 0.1)]
    office.tell("BAC", 1)
    office.release("BAC")
    office.tell("AAPL", 2)
    assert office.dispatcher.run() is True
    assert office.log == [1, 2]
    assert office.dispatcher.run() is False
    assert office.log == [1, 2, 9]


@pytest.mark.parametrize(
    ("policy", "given_up", "handled"),
    [
        (OverflowPolicy.DROP_OLDEST, [1, 2], [3, 4]),
        (OverflowPolicy.DROP_NEWEST, [3, 4], [1, 2]),
    ],
)
def test_one_that_overflows_is_handled_once_per_message_that_is_left(
    policy: OverflowPolicy, given_up: list[int], handled: list[int]
) -> None:
    office = Office(capacity=2, policy=policy)
    office.hold("BAC")
    gone = [office.tell("BAC", ts) for ts in (1, 2, 3, 4)]
    office.release("BAC")
    assert office.dispatcher.n_ready == 2
    office.dispatcher.run()
    assert [m.ts_event for m in gone if m] == given_up  # type: ignore[union-attr]
    assert office.log == handled
    assert office.dispatcher.n_ready == 0


def test_a_live_actor_that_overflows_stands_in_the_queue_once_per_message() -> None:
    office = Office(capacity=2, policy=OverflowPolicy.DROP_OLDEST)
    office.hold("IBM")
    office.tell("IBM", 0)
    office.release("IBM")
    for ts in (1, 2, 3, 4):
        office.tell("BAC", ts)
    assert office.dispatcher.n_ready == 3
    office.dispatcher.run()
    assert office.log == [0, 3, 4]


def test_a_dead_or_full_actor_refuses_and_queues_nothing() -> None:
    office = Office(capacity=1)
    office.hold("BAC")
    office.tell("BAC", 1)
    with pytest.raises(MailboxFullError, match="BAC is full at 1"):
        office.tell("BAC", 2)
    office.cells["IBM"].state = CellState.QUARANTINED
    with pytest.raises(ActorDeadError):
        office.tell("IBM", 3)
    assert office.dispatcher.n_ready == 0


def test_one_that_stopped_while_it_was_queued_is_passed_over() -> None:
    office = Office()
    office.hold("BAC")
    office.tell("BAC", 1)
    office.release("BAC")
    office.cells["BAC"].stop()
    assert office.dispatcher.run() is False
    assert office.log == []
