"""Broken frames against the real connection: the short form of the long run."""

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType

import pytest

from beta_factory.messages import MESSAGE_TYPES, RejectReason, Role, decode
from beta_factory.runtime.framing import frame

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz_frames.py"


def script() -> ModuleType:
    """Import the script by its path: it is a program, not a part of a package."""
    spec = importlib.util.spec_from_file_location("fuzz_frames", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_frames"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


fuzz = script()


def test_thousands_of_broken_frames_do_only_what_is_documented() -> None:
    ticks = itertools.count()
    report = fuzz.run(4000, 7, lambda: next(ticks))
    assert report.n_streams == 4000
    assert set(report.outcomes) <= {"taken", *map(str, RejectReason)}
    # One that only makes noise, or no injuries, would test nothing.
    for outcome in ("taken", "malformed", "too_large", "not_allowed", "too_many"):
        assert report.outcomes[outcome] > 5, outcome
    assert report.n_dropped > 100


def test_a_run_can_be_repeated() -> None:
    ticks = itertools.count()
    first, again = (fuzz.run(300, 3, lambda: next(ticks)) for _ in range(2))
    assert (first.outcomes, first.n_bytes) == (again.outcomes, again.n_bytes)


@pytest.mark.parametrize("bomb", range(len(fuzz.BOMBS)))
@pytest.mark.parametrize("role", [None, *fuzz.ROLES])
def test_every_bomb_is_taken_or_refused(bomb: int, role: Role | None) -> None:
    target = fuzz.Target()
    try:
        data = fuzz.BOMBS[bomb]
        whole = target.send(role, [data])
        in_pieces = target.send(role, [data[:5], data[5:-1], data[-1:]])
        assert whole == in_pieces
    finally:
        target.close()


def test_the_golden_messages_are_of_every_type_that_a_peer_sends() -> None:
    types = {type(decode(payload)) for payload in fuzz.GOLDEN}
    answers = {"BetaUpdated", "BetasUpdated", "Subscribed", "Rejected"}
    answers |= {"ActorsListed", "DeadLettersListed", "HeldReturnsListed", "Answered"}
    answers |= {"StatusReported"}
    assert {kind.__name__ for kind in types} == {
        kind.__name__ for kind in MESSAGE_TYPES
    } - answers


def test_a_failure_of_ours_would_be_found() -> None:
    target = fuzz.Target()
    try:
        target.system.take_lone = target.system.take_all = None
        with pytest.raises(AssertionError, match="internal error"):
            target.send(Role.FEED, [frame(fuzz.GOLDEN[8])])
    finally:
        target.close()
