"""What a strategy has observed and the sink has not sent: bounded, never in the way.

Rule: `put` is called from inside qmtl's loop. It takes no lock, waits for nothing and
raises nothing; a buffer that is full gives up its oldest observation and counts it.

One thread puts and one takes: a deque's ends are safe for that. To wake the other side
costs more than all the rest (a system call, and the interpreter's lock changes hands),
so it is woken when it has nothing to do, and when a bar is complete; in between it
looks again by itself.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .sdk import ComputeContext

Column = NDArray[np.float64]

Observation = tuple[int, int, "float | Column"]
"""(ts in seconds, slot, return). Slots from 0 are assets, ``-1 - i`` is benchmark i. A
column holds the returns of the slots from its own onwards."""


@dataclass(slots=True)
class SinkBuffer:
    """Observations between the strategy's thread and the sink's."""

    capacity: int
    wake: Callable[[], None]
    """Called when the other side should look."""
    n_expected: int = 0
    """Observations of a complete bar."""
    dropped: Counter[str] = field(default_factory=Counter[str])
    """Observations given up, by reason."""
    n_observed: int = 0
    """Observations put, a column counted as one."""
    context: ComputeContext | None = None
    """World and execution domain of the newest observation."""
    is_idle: bool = True
    """Whether the other side waits to be woken; set by it before its last look."""
    _bar: int = -1
    _in_bar: int = 0
    _items: "deque[Observation | ComputeContext]" = field(
        default_factory=deque[Observation | ComputeContext]
    )

    def __len__(self) -> int:
        return len(self._items)

    def put(self, context: ComputeContext, observation: Observation) -> None:
        """Add an observation, made in this context."""
        items = self._items
        if context is not self.context:
            if context != self.context:
                items.append(context)
            self.context = context
        self.n_observed += 1
        items.append(observation)
        if len(items) > self.capacity:
            self._give_up()
        ts = observation[0]
        if ts != self._bar:
            self._bar = ts
            self._in_bar = 0
        self._in_bar += 1
        if self.is_idle or self._in_bar == self.n_expected:
            self.is_idle = False
            self.wake()

    def take(self) -> "Observation | ComputeContext | None":
        """Remove and return the oldest, ``None`` when there is nothing."""
        try:
            return self._items.popleft()
        except IndexError:
            return None

    def _give_up(self) -> None:
        # A context is no observation, and the one that follows it must keep it.
        try:
            oldest = self._items.popleft()
            if isinstance(oldest, ComputeContext):
                self._items.popleft()
                self._items.appendleft(oldest)
        except IndexError:
            return  # the other thread was faster
        self.dropped["overflow"] += 1
