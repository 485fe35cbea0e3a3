"""Our section of a ``qmtl.yml``: what stands under ``beta_factory:``.

Rule: the rest of the file is qmtl's and is not looked at. qmtl in turn ignores sections
that it does not know, so that one file serves the strategy and its sidecar. Inside the
section there is no mercy: what is unknown or twice is an error, as in TOML.

A variable ``QMTL__BETA_FACTORY__<SECTION>__<KEY>`` overrides a key, in qmtl's manner.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

from ..messages import ConfigError, ExtraMissingError

SECTION: Final = "beta_factory"
PREFIX: Final = "QMTL__BETA_FACTORY__"


def read_section(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the section as nested dicts and lists.

    Raises
    ------
    ConfigError
        When the file is not YAML, has no such section, or a key stands twice in it.
    ExtraMissingError
        When PyYAML is not installed.
    FileNotFoundError
        When there is no such file.
    """
    source = os.fspath(path)
    try:
        yaml: Any = import_module("yaml")  # it comes with the extra, and has no types
    except ImportError as error:
        raise ExtraMissingError("qmtl", str(error)) from error
    # YAML lets a key stand twice, and the last one win; no reader expects that.
    loader_type: Any = type("Loader", (yaml.SafeLoader,), {})

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:  # noqa: ANN401 - untyped
        loader.flatten_mapping(node)
        pairs = loader.construct_pairs(node, deep=True)
        table = dict(pairs)
        if len(table) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            line = f"line {node.start_mark.line + 1}"
            raise ConfigError([(line, f"{twice!r} stands twice")], source=source)
        return table

    loader_type.add_constructor("tag:yaml.org,2002:map", mapping)
    try:
        document: object = yaml.load(Path(path).read_bytes(), loader_type)
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise ConfigError([("", f"is not YAML: {text}")], source=source) from error
    if not isinstance(document, dict) or SECTION not in document:
        reason = "is missing: the sidecar's configuration stands there"
        raise ConfigError([(SECTION, reason)], source=source)
    section: object = cast("dict[str, object]", document)[SECTION]
    if not isinstance(section, dict):
        reason = f"must be a section, was {section!r}"
        raise ConfigError([(SECTION, reason)], source=source)
    return _string_keys(cast("dict[object, object]", section), SECTION, source)


def _string_keys(table: dict[object, object], path: str, source: str) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for key, value in table.items():
        if not isinstance(key, str):
            reason = f"a key must be a string, was {key!r}; put it in quotes"
            raise ConfigError([(path, reason)], source=source)
        if isinstance(value, dict):
            inner = cast("dict[object, object]", value)
            checked[key] = _string_keys(inner, f"{path}.{key}", source)
        else:
            checked[key] = value
    return checked
