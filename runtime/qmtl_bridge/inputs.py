"""Inputs that carry betas into a strategy's view.

Rule: an input is fed by whoever has the betas and knows nothing of where they come
from: a live feed (`beta_feed`), or recorded history in a backtest (`history`).
"""

from collections.abc import Mapping
from typing import cast

from ...messages import ConfigError, PayloadError
from .history import BetaHistory
from .returns import check_symbol
from .schema import read_beta
from .sdk import HistoryProvider, Payload, StreamInput


class BetaInput(StreamInput):
    """Beta updates of one symbol.

    Its payloads are beta payloads (`schema`) and are checked when they come. Read the
    newest one in a node with ``view[beta_input][beta_input.interval][-1]``, a pair of
    stamp and payload.

    Parameters
    ----------
    symbol
        Whose beta.
    factor
        The name of the model.
    interval
        Seconds or ``"60s"``, ``"5m"``, ``"24h"``: that of the strategy's bars.
    period
        Bars that are kept, and in a backtest replayed.
    history_provider
        For a backtest: a `BetaHistory`. Without one the input has an empty history:
        qmtl rejects a strategy with an input that has none at all.

    Raises
    ------
    ConfigError
        When the symbol or the factor cannot be a name.
    """

    def __init__(
        self,
        symbol: str,
        factor: str = "market",
        *,
        interval: int | str,
        period: int,
        history_provider: HistoryProvider | None = None,
    ) -> None:
        check_symbol(symbol)
        check_symbol(factor)
        self.symbol = symbol
        self.factor = factor
        super().__init__(
            tags=["beta_input"],
            interval=interval,
            period=period,
            history_provider=history_provider or BetaHistory(()),
            config={"role": "beta_input", "symbol": symbol, "factor": factor},
        )

    def feed(
        self,
        upstream_id: str,
        interval: int,
        timestamp: int,
        payload: Payload,
        *,
        on_missing: str = "skip",
    ) -> bool:
        """Take one update.

        Raises
        ------
        PayloadError
            When it is no beta payload, or another symbol's or factor's.
        """
        update = read_beta(payload)
        if (update.symbol, update.factor) != (self.symbol, self.factor):
            raise PayloadError(
                f"beta of {update.symbol} at {timestamp}",
                f"belongs to {update.factor}, {update.symbol}; "
                f"this input is for {self.factor}, {self.symbol}",
            )
        return super().feed(
            upstream_id, interval, timestamp, payload, on_missing=on_missing
        )


class UniverseBetas(StreamInput):
    """Beta updates of many symbols as one payload: ``{symbol: beta payload}``.

    For large universes: qmtl's cost per message grows with the number of nodes, so one
    input for all is a hundred times as fast as one for each. A payload holds the
    symbols that had an update at its stamp.

    Parameters
    ----------
    symbols
        Whose betas.
    factor, interval, period
        As for `BetaInput`.

    Raises
    ------
    ConfigError
        When there is no symbol, or one cannot be a name.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        factor: str = "market",
        *,
        interval: int | str,
        period: int,
    ) -> None:
        if not symbols:
            raise ConfigError([("symbols", "must name at least one symbol")])
        for name in (*symbols, factor):
            check_symbol(name)
        self.symbols = symbols
        self.factor = factor
        self._wanted = frozenset(symbols)
        super().__init__(
            tags=["beta_input"],
            interval=interval,
            period=period,
            history_provider=BetaHistory(()),
            config={
                "role": "universe_betas",
                "symbols": list(symbols),
                "factor": factor,
            },
        )

    def feed(
        self,
        upstream_id: str,
        interval: int,
        timestamp: int,
        payload: Payload,
        *,
        on_missing: str = "skip",
    ) -> bool:
        """Take one bar's updates.

        Raises
        ------
        PayloadError
            When it is no mapping, or has a symbol that is not in the universe.
        """
        where = f"betas at {timestamp}"
        if not isinstance(payload, Mapping):
            raise PayloadError(where, f"must be a mapping, was {payload!r}")
        if unknown := cast("Mapping[str, object]", payload).keys() - self._wanted:
            raise PayloadError(where, f"has unknown symbols: {sorted(unknown)[:5]}")
        return super().feed(
            upstream_id, interval, timestamp, payload, on_missing=on_missing
        )
