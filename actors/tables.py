"""Which rows a columnar frame speaks of: symbols resolved once, not per frame."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..estimators import Rows, State
from ..messages import MalformedMessageError, SymbolsDeclared

MAX_TABLES = 64
"""Tables per connection: one per shape of frame that a feed sends, with room."""


@dataclass(frozen=True, slots=True)
class SymbolTable:
    """The symbols of a frame, as rows of the universe."""

    symbols: tuple[str, ...]
    rows: Rows
    """Rows of the known symbols, shape (k,)."""
    positions: Rows | None
    """Where in the frame the known symbols stand; ``None`` = everywhere."""

    unknown: tuple[int, ...]
    """Positions of symbols outside the universe."""


class SymbolTables:
    """The tables that one source has declared.

    Parameters
    ----------
    row_of
        Row of each symbol of the universe.
    source
        Name under which what it sends is counted.
    """

    def __init__(self, row_of: dict[str, int], source: str = "") -> None:
        self.source = source
        self._row_of = row_of
        self._tables: dict[int, SymbolTable] = {}
        self._last_named: SymbolTable | None = None
        self.has_named_unknown = False
        """Whether any of them named symbols outside the universe."""

    def declare(self, message: SymbolsDeclared) -> SymbolTable:
        """Agree on a table; a number that was used before is replaced.

        Raises
        ------
        MalformedMessageError
            When a symbol stands twice, or there are too many tables.
        """
        if message.table not in self._tables and len(self._tables) >= MAX_TABLES:
            msg = f"at most {MAX_TABLES} tables per connection"
            raise MalformedMessageError(msg)
        table = self._resolve(message.symbols)
        self._tables[message.table] = table
        return table

    def look_up(self, symbols: int | tuple[str, ...]) -> SymbolTable:
        """Return the table that a frame's ``symbols`` field stands for.

        Raises
        ------
        MalformedMessageError
            When the number was never declared, or a symbol stands twice.
        """
        if isinstance(symbols, int):
            table = self._tables.get(symbols)
            if table is None:
                msg = f"symbol table {symbols} was never declared on this connection"
                raise MalformedMessageError(msg)
            return table
        # A source that names its symbols mostly names the same ones again.
        if self._last_named is None or self._last_named.symbols != symbols:
            self._last_named = self._resolve(symbols)
        return self._last_named

    def state(self) -> State:
        """Return the tables that were declared."""
        return {str(n): list(table.symbols) for n, table in self._tables.items()}

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        for number, symbols in state.items():
            self._tables[int(number)] = self._resolve(tuple(symbols))

    def _resolve(self, symbols: tuple[str, ...]) -> SymbolTable:
        if len(set(symbols)) != len(symbols):
            counts = Counter(symbols)
            twice = next(symbol for symbol in symbols if counts[symbol] > 1)
            msg = f"symbol {twice!r} stands twice in one frame"
            raise MalformedMessageError(msg)
        rows = [self._row_of.get(symbol, -1) for symbol in symbols]
        known = [position for position, row in enumerate(rows) if row >= 0]
        return SymbolTable(
            symbols=symbols,
            unknown=tuple([i for i, row in enumerate(rows) if row < 0]),
            rows=np.array([rows[position] for position in known], dtype=np.intp),
            positions=None
            if len(known) == len(rows)
            else np.array(known, dtype=np.intp),
        )
