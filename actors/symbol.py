"""One symbol's actor: the owner of its row in every factor's windows."""

from collections.abc import Callable
from typing import Final, NamedTuple

from ..estimators import LARGEST
from ..messages import (
    AddSymbol,
    HaltSymbol,
    Message,
    Reason,
    RemoveSymbol,
    ResumeSymbol,
    ReturnObserved,
    Status,
)
from .behavior import Outgoing
from .row_mask import RowMask
from .tally import Drop, Refusal, Tally, refuse


class SymbolWindow(NamedTuple):
    """The handle through which an actor writes its row of one factor, and no other."""

    stage: Callable[[int, int, float, int], Refusal | None]
    """`Cohort.stage` of the factor."""
    override: Callable[[int, Status | None, Reason], None]
    """`Cohort.override`."""
    forget: Callable[[int], None]
    """`Cohort.forget`."""
    row: int
    release: Callable[[int, int, float, int], Refusal | None]
    """`Cohort.release`."""


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
    apart
        Rows whose returns need their actor even in a columnar frame; this actor keeps
        its own mark.
    """

    def __init__(
        self,
        symbol: str,
        windows: tuple[SymbolWindow, ...],
        tally: Tally,
        apart: RowMask,
    ) -> None:
        self.name = symbol
        self.status: Status | None = None
        """`HALTED`, `REMOVED`, or ``None`` while the symbol takes returns."""
        self._windows = windows
        self._tally = tally
        self._apart = apart

    @property
    def reason(self) -> Reason:
        """Why ``status`` is what it is."""
        return Reason.NONE if self.status is None else REASONS[self.status]

    def receive(self, message: Message) -> Outgoing:
        """Stage a `ReturnObserved`; the commit of the turn computes.

        Or do what an operator asks of the symbol.
        """
        if type(message) is not ReturnObserved:
            self._obey(message)
            return ()
        period_return = message.period_return
        if self.status is not None or not -LARGEST <= period_return <= LARGEST:
            self._refuse(message)
            return ()
        ts_event, ts_init = message.ts_event, message.ts_init
        for stage, _, _, row, _ in self._windows:
            reason = stage(row, ts_event, period_return, ts_init)
            if reason is not None:
                self._tally.drop(reason, message)
        return ()

    def release(self, message: ReturnObserved, factor: int) -> Refusal | None:
        """Take a return that was held, whatever it says.

        Parameters
        ----------
        message
            As it came.
        factor
            Which of the windows had held it.

        Returns
        -------
        Drop or None
            Why it is not in the window, if it is not.
        """
        if self.status is not None:
            return _REFUSALS[self.status]
        window = self._windows[factor]
        return window.release(
            window.row, message.ts_event, message.period_return, message.ts_init
        )

    def restore(self, status: Status) -> None:
        """Go on as halted or removed: the windows say so when all are restored."""
        self.status = status
        for window in self._windows:
            self._apart.mark(window.row)

    def on_start(self) -> None:
        """Nothing to prepare: the row is there."""

    def on_stop(self) -> None:
        """Nothing to release: the row stays readable."""

    def on_restart(self, error: BaseException) -> None:
        """Keep the window: it holds only what was accepted before the failure."""

    def _refuse(self, message: ReturnObserved) -> None:
        unusable = refuse(message.period_return)
        if self.status is not None:
            unusable = _REFUSALS[self.status]
        if unusable is not None:
            self._tally.drop_for_all(unusable, message)

    def _obey(self, message: Message) -> None:
        is_removed = self.status is Status.REMOVED
        if type(message) is HaltSymbol:
            if not is_removed:
                self._enter(Status.HALTED)
        elif type(message) is ResumeSymbol:
            if not is_removed:
                self._enter(None)
        elif type(message) is RemoveSymbol:
            self._enter(Status.REMOVED)
        elif type(message) is AddSymbol:
            if is_removed:
                for window in self._windows:
                    window.forget(window.row)
                self._enter(None)
        else:
            msg = f"{self.name} takes ReturnObserved, was {type(message).__name__}"
            raise TypeError(msg)

    def _enter(self, status: Status | None) -> None:
        if status is self.status:
            return
        self.status = status
        for window in self._windows:
            self._apart.mark(window.row, is_marked=status is not None)
            window.override(window.row, status, self.reason)


REASONS: Final = {
    Status.HALTED: Reason.HALTED_BY_OPERATOR,
    Status.REMOVED: Reason.REMOVED_BY_OPERATOR,
}
"""Why an actor takes no returns, by what it is then."""

_REFUSALS = {Status.HALTED: Drop.HALTED, Status.REMOVED: Drop.UNKNOWN_SYMBOL}
