"""TOML and environment in, a `SidecarConfig` out, and back.

Rule: whoever starts a sidecar is told everything that is wrong with its configuration
at once, each problem with its dotted path; nothing is guessed, skipped or half applied.
The value of an unknown key is never repeated: it may be a secret in the wrong place.

A ``[factors.<name>]`` section has the keys of `Factor` and of `MarketBetaConfig`.

A variable ``BETA_FACTORY__<SECTION>__<KEY>``, in any case, overrides a key. Its value
is written as in TOML, except that a string needs no quotes::

    BETA_FACTORY__SYMBOLS='["AAPL", "MSFT"]'
    BETA_FACTORY__SERVER__MAX_FRAME_BYTES=65536
    BETA_FACTORY__FACTORS__MARKET__BENCHMARK=QQQ
"""

import operator
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, Final, cast

import msgspec
from msgspec import inspect, structs

from ..actors import Factor, MarketBetaConfig
from ..messages import ConfigError
from ..messages.fields import MAX_SYMBOLS, Name
from .config import SidecarConfig

PREFIX: Final = "BETA_FACTORY__"
"""A variable that begins like this is ours, and must fit a key."""

Table = dict[str, Any]


def load_config(
    path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ
) -> SidecarConfig:
    """Read a configuration file.

    Parameters
    ----------
    path
        A TOML file.
    environ
        Variables that override its keys.

    Raises
    ------
    ConfigError
        When the file is not TOML, or keys or values are wrong: with all of them.
    FileNotFoundError
        When there is no such file.
    """
    source = os.fspath(path)
    content = Path(path).read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([(f"line {line}", "is not UTF-8")], source=source) from error
    return parse_config(text, source=source, environ=environ)


def parse_config(
    text: str, *, source: str | None = None, environ: Mapping[str, str] | None = None
) -> SidecarConfig:
    """Read a configuration from TOML text.

    Parameters
    ----------
    text
        TOML.
    source
        Where it came from, for errors.
    environ
        Variables that override its keys; none by default.

    Raises
    ------
    ConfigError
        When the text is not TOML, or keys or values are wrong: with all of them.

    Examples
    --------
    >>> config = parse_config('''
    ... symbols = ["AAPL", "MSFT"]
    ... [factors.market]
    ... benchmark = "SPY"
    ... lookback_length = 120
    ... ''')
    >>> config.factors[0].model.lookback_length, config.actors.mailbox_capacity
    (120, 1024)
    """
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # not only TOMLDecodeError: a number of 5,000 digits
        raise ConfigError([_syntax_problem(error, text)], source=source) from error
    reader = _Reader()
    reader.override(document, environ or {})
    if config := reader.read(document):
        return config
    raise ConfigError(reader.problems, source=source)


def describe(config: SidecarConfig) -> str:
    """Return a configuration, defaults filled in, as TOML that reads back the same."""
    lines = [f"symbols = {_toml(config.symbols)}"]
    for name in _SECTIONS:
        lines += ["", f"[{name}]", *_assignments(getattr(config, name))]
    for factor in config.factors:
        lines += ["", f"[factors.{_key(factor.name)}]"]
        lines += [f"benchmark = {_toml(factor.benchmark)}", *_assignments(factor.model)]
    return "\n".join(lines) + "\n"


def _types(struct: type[msgspec.Struct]) -> Table:
    return {field.name: field.type for field in structs.fields(struct)}


_SECTIONS: Final = {
    name: kind for name, kind in _types(SidecarConfig).items() if isinstance(kind, type)
}
_KEYS: Final = {section: _types(struct) for section, struct in _SECTIONS.items()}
_FACTOR_KEYS: Final = {"benchmark": Name} | _types(MarketBetaConfig)

_PLACES: Final = (
    {key: f"factors.market.{key}" for key in _FACTOR_KEYS}
    | {key: f"{section}.{key}" for section in _KEYS for key in _KEYS[section]}
    | {"symbols": "symbols"}
)
"""Where each key belongs, for those who put it elsewhere."""

_WRONG: Final = object()
"""Stands for a value whose problem is reported."""


