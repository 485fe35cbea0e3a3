"""The board: what readers see is what was published, of one moment, from a live writer.

The oracle is the publishers' own last values, which subscribers get as a snapshot.
"""
# pyright: reportPrivateUsage=false

import fcntl
import stat
import sys
from collections.abc import Callable, Iterator
from math import inf, isnan, nan
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory import Board, StaleBoardError
from beta_factory.actors import (
    BetaColumns,
    BetaFactory,
    BetaRows,
    Factor,
    MarketBetaConfig,
)
from beta_factory.actors.rows import BetaRow
from beta_factory.messages import (
    BenchmarkReturnObserved,
    BoardFormatError,
    ConfigError,
    Message,
    NotOnBoardError,
    ReturnObserved,
    beta_topic,
)
from beta_factory.runtime import board as board_module
from beta_factory.runtime.board_layout import (
    COLUMNS,
    PAGE_BYTES,
    VERSION,
    Directory,
    build,
    page_bytes,
)
from beta_factory.runtime.board_writer import BoardWriter
from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.fence import full_fence

SYMBOLS = tuple(f"S{i:02d}" for i in range(20))
MODEL = MarketBetaConfig(8, 3, allowed_lateness=2)
SECOND_NS = 10**9


class Desk:
    """A factory, its board's writer, and the clock of everybody."""

    def __init__(self, path: Path, symbols: tuple[str, ...] = SYMBOLS) -> None:
        self.path = path
        self.clock = ReplayClock(100 * SECOND_NS)
        self.factory = BetaFactory(
            symbols,
            factors=[Factor("SPY", model=MODEL), Factor("QQQ", "growth", model=MODEL)],
        )
        self.writer = self.open_writer()

    def open_writer(self, instance: str = "first") -> BoardWriter:
        return BoardWriter(
            str(self.path), self.factory, instance=instance, clock=self.clock
        )

    def board(self) -> Board:
        return Board(self.path, clock=self.clock)

    def turn(self, *messages: Message) -> None:
        for message in messages:
            behavior = self.factory.route(message)
            assert behavior is not None
            behavior.receive(message)
        self.writer.write(self.factory.commit())

    def pass_s(self, seconds: float) -> None:
        self.clock.set(self.clock.time_ns() + round(seconds * SECOND_NS))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "board")
    yield desk
    desk.writer.close()


def bench(ts_event: int, value: float, name: str = "SPY") -> BenchmarkReturnObserved:
    return BenchmarkReturnObserved(
        benchmark=name, ts_event=ts_event, period_return=value, ts_init=ts_event + 1
    )


def asset(symbol: str, ts_event: int, value: float) -> ReturnObserved:
    return ReturnObserved(
        symbol=symbol, ts_event=ts_event, period_return=value, ts_init=ts_event + 2
    )


def bars(n_bars: int, first: int = 1) -> Iterator[list[Message]]:
    """Yield complete bars, assets before their benchmark: each one whole turn."""
    rng = np.random.default_rng(first)
    for ts_event in range(first, first + n_bars):
        market = float(rng.normal())
        values = (market * np.arange(len(SYMBOLS)) + rng.normal(size=20)).tolist()
        yield [
            *[asset(s, ts_event, v) for s, v in zip(SYMBOLS, values, strict=True)],
            bench(ts_event, market),
        ]


# What is read is what was published

messages = st.one_of(
    st.builds(
        bench,
        st.integers(1, 12),
        st.floats(-1, 1),
        st.sampled_from(["SPY", "QQQ"]),
    ),
    st.builds(asset, st.sampled_from(SYMBOLS), st.integers(1, 12), st.floats(-1, 1)),
    st.integers(1, 12),  # a whole bar
)


@given(st.lists(st.lists(messages, max_size=30), max_size=12))
def test_every_row_is_the_publishers_last_value(
    tmp_path_factory: pytest.TempPathFactory, turns: list[list[Message | int]]
) -> None:
    desk = Desk(tmp_path_factory.mktemp("board") / "board")
    with desk.writer, desk.board() as board:
        for turn in turns:
            for item in turn:
                if isinstance(item, int):
                    for whole in bars(1, item):
                        desk.turn(*whole)
                else:
                    desk.turn(item)
        for publisher in desk.factory.publishers:
            columns = board.columns(publisher.factor)
            for row, symbol in enumerate(desk.factory.symbols):
                topic = beta_topic(publisher.factor, symbol)
                wanted = desk.factory.latest(topic)
                assert board.read(symbol, publisher.factor) == wanted
                beta = nan if wanted is None or wanted.beta is None else wanted.beta
                shown = board.beta(symbol, publisher.factor)
                assert shown == beta or (isnan(shown) and isnan(beta))
                for name in COLUMNS:
                    value = None if wanted is None else getattr(wanted, name)
                    cell = getattr(columns, name)[row]
                    if value is None:
                        assert isnan(cell) or (wanted is None and cell == 0), name
                    else:
                        assert cell == value, name


