"""Updates of many bars as columns: what `BetaColumns` is for one bar.

Rule: the same updates, field by field, in the order in which they are published. Only a
recording that is swept is known so many bars at a time; whoever is fed by a live system
never sees these.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..estimators import Rows
from ..messages import BetaUpdated, Reason, Status, encode_columns

_STATUS: Final = tuple(Status)
_REASON: Final = tuple(Reason)
_FIELDS: Final = BetaUpdated.__struct_fields__


@dataclass(frozen=True, slots=True)
class BetaTurns:
    """Updates of one factor, ``k`` of them, none a correction and none conflated."""

    factor: str
    benchmark: str
    symbols: tuple[str, ...]
    """All symbols of the factor; ``rows`` points into them."""
    rows: Rows
    """Shape (k,), like all that follow but the numbers."""
    ts_event: NDArray[np.int64]
    """Also `ts_init`: a recording's messages are stamped by the recording's clock."""
    numbers: NDArray[np.float64]
    """beta, alpha, std_error, t_stat, r_squared, residual_std; shape (6, k)."""
    n_obs: NDArray[np.int64]
    window_start: NDArray[np.int64]
    status: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    first_seq: int
    """`seq` of the first update; the others follow."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def seq(self) -> NDArray[np.int64]:
        """Sequence numbers."""
        return np.arange(self.first_seq, self.first_seq + len(self.rows))

    def encoded(self) -> memoryview:
        """Return what `encode` makes of `as_rows`, one after another."""
        return encode_columns(BetaUpdated, self._fields())

    def as_rows(self) -> list[BetaUpdated]:
        """Return one message per update, in order."""
        rows: list[BetaUpdated] = []
        for values in zip(*self._fields(), strict=False):
            fields: dict[str, Any] = dict(zip(_FIELDS, values, strict=True))
            fields["status"] = _STATUS[fields["status"]]
            fields["reason"] = _REASON[fields["reason"]]
            rows.append(BetaUpdated(**fields))
        return rows

    def _fields(self) -> list[Iterable[object]]:
        # One column per field of `BetaUpdated`, in its order; what all share repeats.
        numbers = self.numbers.astype(object)
        numbers[np.isnan(self.numbers)] = None
        stamps: list[int] = self.ts_event.tolist()
        return [
            repeat(self.factor),
            [self.symbols[row] for row in self.rows.tolist()],
            repeat(self.benchmark),
            stamps,
            *numbers.tolist(),
            self.n_obs.tolist(),
            self.window_start.tolist(),
            self.status.tolist(),
            self.reason.tolist(),
            repeat(0),
            range(self.first_seq, self.first_seq + len(stamps)),
            stamps,
            repeat(0),
            repeat(None),
        ]