class _Reader:
    # Walks a document and builds the configuration, or collects what is wrong with it.
    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []
        self._variable_of: dict[str, str] = {}

    def override(self, document: Table, environ: Mapping[str, str]) -> None:
        # Puts the values of our variables into the document.
        for variable in sorted(v for v in environ if v.upper().startswith(PREFIX)):
            target = self._target(variable, environ[variable], document)
            if target is None:
                continue
            (*sections, key), kind = target
            path = ".".join([*map(_key, sections), key])
            if path in self._variable_of:
                self._report(path, f"is also set by {variable}")
                continue
            table: Any = document
            for section in sections:
                table = _table(table).setdefault(section, {})
            if isinstance(table, dict):  # else its section is reported when it is read
                self._variable_of[path] = variable
                table[key] = _variable_value(environ[variable], kind)

    def read(self, document: Table) -> SidecarConfig | None:
        # None where there are problems.
        symbols = self._symbols(document.get("symbols", []))
        sections: Table = {}
        for name, struct in _SECTIONS.items():
            values, wrong = self._values(document.get(name, {}), name, _KEYS[name])
            sections[name] = self._build(struct, values, wrong, name)
        factors = self._factors(document.get("factors", {}))
        self._reject_unknown(document, "", ("symbols", "factors", *_SECTIONS))
        if self.problems:
            return None
        return SidecarConfig(symbols=symbols, factors=factors, **sections)

    def _report(self, path: str, reason: str) -> None:
        # An item is set by whatever sets its list.
        variable = self._variable_of.get(re.sub(r"\[\d+\]$", "", path))
        by = f" (set by {variable})" if variable else ""
        self.problems.append((path, reason + by))

    def _target(
        self, variable: str, value: str, document: Table
    ) -> tuple[list[str], Any] | None:
        # Path and type of the key that a variable sets.
        factors = _table(document.get("factors"))
        if re.search("[\ud800-\udfff]", variable + value):  # bytes as Python has them
            self._report(ascii(variable), "is not UTF-8")
            return None
        match variable[len(PREFIX) :].lower().split("__"):
            case ["symbols"]:
                return ["symbols"], tuple[Name, ...]
            case [section, key] if key in _KEYS.get(section, ()):
                return [section, key], _KEYS[section][key]
            case ["factors", *rest, key] if any(rest) and key in _FACTOR_KEYS:
                name = "__".join(rest)
                names = [held for held in factors if held.lower() == name]
                if len(names) > 1:
                    self._report(variable, f"fits each of {', '.join(names)}")
                    return None
                return ["factors", *(names or [name]), key], _FACTOR_KEYS[key]
            case _:
                pass
        tables = _KEYS | {f"factors__{f}": _FACTOR_KEYS for f in factors or ("market",)}
        known = [f"{name}__{key}" for name, keys in tables.items() for key in keys]
        known = [f"{PREFIX}{path}".upper() for path in ("symbols", *known)]
        hint = _hint(variable.upper(), known, cutoff=0.85)  # all begin alike
        self._report(variable, f"fits no key{hint}")
        return None

    def _symbols(self, raw: object) -> tuple[str, ...]:
        if not isinstance(raw, list):
            self._report("symbols", f"must be a list of names, was {shortened(raw)}")
            return ()
        items = cast("list[object]", raw)
        if not items:
            self._report("symbols", "must name at least one symbol")
        if len(items) > MAX_SYMBOLS:
            reason = f"must be at most {MAX_SYMBOLS} names, was {len(items)}"
            self._report("symbols", reason)
            return ()
        symbols: dict[str, None] = {}
        for position, item in enumerate(items):
            path = f"symbols[{position}]"
            symbol = self._value(item, path, Name)
            if symbol in symbols:
                self._report(path, f"{symbol!r} stands twice")
            elif symbol is not _WRONG:
                symbols[symbol] = None
        return tuple(symbols)

    def _factors(self, raw: object) -> tuple[Factor, ...]:
        if not isinstance(raw, dict):
            self._report("factors", f"must be a section, was {shortened(raw)}")
            return ()
        sections = cast("Table", raw)
        if not sections:
            self._report("factors", "must hold at least one, such as [factors.market]")
        return tuple(self._factor(name, sections[name]) for name in sections)

    def _factor(self, name: str, section: object) -> Factor:
        path = f"factors.{_key(name)}"
        self._value(name, path, Name)
        values, wrong = self._values(section, path, _FACTOR_KEYS)
        benchmark = values.pop("benchmark", "")
        model = self._build(MarketBetaConfig, values, wrong, path)
        return Factor(benchmark, name, model)

    def _values(
        self, section: object, path: str, types: Table
    ) -> tuple[Table, set[str]]:
        # A section's values, and the keys that have none because they are wrong.
        if not isinstance(section, dict):
            self._report(path, f"must be a section, was {shortened(section)}")
            return {}, set(types)
        table = cast("Table", section)
        values: Table = {}
        for key, kind in types.items():
            if key in table:
                values[key] = self._value(table[key], f"{path}.{key}", kind)
            elif key == "benchmark":  # the one key without a default
                self._report(f"{path}.{key}", "is required")
                values[key] = _WRONG
        self._reject_unknown(table, f"{path}.", types)
        wrong = {key for key, value in values.items() if value is _WRONG}
        return {key: values[key] for key in values if key not in wrong}, wrong

    def _build(
        self, struct: type[msgspec.Struct], values: Table, wrong: set[str], path: str
    ) -> Any:  # noqa: ANN401 - an instance of struct
        try:
            return struct(**values)
        except ConfigError as error:
            for key, reason in error.problems:
                # In place of a wrong value stands its default, which nobody chose.
                if wrong.isdisjoint(re.findall(r"\w+", f"{key} {reason}")):
                    self._report(f"{path}.{key}", reason)
            return None

    def _value(self, raw: object, path: str, kind: Any) -> Any:  # noqa: ANN401 - any field's
        try:
            value = msgspec.convert(raw, kind)
            if not isinstance(value, float) or isfinite(value):
                return value
            reason = f"must be finite, was {value}"
        except msgspec.ValidationError as error:
            reason = _reason(inspect.type_info(kind), raw, error)
        self._report(path, reason)
        return _WRONG

    def _reject_unknown(self, table: Table, path: str, known: Iterable[str]) -> None:
        for key in table:
            if key not in known:
                hint = _hint(key.lower(), known)
                self._report(f"{path}{_key(key)}", f"unknown key{hint}")


