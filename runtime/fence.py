"""The order in which another process sees our stores, and we see its.

Rule: a store that must be seen before another, and a load that must happen before
another, have a `fence` between them.

What this rests on
------------------
*The compiler.* Each load and store here is a call of its own into the interpreter, by
way of a pointer; none can be moved past another by a compiler.

*x86.* Stores become visible in the order of the program, and loads happen in it: no
instruction is needed. (A copy by `rep movs` may store out of order within itself, but
ends before the store after it becomes visible.)

*Everything else, ARM above all.* CPython offers no fence, but its locks are made of
acquiring and releasing atomics. Taking and releasing a lock twice puts a release before
an acquire; on ARMv8 an acquire is not moved before a release that precedes it, what
precedes the release stays before it, and what follows the acquire stays after. This is
tested on x86 for what it computes, and not for what it orders: no ARM machine was at
hand. It costs about half a microsecond, which x86 does not pay.

*A single value.* An aligned load or store of 8 bytes happens whole on both.
"""

import platform
import threading
from typing import Final

IS_ORDERED: Final = platform.machine().lower() in {"x86_64", "amd64", "i686", "i386"}
"""Whether this machine keeps loads and stores in order by itself."""

_lock: Final = threading.Lock()


def full_fence() -> None:
    """Keep what comes before this call before what comes after it."""
    with _lock:
        pass
    with _lock:
        pass


def no_fence() -> None:
    """Do nothing: the machine keeps the order."""


fence: Final = no_fence if IS_ORDERED else full_fence
"""What this machine needs."""
