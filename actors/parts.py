"""What a factory is made of, for those who do its work.

Rule: who takes columns, releases a return or restores a state is given the parts; a
`BetaFactory` puts them together, and nobody below it knows it.
"""

from dataclasses import dataclass

from .benchmark import BenchmarkBroadcaster
from .cohort import Cohort
from .column_counts import ColumnCounts
from .config import Factor
from .publisher import BetaPublisher
from .symbol import SymbolActor
from .tables import SymbolTables
from .tally import Tally


@dataclass(slots=True)
class Parts:
    """The actors of one factory, and what they share."""

    symbols: tuple[str, ...]
    """Symbol of each row."""
    row_of: dict[str, int]
    """And its row."""
    factors: tuple[Factor, ...]
    tally: Tally
    tables: SymbolTables
    """Of those who name no source."""
    cohorts: tuple[Cohort, ...]
    """One per factor, as are the publishers."""
    publishers: tuple[BetaPublisher, ...]
    actors: dict[str, SymbolActor]
    broadcasters: dict[str, BenchmarkBroadcaster]
    column_counts: ColumnCounts
    """Returns in columnar messages that each symbol's actor has taken, by row."""
    n_columnar: int = 0
    """Returns that came in columnar messages so far."""
