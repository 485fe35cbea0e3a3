"""What a behavior raises stops at its cell; what it did not raise goes on."""

import asyncio
from collections.abc import Callable

import pytest

from beta_factory.messages import ActorDeadError, MailboxFullError, Message
from beta_factory.runtime.cell import ActorCell, CellState
from beta_factory.runtime.mailbox import Mailbox, OverflowPolicy
from strategies import asset
from testkit import Probe


class Run:
    """A cell, and what it reports."""

    def __init__(self, *, capacity: int = 4) -> None:
        self.probe = Probe("BAC")
        self.failures: list[tuple[Message | None, str, CellState]] = []
        self.sent: list[Message] = []
        self.cell = ActorCell(
            self.probe,
            Mailbox("BAC", capacity, OverflowPolicy.BLOCK),
            on_failure=self.failed,
            on_outgoing=self.sent.append,
        )

    def failed(
        self, cell: ActorCell, message: Message | None, error: BaseException
    ) -> None:
        assert cell is self.cell
        self.failures.append((message, str(error), cell.state))


def test_it_is_named_after_its_behavior() -> None:
    assert Run().cell.name == "BAC"


def test_a_life_without_failures() -> None:
    run = Run()
    states = [run.cell.state]
    for step in (run.cell.start, lambda: run.cell.invoke(asset("BAC", 1, 0.1))):
        step()
        states.append(run.cell.state)
    assert run.cell.stop() == []
    states.append(run.cell.state)
    assert states == [
        CellState.STARTING,
        CellState.LIVE,
        CellState.LIVE,
        CellState.STOPPED,
    ]
    assert run.probe.calls == ["on_start", "receive", "on_stop"]
    assert (run.cell.n_processed, run.cell.n_failures) == (1, 0)


def test_what_the_behavior_sends_goes_out_in_order() -> None:
    run = Run()
    run.cell.start()
    run.probe.answers[1] = [asset("IBM", 2, 0.1), asset("IBM", 3, 0.1)]
    run.cell.invoke(asset("BAC", 1, 0.1))
    assert run.sent == run.probe.answers[1]


Step = Callable[[Run], object]
CRASHES: list[tuple[str, Step, Message | None]] = [
    ("on_start", lambda run: run.cell.start(), None),
    (
        "receive",
        lambda run: run.cell.invoke(asset("BAC", 7, 0.1)),
        asset("BAC", 7, 0.1),
    ),
    ("on_restart", lambda run: run.cell.restart(RuntimeError("before")), None),
]


def started(hook: str) -> Run:
    """Return a cell that has come as far as a hook needs."""
    run = Run()
    if hook == "on_restart":
        run.cell.start()
    return run


@pytest.mark.parametrize(
    ("hook", "step", "message"), CRASHES, ids=lambda c: str(c)[:10]
)
def test_an_exception_becomes_a_reported_failure(
    hook: str, step: Step, message: Message | None
) -> None:
    run = started(hook)
    run.probe.raises[hook] = run.probe.poison[7] = ValueError("boom")
    run.cell.put(asset("BAC", 8, 0.1))
    step(run)
    # Reported once the cell no longer takes messages; the mail is still there.
    assert run.failures == [(message, "boom", CellState.RESTARTING)]
    assert len(run.cell.mailbox) == 1
    assert (run.cell.n_processed, run.cell.n_failures) == (0, 1)


@pytest.mark.parametrize(
    ("hook", "step", "message"), CRASHES, ids=lambda c: str(c)[:10]
)
@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, SystemExit])
def test_pitfall_cancelled_error_is_no_exception_and_escapes(
    hook: str, step: Step, message: Message | None, error: type[BaseException]
) -> None:
    # From the result of a cancelled future, or of a library that exits.
    run = started(hook)
    run.probe.raises[hook] = run.probe.poison[7] = error("out of here")
    step(run)
    assert run.failures == [(message, "out of here", CellState.RESTARTING)]
    assert run.cell.n_failures == 1


