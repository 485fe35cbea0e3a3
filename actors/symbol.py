"""One symbol's actor: the owner of its row in every factor's windows."""

from collections.abc import Callable
from typing import NamedTuple

from ..messages import Message, ReturnObserved
from .behavior import Outgoing
from .tally import Drop, Tally, refuse


class SymbolWindow(NamedTuple):
    """The handle through which an actor writes its row of one factor, and no other."""

    stage: Callable[[int, int, float, int], Drop | None]
    """`Cohort.stage` of the factor."""
    row: int


class SymbolActor:
    """Takes the returns of one symbol into its windows.

    Parameters
    ----------
    symbol
        The symbol; also the actor's name.
    windows
        Its row in each factor.
    tally
        Where dropped observations are counted.
    """

    def __init__(
        self, symbol: str, windows: tuple[SymbolWindow, ...], tally: Tally
    ) -> None:
        self.name = symbol
        self._windows = windows
        self._tally = tally

    def receive(self, message: Message) -> Outgoing:
        """Stage a `ReturnObserved`; the commit of the turn computes."""
        if type(message) is not ReturnObserved:
            msg = f"{self.name} takes ReturnObserved, was {type(message).__name__}"
            raise TypeError(msg)
        unusable = refuse(message.period_return)
        if unusable is not None:
            self._tally.drop(unusable, message)
            return ()
        for stage, row in self._windows:
            reason = stage(
                row, message.ts_event, message.period_return, message.ts_init
            )
            if reason is not None:
                self._tally.drop(reason, message)
        return ()

    def on_start(self) -> None:
        """Nothing to prepare: the row is there."""

    def on_stop(self) -> None:
        """Nothing to release: the row stays readable."""

    def on_restart(self, error: BaseException) -> None:
        """Keep the window: it holds only what was accepted before the failure."""
