"""What subscribers see of an actor that cannot take messages.

Rule: the rows of a symbol whose actor is away say so (`degraded`, with the reason), and
so do those of a benchmark whose broadcaster is quarantined. Which symbols' actors are
away is a mask that whoever takes a whole column asks.
"""

from typing import Final

import numpy as np

from ..actors import BetaFactory
from ..actors.cohort import Cohort
from ..actors.row_mask import RowMask
from ..messages import Reason, Status
from .cell import ActorCell, CellState
from .delivery import Delivery

_REASON_OF_STATE: Final = {
    CellState.RESTARTING: Reason.ACTOR_RESTARTED,
    CellState.QUARANTINED: Reason.ACTOR_QUARANTINED,
}


class ActorStanding:
    """Shows the states of a factory's actors in its rows.

    Parameters
    ----------
    factory
        The actors, and the cohorts whose rows are theirs.
    delivery
        Their cells.
    """

    def __init__(self, factory: BetaFactory, delivery: Delivery) -> None:
        self._factory = factory
        self._cell_of_symbol = delivery.cell_of_symbol
        self._broadcasters = tuple(delivery.cell_of_benchmark.values())
        self._silent_benchmarks: set[str] = set()
        self.away = RowMask(len(factory.symbols))
        """Rows of the symbols whose actors take no messages now."""

    def away_cells(self) -> list[ActorCell]:
        """Return the cells of the actors that take no messages now."""
        marked = self.away.some
        rows: list[int] = [] if marked is None else np.flatnonzero(marked).tolist()
        return [
            *(self._cell_of_symbol[self._factory.symbols[row]] for row in rows),
            *(c for c in self._broadcasters if c.state is not CellState.LIVE),
        ]

    def show(self, cell: ActorCell) -> None:
        """Show an actor's state, after it has changed."""
        row = self._factory.row_of.get(cell.name)
        if row is not None and cell.behavior is self._factory.actors[cell.name]:
            self.away.mark(row, is_marked=cell.state is not CellState.LIVE)
            for cohort in self._factory.cohorts:
                cohort.override(row, *self._standing_of(cohort, row))
        elif cell.behavior is self._factory.broadcasters.get(cell.name):
            self._show_broadcaster(cell)

    def _standing_of(self, cohort: Cohort, row: int) -> tuple[Status | None, Reason]:
        # The row's own trouble comes before that of its benchmark.
        symbol = self._factory.symbols[row]
        actor = self._factory.actors[symbol]
        state = self._cell_of_symbol[symbol].state
        if state in _REASON_OF_STATE:
            return Status.DEGRADED, _REASON_OF_STATE[state]
        if actor.status is not None:
            return actor.status, actor.reason
        if cohort.factor.benchmark in self._silent_benchmarks:
            return Status.DEGRADED, Reason.ACTOR_QUARANTINED
        return None, Reason.NONE

    def _show_broadcaster(self, cell: ActorCell) -> None:
        # While it restarts, bars wait in its mailbox and nothing is lost. Quarantined,
        # it opens none, so that no row would ever become stale: its rows say so.
        benchmark = cell.name
        if cell.state is CellState.QUARANTINED:
            self._silent_benchmarks.add(benchmark)
            status, reason = Status.DEGRADED, Reason.ACTOR_QUARANTINED
        elif cell.state is CellState.LIVE and benchmark in self._silent_benchmarks:
            self._silent_benchmarks.remove(benchmark)
            status, reason = None, Reason.NONE
        else:
            return
        rows = [
            row
            for row, symbol in enumerate(self._factory.symbols)
            if self._cell_of_symbol[symbol].state is CellState.LIVE
            and self._factory.actors[symbol].status is None
        ]
        for cohort in self._factory.cohorts:
            if cohort.factor.benchmark == benchmark:
                cohort.override_all(np.array(rows, dtype=np.intp), status, reason)
