"""Interrupts code that does not return.

Rule: what an actor does cannot hold up the end of the process. A synchronous call can
be ended from outside only by a signal, so this works in the main thread, and on code
that lets Python's signal handlers run: not on a C function that never comes back.
"""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Final

from ..messages import BetaFactoryError

REPEAT_S: Final = 0.1
"""One that goes on after it was interrupted is interrupted again, so often."""


class OverdueError(BetaFactoryError):
    """Raised inside code that ran past its deadline."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(f"still running at its deadline of {timeout_s:g} s")


@contextmanager
def interrupting(timeout_s: float, inside: frozenset[CodeType]) -> Generator[None]:
    """Raise `OverdueError` in whatever the block runs when its time is over.

    Parameters
    ----------
    timeout_s
        From now.
    inside
        It is raised only in what these functions have called.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code in inside:
                raise OverdueError(timeout_s)
            frame = frame.f_back

    handler = signal.signal(signal.SIGALRM, ring)
    timer = signal.setitimer(signal.ITIMER_REAL, timeout_s, REPEAT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
