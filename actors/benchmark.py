"""The broadcaster of one benchmark: its return opens the bar for every actor."""

from math import nan

from ..messages import (
    BenchmarkReturnMissed,
    BenchmarkReturnObserved,
    Message,
    SessionOpened,
)
from .behavior import Outgoing
from .cohort import Cohort
from .tally import Refusal, Tally, refuse


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
        """Open the bar of a benchmark return, observed or missed, in every cohort.

        Or pass on that a session opens.
        """
        if type(message) is BenchmarkReturnObserved:
            unusable = refuse(message.period_return)
            if unusable is not None:
                self._tally.drop_for_all(unusable, message)
                return ()
            self._open_bar(message, message.period_return)
        elif type(message) is BenchmarkReturnMissed:
            self._open_bar(message, nan)
        elif type(message) is SessionOpened:
            for cohort in self._cohorts:
                reason = cohort.open_session(message.ts_event, message.ts_init)
                if reason is not None:
                    self._tally.drop(reason, message)
        else:
            msg = (
                f"{self.name} takes BenchmarkReturnObserved, "
                f"was {type(message).__name__}"
            )
            raise TypeError(msg)
        return ()

    def release(self, message: BenchmarkReturnObserved, factor: str) -> Refusal | None:
        """Open the bar of a return that was held, whatever it says.

        Parameters
        ----------
        message
            As it came.
        factor
            Name of the factor whose windows had held it.

        Returns
        -------
        Drop or None
            Why the bar is not there, if it is not.
        """
        (cohort,) = (c for c in self._cohorts if c.factor.name == factor)
        return cohort.release_bar(
            message.ts_event, message.period_return, message.ts_init
        )

    def _open_bar(
        self,
        message: BenchmarkReturnObserved | BenchmarkReturnMissed,
        benchmark_return: float,
    ) -> None:
        for cohort in self._cohorts:
            reason = cohort.open_bar(
                message.ts_event, benchmark_return, message.ts_init
            )
            if reason is not None:
                self._tally.drop(reason, message)

    def on_start(self) -> None:
        """Nothing to prepare."""

    def on_stop(self) -> None:
        """Nothing to release."""

    def on_restart(self, error: BaseException) -> None:
        """Keep the bars: they hold only what was accepted before the failure."""
