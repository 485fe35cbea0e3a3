"""Columns, and the rows that can be made of them, here and at the other end."""

from math import inf, nan
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors import columns as columns_module
from beta_factory.actors.columns import BetaColumns
from beta_factory.messages import (
    BetasUpdated,
    BetaUpdated,
    MalformedMessageError,
    Reason,
    Status,
    decode,
    encode,
)
from beta_factory.messages.fields import MAX_TS_NS
from strategies import examples, seeds, wire

NAMES = ("AAPL", "BAC", "BRK.B", "BTC/USDT", "IBM")
TABLE = 3

COLUMNS = tuple(
    field
    for field, kind in BetasUpdated.__annotations__.items()
    if kind is bytes or kind == "bytes"
)


@st.composite
def beta_columns(draw: st.DrawFn, *, min_rows: int = 0) -> BetaColumns:
    """Columns of some symbols, in any order, as a publisher numbers them."""
    n_symbols = draw(st.integers(max(1, min_rows), len(NAMES)))
    k = draw(st.integers(min_rows, n_symbols))
    rng = np.random.default_rng(draw(seeds))
    rows = rng.permutation(n_symbols)[:k]
    if draw(st.booleans()):
        rows = np.sort(rows)
    numbers = rng.normal(size=(6, k))
    numbers[rng.random((6, k)) < 0.3] = nan
    numbers[rng.random((6, k)) < 0.1] = inf
    shared_start, shared_init, consecutive = (draw(st.booleans()) for _ in range(3))
    steps = np.ones(k, dtype=np.int64) if consecutive else rng.integers(1, 4, k)
    return BetaColumns(
        factor="market",
        benchmark="SPY",
        symbols=NAMES[:n_symbols],
        rows=rows,
        ts_event=draw(st.integers(0, MAX_TS_NS)),
        numbers=numbers,
        n_obs=rng.integers(0, 2**31, k).astype(np.int32),
        window_start=rng.integers(0, 2**62, 1 if shared_start else k),
        status=rng.integers(0, len(Status), k).astype(np.uint8),
        reason=rng.integers(0, len(Reason), k).astype(np.uint8),
        revision=rng.integers(0, 9, k).astype(np.int32),
        ts_init=rng.integers(0, 2**62, 1 if shared_init else k),
        seqs=int(rng.integers(0, 2**40)) + np.cumsum(steps),
        conflated=draw(st.none() | st.just(rng.integers(0, 9, k).astype(np.int32))),
        n_eff=draw(st.none() | st.just(np.where(rng.random(k) < 0.3, nan, 30.5))),
    )


