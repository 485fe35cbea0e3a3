"""History whose coverage does not make qmtl wait.

qmtl asks a provider what it covers, and while that is less than the window up to now it
polls without sleeping, for sixty seconds per input: every weekend, on daily bars. It
also takes the end of the coverage for the end of what it fetches, and fetches without
it: the last bar never arrives. A coverage that reaches one interval beyond now mends
both, and claims nothing that matters: what is not there is simply not in the frame.
"""

from ..clock import Clock, LiveClock
from .schema import NS_PER_S
from .sdk import HistoryProvider


class PaddedHistory(HistoryProvider):
    """A provider whose coverage is everything up to and including now.

    Parameters
    ----------
    inner
        Who has the rows: any qmtl `HistoryProvider`. Subclasses have their own and
        pass none.
    clock
        What time it is; the machine's by default.
    """

    def __init__(
        self, inner: HistoryProvider | None = None, *, clock: Clock | None = None
    ) -> None:
        self._inner = inner
        self._clock = clock or LiveClock()

    def bind_stream(self, stream: object) -> None:
        """Pass a stream on to whoever has its rows."""
        if self._inner is not None:
            self._inner.bind_stream(stream)

    async def fetch(
        self, start: int, end: int, *, node_id: str, interval: int
    ) -> object:
        """Return the rows in ``[start, end)``."""
        if self._inner is None:
            raise NotImplementedError("a subclass without inner has its own fetch")
        return await self._inner.fetch(start, end, node_id=node_id, interval=interval)

    async def coverage(self, *, node_id: str, interval: int) -> list[tuple[int, int]]:  # noqa: ARG002 - the same for all
        """Return one range, to the bar after the present one."""
        now_s = self._clock.time_ns() // NS_PER_S
        return [(0, now_s - now_s % interval + interval)]

    async def ensure_range(
        self, start: int, end: int, *, node_id: str, interval: int
    ) -> None:
        """Do nothing: there is nowhere to get more from."""

    async def fill_missing(
        self, start: int, end: int, *, node_id: str, interval: int
    ) -> None:
        """Do nothing: there is nowhere to get more from."""
