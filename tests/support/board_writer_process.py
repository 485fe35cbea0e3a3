"""A process that hammers a board with rows whose cells all say the same number.

``python board_writer_process.py PATH N_SYMBOLS BOUND_S``: writes whole turns, partial
turns and single rows without end, each cell of a row made from its ``seq``, and prints
one line when it has begun. A reader that sees cells of one row disagree has seen half
a turn.
"""

import sys
import time
from itertools import count

import numpy as np

from beta_factory.actors import BetaColumns, BetaFactory, BetaRows, MarketBetaConfig
from beta_factory.actors.rows import BetaRow
from beta_factory.runtime.board_writer import BoardWriter
from beta_factory.runtime.clock import LiveClock


def columns(
    symbols: tuple[str, ...],
    rows: "np.ndarray[tuple[int], np.dtype[np.intp]]",
    seq: int,
) -> BetaColumns:
    """Return a turn of some rows, numbered from ``seq``, that all say ``seq``."""
    k = len(rows)
    return BetaColumns(
        factor="market",
        benchmark="SPY",
        symbols=symbols,
        rows=rows,
        ts_event=seq,
        numbers=np.full((6, k), float(seq)),
        n_obs=np.full(k, seq, dtype=np.int32),
        window_start=np.array([seq]),
        status=np.full(k, seq % 8, dtype=np.uint8),
        reason=np.full(k, seq % 10, dtype=np.uint8),
        revision=np.full(k, seq, dtype=np.int32),
        ts_init=np.array([seq]),
        first_seq=seq,
    )


def single(symbols: tuple[str, ...], row: int, seq: int) -> BetaRows:
    """Return a turn of one row that says ``seq``."""
    number = float(seq)
    numbers = (number, number, number, number, number, number)
    update = BetaRow(row, seq, numbers, seq % 8, seq % 10, seq, seq, seq)
    return BetaRows("market", "SPY", symbols, seq, [update], first_seq=seq)


def main() -> None:
    """Write until killed."""
    path, n_symbols, bound_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    symbols = tuple(f"S{i:04d}" for i in range(n_symbols))
    factory = BetaFactory(symbols, benchmark="SPY", config=MarketBetaConfig(10, 3))
    writer = BoardWriter(
        path,
        factory,
        instance="hammer",
        clock=LiveClock(),
        heartbeat_bound_s=bound_s,
    )
    everything = np.arange(n_symbols)
    odd = everything[1::2].copy()
    seq = 1
    for turn in count():
        match turn % 3:
            case 0:
                writer.write([columns(symbols, everything, seq)])
                seq += n_symbols
            case 1:
                writer.write([columns(symbols, odd, seq)])
                seq += len(odd)
            case _:
                writer.write([single(symbols, turn % n_symbols, seq)])
                seq += 1
        if not turn:
            sys.stdout.write("writing\n")
            sys.stdout.flush()
        if not turn % 64:
            writer.beat()
            time.sleep(0)  # two cores, and somebody has to read
        seq %= 2**30


if __name__ == "__main__":
    main()
