"""Interrupts code that does not return.

Rule: what an actor does cannot hold up the end of the process, and what the process
does about it is not interrupted. A synchronous call can be ended from outside only by a
signal, so this works in the main thread, and on code that lets Python's signal handlers
run: not on a C function that never comes back.
"""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Final

from ..messages import BetaFactoryError

REPEAT_S: Final = 0.1
"""So long after the deadline code is interrupted, and again so often if it goes on: one
that is busy, and looks at the clock after each message, ends by itself before."""


class OverdueError(BetaFactoryError):
    """Raised inside code that ran past its deadline."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(f"still running at its deadline of {timeout_s:g} s")


@contextmanager
def interrupting(timeout_s: float, callers: frozenset[CodeType]) -> Generator[None]:
    """Raise `OverdueError` in an actor's code that runs when its time is over.

    Parameters
    ----------
    timeout_s
        From now.
    callers
        The functions that call an actor. It is raised only in what they have called,
        and not where that is of this package: a failure is taken note of in full.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_number: int, frame: FrameType | None) -> None:
        while frame is not None and frame.f_back is not None:
            if frame.f_back.f_code in callers:
                if frame.f_globals.get("__package__") != __package__:
                    raise OverdueError(timeout_s)
                return
            frame = frame.f_back

    handler = signal.signal(signal.SIGALRM, ring)
    timer = signal.setitimer(signal.ITIMER_REAL, timeout_s + REPEAT_S, REPEAT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
