"""The way of a held return back to its window.

Rule: a release is the return as if it came now, by its own actor's rules, but for the
check that held it. Where the window does not take it, it stays held, and who asked is
told why in words.
"""

from typing import Final

from ..messages import BenchmarkReturnObserved, NotReleasedError
from .parts import Parts
from .quarantine import Absurd, HeldReturn
from .tally import Drop, Refusal

_WHY: Final = {
    Drop.DUPLICATE: "says what its bar has already",
    Drop.CONFLICT: "is no longer wanted: its bar has another value",
    Drop.UNPAIRED: "has no benchmark return to its bar",
    Drop.OVERNIGHT: "spans a night, and nights are left out",
    Drop.HALTED: "cannot be taken while its symbol is halted",
    Drop.UNKNOWN_SYMBOL: "is of a symbol that was removed",
}


def release(parts: Parts, number: int) -> HeldReturn:
    """Stage a held return; the end of the turn computes what follows.

    Parameters
    ----------
    parts
        Of the factory whose quarantine it is in.
    number
        Its number there.

    Raises
    ------
    NotReleasedError
        When it is not held any more, or its window does not take it.
    """
    held = parts.tally.held.get(number)
    if held is None:
        raise NotReleasedError(number, "is not held")
    reason = _take(parts, held)
    if reason is not None:
        raise NotReleasedError(number, _sentence(parts, held, reason))
    parts.tally.held.release(number)
    return held


def _take(parts: Parts, held: HeldReturn) -> Refusal | None:
    message, name = held.message, held.finding.factor
    names = [factor.name for factor in parts.factors]
    if name not in names:
        raise NotReleasedError(held.number, f"is of factor {name}, which is not here")
    if isinstance(message, BenchmarkReturnObserved):
        return parts.broadcasters[message.benchmark].release(message, name)
    actor = parts.actors.get(message.symbol)
    if actor is None:
        return Drop.UNKNOWN_SYMBOL
    return actor.release(message, names.index(name))


def _sentence(parts: Parts, held: HeldReturn, reason: Refusal) -> str:
    if reason is Drop.LATE:
        (lateness,) = (
            factor.model.allowed_lateness
            for factor in parts.factors
            if factor.name == held.finding.factor
        )
        return (
            f"is too late: more than {lateness} bars (allowed_lateness) have opened "
            "since its own"
        )
    return "is absurd" if isinstance(reason, Absurd) else _WHY.get(reason, str(reason))
