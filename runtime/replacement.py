"""A new store in place of a damaged one.

Rule: whenever the process dies, a restart finds the old store or the whole new one. The
damaged one is kept beside it, for whoever looks into it.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from .durability import Durability
from .store import Store

KEPT_DAMAGED: Final = 2
"""Damaged stores that are kept; a disk that fails again and again must not fill."""

_SUFFIXES: Final = ("-shm", "-wal", "")


class Base(NamedTuple):
    """The snapshot that a new store begins with."""

    position: int
    ts: int
    content: bytes


def replace_store(path: str, durability: Durability, base: Base) -> None:
    """Begin a new store with a snapshot; keep the old one as ``<path>.damaged-1``.

    Raises
    ------
    OSError, sqlite3.Error
        When the folder or the disk refuses; the old store is where it was.
    """
    new = _new(path)
    _remove(new)
    store = Store(new, durability)
    try:
        store.add_snapshot(*base)
    finally:
        store.close()
    names = [path, *(f"{path}.damaged-{n}" for n in range(1, KEPT_DAMAGED + 1))]
    _remove(names[-1])
    for place in range(KEPT_DAMAGED, 0, -1):
        for suffix in _SUFFIXES:
            with suppress(FileNotFoundError):
                Path(names[place - 1] + suffix).replace(names[place] + suffix)
    Path(new).replace(path)


def finish_replacement(path: str) -> None:
    """Do what is left of a `replace_store` that was cut short."""
    if not Path(path).exists() and Path(_new(path)).exists():
        Path(_new(path)).replace(path)


def _new(path: str) -> str:
    return f"{path}.new"


def _remove(path: str) -> None:
    for suffix in _SUFFIXES:
        Path(path + suffix).unlink(missing_ok=True)
