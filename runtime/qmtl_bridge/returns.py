"""Nodes that turn a price stream into a stream of returns.

Rule: everything that changes a return is in the node's ``config``, and so in its id.
qmtl leaves names and tags out of it: two symbols' nodes would share one id, and with it
one cache, if the symbol were not there.
"""

from typing import Literal

from ...messages import ConfigError, PayloadError
from ...messages.fields import MAX_NAME_LENGTH
from .chain import ReturnChain, check_kind, longest_gap_s
from .gaps import GapTolerantNode
from .schema import ReturnKind, read_price, return_payload
from .sdk import CacheView, ComputeContext, Node

Overnight = Literal["include", "exclude"]


class ReturnNode(GapTolerantNode):
    """Returns of one symbol; made by `asset_return_node` or `benchmark_return_node`."""

    def __init__(
        self,
        price: Node,
        *,
        symbol: str,
        role: str,
        field: str,
        kind: ReturnKind,
        overnight: Overnight,
    ) -> None:
        check_symbol(symbol)
        check_kind(kind)
        if price.interval is None:
            raise ConfigError([("price.interval", "must be set on the price input")])
        self.price = price
        self.symbol = symbol
        self.field = field
        self.kind: ReturnKind = kind
        self.overnight: Overnight = overnight
        self.is_benchmark = role == "benchmark_return"
        self.chain = ReturnChain(kind, longest_gap_s(overnight, price.interval))
        super().__init__(
            input=price,
            compute_fn=self._compute,
            name=f"{role}_{symbol}",
            interval=price.interval,
            period=1,
            tags=[role],
            config={
                "role": role,
                "symbol": symbol,
                "field": field,
                "kind": kind,
                "overnight": overnight,
            },
        )

    def apply_compute_context(self, context: ComputeContext) -> None:
        """Move to another world or domain: what was seen belongs to the old one."""
        if context != self.compute_context:
            self.chain.reset()
        super().apply_compute_context(context)

    def _compute(self, view: CacheView) -> dict[str, object] | None:
        ts, payload = view[self.price][self.interval][-1]
        try:
            price = read_price(payload, self.field, f"price of {self.symbol} at {ts}")
        except PayloadError:
            self.chain.n_unpriced += 1
            raise
        value = self.chain.advance(ts, price)
        if value is None:
            return None
        return return_payload(ts, self.symbol, value, self.kind)


def asset_return_node(
    price: Node,
    *,
    symbol: str,
    field: str = "close",
    kind: ReturnKind = "simple",
    overnight: Overnight = "include",
) -> ReturnNode:
    """Return a node that turns prices into an asset's returns.

    Parameters
    ----------
    price
        A `StreamInput` of bars; its payloads are numbers, or mappings with ``field``.
        Give it a ``config`` with the symbol: qmtl takes two inputs that differ in
        their tags alone for one.
    symbol
        Whose returns.
    field
        The key of the price.
    kind
        ``"simple"``: ``p1 / p0 - 1``; ``"log"``: ``log(p1 / p0)``.
    overnight
        ``"exclude"`` leaves out returns over more than four hours, on intraday bars.

    Returns
    -------
    ReturnNode
        Its results are return payloads (`schema`); a bar without one gives ``None``.

    Raises
    ------
    ConfigError
        When a parameter cannot be used.
    PayloadError
        From the node, when a payload has no such field, or no number there.
    """
    return ReturnNode(
        price,
        symbol=symbol,
        role="asset_return",
        field=field,
        kind=kind,
        overnight=overnight,
    )


def benchmark_return_node(
    price: Node,
    *,
    symbol: str,
    field: str = "close",
    kind: ReturnKind = "simple",
    overnight: Overnight = "include",
) -> ReturnNode:
    """Return a node that turns prices into a benchmark's returns.

    As `asset_return_node`. Add it to the strategy before the assets' nodes: qmtl feeds
    a stamp's bars in the order in which their inputs were added.
    """
    return ReturnNode(
        price,
        symbol=symbol,
        role="benchmark_return",
        field=field,
        kind=kind,
        overnight=overnight,
    )


def check_symbol(symbol: str) -> None:
    """Refuse what the wire cannot carry as a name.

    Raises
    ------
    ConfigError
        When it is empty or too long.
    """
    if not 1 <= len(symbol) <= MAX_NAME_LENGTH:
        reason = f"must have 1 to {MAX_NAME_LENGTH} characters, had {len(symbol)}"
        raise ConfigError([("symbol", reason)])
