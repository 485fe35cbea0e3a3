"""What an operator asks of one symbol's actor; answered by `Answered`."""

from typing import Final, get_args

import msgspec

from .fields import Count, Name, TimestampNs


class HaltSymbol(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="k", gc=False
):
    """Take no returns of a symbol, and say so, until `ResumeSymbol`."""

    symbol: Name
    ts_init: TimestampNs = 0
    request: Count = 0


class ResumeSymbol(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="r", gc=False
):
    """End a halt: the window stands as it slid on without the symbol."""

    symbol: Name
    ts_init: TimestampNs = 0
    request: Count = 0


class RemoveSymbol(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="z", gc=False
):
    """Take a symbol out: a last update says so, its window is forgotten."""

    symbol: Name
    ts_init: TimestampNs = 0
    request: Count = 0


class AddSymbol(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="a", gc=False
):
    """Take a symbol of the universe in again, with an empty window."""

    symbol: Name
    ts_init: TimestampNs = 0
    request: Count = 0


Command = HaltSymbol | ResumeSymbol | RemoveSymbol | AddSymbol
"""What is addressed to one symbol's actor, and may overtake its data."""

COMMAND_TYPES: Final[tuple[type[Command], ...]] = get_args(Command)
"""The members of `Command`, in the same order."""