def rows_of(message: BetasUpdated, symbols: tuple[str, ...]) -> list[BetaUpdated]:
    """Return the rows of a message, the same with arrays and without."""
    outcomes: list[list[BetaUpdated] | MalformedMessageError] = []
    for few in (0, len(NAMES)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(columns_module, "FEW_ROWS", few)
            try:
                outcomes.append(columns_module.rows_of(message, symbols))
            except MalformedMessageError as error:
                outcomes.append(error)
    many, few_rows = outcomes
    if isinstance(many, MalformedMessageError):
        assert isinstance(few_rows, MalformedMessageError)
        raise many
    assert not isinstance(few_rows, MalformedMessageError)
    assert wire(few_rows) == wire(many)
    return many


def sent(columns: BetaColumns, table: int | None = None) -> BetasUpdated:
    """Return the columnar message as the other end receives it."""
    message = decode(encode(columns.as_columns(table)))
    assert type(message) is BetasUpdated
    return message


def through_the_wire(columns: BetaColumns, table: int | None) -> list[BetaUpdated]:
    message = sent(columns, table)
    if isinstance(message.symbols, tuple):
        return rows_of(message, message.symbols)
    assert message.symbols == table
    return rows_of(message, columns.symbols)


class TestRoundTrip:
    """As columns or as rows: the same updates."""

    @examples(133)
    @given(beta_columns(min_rows=1), st.sampled_from([None, TABLE]))
    def test_columns_through_the_wire_are_the_rows(
        self, columns: BetaColumns, table: int | None
    ) -> None:
        rows = columns.as_rows()
        assert wire(through_the_wire(columns, table)) == wire(rows)
        assert [decode(encode(row)) for row in rows] == rows

    @examples(67)
    @given(
        beta_columns(min_rows=1),
        st.lists(st.booleans(), min_size=len(NAMES), max_size=len(NAMES)),
        st.sampled_from([None, TABLE]),
    )
    def test_a_selection_is_the_wanted_rows_in_both_forms(
        self, columns: BetaColumns, mask: list[bool], table: int | None
    ) -> None:
        wanted = np.array(mask[: len(columns.symbols)])
        selected = columns.select(wanted)
        expected = [
            row
            for row in columns.as_rows()
            if wanted[columns.symbols.index(row.symbol)]
        ]
        assert wire(selected.as_rows()) == wire(expected)
        assert len(selected) == len(expected)
        if expected:
            assert wire(through_the_wire(selected, table)) == wire(expected)

    @examples(133)
    @given(beta_columns())
    def test_rows_made_without_messages_have_the_same_bytes(
        self, columns: BetaColumns
    ) -> None:
        assert [encode(array) for array in columns.as_arrays()] == [
            encode(row) for row in columns.as_rows()
        ]

    @examples(20)
    @given(beta_columns())
    def test_choosing_all_costs_nothing(self, columns: BetaColumns) -> None:
        everything = np.ones(len(columns.symbols), dtype=np.bool_)
        assert columns.select(everything) is columns

    @pytest.mark.parametrize("table", [None, TABLE])
    def test_no_rows_are_no_rows_at_the_other_end(self, table: int | None) -> None:
        columns = a_message_of(2).select(np.zeros(2, dtype=np.bool_))
        assert columns.as_rows() == []
        assert through_the_wire(columns, table) == []


def a_message_of(k: int) -> BetaColumns:
    """Return plain columns of the first k names."""
    return BetaColumns(
        factor="market",
        benchmark="SPY",
        symbols=NAMES[:k],
        rows=np.arange(k),
        ts_event=1000,
        numbers=np.arange(6.0 * k).reshape(6, k),
        n_obs=np.full(k, 30, dtype=np.int32),
        window_start=np.array([500]),
        status=np.full(k, Status.OK, dtype=np.uint8),
        reason=np.zeros(k, dtype=np.uint8),
        revision=np.zeros(k, dtype=np.int32),
        ts_init=np.array([1001]),
        first_seq=7,
    )


class TestForm:
    """What is left out of a frame is what the reader can fill in."""

    def test_a_row_is_its_column(self) -> None:
        assert a_message_of(2).as_rows()[1] == BetaUpdated(
            factor="market",
            symbol="BAC",
            benchmark="SPY",
            ts_event=1000,
            beta=1.0,
            alpha=3.0,
            std_error=5.0,
            t_stat=7.0,
            r_squared=9.0,
            residual_std=11.0,
            n_obs=30,
            window_start=500,
            status=Status.OK,
            reason=Reason.NONE,
            revision=0,
            seq=8,
            ts_init=1001,
        )

    @pytest.mark.parametrize(
        ("value", "number"), [(nan, None), (inf, inf), (-inf, -inf), (0.0, 0.0)]
    )
    def test_an_undefined_number_is_none(
        self, value: float, number: float | None
    ) -> None:
        columns = a_message_of(1)
        columns.numbers[:] = value
        (row,) = columns.as_rows()
        assert [row.beta, row.alpha, row.std_error] == [number] * 3
        assert [row.t_stat, row.r_squared, row.residual_std] == [number] * 3

    def test_the_whole_universe_needs_no_rows(self) -> None:
        message = sent(a_message_of(3), TABLE)
        assert (message.symbols, message.rows) == (TABLE, b"")
        assert sent(a_message_of(3)).symbols == NAMES[:3]

    def test_rows_of_a_table_are_named_by_their_positions(self) -> None:
        columns = a_message_of(3).select(np.array([False, True, True]))
        message = sent(columns, TABLE)
        assert np.frombuffer(message.rows, "<i4").tolist() == [1, 2]

    def test_without_a_table_only_the_rows_own_symbols_are_named(self) -> None:
        columns = a_message_of(3).select(np.array([True, False, True]))
        message = sent(columns)
        assert (message.symbols, message.rows) == (("AAPL", "BRK.B"), b"")

    def test_all_symbols_in_another_order_are_not_the_whole_table(self) -> None:
        columns = a_message_of(3)
        columns.rows = columns.rows[::-1]
        assert wire(through_the_wire(columns, TABLE)) == wire(columns.as_rows())
        assert sent(columns).symbols == ("BRK.B", "BAC", "AAPL")

    def test_consecutive_numbers_and_shared_stamps_are_written_once(self) -> None:
        message = sent(a_message_of(3))
        assert (message.seq, message.seqs) == (9, b"")
        assert np.frombuffer(message.ts_init, "<i8").tolist() == [1001]
        assert np.frombuffer(message.window_start, "<i8").tolist() == [500]
        assert message.conflated == b""

    def test_gaps_in_the_sequence_are_written_out(self) -> None:
        columns = a_message_of(3).select(np.array([True, False, True]))
        message = sent(columns)
        assert message.seq == 9
        assert np.frombuffer(message.seqs, "<i8").tolist() == [7, 9]


def outcome(message: BetasUpdated, symbols: tuple[str, ...]) -> list[BetaUpdated]:
    """Return the rows, or none; anything but the documented error is a failure."""
    try:
        return rows_of(message, symbols)
    except MalformedMessageError:
        return []


class TestMalformed:
    """Columns that contradict each other are refused, and nothing else happens."""

    @pytest.mark.parametrize("field", [f for f in COLUMNS if f != "rows"])
    @pytest.mark.parametrize("change", ["shorter", "longer", "ragged"])
    def test_a_column_of_another_length_is_malformed(
        self, field: str, change: str
    ) -> None:
        columns = a_message_of(4).select(np.array([True, False, True, True]))
        columns.ts_init = np.full(3, 5)
        columns.conflated = np.full(3, 5, dtype=np.int32)
        columns.n_eff = np.full(3, 2.5)
        message = sent(columns, TABLE)
        value: bytes = getattr(message, field)
        size = len(value) // 3
        changed = {"shorter": value[:-size], "longer": value + value[:size]}.get(
            change, value + b"\x01"
        )
        broken = msgspec.structs.replace(message, **{field: changed})
        with pytest.raises(MalformedMessageError, match="columns of 3 rows"):
            rows_of(broken, NAMES[:4])

    @pytest.mark.parametrize("n_symbols", [0, 1, 2, 4])
    def test_more_or_fewer_symbols_than_columns_are_malformed(
        self, n_symbols: int
    ) -> None:
        with pytest.raises(MalformedMessageError):
            rows_of(sent(a_message_of(3)), NAMES[:n_symbols])

    @pytest.mark.parametrize(
        "rows",
        [
            np.array([0, 1, 3], "<i4").tobytes(),
            np.array([0, 1, 2**31 - 1], "<i4").tobytes(),
            np.array([0, 1], "<i4").tobytes(),
            np.array([0, 1, 2, 0], "<i4").tobytes(),
            np.array([0, 1, -1], "<i4").tobytes(),
            b"\x00\x00\x00\x00\x01",
        ],
        ids=["outside", "far outside", "fewer", "more", "negative", "ragged"],
    )
    def test_rows_that_are_not_positions_in_the_table_are_malformed(
        self, rows: bytes
    ) -> None:
        message = sent(a_message_of(3), TABLE)
        with pytest.raises(MalformedMessageError):
            rows_of(msgspec.structs.replace(message, rows=rows), NAMES[:3])

    @pytest.mark.parametrize("field", ["status", "reason"])
    def test_an_unknown_code_is_malformed(self, field: str) -> None:
        message = sent(a_message_of(1))
        broken = msgspec.structs.replace(message, **{field: b"\xff"})
        with pytest.raises(MalformedMessageError):
            rows_of(broken, NAMES[:1])

    def test_a_sequence_number_at_the_end_of_the_range_is_still_a_number(self) -> None:
        message = msgspec.structs.replace(sent(a_message_of(2)), seq=2**63 - 1)
        assert [row.seq for row in rows_of(message, NAMES[:2])] == [
            2**63 - 2,
            2**63 - 1,
        ]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("seq", 0),
            ("seqs", np.array([-5, 5], "<i8").tobytes()),
            ("n_obs", np.array([5, -1], "<i4").tobytes()),
            ("revision", np.array([-1, 0], "<i4").tobytes()),
            ("window_start", np.array([-1, 0], "<i8").tobytes()),
            ("ts_init", np.array([-1], "<i8").tobytes()),
            ("conflated", np.array([0, -2], "<i4").tobytes()),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_no_row_could_say_is_malformed(self, field: str, value: Any) -> None:
        message = sent(a_message_of(2))
        with pytest.raises(MalformedMessageError):
            rows_of(msgspec.structs.replace(message, **{field: value}), NAMES[:2])

    @examples(200)
    @given(
        beta_columns(min_rows=1),
        st.dictionaries(st.sampled_from(COLUMNS), st.binary(max_size=40), max_size=3),
        st.integers(0, MAX_TS_NS),
        st.integers(0, len(NAMES)),
        st.booleans(),
    )
    def test_any_columns_give_rows_that_travel_or_are_malformed(
        self,
        columns: BetaColumns,
        changes: dict[str, bytes],
        seq: int,
        n_symbols: int,
        keep_symbols: bool,
    ) -> None:
        message = msgspec.structs.replace(sent(columns, TABLE), **changes)
        symbols = columns.symbols if keep_symbols else NAMES[:n_symbols]
        for received in (message, msgspec.structs.replace(message, seq=seq)):
            for row in outcome(received, symbols):
                assert row.symbol in symbols
                assert wire([decode(encode(row))]) == encode(row)  # type: ignore[list-item]

    @examples(133)
    @given(
        beta_columns(min_rows=1),
        st.sampled_from([field for field in COLUMNS if field != "rows"]),
        st.integers(0, 50),
        st.integers(0, len(NAMES)),
    )
    def test_columns_of_any_length_give_rows_or_are_malformed(
        self, columns: BetaColumns, field: str, length: int, n_symbols: int
    ) -> None:
        message = sent(columns, TABLE)
        value = (getattr(message, field) * 50)[:length]
        broken = msgspec.structs.replace(message, **{field: value})
        outcome(broken, columns.symbols)
        outcome(broken, NAMES[:n_symbols])
