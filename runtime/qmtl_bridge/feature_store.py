"""qmtl's feature artifacts in SQLite: one row per value.

qmtl's own file store reads, sorts and rewrites a series for each value that it adds,
and pickles. Here a value is one insert, whatever the series' length, and what is stored
is msgpack: data, which no reader executes.

Which domains may write is qmtl's rule, and its plane keeps it: ``backtest`` and
``dryrun`` write, ``live`` and ``shadow`` read. `feature_plane` makes such a plane.
"""

import os
import sqlite3
import threading
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import numpy as np

from ...messages import ConfigError
from .sdk import FeatureArtifactKey, FeatureArtifactPlane, Payload

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS feature_artifacts (
    factor TEXT NOT NULL,
    interval INTEGER NOT NULL,
    params TEXT NOT NULL,
    instrument TEXT NOT NULL,
    dataset_fingerprint TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    version INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (
        factor, interval, params, instrument, dataset_fingerprint, timestamp, version
    )
) WITHOUT ROWID
"""

_SERIES: Final = (
    "factor = ? AND interval = ? AND params = ? AND instrument = ? "
    "AND dataset_fingerprint = ?"
)
_BUSY_TIMEOUT_S: Final = 5.0
"""How long a write waits for another process's."""


class SQLiteFeatureStore:
    """A `FeatureStoreBackend` over a table in a SQLite file.

    The key is qmtl's: factor (a node id), interval, params, instrument, dataset
    fingerprint, timestamp and version. A value that is written again replaces its row.
    Where several versions stand at one timestamp, the newest is read.

    Parameters
    ----------
    path
        The file; it may hold other tables.

    Raises
    ------
    ConfigError
        When the file is no SQLite file, or cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(
                self.path,
                timeout=_BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            # A feature can be computed again: a power cut may take the last few.
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise ConfigError([(self.path, str(error))]) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def write(self, key: FeatureArtifactKey, payload: Payload) -> None:
        """Store one value.

        Raises
        ------
        TypeError
            When the payload is not made of numbers, text, lists and dicts.
        sqlite3.Error
            When it cannot be written.
        """
        row = (
            key.factor,
            key.interval,
            key.params,
            key.instrument,
            key.dataset_fingerprint,
            key.timestamp,
            key.version,
            msgspec.msgpack.encode(payload, enc_hook=_plain),
        )
        with self._lock:
            self._connection.execute(
                "INSERT OR REPLACE INTO feature_artifacts VALUES (?,?,?,?,?,?,?,?)", row
            )

    def load_series(
        self,
        *,
        factor: str,
        interval: int,
        params: str,
        instrument: str,
        dataset_fingerprint: str,
        start: int | None = None,
        end: int | None = None,
    ) -> list[tuple[int, Any]]:
        """Return (timestamp, value) from ``start`` to ``end``, both included."""
        series = (factor, interval, params, instrument, dataset_fingerprint)
        first = -(2**63) if start is None else start
        last = 2**63 - 1 if end is None else end
        with self._lock:
            rows = self._connection.execute(
                "SELECT timestamp, payload FROM feature_artifacts "  # noqa: S608 - constant
                f"WHERE {_SERIES} AND timestamp BETWEEN ? AND ? "
                "ORDER BY timestamp, version",
                (*series, first, last),
            ).fetchall()
        newest = dict(rows)
        return [(ts, msgspec.msgpack.decode(blob)) for ts, blob in newest.items()]

    def list_instruments(
        self, *, factor: str, params: str, dataset_fingerprint: str
    ) -> Iterable[str]:
        """Return the instruments of which there is a value, sorted."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT DISTINCT instrument FROM feature_artifacts WHERE factor = ? "
                "AND params = ? AND dataset_fingerprint = ? ORDER BY instrument",
                (factor, params, dataset_fingerprint),
            ).fetchall()
        return [instrument for (instrument,) in rows]

    def count(
        self,
        *,
        factor: str,
        interval: int,
        params: str,
        instrument: str,
        dataset_fingerprint: str,
    ) -> int:
        """Return how many timestamps of a series have a value."""
        series = (factor, interval, params, instrument, dataset_fingerprint)
        with self._lock:
            ((n_values,),) = self._connection.execute(
                "SELECT COUNT(DISTINCT timestamp) FROM feature_artifacts "  # noqa: S608
                f"WHERE {_SERIES}",
                series,
            )
        return int(n_values)


def feature_plane(
    path: str | os.PathLike[str],
    *,
    dataset_fingerprint: str,
    write_domains: Iterable[str] | None = None,
) -> FeatureArtifactPlane:
    """Return qmtl's feature plane over a SQLite file.

    Hand it to ``Runner.set_feature_artifact_plane``. A node writes when its ``config``
    says ``enable_feature_artifacts``.

    Parameters
    ----------
    path
        As for `SQLiteFeatureStore`.
    dataset_fingerprint
        Which data the features are of.
    write_domains
        Execution domains that may write, by default ``backtest`` and ``dryrun``.

    Raises
    ------
    ConfigError
        When the file is no SQLite file, or cannot be opened.
    """
    plane = FeatureArtifactPlane(SQLiteFeatureStore(path), write_domains=write_domains)
    plane.configure(dataset_fingerprint=dataset_fingerprint)
    return plane


def _plain(value: object) -> object:
    if isinstance(value, np.integer | np.floating):
        number: object = value.item()
        return number
    raise TypeError(f"a feature is made of numbers and text, was {type(value)}")
