"""Prices of a large universe as one stream, straight to the sink.

qmtl's cost per message grows with the number of nodes: a price, a return and a sink
node for each of 1,000 symbols give a few hundred prices a second. One input whose
payload is ``{symbol: close}`` is fed once per bar, and its returns become one column.

The returns are those of `chain.ReturnChain`, symbol by symbol, to the last bit.
"""

from collections.abc import Mapping
from math import log
from typing import cast

import numpy as np

from ...messages import ConfigError, PayloadError
from .chain import check_kind, longest_gap_s
from .returns import Overnight, check_symbol
from .schema import ReturnKind
from .sdk import ComputeContext, HistoryProvider, Payload, StreamInput
from .sink import BetaSink
from .sink_buffer import Column


class UniversePrices(StreamInput):
    """Prices of many symbols, whose returns go to a sidecar.

    Parameters
    ----------
    symbols
        The assets.
    benchmark
        Whose return completes a bar; its price is in the payload like the others.
    sink
        Where the returns go.
    interval, period
        As for `StreamInput`.
    kind, overnight
        As for `asset_return_node`.
    history_provider
        For a backtest: a frame with ``ts`` and a column per symbol.

    Raises
    ------
    ConfigError
        When a parameter cannot be used, or a symbol is already observed by the sink.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        *,
        benchmark: str,
        sink: BetaSink,
        interval: int | str,
        period: int,
        kind: ReturnKind = "simple",
        overnight: Overnight = "include",
        history_provider: HistoryProvider | None = None,
    ) -> None:
        check_kind(kind)
        for symbol in (*symbols, benchmark):
            check_symbol(symbol)
        if len(set(symbols)) < len(symbols) or not symbols:
            raise ConfigError([("symbols", "must be distinct, and at least one")])
        self.symbols = symbols
        self.benchmark = benchmark
        self._hook = _UniverseHook(self, sink, kind)
        super().__init__(
            tags=["universe_prices"],
            interval=interval,
            period=period,
            history_provider=history_provider,
            event_service=self._hook,
            config={
                "role": "universe_prices",
                "symbols": list(symbols),
                "benchmark": benchmark,
                "kind": kind,
                "overnight": overnight,
            },
        )
        self._hook.max_gap_s = longest_gap_s(overnight, self.interval or 0)

    @property
    def n_late(self) -> int:
        """Bars left out because they were not newer than the newest."""
        return self._hook.n_late

    def apply_compute_context(self, context: ComputeContext) -> None:
        """Move to another world or domain: what was seen belongs to the old one."""
        if context != self.compute_context:
            self._hook.reset()
        super().apply_compute_context(context)


class _UniverseHook:
    # Called by qmtl with each bar; it never raises.
    def __init__(self, node: UniversePrices, sink: BetaSink, kind: ReturnKind) -> None:
        self.max_gap_s: int | None = None
        self.n_late = 0
        self._node = node
        self._sink = sink
        self._is_log = kind == "log"
        self._names = (*node.symbols, node.benchmark)
        self._first_slot = sink.slots_of(node.symbols)
        self._benchmark_slot = sink.slot_of(node.benchmark, is_benchmark=True)
        self.reset()

    def reset(self) -> None:
        n = len(self._names)
        self._newest = -1
        self._prices = np.full(n, np.nan)  # shape: (n_symbols + 1,), benchmark last
        self._stamps = np.zeros(n, dtype=np.int64)

    def record(
        self,
        node_id: str,  # noqa: ARG002 - qmtl's signature
        interval: int,
        timestamp: int,
        payload: Payload,
    ) -> None:
        ts = timestamp - timestamp % interval
        if ts <= self._newest:
            self.n_late += 1
            return
        try:
            prices = self._read(payload, ts)
        except PayloadError as error:
            self._sink.refuse("malformed", error)
            return
        self._newest = ts
        priced = (prices > 0.0) & (prices < np.inf)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratios = np.where(priced, prices, np.nan) / self._prices
        if self.max_gap_s is not None:
            ratios[ts - self._stamps > self.max_gap_s] = np.nan
        self._prices[priced] = prices[priced]
        self._stamps[priced] = ts
        if self._is_log:
            # numpy's logarithm may differ from a single return's in the last bit
            returns = np.array([log(x) if x > 0 else np.nan for x in ratios.tolist()])
        else:
            returns = ratios - 1.0
        context = self._node.compute_context
        market = float(returns[-1])
        if market == market:  # noqa: PLR0124 - not NaN
            self._sink.observe(context, ts, self._benchmark_slot, market)
        if not np.isnan(returns[:-1]).all():
            self._sink.observe(context, ts, self._first_slot, returns[:-1])

    def _read(self, payload: Payload, ts: int) -> Column:
        where = f"universe prices at {ts}"
        if not isinstance(payload, Mapping):
            raise PayloadError(
                where, f"must be a mapping, was {type(payload).__name__}"
            )
        row = cast("Mapping[str, float | None]", payload)
        values = [row.get(name) for name in self._names]
        try:
            return np.array(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise PayloadError(where, f"must hold numbers: {error}") from error
