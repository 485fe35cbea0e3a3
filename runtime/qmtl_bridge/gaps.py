"""A processing node that computes after a session gap, too.

qmtl marks a bar that does not follow its predecessor by exactly one interval as
missing, and a node whose newest bar is marked does not compute: on daily bars no node
sees a Monday, and a chain of two loses most Tuesdays as well. There is no setting.
`GapTolerantNode` overrides the public `feed`: a bar that is newer than the newest one
is computed, whatever lies between. Everything else that qmtl holds back (warm-up, a
late bar under ``on_late="ignore"``, a second message for one bar) stays held back.
"""

from .sdk import Payload, ProcessingNode


class GapTolerantNode(ProcessingNode):
    """A `ProcessingNode` for sessions: nights, weekends and holidays are no gaps.

    Takes what `ProcessingNode` takes. ``on_missing`` of `feed` has no effect.
    """

    def feed(
        self,
        upstream_id: str,
        interval: int,
        timestamp: int,
        payload: Payload,
        *,
        on_missing: str = "skip",  # noqa: ARG002 - a gap is never missing here
    ) -> bool:
        """Take one bar; return whether the node computes."""
        newest = self.cache.last_timestamps().get(upstream_id, {}).get(interval)
        if super().feed(upstream_id, interval, timestamp, payload, on_missing="skip"):
            return True
        if self.pre_warmup or self.compute_fn is None or newest is None:
            return False
        return timestamp - timestamp % interval > newest