def test_a_lookup_is_the_first_factors_beta(desk: Desk) -> None:
    for bar in bars(10):
        desk.turn(*bar)
    with desk.board() as board:
        for symbol in SYMBOLS:
            update = desk.factory.latest(beta_topic("market", symbol))
            assert update is not None
            assert board[symbol] == board.beta(symbol, "market") == update.beta
            assert isnan(board.beta(symbol, "growth"))
            assert board.read(symbol, "growth") is None


@pytest.mark.parametrize("n_symbols", [1, 7, 8, 16, 17])
def test_a_whole_turn_is_shown_whether_or_not_its_columns_touch(
    tmp_path: Path, n_symbols: int
) -> None:
    desk = Desk(tmp_path / "board", SYMBOLS[:n_symbols])
    for bar in bars(10):
        desk.turn(
            *[m for m in bar if getattr(m, "symbol", "S00") in SYMBOLS[:n_symbols]]
        )
    publisher = desk.factory.publishers[0]
    with desk.writer, desk.board() as board:
        assert publisher.last_seq == 10 * n_symbols
        for row, symbol in enumerate(desk.factory.symbols):
            assert board.read(symbol) == publisher.last_value(row)


def test_a_reader_of_one_symbol_reads_what_a_lookup_does(desk: Desk) -> None:
    with desk.board() as board:
        readers = {
            (symbol, factor): board.reader(symbol, factor)
            for symbol in SYMBOLS
            for factor in ("market", "growth")
        }
        by_default = board.reader("S03")
        for bar in bars(10):
            desk.turn(*bar)
            for (symbol, factor), read in readers.items():
                wanted = board.beta(symbol, factor)
                assert read() == wanted or isnan(wanted)
            assert by_default() == board["S03"] or isnan(board["S03"])
        assert not isnan(by_default())


def test_a_reader_goes_on_with_the_board_that_was_opened_again(desk: Desk) -> None:
    for bar in bars(10):
        desk.turn(*bar)
    with desk.board() as board:
        read = board.reader("S05")
        before = read()
        fcntl.flock(desk.writer._file, fcntl.LOCK_UN)
        # The other one has its rows elsewhere, and lost a symbol.
        other = Desk(desk.path, SYMBOLS[2:])
        with pytest.raises(StaleBoardError, match="replaced"):
            read()
        board.reopen()
        assert isnan(read())
        for bar in bars(10):
            other.turn(*bar[2:])
        assert read() == before == board["S05"]
        other.writer.close()


def test_a_reader_of_a_symbol_that_is_gone_says_so(desk: Desk) -> None:
    with desk.board() as board:
        read = board.reader("S00")
        fcntl.flock(desk.writer._file, fcntl.LOCK_UN)
        other = Desk(desk.path, SYMBOLS[2:])
        board.reopen()
        for _ in range(2):
            with pytest.raises(NotOnBoardError, match="has no symbol 'S00'"):
                read()
        other.writer.close()


def test_a_column_is_a_copy_that_does_not_move(desk: Desk) -> None:
    whole, more = list(bars(10)), list(bars(1, 11))
    for bar in whole:
        desk.turn(*bar)
    with desk.board() as board:
        taken = {name: board.column(name) for name in COLUMNS}
        before = {name: column.copy() for name, column in taken.items()}
        desk.turn(*more[0])
        for name, column in taken.items():
            np.testing.assert_array_equal(column, before[name])
        assert (board.column("seq") == before["seq"] + len(SYMBOLS)).all()
        assert (board.column("ts_event") == 11).all()
        assert (board.column("beta") != before["beta"]).all()


def test_a_single_return_after_a_whole_turn_has_its_own_stamps(desk: Desk) -> None:
    for bar in bars(10):
        desk.turn(*bar)
    desk.turn(bench(11, 0.5))
    desk.turn(asset("S03", 11, 0.1))
    with desk.board() as board:
        stamps = board.column("ts_event").tolist()
        assert stamps == [11 if symbol == "S03" else 10 for symbol in SYMBOLS]
        assert board.column("seq").max() == board.column("seq")[3]


