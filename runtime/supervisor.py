"""Restarts failed actors, each within its own budget.

Rule: an actor that fails is restarted after a backoff that doubles with each failure
in its window; one that spends its budget (``restart_limit`` failures within
``restart_window_s``) is quarantined. Budgets are per actor: a crash loop of one takes
nothing from its neighbours.
"""

import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..messages import Message
from .cell import ActorCell, CellState
from .clock import Clock

logger = logging.getLogger(__name__)

MAX_DEAD_LETTERS = 1000
"""Dead letters kept for inspection; older ones are only counted."""

MAX_DOUBLINGS = 64
"""Doublings of a backoff: 2.0**1024 is no float, and no backoff needs that many."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often and how fast a failed actor comes back."""

    restart_limit: int = 5
    """Failures within the window that are forgiven; the next one quarantines."""
    restart_window_s: float = 60.0
    restart_backoff_s: float = 0.05
    """Pause before the first restart; doubles with each failure in the window."""
    restart_backoff_max_s: float = 5.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that no actor took, and why."""

    actor: str
    message: Message
    reason: str
    number: int = 0
    """Its place among all dead letters, from 1."""
    buried_ns: int = 0
    """When, in nanoseconds since the Unix epoch."""


class Timer(Protocol):
    """Calls back later; asyncio's ``loop.call_later`` is one."""

    def __call__(self, delay: float, callback: Callable[[], object], /) -> object:
        """Call ``callback`` after ``delay`` seconds."""
        ...


class Supervisor:
    """Decides what happens to an actor that failed.

    Parameters
    ----------
    policy
        Budget and backoff, the same for every actor, spent by each alone.
    clock
        Measures the restart window.
    call_later
        Runs a restart after its backoff.
    on_state
        Called with a cell after its state changed.
    seed
        Of the jitter, so that a run can be repeated.
    """

    def __init__(
        self,
        policy: RestartPolicy,
        clock: Clock,
        call_later: Timer,
        *,
        on_state: Callable[[ActorCell], None],
        seed: int = 0,
    ) -> None:
        self.policy = policy
        self.dead_letters: deque[DeadLetter] = deque(maxlen=MAX_DEAD_LETTERS)
        self.n_dead_letters = 0
        self.n_restarts = 0
        self.n_failures = 0
        self._clock = clock
        self._call_later = call_later
        self._on_state = on_state
        # By cell, not by name: a benchmark may also be a symbol.
        self._failures: dict[ActorCell, deque[float]] = {}
        # Jitter spreads restarts; it is no secret.
        self._jitter = random.Random(seed)  # noqa: S311

    def failed(
        self, cell: ActorCell, message: Message | None, error: BaseException
    ) -> None:
        """Take note of a failure and restart or quarantine the actor."""
        self.n_failures += 1
        if message is not None:
            self.bury(cell.name, message, f"{type(error).__name__}: {error}")
        now = self._clock.monotonic()
        failures = self._failures.setdefault(cell, deque())
        failures.append(now)
        while failures[0] < now - self.policy.restart_window_s:
            failures.popleft()
        if len(failures) > self.policy.restart_limit:
            self._quarantine(cell, error)
            return
        doublings = min(len(failures) - 1, MAX_DOUBLINGS)
        delay = min(
            self.policy.restart_backoff_s * 2.0**doublings,
            self.policy.restart_backoff_max_s,
        )
        delay *= self._jitter.uniform(0.5, 1.0)
        logger.warning(
            "actor.failed actor=%s error=%r failures=%d restart_in_s=%.3f",
            cell.name,
            error,
            len(failures),
            delay,
            # Of a crash loop the first traceback says all, and the last one is below.
            exc_info=error if len(failures) == 1 else None,
        )
        self._on_state(cell)
        self._call_later(delay, lambda: self._restart(cell, error))

    def revive(self, cell: ActorCell) -> None:
        """Give a quarantined actor a new budget and restart it at once."""
        self._failures.pop(cell, None)
        if cell.state is CellState.QUARANTINED:
            cell.state = CellState.RESTARTING
            self._restart(cell, RuntimeError("revived by an operator"))

    def bury(self, actor: str, message: Message, reason: str) -> None:
        """Keep a message that no actor took."""
        self.n_dead_letters += 1
        self.dead_letters.append(
            DeadLetter(
                actor, message, reason, self.n_dead_letters, self._clock.time_ns()
            )
        )

    def bury_all(
        self, actor: str, messages: list[Message], reason: str, *, n_newer: int = 0
    ) -> None:
        """Keep messages that no actor took, those that there is room for.

        Parameters
        ----------
        actor
            Whose they were.
        messages
            Oldest first.
        reason
            Why it did not take them.
        n_newer
            How many will follow them at once, and need the room.
        """
        n_kept = min(max(MAX_DEAD_LETTERS - n_newer, 0), len(messages))
        n_passed = len(messages) - n_kept
        self.n_dead_letters += n_passed
        for message in messages[n_passed:]:
            self.bury(actor, message, reason)

    def _restart(self, cell: ActorCell, error: BaseException) -> None:
        if cell.state is not CellState.RESTARTING:
            return
        if cell.restart(error):
            self.n_restarts += 1
            logger.info("actor.restarted actor=%s", cell.name)
            self._on_state(cell)

    def _quarantine(self, cell: ActorCell, error: BaseException) -> None:
        cell.state = CellState.QUARANTINED
        logger.error(
            "actor.quarantined actor=%s error=%r failures=%d window_s=%g",
            cell.name,
            error,
            len(self._failures[cell]),
            self.policy.restart_window_s,
            exc_info=error,
        )
        self.bury_all(cell.name, cell.mailbox.drain(), "actor quarantined")
        self._on_state(cell)
