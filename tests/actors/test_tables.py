"""Which rows a frame speaks of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors.tables import MAX_TABLES, SymbolTables
from beta_factory.messages import MalformedMessageError, SymbolsDeclared
from strategies import examples

ROW_OF = {"AAPL": 0, "BAC": 1, "IBM": 2}


def declared(table: int, *symbols: str) -> SymbolsDeclared:
    return SymbolsDeclared(table=table, symbols=symbols)


@examples(67)
@given(st.lists(st.sampled_from(["AAPL", "BAC", "IBM", "X", "Y"]), unique=True))
def test_rows_and_positions_name_the_known_symbols(symbols: list[str]) -> None:
    tables = SymbolTables(ROW_OF)
    table = tables.look_up(tuple(symbols))
    positions = (
        list(range(len(symbols)))
        if table.positions is None
        else table.positions.tolist()
    )
    known = [symbol for symbol in symbols if symbol in ROW_OF]
    assert table.symbols == tuple(symbols)
    assert table.rows.tolist() == [ROW_OF[symbol] for symbol in known]
    assert [symbols[position] for position in positions] == known
    assert (table.positions is None) == (known == symbols)
    unknown = [symbols[position] for position in table.unknown]
    assert unknown == [symbol for symbol in symbols if symbol not in ROW_OF]


def test_a_number_stands_for_the_table_declared_under_it() -> None:
    tables = SymbolTables(ROW_OF)
    tables.declare(declared(7, "IBM", "AAPL"))
    tables.declare(declared(0, "BAC"))
    assert tables.look_up(7).symbols == ("IBM", "AAPL")
    assert tables.look_up(0).rows.tolist() == [1]


def test_a_later_declaration_replaces_the_table() -> None:
    tables = SymbolTables(ROW_OF)
    tables.declare(declared(7, "IBM", "AAPL"))
    replaced = tables.declare(declared(7, "BAC"))
    assert tables.look_up(7) is replaced
    assert replaced.symbols == ("BAC",)


def test_a_number_that_was_never_declared_is_malformed() -> None:
    with pytest.raises(MalformedMessageError, match="table 3 was never declared"):
        SymbolTables(ROW_OF).look_up(3)


def test_tables_of_one_source_are_unknown_to_another() -> None:
    SymbolTables(ROW_OF).declare(declared(0, "BAC"))
    with pytest.raises(MalformedMessageError, match="never declared"):
        SymbolTables(ROW_OF).look_up(0)


@pytest.mark.parametrize("twice", ["AAPL", "unknown"])
def test_a_symbol_twice_is_malformed(twice: str) -> None:
    tables = SymbolTables(ROW_OF)
    complaint = f"symbol '{twice}' stands twice"
    with pytest.raises(MalformedMessageError, match=complaint):
        tables.look_up((twice, "BAC", twice))
    with pytest.raises(MalformedMessageError, match=complaint):
        tables.declare(declared(1, twice, "BAC", twice))
    with pytest.raises(MalformedMessageError, match="never declared"):
        tables.look_up(1)


def test_tables_are_limited_and_a_full_set_can_still_be_changed() -> None:
    tables = SymbolTables(ROW_OF)
    for number in range(MAX_TABLES):
        tables.declare(declared(number, "AAPL"))
    with pytest.raises(MalformedMessageError, match=f"at most {MAX_TABLES} tables"):
        tables.declare(declared(MAX_TABLES, "AAPL"))
    tables.declare(declared(5, "IBM"))
    assert tables.look_up(5).symbols == ("IBM",)


def test_naming_other_symbols_is_never_answered_from_the_frame_before() -> None:
    tables = SymbolTables(ROW_OF)
    first = tables.look_up(("AAPL", "BAC"))
    assert tables.look_up(("AAPL", "BAC")) is first
    assert tables.look_up(("BAC", "AAPL")).rows.tolist() == [1, 0]
    assert tables.look_up(("AAPL",)).rows.tolist() == [0]
    assert tables.look_up(("AAPL", "BAC")).rows.tolist() == [0, 1]


def test_no_symbols_at_all_are_a_table_of_none() -> None:
    table = SymbolTables(ROW_OF).look_up(())
    assert table.rows.tolist() == []
    assert table.unknown == ()