@pytest.mark.parametrize("as_columns", [False, True])
def test_what_one_row_changed_the_same_turn_puts_back(
    desk: Desk, *, as_columns: bool
) -> None:
    """A column that stands still from turn to turn is written where it does not."""
    *whole, last = bars(10)
    for bar in whole:
        desk.turn(*bar)
    for message in last:
        behavior = desk.factory.route(message)
        assert behavior is not None
        behavior.receive(message)
    (updates,) = desk.factory.commit()
    assert isinstance(updates, BetaColumns)
    row = BetaRow(3, 7, (0.5, 0.5, 0.5, 0.5, 0.5, 0.5), 1, 2, 4, 99, 98)
    other = BetaRows("market", "SPY", SYMBOLS, 97, [row], first_seq=300)
    names = ("n_obs", "status", "reason", "revision")
    with desk.board() as board:
        desk.writer.write([updates])
        desk.writer.write([other.to_columns() if as_columns else other])
        assert [board.column(name)[3] for name in names] == [7, 1, 2, 4]
        updates.first_seq = 400
        desk.writer.write([updates])
        for name in names:
            assert board.column(name).tolist() == getattr(updates, name).tolist()


# What a reader is told of its writer


def test_a_silent_writer_is_dead_after_its_bound_and_not_before(desk: Desk) -> None:
    with desk.board() as board:
        desk.pass_s(1.0)
        board["S00"]
        desk.pass_s(0.001)
        assert not board.is_alive
        reads: list[Callable[[], object]] = [
            lambda: board["S00"],
            lambda: board.beta("S00"),
            board.reader("S00"),
            lambda: board.read("S00"),
            board.columns,
            lambda: board.column("beta"),
        ]
        for read in reads:
            with pytest.raises(StaleBoardError, match="dead writer") as caught:
                read()
            assert caught.value.age_s == pytest.approx(1.001)
        desk.writer.beat()
        assert board.heartbeat_age_s == 0.0
        board["S00"]


def test_a_closed_board_says_so_at_once_and_is_gone(desk: Desk) -> None:
    with desk.board() as board:
        desk.writer.close()
        with pytest.raises(StaleBoardError, match="closed by its writer") as caught:
            board["S00"]
        assert caught.value.age_s == inf
        with pytest.raises(FileNotFoundError):
            board.reopen()
    assert list(desk.path.parent.iterdir()) == []


def test_a_new_writer_replaces_a_dead_ones_board(desk: Desk) -> None:
    for bar in bars(10):
        desk.turn(*bar)
    with desk.board() as board:
        # As the end of its process does.
        fcntl.flock(desk.writer._file, fcntl.LOCK_UN)
        second = desk.open_writer("second")
        with pytest.raises(StaleBoardError, match="replaced"):
            board["S00"]
        assert board.instance == "first"
        board.reopen()
        assert board.instance == "second"
        assert isnan(board["S00"])
        second.close()


def test_a_dead_writer_whose_file_was_swapped_counts_as_replaced(desk: Desk) -> None:
    with desk.board() as board:
        other = desk.path.with_name("other")
        other.write_bytes(b"")
        other.replace(desk.path)
        desk.pass_s(2)
        with pytest.raises(StaleBoardError, match="replaced"):
            board["S00"]


def test_a_turn_that_is_never_finished_is_not_read(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bar in bars(10):
        desk.turn(*bar)
    with desk.board() as board:
        desk.writer._pages["market"]._head[0] += 1

        def pass_time() -> None:  # a heart that beats over a turn that never ends
            desk.pass_s(0.1)
            desk.writer.beat()

        monkeypatch.setattr("os.sched_yield", pass_time)
        reads: list[Callable[[], object]] = [
            lambda: board["S00"],
            board.reader("S00"),
            board.columns,
        ]
        for read in reads:
            with pytest.raises(StaleBoardError, match="never quiet"):
                read()


def test_a_value_read_across_a_turn_is_read_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(bars(10))
    for bar in whole[:-1]:
        desk.turn(*bar)
    calls = 0

    def turn_in_between() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:  # after the loads, before the second look at the turn
            desk.turn(*whole[-1])

    with desk.board() as board:
        monkeypatch.setattr(board_module, "fence", turn_in_between)
        update = board.read("S05")
        assert calls == 4
        assert update is not None
        assert update.ts_event == 10


def test_a_closed_reader_reads_no_more(desk: Desk) -> None:
    board = desk.board()
    read = board.reader("S00")
    board.close()
    with pytest.raises(StaleBoardError, match="closed by its reader"):
        board["S00"]
    for _ in range(2):
        with pytest.raises(StaleBoardError, match="closed by its reader"):
            read()


@pytest.mark.parametrize("is_ordered", [True, False])
def test_where_loads_need_fences_lookups_are_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, *, is_ordered: bool
) -> None:
    monkeypatch.setattr(board_module, "IS_ORDERED", is_ordered)
    monkeypatch.setattr(board_module, "fence", full_fence)
    for bar in bars(10):
        desk.turn(*bar)
    update = desk.factory.latest("beta.market.S07")
    assert update is not None
    with desk.board() as board:
        assert board["S07"] == board.reader("S07")() == update.beta


