"""TOML in, frozen structs out: what a configuration and a script are read with.

Rule: whoever wrote a file is told everything that is wrong with it at once, each
problem with its dotted path; nothing is guessed, skipped or half applied. The value of
an unknown key is never repeated: it may be a secret in the wrong place.

The structs are the one description of a section: its keys, types, bounds and defaults.
A ``[factors.<name>]`` section has the keys of `Factor` and of `MarketBetaConfig`.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, ClassVar, Final, cast

import msgspec
from msgspec import structs

from ..actors import Factor, MarketBetaConfig
from ..actors.values import hint, reason_of
from ..messages import ConfigError
from ..messages.fields import MAX_SYMBOLS, Name

Table = dict[str, Any]

WRONG: Final = object()
"""Stands for a value whose problem is reported."""


def types_of(struct: type[msgspec.Struct]) -> Table:
    """Return the keys of a struct's section, with their types."""
    return {field.encode_name: field.type for field in structs.fields(struct)}


FACTOR_KEYS: Final = {"benchmark": Name} | types_of(MarketBetaConfig)


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file.

    Raises
    ------
    ConfigError
        When it is not UTF-8.
    FileNotFoundError
        When there is no such file.
    """
    content = Path(path).read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = (f"line {line}", "is not UTF-8")
        raise ConfigError([problem], source=os.fspath(path)) from error


def parse_toml(text: str, source: str | None) -> Table:
    """Return TOML as a table.

    Raises
    ------
    ConfigError
        When it is not TOML, with the line.
    """
    try:
        return tomllib.loads(text)
    except ValueError as error:  # not only TOMLDecodeError: a number of 5,000 digits
        raise ConfigError([_syntax_problem(error, text)], source=source) from error


class Reader:
    """Walks a document and builds structs, or collects what is wrong with it."""

    places: ClassVar[Mapping[str, str]] = {}
    """Where each key belongs, for those who put it elsewhere."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []
        """Pairs of (dotted path, what is wrong there)."""

    def report(self, path: str, reason: str) -> None:
        """Note a problem."""
        self.problems.append((path, reason))

    def value(self, raw: object, path: str, kind: Any) -> Any:  # noqa: ANN401 - any field's
        """Return a value of the wanted type, or `WRONG`, which is then reported."""
        try:
            value = msgspec.convert(raw, kind)
            if not isinstance(value, float) or isfinite(value):
                return value
            reason = f"must be finite, was {value}"
        except msgspec.ValidationError as error:
            reason = reason_of(kind, raw, error)
        self.report(path, reason)
        return WRONG

    def values(
        self,
        section: object,
        path: str,
        types: Table,
        required: Iterable[str] = (),
    ) -> tuple[Table, set[str]]:
        """Return a section's values, and the keys that have none: they are wrong."""
        if not isinstance(section, dict):
            self.report(path, f"must be a section, was {shortened(section)}")
            return {}, set(types)
        table = cast("Table", section)
        values: Table = {}
        for key, kind in types.items():
            if key in table:
                values[key] = self.value(table[key], f"{path}.{key}", kind)
            elif key in required:
                self.report(f"{path}.{key}", "is required")
                values[key] = WRONG
        self.reject_unknown(table, f"{path}.", types)
        wrong = {key for key, value in values.items() if value is WRONG}
        return {key: values[key] for key in values if key not in wrong}, wrong

    def build(
        self, struct: type[msgspec.Struct], values: Table, wrong: set[str], path: str
    ) -> Any:  # noqa: ANN401 - an instance of struct
        """Return a struct of these values; ``None`` where it finds fault with them."""
        try:
            return struct(**values)
        except ConfigError as error:
            for key, reason in error.problems:
                # In place of a wrong value stands its default, which nobody chose.
                if wrong.isdisjoint(re.findall(r"\w+", f"{key} {reason}")):
                    self.report(f"{path}.{key}", reason)
            return None

    def section(self, raw: object, path: str, struct: type[msgspec.Struct]) -> Any:  # noqa: ANN401 - an instance of struct
        """Return a section whose keys are those of a struct."""
        required = [f.encode_name for f in structs.fields(struct) if f.required]
        values, wrong = self.values(raw, path, types_of(struct), required)
        if not wrong.isdisjoint(required):
            return None
        names = {field.encode_name: field.name for field in structs.fields(struct)}
        values = {names[key]: value for key, value in values.items()}
        return self.build(struct, values, wrong, path)

    def reject_unknown(self, table: Table, path: str, known: Iterable[str]) -> None:
        """Report the keys of a table that nobody knows."""
        for key in table:
            if key not in known:
                guess = hint(key.lower(), known, self.places)
                self.report(f"{path}{key_text(key)}", f"unknown key{guess}")

    def symbols(self, raw: object) -> tuple[str, ...]:
        """Return the universe."""
        if not isinstance(raw, list):
            self.report("symbols", f"must be a list of names, was {shortened(raw)}")
            return ()
        items = cast("list[object]", raw)
        if not items:
            self.report("symbols", "must name at least one symbol")
        if len(items) > MAX_SYMBOLS:
            reason = f"must be at most {MAX_SYMBOLS} names, was {len(items)}"
            self.report("symbols", reason)
            return ()
        symbols: dict[str, None] = {}
        for position, item in enumerate(items):
            path = f"symbols[{position}]"
            symbol = self.value(item, path, Name)
            if symbol in symbols:
                self.report(path, f"{symbol!r} stands twice")
            elif symbol is not WRONG:
                symbols[symbol] = None
        return tuple(symbols)

    def factors(self, raw: object) -> tuple[Factor, ...]:
        """Return the models of the ``[factors.<name>]`` sections."""
        if not isinstance(raw, dict):
            self.report("factors", f"must be a section, was {shortened(raw)}")
            return ()
        sections = cast("Table", raw)
        if not sections:
            self.report("factors", "must hold at least one, such as [factors.market]")
        return tuple(self._factor(name, sections[name]) for name in sections)

    def _factor(self, name: str, section: object) -> Factor:
        path = f"factors.{key_text(name)}"
        self.value(name, path, Name)
        values, wrong = self.values(section, path, FACTOR_KEYS, ["benchmark"])
        benchmark = values.pop("benchmark", "")
        model = self.build(MarketBetaConfig, values, wrong, path)
        return Factor(benchmark, name, model)


def as_table(raw: object) -> Table:
    """Return a table as it is, and anything else as an empty one."""
    return cast("Table", raw) if isinstance(raw, dict) else {}


def key_text(key: str) -> str:
    """Return a key as TOML writes it in a path."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else value_text(key)


def value_text(value: object) -> str:
    """Return a value as TOML."""
    if isinstance(value, tuple):
        items = [value_text(item) for item in cast("tuple[object, ...]", value)]
        line = f"[{', '.join(items)}]"
        if len(line) <= 70:  # noqa: PLR2004 - short enough to read
            return line
        return "\n".join(["[", *(f"    {item}," for item in items), "]"])
    # JSON is TOML here, but for one character that TOML wants escaped.
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")


def _syntax_problem(error: ValueError, text: str) -> tuple[str, str]:
    reason, _, place = str(error).removesuffix(")").partition(" (at ")
    if not place.startswith("line"):
        lines = text.split("\n")
        place = f"line {len(lines)}, column {len(lines[-1]) + 1}"
    return place, reason[:1].lower() + reason[1:]
