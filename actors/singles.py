"""Takes many single returns of one bar in one step, as their actors would one by one.

Rule: nobody can tell from the outside that they were taken together. What an actor has
to see for itself goes to it alone; nothing of that stages a return, so those that are
staged may go first. Whatever is refused is refused in the order in which it came.
"""

from operator import itemgetter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..estimators import LARGEST, Rows
from ..messages import ReturnObserved
from .parts import Parts
from .row_mask import Mask
from .tally import Drop, Refusal


class SingleReturns(Protocol):
    """Many `ReturnObserved` of one bar, field by field."""

    @property
    def ts_event(self) -> int:
        """Of all of them."""
        ...

    @property
    def returns(self) -> NDArray[np.float64]:
        """``period_return`` of each, shape (k,)."""
        ...

    @property
    def ts_inits(self) -> NDArray[np.int64]:
        """``ts_init`` of each, shape (k,)."""
        ...

    def message(self, position: int) -> ReturnObserved:
        """Return one of them as it came."""
        ...


def take_group(
    parts: Parts,
    apart: Mask | None,
    group: SingleReturns,
    rows: Rows,
    masked: Mask | None,
) -> list[ReturnObserved]:
    """Stage them, see `BetaFactory.take_group`.

    Parameters
    ----------
    apart
        Rows whose returns need their actor, shape (n_symbols,); ``None`` = no row.
    """
    returns, ts_inits = group.returns, group.ts_inits
    # What an actor has to see for itself; none of it stages anything.
    is_plain = np.abs(returns) <= LARGEST
    is_plain &= rows >= 0
    for some in (apart, masked):
        if some is not None:
            is_plain &= ~some[rows]
    refused: list[tuple[int, Refusal | None]] = []
    staged: Rows | None = None  # positions of what is left, where it is not all
    if np.count_nonzero(is_plain) < len(rows):
        alone = np.flatnonzero(~is_plain).tolist()
        refused = [(position, None) for position in alone]
        staged = np.flatnonzero(is_plain)
        rows, returns, ts_inits = rows[staged], returns[staged], ts_inits[staged]
    for cohort in parts.cohorts if len(rows) else ():
        dropped = cohort.stage_rows(rows, group.ts_event, returns, ts_inits)
        refused += [
            (position if staged is None else int(staged[position]), reason)
            for position, reason in dropped
        ]
    # In the order in which they came, as one by one.
    mailed: list[ReturnObserved] = []
    for position, reason in sorted(refused, key=itemgetter(0)):
        single = group.message(position)
        row = parts.row_of.get(single.symbol)
        if reason is not None:
            parts.tally.drop(reason, single)
        elif row is None:
            parts.tally.drop_for_all(Drop.UNKNOWN_SYMBOL, single)
        elif masked is not None and masked[row]:
            mailed.append(single)
        else:
            parts.actors[single.symbol].receive(single)
    return mailed
