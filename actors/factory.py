"""The whole factory without a loop: messages in, betas out.

Rule: this is the product, minus I/O. A program that owns its own loop, a backtest and
the sidecar all drive these same actors; the sidecar only puts a mailbox in front of
each.
"""

from collections.abc import Sequence
from typing import Any, Final

from ..estimators import Rows
from ..messages import (
    COMMAND_TYPES,
    BenchmarkReturnMissed,
    BenchmarkReturnObserved,
    BetaUpdated,
    ConfigError,
    MalformedMessageError,
    Message,
    ReturnObserved,
    ReturnsObserved,
    SessionOpened,
    SymbolsDeclared,
    UnknownSymbolError,
    parse_beta_topic,
)
from ..messages.fields import MAX_NAME_LENGTH
from .behavior import Behavior
from .benchmark import BenchmarkBroadcaster
from .cohort import Cohort
from .column_counts import ColumnCounts
from .column_intake import take_columns
from .columns import BetaColumns
from .config import Factor, MarketBetaConfig
from .guarded import GuardedCohort
from .nearest import nearest
from .parts import Parts
from .publisher import BetaPublisher
from .release import release
from .restoring import restore, snapshot
from .row_mask import Mask, RowMask
from .rows import BetaRows
from .singles import SingleReturns, take_group
from .symbol import SymbolActor, SymbolWindow
from .tables import SymbolTables
from .tally import Drop, Tally

_TO_BENCHMARKS: Final = (BenchmarkReturnObserved, BenchmarkReturnMissed, SessionOpened)


