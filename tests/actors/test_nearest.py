"""What may have been meant by a name that is not there."""

import pytest

from beta_factory.actors import BetaFactory
from beta_factory.actors.nearest import MAX_NEAREST, nearest
from beta_factory.messages import COMMAND_TYPES, Command, UnknownSymbolError

UNIVERSE = {"AAPL", "MSFT", "BRK.B", "BTC/USDT", "F"}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("APPL", "AAPL"),
        ("AAP", "AAPL"),
        ("AAPLE", "AAPL"),
        ("MFST", "MSFT"),
        ("aapl", "AAPL"),
        (" AAPL ", "AAPL"),
        ("BRK-B", "BRK.B"),
        ("BRKB", "BRK.B"),
        ("BTCUSDT", "BTC/USDT"),
    ],
)
def test_one_slip_is_seen_through(name: str, meant: str) -> None:
    assert nearest(name, UNIVERSE) == (meant,)


@pytest.mark.parametrize("name", ["GOOGL", "XXPL", ""])
def test_more_than_one_slip_is_no_guess(name: str) -> None:
    assert "AAPL" not in nearest(name, UNIVERSE)


def test_of_many_that_are_near_a_few_are_named_in_order() -> None:
    found = nearest("AB", {f"AB{letter}" for letter in "EDCBA"})
    assert found == ("ABA", "ABB", "ABC")
    assert len(found) == MAX_NEAREST


@pytest.mark.parametrize("command", COMMAND_TYPES)
def test_a_command_to_an_unknown_symbol_is_an_error_and_no_drop(
    command: type[Command],
) -> None:
    factory = BetaFactory(["AAPL", "MSFT"], benchmark="SPY")
    with pytest.raises(UnknownSymbolError, match="did you mean AAPL") as raised:
        factory.receive(command(symbol="APPL"))
    assert (raised.value.symbol, raised.value.nearest) == ("APPL", ("AAPL",))
    assert not factory.tally.dropped
