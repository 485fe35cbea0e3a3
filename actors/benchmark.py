"""The broadcaster of one benchmark: its return opens the bar for every actor."""

from ..messages import BenchmarkReturnObserved, Message
from .behavior import Outgoing
from .cohort import Cohort
from .tally import Tally, refuse


class BenchmarkBroadcaster:
    """Gives the benchmark's return of each bar to the cohorts that pair with it.

    Parameters
    ----------
    benchmark
        The benchmark; also the actor's name.
    cohorts
        One per factor on this benchmark.
    tally
        Where dropped observations are counted.
    """

    def __init__(
        self, benchmark: str, cohorts: tuple[Cohort, ...], tally: Tally
    ) -> None:
        self.name = benchmark
        self._cohorts = cohorts
        self._tally = tally

    def receive(self, message: Message) -> Outgoing:
        """Open the bar of a `BenchmarkReturnObserved` in every cohort."""
        if type(message) is not BenchmarkReturnObserved:
            msg = (
                f"{self.name} takes BenchmarkReturnObserved, "
                f"was {type(message).__name__}"
            )
            raise TypeError(msg)
        unusable = refuse(message.period_return)
        if unusable is not None:
            self._tally.drop(unusable, message)
            return ()
        for cohort in self._cohorts:
            reason = cohort.open_bar(
                message.ts_event, message.period_return, message.ts_init
            )
            if reason is not None:
                self._tally.drop(reason, message)
        return ()

    def on_start(self) -> None:
        """Nothing to prepare."""

    def on_stop(self) -> None:
        """Nothing to release."""

    def on_restart(self, error: BaseException) -> None:
        """Keep the bars: they hold only what was accepted before the failure."""