class BetaFactory:
    """Rolling betas of many symbols, updated as returns arrive.

    Parameters
    ----------
    symbols
        The universe. Rows are kept in sorted order, whatever the order here.
    benchmark
        The benchmark of the one factor named ``market``; or give ``factors``.
    config
        How that factor is estimated.
    factors
        Several named models, instead of ``benchmark`` and ``config``.

    Raises
    ------
    ConfigError
        When there is no factor, a factor's name stands twice, or no symbol.

    Examples
    --------
    >>> from beta_factory import BenchmarkReturnObserved, ReturnObserved
    >>> factory = BetaFactory(
    ...     ["AAPL"], benchmark="SPY", config=MarketBetaConfig(10, 3)
    ... )
    >>> for ts, (market, asset) in enumerate([(0.01, 0.02), (-0.01, -0.02), (0, 0)]):
    ...     spy = BenchmarkReturnObserved(
    ...         benchmark="SPY", ts_event=ts, period_return=market
    ...     )
    ...     aapl = ReturnObserved(symbol="AAPL", ts_event=ts, period_return=asset)
    ...     updates = factory.receive(spy) + factory.receive(aapl)
    >>> updates[0].beta, updates[0].n_obs, updates[0].status.name
    (2.0, 3, 'OK')
    """

    def __init__(
        self,
        symbols: Sequence[str],
        *,
        benchmark: str | None = None,
        config: MarketBetaConfig | None = None,
        factors: Sequence[Factor] | None = None,
    ) -> None:
        if factors is None:
            if benchmark is None:
                raise ConfigError([("benchmark", "name it, or give factors")])
            factors = [Factor(benchmark, model=config or MarketBetaConfig())]
        elif benchmark is not None or config is not None:
            raise ConfigError([("factors", "excludes benchmark and config")])
        _check(symbols, factors)
        self.symbols = tuple(sorted(set(symbols)))
        self.factors = tuple(factors)
        self.row_of = {symbol: row for row, symbol in enumerate(self.symbols)}
        benchmarks = sorted({factor.benchmark for factor in self.factors})
        self.tally = Tally(self.row_of, [factor.benchmark for factor in self.factors])
        self.cohorts = tuple(
            (GuardedCohort if factor.model.is_guarded else Cohort)(
                factor, self.symbols, self.tally
            )
            for factor in self.factors
        )
        self.publishers = tuple(
            BetaPublisher(factor.name, factor.benchmark, self.symbols)
            for factor in self.factors
        )
        self._outlets = tuple(zip(self.cohorts, self.publishers, strict=True))
        self._apart = RowMask(len(self.symbols))
        self.actors: dict[str, SymbolActor] = {
            symbol: SymbolActor(
                symbol,
                tuple(
                    SymbolWindow(
                        cohort.stage,
                        cohort.override,
                        cohort.forget,
                        row,
                        cohort.release,
                    )
                    for cohort in self.cohorts
                ),
                self.tally,
                self._apart,
            )
            for row, symbol in enumerate(self.symbols)
        }
        self.broadcasters: dict[str, BenchmarkBroadcaster] = {
            name: BenchmarkBroadcaster(
                name,
                tuple(c for c in self.cohorts if c.factor.benchmark == name),
                self.tally,
            )
            for name in benchmarks
        }
        self._tables = SymbolTables(self.row_of)
        self.parts = Parts(
            self.symbols,
            self.row_of,
            self.factors,
            self.tally,
            self._tables,
            self.cohorts,
            self.publishers,
            self.actors,
            self.broadcasters,
            ColumnCounts(len(self.symbols)),
        )
        """For who does its work: `release`, `restoring`, and those who take columns."""

    @property
    def n_columnar(self) -> int:
        """Returns that came in columnar messages so far."""
        return self.parts.n_columnar

    def receive(self, message: Message) -> list[BetaUpdated]:
        """Take one message and return the updates that follow from it.

        Parameters
        ----------
        message
            An observation, a `SymbolsDeclared`, or a command to a symbol. A return of
            an unknown symbol or benchmark, a value that is not finite, a duplicate and
            the like are counted in ``tally``, not raised.

        Raises
        ------
        MalformedMessageError
            When a columnar message contradicts itself, or the message is none that a
            factory takes.
        UnknownSymbolError
            When a command names no symbol of the universe.
        """
        if type(message) is ReturnsObserved:
            self.take_columns(message, self._tables)
        elif type(message) is SymbolsDeclared:
            self._tables.declare(message)
        else:
            behavior = self.route(message)
            if behavior is not None:
                behavior.receive(message)
        return [update for updates in self.commit() for update in updates.as_rows()]

    def advance_clock(self, now_ns: int) -> list[BetaUpdated]:
        """Tell the time, for symbols that are stale by it; return what follows.

        What is taken counts as of the call before it. So tell the time before the
        first message too, and again after `restore`: a pause is no message's fault.

        Parameters
        ----------
        now_ns
            Nanoseconds since the Unix epoch; a clock that goes back stands still.
        """
        for cohort in self.cohorts:
            cohort.advance_clock(now_ns)
        return [update for updates in self.commit() for update in updates.as_rows()]

    def latest(self, topic: str) -> BetaUpdated | None:
        """Return the last update of a topic, ``None`` before the first.

        Raises
        ------
        InvalidTopicError
            When ``topic`` is not ``beta.<factor>.<symbol>``.
        """
        factor, symbol = parse_beta_topic(topic)
        row = self.row_of.get(symbol)
        for publisher in self.publishers:
            if publisher.factor == factor and row is not None:
                return publisher.last_value(row)
        return None

    def release(self, number: int) -> list[BetaUpdated]:
        """Take a return out of quarantine into its window; return what follows.

        Parameters
        ----------
        number
            As in ``tally.held``.

        Raises
        ------
        NotReleasedError
            When it is not held any more, or its window does not take it: above all
            because it is too late for its bar. It stays held then.
        """
        release(self.parts, number)
        return [update for updates in self.commit() for update in updates.as_rows()]

    def snapshot(self) -> bytes:
        """Return all that this factory knows, for `restore`.

        Take it between messages; the updates it has returned so far are not in it, but
        the last value of each topic is.
        """
        return snapshot(self.parts)

    def restore(self, content: bytes) -> None:
        """Go on from a snapshot; this factory has taken nothing yet.

        The factors must be those of the snapshot. A symbol that it does not know begins
        with an empty window, one that is no longer here is left out.

        Parameters
        ----------
        content
            As `snapshot` returned it, from any process.

        Raises
        ------
        SnapshotError
            When it is no snapshot, is damaged, or is one of other factors; or when this
            factory has taken something already.
        """
        restore(self.parts, content)

    def route(self, message: Message) -> Behavior | None:
        """Return the actor that a message is addressed to; ``None`` = nobody.

        An observation of an unknown symbol or benchmark is counted here.

        Raises
        ------
        MalformedMessageError
            When no actor takes this type of message.
        UnknownSymbolError
            When a command names no symbol of the universe.
        """
        if isinstance(message, ReturnObserved):
            actor = self.actors.get(message.symbol)
            if actor is None:
                self.tally.drop_for_all(Drop.UNKNOWN_SYMBOL, message)
            return actor
        if isinstance(message, _TO_BENCHMARKS):
            broadcaster = self.broadcasters.get(message.benchmark)
            if broadcaster is None:
                self.tally.drop_for_all(Drop.UNKNOWN_BENCHMARK, message)
            return broadcaster
        if isinstance(message, COMMAND_TYPES):
            return self.actor_of(message.symbol)
        msg = f"a factory takes returns, was {type(message).__name__}"
        raise MalformedMessageError(msg)

    def actor_of(self, symbol: str) -> SymbolActor:
        """Return a symbol's actor.

        Raises
        ------
        UnknownSymbolError
            When it is not in the universe.
        """
        actor = self.actors.get(symbol)
        if actor is None:
            raise UnknownSymbolError(symbol, nearest(symbol, self.actors))
        return actor

    def take_columns(
        self,
        message: ReturnsObserved,
        tables: SymbolTables,
        masked: Mask | None = None,
    ) -> list[ReturnObserved]:
        """Stage a columnar message for every member of every cohort.

        Parameters
        ----------
        message
            One bar's returns.
        tables
            The tables of the source it came from.
        masked
            Rows whose actor takes nothing right now, shape (n_symbols,).

        Returns
        -------
        list of ReturnObserved
            The returns of masked rows, for their mailboxes.

        Raises
        ------
        MalformedMessageError
            When the symbols are unknown to ``tables``, or are not as many as the
            values.
        """
        return take_columns(self.parts, self._apart.some, message, tables, masked)

    def take_group(
        self,
        group: SingleReturns,
        rows: Rows,
        masked: Mask | None = None,
    ) -> list[ReturnObserved]:
        """Stage many single returns of one bar, as their actors would one by one.

        Parameters
        ----------
        group
            The returns, in the order in which they came.
        rows
            The row of each, shape (k,); -1 where its symbol is unknown.
        masked
            As in `take_columns`.

        Returns
        -------
        list of ReturnObserved
            The returns of masked rows, for their mailboxes.
        """
        return take_group(self.parts, self._apart.some, group, rows, masked)

    def commit(self) -> list[BetaColumns | BetaRows]:
        """End a turn: compute what is staged, number it, and return it."""
        published: list[BetaColumns | BetaRows] = []
        for cohort, publisher in self._outlets:
            cohort.commit()
            updates = cohort.updates
            if updates:
                cohort.updates = []
                for each in updates:
                    publisher.publish(each)
                published += updates
            else:
                cohort.prepare()
                publisher.catch_up()
        return published


def _check(symbols: Sequence[str], factors: Sequence[Any]) -> None:
    # No constructor has checked the types of a factor.
    problems: list[tuple[str, str]] = []
    if isinstance(symbols, str) or not symbols:
        problems.append(("symbols", "must be a non-empty list of names"))
    names: list[tuple[str, Any]] = [("symbols", symbol) for symbol in symbols]
    names += [(f"factors.{f.name}", f.name) for f in factors]
    names += [(f"factors.{f.name}.benchmark", f.benchmark) for f in factors]
    problems.extend(
        (path, f"must have 1 to {MAX_NAME_LENGTH} characters, was {name!r}")
        for path, name in names
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_LENGTH
    )
    problems.extend(
        (f"factors.{f.name}.model", f"must be a MarketBetaConfig, was {f.model!r}")
        for f in factors
        if not isinstance(f.model, MarketBetaConfig)
    )
    if not factors:
        problems.append(("factors", "must hold at least one factor"))
    factor_names = [factor.name for factor in factors]
    problems.extend(
        (f"factors.{name}", "stands twice")
        for name in sorted({n for n in factor_names if factor_names.count(n) > 1})
    )
    if problems:
        raise ConfigError(problems)
