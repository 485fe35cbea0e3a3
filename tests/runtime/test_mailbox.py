"""A mailbox against a list that obeys the same policy."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.messages import Heartbeat, MailboxFullError, Message
from beta_factory.runtime.mailbox import MAX_CONTROL, Mailbox, OverflowPolicy
from strategies import asset, bench, examples

data = st.builds(
    asset, st.sampled_from(["AAPL", "BAC"]), st.integers(0, 3), st.floats(-1, 1)
) | st.builds(bench, st.integers(0, 3), st.floats(-1, 1))
puts = st.tuples(st.just("put"), data)
steps = st.lists(
    # Mostly messages: else a mailbox is hardly ever full.
    st.one_of(
        puts,
        puts,
        puts,
        st.tuples(
            st.just("put_control"), st.builds(Heartbeat, ts_init=st.integers(0, 9))
        ),
        st.tuples(st.sampled_from(["get", "get", "get", "drain"]), st.none()),
    ),
    min_size=10,
    max_size=40,
)


@dataclass
class Model:
    """What a mailbox must do, said with lists."""

    capacity: int
    policy: OverflowPolicy
    control: list[Message] = field(default_factory=list[Message])
    data: list[Message] = field(default_factory=list[Message])

    def put(self, message: Message) -> Message | None:
        if len(self.data) < self.capacity:
            given_up = None
        elif self.policy is OverflowPolicy.BLOCK:
            raise MailboxFullError("BAC", self.capacity)
        elif self.policy is OverflowPolicy.DROP_NEWEST:
            return message
        elif self.policy is OverflowPolicy.CONFLATE and message in Same(self.data):
            at = Same(self.data).index(message)
            given_up, self.data[at] = self.data[at], message
            return given_up
        else:
            given_up = self.data.pop(0)
        self.data.append(message)
        return given_up


class Same(list[Message]):
    """Messages, of which two returns of one symbol and bar are the same."""

    @staticmethod
    def key(message: object) -> object:
        symbol = getattr(message, "symbol", None)
        return symbol and (symbol, getattr(message, "ts_event", None))

    def __contains__(self, message: object) -> bool:
        key = self.key(message)
        return key is not None and key in map(self.key, self)

    def index(self, message: Message, *_: object) -> int:
        return [self.key(one) for one in self].index(self.key(message))


@pytest.mark.parametrize("policy", OverflowPolicy)
@given(capacity=st.integers(1, 4), steps=steps)
@examples(40)
def test_it_does_what_the_model_does(
    policy: OverflowPolicy, capacity: int, steps: list[tuple[str, Message | None]]
) -> None:
    mailbox, model = Mailbox("BAC", capacity, policy), Model(capacity, policy)
    for step, message in steps:
        if step == "put":
            assert message is not None
            try:
                expected: Message | None = model.put(message)
            except MailboxFullError:
                with pytest.raises(MailboxFullError):
                    mailbox.put(message)
            else:
                assert mailbox.put(message) is expected
        elif step == "put_control":
            assert message is not None
            mailbox.put_control(message)
            model.control.append(message)
        elif step == "get":
            lane = model.control or model.data
            assert mailbox.get() is (lane.pop(0) if lane else None)
        else:
            assert mailbox.drain() == model.control + model.data
            model.control, model.data = [], []
        assert len(mailbox) == len(model.control) + len(model.data)
        assert len(model.data) <= capacity
    assert mailbox.drain() == model.control + model.data


@pytest.mark.parametrize("policy", OverflowPolicy)
@given(capacity=st.integers(1, 5), messages=st.lists(data, max_size=30))
@examples(40)
def test_every_message_comes_out_once_or_was_given_up_or_refused(
    policy: OverflowPolicy, capacity: int, messages: list[Message]
) -> None:
    mailbox = Mailbox("BAC", capacity, policy)
    gone: list[Message] = []
    for message in messages:
        try:
            given_up = mailbox.put(message)
        except MailboxFullError:
            given_up = message
        gone += [] if given_up is None else [given_up]
    left = mailbox.drain()
    assert sorted(map(id, gone + left)) == sorted(map(id, messages))


def full(policy: OverflowPolicy, *, capacity: int = 3) -> Mailbox:
    """Return a mailbox that is full of bars 1, 2, 3..."""
    mailbox = Mailbox("BAC", capacity, policy)
    for ts in range(1, capacity + 1):
        mailbox.put(asset("BAC", ts, ts / 100))
    return mailbox


def stamps(mailbox: Mailbox) -> list[int]:
    return [getattr(message, "ts_event", -1) for message in mailbox.drain()]


@pytest.mark.parametrize(
    ("policy", "given_up", "left"),
    [
        (OverflowPolicy.DROP_OLDEST, 1, [2, 3, 4]),
        (OverflowPolicy.DROP_NEWEST, 4, [1, 2, 3]),
        (OverflowPolicy.CONFLATE, 1, [2, 3, 4]),
    ],
)
def test_one_message_too_many_is_given_up_by_policy(
    policy: OverflowPolicy, given_up: int, left: list[int]
) -> None:
    mailbox = full(policy)
    gone = mailbox.put(asset("BAC", 4, 0.04))
    assert gone is not None
    assert gone.ts_event == given_up  # type: ignore[union-attr]
    assert stamps(mailbox) == left


def test_a_full_mailbox_under_block_says_whose_it_is_and_how_big() -> None:
    mailbox = full(OverflowPolicy.BLOCK)
    with pytest.raises(MailboxFullError, match="mailbox of BAC is full at 3") as caught:
        mailbox.put(asset("BAC", 4, 0.04))
    assert (caught.value.actor, caught.value.capacity) == ("BAC", 3)
    assert stamps(mailbox) == [1, 2, 3]


def test_conflation_replaces_the_return_of_the_same_bar_in_its_place() -> None:
    mailbox = full(OverflowPolicy.CONFLATE)
    newer = asset("BAC", 2, 0.5)
    older = mailbox.put(newer)
    assert older == asset("BAC", 2, 0.02)
    assert mailbox.drain() == [asset("BAC", 1, 0.01), newer, asset("BAC", 3, 0.03)]


def test_conflation_waits_until_the_mailbox_is_full() -> None:
    mailbox = full(OverflowPolicy.CONFLATE, capacity=3)
    mailbox.get()
    assert mailbox.put(asset("BAC", 2, 0.5)) is None
    assert stamps(mailbox) == [2, 3, 2]


@pytest.mark.parametrize("policy", OverflowPolicy)
def test_pitfall_control_messages_evicted_from_a_bounded_queue(
    policy: OverflowPolicy,
) -> None:
    mailbox = full(policy, capacity=2)
    commands: list[Message] = [Heartbeat(ts_init=i) for i in range(5)]
    for command in commands:
        mailbox.put_control(command)
    for ts in range(10, 20):
        try:
            mailbox.put(asset("BAC", ts, 0.1))
        except MailboxFullError:
            assert policy is OverflowPolicy.BLOCK
    assert mailbox.drain()[:5] == commands


def test_more_commands_than_any_operator_sends_are_refused_not_lost() -> None:
    mailbox = full(OverflowPolicy.DROP_OLDEST)
    for i in range(MAX_CONTROL):
        mailbox.put_control(Heartbeat(ts_init=i))
    with pytest.raises(MailboxFullError, match=f"full at {MAX_CONTROL} messages"):
        mailbox.put_control(Heartbeat(ts_init=0))
    assert [mailbox.get() for _ in range(MAX_CONTROL)] == [
        Heartbeat(ts_init=i) for i in range(MAX_CONTROL)
    ]


def test_control_passes_before_data_that_came_first() -> None:
    mailbox = full(OverflowPolicy.BLOCK)
    command = Heartbeat(ts_init=1)
    mailbox.put_control(command)
    assert mailbox.get() is command
    assert mailbox.get() == asset("BAC", 1, 0.01)