def _variable_value(text: str, kind: Any) -> object:  # noqa: ANN401 - any field's
    try:
        parsed = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    if len(parsed) > 1:  # there was a second line
        return text
    # A name like 700 is a number in TOML, so it is text where a number will not do.
    for candidate in (parsed["value"], text):
        try:
            msgspec.convert(candidate, kind)
        except msgspec.ValidationError:
            continue
        return candidate
    return parsed["value"]


def _syntax_problem(error: ValueError, text: str) -> tuple[str, str]:
    reason, _, place = str(error).removesuffix(")").partition(" (at ")
    if not place.startswith("line"):
        lines = text.split("\n")
        place = f"line {len(lines)}, column {len(lines[-1]) + 1}"
    return place, reason[:1].lower() + reason[1:]


def _hint(key: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    close = get_close_matches(key, known, n=1, cutoff=cutoff)
    guess = _PLACES.get(key) or "".join(close)
    return f"; did you mean '{guess}'?" if guess else ""


_BOUNDS: Final = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def _reason(kind: inspect.Type, raw: object, error: msgspec.ValidationError) -> str:
    # What msgspec found, in this project's words.
    if isinstance(kind, inspect.UnionType):
        kind = next(t for t in kind.types if not isinstance(t, inspect.NoneType))
    was = shortened(raw)
    match kind:
        case inspect.IntType() | inspect.FloatType():
            wanted = int if isinstance(kind, inspect.IntType) else int | float
            if isinstance(raw, bool) or not isinstance(raw, wanted):
                whole = "whole " if wanted is int else ""
                return f"must be a {whole}number, was {was}"
            if isinstance(raw, float) and not isfinite(raw):
                return f"must be finite, was {was}"
            for name, words in _BOUNDS.items():
                bound = getattr(kind, name)
                if bound is not None and not getattr(operator, name)(raw, bound):
                    limit = f"{bound:g}" if isinstance(bound, float) else bound
                    return f"must be {words} {limit}, was {was}"
        case inspect.StrType() if not isinstance(raw, str):
            return f"must be a string, was {was}"
        case inspect.StrType(pattern=str()):  # not repeated: it may be the secret
            return "must be the name of a variable"
        case inspect.StrType() if not raw:
            return "must not be empty"
        case inspect.StrType(max_length=limit) if isinstance(raw, str) and limit:
            return f"must be at most {limit} characters, was {len(raw)}"
        case inspect.EnumType(cls=choices) | inspect.LiteralType(values=choices):
            return f"must be one of {', '.join(map(str, choices))}, was {was}"
        case _:
            pass
    return f"{str(error)[:1].lower()}{str(error)[1:]}, was {was}"


def _table(raw: object) -> Table:
    return cast("Table", raw) if isinstance(raw, dict) else {}


def _assignments(section: msgspec.Struct) -> list[str]:
    values = structs.asdict(section).items()
    return [f"{key} = {_toml(value)}" for key, value in values if value is not None]


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _toml(text)


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        items = [_toml(item) for item in cast("tuple[object, ...]", value)]
        line = f"[{', '.join(items)}]"
        if len(line) <= 70:  # noqa: PLR2004 - short enough to read
            return line
        return "\n".join(["[", *(f"    {item}," for item in items), "]"])
    # JSON is TOML here, but for one character that TOML wants escaped.
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
