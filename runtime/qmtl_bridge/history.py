"""Histories for backtests: price frames, and recorded betas.

Rule: one provider may serve many inputs. qmtl tells it each one (`bind_stream`), and
asks by node id later; the input's ``config`` says which symbol it wants.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...messages import BetaUpdated, ConfigError
from ..clock import Clock
from .padding import PaddedHistory
from .schema import NS_PER_S, beta_payload, read_beta

if TYPE_CHECKING:
    import polars as pl

_READERS: Final = {
    ".parquet": "read_parquet",
    ".csv": "read_csv",
    ".jsonl": "read_ndjson",
}


class FrameHistory(PaddedHistory):
    """Prices by symbol, from frames.

    Parameters
    ----------
    frames
        By symbol: a polars frame with ``ts``, integer seconds, and one column per
        field of the payload. Sorted here.
    clock
        What time it is; the machine's by default.
    """

    def __init__(
        self, frames: "Mapping[str, pl.DataFrame]", *, clock: Clock | None = None
    ) -> None:
        super().__init__(clock=clock)
        self._frames: dict[str, pl.DataFrame] = {
            symbol: frame.sort("ts") for symbol, frame in frames.items()
        }
        self._symbols: dict[str, str] = {}

    def bind_stream(self, stream: Any) -> None:  # noqa: ANN401 - a StreamInput
        """Remember which symbol an input wants.

        Raises
        ------
        ConfigError
            When its ``config`` names no symbol, or one without a frame.
        """
        symbol = stream.config.get("symbol")
        if symbol not in self._frames:
            known = ", ".join(sorted(self._frames)[:10])
            reason = f"must name one of {known}, was {symbol!r}"
            raise ConfigError([("config.symbol", reason)])
        self._symbols[stream.node_id] = symbol

    async def fetch(
        self,
        start: int,
        end: int,
        *,
        node_id: str,
        interval: int,  # noqa: ARG002 - the frame has one
    ) -> "pl.DataFrame":
        """Return the rows of the input's symbol in ``[start, end)``."""
        import polars as pl  # noqa: PLC0415 - comes with qmtl

        frame = self._frames[self._symbols[node_id]]
        return frame.filter((pl.col("ts") >= start) & (pl.col("ts") < end))


class BetaHistory(PaddedHistory):
    """Recorded betas, for `BetaInput` in a backtest.

    Parameters
    ----------
    updates
        What a sidecar or a replay published, in that order.
    clock
        What time it is; the machine's by default.

    Notes
    -----
    Of several updates of one bar the last counts: what was known when the bar ended.
    """

    def __init__(
        self, updates: Iterable[BetaUpdated], *, clock: Clock | None = None
    ) -> None:
        super().__init__(clock=clock)
        by_topic: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
        for update in updates:
            rows = by_topic.setdefault((update.factor, update.symbol), {})
            rows[update.ts_event // NS_PER_S] = beta_payload(update)
        self._rows = by_topic
        self._topics: dict[str, tuple[str, str]] = {}

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], *, clock: Clock | None = None
    ) -> "BetaHistory":
        """Read a file that `UpdateWriter` wrote: ``.parquet``, ``.csv``, ``.jsonl``.

        Raises
        ------
        ConfigError
            When the suffix is none of these.
        PayloadError
            When a row is no update.
        """
        return cls(read_updates(path), clock=clock)

    @property
    def topics(self) -> tuple[tuple[str, str], ...]:
        """(factor, symbol) of everything that was recorded."""
        return tuple(sorted(self._rows))

    def bind_stream(self, stream: Any) -> None:  # noqa: ANN401 - a StreamInput
        """Remember which symbol and factor an input wants."""
        config = stream.config
        self._topics[stream.node_id] = (config.get("factor"), config.get("symbol"))

    async def fetch(
        self,
        start: int,
        end: int,
        *,
        node_id: str,
        interval: int,
    ) -> "pl.DataFrame":
        """Return the input's updates in ``[start, end)``, one per bar."""
        import polars as pl  # noqa: PLC0415 - comes with qmtl

        rows = self._rows.get(self._topics[node_id], {})
        by_bar = {ts - ts % interval: rows[ts] for ts in sorted(rows)}
        kept = [{**row, "ts": ts} for ts, row in by_bar.items() if start <= ts < end]
        if not kept:
            return pl.DataFrame(schema={"ts": pl.Int64})
        return pl.DataFrame(kept, infer_schema_length=None)


def read_updates(path: str | os.PathLike[str]) -> list[BetaUpdated]:
    """Read every update of a recording, in its order.

    Raises
    ------
    ConfigError
        When the suffix is none of ``.parquet``, ``.csv`` and ``.jsonl``.
    PayloadError
        When a row is no update.
    """
    import polars as pl  # noqa: PLC0415 - comes with qmtl

    name = _READERS.get(Path(path).suffix.lower())
    if name is None:
        reason = f"must end in one of {', '.join(_READERS)}"
        raise ConfigError([(os.fspath(path), reason)])
    options = {"infer_schema_length": None} if name != "read_parquet" else {}
    frame: pl.DataFrame = getattr(pl, name)(path, **options)
    numbers = [c for c in _NUMBERS if c in frame.columns]
    # "inf" is text in JSON lines, and a column without a number has no type.
    frame = frame.with_columns(pl.col(numbers).cast(pl.Float64))
    return [
        read_beta({**row, "ts": row.get("ts_event", 0) // NS_PER_S})
        for row in frame.iter_rows(named=True)
    ]


_NUMBERS: Final = ("beta", "alpha", "std_error", "t_stat", "r_squared", "residual_std")
