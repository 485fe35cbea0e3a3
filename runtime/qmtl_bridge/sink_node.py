"""The node that hands a return node's results to a `BetaSink`."""

from ...messages import PayloadError
from .returns import ReturnNode
from .schema import read_return
from .sdk import Node, Payload, ProcessingNode
from .sink import BetaSink


class SinkHook:
    """What qmtl calls with each return: the ``event_service`` of a sink node.

    qmtl calls it before it looks for gaps, warm-up or lateness, so every return gets
    here; and it never raises, so none stops the strategy.
    """

    def __init__(self, sink: BetaSink, slot: int) -> None:
        self.node: Node | None = None
        """Whose hook it is; tells world and domain."""
        self._sink = sink
        self._slot = slot

    def record(
        self,
        node_id: str,  # noqa: ARG002 - qmtl's signature
        interval: int,  # noqa: ARG002
        timestamp: int,  # noqa: ARG002 - the payload has the bar's own
        payload: Payload,
    ) -> None:
        """Hand one return payload over."""
        try:
            read = read_return(payload)
        except PayloadError as error:
            self._sink.refuse("malformed", error)
            return
        if self.node is not None:
            self._sink.observe(
                self.node.compute_context, read.ts, self._slot, read.period_return
            )


def beta_sink_node(returns: ReturnNode, sink: BetaSink) -> ProcessingNode:
    """Return a node that sends a return node's results to a sidecar.

    Parameters
    ----------
    returns
        From `asset_return_node` or `benchmark_return_node`.
    sink
        Where they go; one for the whole strategy.
    """
    slot = sink.slot_of(returns.symbol, is_benchmark=returns.is_benchmark)
    hook = SinkHook(sink, slot)
    role = "benchmark" if returns.is_benchmark else "asset"
    hook.node = ProcessingNode(
        input=returns,
        compute_fn=None,
        name=f"beta_sink_{returns.symbol}",
        interval=returns.interval,
        period=1,
        tags=["beta_sink"],
        config={"role": "beta_sink", "of": role, "symbol": returns.symbol},
        event_service=hook,
    )
    return hook.node