@pytest.mark.parametrize(
    ("hook", "step", "message"), CRASHES, ids=lambda c: str(c)[:10]
)
def test_what_a_person_interrupts_is_no_failure(
    hook: str, step: Step, message: Message | None
) -> None:
    run = started(hook)
    run.probe.raises[hook] = run.probe.poison[7] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        step(run)
    assert run.failures == []
    assert run.cell.n_failures == 0


def test_on_stop_that_raises_is_logged_and_stops_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Run()
    run.cell.start()
    run.probe.raises["on_stop"] = ValueError("boom")
    run.cell.put(asset("BAC", 1, 0.1))
    assert run.cell.stop() == [asset("BAC", 1, 0.1)]
    assert run.cell.state is CellState.STOPPED
    assert run.failures == []
    (record,) = caplog.records
    assert record.getMessage() == "actor.stop_failed actor=BAC"
    assert "boom" in caplog.text


def test_cancellation_in_on_stop_costs_nobody_else_its_end() -> None:
    run = Run()
    run.probe.raises["on_stop"] = asyncio.CancelledError()
    assert run.cell.stop() == []
    assert run.cell.state is CellState.STOPPED


def test_one_that_never_started_is_started_again_not_restarted() -> None:
    run = Run()
    run.probe.raises["on_start"] = ValueError("boom")
    run.cell.start()
    assert run.cell.restart(ValueError("boom")) is False
    run.probe.raises.clear()
    assert run.cell.restart(ValueError("boom")) is True
    assert run.cell.restart(ValueError("boom")) is True
    assert run.probe.calls == ["on_start", "on_start", "on_start", "on_restart"]


def test_what_follows_from_a_message_fails_with_it() -> None:
    run = Run()
    run.cell.start()

    def outgoing() -> list[Message]:
        msg = "while it was sending"
        raise ValueError(msg)

    run.probe.answers = {1: map(lambda _: outgoing(), [1])}  # type: ignore[dict-item]  # noqa: C417
    run.cell.invoke(asset("BAC", 1, 0.1))
    assert [(text, state) for _, text, state in run.failures] == [
        ("while it was sending", CellState.RESTARTING)
    ]


def test_a_restart_makes_it_live_and_says_so() -> None:
    run = Run()
    run.cell.start()
    run.probe.poison[1] = ValueError("boom")
    run.cell.invoke(asset("BAC", 1, 0.1))
    assert run.cell.restart(ValueError("boom")) is True
    assert run.cell.state is CellState.LIVE


def test_a_failed_restart_says_so() -> None:
    run = Run()
    run.cell.start()
    run.probe.raises["on_restart"] = ValueError("again")
    assert run.cell.restart(ValueError("boom")) is False
    assert run.cell.state is CellState.RESTARTING


def test_stopping_twice_runs_on_stop_once() -> None:
    run = Run()
    run.cell.start()
    run.cell.stop()
    run.cell.stop()
    assert run.probe.calls.count("on_stop") == 1


def test_pitfall_stop_with_queued_messages_hands_them_back() -> None:
    run = Run()
    run.cell.start()
    mail: list[Message] = [asset("BAC", ts, 0.1) for ts in (1, 2, 3)]
    for message in mail:
        run.cell.put(message)
    assert run.cell.stop() == mail
    assert run.probe.seen == []
    assert run.cell.stop() == []


@pytest.mark.parametrize("state", [CellState.QUARANTINED, CellState.STOPPED])
def test_a_dead_actor_takes_no_mail(state: CellState) -> None:
    run = Run()
    run.cell.state = state
    with pytest.raises(ActorDeadError, match=f"actor BAC is {state}") as caught:
        run.cell.put(asset("BAC", 1, 0.1))
    assert (caught.value.actor, caught.value.state) == ("BAC", state)


@pytest.mark.parametrize(
    "state", [CellState.STARTING, CellState.LIVE, CellState.RESTARTING]
)
def test_any_other_actor_takes_mail_until_it_is_full(state: CellState) -> None:
    run = Run(capacity=2)
    run.cell.state = state
    for ts in (1, 2):
        assert run.cell.put(asset("BAC", ts, 0.1)) is None
    with pytest.raises(MailboxFullError):
        run.cell.put(asset("BAC", 3, 0.1))
