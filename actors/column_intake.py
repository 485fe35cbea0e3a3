"""Takes one bar's returns of many symbols in one step.

Rule: a columnar message is worth exactly its single messages. What an actor has to see
for itself leaves the column and goes to it as one; the rest is staged together.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..estimators import LARGEST, Rows
from ..messages import MalformedMessageError, ReturnObserved, ReturnsObserved
from ..messages.returns import FLOAT64_BYTES
from .parts import Parts
from .row_mask import Mask
from .tables import SymbolTable, SymbolTables
from .tally import Drop

_FLOAT64: Final = np.dtype("<f8")


def take_columns(
    parts: Parts,
    apart: Mask | None,
    message: ReturnsObserved,
    tables: SymbolTables,
    masked: Mask | None,
) -> list[ReturnObserved]:
    """Stage a columnar message, see `BetaFactory.take_columns`.

    Parameters
    ----------
    apart
        Rows whose returns need their actor, shape (n_symbols,); ``None`` = no row.
    """
    table = tables.look_up(message.symbols)
    returns = _returns_of(message, table)
    rows = table.rows
    # Both are NaN where a return is missing.
    is_complete = (
        len(returns) > 0
        and returns.item(returns.argmin()) >= -LARGEST
        and returns.item(returns.argmax()) <= LARGEST
    )
    parts.n_columnar += len(returns)
    absent: Rows | None = None
    if not is_complete:
        is_absent = np.isnan(returns)
        parts.n_columnar -= int(np.count_nonzero(is_absent))
        if table.positions is not None:
            is_absent = is_absent[table.positions]
        absent = rows[is_absent]
    if table.positions is not None:
        for position in table.unknown:
            if not np.isnan(returns[position]):
                single = _single(
                    message, table.symbols[position], float(returns[position])
                )
                parts.tally.drop_for_all(Drop.UNKNOWN_SYMBOL, single)
        returns = returns[table.positions]
    mailed: list[ReturnObserved] = []
    if not is_complete or apart is not None or masked is not None:
        is_alone = _look_alone(rows, returns, apart, masked)
        if np.count_nonzero(is_alone):
            is_complete = False
            mailed = _take_alone(
                parts, message, rows[is_alone], returns[is_alone], masked
            )
            returns = np.where(is_alone, np.nan, returns)
    if mailed:  # each is its actor's when that takes it
        away = np.array([parts.row_of[single.symbol] for single in mailed])
        absent = away if absent is None else np.concatenate((absent, away))
    parts.column_counts.add(rows, absent)
    for cohort in parts.cohorts:
        dropped = cohort.stage_column(
            rows,
            message.ts_event,
            returns,
            message.ts_init,
            is_complete=is_complete,
        )
        for position, reason in dropped:
            symbol = parts.symbols[int(rows[position])]
            single = _single(message, symbol, float(returns[position]))
            parts.tally.drop(reason, single, is_as_sent=False)
    return mailed


def _returns_of(message: ReturnsObserved, table: SymbolTable) -> NDArray[np.float64]:
    n_symbols = len(table.symbols)
    if len(message.period_returns) != FLOAT64_BYTES * n_symbols:
        msg = (
            f"{n_symbols} symbols need {FLOAT64_BYTES * n_symbols} bytes of "
            f"period_returns, was {len(message.period_returns)}"
        )
        raise MalformedMessageError(msg)
    return np.frombuffer(message.period_returns, _FLOAT64)


def _look_alone(
    rows: Rows, returns: NDArray[np.float64], apart: Mask | None, masked: Mask | None
) -> Mask:
    # Where an actor has to see its return for itself.
    is_alone: Mask = np.abs(returns) > LARGEST
    for some in (apart, masked):
        if some is not None:
            is_alone |= some[rows] & ~np.isnan(returns)
    return is_alone


def _take_alone(
    parts: Parts,
    message: ReturnsObserved,
    rows: Rows,
    returns: NDArray[np.float64],
    masked: Mask | None,
) -> list[ReturnObserved]:
    mailed: list[ReturnObserved] = []
    values: list[float] = returns.tolist()
    places: list[int] = rows.tolist()
    for row, value in zip(places, values, strict=True):
        single = _single(message, parts.symbols[row], value)
        if masked is not None and masked[row]:
            mailed.append(single)
        else:
            parts.actors[single.symbol].receive(single)
    return mailed


def _single(message: ReturnsObserved, symbol: str, value: float) -> ReturnObserved:
    return ReturnObserved(
        symbol=symbol,
        ts_event=message.ts_event,
        period_return=value,
        seq=message.seq,
        ts_init=message.ts_init,
    )
