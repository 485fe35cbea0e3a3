"""TOML and environment in, a `SidecarConfig` out, and back.

Rule: a file is read as `reading` reads it, and variables stand above it.

A variable ``BETA_FACTORY__<SECTION>__<KEY>``, in any case, overrides a key. Its value
is written as in TOML, except that a string needs no quotes::

    BETA_FACTORY__SYMBOLS='["AAPL", "MSFT"]'
    BETA_FACTORY__SERVER__MAX_FRAME_BYTES=65536
    BETA_FACTORY__FACTORS__MARKET__BENCHMARK=QQQ
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import structs

from ..actors.values import hint
from ..messages import ConfigError
from ..messages.fields import Name
from .config import SidecarConfig
from .reading import (
    FACTOR_KEYS,
    Reader,
    Table,
    as_table,
    key_text,
    parse_toml,
    read_text,
    types_of,
    value_text,
)

PREFIX: Final = "BETA_FACTORY__"
"""A variable that begins like this is ours, and must fit a key."""


def load_config(
    path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ
) -> SidecarConfig:
    """Read a configuration file.

    Parameters
    ----------
    path
        A TOML file; or qmtl's own (``.yml``, ``.yaml``), whose section ``beta_factory``
        is read (see `yaml_section`).
    environ
        Variables that override its keys.

    Raises
    ------
    ConfigError
        When the file is not TOML, or keys or values are wrong: with all of them.
    ExtraMissingError
        When it is YAML, and PyYAML is not installed.
    FileNotFoundError
        When there is no such file.
    """
    source = os.fspath(path)
    if Path(path).suffix.lower() in {".yml", ".yaml"}:
        from . import yaml_section  # noqa: PLC0415 - needs an extra

        return read_document(
            yaml_section.read_section(path),
            source=source,
            environ=environ,
            prefix=yaml_section.PREFIX,
            section=yaml_section.SECTION,
        )
    return parse_config(read_text(path), source=source, environ=environ)


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
    document = parse_toml(text, source)
    return read_document(document, source=source, environ=environ)


def read_document(
    document: Table,
    *,
    source: str | None = None,
    environ: Mapping[str, str] | None = None,
    prefix: str = PREFIX,
    section: str = "",
) -> SidecarConfig:
    """Read a configuration from a document that somebody else has parsed.

    Parameters
    ----------
    document
        Nested dicts and lists, as TOML gives them; changed by the variables.
    source
        Where it came from, for errors.
    environ
        Variables that override its keys; none by default.
    prefix
        How a variable begins that is ours.
    section
        Where in its source the document stands; begins the path of each problem.

    Raises
    ------
    ConfigError
        When keys or values are wrong: with all of them.
    """
    reader = _Reader(prefix, f"{section}." if section else "")
    reader.override(document, environ or {})
    if config := reader.read(document):
        return config
    raise ConfigError(reader.problems, source=source)


def describe(config: SidecarConfig) -> str:
    """Return a configuration, defaults filled in, as TOML that reads back the same."""
    lines = [f"symbols = {value_text(config.symbols)}"]
    for name in _SECTIONS:
        lines += ["", f"[{name}]", *_assignments(getattr(config, name))]
    for factor in config.factors:
        lines += ["", f"[factors.{key_text(factor.name)}]"]
        lines += [
            f"benchmark = {value_text(factor.benchmark)}",
            *_assignments(factor.model),
        ]
    return "\n".join(lines) + "\n"


_SECTIONS: Final = {
    name: kind
    for name, kind in types_of(SidecarConfig).items()
    if isinstance(kind, type)
}
_KEYS: Final = {section: types_of(struct) for section, struct in _SECTIONS.items()}

_PLACES: Final = (
    {key: f"factors.market.{key}" for key in FACTOR_KEYS}
    | {key: f"{section}.{key}" for section in _KEYS for key in _KEYS[section]}
    | {"symbols": "symbols"}
)
"""Where each key belongs, for those who put it elsewhere."""


class _Reader(Reader):
    # Walks a document and builds the configuration, or collects what is wrong with it.
    places = _PLACES

    def __init__(self, prefix: str = PREFIX, section: str = "") -> None:
        super().__init__()
        self._prefix = prefix
        self._section = section
        self._variable_of: dict[str, str] = {}

    def override(self, document: Table, environ: Mapping[str, str]) -> None:
        # Puts the values of our variables into the document.
        prefix = self._prefix
        for variable in sorted(v for v in environ if v.upper().startswith(prefix)):
            target = self._target(variable, environ[variable], document)
            if target is None:
                continue
            (*sections, key), kind = target
            path = ".".join([*map(key_text, sections), key])
            if path in self._variable_of:
                self.report(path, f"is also set by {variable}")
                continue
            table: Any = document
            for section in sections:
                table = as_table(table).setdefault(section, {})
            if isinstance(table, dict):  # else its section is reported when it is read
                self._variable_of[path] = variable
                table[key] = _variable_value(environ[variable], kind)

    def read(self, document: Table) -> SidecarConfig | None:
        # None where there are problems.
        symbols = self.symbols(document.get("symbols", []))
        sections: Table = {}
        for name, struct in _SECTIONS.items():
            values, wrong = self.values(document.get(name, {}), name, _KEYS[name])
            sections[name] = self.build(struct, values, wrong, name)
        factors = self.factors(document.get("factors", {}))
        self.reject_unknown(document, "", ("symbols", "factors", *_SECTIONS))
        if self.problems:
            return None
        return SidecarConfig(symbols=symbols, factors=factors, **sections)

    def report(self, path: str, reason: str) -> None:
        # An item is set by whatever sets its list.
        variable = self._variable_of.get(re.sub(r"\[\d+\]$", "", path))
        by = f" (set by {variable})" if variable else ""
        self.problems.append((self._section + path, reason + by))

    def _target(
        self, variable: str, value: str, document: Table
    ) -> tuple[list[str], Any] | None:
        # Path and type of the key that a variable sets.
        factors = as_table(document.get("factors"))
        if re.search("[\ud800-\udfff]", variable + value):  # bytes as Python has them
            self.report(ascii(variable), "is not UTF-8")
            return None
        match variable[len(self._prefix) :].lower().split("__"):
            case ["symbols"]:
                return ["symbols"], tuple[Name, ...]
            case [section, key] if key in _KEYS.get(section, ()):
                return [section, key], _KEYS[section][key]
            case ["factors", *rest, key] if any(rest) and key in FACTOR_KEYS:
                name = "__".join(rest)
                names = [held for held in factors if held.lower() == name]
                if len(names) > 1:
                    self.report(variable, f"fits each of {', '.join(names)}")
                    return None
                return ["factors", *(names or [name]), key], FACTOR_KEYS[key]
            case _:
                pass
        tables = _KEYS | {f"factors__{f}": FACTOR_KEYS for f in factors or ("market",)}
        known = [f"{name}__{key}" for name, keys in tables.items() for key in keys]
        known = [f"{self._prefix}{path}".upper() for path in ("symbols", *known)]
        guess = hint(variable.upper(), known, cutoff=0.85)  # all begin alike
        self.report(variable, f"fits no key{guess}")
        return None


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


def _assignments(section: msgspec.Struct) -> list[str]:
    values = structs.asdict(section).items()
    return [
        f"{key} = {value_text(value)}" for key, value in values if value is not None
    ]
