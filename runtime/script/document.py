"""A script's file: TOML in, a checked `Script` out.

Rule: a script is wrong in all its places at once, each named by its dotted path
(``events[3].symbol``), before anything is replayed. Its model is written with the keys
of the sidecar's configuration.

Sections: ``[source]``, ``[factors.<name>]``, ``[actors]``, ``[[events]]``,
``[[expectations]]``; and ``title`` and ``symbols``.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, Final, cast

import msgspec
from msgspec import structs

from ...actors import Factor
from ...actors.values import hint
from ...messages import ConfigError
from ..bars import Bars
from ..config import ActorsConfig
from ..observations import asset_symbols
from ..reading import (
    WRONG,
    Reader,
    Table,
    as_table,
    key_text,
    parse_toml,
    read_text,
)
from .event import Event
from .events import EVENTS
from .expectation import Expectation
from .expectations import EXPECTATIONS
from .failures import Restore, Snapshot
from .source import FileSource, SimulatedSource, Source
from .timeline import Timeline
from .topic_expectations import NumberExpected


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """A market, what happens to it, and what is expected."""

    title: str = ""
    symbols: tuple[str, ...]
    """The universe; by default every symbol of the source but the benchmark."""
    factors: tuple[Factor, ...]
    """All of one benchmark, and of one kind of returns."""
    actors: ActorsConfig = ActorsConfig()
    source: Source
    bars: Bars
    """What the source holds."""
    events: tuple[Event, ...] = ()
    expectations: tuple[Expectation, ...] = ()

    @property
    def benchmark(self) -> str:
        """The benchmark of all factors."""
        return self.factors[0].benchmark

    @property
    def timeline(self) -> Timeline:
        """The bars of the source."""
        return Timeline(self.bars.ts_events.tolist())


def load_script(path: str | os.PathLike[str]) -> Script:
    """Read a script.

    Parameters
    ----------
    path
        A TOML file.

    Raises
    ------
    ConfigError
        When the file is not TOML, or keys or values are wrong: with all of them.
    BarFileError
        When its bar file cannot be used.
    FileNotFoundError
        When there is no such file, or its bar file is not there.
    """
    text = read_text(path)
    return parse_script(text, folder=Path(path).parent, source=os.fspath(path))


def parse_script(
    text: str, *, folder: Path | None = None, source: str | None = None
) -> Script:
    """Read a script from TOML text.

    Parameters
    ----------
    text
        TOML.
    folder
        Where its bar file is; by default the working directory.
    source
        Where it came from, for errors.

    Raises
    ------
    ConfigError, BarFileError, FileNotFoundError
        As `load_script`.
    """
    document = parse_toml(text, source)
    reader = _ScriptReader(folder or Path())
    if script := reader.read(document):
        return script
    raise ConfigError(reader.problems, source=source)


_KEYS: Final = (
    "title",
    "symbols",
    "source",
    "factors",
    "actors",
    "events",
    "expectations",
)
_TIMES: Final = ("at", "from", "to", "by")
"""Keys that hold a point in time, whatever the kind."""


class _ScriptReader(Reader):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._timeline: Timeline | None = None

    def read(self, document: Table) -> Script | None:
        # None where there are problems.
        title = self.value(document.get("title", ""), "title", str)
        n_problems = len(self.problems)
        factors = self.factors(document.get("factors", {}))
        is_modelled = bool(factors) and len(self.problems) == n_problems
        benchmark = factors[0].benchmark if factors else ""
        if is_modelled:
            self._check_factors(factors)
        source = self._source(document.get("source"))
        bars = None
        if source is not None and is_modelled:
            bars = source.bars(factors[0], self._folder)
            self._timeline = Timeline(bars.ts_events.tolist())
        held = asset_symbols(bars, benchmark) if bars else ()
        given = document.get("symbols")
        symbols = held if given is None else self.symbols(given)
        actors = self.section(document.get("actors", {}), "actors", ActorsConfig)
        assets = {*held, *symbols}
        events = self._items(document, "events", EVENTS)
        self._check_events(events, assets, benchmark)
        expectations = self._items(document, "expectations", EXPECTATIONS)
        self._check_expectations(expectations, symbols, factors)
        self.reject_unknown(document, "", _KEYS)
        if self.problems or source is None or bars is None:
            return None
        return Script(
            title=title,
            symbols=symbols,
            factors=factors,
            actors=actors,
            source=source,
            bars=bars,
            events=tuple(event for event in events if event is not None),
            expectations=tuple(e for e in expectations if e is not None),
        )

    def _source(self, raw: object) -> Source | None:
        if raw is None:
            self.report("source", "is required: a file, or n_bars and betas")
            return None
        kind = FileSource if "file" in as_table(raw) else SimulatedSource
        source: Source | None = self.section(raw, "source", kind)
        return source

    def _check_factors(self, factors: tuple[Factor, ...]) -> None:
        # One market is made for all of them.
        for factor in factors[1:]:
            for key, value, first in (
                ("benchmark", factor.benchmark, factors[0].benchmark),
                ("returns", factor.model.returns, factors[0].model.returns),
                ("overnight", factor.model.overnight, factors[0].model.overnight),
            ):
                if value and value != first:
                    reason = f"must be {first!r}, as of the first factor, was {value!r}"
                    self.report(f"factors.{key_text(factor.name)}.{key}", reason)

    def _items(
        self, document: Table, name: str, kinds: Mapping[str, type[msgspec.Struct]]
    ) -> list[Any]:
        # None stands for an item with problems, so that positions stay.
        raw = document.get(name, [])
        if not isinstance(raw, list):
            self.report(name, f"must be a list of tables, was {shortened(raw)}")
            return []
        items = cast("list[object]", raw)
        return [
            self._item(item, f"{name}[{position}]", kinds)
            for position, item in enumerate(items)
        ]

    def _item(
        self, raw: object, path: str, kinds: Mapping[str, type[msgspec.Struct]]
    ) -> Any:  # noqa: ANN401 - an instance of one of the kinds
        if not isinstance(raw, dict):
            self.report(path, f"must be a table, was {shortened(raw)}")
            return None
        table = dict(cast("Table", raw))
        name = table.pop("kind", None)
        if name not in kinds:
            what = "is required" if name is None else f"unknown kind {name!r}"
            guess = hint(str(name), kinds) or f": one of {', '.join(kinds)}"
            self.report(f"{path}.kind", what + guess)
            return None
        kind = kinds[name]
        if issubclass(kind, NumberExpected):
            if "number" in table:
                self.report(f"{path}.number", "unknown key")
            table["number"] = name
        n_before = len(self.problems)
        for key in _TIMES:
            if key in table:
                table[key] = self._bar(table[key], f"{path}.{key}", ends=key == "to")
        if len(self.problems) > n_before:
            # What else is wrong with it is told, too.
            table |= {key: 1 for key in _TIMES if table.get(key) is WRONG}
            self.section(table, path, kind)
            return None
        return self.section(table, path, kind)

    def _bar(self, when: object, path: str, *, ends: bool) -> object:
        if self._timeline is None:  # the source is reported
            return 1
        try:
            return self._timeline.bar(when, ends=ends)
        except ValueError as error:
            self.report(path, str(error))
            return WRONG

    def _check_events(
        self, events: list[Event | None], assets: set[str], benchmark: str
    ) -> None:
        first_snapshot = min(
            (event.at for event in events if isinstance(event, Snapshot)), default=None
        )
        for position, event in enumerate(events):
            if event is None:
                continue
            path = f"events[{position}]"
            known = assets if event.assets_only else {*assets, benchmark}
            self._check_name(event.concerns, f"{path}.symbol", known)
            if isinstance(event, Restore) and (
                first_snapshot is None or first_snapshot > event.at
            ):
                self.report(f"{path}.at", "needs a snapshot before it")

    def _check_expectations(
        self,
        expectations: list[Expectation | None],
        symbols: Collection[str],
        factors: tuple[Factor, ...],
    ) -> None:
        names = {factor.name for factor in factors}
        for position, expectation in enumerate(expectations):
            if expectation is None or not expectation.by_symbol:
                continue
            path = f"expectations[{position}]"
            fields = structs.asdict(expectation)
            self._check_name(fields["symbol"], f"{path}.symbol", symbols)
            self._check_name(fields["factor"], f"{path}.factor", names)
            if fields["factor"] is None and len(names) > 1:
                reason = f"is required: there are {', '.join(sorted(names))}"
                self.report(f"{path}.factor", reason)

    def _check_name(self, name: str | None, path: str, known: Collection[str]) -> None:
        if name is None or not known or name in known:
            return
        guess = hint(name, known) or f": one of {', '.join(sorted(known)[:10])}"
        self.report(path, f"there is no {name!r} here{guess}")