# What nobody may do


def test_a_reader_cannot_write(desk: Desk) -> None:
    with desk.board() as board:
        page = board._pages["market"]
        assert not page.memory.flags.writeable
        assert not any(column.flags.writeable for column in page.columns.values())
        for view in (page.head, page.betas, board._heartbeat, board._state):
            assert view.readonly
            with pytest.raises(TypeError, match="read-only"):
                view[0] = 1


def test_only_its_user_may_open_it(desk: Desk) -> None:
    assert stat.S_IMODE(desk.path.stat().st_mode) == 0o600


def test_a_live_writers_board_is_not_taken(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="another live sidecar writes it"):
        desk.open_writer("second")
    with desk.board() as board:
        assert board.instance == "first"


@pytest.mark.parametrize("content", [b"", b"a note to myself"])
def test_a_file_that_is_no_board_is_neither_replaced_nor_read(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "notes"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="exists and is not a board"):
        Desk(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(BoardFormatError, match="is not a board"):
        Board(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "board"
    with pytest.raises(ConfigError, match=r"board\.path: .*No such file"):
        Desk(path)


MISSING: list[tuple[Callable[[Board], object], str]] = [
    (lambda board: board["ZZZ"], "has no symbol 'ZZZ'"),
    (lambda board: board.beta("ZZZ"), "has no symbol 'ZZZ'"),
    (lambda board: board.reader("ZZZ"), "has no symbol 'ZZZ'"),
    (lambda board: board.reader("S00", "value"), "has no factor 'value'"),
    (lambda board: board.read("S00", "value"), "has no factor 'value'"),
    (lambda board: board.columns("value"), "has no factor 'value'"),
    (lambda board: board.column("gamma"), "has no column 'gamma'"),
]


@pytest.mark.parametrize(("read", "text"), MISSING)
def test_what_it_does_not_hold_is_named(
    desk: Desk, read: Callable[[Board], object], text: str
) -> None:
    with desk.board() as board, pytest.raises(NotOnBoardError, match=text):
        read(board)


# The layout


def test_the_layout_is_frozen() -> None:
    directory = Directory("run", ("A", "B", "C"), (("market", "SPY"), ("g", "QQQ")))
    content = build(directory, 12.5, 0.75)
    listing = msgspec.msgpack.encode(
        ["run", ["A", "B", "C"], [["market", "SPY"], ["g", "QQQ"]]]
    )
    assert content[:8] == b"BETABRD\0"
    assert content[8:12] == VERSION.to_bytes(4, sys.byteorder)
    assert content[12:16] == len(listing).to_bytes(4, sys.byteorder)
    assert np.frombuffer(content, "f8", 2, 16).tolist() == [12.5, 0.75]
    assert content[32:64] == bytes(32)
    assert content[64 : 64 + len(listing)] == listing
    assert len(content) == PAGE_BYTES + 2 * page_bytes(3) == 3 * PAGE_BYTES
    for page in (content[4096:8192], content[8192:]):
        assert page[:64] == bytes(64)
        for column in range(6):
            beta = np.frombuffer(page, "f8", 3, 64 + 64 * column)
            assert np.isnan(beta).all()
        assert not any(page[64 + 64 * 6 :])
    assert list(COLUMNS) == [
        *("beta", "alpha", "std_error", "t_stat", "r_squared", "residual_std"),
        *("n_obs", "status", "reason", "revision"),
        *("seq", "ts_event", "window_start", "ts_init"),
    ]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (8, "layout version must be 1, was 255"),
        (64, "directory: "),
        (12, "directory: |must have"),
    ],
)
def test_a_damaged_head_is_refused(desk: Desk, place: int, reason: str) -> None:
    content = bytearray(desk.path.read_bytes())
    content[place] = 255
    damaged = desk.path.with_name("damaged")
    damaged.write_bytes(content)
    with pytest.raises(BoardFormatError, match=reason):
        Board(damaged)


def test_half_a_file_is_refused(desk: Desk) -> None:
    half = desk.path.with_name("half")
    half.write_bytes(desk.path.read_bytes()[:-PAGE_BYTES])
    with pytest.raises(BoardFormatError, match="must have"):
        Board(half)
